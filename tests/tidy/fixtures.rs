//! The rules on small files: each rule has some that must be refused, with the right words, and some that must pass.

use std::collections::BTreeMap;

use crate::check_all;

/// A file that must be refused by `rule` with a message that contains `says`.
fn red(rule: &str, name: &str, body: &str, says: &str) {
    let found = run(&[(name, body)]);
    let hit = found.iter().any(|(r, m)| *r == rule && m.contains(says));
    assert!(hit, "{name} should break `{rule}` with {says:?}, found {found:?}\n{body}");
}

/// A file that must pass everything.
fn green(name: &str, body: &str) {
    let found = run(&[(name, body)]);
    assert!(found.is_empty(), "{name} should pass, found {found:?}\n{body}");
}

/// Checks files, giving each the header that it needs anyway; (rule, message) of what is found.
fn run(files: &[(&str, &str)]) -> Vec<(&'static str, String)> {
    let files: BTreeMap<String, String> =
        files.iter().map(|(name, body)| ((*name).to_owned(), format!("//! A fixture.\n{body}"))).collect();
    check_all(&files).into_iter().map(|v| (v.rule, v.message)).collect()
}

#[test]
fn imports_outside_the_table_are_refused() {
    red("imports", "src/model/x.rs", "use crate::state::State;", "`model` may not import `state`");
    red("imports", "src/model/x.rs", "use crate::state::State;", "nothing of ours");
    red("imports", "src/traffic/mod.rs", "fn f() { crate::engine::plan() }", "`traffic` may not import `engine`");
    red(
        "imports",
        "src/dns/x.rs",
        "use crate::{model::{Id, Name}, clock::{self, Clock}, lead::x};",
        "`dns` may not import `lead`",
    );
    red("imports", "src/state/mod.rs", "use crate::{model::*, engine};", "may not import `engine`");
    red("imports", "src/storage/x.rs", "#[cfg(test)] mod tests { use crate::raft::Handle; }", "may not import `raft`");
    red("imports", "src/act/x.rs", "macro_rules! m { () => { $crate::lead::go() } }", "may not import `lead`");
    red("imports", "src/clock.rs", "struct S(pub (crate::config::Config, u8));", "may not import `config`");
    red("imports", "src/novel/mod.rs", "", "no row in the import table");
    red("imports", "src/dns/x.rs", "use crate::helpers::f;", "no module of the import table");
    red("imports", "src/dns/x.rs", "use slipway::lead;", "inside the library");

    green("src/model/x.rs", "use crate::model::id::Id;\nuse std::fmt;\nuse serde::Serialize;");
    green("src/engine/x.rs", "use crate::{model::{Id, Name}, state::State, traffic};\nfn f(x: crate::flags::A) {}");
    green("src/node/mod.rs", "use crate::rpc;\npub(in crate::node) fn f() {}");
    green("src/bin/slipway.rs", "use slipway::cli;\nfn main() { slipway::agent::run() }");
    green("src/dns/x.rs", "// crate::lead in a comment\nconst S: &str = \"use crate::lead\";");
}

#[test]
fn ways_around_the_table_are_refused() {
    red("imports", "src/model/x.rs", "use super::super::state::State;", "leaves the top module `model`");
    red("imports", "src/model/mod.rs", "use super::state::State;", "leaves the top module");
    red("imports", "src/model/a/mod.rs", "use super::{b, super::state};", "leaves the top module");
    red("imports", "src/model/mod.rs", "mod tests { fn f() { super::super::state::x() } }", "leaves the top module");
    red("imports", "src/model/x.rs", "use crate::*;", "brings in every module");
    red("imports", "src/model/x.rs", "use crate as root;", "brings in every module");
    red("imports", "src/model/x.rs", "use crate::{self as root};", "brings in every module");
    red("hidden", "src/model/x.rs", "#[path = \"../state/mod.rs\"] mod s;", "#[path]");
    red("hidden", "src/model/x.rs", "extern crate slipway;", "extern crate");
    red("hidden", "src/model/x.rs", "include!(\"../state/x.rs\");", "only src/wire includes");

    green("src/model/a/b.rs", "use super::super::id::Id;\nuse super::{c, super::d};\npub(super) fn f() {}");
    green("src/model/mod.rs", "#[cfg(test)] mod tests { use super::*; }");
    green("src/wire/mod.rs", "tonic::include_proto!(\"slipway.v1\");");
}

#[test]
fn lib_rs_is_only_the_map() {
    red("map", "src/lib.rs", "pub use crate::state::State;", "only declares modules");
    red("map", "src/lib.rs", "pub mod model; fn helper() {}", "only declares modules");
    red("map", "src/lib.rs", "pub mod novel;", "`novel` has no row");
    green("src/lib.rs", "#![warn(missing_docs)]\n/// The nouns.\npub mod model;\nmod state;");
}

#[test]
fn pure_modules_have_no_clock_chance_or_world() {
    for (body, says) in [
        ("use std::collections::HashMap;", "BTreeMap"),
        ("fn f() -> std::collections::HashSet<u8> { x }", "BTreeSet"),
        ("use std::collections::{BTreeMap, HashMap as Map};", "BTreeMap"),
        ("use std::time::Instant;", "time is an argument"),
        ("use std::time::{Duration, SystemTime};", "time is an argument"),
        ("fn f() { jiff::Timestamp::now(); }", "time is an argument"),
        ("fn f() { Zoned::now(); }", "time is an argument"),
        ("fn f() { rand::random::<u8>(); }", "no randomness"),
        ("use rand::Rng;", "no randomness"),
        ("use std::hash::{DefaultHasher, Hasher};", "a hash we name"),
        ("use std::env;", "no environment"),
        ("fn f() { std::fs::read(\"x\"); }", "no files"),
        ("use std::{fmt, fs::File};", "no files"),
        ("use std::net::{IpAddr, UdpSocket};", "no network"),
        ("use std::thread;", "no threads"),
        ("use std as s;", "hides"),
        ("async fn f() {}", "no async"),
        ("fn f() { g().await }", "no async"),
        ("use tokio::sync::mpsc;", "no async and no runtime"),
        ("fn f() { tokio::spawn(x) }", "no async and no runtime"),
        ("#[cfg(test)] mod tests { use std::collections::HashMap; }", "BTreeMap"),
    ] {
        for module in ["model", "state", "engine", "traffic", "flags", "alerts"] {
            red("pure", &format!("src/{module}/x.rs"), body, says);
        }
    }
    green(
        "src/state/x.rs",
        "use std::collections::{BTreeMap, BTreeSet};\nuse std::time::Duration;\nuse std::net::IpAddr;",
    );
    green(
        "src/state/x.rs",
        "// HashMap, Instant and tokio in words\nfn f(s: &S) -> Ms { let rand = s.now; s.now() + rand }",
    );
    green("src/state/x.rs", "#[cfg(test)] mod tests { fn f() { std::fs::read(\"golden\"); } }");
    green("src/dns/x.rs", "use std::collections::HashMap;\nasync fn f() { tokio::spawn(x).await; }");
}

#[test]
fn floats_stay_in_the_analysis() {
    red("float", "src/state/x.rs", "struct S { share: f64 }", "integers only");
    red("float", "src/traffic/x.rs", "fn f(n: u32) -> u32 { (n as f32) as u32 }", "integers only");
    red("float", "src/engine/x.rs", "const LIMIT: u64 = (0.05 * SCALE) as u64;", "`0.05`");
    red("float", "src/model/x.rs", "const E: u64 = x(1e6);", "`1e6`");
    green("src/engine/analysis/ceiling.rs", "fn share(n: f64) -> f64 { n * 0.5 }");
    green("src/engine/analysis.rs", "const Z: f64 = 1.96;");
    green("src/dns/x.rs", "const Z: f64 = 1.96;");
    green("src/state/x.rs", "fn f(x: (u8, (u8, u8))) -> usize { for i in 0..10usize {} x.1.0 }");
    green("src/traffic/x.rs", "#[cfg(test)] mod tests { const TOLERANCE: f64 = 0.01; }");
}

#[test]
fn crates_have_one_owner() {
    red("owner", "src/node/x.rs", "use openraft::Raft;", "only src/raft may name openraft");
    red("owner", "src/storage/x.rs", "fn f(x: openraft::LogId) {}", "only src/raft may name openraft");
    red("owner", "src/bin/slipwayd.rs", "use openraft_rt_tokio::TokioRuntime;", "only src/raft");
    red("owner", "src/raft/x.rs", "use rocksdb::DB;", "only src/storage may name rocksdb");
    red("owner", "src/cli/x.rs", "use anyhow::Context;", "thiserror");
    green("src/raft/x.rs", "use openraft::Raft;");
    green("src/storage/x.rs", "// openraft asks for this\nuse rocksdb::DB;");
    green("src/bin/slipway.rs", "fn main() -> anyhow::Result<()> { Ok(()) }");
}

#[test]
fn time_has_one_reader() {
    for body in [
        "fn f() { Instant::now(); }",
        "fn f() { std::time::SystemTime::now(); }",
        "fn f() { x.unwrap_or_else(tokio::time::Instant::now); }",
        "fn f() { jiff::Timestamp::now(); }",
        "use std::time::Instant as I;",
    ] {
        for name in ["src/agent/x.rs", "src/bin/slipwayd.rs", "src/config.rs"] {
            red("time", name, body, "");
        }
    }
    green("src/clock.rs", "fn f() { std::time::Instant::now(); }");
    green("src/agent/x.rs", "use std::time::Instant;\n#[cfg(test)] mod tests { fn f() { Instant::now(); } }");
    green("src/agent/x.rs", "fn f(c: &Clock) { c.now(); tokio::time::sleep(d); }");
}

#[test]
fn the_environment_has_one_reader() {
    red("environment", "src/cli/x.rs", "fn f() { std::env::var(\"HOME\"); }", "src/config.rs");
    red("environment", "src/agent/x.rs", "use std::env;\nfn f() { env::var_os(\"X\"); }", "src/config.rs");
    red("environment", "src/agent/x.rs", "use std::env::{args, vars};", "src/config.rs");
    red("environment", "src/agent/x.rs", "use std::env as e;", "renamed");
    red("environment", "src/agent/x.rs", "use std::env::*;", "renamed");
    red("environment", "src/agent/x.rs", "fn f() { std::env::temp_dir(); }", "src/config.rs");
    red(
        "environment",
        "src/agent/x.rs",
        "#[cfg(test)] mod tests { fn f() { std::env::set_var(\"A\", \"b\"); } }",
        "src/config.rs",
    );
    green("src/config.rs", "fn f() { std::env::var(\"HOME\"); }");
    green("src/bin/slipway.rs", "fn main() { std::env::args(); std::env::current_exe(); }");
    green("src/agent/x.rs", "#[cfg(test)] mod tests { fn f() { std::env::temp_dir(); } }");
}

#[test]
fn standard_streams_have_one_writer() {
    for body in [
        "fn f() { eprintln!(\"x\"); }",
        "fn f() { std::println!(\"x\"); }",
        "fn f() { print!(\"x\"); }",
        "fn f() { let _ = eprint ! (\"x\"); }",
        "fn f() { writeln!(std::io::stderr(), \"x\"); }",
        "use std::io::{self, stdout};\nfn f() { stdout().lock(); }",
        "use std::io;\nfn f() { g(io::stderr) }",
        "fn f() { tokio::io::stdout(); }",
        "use std::io::*;\nfn f() { stderr(); }",
        "use std::io as i;\nfn f() { i::stderr(); }",
    ] {
        for name in ["src/cli/x.rs", "src/agent/x.rs", "src/bin/slipwayd.rs", "src/node/x.rs"] {
            red("console", name, body, "only writer");
        }
    }
    green("src/console.rs", "fn f() { std::io::stderr(); }");
    green(
        "src/cli/x.rs",
        "use std::io::{self, Write};\n// eprintln! in words\nfn f(print: &P) -> bool { print.line() }",
    );
    green("src/cli/x.rs", "#[cfg(test)] mod tests { fn f() { println!(\"x\"); std::io::stdout(); } }");
    green("src/agent/x.rs", "fn f(c: &Child) { c.stderr.take(); Command::new(p).stdout(log); }");
}

#[test]
fn test_files_named_by_a_parent_are_test_code() {
    let body = "fn f() { Instant::now(); }";
    for (parent, child) in [
        ("src/agent/mod.rs", "src/agent/tests.rs"),
        ("src/agent/mod.rs", "src/agent/tests/mod.rs"),
        ("src/agent/session.rs", "src/agent/session/tests.rs"),
        ("src/clock.rs", "src/clock/tests.rs"),
    ] {
        let with = run(&[(parent, "#[cfg(test)] mod tests;"), (child, body)]);
        assert!(with.is_empty(), "{child}: {with:?}");
    }
    let without = run(&[("src/agent/mod.rs", "mod tests;"), ("src/agent/tests.rs", body)]);
    assert_eq!(without.len(), 1, "{without:?}");
}

#[test]
fn files_have_a_header_and_an_end() {
    let long = "\n".repeat(500);
    red("size", "src/dns/x.rs", &long, "500 is the most");
    red("size", "tests/x.rs", &long, "split the file");
    green("src/dns/x.rs", &"\n".repeat(498));
    for text in ["use std::fmt;\n", "/// Of an item.\nfn f() {}\n", "//!\nfn f() {}\n", "// Not a header.\n", ""] {
        let files = BTreeMap::from([("src/dns/x.rs".to_owned(), text.to_owned())]);
        let found = check_all(&files);
        assert!(
            found.iter().any(|v| v.rule == "header" && v.message.contains("no `//!` header")),
            "{text:?}: {found:?}"
        );
    }
}

#[test]
fn nothing_is_left_unfinished() {
    red("unfinished", "src/dns/x.rs", "fn f() { todo!() }", "`todo!`");
    red("unfinished", "tests/x.rs", "fn f() { unimplemented!(\"later\") }", "`unimplemented!`");
    red("unfinished", "src/dns/x.rs", "fn f() { dbg!(1); }", "`dbg!`");
    red("unfinished", "src/dns/x.rs", "#[test]\n#[ignore = \"slow\"]\nfn f() {}", "support::skip");
    red("unfinished", "tests/x.rs", "#[cfg_attr(target_os = \"linux\", ignore)]\nfn f() {}", "support::skip");
    red("unfinished", "src/dns/x.rs", "// TODO: later\n", "unfinished work");
    green(
        "src/dns/x.rs",
        "/// Refuses `todo!()`.\nfn todo() -> &'static str { \"todo!()\" }\n#[serde(default)] struct S;",
    );
}

#[test]
fn unsafe_code_says_why_it_is_safe() {
    red("unsafe", "src/agent/x.rs", "fn f() {\n    unsafe { g() }\n}", "SAFETY");
    red("unsafe", "src/agent/x.rs", "// SAFETY: of another.\nfn g() {}\nunsafe impl Send for S {}", "SAFETY");
    red("unsafe", "src/agent/x.rs", "// Safe, believe me.\nunsafe impl Send for S {}", "SAFETY");
    green("src/agent/x.rs", "// SAFETY: S holds no pointer.\n#[allow(x)]\nunsafe impl Send for S {}");
    green(
        "src/agent/x.rs",
        "fn f() {\n    // SAFETY: only async-signal-safe calls,\n    // and no allocation.\n    let x =\n        unsafe { g() };\n}",
    );
    green("src/agent/x.rs", "/// Does.\n///\n/// # Safety\n/// The caller holds the lock.\npub unsafe fn f() {}");
    green("src/agent/x.rs", "#![deny(unsafe_code, unsafe_op_in_unsafe_fn)]");
}

#[test]
fn comments_are_wrapped_at_their_width() {
    let wide = "w".repeat(118);
    for slashes in ["//", "///", "//!"] {
        red("width", "src/lead/x.rs", &format!("{slashes} {wide}\nfn f() {{}}"), "120 is the most");
    }
    red("width", "tests/store/x.rs", &format!("fn f() {{\n    // {wide}\n}}"), "a comment of 125 columns");
    let just = "w".repeat(117);
    green("src/lead/x.rs", &format!("// {just}\nfn f() {{}}"));
    green("src/lead/x.rs", &format!("/// | a | {wide} |\nfn f() {{}}"));
    green("src/lead/x.rs", &format!("const A: &str = \"\n// {wide}\";"));
    green("src/lead/x.rs", &format!("const A: &str = \"{wide}\"; // why"));
}

#[test]
fn a_match_over_our_own_enum_names_its_variants() {
    let own = "enum Fruit { Apple, Pear }\n";
    let says = "over `Fruit`";
    red(
        "wildcard",
        "src/model/x.rs",
        &format!("{own}fn f(x: Fruit) -> u8 {{ match x {{ Fruit::Apple => 1, _ => 2 }} }}"),
        says,
    );
    red(
        "wildcard",
        "src/model/x.rs",
        &format!(
            "{own}fn f(x: Fruit) {{ match g(&x, |y| {{ y }}) {{ Some(Fruit::Apple) if x => {{ h() }} Some(Fruit::Pear) => (), _ => {{}} }} }}"
        ),
        says,
    );
    green(
        "src/model/x.rs",
        &format!("{own}fn f(x: Fruit) -> u8 {{ match x {{ Fruit::Apple => 1, Fruit::Pear => 2 }} }}"),
    );
    green("src/model/x.rs", "fn f(x: u8) -> u8 { match x { 1 => 2, _ => 3 } }");
    green("src/model/x.rs", "fn f(x: Ipv4Error) -> u8 { match x { Ipv4Error::Bad => 2, _ => 3 } }");
}
