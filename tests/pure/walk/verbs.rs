//! What operators change around rollouts: what is removed, made, set and cleaned up, mostly of what is there.

use slipway::model::Name;
use slipway::state::{SettingsChange, command::*};

use super::*;

fn name(text: &str) -> Name {
    Name::service(text).unwrap()
}

/// A registration by another machine, which takes the name over when it may.
fn other_key(n: u32, key: u32) -> Command {
    let Command::WorkerRegistered(mine) = registered(n, 6) else { panic!("not a registration") };
    WorkerRegistered { key: format!("{key:064x}"), ..mine }.into()
}

/// Settings that change what is kept and how, and now and then one that is out of its range.
fn settings(d: &DeploymentId, a: u32, b: u32) -> Command {
    let mut change = SettingsChange::default();
    let (key, value) = [
        ("limits.history_per_deployment", "0"),
        ("limits.history_per_deployment", "20"),
        ("limits.events", "100"),
        ("limits.events", "9000"),
        ("limits.workers", "2"),
        ("package_keep", "60s"),
        ("rollout.max_health_failures", "5"),
        ("rollout.max_health_failures", "0"),
    ][b as usize % 8];
    change.set(key, value).unwrap();
    let of_service = change.is_of_rollouts() && a.is_multiple_of(2);
    let unset = if b.is_multiple_of(3) { vec!["rollout.bake".into()] } else { Vec::new() };
    SettingsSet { service: of_service.then(|| d.service.clone()), change, unset }.into()
}

/// One pick's commands.
pub fn at_random(s: &State, d: &DeploymentId, a: u32, b: u32) -> Vec<Command> {
    let lost = s.workers.values().find(|w| w.presence == Presence::Lost).map(|w| w.name.clone());
    let w = lost.unwrap_or_else(|| worker(1 + a % 4));
    let n = (1..=4).find(|n| worker(*n) == w).unwrap_or(1);
    let till = DeploymentId { service: name("till"), ..d.clone() };
    let silent = |w: &WorkerName| Command::from(WorkerLost { worker: w.clone(), last_heard: s.now });
    let removed =
        |of: &DeploymentId| Command::from(ReleaseRemoved { service: of.service.clone(), version: version(1) });
    match a % 11 {
        // As when a machine is replaced: nothing can be placed on it before the other one has come.
        0 => vec![silent(&w), WorkerRemoved { worker: w, gone: !b.is_multiple_of(3) }.into(), registered(n, 6)],
        1 => {
            vec![silent(&w), WorkerRekeyed { worker: w, within: Period::minutes(5) }.into(), other_key(n, 100 + b % 50)]
        }
        2 => {
            let idle = [shop(), cart()].into_iter().find(|d| s.live_rollout(d).is_none());
            vec![DeploymentRemoved { deployment: idle.unwrap_or(d.clone()), stop: !b.is_multiple_of(4) }.into()]
        }
        3 => vec![release(&till, 1), removed(&till), ServiceRemoved { service: till.service.clone() }.into()],
        4 => vec![
            EnvironmentCreated { name: name("beta"), order: None, default_strategy: None, on_no_data: None }.into(),
            EnvironmentSet { name: name("beta"), order: Some(b % 9), default_strategy: None, on_no_data: None }.into(),
            EnvironmentRemoved { name: if b.is_multiple_of(2) { name("beta") } else { d.environment.clone() } }.into(),
        ],
        5 => vec![settings(d, a / 11, b)],
        6 => vec![
            ReleasesPruned { service: d.service.clone(), keep: Some(2 + b % 3), older_than: None }.into(),
            ServiceRemoved { service: d.service.clone() }.into(),
        ],
        7 => vec![
            BlobHeld { digest: package(5), size: 10, node: 1 }.into(),
            BlobDoomed { digest: package(1 + b % 6), node: 1 + u64::from(b % 3) }.into(),
        ],
        8 | 9 => {
            let all = [d.clone(), shop(), cart()];
            let stopped = all.iter().find(|d| s.deployments.get(*d).is_some_and(|d| d.stop.is_some()));
            let idle = all.iter().find(|d| s.live_rollout(d).is_none());
            let deployment = stopped.or(idle).unwrap_or(d).clone();
            let stop = Command::from(DeploymentStopped { deployment: deployment.clone() });
            let start = Command::from(DeploymentStarted { deployment });
            match (stopped, b % 4) {
                // What is stopped or on its way is stopped again now and then.
                (Some(_), 0) | (None, 0 | 1) => vec![stop],
                (Some(_), _) => vec![start],
                (None, _) => vec![stop, Tick {}.into(), Tick {}.into(), start],
            }
        }
        _ => vec![
            ReleasesPruned { service: d.service.clone(), keep: None, older_than: Some(Period::seconds(30)) }.into(),
            release(d, 1 + b % 4),
        ],
    }
}
