//! Doc comments: there where something has to be said, and saying it.
//!
//! Invariants: an item that others may call has one; none only repeats the name that stands below it. A field, a
//! variant and an error whose message says everything need none, so the compiler's `missing_docs` is off. Not here:
//! whether a sentence is a good one.

use crate::rules::Report;
use crate::source::Source;

/// What may be left undocumented: its parts are help texts, or it is a program.
const WITHOUT: [&str; 2] = ["src/cli/", "src/bin/"];

/// Words that say nothing by themselves.
const EMPTY: &str = " a an the of in on at to for its it is are was be which what who whom how when where why with by and or all one this \
                     that these those from as has have had if any each s their them they other ";

pub fn check(s: &Source, r: &mut Report) {
    let test = |line: usize| s.tokens.iter().position(|t| t.line >= line).is_some_and(|n| s.test[n]);
    for (n, line) in s.lines.iter().enumerate() {
        let code = line.trim();
        if item(code) && !WITHOUT.iter().any(|w| s.name.starts_with(w)) && !documented(s, n) && !test(n + 1) {
            r.add(
                "documented",
                n + 1,
                format!("`{code}` has no doc comment: say what it means, its units, its errors"),
            );
        }
        let Some(said) = code.strip_prefix("/// ") else { continue };
        let alone = !n.checked_sub(1).is_some_and(|up| s.lines[up].trim().starts_with("///"));
        let below = s.lines.get(n + 1).map_or("", |l| l.trim());
        if alone && echoes(said, below) {
            r.add("echo", n + 1, format!("\"{said}\" says no more than `{below}`: say more, or leave it out"));
        }
    }
}

/// Whether a line begins an item that others may use.
fn item(code: &str) -> bool {
    let Some(rest) = code.strip_prefix("pub ") else { return false };
    let mut words = rest.split([' ', '<', '(']).skip_while(|w| ["const", "async", "unsafe"].contains(w)).peekable();
    let constant = rest.starts_with("const ") && !["fn", "unsafe"].contains(words.peek().unwrap_or(&""));
    let named = |w: &&str| ["fn", "struct", "enum", "trait", "type", "static"].contains(w);
    let makes = [" fn new(", " fn of("].iter().any(|f| code.contains(f));
    (constant || words.peek().is_some_and(named)) && !makes
}

/// Whether a doc comment stands above, with nothing but attributes between.
fn documented(s: &Source, at: usize) -> bool {
    let above = s.lines[..at].iter().rev().map(|l| l.trim());
    let mut inside = false;
    for line in above {
        match line {
            l if l.starts_with("///") || l.contains("#[doc") || l.contains("#[$") => return true,
            l if l.ends_with(")]") && !l.contains("#[") => inside = true,
            l if l.starts_with("#[") || l.starts_with("$(#[") => inside = false,
            l if inside || l.starts_with("//") => {}
            _ => return false,
        }
    }
    false
}

/// Whether a comment has no word that the field or variant below it does not have.
fn echoes(said: &str, below: &str) -> bool {
    let field = below.trim_start_matches(|c: char| c.is_ascii_digit() || c == ' ').trim_start_matches("[required] ");
    let field = field.trim_start_matches("pub ");
    let ends = field.find(|c: char| !(c.is_alphanumeric() || c == '_')).unwrap_or(field.len());
    let (name, rest) = field.split_at(ends);
    let is_field = rest.starts_with(": ") && name.starts_with(|c: char| c.is_lowercase());
    let is_variant = name.starts_with(|c: char| c.is_uppercase())
        && (rest.is_empty() || rest.starts_with([',', '(']) || rest.starts_with(" {") || rest.starts_with(" ="));
    if !is_field && !is_variant || below.contains("-> ") {
        return false;
    }
    let has: Vec<String> = words(&format!("{name} {}", if is_field { rest } else { "" }));
    words(said).iter().all(|w| has.contains(w))
}

/// Words that say something, in lower case and without their endings.
fn words(text: &str) -> Vec<String> {
    let mut apart = String::new();
    for c in text.chars() {
        if c.is_uppercase() {
            apart.push(' ');
        }
        apart.extend(c.to_lowercase());
    }
    let all =
        apart.split(|c: char| !c.is_alphanumeric()).filter(|w| !w.is_empty() && !EMPTY.contains(&format!(" {w} ")));
    let stem = |w: &str| {
        let ends = ["ing", "ed", "es", "s"].into_iter().find(|e| w.len() > e.len() + 2 && w.ends_with(e));
        w[..w.len() - ends.map_or(0, str::len)].to_owned()
    };
    all.map(stem).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_repeats_the_name_is_told_from_what_says_more() {
        for (said, below) in [
            ("The name.", "pub name: Name,"),
            ("Which node.", "1 pub node: NodeId,"),
            ("Why.", "source: io::Error,"),
            ("Draining.", "Draining,"),
            ("Its ports.", "4 [required] pub ports: Ports,"),
        ] {
            assert!(echoes(said, below), "{said} {below}");
        }
        for (said, below) in [
            ("Weights, rising.", "2 pub steps: Vec<BasisPoints>,"),
            ("In milliseconds.", "pub delay: u64,"),
            ("The name.", "pub fn name(&self) -> &str {"),
            ("It was stopped by a person.", "Aborted,"),
        ] {
            assert!(!echoes(said, below), "{said} {below}");
        }
    }

    #[test]
    fn an_item_is_told_from_fields_and_from_what_only_this_crate_sees() {
        for code in
            ["pub fn f() {", "pub const fn g() {", "pub const A: u8 = 1;", "pub struct S;", "pub async fn h() {"]
        {
            assert!(item(code), "{code}");
        }
        for code in
            ["pub name: Name,", "pub(crate) fn f() {", "fn f() {", "pub use a::b;", "pub mod x;", "pub fn new() -> S {"]
        {
            assert!(!item(code), "{code}");
        }
    }
}
