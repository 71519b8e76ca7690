//! What is counted, by name: counters and histograms that can be added up.
//!
//! Invariants: nothing here overflows, as an instance may show any number; the counts of a histogram rise with its
//! bounds; histograms with different bounds add up at the bounds that both have, which is exact. What is absent is
//! unknown and not zero. Not here: reading pages (the agent's `scrape`), what grew over restarts (its `tally`), what
//! follows from samples (`engine/analysis`).

use std::{borrow::Cow, collections::BTreeMap, fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use super::ModelError;

/// Most metrics that a spec declares, the requests and the errors among them.
pub const MAX_METRICS: usize = 10;
/// Most bounds of a histogram.
pub const MAX_BOUNDS: usize = 100;
/// A histogram's bounds and sum are whole numbers of so small a part of the metric's own unit: microseconds where it
/// measures seconds.
pub const PARTS: u32 = 1_000_000;

/// The name of a metric, as the spec calls it: 1 to 40 of a-z, 0-9 and `_`, the first a letter.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, derive_more::Display)]
pub struct MetricName(Cow<'static, str>);

impl MetricName {
    /// What came to a version. Every spec with metrics declares them, and the errors among them.
    pub const REQUESTS: Self = Self(Cow::Borrowed("requests"));
    /// Those among the requests that failed.
    pub const ERRORS: Self = Self(Cow::Borrowed("errors"));
    /// What an instance's own health checks say; no page shows it.
    pub const HEALTH: Self = Self(Cow::Borrowed("health"));
}

impl FromStr for MetricName {
    type Err = ModelError;

    fn from_str(s: &str) -> Result<Self, ModelError> {
        let known = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_';
        if s.len() <= 40 && s.bytes().all(known) && s.bytes().next().is_some_and(|b| b.is_ascii_lowercase()) {
            return Ok(Self(Cow::Owned(s.into())));
        }
        let value = s.chars().take(63).collect();
        Err(ModelError::BadValue {
            value,
            expected: "the name of a metric (1 to 40 of a-z, 0-9 and _, such as latency)",
        })
    }
}

/// How often values were at most so large.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Histogram {
    /// Upper bounds, rising, each with how many values were at most that large.
    buckets: Vec<(u64, u64)>,
    /// Of all values.
    sum: u64,
    /// How many values there were.
    count: u64,
}

impl Histogram {
    /// Refuses bounds that do not rise, and too many of them. Counts that fall are raised: nobody has seen fewer below
    /// a higher bound.
    pub fn new(buckets: Vec<(u64, u64)>, sum: u64, count: u64) -> Result<Self, String> {
        if buckets.len() > MAX_BOUNDS {
            return Err(format!("has {} buckets, and at most {MAX_BOUNDS} are counted: give it fewer", buckets.len()));
        }
        if !buckets.is_sorted_by(|a, b| a.0 < b.0) {
            return Err("has bounds that do not rise".into());
        }
        Ok(Self::rising(buckets, sum, count))
    }

    fn rising(mut buckets: Vec<(u64, u64)>, sum: u64, count: u64) -> Self {
        let mut most = 0;
        for (_, n) in &mut buckets {
            most = most.max(*n);
            *n = most;
        }
        Self { buckets, sum, count: count.max(most) }
    }

    /// The bounds, rising, each with how many values were at most that large.
    pub fn buckets(&self) -> &[(u64, u64)] {
        &self.buckets
    }

    /// The sum of all values.
    pub fn sum(&self) -> u64 {
        self.sum
    }

    fn at(&self, bound: u64) -> Option<u64> {
        let found = self.buckets.binary_search_by_key(&bound, |(b, _)| *b).ok()?;
        self.buckets.get(found).map(|(_, n)| *n)
    }

    /// Both together. One without a value has no bounds yet.
    pub fn plus(&self, other: &Self) -> Self {
        if self.count == 0 || other.count == 0 {
            return if self.count == 0 { other.clone() } else { self.clone() };
        }
        let both = |(bound, n): &(u64, u64)| Some((*bound, n.saturating_add(other.at(*bound)?)));
        let (sum, count) = (self.sum.saturating_add(other.sum), self.count.saturating_add(other.count));
        Self::rising(self.buckets.iter().filter_map(both).collect(), sum, count)
    }

    fn minus(&self, base: &Self) -> Self {
        let since = |(bound, n): &(u64, u64)| (*bound, n.saturating_sub(base.at(*bound).unwrap_or(0)));
        let (sum, count) = (self.sum.saturating_sub(base.sum), self.count.saturating_sub(base.count));
        Self::rising(self.buckets.iter().map(since).collect(), sum, count)
    }

    /// Whether it began anew since it was `before`.
    fn anew(&self, before: &Self) -> bool {
        let bounds = |h: &Self| h.buckets.iter().map(|(b, _)| *b).collect::<Vec<_>>();
        let fell = |((_, now), (_, then)): (&(u64, u64), &(u64, u64))| now < then;
        self.count < before.count
            || bounds(self) != bounds(before)
            || self.buckets.iter().zip(&before.buckets).any(fell)
    }

    /// With every second of its bounds, the highest among them.
    fn thinned(&self) -> Self {
        let buckets = self.buckets.iter().rev().step_by(2).rev().copied();
        let buckets = if self.buckets.len() > 1 { buckets.collect() } else { Vec::new() };
        Self { buckets, ..*self }
    }
}

/// What one metric has counted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Sample {
    Counter(u64),
    Histogram(Histogram),
}

impl Sample {
    /// A counter's number, or how many values a histogram has seen.
    pub fn count(&self) -> u64 {
        match self {
            Self::Counter(n) => *n,
            Self::Histogram(h) => h.count,
        }
    }

    /// The histogram, if it is one.
    pub fn histogram(&self) -> Option<&Histogram> {
        match self {
            Self::Counter(_) => None,
            Self::Histogram(h) => Some(h),
        }
    }

    /// Both together. Of a counter and a histogram only the counts add up.
    #[must_use]
    pub fn plus(&self, other: &Self) -> Self {
        match (self, other) {
            (Self::Histogram(a), Self::Histogram(b)) => Self::Histogram(a.plus(b)),
            (a, b) => Self::Counter(a.count().saturating_add(b.count())),
        }
    }

    /// How much of a total came after it was `base`.
    #[must_use]
    pub fn minus(&self, base: &Self) -> Self {
        match (self, base) {
            (Self::Histogram(a), Self::Histogram(b)) => Self::Histogram(a.minus(b)),
            (a, b) => Self::Counter(a.count().saturating_sub(b.count())),
        }
    }

    /// How much it grew since it showed `before`; what fell, or has other bounds, began anew.
    #[must_use]
    pub fn growth(&self, before: &Self) -> Self {
        let anew = match (self, before) {
            (Self::Counter(now), Self::Counter(then)) => now < then,
            (Self::Histogram(now), Self::Histogram(then)) => now.anew(then),
            (Self::Counter(_), Self::Histogram(_)) | (Self::Histogram(_), Self::Counter(_)) => true,
        };
        if anew { self.clone() } else { self.minus(before) }
    }
}

/// What several metrics have counted, by name.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Samples(pub BTreeMap<MetricName, Sample>);

impl Samples {
    /// What a metric counted; `None` when that is not known.
    pub fn count(&self, name: &MetricName) -> Option<u64> {
        self.0.get(name).map(Sample::count)
    }

    /// Adds what others counted.
    pub fn add(&mut self, others: &Self) {
        for (name, sample) in &others.0 {
            let sum = self.0.get(name).map_or_else(|| sample.clone(), |mine| mine.plus(sample));
            self.0.insert(name.clone(), sum);
        }
    }

    /// In the order in which people are told: requests, the errors among them, then the others by name.
    pub fn told(&self) -> impl Iterator<Item = (&MetricName, &Sample)> {
        let first = [MetricName::REQUESTS, MetricName::ERRORS];
        let place = |name: &MetricName| first.iter().position(|n| n == name).unwrap_or(first.len());
        let mut all: Vec<_> = self.0.iter().collect();
        all.sort_by_key(|(name, _)| place(name));
        all.into_iter()
    }

    /// Makes every histogram coarser; whether one still had bounds.
    pub fn thin(&mut self) -> bool {
        let mut thinned = false;
        for sample in self.0.values_mut() {
            if let Sample::Histogram(h) = sample {
                thinned |= !h.buckets.is_empty();
                *h = h.thinned();
            }
        }
        thinned
    }
}

impl FromIterator<(MetricName, Sample)> for Samples {
    fn from_iter<I: IntoIterator<Item = (MetricName, Sample)>>(all: I) -> Self {
        Self(all.into_iter().collect())
    }
}

/// A counter, or a histogram's count: `730 requests`, `730 values of latency`.
impl fmt::Display for Sample {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Counter(n) => write!(f, "{n}"),
            Self::Histogram(h) => write!(f, "{} values of", h.count),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn histogram(buckets: &[(u64, u64)], sum: u64, count: u64) -> Sample {
        Sample::Histogram(Histogram::new(buckets.to_vec(), sum, count).unwrap())
    }

    #[test]
    fn what_grew_is_the_difference_and_all_of_it_where_it_began_anew() {
        let (before, more) = (histogram(&[(10, 3), (20, 5)], 70, 6), histogram(&[(10, 4), (20, 8)], 110, 10));
        assert_eq!(more.growth(&before), histogram(&[(10, 1), (20, 3)], 40, 4));
        let fell = histogram(&[(10, 0), (20, 9)], 150, 12);
        assert_eq!(fell.growth(&before), fell, "one bucket fell, although all together grew");
        let other = histogram(&[(10, 4), (30, 9)], 150, 12);
        assert_eq!(other.growth(&before), other, "it has other bounds");
        assert_eq!(Sample::Counter(9).growth(&Sample::Counter(4)), Sample::Counter(5));
        assert_eq!(Sample::Counter(3).growth(&Sample::Counter(4)), Sample::Counter(3));
        assert_eq!(Sample::Counter(3).growth(&before), Sample::Counter(3));
    }

    #[test]
    fn histograms_add_up_at_the_bounds_that_both_have() {
        let (a, b) = (histogram(&[(10, 3), (20, 5)], 70, 6), histogram(&[(5, 1), (20, 2), (40, 3)], 50, 3));
        assert_eq!(a.plus(&b), histogram(&[(20, 7)], 120, 9));
        assert_eq!(b.plus(&a), a.plus(&b));
        let none = Sample::Histogram(Histogram::default());
        assert_eq!(none.plus(&a), a, "one without a value takes no bounds away");
        assert_eq!(a.plus(&none), a);
        assert_eq!(a.minus(&none), a);
        assert_eq!(a.plus(&b).minus(&a), histogram(&[(20, 2)], 50, 3));
        assert_eq!(a.plus(&Sample::Counter(4)), Sample::Counter(10));
    }

    #[test]
    fn no_number_overflows_and_counts_always_rise() {
        let most = histogram(&[(1, u64::MAX), (2, u64::MAX)], u64::MAX, u64::MAX);
        assert_eq!(most.plus(&most), most);
        let part = histogram(&[(1, 5), (2, 9)], 9, 9);
        let left = most.minus(&part);
        assert!(left.histogram().unwrap().buckets().is_sorted_by(|a, b| a.1 <= b.1), "{left:?}");
        assert_eq!(histogram(&[(1, 7), (2, 3)], 0, 2), histogram(&[(1, 7), (2, 7)], 0, 7), "falling counts are raised");
    }

    #[test]
    fn bounds_and_names_are_limited() {
        let many = |n: u64| Histogram::new((0..n).map(|b| (b, 0)).collect(), 0, 0);
        assert!(many(100).is_ok());
        assert_eq!(many(101).unwrap_err(), "has 101 buckets, and at most 100 are counted: give it fewer");
        assert!(Histogram::new(vec![(2, 0), (2, 0)], 0, 0).unwrap_err().contains("do not rise"));
        assert_eq!("latency_99".parse::<MetricName>().unwrap().to_string(), "latency_99");
        for bad in ["", "9x", "La", "a-b", "_a", &"a".repeat(41)] {
            assert!(bad.parse::<MetricName>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_thinner_histogram_keeps_its_highest_bound_and_what_it_saw() {
        let all = (1..=5).map(|n| (n, n)).collect();
        let mut samples =
            Samples::from_iter([("latency".parse().unwrap(), Sample::Histogram(Histogram::new(all, 9, 5).unwrap()))]);
        let buckets = |s: &Samples| s.0.values().next().unwrap().histogram().unwrap().buckets().to_vec();
        assert!(samples.thin());
        assert_eq!(buckets(&samples), [(1, 1), (3, 3), (5, 5)]);
        while samples.thin() {}
        assert!(buckets(&samples).is_empty());
        assert_eq!(samples.count(&"latency".parse().unwrap()), Some(5));
    }
}
