//! Batches of an installation: instances made, probation ended, weights and drains by capacity.

use std::sync::Arc;

use super::{
    Batch, Deployment, EventBody, Instance, Rejection, Rollout, RolloutPhase, RolloutStatus, RouteWeights, State,
    Track, alloc, assign,
    context::{Cx, Done, guard},
    drain, returns, routes, serving, steps,
};
use crate::model::{
    AddressMode, BatchMode, DeploymentId, FailureAction, Health, InstanceId, Life, Pair, Period, RolloutId, Routing,
    Spec, StepKind, Strategy, WorkerName,
};

/// Slack on top of the health time-out before a batch counts as failed: fetch of the assignment, start, report.
const SLACK: Period = Period::seconds(15);

/// `BatchStarted`.
pub(super) struct NewBatch<'a> {
    pub step: u32,
    pub batch: u32,
    pub add: &'a [(WorkerName, u32)],
    pub replace: &'a [InstanceId],
    pub in_place: bool,
}

/// `BatchPassed`.
pub(super) struct DoneBatch<'a> {
    pub step: u32,
    pub batch: u32,
    pub drain: &'a [InstanceId],
    pub weights: Option<RouteWeights>,
}

fn check_status(r: &Rollout) -> Done {
    match (r.status, r.phase) {
        (RolloutStatus::Active, RolloutPhase::Forward) | (RolloutStatus::RollingBack, RolloutPhase::Undo) => Ok(()),
        (
            RolloutStatus::Pending
            | RolloutStatus::Active
            | RolloutStatus::Paused
            | RolloutStatus::Promoting
            | RolloutStatus::RollingBack
            | RolloutStatus::Completed
            | RolloutStatus::RolledBack
            | RolloutStatus::Failed
            | RolloutStatus::Aborted,
            _,
        ) => guard(format!("{} is {}", r.id, r.status)),
    }
}

/// The track that runs a pair.
fn track_of<'a>(d: &'a mut Deployment, pair: &Pair) -> Option<&'a mut Track> {
    let t = &mut d.tracks;
    [t.stable.as_mut(), t.candidate.as_mut(), t.previous.as_mut()].into_iter().flatten().find(|t| &t.pair == pair)
}

fn set_want(cx: &mut Cx<'_>, deployment: &DeploymentId, pair: &Pair) -> Done {
    let mut d = cx.deployment(deployment)?;
    let wanted = serving::wanted(&cx.s, deployment, pair);
    if let Some(t) = track_of(&mut d, pair) {
        t.want = t.want.max(wanted);
    }
    cx.put_deployment(d);
    Ok(())
}

/// Instances of the deployment that serve, without some.
fn serve_without(s: &State, deployment: &DeploymentId, without: &[InstanceId]) -> u32 {
    let n =
        s.instances_of(deployment).filter(|i| i.serves() && serving::ready(s, i) && !without.contains(&i.id)).count();
    u32::try_from(n).unwrap_or(u32::MAX)
}

/// Rolling: what leaves must not take the healthy count below desired - unavailable (what failed already is no loss).
fn check_unavailable(cx: &Cx<'_>, r: &Rollout, leaving: &[InstanceId]) -> Done {
    if r.strategy != Strategy::Rolling || r.is_way_back() {
        return Ok(());
    }
    let loses = leaving.iter().filter_map(|id| cx.s.instances.get(id)).any(|i| i.serves() && serving::ready(&cx.s, i));
    let left = serve_without(&cx.s, &r.deployment, leaving);
    let floor = r.desired.saturating_sub(r.params.max_unavailable);
    if loses && left < floor {
        return guard(format!("{left} healthy instances would be left and at least {floor} must be"));
    }
    Ok(())
}

/// `BatchStarted`.
pub(super) fn started(cx: &mut Cx<'_>, id: RolloutId, seen: u64, b: &NewBatch<'_>) -> Done {
    let mut r = cx.rollout_seen(id, seen)?;
    check_status(&r)?;
    let row = steps::running(&r, b.step)?.clone();
    let StepKind::Install { share, mode, batch: most, .. } = row.step.kind else {
        return guard("the running step installs nothing");
    };
    let Some(pair) = steps::target(&r).cloned() else { return guard("there is nothing to install") };
    let last = row.batch.as_ref().map_or(0, |x| x.n);
    if b.batch != last.saturating_add(1) {
        return guard(format!("batch {} is next", last.saturating_add(1)));
    }
    if let Some(x) = row.batch.as_ref().filter(|x| !x.passed || cx.now() < x.next_at) {
        return guard(format!("batch {} is under way or its delay is not over", x.n));
    }
    let adding = b.add.iter().fold(0u32, |n, (_, k)| n.saturating_add(*k));
    if adding == 0 || adding > most {
        return guard(format!("a batch adds 1 to {most} instances, not {adding}"));
    }
    let have = serving::there(&cx.s, &r.deployment, &pair);
    let goal = share.of_rounded_up(r.desired);
    if have.saturating_add(adding) > goal {
        return guard(format!("{have} of {goal} instances are there: {adding} more are too many"));
    }
    check_places(&r, mode, b)?;
    let replaced = check_replaced(cx, &r, &pair, adding, b.replace)?;
    if b.in_place {
        check_unavailable(cx, &r, b.replace)?;
    } else {
        check_surge(cx, &r, mode, adding)?;
    }
    let Some(spec) = cx.s.spec(&r.deployment, pair.spec).cloned() else { return guard("its spec is gone") };
    if b.in_place {
        drain::begin(cx, b.replace);
    }
    let added = make(cx, &r, &pair, &spec, b, replaced)?;
    let drains = if b.in_place { spec.drain.0.0.saturating_add(60_000) } else { 0 };
    let health = r.params.health_timeout.map_or(spec.health.start_within.0.saturating_add(SLACK.0), |t| t.0);
    let limit = health.saturating_add(drains);
    if let Some(row) = r.steps.get_mut(b.step as usize) {
        row.batch = Some(Batch {
            n: b.batch,
            added,
            replaced: b.replace.to_vec(),
            started_at: cx.now(),
            deadline: cx.now().plus(Period(limit)),
            passed: false,
            next_at: cx.now(),
            in_place: b.in_place,
        });
    }
    cx.emit(event(&r, b.step, b.batch, false));
    cx.put_rollout(r.clone());
    set_want(cx, &r.deployment, &pair)
}

fn event(r: &Rollout, step: u32, batch: u32, passed: bool) -> EventBody {
    EventBody::BatchChanged { rollout: r.id, deployment: r.deployment.clone(), step, batch, passed }
}

/// Which batches an installation may have. Going forward in place comes first or never; where an update with surge has no room left it
/// takes places over, and a way back does so in every mode.
fn check_places(r: &Rollout, mode: BatchMode, b: &NewBatch<'_>) -> Done {
    if b.in_place && b.replace.is_empty() {
        return guard("a batch in place replaces something");
    }
    match mode {
        BatchMode::Beside if !r.is_way_back() && !b.replace.is_empty() => {
            guard("an installation beside replaces nothing")
        }
        BatchMode::InPlace if !r.is_way_back() && !b.in_place && !b.replace.is_empty() => {
            guard("an installation in place replaces nothing later")
        }
        BatchMode::Beside | BatchMode::Replace | BatchMode::InPlace => Ok(()),
    }
}

/// Who is replaced must be another pair's, once each, and not already stopping.
fn check_replaced(
    cx: &Cx<'_>,
    r: &Rollout,
    pair: &Pair,
    adding: u32,
    ids: &[InstanceId],
) -> Result<Vec<Instance>, Rejection> {
    let olds = drain::check_ids(cx, &r.deployment, ids)?;
    if olds.len() > adding as usize {
        return guard(format!("{adding} instances cannot replace {}", olds.len()));
    }
    for (n, i) in olds.iter().enumerate() {
        if &i.pair == pair || ids.iter().skip(n.saturating_add(1)).any(|other| *other == i.id) {
            return guard(format!("{} is not to be replaced, or named twice", i.id));
        }
        match i.life {
            Life::Starting | Life::Running | Life::Draining => {}
            Life::Stopping | Life::Gone | Life::Failed => return guard(format!("{} is {}", i.id, i.life)),
        }
    }
    Ok(olds)
}

/// Instances that count against a rolling update's surge: on workers of its order that are heard of. What a worker brings that came back
/// or joined in its midst is no part of its bill, or the update would wait for it.
fn counted<'a>(s: &'a State, r: &'a Rollout) -> impl Iterator<Item = &'a Instance> {
    s.instances_of(&r.deployment).filter(|i| serving::ready(s, i) && r.order.contains(&i.worker))
}

/// Rolling: wanted instances stay within desired + surge.
fn check_surge(cx: &Cx<'_>, r: &Rollout, mode: BatchMode, adding: u32) -> Done {
    if r.strategy != Strategy::Rolling || r.is_way_back() || mode != BatchMode::Replace {
        return Ok(());
    }
    let n = counted(&cx.s, r).filter(|i| i.life.is_wanted()).count();
    let then = u32::try_from(n).unwrap_or(u32::MAX).saturating_add(adding);
    let roof = r.desired.saturating_add(r.params.max_surge);
    if then > roof {
        return guard(format!("{then} instances are over desired + surge = {roof}"));
    }
    Ok(())
}

/// New instances of an earlier, aborted rollout (or workers that came back) may fill the surge before the first batch, which then
/// could never start: as many old ones go as one batch of one needs, never below what must be available.
pub(super) fn make_room(cx: &mut Cx<'_>, r: &Rollout) {
    if r.strategy != Strategy::Rolling || r.is_way_back() {
        return;
    }
    let mut wanted: Vec<&Instance> = counted(&cx.s, r).filter(|i| i.life.is_wanted()).collect();
    let new = wanted.iter().filter(|i| i.pair == r.to).count();
    let roof = r.desired.saturating_add(r.params.max_surge) as usize;
    if new == 0 || new >= r.desired as usize {
        return;
    }
    let mut excess = wanted.len().saturating_add(1).saturating_sub(roof);
    let mut left = wanted.iter().filter(|i| i.serves()).count();
    let floor = r.desired.saturating_sub(r.params.max_unavailable) as usize;
    wanted.retain(|i| i.pair != r.to);
    wanted.sort_by_key(|i| (i.serves(), i.id));
    let mut go = Vec::new();
    for i in wanted {
        if excess == 0 || i.serves() && left <= floor {
            break;
        }
        left = left.saturating_sub(usize::from(i.serves()));
        excess = excess.saturating_sub(1);
        go.push(i.id);
    }
    drain::begin(cx, &go);
}

/// A new row.
pub(super) fn new_instance(cx: &mut Cx<'_>, deployment: &DeploymentId, pair: &Pair, worker: &WorkerName) -> Instance {
    Instance {
        meta: cx.new_meta(),
        id: cx.next_instance(),
        deployment: deployment.clone(),
        pair: pair.clone(),
        worker: worker.clone(),
        address: String::new(),
        ports: Arc::default(),
        made_by: None,
        replaces: None,
        drain: None,
        failed_at: None,
        restarts: 0,
        exit: None,
        life: Life::Starting,
        health: Health::Unknown,
        failures: 0,
        passed_once: false,
        health_index: cx.at.index,
        counted_out: None,
    }
}

/// Makes the batch's instances. In place, one that replaces another takes its address and is told to its worker when that one may
/// be stopped.
fn make(
    cx: &mut Cx<'_>,
    r: &Rollout,
    pair: &Pair,
    spec: &Spec,
    b: &NewBatch<'_>,
    mut replaced: Vec<Instance>,
) -> Result<Vec<InstanceId>, Rejection> {
    let mut added = Vec::new();
    let ports = alloc::ports(spec);
    for (worker, n) in b.add {
        match cx.s.workers.get(worker) {
            Some(w) if w.presence == super::Presence::Ready => {}
            Some(_) => return guard(format!("worker {worker} is lost")),
            None => return guard(format!("{worker} is no worker")),
        }
        for _ in 0..*n {
            let mut i = new_instance(cx, &r.deployment, pair, worker);
            i.made_by = Some(r.id);
            i.ports = ports.clone();
            let place = b.in_place.then(|| replaced.iter().position(|o| &o.worker == worker)).flatten();
            match place {
                Some(p) => {
                    let old = replaced.swap_remove(p);
                    i.address = old.address;
                    // One that its worker was never told of is gone at once; then there is nothing to wait for.
                    let waits = cx.s.instances.get(&old.id).is_some_and(|o| o.life.is_live());
                    i.replaces = waits.then_some(old.id);
                    if !waits {
                        i.address = alloc::take(cx, worker, &r.deployment, spec, i.id)?;
                    }
                    check_mode(&i, spec, cx)?;
                }
                None => i.address = alloc::take(cx, worker, &r.deployment, spec, i.id)?,
            }
            added.push(i.id);
            let (entry, waits) = (assign::entry(&i), i.replaces.is_some());
            cx.put_instance(i);
            if !waits {
                assign::edit(cx, worker, &r.deployment, steps::PROBATION, true, |c| c.instances.push(entry));
            }
        }
    }
    if b.in_place && !replaced.is_empty() {
        return guard("an instance is to be replaced on a worker that gets none");
    }
    Ok(added)
}

/// A place taken over must be of the mode that the new spec wants.
fn check_mode(i: &Instance, spec: &Spec, cx: &Cx<'_>) -> Done {
    // A machine's own address may be one of its pool.
    let fits = cx.s.workers.get(&i.worker).is_some_and(|w| match spec.address {
        AddressMode::Host => w.host == i.address,
        AddressMode::Pool => w.pool.contains_key(&i.address),
    });
    if fits { Ok(()) } else { guard(format!("{} is not an address of mode {}", i.address, spec.address)) }
}

/// `BatchPassed`.
pub(super) fn passed(cx: &mut Cx<'_>, id: RolloutId, seen: u64, b: &DoneBatch<'_>) -> Done {
    let mut r = cx.rollout_seen(id, seen)?;
    check_status(&r)?;
    let row = steps::running(&r, b.step)?.clone();
    let StepKind::Install { mode, routing, delay, .. } = row.step.kind else {
        return guard("the running step installs nothing");
    };
    let Some(pair) = steps::target(&r).cloned() else { return guard("there is nothing to install") };
    let Some(batch) = row.batch.as_ref().filter(|x| x.n == b.batch && !x.passed).cloned() else {
        return guard(format!("batch {} is not under way", b.batch));
    };
    let go_on = r.params.failure_action == FailureAction::Continue;
    // A way back goes on with what is there: who does not come up is tried again beside the rest.
    let back = r.is_way_back();
    let late = cx.now() >= batch.deadline;
    let mut workers = Vec::new();
    for added in &batch.added {
        let i = cx.instance_of(&r.deployment, *added)?;
        let passes = i.serves() && serving::ready(&cx.s, &i);
        let given_up = back && (late || !i.life.is_wanted() || !serving::ready(&cx.s, &i));
        if !(passes || given_up || go_on && i.life == Life::Failed) {
            return guard(format!("{added} is {} and {}", i.life, i.health));
        }
        workers.push(i.worker);
    }
    let olds = drain::check_ids(cx, &r.deployment, b.drain)?;
    if mode != BatchMode::Replace && !back && !olds.is_empty() {
        return guard("only an installation that replaces drains here");
    }
    if let Some(i) = olds.iter().find(|i| i.pair == pair) {
        return guard(format!("{} is of the pair that is installed", i.id));
    }
    check_unavailable(cx, &r, b.drain)?;
    weigh(cx, &mut r, routing, b)?;
    drain::begin(cx, b.drain);
    workers.sort();
    workers.dedup();
    let next_at = cx.now().plus(delay);
    if let Some(row) = r.steps.get_mut(b.step as usize) {
        if let Some(x) = row.batch.as_mut() {
            x.passed = true;
            x.next_at = next_at;
        }
        // A wait between batches does not use the step's time up.
        row.deadline = row.deadline.map(|d| d.plus(delay));
        if b.weights.is_some() {
            row.routed = Some((cx.at.index, cx.now()));
        }
    }
    cx.emit(event(&r, b.step, b.batch, true));
    cx.put_rollout(r.clone());
    assign::commit(cx, &r.deployment, &workers);
    set_want(cx, &r.deployment, &pair)
}

/// Weights of a passed batch, when the step routes by capacity.
fn weigh(cx: &mut Cx<'_>, r: &mut Rollout, routing: Routing, b: &DoneBatch<'_>) -> Done {
    let weights = match (routing, b.weights) {
        (Routing::Explicit, None) => return Ok(()),
        (Routing::Explicit, Some(_)) => return guard("this installation sets no weights"),
        (Routing::ByCapacity, Some(w)) => w,
        (Routing::ByCapacity, None) => return guard("weights are missing"),
    };
    let mut d = cx.deployment(&r.deployment)?;
    let cap = match r.phase {
        RolloutPhase::Forward => {
            if r.is_way_back() {
                routes::check_return(cx, &d, r, weights, b.drain)?;
                routes::returned(cx, &d, r, weights);
            } else {
                routes::check_rise(cx, &d, r, weights, b.drain, true)?;
            }
            d.route.as_ref().map_or(crate::model::WHOLE, |x| x.cap)
        }
        RolloutPhase::Undo => {
            routes::check_undo(&d, weights)?;
            if weights.candidate.0 == 0 && r.traffic_back_at.is_none() {
                r.traffic_back_at = Some(cx.now());
                returns::began(cx, &d, r.id, &r.to.version);
            }
            weights.candidate
        }
    };
    if weights.candidate > cap {
        return guard(format!("{} is above the cap {cap}", weights.candidate));
    }
    let form = match &d.route {
        Some(x) => (x.mode, x.ttl),
        None => routes::shape(cx, &d, &r.to, r.strategy),
    };
    routes::write(cx, &mut d, weights, cap, form, false);
    cx.put_deployment(d);
    Ok(())
}
