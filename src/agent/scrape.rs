//! Reading counters from a metrics page in the Prometheus text format, chosen by name and label matchers.
//!
//! A selector is `name` or `name{label="value", ...}` with the operators `=`, `!=`, `=~` and `!~`; regular expressions match whole
//! values. All series that match are added up. Not here: what the counters mean over time (`tally`).

use std::{collections::BTreeMap, fmt};

use regex_automata::{
    Anchored, Input,
    dfa::{Automaton, dense},
    util::syntax,
};

use super::tally::Counts;

/// Memory that one regular expression may take.
const MAX_REGEX: usize = 1 << 20;

/// Chooses series.
pub struct Selector {
    name: String,
    matchers: Vec<(String, Matcher)>,
}

enum Matcher {
    Is(String),
    IsNot(String),
    Like(Box<dense::DFA<Vec<u32>>>),
    Unlike(Box<dense::DFA<Vec<u32>>>),
}

impl fmt::Debug for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{{{} matchers}}", self.name, self.matchers.len())
    }
}

fn whole(pattern: &str) -> Result<Box<dense::DFA<Vec<u32>>>, String> {
    dense::Builder::new()
        .syntax(syntax::Config::new().unicode(false).utf8(false))
        .configure(
            dense::Config::new()
                .start_kind(regex_automata::dfa::StartKind::Anchored)
                .dfa_size_limit(Some(MAX_REGEX))
                .determinize_size_limit(Some(MAX_REGEX)),
        )
        .build(&format!("(?:{pattern})\\z"))
        .map(Box::new)
        .map_err(|e| format!("regular expression {pattern:?}: {e}"))
}

fn matches(dfa: &dense::DFA<Vec<u32>>, value: &str) -> bool {
    dfa.try_search_fwd(&Input::new(value).anchored(Anchored::Yes)).is_ok_and(|m| m.is_some())
}

fn is_name(text: &str) -> bool {
    let mut chars = text.chars();
    chars.next().is_some_and(|c| c.is_ascii_alphabetic() || c == '_' || c == ':')
        && chars.all(|c| c.is_ascii_alphanumeric() || c == '_' || c == ':')
}

impl Selector {
    /// Reads a selector; the error says what is wrong.
    pub fn parse(text: &str) -> Result<Self, String> {
        let text = text.trim();
        let (name, rest) = match text.split_once('{') {
            None => (text, ""),
            Some((name, rest)) => {
                (name.trim(), rest.trim_end().strip_suffix('}').ok_or_else(|| format!("{text:?} lacks its '}}'"))?)
            }
        };
        if !is_name(name) {
            return Err(format!("{name:?} is not the name of a metric"));
        }
        let mut matchers = Vec::new();
        let mut rest = rest.trim_start();
        while !rest.is_empty() {
            let end = rest.find(['=', '!']).ok_or_else(|| format!("{rest:?}: write label=\"value\""))?;
            let (label, after) = rest.split_at(end);
            let label = label.trim();
            let ops = ["=~", "!~", "!=", "="];
            let op = ops
                .into_iter()
                .find(|op| after.starts_with(op))
                .ok_or_else(|| format!("{after:?}: use =, !=, =~ or !~"))?;
            let after = after.get(op.len()..).unwrap_or_default().trim_start();
            let (value, tail) = quoted(after).ok_or_else(|| format!("{after:?}: write the value in double quotes"))?;
            let matcher = match op {
                "=~" => Matcher::Like(whole(&value)?),
                "!~" => Matcher::Unlike(whole(&value)?),
                "!=" => Matcher::IsNot(value),
                _ => Matcher::Is(value),
            };
            if !is_name(label) {
                return Err(format!("{label:?} is not the name of a label"));
            }
            matchers.push((label.to_owned(), matcher));
            let tail = tail.trim_start();
            rest = match tail.strip_prefix(',') {
                Some(tail) => tail.trim_start(),
                None if tail.is_empty() => tail,
                None => return Err(format!("{tail:?}: write a comma between labels")),
            };
        }
        Ok(Self { name: name.into(), matchers })
    }

    fn selects(&self, name: &str, labels: &BTreeMap<String, String>) -> bool {
        // A label that is absent is an empty one, as Prometheus has it.
        let value = |label: &str| labels.get(label).map_or("", String::as_str);
        name == self.name
            && self.matchers.iter().all(|(label, matcher)| match matcher {
                Matcher::Is(wanted) => value(label) == wanted,
                Matcher::IsNot(other) => value(label) != other,
                Matcher::Like(dfa) => matches(dfa, value(label)),
                Matcher::Unlike(dfa) => !matches(dfa, value(label)),
            })
    }
}

/// A quoted string at the front, unescaped, and what follows it.
fn quoted(text: &str) -> Option<(String, &str)> {
    let body = text.strip_prefix('"')?;
    let mut out = String::new();
    let mut chars = body.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return Some((out, body.get(at + 1..)?)),
            '\\' => match chars.next()?.1 {
                'n' => out.push('\n'),
                c @ ('"' | '\\') => out.push(c),
                // Anything else is left as it is: backslashes belong to regular expressions.
                c => out.extend(['\\', c]),
            },
            c => out.push(c),
        }
    }
    None
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

/// The two counters of a page. A page without a single series of requests has no counts: nothing is not zero. Errors without
/// requests' series are zero when requests are there: a counter of a code appears with its first use.
pub fn read(page: &str, requests: &Selector, errors: &Selector) -> Option<Counts> {
    let (mut found, mut sums) = (false, (0.0_f64, 0.0_f64));
    for (name, labels, value) in page.lines().filter_map(series) {
        if !value.is_finite() || value < 0.0 {
            continue;
        }
        if requests.selects(name, &labels) {
            found = true;
            sums.0 += value;
        }
        if errors.selects(name, &labels) {
            sums.1 += value;
        }
    }
    let whole = |v: f64| v.min(9e15).round() as u64;
    found.then(|| Counts { requests: whole(sums.0), errors: whole(sums.1) })
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
        read(PAGE, &s, &s).map(|c| c.requests)
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
        let s = |t| Selector::parse(t).unwrap();
        let (requests, errors) = (s("http_requests_total"), s(r#"http_requests_total{code="599"}"#));
        assert_eq!(read(PAGE, &requests, &errors), Some(Counts { requests: 145, errors: 0 }));
        assert_eq!(read("up 1\n", &requests, &errors), None);
    }

    #[test]
    fn bad_selectors_are_refused() {
        for bad in
            ["", "9x", "a{", r#"a{b}"#, r#"a{b=c}"#, r#"a{b=~"("}"#, r#"a{b="c" d="e"}"#, r#"a{b=~"(x{1000}){1000}"}"#]
        {
            assert!(Selector::parse(bad).is_err(), "{bad}");
        }
    }
}
