//! After a panic of the leader's loop: this node tells the others, then hands leadership over.
//!
//! Invariants: the others know of the panic before one of them leads, as far as they can be reached. So a report or a
//! State that makes every planner panic stops planning after the third panic, instead of felling node after node. DNS
//! and the log are other tasks and go on.
//!
//! Not here: what is kept, and when the loop rests (`lead::Panics`).

use std::{sync::Arc, time::Duration};

use futures_util::{FutureExt, future::join_all};
use tokio::time::timeout;

use super::{run::hand_over, start::Parts};
use crate::{
    clock::Mono,
    lead::{Fallen, Panic, Part},
    model::NodeId,
    raft::Consensus,
    state::NodeRole,
    wire::v1,
};

const TELL: Duration = Duration::from_millis(500);

/// What the leader's loop does after a panic.
pub(super) fn after(parts: &Arc<Parts>, consensus: &Consensus) -> Fallen {
    let (parts, consensus) = (parts.clone(), consensus.clone());
    Arc::new(move || {
        let (parts, consensus) = (parts.clone(), consensus.clone());
        async move {
            tell(&parts, &consensus).await;
            hand_over(&consensus).await;
        }
        .boxed()
    })
}

async fn tell(parts: &Parts, consensus: &Consensus) {
    let (state, me, now) = (consensus.view(), consensus.node_id(), parts.clock.mono());
    let known: Vec<v1::PlannerPanic> = parts.panics.recent(now).iter().map(|p| to_wire(p, now)).collect();
    let others = state.nodes.values().filter(|n| n.id != me && n.role != NodeRole::Removed);
    let calls = others.filter_map(|n| {
        let mut client = consensus.peer_client(n.id)?;
        let request = v1::PanickedRequest { header: Some(consensus.peer_header(n.id)), panics: known.clone() };
        let id = n.id;
        Some(async move {
            match timeout(TELL, client.panicked(request)).await {
                Ok(Ok(_)) => {}
                Ok(Err(status)) => tracing::debug!(node = id, %status, "not told of the panic"),
                Err(_) => tracing::debug!(node = id, "not told of the panic in time"),
            }
        })
    });
    join_all(calls).await;
}

fn to_wire(p: &Panic, now: Mono) -> v1::PlannerPanic {
    v1::PlannerPanic {
        node: p.node,
        id: p.id,
        age_ms: now.since(p.at),
        part: p.part.name().into(),
        reason: p.reason.clone(),
    }
}

/// Takes in what another node tells, of nodes that this one knows.
pub(super) fn told(parts: &Parts, panics: &[v1::PlannerPanic]) {
    let now = parts.clock.mono();
    let known = |id: NodeId| parts.slot.get().is_some_and(|c| c.view().nodes.contains_key(&id));
    for p in panics.iter().filter(|p| known(p.node)) {
        let at = Mono(now.0.saturating_sub(p.age_ms));
        let (part, reason) = (Part::named(&p.part), p.reason.clone());
        parts.panics.learn(Panic { node: p.node, id: p.id, at, part, reason }, now);
    }
    if let Some(why) = parts.panics.any_stopped(now) {
        tracing::error!("{why}");
    }
}
