//! Counters of the leader's loop, for metrics.
//!
//! Not here: how metrics are named and shown (`http`).

use std::sync::atomic::{AtomicU64, Ordering};

use prometheus_client::metrics::histogram::Histogram;

/// What the loop has counted since the process started.
#[derive(Debug, Default)]
pub struct LeadCounts {
    /// Passes of the planner.
    pub passes: AtomicU64,
    /// Commands proposed.
    pub proposed: AtomicU64,
    /// Refused because they saw an older revision.
    pub stale: AtomicU64,
    /// Refused because a guard on committed facts did not hold.
    pub guarded: AtomicU64,
    /// Refused for another reason.
    pub refused: AtomicU64,
    /// Proposals without a result.
    pub failed: AtomicU64,
    /// Deliveries that ended well.
    pub delivered: AtomicU64,
    /// Deliveries that were given up.
    pub undelivered: AtomicU64,
    /// How long deliveries took.
    pub deliveries: DeliveryTimes,
    /// Panics of the loop.
    pub panics: AtomicU64,
}

/// Seconds from the start of a delivery to its end.
#[derive(Debug, Clone)]
pub struct DeliveryTimes(pub Histogram);

impl Default for DeliveryTimes {
    fn default() -> Self {
        Self(Histogram::new([0.005, 0.025, 0.1, 0.5, 1.0, 2.5, 5.0, 15.0, 60.0]))
    }
}

/// Counts one more.
pub(super) fn add(n: &AtomicU64) {
    n.fetch_add(1, Ordering::Relaxed);
}
