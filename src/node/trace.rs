//! Answers `Traffic.Trace` and `Traffic.Show` for this node: what its DNS would say about a name and why, which
//! instances it may name, and what it has answered.
//!
//! Not here: how the answer to a name is explained (`dns::trace`).

use std::{collections::BTreeSet, net::IpAddr};

use super::start::Parts;
use crate::{
    api::{ApiError, Realised},
    dns::Trace,
    model::{DeploymentId, Health, Life, WHOLE},
    state::{Instance, Presence, State, serving},
    wire::v1,
};

/// Most characters of a name in text: 255 octets, each written as `\DDD`.
const MAX_NAME: usize = 1024;
/// Instances that a trace lists.
const MAX_INSTANCES: usize = 500;

/// Answers one request from the view that is served now.
pub(super) fn trace(parts: &Parts, request: &v1::TraceRequest) -> Result<v1::TraceReply, ApiError> {
    let (Some(consensus), Some(responder)) = (parts.slot.get(), parts.responder.get()) else {
        return Err(ApiError::unavailable("this node belongs to no cluster yet"));
    };
    if request.name.is_empty() || request.name.len() > MAX_NAME {
        return Err(ApiError::bad("name: give a DNS name such as shop.production.svc.slipway.internal"));
    }
    let from: Option<IpAddr> = match request.from.as_str() {
        "" => None,
        text => Some(text.parse().map_err(|_| ApiError::bad(format!("from: {text:?} is not an IP address")))?),
    };
    let name =
        if request.key.is_empty() { request.name.clone() } else { format!("k-{}.{}", request.key, request.name) };
    let seen = responder.trace(&name, from);
    let state = consensus.view();
    let instances = seen.deployment.as_ref().map(|id| instances(&state, id, &seen)).unwrap_or_default();
    let node = parts.dns.node();
    Ok(v1::TraceReply {
        node_id: node,
        node: parts.config.name.clone(),
        lease: lease(parts, &state, seen.deployment.as_ref()),
        total_instances: u32::try_from(instances.len()).unwrap_or(u32::MAX),
        instances: instances.into_iter().take(MAX_INSTANCES).collect(),
        ..reply(seen)
    })
}

/// Whether a serving lease binds the deployment here, and how long this node's is.
fn lease(parts: &Parts, state: &State, deployment: Option<&DeploymentId>) -> String {
    let route = deployment.and_then(|id| state.deployments.get(id)).and_then(|d| Some((&d.id, d.route.as_ref()?)));
    if route.is_none_or(|(id, r)| state.fences.binds(id, r.mode).is_none()) {
        return "off: no lease binds it now".into();
    }
    match parts.dns.hold().until.saturating_sub(parts.clock.boot()) {
        0 => "over: answered as its policy says".into(),
        left => format!("held for {left} ms more"),
    }
}

fn reply(t: Trace) -> v1::TraceReply {
    let parts = t.parts.into_iter().map(|(label, meaning)| v1::TracePart { label, meaning });
    let arms = t.arms.iter().map(|a| v1::TraceArm {
        role: a.role.to_string(),
        version: a.version.clone(),
        weight_bp: a.bps,
        deck: a.cards.0,
        deck_left: a.cards.1,
        serving: u32::try_from(a.endpoints).unwrap_or(u32::MAX),
    });
    let version = |role| t.arms.iter().find(|a| Some(a.role) == role).map(|a| a.version.clone());
    v1::TraceReply {
        dns_name: t.name,
        parts: parts.collect(),
        outcome: t.outcome.into(),
        because: t.because,
        applied_index: t.index,
        serial: t.serial,
        deployment: t.deployment.map(|d| d.to_string()).unwrap_or_default(),
        incarnation: t.generation.map_or(0, |g| g.incarnation),
        generation: t.generation.map_or(0, |g| g.n),
        mode: t.mode.map(|m| m.to_string()).unwrap_or_default(),
        ttl_s: t.ttl,
        arms: arms.collect(),
        slot: t.slot.map(u32::from),
        role: t.chosen.map(|c| c.to_string()).unwrap_or_default(),
        version: version(t.chosen).unwrap_or_default(),
        addresses: t.endpoints.iter().map(|(_, ip)| ip.to_string()).collect(),
        ..v1::TraceReply::default()
    }
}

fn instances(state: &State, id: &DeploymentId, seen: &Trace) -> Vec<v1::TraceInstance> {
    let named: BTreeSet<_> = seen.endpoints.iter().map(|(id, _)| *id).collect();
    let able: BTreeSet<_> = serving(state, id, state.now).iter().map(|i| i.id).collect();
    let row = |i: &Instance| {
        let (eligible, answering) = (able.contains(&i.id), named.contains(&i.id));
        let because = match (answering, eligible) {
            (true, _) => "may be named".into(),
            (false, true) => "of a version that this name does not answer".into(),
            (false, false) => left_out(state, i),
        };
        v1::TraceInstance {
            id: i.id.to_string(),
            version: i.pair.version.to_string(),
            worker: i.worker.to_string(),
            address: i.address.clone(),
            answering,
            because,
        }
    };
    let mut all: Vec<v1::TraceInstance> = state.instances_of(id).filter(|i| i.life.is_live()).map(row).collect();
    all.sort_by_key(|i| !i.answering);
    all
}

/// Why DNS does not name an instance.
fn left_out(state: &State, i: &Instance) -> String {
    match i.life {
        Life::Starting => "it is starting".into(),
        Life::Draining => "it is being drained".into(),
        Life::Stopping => "it is being stopped".into(),
        Life::Gone | Life::Failed => "it does not run".into(),
        Life::Running if i.health != Health::Passing => "it does not pass its health check".into(),
        Life::Running => match state.workers.get(&i.worker).map(|w| w.presence) {
            Some(Presence::Lost) => format!("its worker {} is lost", i.worker),
            Some(Presence::Ready) => "it may not be named yet".into(),
            None => format!("its worker {} is not known", i.worker),
        },
    }
}

/// What this node's DNS has really answered, and what instances have counted.
pub(super) fn realised(parts: &Parts, id: &DeploymentId) -> Option<Realised> {
    let seen = parts.dns.realised(id, parts.clock.mono())?;
    let answers = seen
        .versions
        .iter()
        .map(|(role, version, _, answers)| ((role.to_string(), version.clone()), (*answers, seen.share(*role))));
    Some(Realised {
        answers: answers.collect(),
        requests: parts.dns.requests(parts.clock.mono()).remove(id).unwrap_or_default(),
        clients: seen.clients,
        largest_client_bp: seen.largest_bp,
        spread_bp: seen.spread_bp,
    })
}

/// Says when few clients make the steps of a rollout coarse, and how large the largest swing can be.
pub(super) fn coarse(parts: &Parts, id: &DeploymentId, weights: &[u32]) -> Vec<String> {
    let smallest = weights.iter().copied().filter(|w| *w > 0 && *w < WHOLE.0).min();
    let (Some(seen), Some(smallest)) = (parts.dns.realised(id, parts.clock.mono()), smallest) else {
        return Vec::new();
    };
    let percent = |bp: u32| format!("{}.{} %", bp / 100, bp % 100 / 10);
    if seen.clients == 0 {
        return vec![format!(
            "{} has seen no DNS client of {id} lately: how close the traffic comes to the weights is not known",
            parts.config.name
        )];
    }
    if seen.largest_bp <= smallest / 2 {
        return Vec::new();
    }
    vec![format!(
        "few DNS clients make the steps coarse: {} has seen {}, and one of them has {} of the answers, so as much of the traffic may \
         swing when its answer changes, at a smallest step of {}. Give users k- names, or judge by more clients",
        parts.config.name,
        seen.clients,
        percent(seen.largest_bp),
        percent(smallest),
    )]
}
