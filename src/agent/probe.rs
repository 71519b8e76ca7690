//! Where an instance's checks go, and the hysteresis that turns single results into passing and failing.
//!
//! Not here: asking (`check`), what follows from health (`instance`).

use std::net::SocketAddr;

use super::assignment::Entry;
use crate::model::{Health, HealthCheck, Spec};

/// Where an instance's checks go: the spec's port of it.
pub fn target(entry: &Entry, spec: &Spec) -> Option<SocketAddr> {
    let named = spec.health.port.as_ref().and_then(|n| entry.ports.get(n));
    let port = named.or_else(|| spec.ports.keys().find_map(|n| entry.ports.get(n)));
    port.or_else(|| entry.ports.values().next()).map(|p| SocketAddr::new(entry.address, *p))
}

/// Health out of single checks.
#[derive(Debug, Clone)]
pub struct Hysteresis {
    healthy_after: u32,
    unhealthy_after: u32,
    passes: u32,
    failures: u32,
    health: Health,
}

impl Hysteresis {
    /// Begins without knowing.
    pub fn new(check: &HealthCheck) -> Self {
        Self {
            healthy_after: check.healthy_after.max(1),
            unhealthy_after: check.unhealthy_after.max(1),
            passes: 0,
            failures: 0,
            health: Health::Unknown,
        }
    }

    /// Takes a check's result.
    pub fn take(&mut self, passed: bool) {
        if passed {
            self.failures = 0;
            self.passes = self.passes.saturating_add(1);
            if self.passes >= self.healthy_after {
                self.health = Health::Passing;
            }
        } else {
            self.passes = 0;
            self.failures = self.failures.saturating_add(1);
            if self.failures >= self.unhealthy_after {
                self.health = Health::Failing;
            }
        }
    }

    /// What is known.
    pub fn health(&self) -> Health {
        self.health
    }

    /// Failures in a row.
    pub fn failures(&self) -> u32 {
        self.failures
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Period;

    fn check(healthy_after: u32, unhealthy_after: u32) -> HealthCheck {
        HealthCheck {
            http: "/healthz".into(),
            port: None,
            host: None,
            tls: None,
            status: crate::model::StatusRule::default(),
            interval: Period(100),
            timeout: Period(100),
            healthy_after,
            unhealthy_after,
            start_within: Period(1000),
        }
    }

    #[test]
    fn one_slip_changes_nothing() {
        let mut h = Hysteresis::new(&check(2, 3));
        let mut seen = Vec::new();
        for passed in [true, true, false, false, true, false, false, false, true, true] {
            h.take(passed);
            seen.push(h.health());
        }
        use Health::{Failing as F, Passing as P, Unknown as U};
        assert_eq!(seen, [U, P, P, P, P, P, P, F, F, P]);
        assert_eq!(h.failures(), 0);
    }
}
