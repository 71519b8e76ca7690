//! `apply`: one committed entry, all or nothing.
//!
//! A command works on a draft of State (cloning persistent maps is cheap), which replaces State only when the command succeeds; a
//! refusal changes nothing but `applied`, `now`, `wall` and the table of requests. Guards and effects stand in the family files.

use super::{
    Command, Event, EventKey, LogId, Rejection, Stamped, State, as_is, batches, catalog, cluster, collect, context::Cx,
    cookies, drain, event::EVENT_RING, fleet, keeper, leases, lost, nodes, operator, outbox, replicas, requests,
    returns, rollback, routes, start, steps, switches,
};
use crate::model::Principal;

/// What a command that was not refused did.
#[derive(Debug, Clone, PartialEq)]
pub struct Applied {
    /// Index of the entry that took effect: an earlier one when this is a repeat.
    pub index: u64,
    /// What happened; empty in a repeat.
    pub events: Vec<Event>,
    /// Whether the request had taken effect before.
    pub repeated: bool,
}

/// Applies a blank or membership entry: only the position moves.
pub fn apply_blank(state: &mut State, at: LogId) {
    state.applied = at;
}

/// Applies one committed command.
pub fn apply(state: &mut State, at: LogId, stamped: &Stamped) -> Result<Applied, Rejection> {
    state.applied = at;
    if stamped.term != at.term {
        return Err(Rejection::WrongTerm { stamped: stamped.term, entry: at.term });
    }
    state.now = state.now.max(stamped.at);
    state.wall = stamped.wall;
    requests::forget_expired(state);
    let ticket = match requests::look(state, stamped)? {
        requests::Look::Engine => None,
        requests::Look::Fresh(ticket) => Some(ticket),
        requests::Look::Repeat(index) => return Ok(Applied { index, events: Vec::new(), repeated: true }),
    };
    let mut cx = Cx::new(state, at, stamped);
    let result = match (&stamped.body, &cx.s.cluster) {
        (Command::ClusterInit { .. }, Some(_)) => Err(Rejection::AlreadyInitialised),
        (Command::ClusterInit { .. }, None) | (_, Some(_)) if stamped.body.level() > cx.s.level.max(1) => {
            Err(nodes::too_new(&stamped.body, cx.s.level))
        }
        (Command::ClusterInit { .. }, None) | (_, Some(_)) => dispatch(&mut cx, &stamped.body),
        (_, None) => Err(Rejection::NoCluster),
    };
    let result = result.map(|()| {
        switches::sweep(&mut cx);
        let (draft, bodies) = cx.finish();
        *state = draft;
        Applied { index: at.index, events: record(state, at, bodies), repeated: false }
    });
    if let Some(ticket) = ticket {
        requests::remember(state, at, ticket, result.as_ref().err());
    }
    result
}

fn record(state: &mut State, at: LogId, bodies: Vec<super::EventBody>) -> Vec<Event> {
    let events: Vec<Event> = (0u32..)
        .zip(bodies)
        .map(|(ordinal, body)| Event {
            key: EventKey { index: at.index, ordinal },
            at: state.now,
            wall: state.wall,
            body,
        })
        .collect();
    for e in &events {
        state.events.insert(e.key, e.clone());
    }
    while state.events.len() > EVENT_RING {
        let Some(oldest) = state.events.get_min().map(|(k, _)| *k) else { break };
        state.events.remove(&oldest);
    }
    events
}

/// A copy of State to which a command is applied next, as a local operator's: for previews and rehearsals. Nothing is agreed on by it.
pub fn rehearse(state: &State, body: Command) -> Result<State, Rejection> {
    let mut copy = state.clone();
    let at = LogId { term: state.applied.term, index: state.applied.index.saturating_add(1) };
    let stamped = Stamped {
        at: state.now,
        wall: state.wall,
        term: at.term,
        principal: Principal::local_operator(),
        request: None,
        body,
    };
    apply(&mut copy, at, &stamped)?;
    Ok(copy)
}

fn dispatch(cx: &mut Cx<'_>, command: &Command) -> Result<(), Rejection> {
    match command {
        Command::ClusterInit { id, name, zone, node } => cluster::init(cx, id, name, zone, node),
        Command::NodeAdmitted(node) => cluster::admitted(cx, node),
        Command::NodeRoleSet { node, role, seen, lose_packages } => {
            cluster::role_set(cx, *node, *role, *seen, *lose_packages)
        }
        Command::NodeSilent { node } => cluster::silence(cx, *node, true),
        Command::NodeHeard { node } => cluster::silence(cx, *node, false),
        Command::SpecApplied { spec, expected } => catalog::spec_applied(cx, spec, *expected),
        Command::BlobHeld { digest, size, node } => catalog::blob_held(cx, digest, *size, *node),
        Command::BlobDropped { digest, node } => catalog::blob_dropped(cx, digest, *node),
        Command::ReleaseRegistered { service, version, digest, build, labels } => {
            catalog::release_registered(cx, service, version, digest, build, labels)
        }
        Command::WorkerRegistered { name, key, labels, capacity, build, host, pool, absent, keeping } => {
            let form = fleet::Form { key, labels, capacity: *capacity, build, host, pool, absent, keeping };
            fleet::registered(cx, name, &form)
        }
        Command::StartRollout(start) => start::start(cx, start),
        Command::Pause { rollout } => operator::pause(cx, *rollout),
        Command::Resume { rollout } => operator::resume(cx, *rollout),
        Command::Abort { rollout, as_is: false } => operator::abort(cx, *rollout),
        Command::Abort { rollout, as_is: true } => as_is::abort(cx, *rollout),
        Command::Promote { rollout, full } => operator::promote(cx, *rollout, *full),
        Command::Rollback { rollout } => operator::rollback(cx, *rollout),
        Command::Tick => Ok(()),
        Command::FactsRecorded { workers } => fleet::facts(cx, workers),
        Command::WorkerLost { worker, last_heard } => fleet::lost(cx, worker, *last_heard),
        Command::WorkerReturned { worker } => fleet::returned(cx, worker),
        Command::StepsCompiled { rollout, seen, phase, desired, order, steps } => {
            steps::compiled(cx, *rollout, *seen, *phase, *desired, order, steps)
        }
        Command::StepStarted { rollout, seen, step, attempt } => steps::started(cx, *rollout, *seen, *step, *attempt),
        Command::StepEnded { rollout, seen, step, evidence } => steps::ended(cx, *rollout, *seen, *step, evidence),
        Command::BatchStarted { rollout, seen, step, batch, add, replace, in_place } => {
            let plan = batches::NewBatch { step: *step, batch: *batch, add, replace, in_place: *in_place };
            batches::started(cx, *rollout, *seen, &plan)
        }
        Command::BatchPassed { rollout, seen, step, batch, drain, weights } => {
            let done = batches::DoneBatch { step: *step, batch: *batch, drain, weights: *weights };
            batches::passed(cx, *rollout, *seen, &done)
        }
        Command::RouteSet { rollout, seen, step, weights } => routes::route_set(cx, *rollout, *seen, *step, *weights),
        Command::Switched { rollout, seen, step } => routes::switched(cx, *rollout, *seen, *step),
        Command::DrainSettled { deployment, index, confirmed, silent, unready, ttl_ms } => {
            drain::settled(cx, deployment, *index, confirmed, silent, unready, *ttl_ms)
        }
        Command::ViewsServed { served } => drain::views_served(cx, served),
        Command::CountedOut { deployment, worker } => lost::counted_out(cx, deployment, worker),
        Command::OrderExtended { rollout, seen, workers } => lost::extended(cx, *rollout, *seen, workers),
        Command::StopPermitted { deployment, instances } => drain::stop_permitted(cx, deployment, instances),
        Command::RollbackBegan { rollout, seen, reason, evidence } => {
            rollback::began(cx, *rollout, *seen, reason, evidence.as_ref())
        }
        Command::RolloutPaused { rollout, seen, reason, evidence } => {
            rollback::paused(cx, *rollout, *seen, reason, evidence.as_ref())
        }
        Command::PromotionBegan { rollout, seen } => rollback::promotion_began(cx, *rollout, *seen),
        Command::RolloutFinished { rollout, seen, status, reason } => {
            rollback::finished(cx, *rollout, *seen, *status, reason.as_ref())
        }
        Command::TrackAdjusted { deployment, seen, add, drain, desired, drop } => {
            let change = keeper::Change { add, drain, desired: *desired, drop };
            keeper::adjusted(cx, deployment, *seen, &change)
        }
        Command::DeliverySettled { key, attempt, ok, detail } => outbox::settled(cx, *key, *attempt, *ok, detail),
        Command::Collected { at } => collect::collected(cx, *at),
        Command::DigestProbe => replicas::probe(cx),
        Command::DigestReported { node, index, report } => replicas::reported(cx, *node, *index, report.clone()),
        Command::NodeAnnounced { node, version, min, max, client_addr, dns_addr } => {
            nodes::announced(cx, *node, version, (*min, *max), (client_addr, dns_addr))
        }
        Command::NodeDrained { node, on } => nodes::drained(cx, *node, *on),
        Command::LevelRaised { to, seen } => nodes::level_raised(cx, *to, *seen),
        Command::LeaseSet { mode, terms } => leases::set(cx, *mode, *terms),
        Command::ExpirySet { deployment, on_expiry } => leases::expiry_set(cx, deployment, *on_expiry),
        Command::SwitchAsked(ask) => switches::asked(cx, ask),
        Command::ArmsConfirmed { served } => switches::confirmed(cx, served),
        Command::SwitchMoved { switch, seen, served } => switches::moved(cx, *switch, *seen, served),
        Command::SwitchEnded { switch, seen, end } => switches::ended(cx, *switch, *seen, end),
        Command::LeasesSettled { seen } => switches::settled(cx, *seen),
        Command::CookieAsked => cookies::asked(cx),
        Command::CookieRotated { secret, seen } => cookies::rotated(cx, *secret, *seen),
        Command::TrafficBackSettled { rollout, index, end } => returns::settled(cx, *rollout, *index, end),
        #[cfg(debug_assertions)]
        Command::LevelProbe => Ok(()),
    }
}
