//! How long commits, `apply` and snapshots take, and how often the leader changes.
//!
//! Not here: how metrics are named and shown (`http`), and syncs of the log, which `storage` measures.

use prometheus_client::metrics::{counter::Counter, histogram::Histogram};

/// Seconds from a proposal to its answer.
const COMMIT: [f64; 12] = [0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0];
/// Seconds of one command's `apply`.
const APPLY: [f64; 9] = [0.000_01, 0.000_025, 0.000_05, 0.000_1, 0.000_25, 0.001, 0.01, 0.1, 1.0];
/// Seconds of a snapshot.
const SNAPSHOT: [f64; 9] = [0.001, 0.005, 0.025, 0.1, 0.5, 1.0, 5.0, 15.0, 60.0];

/// Measurements of consensus on this node since the process started; clones share them.
#[derive(Debug, Clone)]
pub struct Meters {
    /// From a proposal on this leader to its answer.
    pub commit: Histogram,
    /// Decoding and applying one command, replayed ones included.
    pub apply: Histogram,
    /// Encoding and writing a snapshot.
    pub snapshot: Histogram,
    /// Snapshots received from a leader.
    pub installed: Counter,
    /// Leaders that this node saw after one another.
    pub leaders: Counter,
}

impl Default for Meters {
    fn default() -> Self {
        Self {
            commit: Histogram::new(COMMIT),
            apply: Histogram::new(APPLY),
            snapshot: Histogram::new(SNAPSHOT),
            installed: Counter::default(),
            leaders: Counter::default(),
        }
    }
}

/// Microseconds as the seconds that metrics are in.
pub(super) fn seconds(micros: u64) -> f64 {
    micros as f64 / 1e6
}
