//! One source file, understood just far enough for the rules: its module path, which tokens are test code, every path
//! it names.
//!
//! Invariant: a path in a nested `use` group is reported in full, so a rule never has to look at braces. Not here: name
//! resolution. A rule that needs to know what a name means refuses renaming instead.

use crate::lex::{Comment, Kind, Token, lex};

/// A path as written: `use a::{b as c, d::*}` gives `a::b` (alias `c`) and `a::d` (glob).
#[derive(Clone, Debug)]
pub struct Path {
    pub segments: Vec<String>,
    pub line: usize,
    pub alias: Option<String>,
    pub glob: bool,
    /// The modules it stands in, from the crate's root: `["model", "tests"]`.
    pub inside: Vec<String>,
    pub test: bool,
}

impl Path {
    /// Whether it begins with these segments.
    pub fn starts(&self, first: &[&str]) -> bool {
        self.segments.len() >= first.len() && self.segments.iter().zip(first).all(|(a, b)| a == b)
    }

    /// Whether it ends with these segments.
    pub fn ends(&self, last: &[&str]) -> bool {
        self.segments.len() >= last.len() && self.segments[self.segments.len() - last.len()..].iter().eq(last)
    }

    /// `a::b::*` as a person would write it.
    pub fn show(&self) -> String {
        self.segments.join("::") + if self.glob { "::*" } else { "" }
    }
}

/// A file with what the rules ask about.
pub struct Source {
    /// Path from the repository's root, with `/`.
    pub name: String,
    pub lines: Vec<String>,
    pub tokens: Vec<Token>,
    /// Beside `tokens`: whether that token is compiled for tests only.
    pub test: Vec<bool>,
    pub comments: Vec<Comment>,
    pub paths: Vec<Path>,
}

impl Source {
    /// Reads a file; `all_test` marks a file that only tests compile.
    pub fn new(name: &str, text: &str, all_test: bool) -> Source {
        let lexed = lex(text);
        let tokens = lexed.tokens;
        let test = if all_test { vec![true; tokens.len()] } else { test_regions(&tokens) };
        let modules = module_at(&tokens, &modules_of(name));
        let paths = paths(&tokens, &test, &modules);
        let lines = text.lines().map(str::to_owned).collect();
        Source { name: name.into(), lines, tokens, test, comments: lexed.comments, paths }
    }

    /// `src/model/spec.rs` -> `model`, `src/clock.rs` -> `clock`, `src/lib.rs`, `src/bin/x.rs` and others -> none.
    pub fn top(&self) -> Option<&str> {
        let rest = self.name.strip_prefix("src/")?;
        let first = rest.split('/').next()?;
        match first.strip_suffix(".rs") {
            Some("lib" | "main") => None,
            Some(file) => Some(file),
            None if first == "bin" => None,
            None => Some(first),
        }
    }

    /// Names of the modules this file declares as `#[cfg(test)] mod x;`, so that their files are test code too.
    pub fn test_modules(&self) -> Vec<String> {
        let t = &self.tokens;
        (0..t.len().saturating_sub(2))
            .filter(|&i| t[i].is("mod") && t[i + 2].is(";") && self.test[i])
            .map(|i| t[i + 1].text.clone())
            .collect()
    }
}

/// Module path of a file: `src/a/b.rs` -> `[a, b]`, `src/a/mod.rs` -> `[a]`.
pub fn modules_of(name: &str) -> Vec<String> {
    let Some(rest) = name.strip_prefix("src/").and_then(|r| r.strip_suffix(".rs")) else { return Vec::new() };
    let mut parts: Vec<String> = rest.split('/').map(str::to_owned).collect();
    if matches!(parts.last().map(String::as_str), Some("mod" | "lib" | "main")) {
        parts.pop();
    }
    parts
}

/// Index of the token after the bracket that `open` opens.
fn close(tokens: &[Token], open: usize) -> usize {
    let mut depth = 0_usize;
    for (i, token) in tokens.iter().enumerate().skip(open) {
        match token.text.as_str() {
            "(" | "[" | "{" if token.kind == Kind::Punct => depth += 1,
            ")" | "]" | "}" if token.kind == Kind::Punct => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return i + 1;
        }
    }
    tokens.len()
}

/// Marks what stands under `#[cfg(test)]` (also `all(test, ..)`; not `any`, which other builds compile too).
fn test_regions(tokens: &[Token]) -> Vec<bool> {
    let mut test = vec![false; tokens.len()];
    let mut i = 0;
    while i + 1 < tokens.len() {
        if tokens[i].is("#") && tokens[i + 1].is("!") && tokens.get(i + 2).is_some_and(|t| t.is("[")) {
            let end = close(tokens, i + 2);
            if is_cfg_test(&tokens[i + 3..end]) {
                return vec![true; tokens.len()];
            }
            i = end;
        } else if tokens[i].is("#") && tokens[i + 1].is("[") {
            let end = close(tokens, i + 1);
            if is_cfg_test(&tokens[i + 2..end]) {
                let stop = item_end(tokens, end);
                test[i..stop].fill(true);
                i = stop;
            } else {
                i = end;
            }
        } else {
            i += 1;
        }
    }
    test
}

fn is_cfg_test(attribute: &[Token]) -> bool {
    let has = |word: &str| attribute.iter().any(|t| t.is(word));
    attribute.first().is_some_and(|t| t.is("cfg")) && has("test") && !has("not") && !has("any")
}

/// Where the item, statement, field or arm that begins at `from` (after its attributes) ends.
fn item_end(tokens: &[Token], from: usize) -> usize {
    let mut i = from;
    while i + 1 < tokens.len() && tokens[i].is("#") && tokens[i + 1].is("[") {
        i = close(tokens, i + 1);
    }
    const ITEM: [&str; 14] = [
        "pub", "mod", "fn", "use", "struct", "enum", "impl", "const", "static", "type", "trait", "async", "unsafe",
        "let",
    ];
    let item = tokens.get(i).is_some_and(|t| ITEM.contains(&t.text.as_str()));
    while i < tokens.len() {
        match tokens[i].text.as_str() {
            "{" => return close(tokens, i),
            "(" | "[" => i = close(tokens, i),
            ";" => return i + 1,
            "," if !item => return i + 1,
            ")" | "]" | "}" => return i,
            _ => i += 1,
        }
    }
    tokens.len()
}

/// For each token the module it stands in, inline modules included.
fn module_at(tokens: &[Token], file: &[String]) -> Vec<Vec<String>> {
    let (mut stack, mut depth): (Vec<(usize, String)>, usize) = (Vec::new(), 0);
    let mut out = Vec::with_capacity(tokens.len());
    for (i, token) in tokens.iter().enumerate() {
        if token.is("{") {
            depth += 1;
            if i >= 2 && tokens[i - 2].is("mod") {
                stack.push((depth, tokens[i - 1].text.clone()));
            }
        } else if token.is("}") {
            if stack.last().is_some_and(|(d, _)| *d == depth) {
                stack.pop();
            }
            depth = depth.saturating_sub(1);
        }
        out.push(file.iter().cloned().chain(stack.iter().map(|(_, name)| name.clone())).collect());
    }
    out
}

struct Reader<'a> {
    tokens: &'a [Token],
    test: &'a [bool],
    modules: &'a [Vec<String>],
    out: Vec<Path>,
}

impl Reader<'_> {
    fn is(&self, i: usize, text: &str) -> bool {
        self.tokens.get(i).is_some_and(|t| t.is(text))
    }

    fn ident(&self, i: usize) -> bool {
        self.tokens.get(i).is_some_and(|t| t.kind == Kind::Ident)
    }

    fn emit(&mut self, at: usize, segments: Vec<String>, alias: Option<String>, glob: bool) {
        let (line, test) = (self.tokens[at].line, self.test[at]);
        self.out.push(Path { segments, line, alias, glob, inside: self.modules[at].clone(), test });
    }

    /// One use tree under `prefix`; gives the index after it.
    fn tree(&mut self, mut i: usize, prefix: &[String]) -> usize {
        let mut path = prefix.to_vec();
        let start = i;
        if self.is(i, "::") {
            i += 1;
        }
        loop {
            if self.is(i, "{") {
                let end = close(self.tokens, i);
                i += 1;
                while i + 1 < end {
                    i = self.tree(i, &path);
                    if self.is(i, ",") {
                        i += 1;
                    }
                }
                return end;
            }
            if self.is(i, "*") {
                self.emit(i, path, None, true);
                return i + 1;
            }
            if !self.ident(i) {
                return i.max(start + 1);
            }
            // `a::{self}` names `a` itself.
            if path.is_empty() || !self.is(i, "self") {
                path.push(self.tokens[i].text.clone());
            }
            i += 1;
            if self.is(i, "::") {
                i += 1;
                continue;
            }
            let mut alias = None;
            if self.is(i, "as") {
                alias = self.tokens.get(i + 1).map(|t| t.text.clone());
                i += 2;
            }
            self.emit(i - 1, path, alias, false);
            return i;
        }
    }
}

/// Every path in the file: imports in full, and each `a::b::c` (or single name) in code.
fn paths(tokens: &[Token], test: &[bool], modules: &[Vec<String>]) -> Vec<Path> {
    let mut r = Reader { tokens, test, modules, out: Vec::new() };
    let mut i = 0;
    while i < tokens.len() {
        if r.is(i, "use") && !r.is(i + 1, "<") {
            i = r.tree(i + 1, &[]);
        } else if r.is(i, "pub") && r.is(i + 1, "(") && (r.is(i + 2, "in") || r.is(i + 3, ")")) {
            i = close(tokens, i + 1);
        } else if r.ident(i) {
            let first = i;
            let mut segments = vec![tokens[i].text.clone()];
            while r.is(i + 1, "::") && r.ident(i + 2) {
                i += 2;
                segments.push(tokens[i].text.clone());
            }
            i += 1;
            r.emit(first, segments, None, false);
        } else {
            i += 1;
        }
    }
    r.out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str) -> Vec<String> {
        Source::new("src/model/x.rs", text, false)
            .paths
            .iter()
            .filter(|p| p.segments.len() > 1)
            .map(Path::show)
            .collect()
    }

    #[test]
    fn nested_use_groups_are_flattened() {
        let text = "use crate::{a::{self, b::C}, d::*, e as f};\npub use ::std::{env, fs::File};";
        assert_eq!(shown(text), ["crate::a", "crate::a::b::C", "crate::d::*", "crate::e", "std::env", "std::fs::File"]);
    }

    #[test]
    fn paths_in_code_are_whole() {
        assert_eq!(
            shown("fn f() -> crate::a::B { super::super::c::d(x::Y::<u8>::z) }"),
            ["crate::a::B", "super::super::c::d", "x::Y",]
        );
        assert!(shown("pub(in crate::model) fn f<'a>() -> impl Sized + use<'a> {}").is_empty());
    }

    #[test]
    fn test_code_is_known() {
        let marked = |text: &str, word: &str| {
            let s = Source::new("src/model/x.rs", text, false);
            let at = s.tokens.iter().position(|t| t.text == word).expect("the word is there");
            s.test[at]
        };
        assert!(marked("#[cfg(test)] mod tests { fn x() { hit } }", "hit"));
        assert!(marked("#[cfg(all(test, unix))]\n#[allow(dead_code)]\nuse a::{hit};", "hit"));
        assert!(marked("#![cfg(test)] fn hit() {}", "hit"));
        assert!(!marked("#[cfg(test)] mod tests {} fn hit() {}", "hit"));
        assert!(!marked("#[cfg(not(test))] fn hit() {}", "hit"));
        assert!(!marked("struct S { #[cfg(test)] a: Vec<u8>, hit: u8 }", "hit"));
        assert!(!marked("#[cfg(any(test, feature = \"x\"))] fn hit() {}", "hit"));
    }

    #[test]
    fn inline_modules_count_in_the_module_path() {
        let s = Source::new("src/a/b.rs", "mod c { fn f() { if x { g } } use super::z; } use super::y;", false);
        let inside = |last: &str| s.paths.iter().find(|p| p.ends(&[last])).expect("named").inside.join("::");
        assert_eq!((inside("z"), inside("y")), ("a::b::c".into(), "a::b".into()));
        assert_eq!(modules_of("src/a/mod.rs"), ["a"]);
        assert_eq!(modules_of("src/lib.rs"), [""; 0]);
    }

    #[test]
    fn test_modules_in_their_own_files_are_found() {
        let s = Source::new("src/a/mod.rs", "mod b; #[cfg(test)] mod tests; #[cfg(test)] mod more;", false);
        assert_eq!(s.test_modules(), ["tests", "more"]);
    }
}
