//! Which series of a metrics page are meant: `name` or `name{label="value", ...}` with the operators `=`, `!=`, `=~`
//! and `!~`.
//!
//! Regular expressions match whole values, as Prometheus has it. One parser for the spec and the agent: what `apply`
//! took, every worker can read. Not here: the page and its numbers (the agent's `scrape`), what the counters mean over
//! time (its `tally`).

use std::collections::BTreeMap;

use regex_automata::{
    Anchored, Input,
    dfa::{Automaton, dense},
    util::syntax,
};

/// Memory that one regular expression may take.
const MAX_REGEX: usize = 1 << 20;
/// What to write instead.
const WRITE: &str = "write one series, such as http_requests_total{code=~\"5..\"}";

/// Chooses series.
#[derive(derive_more::Debug)]
#[debug("{name}{{{} matchers}}", matchers.len())]
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

/// Whether something stands outside of quotes and braces that belongs to a query language.
fn is_expression(text: &str) -> bool {
    let (mut quoted, mut braces) = (false, false);
    text.chars().any(|c| {
        match c {
            '"' => quoted = !quoted,
            '{' | '}' if !quoted => braces = c == '{',
            _ => {}
        }
        !quoted && !braces && "()[]/*+".contains(c)
    })
}

impl Selector {
    /// Reads a selector; the error says what is wrong.
    pub fn parse(text: &str) -> Result<Self, String> {
        let text = text.trim();
        if is_expression(text) {
            return Err(format!("{text:?} is an expression: {WRITE}; counters are read as they are, and added up"));
        }
        let (name, rest) = match text.split_once('{') {
            None => (text, ""),
            Some((name, rest)) => {
                (name.trim(), rest.trim_end().strip_suffix('}').ok_or_else(|| format!("{text:?} lacks its '}}'"))?)
            }
        };
        if !is_name(name) {
            return Err(format!("{name:?} is not the name of a metric: {WRITE}"));
        }
        let mut matchers = Vec::new();
        let mut rest = rest.trim_start();
        while !rest.is_empty() {
            let end = rest
                .find(['=', '!'])
                .ok_or_else(|| format!("{rest:?}: write label=\"value\", several joined by commas"))?;
            let (label, after) = rest.split_at(end);
            let label = label.trim();
            let ops = ["=~", "!~", "!=", "="];
            let op = ops
                .into_iter()
                .find(|op| after.starts_with(op))
                .ok_or_else(|| format!("{after:?}: use =, !=, =~ or !~"))?;
            let after = after.get(op.len()..).unwrap_or_default().trim_start();
            let (value, tail) = quoted(after).ok_or_else(|| {
                let bare: String = after.chars().take_while(|c| *c != ',').filter(|c| !"\"'".contains(*c)).collect();
                format!("{after:?}: write the value in double quotes: {label}{op}\"{bare}\"")
            })?;
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

    /// The metric's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Labels that a series must have to be chosen.
    pub fn needs(&self) -> impl Iterator<Item = &str> {
        let positive = |m: &Matcher| match m {
            Matcher::Is(wanted) => !wanted.is_empty(),
            Matcher::Like(dfa) => !matches(dfa, ""),
            Matcher::IsNot(_) | Matcher::Unlike(_) => false,
        };
        self.matchers.iter().filter(move |(_, m)| positive(m)).map(|(label, _)| label.as_str())
    }

    /// Whether it chooses a series.
    pub fn selects(&self, name: &str, labels: &BTreeMap<String, String>) -> bool {
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
pub fn quoted(text: &str) -> Option<(String, &str)> {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bad_selectors_are_refused() {
        for bad in
            ["", "9x", "a{", r#"a{b}"#, r#"a{b=c}"#, r#"a{b=~"("}"#, r#"a{b="c" d="e"}"#, r#"a{b=~"(x{1000}){1000}"}"#]
        {
            assert!(Selector::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn what_people_write_instead_is_refused_with_what_to_write() {
        let said = |text| Selector::parse(text).unwrap_err();
        assert!(said("http_requests_total{code=~5..}").contains(r#"code=~"5..""#), "{}", said("a{code=~5..}"));
        assert!(said("a{code='500'}").contains(r#"code="500""#), "{}", said("a{code='500'}"));
        for expression in [
            "sum(rate(http_requests_total[1m]))",
            r#"sum(rate(a{code=~"5.."}[1m]))"#,
            "rate(a[5m])",
            "a / b",
            r#"a{b="c"}[5m]"#,
        ] {
            let said = said(expression);
            assert!(said.contains("is an expression") && said.contains("http_requests_total{"), "{said}");
        }
        assert!(said("http-requests").contains("is not the name of a metric"));
    }

    #[test]
    fn only_positive_matchers_need_their_label() {
        let s = Selector::parse(r#"a{code=~"5..", host!="x", zone=~"|a", path="", verb!~"GET", kind="web"}"#).unwrap();
        assert_eq!(s.needs().collect::<Vec<_>>(), ["code", "kind"]);
        assert_eq!(s.name(), "a");
    }
}
