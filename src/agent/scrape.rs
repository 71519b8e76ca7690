//! Reads counters from a metrics page in the Prometheus text format, by the selectors of the spec, and adds up all
//! series that a selector chooses.
//!
//! Invariant: a counter that is not there is not zero, with one exception: a metric that the page declares, with the
//! labels that the selector asks for, counts zero in series that have not appeared yet. Not here: selectors (`model`),
//! what the counters mean over time (`tally`).

use std::collections::{BTreeMap, BTreeSet};

use super::tally::Counts;
use crate::model::{Selector, selector::quoted};

/// What a page says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reading {
    /// Both counters.
    Counts(Counts),
    /// It counts no requests: none were made yet, or the selector is wrong.
    NoRequests(String),
    /// Requests are counted, but how many of them failed is not known.
    ErrorsUnknown(String),
}

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

/// The name of the metric that a line declares: a page may name a counter that has no series yet.
fn declared(line: &str) -> Option<&str> {
    let rest = line.trim().strip_prefix('#')?.trim_start().strip_prefix("TYPE")?;
    rest.split_ascii_whitespace().next()
}

/// What a page shows of one selector's metric.
struct Found<'a> {
    selector: &'a Selector,
    chosen: bool,
    sum: f64,
    /// Whether the metric is on the page at all, and with which labels.
    named: bool,
    series: bool,
    labels: BTreeSet<String>,
}

impl<'a> Found<'a> {
    fn new(selector: &'a Selector) -> Self {
        Self { selector, chosen: false, sum: 0.0, named: false, series: false, labels: BTreeSet::new() }
    }

    fn declare(&mut self, name: &str) {
        // In OpenMetrics a counter is declared without its ending.
        let ours = self.selector.name();
        self.named |= name == ours || ours.strip_suffix("_total") == Some(name);
    }

    fn take(&mut self, name: &str, labels: &BTreeMap<String, String>, value: f64) {
        if name != self.selector.name() {
            return;
        }
        self.named = true;
        self.series = true;
        self.labels.extend(labels.keys().cloned());
        if value.is_finite() && value >= 0.0 && self.selector.selects(name, labels) {
            self.chosen = true;
            self.sum += value;
        }
    }

    /// The sum; where nothing is chosen, zero if the page makes it so, else what is missing.
    fn count(&self) -> Result<u64, String> {
        if self.chosen {
            return Ok(self.sum.min(9e15).round() as u64);
        }
        let name = self.selector.name();
        if !self.named {
            return Err(format!("the page has no metric {name}"));
        }
        // A declared metric without series has counted nothing yet.
        if let Some(label) = self.selector.needs().find(|l| self.series && !self.labels.contains(*l)) {
            return Err(format!("no series of {name} has a label {label:?}"));
        }
        Ok(0)
    }
}

/// The two counters of a page. Requests that no series counts are not known, unless the page declares their metric; errors are zero only
/// where the page makes them so (a counter of a code mostly appears with its first use), else not known.
pub fn read(page: &str, requests: &Selector, errors: &Selector) -> Reading {
    let (mut asked, mut failed) = (Found::new(requests), Found::new(errors));
    for line in page.lines() {
        if let Some(name) = declared(line) {
            asked.declare(name);
            failed.declare(name);
        }
        if let Some((name, labels, value)) = series(line) {
            asked.take(name, &labels, value);
            failed.take(name, &labels, value);
        }
    }
    let requests = match asked.count() {
        // Series without a number of requests among them: not a zero that anybody counted.
        Ok(0) if !asked.chosen && asked.series => {
            return Reading::NoRequests(format!("metrics.requests: no series of {} is chosen", requests.name()));
        }
        Ok(n) => n,
        Err(why) => return Reading::NoRequests(format!("metrics.requests: {why}")),
    };
    match failed.count() {
        Ok(errors) => Reading::Counts(Counts { requests, errors }),
        Err(why) => Reading::ErrorsUnknown(format!("metrics.errors: {why}")),
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

    fn count(selector: &str) -> Option<u64> {
        let s = Selector::parse(selector).unwrap();
        match read(PAGE, &s, &s) {
            Reading::Counts(c) => Some(c.requests),
            Reading::NoRequests(_) | Reading::ErrorsUnknown(_) => None,
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

    fn both(page: &str, requests: &str, errors: &str) -> Reading {
        read(page, &Selector::parse(requests).unwrap(), &Selector::parse(errors).unwrap())
    }

    #[test]
    fn errors_that_never_happened_are_zero_but_no_requests_are_unknown() {
        let all = "http_requests_total";
        let never = both(PAGE, all, r#"http_requests_total{code="599"}"#);
        assert_eq!(never, Reading::Counts(Counts { requests: 145, errors: 0 }));
        assert!(matches!(both("up 1\n", all, all), Reading::NoRequests(_)));
        let none = both(PAGE, r#"http_requests_total{code="299"}"#, all);
        assert!(matches!(none, Reading::NoRequests(_)), "{none:?}");
    }

    #[test]
    fn errors_that_match_no_series_are_unknown_not_zero() {
        let unknown = |errors: &str| match both(PAGE, "http_requests_total", errors) {
            Reading::ErrorsUnknown(why) => why,
            other => panic!("{errors}: {other:?}"),
        };
        let why = unknown(r#"http_requests_total{status="500"}"#);
        assert!(why.contains("metrics.errors") && why.contains(r#"a label "status""#), "{why}");
        assert!(unknown(r#"http_requests_total{code=~"5..", status=~"5.."}"#).contains("status"));
        assert!(unknown("http_errors_total").contains("no metric http_errors_total"));
        // An absent label is an empty one, so a negative matcher is true of it.
        let all = both(PAGE, "http_requests_total", r#"http_requests_total{status!="200"}"#);
        assert_eq!(all, Reading::Counts(Counts { requests: 145, errors: 145 }));
    }

    #[test]
    fn a_metric_that_is_declared_and_has_no_series_yet_has_counted_nothing() {
        let page = "# TYPE http_requests_total counter\n# TYPE http_errors counter\n";
        let zero = Reading::Counts(Counts { requests: 0, errors: 0 });
        assert_eq!(both(page, "http_requests_total", r#"http_requests_total{code=~"5.."}"#), zero);
        let page = format!("{page}http_requests_total{{code=\"200\"}} 7\n");
        let seven = Reading::Counts(Counts { requests: 7, errors: 0 });
        assert_eq!(
            both(&page, "http_requests_total", r#"http_errors_total{kind="db"}"#),
            seven,
            "as OpenMetrics has it"
        );
        assert!(matches!(both(&page, "http_requests_total", "errors_total"), Reading::ErrorsUnknown(_)));
    }
}
