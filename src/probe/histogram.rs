//! Latencies: exact to add up, and each within one part in a hundred.

use serde::Serialize;

/// Counts of microseconds. Serializes as its quantiles in milliseconds. Of 32 bits a count, as one is kept for each
/// second.
#[derive(Debug, Clone, PartialEq)]
pub struct Histogram {
    counts: hdrhistogram::Histogram<u32>,
    /// Exact, as the worst is what people look for.
    max: u64,
}

impl Default for Histogram {
    fn default() -> Self {
        // Of 1 to 5 digits, which is all that it may be refused for.
        let counts = hdrhistogram::Histogram::new(2).unwrap_or_else(|_| unreachable!("two digits are kept"));
        Self { counts, max: 0 }
    }
}

impl Histogram {
    /// Counts one latency.
    pub fn record(&mut self, us: u64) {
        // It grows to hold whatever comes.
        let _ = self.counts.record(us);
        self.max = self.max.max(us);
    }

    /// Adds another one's counts.
    pub fn merge(&mut self, other: &Self) {
        let _ = self.counts.add(&other.counts);
        self.max = self.max.max(other.max);
    }

    /// Latency in milliseconds that `q` (0 to 1) of the requests stayed within; `None` without requests.
    pub fn quantile_ms(&self, q: f64) -> Option<f64> {
        self.quantile_us(q).map(|us| us as f64 / 1000.0)
    }

    fn quantile_us(&self, q: f64) -> Option<u64> {
        (!self.counts.is_empty()).then(|| self.counts.value_at_quantile(q).min(self.max))
    }
}

/// What so many parts of the requests stayed within.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(super) struct Quantiles {
    /// How many requests were answered.
    count: u64,
    /// Half of them; null: none were answered.
    p50_us: Option<u64>,
    /// Nine of ten.
    p90_us: Option<u64>,
    /// 99 of a hundred.
    p99_us: Option<u64>,
    /// The slowest answer.
    max_us: Option<u64>,
}

impl Serialize for Histogram {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        let within = |q| self.quantile_us(q);
        Quantiles {
            count: self.counts.len(),
            p50_us: within(0.5),
            p90_us: within(0.9),
            p99_us: within(0.99),
            max_us: within(1.0),
        }
        .serialize(s)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
