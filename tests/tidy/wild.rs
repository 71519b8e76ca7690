//! Wildcard arms: a `match` that names variants of one of our enums names them all, so that a new variant asks at each
//! place what it means there.
//!
//! Invariant: only `_` alone is refused. A name that hands the value on (`other => other`), a tuple with `_` in it and
//! a guard are read by the compiler. Not here: enums of crates, and what `matches!` and `if let` leave out.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    lex::{Kind, Token},
    rules::Violation,
    source::Source,
};

/// The names of all enums that are declared under `src/`.
pub fn enums(files: &BTreeMap<String, String>) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for (name, text) in files.iter().filter(|(name, _)| name.starts_with("src/")) {
        let tokens = Source::new(name, text, false).tokens;
        found.extend(
            tokens.windows(2).filter(|w| w[0].is("enum") && w[1].kind == Kind::Ident).map(|w| w[1].text.clone()),
        );
    }
    found
}

/// What a file breaks.
pub fn check(s: &Source, enums: &BTreeSet<String>) -> Vec<Violation> {
    let mut out = Vec::new();
    for (at, _) in s.tokens.iter().enumerate().filter(|(i, t)| t.is("match") && !s.test[*i]) {
        let Some(arms) = arms(&s.tokens, at) else { continue };
        let own = arms.iter().find_map(|(pattern, _)| names(pattern, enums));
        // A guarded arm is never the last word.
        let wild = arms.iter().find(|(p, guarded)| !guarded && matches!(p, [one] if one.is("_")));
        if let (Some(own), Some(([one], _))) = (own, wild) {
            let message =
                format!("`_` in a match over `{own}`: name the variants, so that a new one is asked for here");
            out.push(Violation { file: s.name.clone(), line: one.line, rule: "wildcard", message });
        }
    }
    out
}

/// One of our enums that a pattern names a variant of.
fn names(pattern: &[Token], enums: &BTreeSet<String>) -> Option<String> {
    let path = |w: &&[Token]| w[1].is(":") && w[2].is(":") || w[1].is("::");
    let named = pattern.windows(3).filter(path).map(|w| &w[0].text);
    named.filter(|name| *name == "Self" || enums.contains(*name)).map(Clone::clone).next()
}

/// The patterns of the `match` at this token without their guards, and whether they have one.
fn arms(t: &[Token], at: usize) -> Option<Vec<(&[Token], bool)>> {
    let open = |x: &Token| x.is("(") || x.is("[") || x.is("{");
    let close = |x: &Token| x.is(")") || x.is("]") || x.is("}");
    // The body begins at the first brace that stands in no parenthesis.
    let (mut i, mut depth) = (at + 1, 0_usize);
    while !(depth == 0 && t.get(i)?.is("{")) {
        depth = if open(&t[i]) { depth + 1 } else { depth.checked_sub(usize::from(close(&t[i])))? };
        i += 1;
    }
    let skip = |mut i: usize| {
        let mut depth = 0_usize;
        loop {
            let x = t.get(i)?;
            depth = if open(x) { depth + 1 } else { depth - usize::from(close(x)) };
            i += 1;
            if depth == 0 {
                return Some(i);
            }
        }
    };
    let arrow = |i: usize| t[i].is("=>") || t[i].is("=") && t.get(i + 1).is_some_and(|x| x.is(">"));
    let mut found = Vec::new();
    i += 1;
    while !t.get(i)?.is("}") {
        let from = i;
        let mut guard = None;
        while !arrow(i) {
            if t[i].is("if") && guard.is_none() {
                guard = Some(i);
            }
            i = if open(&t[i]) { skip(i)? } else { i + 1 };
            t.get(i)?;
        }
        found.push((&t[from..guard.unwrap_or(i)], guard.is_some()));
        i += if t[i].is("=>") { 1 } else { 2 };
        if t.get(i)?.is("{") {
            i = skip(i)?;
            // `{ .. }.method()` goes on.
            while !t.get(i)?.is("}") && !t[i].is(",") && t[i].is(".") {
                i += 1;
                while !t.get(i)?.is(",") && !t[i].is("}") && !t[i].is(".") {
                    i = if open(&t[i]) { skip(i)? } else { i + 1 };
                }
            }
        } else {
            while !t.get(i)?.is(",") && !t[i].is("}") {
                i = if open(&t[i]) { skip(i)? } else { i + 1 };
            }
        }
        if t.get(i)?.is(",") {
            i += 1;
        }
    }
    Some(found)
}
