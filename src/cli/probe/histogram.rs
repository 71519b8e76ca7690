//! Latencies: exact to add up, and each within one part in a hundred.

use serde::Serialize;

/// Counts of microseconds. Serializes as its quantiles in milliseconds.
#[derive(Debug, Clone, PartialEq)]
pub struct Histogram(hdrhistogram::Histogram<u64>);

impl Default for Histogram {
    fn default() -> Self {
        // Of 1 to 5 digits, which is all that it may be refused for.
        Self(hdrhistogram::Histogram::new(2).unwrap_or_else(|_| unreachable!("two digits are kept")))
    }
}

impl Histogram {
    /// Counts one latency.
    pub fn record(&mut self, us: u64) {
        // It grows to hold whatever comes.
        let _ = self.0.record(us);
    }

    /// Adds another one's counts.
    pub fn merge(&mut self, other: &Self) {
        let _ = self.0.add(&other.0);
    }

    /// Latency in milliseconds that `q` (0 to 1) of the requests stayed within; `None` without requests.
    pub fn quantile_ms(&self, q: f64) -> Option<f64> {
        (!self.0.is_empty()).then(|| self.0.value_at_quantile(q).min(self.0.max()) as f64 / 1000.0)
    }
}

impl Serialize for Histogram {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        use serde::ser::SerializeMap;
        let mut map = s.serialize_map(Some(5))?;
        map.serialize_entry("count", &self.0.len())?;
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
