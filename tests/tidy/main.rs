//! The architecture as a test: the import table, purity, one reader of time and of the environment, file size, headers.
//!
//! It reads the repository's own files and needs nothing of the crate, so it also compiles alone:
//! `rustc --edition 2024 --test tests/tidy/main.rs` (with CARGO_MANIFEST_DIR set). Changing the table is allowed, in
//! the same commit as the reason in ARCHITECTURE.md. Not here: what clippy and the compiler hold.

mod docs;
mod fixtures;
mod lex;
mod rooms;
mod rules;
mod source;
mod table;
mod wild;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use rules::Violation;
use source::Source;

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn rust_files(dir: &Path, out: &mut Vec<PathBuf>) {
    let Ok(entries) = fs::read_dir(dir) else { return };
    for entry in entries.flatten() {
        let path = entry.path();
        if path.is_dir() {
            rust_files(&path, out);
        } else if path.extension().is_some_and(|e| e == "rs") {
            out.push(path);
        }
    }
}

/// Reads name and text of every Rust file of ours.
fn read_all() -> BTreeMap<String, String> {
    let root = root();
    let mut files = Vec::new();
    for dir in ["src", "tests", "cluster", "benches", "scripts"] {
        rust_files(&root.join(dir), &mut files);
    }
    files.extend(Some(root.join("build.rs")).filter(|p| p.exists()));
    files
        .into_iter()
        .map(|path| {
            let name = path.strip_prefix(&root).expect("below the root").to_string_lossy().replace('\\', "/");
            let text = fs::read_to_string(&path).unwrap_or_else(|e| panic!("{name} cannot be read as text: {e}"));
            (name, text)
        })
        .collect()
}

/// Checks a set of files; which of them only tests compile follows from their parents' `#[cfg(test)] mod x;`.
fn check_all(files: &BTreeMap<String, String>) -> Vec<Violation> {
    let mut test_prefixes: Vec<String> = Vec::new();
    for (name, text) in files.iter().filter(|(name, _)| name.starts_with("src/")) {
        let source = Source::new(name, text, false);
        let dir = match name.strip_suffix("/mod.rs") {
            Some(dir) => dir.to_owned(),
            None => name.trim_end_matches(".rs").trim_end_matches("/lib").to_owned(),
        };
        test_prefixes.extend(source.test_modules().into_iter().map(|m| format!("{dir}/{m}")));
    }
    let is_test = |name: &str| {
        !name.starts_with("src/")
            || test_prefixes
                .iter()
                .any(|p| name.strip_prefix(p.as_str()).is_some_and(|rest| rest == ".rs" || rest.starts_with('/')))
    };
    let enums = wild::enums(files);
    let of = |(name, text): (&String, &String)| {
        let source = Source::new(name, text, is_test(name));
        [rules::check(&source), wild::check(&source, &enums)].concat()
    };
    files.iter().flat_map(of).collect()
}

#[test]
fn the_house_is_tidy() {
    let files = read_all();
    let ours = files.keys().filter(|n| n.starts_with("src/")).count();
    assert!(ours > 15, "only {ours} files found under src/: is this the repository?");
    let found = check_all(&files);
    let lines: Vec<String> =
        found.iter().map(|v| format!("{}:{}: [{}] {}", v.file, v.line, v.rule, v.message)).collect();
    assert!(found.is_empty(), "{} violations of the house rules:\n{}", found.len(), lines.join("\n"));
}

/// Rows of the table in ARCHITECTURE.md, between its two markers: `| module | a, b |`.
fn documented_table(text: &str) -> Vec<(String, Vec<String>)> {
    let start = text.find("<!-- import table -->").expect("ARCHITECTURE.md has the marker <!-- import table -->");
    let end =
        text.find("<!-- end of import table -->").expect("ARCHITECTURE.md has the marker <!-- end of import table -->");
    let cells = |line: &str| line.trim_matches('|').split('|').map(|c| c.trim().replace('`', "")).collect::<Vec<_>>();
    text[start..end]
        .lines()
        .filter(|l| l.starts_with('|'))
        .skip(2)
        .map(|l| {
            let cells = cells(l);
            let may = cells[1]
                .split(',')
                .map(|m| m.trim().to_owned())
                .filter(|m| !m.is_empty() && m != "nothing of ours")
                .collect();
            (cells[0].clone(), may)
        })
        .collect()
}

#[test]
fn the_table_is_the_one_in_architecture_md() {
    let text = fs::read_to_string(root().join("ARCHITECTURE.md")).expect("ARCHITECTURE.md is there");
    let written: BTreeMap<_, _> = documented_table(&text).into_iter().collect();
    let sorted = |may: &[&str]| {
        let mut may: Vec<String> = may.iter().map(|m| (*m).to_owned()).collect();
        may.sort();
        may
    };
    for (module, may) in table::TABLE {
        let mut there =
            written.get(module).unwrap_or_else(|| panic!("ARCHITECTURE.md has no row for `{module}`")).clone();
        there.sort();
        assert_eq!(
            there,
            sorted(may),
            "the row of `{module}`: ARCHITECTURE.md (left) and tests/tidy/table.rs (right) differ"
        );
    }
    assert_eq!(written.len(), table::TABLE.len(), "ARCHITECTURE.md has a row too many");
}

#[test]
fn no_file_makes_rustup_download_a_toolchain() {
    for name in ["rust-toolchain", "rust-toolchain.toml"] {
        assert!(
            !root().join(name).exists(),
            "{name}: the version is stated as rust-version in Cargo.toml, nowhere else"
        );
    }
}
