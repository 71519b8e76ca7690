//! Drains: a removed instance is stopped only after every DNS server has served its removal and every cache has let go
//! of it.
//!
//! Invariant: a server that is silent, answers nobody or has just started counts with the largest TTL that the
//! deployment's names can have. Drains go on whatever a rollout does.

use std::collections::BTreeMap;

use super::prelude::*;

/// The TTL of weighted answers where a spec sets none.
pub(super) const DEFAULT_TTL: Period = Period::seconds(5);

/// The next drain command of the deployment.
pub(super) fn next(view: &View<'_>, notes: &mut Notes) -> Option<Command> {
    let draining: Vec<&Instance> = view.instances.iter().copied().filter(|i| i.life == Life::Draining).collect();
    let mut clear = Vec::new();
    let mut unsettled: BTreeMap<u64, ()> = BTreeMap::new();
    for i in &draining {
        let Some(drain) = i.drain else { continue };
        match drain.clear_at {
            Some(at) if at <= view.now => clear.push(i.id),
            Some(at) => notes.wake_at(at),
            None => {
                unsettled.insert(drain.index, ());
            }
        }
    }
    if !clear.is_empty() {
        return Some(Command::StopPermitted(StopPermitted { deployment: view.id().clone(), instances: clear }));
    }
    unsettled.keys().find_map(|index| settle(view, *index))
}

/// `DrainSettled` for one drain index, once every server has confirmed or is silent.
fn settle(view: &View<'_>, index: u64) -> Option<Command> {
    let look = Servers::at(view, index);
    look.behind.is_empty().then(|| {
        Command::DrainSettled(DrainSettled {
            deployment: view.id().clone(),
            index,
            confirmed: look.confirmed,
            silent: look.silent,
            unready: look.unready,
            ttl_ms: look.ttl.0,
        })
    })
}

/// `ViewsServed`, when what servers were heard to have served frees an address that the deployment lacks on one of
/// these workers.
pub(super) fn views(view: &View<'_>, pair: &Pair, workers: &[WorkerName]) -> Option<Command> {
    if view.spec(pair)?.address != AddressMode::Pool {
        return None;
    }
    let heard = |id| match view.seen.nodes.get(&id) {
        Some(Seen::Known { value, .. }) => value.served_index.min(view.state.applied.index),
        Some(Seen::Unknown | Seen::Silent { .. }) | None => 0,
    };
    let more = |w: &Worker| {
        let now = free_addresses(view.state, w, view.id()).len();
        free_when(view.state, w, view.id(), heard).len() > now
    };
    workers.iter().filter_map(|w| view.state.workers.get(w)).any(more).then(|| {
        let nodes = view.state.nodes.values().filter(|n| n.role.serves_dns());
        Command::ViewsServed(ViewsServed {
            served: nodes.map(|n| (n.id, heard(n.id))).filter(|(_, at)| *at > 0).collect(),
        })
    })
}

/// What DNS servers have served of an index.
#[derive(Default)]
struct Servers {
    confirmed: Vec<(NodeId, u64)>,
    silent: Vec<NodeId>,
    unready: Vec<NodeId>,
    behind: Vec<NodeId>,
    ttl: Period,
}

impl Servers {
    fn at(view: &View<'_>, index: u64) -> Self {
        let largest = largest_ttl(view);
        let mut look = Self::default();
        for node in view.state.nodes.values().filter(|n| n.role.serves_dns()) {
            match view.seen.nodes.get(&node.id) {
                Some(_) | None if differs(view.state, node.id) => {
                    look.silent.push(node.id);
                    look.ttl = largest;
                }
                // It answers nobody, and what it handed out before nobody knows.
                Some(Seen::Known { value, .. }) if value.unready_since.is_some() && node.silent_since.is_none() => {
                    look.unready.push(node.id);
                    look.ttl = largest;
                }
                Some(Seen::Known { value, .. }) if value.served_index >= index && node.silent_since.is_none() => {
                    look.confirmed.push((node.id, value.served_index));
                    // What a server handed out before it started last, nobody knows.
                    let known = value.serving_since.plus(largest) <= view.now;
                    let ttl = if known { Period(value.ttls.get(view.id()).copied().unwrap_or(0)) } else { largest };
                    look.ttl = look.ttl.max(ttl);
                }
                Some(_) | None if node.silent_since.is_some() => {
                    look.silent.push(node.id);
                    look.ttl = largest;
                }
                Some(_) | None => look.behind.push(node.id),
            }
        }
        look
    }
}

/// The largest TTL that any name of the deployment can have had lately.
fn largest_ttl(view: &View<'_>) -> Period {
    let specs = view.state.specs_of(view.id()).map(|(_, s)| s);
    let of_specs = specs.map(|s| s.ttl.unwrap_or(DEFAULT_TTL).max(s.pin_ttl)).max().unwrap_or(DEFAULT_TTL);
    view.deployment.route.as_ref().map_or(of_specs, |r| of_specs.max(r.ttl))
}

/// Notes why these instances have not gone yet.
pub(super) fn explain(view: &View<'_>, leaving: &[&Instance], notes: &mut Notes) {
    let mut stopping = Vec::new();
    let mut until = None;
    let mut index = None;
    for i in leaving {
        match (i.life, i.drain.and_then(|d| d.clear_at)) {
            (Life::Draining, Some(at)) => until = until.max(Some(at)),
            (Life::Draining, None) => index = index.max(i.drain.map(|d| d.index)),
            (Life::Starting | Life::Running | Life::Stopping, _) => stopping.push(i.id),
            (Life::Gone | Life::Failed, _) => {}
        }
    }
    if let Some(index) = index {
        let behind = Servers::at(view, index).behind;
        if !behind.is_empty() {
            notes.wait(Wait::Views { index, behind });
        }
    }
    if let Some(until) = until {
        notes.wait(Wait::Caches { until });
    }
    if !stopping.is_empty() {
        notes.wait(Wait::Stopping { instances: stopping });
    }
}
