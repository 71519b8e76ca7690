//! Latencies in buckets of at most 3 % width: small, exact to add up, good enough for quantiles.

use serde::Serialize;

/// Buckets of one power of two.
const FINE: u64 = 32;

/// Counts of microseconds. Serializes as its quantiles in milliseconds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Histogram {
    counts: Vec<u64>,
    total: u64,
    max: u64,
}

fn slot(us: u64) -> usize {
    let slot = if us < FINE {
        us
    } else {
        let power = u64::from(us.ilog2()) - 5;
        power * FINE + (us >> power)
    };
    usize::try_from(slot).unwrap_or(usize::MAX)
}

/// The largest value of a slot.
fn top(slot: usize) -> u64 {
    let slot = slot as u64;
    if slot < 2 * FINE {
        return slot;
    }
    let power = slot / FINE - 1;
    let base = slot - power * FINE;
    ((base + 1) << power) - 1
}

impl Histogram {
    /// Counts one latency.
    pub fn record(&mut self, us: u64) {
        let at = slot(us.min(1 << 40));
        if self.counts.len() <= at {
            self.counts.resize(at + 1, 0);
        }
        self.counts[at] += 1;
        self.total += 1;
        self.max = self.max.max(us);
    }

    /// Adds another one's counts.
    pub fn merge(&mut self, other: &Self) {
        if self.counts.len() < other.counts.len() {
            self.counts.resize(other.counts.len(), 0);
        }
        for (mine, theirs) in self.counts.iter_mut().zip(&other.counts) {
            *mine += theirs;
        }
        self.total += other.total;
        self.max = self.max.max(other.max);
    }

    /// Latency in milliseconds that `q` (0 to 1) of the requests stayed within; `None` without requests.
    pub fn quantile_ms(&self, q: f64) -> Option<f64> {
        if self.total == 0 {
            return None;
        }
        let rank = ((self.total as f64 * q).ceil() as u64).clamp(1, self.total);
        let mut seen = 0;
        let at = self.counts.iter().position(|n| {
            seen += n;
            seen >= rank
        });
        Some(top(at.unwrap_or_default()).min(self.max) as f64 / 1000.0)
    }
}

impl Serialize for Histogram {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        use serde::ser::SerializeMap;
        let mut map = s.serialize_map(Some(5))?;
        map.serialize_entry("count", &self.total)?;
        for (name, q) in [("p50_ms", 0.5), ("p90_ms", 0.9), ("p99_ms", 0.99), ("max_ms", 1.0)] {
            map.serialize_entry(name, &self.quantile_ms(q))?;
        }
        map.end()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_are_narrow_and_in_order() {
        for us in (0..5000).chain([1 << 20, (1 << 20) + 12_345, 1 << 40]) {
            let t = top(slot(us));
            assert!(t >= us && t - us <= us / 30, "{us} is counted as {t}");
            assert!(slot(us + 1) >= slot(us));
        }
    }

    #[test]
    fn quantiles_of_a_known_set() {
        let (mut a, mut b) = (Histogram::default(), Histogram::default());
        assert_eq!(a.quantile_ms(0.5), None);
        (1..=500).for_each(|ms| a.record(ms * 1000));
        (501..=1000).for_each(|ms| b.record(ms * 1000));
        a.merge(&b);
        for (q, ms) in [(0.5, 500.0), (0.9, 900.0), (0.99, 990.0)] {
            let got = a.quantile_ms(q).unwrap();
            assert!((got - ms).abs() <= ms * 0.04, "{q}: {got}");
        }
        assert_eq!(a.quantile_ms(1.0), Some(1000.0));
    }
}
