//! One line for each entry, short enough to read a whole rollout at a glance.

use slipway::model::{MetricName, RolloutId, WorkerName};
use slipway::state::{
    Command, PairSeen, Rejection, Role, RolloutStatus, State, StepRef, Weights, WorkerFacts,
    command::{
        Abort, ArmAdjusted, ArmingConfirmed, BatchPassed, BatchStarted, CookieAsked, CountedOut, DeliverySettled,
        DeploymentRemoved, DeploymentStarted, DeploymentStopped, DigestProbe, DrainSettled, FactsRecorded, LeaseSet,
        LevelProbe, NodeHeard, NodeSilent, OrderExtended, Pause, Promote, PromotionBegan, Resume, Rollback,
        RollbackBegan, RolloutFinished, RolloutPaused, RouteSet, StepEnded, StepStarted, StepsCompiled, StopPermitted,
        SwitchAsked, SwitchEnded, SwitchMoved, Switched, Tick, TrafficBackSettled, ViewsServed, WorkerLost,
        WorkerReturned,
    },
};

fn weights(w: &Weights) -> String {
    format!("{{stable {}, candidate {}}}", w.get(Role::Stable).0, w.get(Role::Candidate).0)
}

fn added(add: &[(WorkerName, u32)]) -> String {
    add.iter().map(|(w, n)| format!("{w}+{n}")).collect::<Vec<_>>().join(" ")
}

fn names<T: ToString>(items: &[T]) -> String {
    items.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
}

fn step_name(state: &State, id: RolloutId, step: u32) -> String {
    let row = state.rollouts.get(&id).and_then(|r| r.steps.get(step as usize));
    row.map_or_else(|| "?".into(), |s| format!("{step} {} [{}]", s.step.kind, s.step.group))
}

fn status(state: &State, id: RolloutId) -> RolloutStatus {
    state.rollouts[&id].status
}

fn facts(state: &State, before: &State, workers: &[WorkerFacts]) -> Option<String> {
    let mut parts = Vec::new();
    for f in workers {
        let changed = f.instances.iter().filter_map(|i| {
            let (old, new) = (before.instances.get(&i.id)?, state.instances.get(&i.id)?);
            let same = (old.life, old.health) == (new.life, new.health);
            (!same).then(|| format!("{} {}/{}", i.id, new.life, new.health))
        });
        let mut words: Vec<String> = changed.collect();
        if f.staged.is_some() {
            words.push("staged".into());
        }
        if !words.is_empty() {
            parts.push(format!("{} {}", f.worker, words.join(" ")));
        }
    }
    (!parts.is_empty()).then(|| parts.join(", "))
}

/// The line of an entry; `None` for those that say nothing new.
pub fn command(
    state: &State,
    before: &State,
    index: u64,
    body: &Command,
    refused: Option<&Rejection>,
) -> Option<String> {
    let text = match body {
        Command::Tick(Tick {}) => return None,
        Command::FactsRecorded(FactsRecorded { workers }) => facts(state, before, workers)?,
        Command::StartRollout(s) => {
            let how =
                s.overrides.strategy.clone().flatten().map_or("as its environment says".into(), |x| x.to_string());
            format!("{} to {} {how}", s.deployment, s.version)
        }
        Command::Pause(Pause { rollout })
        | Command::Resume(Resume { rollout })
        | Command::Abort(Abort { rollout, .. })
        | Command::Rollback(Rollback { rollout }) => rollout.to_string(),
        Command::Promote(Promote { rollout, full }) => format!("{rollout}{}", if *full { " --full" } else { "" }),
        Command::WorkerLost(WorkerLost { worker, .. }) | Command::WorkerReturned(WorkerReturned { worker }) => {
            worker.to_string()
        }
        Command::NodeSilent(NodeSilent { node }) | Command::NodeHeard(NodeHeard { node }) => node.to_string(),
        Command::StepsCompiled(StepsCompiled { rollout, desired, order, steps, .. }) => {
            let steps: Vec<String> = steps.iter().map(|s| s.kind.to_string()).collect();
            format!("{rollout} desired {desired} on {}: {}", names(order), steps.join(", "))
        }
        Command::StepStarted(StepStarted { at: StepRef { rollout, step, .. }, attempt, .. }) => {
            let again = if *attempt > 1 { format!(" attempt {attempt}") } else { String::new() };
            format!("{rollout} {}{again}", step_name(state, *rollout, *step))
        }
        Command::BatchStarted(BatchStarted { at: StepRef { rollout, step, .. }, batch, add, replace, .. }) => {
            format!("{rollout} {step} batch {batch}: {}; replaces {}", added(add), names(replace))
        }
        Command::BatchPassed(BatchPassed { at: StepRef { rollout, step, .. }, batch, drain, weights: w, .. }) => {
            let w = w.as_ref().map_or_else(|| "no weights".into(), weights);
            format!("{rollout} {step} batch {batch}: {w}; drains {}", names(drain))
        }
        Command::RouteSet(RouteSet { at: StepRef { rollout, .. }, weights: w, .. }) => {
            format!("{rollout} {}", weights(w))
        }
        Command::Switched(Switched { at: StepRef { rollout, .. }, .. })
        | Command::PromotionBegan(PromotionBegan { rollout, .. }) => rollout.to_string(),
        Command::DrainSettled(DrainSettled { index, confirmed, silent, ttl_ms, .. }) => {
            format!("drain {index}: {} nodes, {} silent, ttl {ttl_ms} ms", confirmed.len(), silent.len())
        }
        Command::ViewsServed(ViewsServed { served }) => format!("{} servers", served.len()),
        Command::CountedOut(CountedOut { worker, .. }) => worker.to_string(),
        Command::OrderExtended(OrderExtended { rollout, workers, .. }) => format!("{rollout} takes up {workers:?}"),
        Command::StopPermitted(StopPermitted { instances, .. }) => names(instances),
        Command::StepEnded(StepEnded { at: StepRef { rollout, step, .. }, evidence, .. }) => {
            let to = &before.rollouts[rollout].to;
            let seen = evidence.seen.iter().find(|seen| &seen.pair == to).map(PairSeen::total).unwrap_or_default();
            let [requests, errors] = [MetricName::REQUESTS, MetricName::ERRORS].map(|n| seen.count(&n).unwrap_or(0));
            let held = evidence.to.since(evidence.from);
            let note = if evidence.note.is_empty() { String::new() } else { format!("; {}", evidence.note) };
            format!(
                "{rollout} {} after {held}, {:?}, {errors} errors of {requests}{note}",
                step_name(before, *rollout, *step),
                evidence.verdict
            )
        }
        Command::RollbackBegan(RollbackBegan { rollout, reason, .. })
        | Command::RolloutPaused(RolloutPaused { rollout, reason, .. }) => {
            format!("{rollout}: {reason}")
        }
        Command::RolloutFinished(RolloutFinished { rollout, status, reason, .. }) => {
            let why = reason.as_ref().map_or_else(String::new, |r| format!(": {r}"));
            format!("{rollout} {status}{why}")
        }
        Command::ArmAdjusted(ArmAdjusted { add, drain, desired, drop, .. }) => {
            let add: Vec<String> = add.iter().map(|(t, w, n)| format!("{t:?} {w}+{n}")).collect();
            format!("desired {desired}; adds {}; drains {}; drops {drop:?}", add.join(" "), names(drain))
        }
        Command::DeliverySettled(DeliverySettled { key, ok, detail, .. }) => {
            format!("({}, {}) {}: {detail}", key.index, key.ordinal, if *ok { "ok" } else { "failed" })
        }
        Command::SwitchAsked(SwitchAsked { ask }) => {
            let all: Vec<String> = ask.deployments.iter().map(ToString::to_string).collect();
            format!("{} {:?}, wait {:?}, {:?}", all.join(" "), ask.to, ask.wait, ask.unfenced)
        }
        Command::ArmingConfirmed(ArmingConfirmed { served }) => format!("{} servers", served.len()),
        Command::SwitchMoved(SwitchMoved { switch, served, .. }) => format!("s-{switch}, {} servers", served.len()),
        Command::SwitchEnded(SwitchEnded { switch, end, .. }) => {
            let note = if end.note.is_empty() { String::new() } else { format!("; {}", end.note) };
            format!("s-{switch} switched {}, fenced {}{note}", end.switched, end.fenced_at.is_some())
        }
        Command::TrafficBackSettled(TrafficBackSettled { rollout, end, .. }) => {
            let note = if end.note.is_empty() { String::new() } else { format!("; {}", end.note) };
            let what = if end.fenced_at.is_some() { "no server answers with what was left" } else { "not fenced" };
            format!("{rollout} {what}{note}")
        }
        Command::LeaseSet(LeaseSet { mode, terms }) => format!("{mode:?} {terms:?}"),
        Command::LeasesSettled(_) | Command::ExpirySet(_) => String::new(),
        Command::DeploymentRemoved(DeploymentRemoved { deployment, stop }) => {
            format!("{deployment}{}", if *stop { " --stop" } else { "" })
        }
        Command::DeploymentStopped(DeploymentStopped { deployment })
        | Command::DeploymentStarted(DeploymentStarted { deployment }) => deployment.to_string(),
        Command::ClusterInit(_)
        | Command::NodeAdmitted(_)
        | Command::NodeRoleSet(_)
        | Command::SpecApplied(_)
        | Command::BlobHeld(_)
        | Command::BlobDropped(_)
        | Command::ReleaseRegistered(_)
        | Command::ReleaseRetired(_)
        | Command::ReleaseRemoved(_)
        | Command::ReleasesPruned(_)
        | Command::ServiceRemoved(_)
        | Command::EnvironmentCreated(_)
        | Command::EnvironmentSet(_)
        | Command::EnvironmentRemoved(_)
        | Command::BlobDoomed(_)
        | Command::WorkerRemoved(_)
        | Command::WorkerRekeyed(_)
        | Command::SettingsSet(_)
        | Command::WorkerRegistered(_)
        | Command::Collected(_)
        | Command::DigestProbe(DigestProbe {})
        | Command::DigestReported(_)
        | Command::NodeAnnounced(_)
        | Command::NodeDrained(_)
        | Command::CookieAsked(CookieAsked {})
        | Command::CookieRotated(_)
        | Command::LevelRaised(_) => String::new(),
        #[cfg(debug_assertions)]
        Command::LevelProbe(LevelProbe {}) => String::new(),
    };
    let mut line = format!("{:>7} #{index} {} {text}", state.now.to_string(), body.name());
    if let Some(e) = refused {
        line.push_str(&format!(" REFUSED: {e}"));
    } else {
        line.push_str(&effects(state, before));
    }
    Some(line.trim_end().to_string())
}

/// What moved beside: a rollout's status, the traffic.
fn effects(state: &State, before: &State) -> String {
    let mut text = String::new();
    for (id, r) in &state.rollouts {
        let old = before.rollouts.get(id).map(|_| status(before, *id));
        if old != Some(r.status) {
            text.push_str(&format!(" => {id} {}", r.status));
        }
    }
    for (id, d) in &state.deployments {
        let old = before.deployments.get(id).and_then(|d| d.route.as_ref());
        let named = |d: &slipway::state::Deployment| {
            d.arms.iter().map(|a| format!("{:?}={}", a.role, a.pair.version)).collect::<Vec<_>>().join(" ")
        };
        match (&d.route, old) {
            (Some(new), old) if old.is_none_or(|o| o.generation != new.generation) => {
                text.push_str(&format!(" => route {} {}", weights(&d.arms.weights()), named(d)));
            }
            (None, Some(_)) => text.push_str(" => no route"),
            (Some(_), _) | (None, None) => {}
        }
    }
    text
}
