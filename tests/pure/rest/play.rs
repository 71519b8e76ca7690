//! Plays a story: the cluster before its first act, then act by act.
//!
//! Not here: what follows once the last act is over (`law`, `way_out`).

use std::collections::BTreeMap;

use slipway::model::{BuildInfo, ClusterId, DeploymentId, RolloutId, RolloutParams, WorkerName};
use slipway::state::{
    Command, NodeRole, Role, StartRollout,
    command::{
        Abort, BlobHeld, ClusterInit, NodeAdmitted, NodeRoleSet, Pause, Promote, ReleaseRegistered, Resume, Rollback,
        SpecApplied, WorkerRegistered,
    },
};
use slipway::traffic::lease::Left;

use super::catalogue::{Catalogue, digest};
use super::story::{Act, Story, When};
use super::tale::Tale;
use super::watch;
use super::worker::Agent;
use super::world::{Look, World};
use crate::sim_fleet::{node, starting};

/// The world before the first act.
pub fn world(story: &Story, look: Look, tale: Tale) -> World {
    let shape = &story.shape;
    let mut w = World::new(shape, Catalogue::new(&story.releases), story.seed, look, tale);
    let init = Command::ClusterInit(ClusterInit {
        id: ClusterId::new("c-1").expect("an id"),
        name: "test".into(),
        zone: "slipway.internal".into(),
        node: node(1),
    });
    must(&mut w, init);
    for n in 2..=3 {
        must(&mut w, Command::NodeAdmitted(NodeAdmitted { node: node(n) }));
        must(
            &mut w,
            Command::NodeRoleSet(NodeRoleSet {
                node: n,
                role: NodeRole::Learner,
                seen: NodeRole::Joining,
                lose_packages: false,
            }),
        );
        must(
            &mut w,
            Command::NodeRoleSet(NodeRoleSet {
                node: n,
                role: NodeRole::Voter,
                seen: NodeRole::Learner,
                lose_packages: false,
            }),
        );
    }
    w.seen.leases = Some(Left::default());
    for n in 1..=shape.workers {
        add_worker(&mut w, &format!("w{n}"), n);
    }
    for laid in &shape.deployments {
        must(&mut w, Command::SpecApplied(SpecApplied { spec: laid.spec(), expected: None }));
        for (n, r) in story.releases.iter().enumerate() {
            for node in 1..=2 {
                must(&mut w, Command::BlobHeld(BlobHeld { digest: digest(n), size: 10, node }));
            }
            // Two environments of one service share its releases.
            let _ = w.commit(Command::ReleaseRegistered(ReleaseRegistered {
                service: laid.id.service.clone(),
                version: r.version.clone(),
                digest: digest(n),
                build: BuildInfo::default(),
                labels: BTreeMap::new(),
            }));
        }
    }
    w.tally = Default::default();
    w
}

fn must(w: &mut World, body: Command) {
    let name = body.name();
    w.commit(body).unwrap_or_else(|e| panic!("{name}: {e}"));
}

/// Registers a machine of its own addresses.
pub fn add_worker(w: &mut World, name: &str, n: u32) {
    let name = WorkerName::new(name).expect("a name");
    let pool = w.shape.pool();
    let body = Command::WorkerRegistered(WorkerRegistered {
        name: name.clone(),
        key: format!("{n:064x}"),
        labels: BTreeMap::new(),
        capacity: w.shape.capacity(),
        build: "0.1.0".into(),
        host: format!("10.0.0.{n}"),
        pool: (1..=pool).map(|a| format!("10.1.{n}.{a}")).collect(),
        absent: Vec::new(),
        keeping: String::new(),
    });
    must(w, body);
    w.agents.insert(name, Agent::new());
}

/// All acts, then until every fault that ends has ended.
pub fn acts(w: &mut World, story: &Story) {
    for (when, act) in &story.acts {
        match when {
            When::After(ms) => w.run(*ms),
            When::Idle(ms) => until(w, *ms, |w| !w.state.deployments.values().any(|d| d.live.is_some())),
            When::Bake => until(w, 60_000, bakes),
            When::Entries(n) => w.run_entries(*n),
        }
        if w.over() {
            return;
        }
        w.tale.line(|| format!("-- at {}: {} {}", w.now(), act.kind(), short(story, act)));
        w.tally.note(format!("act {}", act.kind()));
        perform(w, story, act);
    }
    let away = w.agents.values().filter(|a| a.alive).map(|a| a.away_until);
    let silent = w.servers.values().map(|s| s.silent_until).filter(|at| *at < u64::MAX);
    let late = w.catalogue.releases.iter().filter_map(|r| match r.package {
        super::story::Package::Late(at) => Some(at),
        _ => None,
    });
    let end = away.chain(silent).chain(late).chain(w.leaderless).max().unwrap_or(0).max(w.real + 1);
    w.run_to(end);
    w.tale.line(|| format!("-- at {}: faults are over", w.now()));
}

fn short(story: &Story, act: &Act) -> String {
    match act {
        Act::Start { d, release, .. } => {
            format!("{} to {}", story.shape.deployments[*d].id, story.releases[*release].version)
        }
        other => format!("{other:?}"),
    }
}

/// Runs until something is so, looked at every second, or the time is over.
fn until(w: &mut World, ms: u64, done: fn(&World) -> bool) {
    let end = w.real + ms;
    while w.real < end && !done(w) && !w.over() {
        let next = (w.real + 1000).min(end);
        w.run_to(next);
    }
}

fn bakes(w: &World) -> bool {
    let live = w.shape.deployments.iter().filter_map(|laid| w.state.live_rollout(&laid.id)?.running());
    live.into_iter().any(|(_, row)| matches!(row.step.kind, slipway::model::StepKind::Bake { .. }))
}

/// The rollout that a verb means: the live one, else the newest.
pub fn rollout(w: &World, d: &DeploymentId) -> Option<RolloutId> {
    let d = w.state.deployments.get(d)?;
    d.live.or(d.last)
}

pub fn start(w: &mut World, d: &DeploymentId, version: &str, params: &RolloutParams, replace: bool) -> bool {
    let stable = w.state.deployments.get(d).and_then(|d| d.arms.get(Role::Stable));
    let restart = stable.is_some_and(|t| t.pair.version.to_string() == version);
    let start = starting(d.clone(), version, params.clone());
    w.verb(StartRollout { restart, replace, ..start }.into())
}

fn perform(w: &mut World, story: &Story, act: &Act) {
    let id = |d: &usize| story.shape.deployments[*d].id.clone();
    let on = |w: &World, d: &usize| rollout(w, &id(d));
    let verb = match act {
        Act::Start { d, release, params, replace } => {
            start(w, &id(d), &story.releases[*release].version.to_string(), params, *replace);
            None
        }
        Act::Pause(d) => on(w, d).map(|rollout| Command::Pause(Pause { rollout })),
        Act::Resume(d) => on(w, d).map(|rollout| Command::Resume(Resume { rollout })),
        Act::Abort { d, as_is } => on(w, d).map(|rollout| Command::Abort(Abort { rollout, as_is: *as_is })),
        Act::Promote { d, full } => on(w, d).map(|rollout| Command::Promote(Promote { rollout, full: *full })),
        Act::Rollback(d) => on(w, d).map(|rollout| Command::Rollback(Rollback { rollout })),
        Act::Lose(n) => {
            lose(w, *n);
            None
        }
        Act::Replace(n) => {
            let name = format!("w{n}b");
            lose(w, *n);
            if !w.agents.contains_key(&WorkerName::new(&name).expect("a name")) {
                add_worker(w, &name, n + 100);
            }
            None
        }
        Act::Away { worker, ms, reboots } => {
            let until = w.real + ms;
            agent(w, *worker).into_iter().for_each(|a| a.leave(until, *reboots));
            None
        }
        Act::AllAway { ms, reboots } => {
            let until = w.real + ms;
            w.agents.values_mut().filter(|a| a.alive).for_each(|a| a.leave(until, *reboots));
            None
        }
        Act::Kill(nth) => {
            kill(w, *nth);
            None
        }
        Act::Mute { node, ms, restarts } => {
            let until = ms.map_or(u64::MAX, |ms| w.real + ms);
            w.servers.get_mut(node).expect("a node").mute(until, *restarts);
            None
        }
        Act::LeaderDies { after, outage } => {
            w.trouble.dies = Some((*after, *outage));
            None
        }
        Act::LoseProposals(n) => {
            w.trouble.loses = Some(*n);
            None
        }
        Act::Mend(n) => {
            w.catalogue.mend(*n);
            None
        }
        Act::Respec(d) => {
            let mut laid = story.shape.deployments[*d].clone();
            laid.drain += 1 + w.real % 3;
            w.verb(Command::SpecApplied(SpecApplied { spec: laid.spec(), expected: None }));
            None
        }
        Act::PackageGone(n) => {
            w.catalogue.releases[*n].package = super::story::Package::Never;
            None
        }
    };
    match verb {
        Some(body) => {
            w.verb(body);
        }
        None => w.settle(),
    }
    watch::due(w);
}

fn agent(w: &mut World, n: u32) -> Option<&mut Agent> {
    w.agents.get_mut(&WorkerName::new(&format!("w{n}")).expect("a name")).filter(|a| a.alive)
}

fn lose(w: &mut World, n: u32) {
    if let Some(a) = agent(w, n) {
        a.alive = false;
        a.processes.clear();
    }
}

fn kill(w: &mut World, nth: u64) {
    let real = w.real;
    let running = w.agents.values_mut().filter(|a| a.alive).flat_map(|a| a.processes.values_mut());
    let mut running: Vec<_> = running.filter(|p| p.life.is_live()).collect();
    if running.is_empty() {
        return;
    }
    let n = nth as usize % running.len();
    running[n].end("signal 9", real);
}
