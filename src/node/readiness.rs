//! Whether this node is ready to serve, and the reason if it is not.
//!
//! Invariants: a node is ready only while a majority has lately confirmed a read of its own. It asks for one every
//! second. With pre-votes a term outlives its leader until another is won, so a node that was left alone still names a
//! leader and must not trust that. The reason names what is missing. Not here: the page (`http`), when DNS may answer
//! (`follow`).

use std::{sync::Arc, time::Duration};

use parking_lot::Mutex;

use super::start::Parts;
use crate::{clock::Mono, raft::Consensus};

/// Time between two confirmed reads.
const EVERY: Duration = Duration::from_secs(1);
/// Age of the last confirmed read from which a node is not ready: two in a row have failed.
const STALE_MS: u64 = 3_000;

/// The newest read that a majority confirmed.
#[derive(Debug, Default)]
pub(super) struct Confirmed(Mutex<Option<(Mono, Option<String>)>>);

impl Confirmed {
    /// A read that began at `asked` was confirmed, or was not and why.
    fn note(&self, asked: Mono, outcome: Result<(), String>) {
        let mut newest = self.0.lock();
        *newest = match (outcome, newest.take()) {
            (Ok(()), _) => Some((asked, None)),
            (Err(why), Some((at, _))) => Some((at, Some(why))),
            // Never confirmed: counts from the first try.
            (Err(why), None) => Some((asked, Some(why))),
        };
    }

    /// Why reads are not confirmed any more at `now`.
    pub(super) fn problem(&self, now: Mono) -> Option<String> {
        let newest = self.0.lock();
        let (at, why) = newest.as_ref()?;
        let age = now.since(*at);
        if age < STALE_MS {
            return None;
        }
        let why = why.as_deref().unwrap_or("the last one has no answer yet");
        Some(format!("no majority of the nodes has confirmed a read for {} s: {why}", age / 1000))
    }
}

/// Asks for a confirmed read again and again.
pub(super) async fn follow(parts: Arc<Parts>, consensus: Consensus) {
    loop {
        let asked = parts.clock.mono();
        let outcome = consensus.read_index().await;
        parts.confirmed.note(asked, outcome.map(|_| ()).map_err(|e| e.to_string()));
        tokio::time::sleep(EVERY).await;
    }
}

impl Parts {
    /// Why this node is not ready, if it is not.
    pub(super) fn readiness(&self) -> Result<(), String> {
        let Some(consensus) = self.slot.get() else {
            return Err("no cluster: run `slipway cluster init` or `slipway cluster join`".into());
        };
        if let Some(reason) = &*consensus.failure().borrow() {
            return Err(reason.clone());
        }
        if let Some(reason) = consensus.diverged() {
            return Err(reason);
        }
        let state = consensus.view();
        if state.cluster.is_none() {
            return Err("the cluster's first entries are not here yet".into());
        }
        if consensus.leader().borrow().leader.is_none() {
            return Err("no leader is known".into());
        }
        if let Some(row) = state.nodes.get(&consensus.node_id()) {
            if row.drained {
                return Err(format!(
                    "drained for maintenance: `slipway cluster drain {} --undo` takes it back",
                    row.name
                ));
            }
            // Until then a finalise could leave this program behind, although the node answers.
            if row.level != self.levels().1 {
                return Err("the cluster does not know yet which feature levels this program supports".into());
            }
        }
        let now = self.clock.mono();
        if let Some(problem) = self.tasks.problem(now) {
            return Err(problem);
        }
        // Every node knows it; the leader is the one that does not do its work.
        if let Some(why) = self.panics.any_stopped(now).filter(|_| consensus.leader().borrow().is_me) {
            return Err(why);
        }
        if let Some(problem) = self.confirmed.problem(self.clock.mono()) {
            return Err(problem);
        }
        if !self.dns.is_ready() {
            return Err("DNS waits until this node has caught up with the cluster".into());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_read_that_was_confirmed_lately_is_enough_and_then_the_last_refusal_is_told() {
        let confirmed = Confirmed::default();
        assert_eq!(confirmed.problem(Mono(60_000)), None, "nobody has asked yet: other reasons are told");
        confirmed.note(Mono(1_000), Ok(()));
        confirmed.note(Mono(2_000), Err("no leader is reachable".into()));
        assert_eq!(confirmed.problem(Mono(3_999)), None);
        let why = confirmed.problem(Mono(4_000)).unwrap();
        assert!(why.contains("3 s") && why.contains("no leader is reachable"), "{why}");
        // A read that hangs is as bad as one that is refused.
        confirmed.note(Mono(5_000), Ok(()));
        assert_eq!(confirmed.problem(Mono(6_000)), None);
        assert!(confirmed.problem(Mono(9_000)).unwrap().contains("no answer yet"));
    }
}
