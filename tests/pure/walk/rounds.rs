//! Rounds in which nothing fails any more, until everything rests.

use super::*;
use slipway::state::Role;

/// Everyone is back, and a rollout that waits for an operator is resumed once.
pub fn healing(s: &State) -> Vec<Command> {
    let back = s.workers.values().filter(|w| w.presence == Presence::Lost);
    let mut all: Vec<Command> =
        back.map(|w| Command::WorkerReturned(WorkerReturned { worker: w.name.clone() })).collect();
    let heard = s.nodes.values().filter(|n| n.silent_since.is_some());
    all.extend(heard.map(|n| Command::NodeHeard(NodeHeard { node: n.id })));
    all
}

/// One round in which nothing fails: reports, settled deliveries, the planner.
pub fn good_round(s: &State) -> (Vec<Command>, String) {
    // Reports and a tick are always there: with nothing else, only time can change something.
    let mut all = Vec::new();
    let workers: Vec<WorkerFacts> = (1..=4).filter_map(|n| report(s, &worker(n), 1)).collect();
    all.push(Command::FactsRecorded(FactsRecorded { workers }));
    all.extend(s.outbox.iter().map(|(key, d)| {
        Command::DeliverySettled(DeliverySettled { key: *key, attempt: d.attempt, ok: true, detail: "200".into() })
    }));
    let plan = engine::plan(s, &heard(s, 0, 0), s.now);
    let waits = format!("{:?}; proposes {:?}", plan.waits, plan.commands.iter().map(Command::name).collect::<Vec<_>>());
    all.extend(plan.commands);
    all.push(Command::Tick(Tick {}));
    all.extend(held(s).into_iter().map(|rollout| Command::Resume(Resume { rollout })));
    (all, waits)
}

/// Held by a policy or a person.
pub fn held(s: &State) -> Vec<RolloutId> {
    let live = [shop(), cart()].into_iter().filter_map(|d| s.live_rollout(&d));
    live.filter(|r| r.status == RolloutStatus::Paused).map(|r| r.id).collect()
}

/// No live rollout, as many healthy stable instances as desired where it is not stopped, nothing on its way.
pub fn at_rest(s: &State) -> bool {
    let settled = s.instances.values().all(|i| !matches!(i.life, Life::Starting | Life::Draining | Life::Stopping));
    let rests = |d: &Deployment| {
        let whole = d.arms.get(Role::Stable).is_none_or(|t| slipway::state::passing(s, &d.id, &t.pair) >= d.desired);
        let one = d.arms.get(Role::Stable).is_none()
            || d.arms.get(Role::Previous).is_none() && d.arms.get(Role::Candidate).is_none();
        d.is_stopped() || d.live.is_none() && whole && one
    };
    settled && s.deployments.values().all(rests)
}

/// What stands in the way of rest.
pub fn summary(s: &State) -> String {
    let lives: Vec<String> =
        s.instances.values().map(|i| format!("{} {} {} {} {}", i.id, i.pair, i.worker, i.life, i.health)).collect();
    let one = |d: &Deployment| {
        let live = d.live.and_then(|id| s.rollouts.get(&id));
        let rollout = live.map(|r| {
            let row =
                r.steps.get(r.cursor as usize).map(|row| (row.step.kind.to_string(), row.status, row.batch.clone()));
            (r.id, r.status, r.strategy.clone(), r.phase, row, r.reason.clone())
        });
        format!("{}: {:?} desired {} {:?} {rollout:?}", d.id, d.arms, d.desired, d.route)
    };
    let deployments: Vec<String> = s.deployments.values().map(one).collect();
    format!("{} {lives:#?}", deployments.join("\n"))
}
