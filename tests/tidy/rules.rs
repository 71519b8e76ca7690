//! The rules. Each takes a `Source` and says what it breaks, where, and what to do instead.
//!
//! A rule looks at code as written; where a renaming could hide something from it, the renaming itself is refused. Not
//! here: what the compiler or clippy already holds (unwrap, dead code).

use std::collections::BTreeSet;

use crate::lex::Kind;
use crate::source::Source;
use crate::table::{OWNED, PURE, TABLE, row};

/// The longest a file may get.
pub const MAX_LINES: usize = 500;

/// Something a file breaks.
#[derive(Clone, Debug)]
pub struct Violation {
    pub file: String,
    pub line: usize,
    pub rule: &'static str,
    pub message: String,
}

pub struct Report<'a> {
    file: &'a str,
    out: Vec<Violation>,
}

impl Report<'_> {
    pub fn add(&mut self, rule: &'static str, line: usize, message: impl Into<String>) {
        self.out.push(Violation { file: self.file.into(), line, rule, message: message.into() });
    }
}

/// All rules on one file.
pub fn check(source: &Source) -> Vec<Violation> {
    let mut report = Report { file: &source.name, out: Vec::new() };
    let r = &mut report;
    size(source, r);
    header(source, r);
    unfinished(source, r);
    unsafe_code(source, r);
    width(source, r);
    if source.name.starts_with("src/") {
        hidden_modules(source, r);
        imports(source, r);
        crate::rooms::check(source, r);
        crate::docs::check(source, r);
        owned_crates(source, r);
        purity(source, r);
        floats(source, r);
        time(source, r);
        environment(source, r);
        console(source, r);
        if source.name == "src/lib.rs" {
            map_only(source, r);
        }
    }
    report.out.sort_by_key(|v| v.line);
    report.out.dedup_by_key(|v| (v.rule, v.line, v.message.clone()));
    report.out
}

fn size(s: &Source, r: &mut Report) {
    if s.lines.len() > MAX_LINES {
        r.add(
            "size",
            MAX_LINES + 1,
            format!("{} lines; {MAX_LINES} is the most: split the file by what its parts do", s.lines.len()),
        );
    }
}

fn header(s: &Source, r: &mut Report) {
    let first = s.lines.iter().find(|l| !l.trim().is_empty()).map_or("", |l| l.trim());
    if first.strip_prefix("//!").is_none_or(|text| text.trim().is_empty()) {
        r.add("header", 1, "no `//!` header: begin with purpose, invariants and what is deliberately not here");
    }
}

fn unfinished(s: &Source, r: &mut Report) {
    let t = &s.tokens;
    for i in 0..t.len() {
        let next = |n: usize, text: &str| t.get(i + n).is_some_and(|x| x.is(text));
        if t[i].kind == Kind::Ident && ["todo", "unimplemented", "dbg"].contains(&t[i].text.as_str()) && next(1, "!") {
            r.add("unfinished", t[i].line, format!("`{}!`: finish it or leave it out", t[i].text));
        }
        if t[i].is("#") && next(1, "[") && (next(2, "ignore") || next(2, "cfg_attr")) {
            let inside = t[i + 2..].iter().take_while(|x| !x.is("]"));
            if inside.clone().any(|x| x.is("ignore")) {
                r.add(
                    "unfinished",
                    t[i].line,
                    "`#[ignore]`: a test that cannot run says so with `support::skip`, or is not there",
                );
            }
        }
    }
    for c in &s.comments {
        if c.text.split(|x: char| !x.is_alphanumeric()).any(|w| w == "TODO" || w == "FIXME" || w == "XXX") {
            r.add(
                "unfinished",
                c.first,
                "a note of unfinished work: finish it, or open an issue and describe the limit",
            );
        }
    }
}

fn unsafe_code(s: &Source, r: &mut Report) {
    for token in s.tokens.iter().filter(|t| t.is("unsafe")) {
        if !safety_above(s, token.line) {
            r.add("unsafe", token.line, "`unsafe` without a `// SAFETY:` comment just above that says why it holds");
        }
    }
}

/// The widest a line of comment may get; code is rustfmt's.
pub const WIDTH: usize = 120;

/// Lines that are a comment, rows of tables excepted. A line of a string that looks like one is no comment.
fn width(s: &Source, r: &mut Report) {
    let lines: BTreeSet<usize> = s.comments.iter().flat_map(|c| c.first..=c.last).collect();
    for line in lines {
        let text = s.lines[line - 1].trim_start();
        let row = text.trim_start_matches(['/', '!', ' ']).starts_with('|');
        let columns = s.lines[line - 1].chars().count();
        if text.starts_with("//") && !row && columns > WIDTH {
            r.add("width", line, format!("a comment of {columns} columns; {WIDTH} is the most: wrap it"));
        }
    }
}

/// Whether a comment with SAFETY stands on the line, or above it within the same statement.
fn safety_above(s: &Source, line: usize) -> bool {
    let says = |l: usize| {
        s.comments
            .iter()
            .any(|c| c.first <= l && l <= c.last && (c.text.contains("SAFETY:") || c.text.contains("# Safety")))
    };
    if says(line) {
        return true;
    }
    for above in (1..line).rev().take(12) {
        if says(above) {
            return true;
        }
        let text = s.lines[above - 1].trim();
        let comment = text.starts_with("//") || s.comments.iter().any(|c| c.first < above && above <= c.last);
        let attribute = text.starts_with('#');
        let goes_on = text.ends_with(['=', '(', ',', '|', '&']) && !text.starts_with('}');
        if !(comment || attribute || goes_on) {
            return false;
        }
    }
    false
}

/// Ways to bring in code that the other rules would not see where it is.
fn hidden_modules(s: &Source, r: &mut Report) {
    let t = &s.tokens;
    let wire = s.top() == Some("wire");
    for i in 0..t.len() {
        let next = |n: usize, text: &str| t.get(i + n).is_some_and(|x| x.is(text));
        if t[i].is("#") && next(1, "[") && next(2, "path") {
            r.add("hidden", t[i].line, "`#[path]` hides where a module is: move the file");
        }
        if t[i].is("extern") && next(1, "crate") {
            r.add("hidden", t[i].line, "`extern crate`: name the crate by its path");
        }
        if !wire && next(1, "!") && (t[i].is("include") || t[i].is("include_proto")) {
            r.add("hidden", t[i].line, format!("`{}!`: only src/wire includes generated code", t[i].text));
        }
    }
}

fn imports(s: &Source, r: &mut Report) {
    let Some(top) = s.top() else { return };
    let Some(may) = row(top) else {
        let known: Vec<&str> = TABLE.iter().map(|(m, _)| *m).collect();
        r.add(
            "imports",
            1,
            format!("module `{top}` has no row in the import table ({}): add one, with its reason", known.join(", ")),
        );
        return;
    };
    for p in &s.paths {
        let supers = p.segments.iter().filter(|x| *x == "super").count();
        if supers > 0 && supers >= p.inside.len() {
            let shown = p.show();
            r.add(
                "imports",
                p.line,
                format!("`{shown}` leaves the top module `{top}`: write `crate::...`, so that the table sees it"),
            );
        }
        if p.segments[0] != "crate" {
            if p.segments[0] == "slipway" && p.segments.len() > 1 {
                r.add("imports", p.line, format!("`{}`: inside the library write `crate::...`", p.show()));
            }
            continue;
        }
        match p.segments.get(1).map(String::as_str) {
            None => r.add("imports", p.line, format!("`{}` brings in every module: name the one you need", p.show())),
            Some(other) if other == top || may.contains(&other) => {}
            Some(other) if row(other).is_none() => {
                r.add("imports", p.line, format!("`{}`: `{other}` is no module of the import table", p.show()));
            }
            Some(other) => {
                let list = if may.is_empty() { "nothing of ours".into() } else { may.join(", ") };
                r.add(
                    "imports",
                    p.line,
                    format!("`{top}` may not import `{other}` (`{}`); it may import: {list}", p.show()),
                );
            }
        }
    }
}

fn owned_crates(s: &Source, r: &mut Report) {
    for p in &s.paths {
        for (krate, places, why) in OWNED {
            if p.segments[0] == krate && !places.iter().any(|place| s.name.starts_with(place)) {
                r.add("owner", p.line, format!("`{}`: {why}", p.show()));
            }
        }
    }
}

/// Names that mean clock, chance, unordered maps or the world outside, wherever they stand in a path.
const IMPURE_NAMES: [(&str, &str); 16] = [
    ("Instant", "no clock: time is an argument"),
    ("SystemTime", "no clock: time is an argument"),
    ("UNIX_EPOCH", "no clock: time is an argument"),
    ("HashMap", "unordered: use BTreeMap or imbl::OrdMap"),
    ("HashSet", "unordered: use BTreeSet or imbl::OrdSet"),
    ("RandomState", "no randomness"),
    ("DefaultHasher", "its result may change with the compiler: use a hash we name"),
    ("OsRng", "no randomness"),
    ("thread_rng", "no randomness"),
    ("TcpStream", "no network"),
    ("TcpListener", "no network"),
    ("UdpSocket", "no network"),
    ("tokio", "no async and no runtime"),
    ("tokio_stream", "no async and no runtime"),
    ("tokio_util", "no async and no runtime"),
    ("futures_util", "no async and no runtime"),
];

/// Beginnings of paths that a pure module may not name; the last column: allowed in its tests.
const IMPURE_PATHS: [(&[&str], &str, bool); 8] = [
    (&["std", "env"], "no environment: configuration is an argument", true),
    (&["std", "fs"], "no files: bytes are an argument", true),
    (&["std", "process"], "no processes", true),
    (&["std", "thread"], "no threads", true),
    (&["rand"], "no randomness", false),
    (&["getrandom"], "no randomness", false),
    (&["async_trait"], "no async", false),
    (&["tracing"], "says nothing: return a value that explains", false),
];

fn purity(s: &Source, r: &mut Report) {
    let Some(top) = s.top().filter(|top| PURE.contains(top)) else { return };
    for t in s.tokens.iter().filter(|t| t.is("async") || t.is("await")) {
        r.add("pure", t.line, format!("`{}` in `{top}`: no async in a pure module", t.text));
    }
    for p in &s.paths {
        for (name, why) in IMPURE_NAMES {
            let crate_name = name.chars().all(|c| c.is_lowercase() || c == '_');
            let hit = if crate_name { p.segments[0] == name } else { p.segments.iter().any(|x| x == name) };
            if hit {
                r.add("pure", p.line, format!("`{}` in `{top}`: {why}", p.show()));
            }
        }
        for (first, why, tests_may) in IMPURE_PATHS {
            // A single name may be a variable; a crate shows itself by a path or an import.
            let named = p.starts(first) && (p.segments.len() > 1 || p.glob || p.alias.is_some());
            if named && !(tests_may && p.test) {
                r.add("pure", p.line, format!("`{}` in `{top}`: {why}", p.show()));
            }
        }
        let bare = p.segments.len() == 1 && ["std", "core"].contains(&p.segments[0].as_str());
        if bare && (p.glob || p.alias.is_some()) {
            r.add(
                "pure",
                p.line,
                format!("`{}` in `{top}`: renaming the standard library hides what is used", p.show()),
            );
        }
        let of_type = p.segments.iter().rev().nth(1).is_some_and(|s| s.starts_with(char::is_uppercase));
        if p.ends(&["now"]) && of_type {
            r.add("pure", p.line, format!("`{}` in `{top}`: no clock: time is an argument", p.show()));
        }
    }
}

fn floats(s: &Source, r: &mut Report) {
    let Some(top) = s.top().filter(|top| PURE.contains(top)) else { return };
    if s.name.starts_with("src/engine/analysis") {
        return;
    }
    for (t, _) in s.tokens.iter().zip(&s.test).filter(|(_, test)| !**test) {
        if t.is("f32") || t.is("f64") || t.kind == Kind::Float {
            let shown = &t.text;
            r.add("float", t.line, format!("`{shown}` in `{top}`: integers only (basis points, parts per million); floats live in engine/analysis"));
        }
    }
}

/// Types whose `now` reads a clock.
const CLOCKS: [&str; 5] = ["Instant", "SystemTime", "Timestamp", "Zoned", "Utc"];

fn time(s: &Source, r: &mut Report) {
    if s.top() == Some("clock") {
        return;
    }
    for p in s.paths.iter().filter(|p| !p.test) {
        if CLOCKS.iter().any(|c| p.ends(&[c, "now"])) {
            r.add(
                "time",
                p.line,
                format!("`{}`: src/clock.rs is the only reader of time; take a clock as an argument", p.show()),
            );
        }
        if let Some(alias) = p
            .alias
            .as_ref()
            .filter(|a| *a != "_" && CLOCKS.iter().any(|c| p.ends(&[c])) && !CLOCKS.contains(&a.as_str()))
        {
            r.add("time", p.line, format!("`{} as {alias}`: a renamed clock hides who reads it", p.show()));
        }
    }
}

/// Functions of `std::env` that read or change the environment.
const ENVIRONMENT: [&str; 8] = ["var", "var_os", "vars", "vars_os", "set_var", "remove_var", "home_dir", "temp_dir"];

fn environment(s: &Source, r: &mut Report) {
    if s.top() == Some("config") {
        return;
    }
    for p in s.paths.iter().filter(|p| !(p.test && p.ends(&["env", "temp_dir"]))) {
        if ENVIRONMENT.iter().any(|f| p.ends(&["env", f])) {
            r.add(
                "environment",
                p.line,
                format!("`{}`: src/config.rs is the only reader of the environment", p.show()),
            );
        }
        if p.ends(&["std", "env"]) && (p.glob || p.alias.is_some()) {
            r.add("environment", p.line, format!("`{}`: a renamed std::env hides who reads the environment", p.show()));
        }
    }
}

/// Macros that panic when nobody reads, or the disk is full.
const PRINTS: [&str; 4] = ["print", "println", "eprint", "eprintln"];

fn console(s: &Source, r: &mut Report) {
    const ONLY: &str = "src/console.rs is the only writer of standard output and standard error";
    if s.top() == Some("console") {
        return;
    }
    let t = &s.tokens;
    for i in (0..t.len()).filter(|i| !s.test[*i]) {
        if PRINTS.iter().any(|p| t[i].is(p)) && t.get(i + 1).is_some_and(|x| x.is("!")) {
            r.add("console", t[i].line, format!("`{}!` panics when nobody reads it: {ONLY}", t[i].text));
        }
    }
    for p in s.paths.iter().filter(|p| !p.test) {
        let stream = ["stdout", "stderr"].iter().any(|f| ["io", "stdio"].iter().any(|m| p.ends(&[m, f])));
        let hidden = p.ends(&["std", "io"]) && (p.glob || p.alias.is_some());
        if stream || hidden {
            r.add("console", p.line, format!("`{}`: {ONLY}", p.show()));
        }
    }
}

/// `lib.rs` is the map: module declarations, one line each, and nothing that would be code at the root.
fn map_only(s: &Source, r: &mut Report) {
    let t = &s.tokens;
    let mut i = 0;
    while i < t.len() {
        let is = |n: usize, text: &str| t.get(i + n).is_some_and(|x| x.is(text));
        if is(0, "#") {
            i += 1 + t[i..].iter().position(|x| x.is("]")).unwrap_or(t.len());
        } else if is(0, "pub") {
            i += 1;
        } else if is(0, "mod") && is(2, ";") {
            let name = &t[i + 1].text;
            if row(name).is_none() {
                r.add(
                    "map",
                    t[i].line,
                    format!("module `{name}` has no row in the import table: add one, with its reason"),
                );
            }
            i += 3;
        } else {
            r.add("map", t[i].line, format!("`{}`: lib.rs only declares modules", t[i].text));
            return;
        }
    }
}
