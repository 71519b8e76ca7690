//! Reading counters and histograms from a metrics page in the Prometheus text format, by the selectors of the spec.
//!
//! All series that a selector chooses are added up; what the page declares as a histogram (`# TYPE name histogram`) is
//! read with its buckets. Invariants: what is not there is not zero, unless the page itself makes it zero: a metric
//! that it names, with the labels that the selector asks for, counts nothing in series that have not appeared yet;
//! errors are a part of the requests, so the two are known together or not at all. Not here: selectors (`model`), what
//! the numbers mean over time (`tally`).

use std::collections::{BTreeMap, BTreeSet};

use crate::model::{Histogram, MetricName, MetricsSource, PARTS, Sample, Selector, selector::quoted};

/// What a page says of one metric.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Said {
    Shows(Sample),
    /// It counts no requests: none were made yet, or the selector is wrong.
    Nothing(String),
    /// It is not known.
    Unknown(String),
}

impl Said {
    /// Why it shows nothing, if it does.
    pub fn why(&self) -> Option<&str> {
        match self {
            Self::Shows(_) => None,
            Self::Nothing(why) | Self::Unknown(why) => Some(why),
        }
    }
}

/// What a page says of each metric that the spec declares.
pub type Reading = BTreeMap<MetricName, Said>;

/// Largest number of one series that is believed: all whole numbers up to it are exact.
const MOST: f64 = 9e15;

/// One line's name, labels and value; `None` for comments and what cannot be read.
fn series(line: &str) -> Option<(&str, BTreeMap<String, String>, f64)> {
    let line = line.trim();
    if line.is_empty() || line.starts_with('#') {
        return None;
    }
    let end = line.find(|c: char| c == '{' || c.is_whitespace())?;
    let (name, mut rest) = line.split_at(end);
    let mut labels = BTreeMap::new();
    if let Some(body) = rest.strip_prefix('{') {
        rest = body.trim_start();
        while !rest.starts_with('}') {
            let (label, after) = rest.split_once('=')?;
            let (value, tail) = quoted(after.trim_start())?;
            labels.insert(label.trim().to_owned(), value);
            rest = tail.trim_start();
            rest = rest.strip_prefix(',').unwrap_or(rest).trim_start();
        }
        rest = rest.get(1..)?;
    }
    // A time stamp may follow the value.
    let value = rest.split_ascii_whitespace().next()?.parse().ok()?;
    Some((name, labels, value))
}

/// The name and type of the metric that a line declares: a page may name a counter that has no series yet.
fn declared(line: &str) -> Option<(&str, &str)> {
    let rest = line.trim().strip_prefix('#')?.trim_start().strip_prefix("TYPE")?;
    let mut words = rest.split_ascii_whitespace();
    Some((words.next()?, words.next().unwrap_or_default()))
}

/// Some series of a metric.
#[derive(Default)]
struct Chosen {
    any: bool,
    /// Whether there are others too.
    series: bool,
    labels: BTreeSet<String>,
}

/// The buckets, sum and count of one series of a histogram.
#[derive(Default)]
struct Part {
    buckets: BTreeMap<u64, u64>,
    below_zero: bool,
    /// The bucket without a bound.
    all: Option<f64>,
    sum: f64,
    count: Option<f64>,
}

/// What a page shows of one selector's metric.
struct Found<'a> {
    selector: &'a Selector,
    /// Whether the metric is on the page at all, and as what it is declared.
    named: bool,
    kind: String,
    plain: Chosen,
    sum: f64,
    divided: Chosen,
    parts: BTreeMap<BTreeMap<String, String>, Part>,
}

fn whole(value: f64) -> u64 {
    value.min(MOST).round() as u64
}

impl Chosen {
    /// Whether a series is one of them.
    fn takes(&mut self, labels: &BTreeMap<String, String>, selector: &Selector, is_number: bool) -> bool {
        self.series = true;
        self.labels.extend(labels.keys().cloned());
        let chosen = is_number && selector.selects(selector.name(), labels);
        self.any |= chosen;
        chosen
    }
}

impl<'a> Found<'a> {
    fn new(selector: &'a Selector) -> Self {
        let (plain, divided) = (Chosen::default(), Chosen::default());
        Self { selector, named: false, kind: String::new(), plain, sum: 0.0, divided, parts: BTreeMap::new() }
    }

    fn declare(&mut self, name: &str, kind: &str) {
        // In OpenMetrics a counter is declared without its ending.
        let ours = self.selector.name();
        if name == ours || ours.strip_suffix("_total") == Some(name) {
            (self.named, self.kind) = (true, kind.into());
        }
    }

    fn take(&mut self, name: &str, labels: &BTreeMap<String, String>, value: f64) {
        let Some(ending) = name.strip_prefix(self.selector.name()) else { return };
        let is_number = value.is_finite() && value >= 0.0;
        match ending {
            "" => {
                self.named = true;
                if self.plain.takes(labels, self.selector, is_number) {
                    self.sum += value;
                }
            }
            "_bucket" | "_sum" | "_count" => self.divide(ending, labels, if is_number { value } else { 0.0 }),
            _ => {}
        }
    }

    fn divide(&mut self, ending: &str, labels: &BTreeMap<String, String>, value: f64) {
        let mut labels = labels.clone();
        let bound = labels.remove("le");
        if !self.divided.takes(&labels, self.selector, true) {
            return;
        }
        let part = self.parts.entry(labels).or_default();
        match (ending, bound.and_then(|b| b.parse::<f64>().ok())) {
            ("_sum", _) => part.sum = value,
            ("_count", _) => part.count = Some(value),
            (_, Some(bound)) if bound == f64::INFINITY => part.all = Some(value),
            (_, Some(bound)) if bound >= 0.0 => {
                let n = part.buckets.entry((bound * f64::from(PARTS)).round() as u64).or_default();
                *n = whole(value).max(*n);
            }
            (_, bound) => part.below_zero |= bound.is_some(),
        }
    }

    fn is_histogram(&self) -> bool {
        self.kind == "histogram"
    }

    fn chosen(&self) -> &Chosen {
        if self.is_histogram() { &self.divided } else { &self.plain }
    }

    /// What is counted; where nothing is chosen, zero if the page makes it so, else what is missing.
    fn sample(&self) -> Result<Sample, String> {
        let (name, chosen) = (self.selector.name(), self.chosen());
        if !self.named {
            return Err(format!("the page has no metric {name}"));
        }
        // A declared metric without series has counted nothing yet.
        let lacks = || self.selector.needs().find(|l| chosen.series && !chosen.labels.contains(*l));
        match (chosen.any, self.is_histogram()) {
            (true, true) => self.histogram().map(Sample::Histogram).map_err(|why| format!("{name} {why}")),
            (true, false) => Ok(Sample::Counter(whole(self.sum))),
            (false, is_histogram) => match lacks() {
                Some(label) => Err(format!("no series of {name} has a label {label:?}")),
                None if is_histogram => Ok(Sample::Histogram(Histogram::default())),
                None => Ok(Sample::Counter(0)),
            },
        }
    }

    fn histogram(&self) -> Result<Histogram, String> {
        let mut all = Histogram::default();
        for part in self.parts.values() {
            if part.below_zero {
                return Err("has a bound below zero, and such histograms are not counted".into());
            }
            let buckets: Vec<(u64, u64)> = part.buckets.iter().map(|(bound, n)| (*bound, *n)).collect();
            let count = part.count.or(part.all).unwrap_or(0.0);
            all = all.plus(&Histogram::new(buckets, (part.sum * f64::from(PARTS)).round() as u64, whole(count))?);
        }
        Ok(all)
    }
}

/// What a page says of the metrics of these selectors. Requests that no series counts are not known, unless the page
/// declares their metric; errors are zero only where the page makes them so (a counter of a code mostly appears with
/// its first use), else not known.
pub fn read(page: &str, selectors: &BTreeMap<MetricName, Selector>) -> Reading {
    let mut found: BTreeMap<&MetricName, Found<'_>> = selectors.iter().map(|(n, s)| (n, Found::new(s))).collect();
    for line in page.lines() {
        if let Some((name, kind)) = declared(line) {
            found.values_mut().for_each(|f| f.declare(name, kind));
        }
        if let Some((name, labels, value)) = series(line) {
            found.values_mut().for_each(|f| f.take(name, &labels, value));
        }
    }
    let mut reading: Reading = found.into_iter().map(|(name, f)| (name.clone(), said(name, &f))).collect();
    let (requests, errors) = (MetricName::REQUESTS, MetricName::ERRORS);
    match (reading.get(&requests).cloned(), reading.get(&errors).cloned()) {
        (Some(nothing @ Said::Nothing(_)), Some(_)) => reading.insert(errors, nothing),
        (Some(Said::Shows(_)), Some(unknown @ Said::Unknown(_))) => reading.insert(requests, unknown),
        (Some(_), Some(_)) | (None, _) | (_, None) => None,
    };
    reading
}

fn said(name: &MetricName, found: &Found<'_>) -> Said {
    let field = MetricsSource::field(name);
    let (is_requests, metric) = (name == &MetricName::REQUESTS, found.selector.name());
    let further = !is_requests && name != &MetricName::ERRORS;
    match found.sample() {
        // Series without a number of requests among them: not a zero that anybody counted.
        Ok(_) if is_requests && !found.chosen().any && found.chosen().series => {
            Said::Nothing(format!("{field}: no series of {metric} is chosen"))
        }
        Ok(_) if further && ["gauge", "summary"].contains(&found.kind.as_str()) => {
            Said::Unknown(format!("{field}: {metric} is a {}, and counters and histograms are counted", found.kind))
        }
        Ok(sample) => Said::Shows(sample),
        Err(why) if is_requests => Said::Nothing(format!("{field}: {why}")),
        Err(why) => Said::Unknown(format!("{field}: {why}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: &str = "# HELP http_requests_total Requests.\n# TYPE http_requests_total counter\n\
        http_requests_total{code=\"200\",path=\"/a \\\"b\\\" }\"} 40\n\
        http_requests_total{code=\"404\"} 2 1700000000000\n\
        http_requests_total{ code=\"500\", } 3\n\
        http_requests_total{code=\"5000\"} 100\n\
        http_requests_totally 7\n\
        up 1\nbroken{ 1\nnan{code=\"500\"} NaN\nbig 1.2e3\n";

    fn named(all: &[(&str, &str)]) -> BTreeMap<MetricName, Selector> {
        all.iter().map(|(name, text)| (name.parse().unwrap(), Selector::parse(text).unwrap())).collect()
    }

    fn both(page: &str, requests: &str, errors: &str) -> (Said, Said) {
        let mut read = read(page, &named(&[("requests", requests), ("errors", errors)]));
        (read.remove(&MetricName::REQUESTS).unwrap(), read.remove(&MetricName::ERRORS).unwrap())
    }

    fn counts(requests: u64, errors: u64) -> (Said, Said) {
        let one = |n| Said::Shows(Sample::Counter(n));
        (one(requests), one(errors))
    }

    fn count(selector: &str) -> Option<u64> {
        match both(PAGE, selector, selector).0 {
            Said::Shows(sample) => Some(sample.count()),
            Said::Nothing(_) | Said::Unknown(_) => None,
        }
    }

    #[test]
    fn series_are_chosen_and_added_up() {
        assert_eq!(count("http_requests_total"), Some(145));
        assert_eq!(count(r#"http_requests_total{code="200"}"#), Some(40));
        assert_eq!(count(r#"http_requests_total{code!="200"}"#), Some(105));
        assert_eq!(count(r#"http_requests_total{code=~"5.."}"#), Some(3), "anchored at both ends");
        assert_eq!(count(r#"http_requests_total{code=~"4..|5.."}"#), Some(5));
        assert_eq!(count(r#"http_requests_total{code!~"5.*", path=""}"#), Some(2));
        assert_eq!(count(r#"http_requests_total{code=~"\\d\\d\\d"}"#), Some(45));
        assert_eq!(count("big"), Some(1200));
        assert_eq!(count("nothing"), None);
        assert_eq!(count("nan"), None);
    }

    #[test]
    fn errors_that_never_happened_are_zero_but_no_requests_are_unknown() {
        let all = "http_requests_total";
        assert_eq!(both(PAGE, all, r#"http_requests_total{code="599"}"#), counts(145, 0));
        assert!(matches!(both("up 1\n", all, all), (Said::Nothing(_), Said::Nothing(_))));
        let none = both(PAGE, r#"http_requests_total{code="299"}"#, all);
        assert!(matches!(none, (Said::Nothing(_), Said::Nothing(_))), "{none:?}");
    }

    #[test]
    fn errors_that_match_no_series_are_unknown_not_zero_and_requests_alone_too() {
        let unknown = |errors: &str| match both(PAGE, "http_requests_total", errors) {
            (Said::Unknown(why), Said::Unknown(same)) if why == same => why,
            other => panic!("{errors}: {other:?}"),
        };
        let why = unknown(r#"http_requests_total{status="500"}"#);
        assert!(why.contains("metrics.errors") && why.contains(r#"a label "status""#), "{why}");
        assert!(unknown(r#"http_requests_total{code=~"5..", status=~"5.."}"#).contains("status"));
        assert!(unknown("http_errors_total").contains("no metric http_errors_total"));
        // An absent label is an empty one, so a negative matcher is true of it.
        assert_eq!(both(PAGE, "http_requests_total", r#"http_requests_total{status!="200"}"#), counts(145, 145));
    }

    #[test]
    fn a_metric_that_is_declared_and_has_no_series_yet_has_counted_nothing() {
        let page = "# TYPE http_requests_total counter\n# TYPE http_errors counter\n";
        assert_eq!(both(page, "http_requests_total", r#"http_requests_total{code=~"5.."}"#), counts(0, 0));
        let page = format!("{page}http_requests_total{{code=\"200\"}} 7\n");
        let as_open_metrics_has_it = both(&page, "http_requests_total", r#"http_errors_total{kind="db"}"#);
        assert_eq!(as_open_metrics_has_it, counts(7, 0));
        assert!(matches!(both(&page, "http_requests_total", "errors_total").1, Said::Unknown(_)));
    }

    const LATENCY: &str = "# TYPE r counter\nr 9\n# TYPE lat_seconds histogram\n\
        lat_seconds_bucket{path=\"/\",le=\"0.005\"} 3\nlat_seconds_bucket{path=\"/\",le=\"0.1\"} 5\n\
        lat_seconds_bucket{path=\"/\",le=\"2.5\"} 6\nlat_seconds_bucket{path=\"/\",le=\"+Inf\"} 7\n\
        lat_seconds_sum{path=\"/\"} 4.25\nlat_seconds_count{path=\"/\"} 7\n\
        lat_seconds_bucket{path=\"/b\",le=\"0.005\"} 1\nlat_seconds_bucket{path=\"/b\",le=\"2.5\"} 2\n\
        lat_seconds_bucket{path=\"/b\",le=\"+Inf\"} 2\nlat_seconds_sum{path=\"/b\"} 0.5\n\
        # TYPE heap gauge\nheap 12\n";

    fn one(page: &str, selector: &str) -> Said {
        let all = named(&[("requests", "r"), ("errors", "r"), ("latency", selector)]);
        let mut read = read(page, &all);
        assert_eq!(read.get(&MetricName::REQUESTS), Some(&Said::Shows(Sample::Counter(9))), "whatever the others are");
        read.remove(&"latency".parse().unwrap()).unwrap()
    }

    #[test]
    fn a_histogram_is_read_with_its_buckets_in_millionths_and_its_series_are_added_up() {
        let shows = |buckets: &[(u64, u64)], sum, count| {
            Said::Shows(Sample::Histogram(Histogram::new(buckets.to_vec(), sum, count).unwrap()))
        };
        let root = shows(&[(5_000, 3), (100_000, 5), (2_500_000, 6)], 4_250_000, 7);
        assert_eq!(one(LATENCY, r#"lat_seconds{path="/"}"#), root);
        assert_eq!(one(LATENCY, "lat_seconds"), shows(&[(5_000, 4), (2_500_000, 8)], 4_750_000, 9), "at common bounds");
        let declared = "r 9\n# TYPE lat_seconds histogram\n";
        assert_eq!(one(declared, r#"lat_seconds{path="/"}"#), shows(&[], 0, 0), "nothing was measured yet");
    }

    #[test]
    fn a_further_metric_that_is_absent_or_no_counter_is_unknown_with_its_field() {
        let unknown = |page: &str, selector: &str| match one(page, selector) {
            Said::Unknown(why) => why,
            other => panic!("{selector}: {other:?}"),
        };
        assert_eq!(unknown(LATENCY, "lat"), "metrics.series.latency: the page has no metric lat");
        assert!(
            unknown(LATENCY, r#"lat_seconds{route="/"}"#).contains("no series of lat_seconds has a label \"route\"")
        );
        assert!(unknown(LATENCY, "heap").contains("heap is a gauge"));
        let below = "r 9\n# TYPE t histogram\nt_bucket{le=\"-1\"} 1\nt_bucket{le=\"+Inf\"} 1\n";
        assert!(unknown(below, "t").contains("t has a bound below zero"));
        let buckets = (0..101).map(|n| format!("t_bucket{{le=\"{n}\"}} 1\n")).collect::<String>();
        let many = format!("r 9\n# TYPE t histogram\n{buckets}");
        assert!(unknown(&many, "t").contains("t has 101 buckets, and at most 100 are counted"));
    }
}
