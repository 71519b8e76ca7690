//! Simulated DNS servers: each serves what is applied after a lag of its own, falls silent, comes back.

use std::collections::VecDeque;

/// A node's DNS.
#[derive(Clone)]
pub struct Server {
    /// True time until which it is silent.
    pub silent_until: u64,
    /// Its word reaches a new leader from then on.
    pub reconnects_at: u64,
    /// True time since when it serves without a break.
    pub since: u64,
    /// Entries that it is behind by, and milliseconds after which it has caught up all the same.
    lag: (u64, u64),
    served: u64,
}

impl Server {
    pub fn new(lag: (u64, u64)) -> Self {
        Self { silent_until: 0, reconnects_at: 0, since: 0, lag, served: 0 }
    }

    pub fn heard(&self, real: u64) -> bool {
        real >= self.silent_until.max(self.reconnects_at)
    }

    /// Falls silent; started anew, it knows only of what it hands out from its return on.
    pub fn mute(&mut self, until: u64, restarts: bool) {
        self.silent_until = self.silent_until.max(until);
        if restarts && until < u64::MAX {
            self.since = until;
        }
    }

    /// The index that its view holds.
    pub fn serves(&mut self, real: u64, index: u64, entries: &VecDeque<(u64, u64)>) -> u64 {
        let old = entries.iter().rev().find(|(_, at)| at + self.lag.1 <= real).map_or(0, |(n, _)| *n);
        self.served = self.served.max(old).max(index.saturating_sub(self.lag.0));
        self.served
    }

    /// When it will have caught up, or is heard again.
    pub fn next_change(&self, real: u64, newest: Option<&(u64, u64)>) -> Option<u64> {
        if self.silent_until == u64::MAX {
            return None;
        }
        if !self.heard(real) {
            return Some(self.silent_until.max(self.reconnects_at));
        }
        let (index, at) = newest?;
        (self.served < *index).then_some(at + self.lag.1).filter(|at| *at > real)
    }
}
