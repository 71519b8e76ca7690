//! How long syncs of the log take and how many writes one sync serves.
//!
//! Not here: how metrics are named and shown (`http`).

use prometheus_client::metrics::histogram::Histogram;

/// From a fast disk to one in trouble, in seconds.
const SYNC: [f64; 12] = [0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.1, 0.25, 1.0, 5.0];
const WRITES: [f64; 9] = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0];

/// Measurements of the log database; clones share them.
#[derive(Debug, Clone)]
pub struct LogMeters {
    /// Seconds that each sync took.
    pub sync: Histogram,
    /// Writes that each sync served.
    pub writes: Histogram,
}

impl Default for LogMeters {
    fn default() -> Self {
        Self { sync: Histogram::new(SYNC), writes: Histogram::new(WRITES) }
    }
}
