//! Whether a majority follows this leader, judged by when it last answered.
//!
//! Invariants: an answer counts from when its question was *sent*, so it proves no more than it should; a caller is
//! refused only after the majority had the time of one call to answer. All nodes may have stood still: a disk that all
//! wait for, a machine that ran nothing. Then the newest answer is old although no node is cut off, and all waiting
//! callers ask at once.
//!
//! Not here: what a majority commits; openraft takes no entry from a leader whose lease has run out (`propose`).

use std::time::Duration;

use openraft::{Instant as _, ServerState, async_runtime::WatchReceiver};

use super::Consensus;

/// When a majority last confirmed a leader.
enum Heard {
    /// It is a majority by itself, or its term has just begun.
    Alone,
    /// So long ago.
    Ago(Duration),
}

impl Consensus {
    /// Whether a majority of the voters confirmed this leader's term lately; `None` on a node that does not lead. What
    /// is proposed without one would wait in the log for its return.
    #[must_use]
    pub fn has_quorum(&self) -> Option<bool> {
        Some(match self.heard_of_majority()? {
            Heard::Alone => true,
            Heard::Ago(age) => age < self.silence(),
        })
    }

    /// Whether this node leads and a majority does not answer, although it was given the time to.
    pub async fn lacks_quorum(&self) -> bool {
        self.has_quorum() == Some(false) && !self.majority_answers(self.silence()).await
    }

    /// Waits until a majority has confirmed this leader within its lease; `false` when it had its time and did not,
    /// `true` also when this node does not lead.
    pub(super) async fn lease_returns(&self) -> bool {
        self.majority_answers(self.config().timing.election_max).await
    }

    /// Longest that a majority may be silent before it is taken for lost.
    fn silence(&self) -> Duration {
        let timing = &self.config().timing;
        timing.election_max * 2 + timing.election_min
    }

    async fn majority_answers(&self, within: Duration) -> bool {
        let age = match self.heard_of_majority() {
            None | Some(Heard::Alone) => return true,
            Some(Heard::Ago(age)) => age,
        };
        let mut seen = self.raft().metrics();
        let answered = async {
            loop {
                match self.heard_of_majority() {
                    Some(Heard::Ago(age)) if age >= within => {}
                    None | Some(Heard::Alone | Heard::Ago(_)) => return,
                }
                if seen.changed().await.is_err() {
                    return;
                }
            }
        };
        let limit = self.silence().saturating_sub(age).saturating_add(self.config().timing.rpc);
        let answers = tokio::time::timeout(limit, answered).await.is_ok();
        tracing::debug!(?within, ?age, answers, "no majority had answered lately");
        answers
    }

    fn heard_of_majority(&self) -> Option<Heard> {
        // Asked at every proposal: nothing is copied.
        let watched = self.raft().metrics();
        let seen = watched.borrow_watched();
        if seen.state != ServerState::Leader || seen.running_state.is_err() {
            return None;
        }
        // A single voter is its own majority and has nobody to hear from.
        let alone = seen.membership_config.membership().voter_ids().take(2).count() < 2;
        let at = seen.last_quorum_acked.filter(|_| !alone);
        Some(at.map_or(Heard::Alone, |at| Heard::Ago(at.elapsed())))
    }
}
