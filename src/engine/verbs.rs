//! What a person can do about a deployment that waits: the verbs that the law would take now, found by asking it on a
//! copy of State.
//!
//! Invariant: nothing is offered that would be refused, and nothing that would end the wait is left out; verbs that
//! only hold (`pause`) are no way out. Not here: the reasons for waiting (`plan`).

use super::prelude::*;
use super::preview::preview;

/// Releases that are tried for `start`, newest first.
const TRIED: usize = 8;

/// The commands of the CLI that the law takes now from this principal, by what they do: go on, go back, stop, replace.
pub fn ways_out(state: &State, by: &Principal, id: &DeploymentId) -> Vec<String> {
    let Some(d) = state.deployments.get(id) else { return Vec::new() };
    let mut all = Vec::new();
    let mut offer = |body: Command, text: String| {
        if takes(state, by, body) {
            all.push(text);
        }
    };
    if d.is_stopped() {
        offer(DeploymentStarted { deployment: id.clone() }.into(), format!("slipway service start {id}"));
    }
    if let Some(rollout) = d.live {
        let verb = |v: &str| format!("slipway rollout {v}").replace("{}", &rollout.to_string());
        offer(Command::Resume(Resume { rollout }), verb("resume {}"));
        offer(Command::Promote(Promote { rollout, full: false }), verb("promote {}"));
        offer(Command::Promote(Promote { rollout, full: true }), verb("promote {} --full"));
        offer(Command::Rollback(Rollback { rollout }), verb("rollback {}"));
        offer(Command::Abort(Abort { rollout, as_is: false }), verb("abort {}"));
        offer(Command::Abort(Abort { rollout, as_is: true }), verb("abort {} --as-is"));
    } else if let Some(rollout) = state.undoable(d).map(|r| r.id) {
        offer(Command::Rollback(Rollback { rollout }), format!("slipway rollout rollback {rollout}"));
    }
    let replace = if d.live.is_some() { " --replace" } else { "" };
    if let Some(flags) = startable(state, by, id, d.live.is_some()) {
        all.push(format!("slipway rollout start {id} --to VERSION{flags}{replace}"));
    }
    all
}

/// With which flags some release could be started now; `None`: none could.
fn startable(state: &State, by: &Principal, id: &DeploymentId, replace: bool) -> Option<&'static str> {
    let spec = state.deployments.get(id).and_then(|d| state.spec(id, d.spec))?;
    let flags = match spec.address {
        AddressMode::Pool => " --strategy rolling --max-surge 0 --max-unavailable 1",
        AddressMode::Host => " --strategy rolling --max-unavailable 1",
    };
    // What needs the least room, where the spec's own strategy has none.
    let in_place = Overrides {
        strategy: Some(Some(StrategyName::ROLLING)),
        max_surge: Some(Portion::NONE),
        max_unavailable: Some(Portion::count(1)),
        ..Overrides::default()
    };
    [(Overrides::default(), ""), (in_place, flags)]
        .into_iter()
        .find_map(|(overrides, flags)| startable_with(state, by, id, replace, &overrides).then_some(flags))
}

fn startable_with(state: &State, by: &Principal, id: &DeploymentId, replace: bool, overrides: &Overrides) -> bool {
    let mine =
        state.releases.iter().filter(|((service, _), r)| service == &id.service && r.status != ReleaseStatus::Retired);
    let mut versions: Vec<(u64, &Version)> = mine.map(|((_, v), r)| (r.meta.created_index, v)).collect();
    versions.sort();
    versions.into_iter().rev().take(TRIED).any(|(_, version)| {
        let start = StartRollout {
            deployment: id.clone(),
            version: version.clone(),
            overrides: overrides.clone(),
            restart: false,
            replace,
            expected: None,
        };
        preview(state, by, &start).is_ok()
    })
}

/// Whether the law takes a command now.
fn takes(state: &State, by: &Principal, body: Command) -> bool {
    rehearse(state, by, body).is_ok()
}
