//! What `/metrics` and `/readyz` read when asked.

use std::{
    collections::BTreeMap,
    sync::{Arc, atomic::Ordering},
};

use super::{gate::GateCounts, start::Parts};
use crate::{
    api::Api,
    dns::{RCODES, Responder},
    engine::STRATEGIES,
    http::{Connections, DnsFigures, HttpSources, LeadFigures, ProcessFigures, RaftFigures, RpcFigures},
    raft::Consensus,
    state::State,
};

/// The gated listeners by name.
pub(super) type Gates = BTreeMap<&'static str, Arc<GateCounts>>;

/// The functions that the HTTP pages call.
pub(super) fn sources(parts: &Arc<Parts>, api: &Api, responder: &Arc<Responder>, gates: Gates) -> HttpSources {
    let (a, b, c, d, e) = (parts.clone(), parts.clone(), parts.clone(), parts.clone(), parts.clone());
    let f = parts.clone();
    let responder = responder.clone();
    let served = api.clone();
    let empty = Arc::new(State::default());
    HttpSources {
        state: Arc::new(move || a.slot.get().map_or_else(|| empty.clone(), Consensus::view)),
        raft: Arc::new(move || raft(&b)),
        dns: Arc::new(move || dns(&c, &responder)),
        lead: Arc::new(move || lead(&d)),
        rpc: Arc::new(move || rpc(&served, &gates)),
        process: Arc::new(move || process(&f)),
        ready: Arc::new(move || e.readiness()),
        strategies: STRATEGIES.iter().map(|s| s.name.to_string()).collect(),
    }
}

fn rpc(api: &Api, gates: &Gates) -> RpcFigures {
    let mut figures = RpcFigures { sessions: api.sessions.all().len() as u64, ..RpcFigures::default() };
    for (listener, gate) in gates {
        let seen = Connections {
            open: gate.open.load(Ordering::Relaxed),
            refused: gate.refused.load(Ordering::Relaxed),
            silent: gate.silent.load(Ordering::Relaxed),
            idle: gate.idle.load(Ordering::Relaxed),
        };
        figures.connections.insert(*listener, seen);
    }
    for ((what, label), n) in api.counts.all() {
        let into = if what == "proposal" { &mut figures.proposals } else { &mut figures.rejections };
        into.insert(label, n);
    }
    figures
}

fn raft(parts: &Parts) -> RaftFigures {
    let log = parts.dir.log().meters();
    let Some(consensus) = parts.slot.get() else { return RaftFigures { log, ..RaftFigures::default() } };
    RaftFigures {
        meters: Some(consensus.meters()),
        log,
        snapshot_bytes: consensus.snapshot_bytes(),
        leads: consensus.leader().borrow().is_me,
        seen: Some(consensus.metrics()),
        applied: consensus.apply_counts(),
    }
}

/// Memory and files of this process, as the kernel counts them; 0 where it does not say.
fn process(parts: &Parts) -> ProcessFigures {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let resident = status.lines().find_map(|l| l.strip_prefix("VmRSS:"));
    let kib = resident.and_then(|l| l.split_whitespace().next()?.parse::<u64>().ok()).unwrap_or(0);
    let open_files = std::fs::read_dir("/proc/self/fd").map_or(0, |files| files.count() as u64);
    ProcessFigures { ready: parts.readiness().is_ok(), resident: kib.saturating_mul(1024), open_files }
}

fn dns(parts: &Parts, responder: &Responder) -> DnsFigures {
    let counts = responder.counts();
    DnsFigures {
        view_index: if parts.dns.is_ready() { parts.dns.view().index } else { 0 },
        generations: parts.dns.generations().into_iter().map(|(d, n)| (d.to_string(), n)).collect(),
        events: counts.events().into_iter().collect(),
        realised: realised(parts),
        requests: requests(parts),
        answers: RCODES.iter().zip(counts.rcodes).map(|((_, label), n)| (*label, n)).collect(),
    }
}

/// By deployment and version: answers, and the wanted and the answered share.
fn realised(parts: &Parts) -> Vec<(String, String, u64)> {
    let all = parts.dns.all_realised(parts.clock.mono());
    let rows =
        all.iter().flat_map(|(id, r)| r.versions.iter().map(move |(_, v, _, n)| (id.to_string(), v.clone(), *n)));
    rows.collect()
}

/// By deployment and version: what instances counted of the running step.
fn requests(parts: &Parts) -> Vec<(String, String, u64)> {
    let all = parts.dns.requests(parts.clock.mono()).into_iter();
    all.flat_map(|(id, versions)| versions.into_iter().map(move |(v, n)| (id.to_string(), v, n))).collect()
}

fn lead(parts: &Parts) -> LeadFigures {
    let counts = &parts.lead_counts;
    let refused = [
        ("stale", &counts.stale),
        ("guard", &counts.guarded),
        ("other", &counts.refused),
        ("no_result", &counts.failed),
    ];
    let read = |n: &std::sync::atomic::AtomicU64| n.load(Ordering::Relaxed);
    LeadFigures {
        passes: read(&counts.passes),
        panics: read(&counts.panics),
        stopped: parts.panics.any_stopped(parts.clock.mono()).is_some(),
        restarts: parts.tasks.restarts(),
        deliveries: [("delivered", read(&counts.delivered)), ("failed", read(&counts.undelivered))].into(),
        delivery: Some(counts.deliveries.0.clone()),
        proposed: read(&counts.proposed),
        refused: refused.into_iter().map(|(label, n)| (label, read(n))).collect(),
    }
}
