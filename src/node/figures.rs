//! What `/metrics` and `/readyz` read when asked.

use std::sync::{Arc, atomic::Ordering};

use super::start::Parts;
use crate::{
    dns::{RCODES, Responder},
    http::{DnsFigures, HttpSources, LeadFigures, RaftFigures},
    raft::Consensus,
    state::State,
};

/// The functions that the HTTP pages call.
pub(super) fn sources(parts: &Arc<Parts>, responder: &Arc<Responder>) -> HttpSources {
    let (a, b, c, d, e) = (parts.clone(), parts.clone(), parts.clone(), parts.clone(), parts.clone());
    let responder = responder.clone();
    let empty = Arc::new(State::default());
    HttpSources {
        state: Arc::new(move || a.slot.get().map_or_else(|| empty.clone(), Consensus::view)),
        raft: Arc::new(move || raft(&b)),
        dns: Arc::new(move || dns(&c, &responder)),
        lead: Arc::new(move || lead(&d)),
        ready: Arc::new(move || e.readiness()),
    }
}

fn raft(parts: &Parts) -> RaftFigures {
    let Some(consensus) = parts.slot.get() else { return RaftFigures::default() };
    let seen = consensus.metrics();
    RaftFigures {
        term: seen.term,
        leads: consensus.leader().borrow().is_me,
        last_log: seen.last_log.unwrap_or(0),
        applied: seen.applied,
        quorum_age_ms: seen.quorum_age.map(|age| u64::try_from(age.as_millis()).unwrap_or(u64::MAX)),
    }
}

fn dns(parts: &Parts, responder: &Responder) -> DnsFigures {
    let counts = responder.counts();
    DnsFigures {
        view_index: if parts.dns.is_ready() { parts.dns.view().index } else { 0 },
        answers: RCODES.iter().zip(counts.rcodes).map(|((_, label), n)| ((*label).to_string(), n)).collect(),
    }
}

fn lead(parts: &Parts) -> LeadFigures {
    let counts = &parts.lead_counts;
    let refused = [
        ("stale", &counts.stale),
        ("guard", &counts.guarded),
        ("other", &counts.refused),
        ("no_result", &counts.failed),
    ];
    LeadFigures {
        proposed: counts.proposed.load(Ordering::Relaxed),
        refused: refused.into_iter().map(|(label, n)| (label.to_string(), n.load(Ordering::Relaxed))).collect(),
    }
}
