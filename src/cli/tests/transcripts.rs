//! What every verb says: made of the declarations, so that a verb without help, example or golden text is red.
//!
//! `SLIPWAY_GOLDEN=write` writes the golden texts and docs/cli-reference.md.

use std::{ffi::OsString, path::Path};

use super::{documents::Documents, fake};
use crate::{
    cli::{args, error, reference, run},
    clock::Clock,
    config,
    console::capture,
};

/// Whether a verb asks no node: what it does is on this machine, and other tests run it.
fn is_local(path: &str) -> bool {
    args::LOCAL.iter().any(|(verb, _)| path == format!("slipway {verb}"))
}

/// Verbs that the fake node has no answer for.
const NOT_FAKED: [&str; 5] = [
    "slipway release push",
    "slipway cluster snapshot",
    "slipway cluster backup",
    "slipway traffic probe",
    "slipway dns query",
];

pub(super) fn verbs() -> Vec<(String, clap::Command)> {
    reference::verbs(&args::definition())
}

/// The examples of a verb, as typed.
fn examples(verb: &clap::Command) -> Vec<String> {
    let text = verb.get_after_help().map(ToString::to_string).unwrap_or_default();
    let lines = text.lines().filter_map(|l| l.strip_prefix("  "));
    lines.map(|l| l.replace("source <(", "").replace(')', "").replace(" | source", "")).collect()
}

/// Runs a line: what was printed, lines of standard error with a `! `, and the exit code.
async fn said(line: &str, more: &[&str]) -> String {
    let words = line.split_whitespace().chain(more.iter().copied());
    capture::begin();
    let code = run(words.map(OsString::from), Clock::real()).await;
    format!("{}= {code}\n", capture::end())
}

/// Holds that a text is the golden one.
pub(super) fn golden(path: &str, text: &str) {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    if config::variable("SLIPWAY_GOLDEN").is_some_and(|v| v == "write") {
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(&file, text).unwrap();
    }
    let kept = std::fs::read_to_string(&file).unwrap_or_default();
    if kept != text {
        let differs = kept.lines().zip(text.lines()).find(|(a, b)| a != b);
        panic!("{path} is out of date at {differs:#?}: SLIPWAY_GOLDEN=write cargo test --lib cli::");
    }
}

#[test]
fn every_verb_has_an_example_and_every_argument_its_help() {
    for (path, verb) in verbs() {
        let examples = examples(&verb);
        assert!(!examples.is_empty(), "{path} has no example");
        for example in examples {
            assert!(example.starts_with(&path), "{example:?} is no example of {path}");
            super::parse(&example).unwrap_or_else(|e| panic!("{example}: {e}"));
        }
        for arg in verb.get_arguments() {
            let help = arg.get_help().map(ToString::to_string).unwrap_or_default();
            assert!(help.len() > 8, "{} of {path} has no help", arg.get_id());
            let names = arg.get_value_names().unwrap_or_default();
            let setting = arg.get_help_heading().is_some_and(|h| h.starts_with("Rollout"));
            let named = setting || names.iter().all(|n| n.chars().all(|c| !c.is_lowercase()));
            assert!(!arg.get_action().takes_values() || named, "what {} of {path} takes has no name", arg.get_id());
        }
        assert!(verb.get_about().is_some(), "{path} says nothing");
    }
}

#[test]
fn every_noun_is_in_one_group_of_the_first_page() {
    let definition = args::definition();
    let nouns: Vec<&str> =
        definition.get_subcommands().filter(|c| !c.is_hide_set()).map(clap::Command::get_name).collect();
    let grouped: Vec<&str> = args::GROUPS.iter().flat_map(|(_, names)| names.iter().copied()).collect();
    for noun in &nouns {
        assert_eq!(grouped.iter().filter(|g| g == &noun).count(), 1, "{noun}");
    }
    assert_eq!(grouped.len(), nouns.len());
}

#[test]
fn nouns_speak_alike() {
    for noun in ["release", "deployment", "service", "environment", "node", "worker"] {
        for verb in ["list", "show"] {
            assert!(verbs().iter().any(|(path, _)| *path == format!("slipway {noun} {verb}")), "{noun} {verb}");
        }
        let plural = super::parse(&format!("slipway {noun}s list"));
        assert!(plural.is_ok(), "{noun}s: {}", plural.unwrap_err());
    }
}

#[test]
fn the_reference_page_is_current() {
    golden("docs/cli-reference.md", &reference::reference());
}

#[test]
fn readme_has_the_exit_codes() {
    let readme = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md")).unwrap();
    let words = readme.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(words.contains(&format!("{}.", error::codes())), "{}", error::codes());
}

#[tokio::test]
async fn the_first_page_of_help() {
    golden("tests/golden/cli/help.txt", &said("slipway --help", &[]).await);
}

#[tokio::test]
async fn without_arguments_and_without_a_node_every_verb_says_what_to_do() {
    // Nothing listens on a port that was just given back.
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let mut text = String::new();
    for (path, verb) in verbs() {
        if verb.get_arguments().any(|a| a.is_required_set()) {
            text += &format!("$ {path}\n{}\n", said(&path, &[]).await);
        }
        if is_local(&path) {
            continue;
        }
        let example = &examples(&verb)[0];
        let outcome = said(example, &["--node", &free, "--timeout", "40ms"]).await.replace(&free, "NODE");
        text += &format!("$ {example}\n{outcome}\n");
    }
    text += "$ -o json\n";
    for line in ["slipway rollout status shop -o json", "slipway rollout start shop -o json"] {
        let outcome = said(line, &["--node", &free, "--timeout", "40ms"]).await.replace(&free, "NODE");
        text += &format!("$ {line}\n{outcome}\n");
    }
    golden("tests/golden/cli/no_node.txt", &text);
}

#[tokio::test]
async fn every_verb_shows_a_cluster_that_has_one_of_everything() {
    let node = fake::serve().await;
    let (mut people, mut scripts) = (String::new(), String::new());
    let documents = Documents::new();
    for (path, verb) in verbs() {
        if is_local(&path) || NOT_FAKED.contains(&path.as_str()) {
            continue;
        }
        for example in examples(&verb) {
            // The files of examples are not there; what follows what comes does not end.
            if [" -f ", "event watch", "rollout watch r-52"].iter().any(|w| example.contains(w)) {
                continue;
            }
            // A rollout that runs is watched for ever.
            let example = example.replace("rollout watch shop", "rollout watch r-40").replace(" --follow", "");
            let example =
                example.replace(&["--node", "10.0.0.1:7652"].join(" "), "").replace("--node 10.0.0.2:7652", "");
            let node = ["--node", node.as_str()];
            let hide = |text: String| text.replace(node[1], "NODE");
            let outcome = hide(said(&example, &node).await);
            people += &format!("$ {example}\n{outcome}\n");
            if !example.contains(" -o ") {
                let outcome = hide(said(&example, &[&node[..], &["-o", "json"]].concat()).await);
                let printed = outcome.lines().filter(|l| !l.starts_with("! ") && !l.starts_with("= "));
                let printed = printed.collect::<Vec<_>>().join("\n");
                let watched = example.contains(" --watch") && !path.ends_with("deployment remove");
                let verb = path.trim_start_matches("slipway ");
                let shape = if printed.is_empty() { printed } else { documents.shape(verb, watched, &printed) + "\n" };
                let rest = outcome.lines().filter(|l| l.starts_with("! ") || l.starts_with("= "));
                let rest = rest.collect::<Vec<_>>().join("\n");
                scripts += &format!("$ {example} -o json\n{shape}{rest}\n\n");
            }
        }
    }
    golden("tests/golden/cli/people.txt", &people);
    golden("tests/golden/cli/scripts.txt", &scripts);
}

#[tokio::test]
async fn tables_fit_the_screen() {
    let node = fake::serve().await;
    let mut text = String::new();
    for columns in [60, 80, 110] {
        text += &format!("# COLUMNS={columns}\n\n");
        for (path, _) in verbs().iter().filter(|(path, _)| path.ends_with(" list") || path.ends_with(" history")) {
            let line = if path.ends_with(" history") { format!("{path} shop") } else { path.clone() };
            capture::set_width(Some(columns));
            let outcome = said(&line, &["--node", &node]).await;
            capture::set_width(None);
            // An event is a sentence and no row.
            let rows = outcome.lines().filter(|_| path != "slipway event list");
            rows.for_each(|row| assert!(row.chars().count() <= columns, "{path} at {columns}:\n{row}"));
            // Its port is another one each time, and may be cut.
            let hide = |word: &str| if word.starts_with("127.0.0.1:") { "NODE".into() } else { word.to_string() };
            let outcome = outcome.split(' ').map(hide).collect::<Vec<_>>().join(" ");
            text += &format!("$ {line}\n{outcome}\n");
        }
    }
    golden("tests/golden/cli/narrow.txt", &text);
}

#[tokio::test]
async fn wrong_names_are_told_with_the_right_ones() {
    let node = fake::serve().await;
    let long = "a".repeat(63);
    let mut text = String::new();
    for line in [
        "slipway deployment show shp",
        "slipway deployment show nothing",
        "slipway deployment list --environment productoin",
        "slipway deployment list --environment staging",
        "slipway service show sop",
        "slipway release list nosuch",
        "slipway release list production/shop",
        "slipway release show shop 1.0.1",
        "slipway release push shp 1.0.0 ./build",
        "slipway release push shop 1.0.0 ./build --label a=1 --label a=2",
        "slipway release push shop 1.0.0 ./build --label =1",
        "slipway worker show w9",
        "slipway node show n9",
        "slipway environment show prod",
        "slipway event list nosuch",
        "slipway event list r-99",
        "slipway event list r-40 -n 1",
        "slipway explain r-52",
        "slipway explain w2",
        "slipway explain nosuch",
        "slipway explain cart",
        "slipway rollout status cart",
        "slipway rollout watch cart",
        "slipway rollout status nosuch",
        "slipway rollout start nosuch --to 1.0.0",
        "slipway rollout pause r-40",
        "slipway rollout promote r-40",
        "slipway release show shop 1.1.0",
        "slipway release show shop 1.1.1",
        "slipway traffic lease -o wide",
        "slipway rollout start shop --to 1.1.0 --within 1s",
        "slipway rollout status r-99",
        "slipway rollout status r-99 -o json",
        "slipway rollout status a/b/c",
        "slipway rollout status SHOP",
        "slipway rollout status \u{202e}pohs",
        "slipway rollout status sh\u{1b}[31mop",
        &format!("slipway rollout status {long}"),
        &format!("slipway rollout status {long}a"),
        "slipway traffic lease --duration 0s",
        "slipway traffic lease --drift 0",
        "slipway dns trace shop --from foo",
        "slipway event watch --after abc",
        "slipway logs shop --instance foo",
        "slipway logs shop --previous --follow",
        "slipway logs shop --previous --instance 59-0",
        "slipway logs shop --since -5m",
        "slipway logs shop --since tomorrow",
        "slipway logs shop --since 0s",
        "slipway logs shop --tail 0",
        "slipway logs shop -n 20000",
        "slipway --timeout 0s status",
        "slipway -o JSON rollout status r-99",
        "slipway -o yaml rollout status r-99",
        "slipway -o YAML rollout start shop",
        "slipway rollout start shop --to 1.1.0 --steps 10,5",
        "slipway rollout start shop --to 1.1.0 --parallelism 0",
        "slipway rollout start shop --to 1.1.0 --bake 99999h",
        "slipway rollout start shop --to 1.1.0 --max-surge 0",
        "slipway rollout start shop --to 1.1.0 --max-surge 0 --max-unavailable 0",
        "slipway rollout get shop",
        "slipway show shop",
        "slipway cluster leave",
    ] {
        let outcome = said(line, &["--node", &node]).await.replace(&node, "NODE");
        text += &format!("$ {}\n{outcome}\n", line.escape_debug());
    }
    golden("tests/golden/cli/mistakes.txt", &text);
}

#[tokio::test]
async fn a_silent_node_costs_the_time_that_was_given() {
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let node = silent.local_addr().unwrap().to_string();
    let told = said("slipway cluster status", &["--node", &node, "--timeout", "300ms"]).await;
    assert!(told.contains(&format!("no answer from {node} within")) && told.ends_with("= 4\n"), "{told}");
    // A node's HTTP or peer address is told from one that is down.
    let page = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let node = page.local_addr().unwrap().to_string();
    let router = axum::Router::new();
    tokio::spawn(async move { axum::serve(page, router).await });
    let told = said("slipway cluster status", &["--node", &node]).await;
    assert!(told.contains("is no client address of a node") && told.ends_with("= 5\n"), "{told}");
}

#[test]
fn man_pages_are_written_for_every_verb() {
    let dir = tempfile::tempdir().unwrap();
    clap_mangen::generate_to(args::definition(), dir.path()).unwrap();
    for (path, _) in verbs() {
        let page = format!("{}.1", path.replace(' ', "-"));
        let text = std::fs::read_to_string(dir.path().join(&page)).unwrap_or_else(|e| panic!("{page}: {e}"));
        assert!(text.contains("Example"), "{page}");
    }
}
