//! The files that users are told to apply are accepted as they are, and say what their comments promise; the reference
//! pages that are made of the program are current.

use std::{collections::BTreeMap, path::Path, process::Command, sync::Arc, time::Duration};

use prometheus_client::metrics::histogram::Histogram;
use slipway::model::{AddressMode, Period, RolloutParams, SpecFormat, StrategyName, read_spec};
use slipway::{
    config::{self, AgentConfig, NodeConfig},
    engine::STRATEGIES,
    http::{self, Connections, DnsFigures, HttpSources, LeadFigures, ProcessFigures, RaftFigures, RpcFigures},
    raft::{ApplyCounts, ConsensusMetrics, Member, Meters},
    state::State,
};

#[test]
fn the_demo_services_spec_is_valid_and_keeps_the_times_of_production() {
    let text = include_str!("../../cluster/shop.yaml");
    let spec = read_spec(text, SpecFormat::of_file("cluster/shop.yaml")).expect("cluster/shop.yaml is a valid spec");
    assert_eq!(spec.deployment.to_string(), "production/shop");
    assert_eq!(spec.address, AddressMode::Pool);
    assert_eq!(spec.rollout.strategy, Some(StrategyName::CANARY));
    let defaults = RolloutParams::default();
    assert_eq!((spec.rollout.bake, &spec.rollout.steps), (defaults.bake, &defaults.steps));
    assert_eq!((spec.rollout.monitor, spec.rollout.grace), (defaults.monitor, defaults.grace));
    assert_eq!(spec.drain.0, Period::seconds(15));
}

/// Holds that a page is what the program makes of itself; `SLIPWAY_GOLDEN=write` writes it.
fn current(page: &str, text: &str) {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs").join(page);
    if std::env::var("SLIPWAY_GOLDEN").is_ok_and(|v| v == "write") {
        std::fs::write(&file, text).unwrap();
    }
    let kept = std::fs::read_to_string(&file).unwrap_or_default();
    assert!(kept == text, "docs/{page} is out of date: SLIPWAY_GOLDEN=write cargo test --test cluster shipped_files");
}

#[test]
fn the_page_of_settings_is_current_and_its_flags_exist() {
    current("config.md", &config::reference());
    for (verb, settings) in [("node", NodeConfig::described()), ("agent", AgentConfig::described())] {
        let help = Command::new(env!("CARGO_BIN_EXE_slipwayd")).args([verb, "--help"]).output().unwrap();
        let help = String::from_utf8(help.stdout).unwrap();
        for setting in settings {
            assert!(
                help.contains(&format!("{} ", setting.flag)) || help.contains(&format!("{}\n", setting.flag)),
                "{} of {verb}",
                setting.flag
            );
            assert!(setting.about.len() > 8, "{} says nothing", setting.key);
        }
    }
}

/// Runs `slipwayd config` with these arguments and variables: its exit code and what it said.
fn settings(args: &[&str], variables: &[(&str, &str)]) -> (i32, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_slipwayd"));
    let ran = command.arg("config").args(args).envs(variables.iter().copied()).output().unwrap();
    let said = [ran.stdout, ran.stderr].concat();
    (ran.status.code().unwrap(), String::from_utf8(said).unwrap())
}

#[test]
fn settings_are_printed_with_their_source_and_checked_before_a_node_runs() {
    let shipped = |name: &str| Path::new(env!("CARGO_MANIFEST_DIR")).join("cluster").join(name).display().to_string();
    let (node, agent) = (shipped("node.toml"), shipped("agent.toml"));
    let (code, said) = settings(&["check", "node", "--config", &node], &[]);
    assert_eq!(code, 0, "{said}");
    assert!(said.contains("open to others: 10.0.0.1:7651"), "{said}");
    assert_eq!(settings(&["check", "agent", "--config", &agent], &[]), (0, "sound\n".into()));

    let variables = [("SLIPWAY_AGENT_HOST", "10.0.0.9"), ("SLIPWAY_AGENT_CAPACITY", "5")];
    let (code, said) = settings(&["print", "agent", "--config", &agent, "--capacity", "7"], &variables);
    assert_eq!(code, 0, "{said}");
    let source = |key: &str| said.lines().find(|l| l.starts_with(key)).unwrap().rsplit("# ").next().unwrap();
    assert!(said.contains("capacity = 7 ") && said.contains("host = \"10.0.0.9\""), "{said}");
    assert_eq!([source("capacity"), source("host"), source("pool")], ["flag", "environment", "file"]);

    let (code, said) = settings(&["check", "node", "--config", &node], &[("SLIPWAY_NODE_RAFTS", "slow")]);
    assert!(code == 2 && said.contains("did you mean `SLIPWAY_NODE_RAFT`"), "{code}: {said}");
    let (code, said) = settings(&["check", "node", "--config", &agent], &[]);
    assert!(code == 2 && said.contains("agent.toml") && said.contains("unknown field"), "{code}: {said}");
    let (code, said) = settings(&["check", "node", "--name", "n1"], &[]);
    assert!(code == 2 && said.contains("data_dir") && said.contains("--data-dir"), "{code}: {said}");
}

/// Name, type and text of every metric, as `/metrics` says them itself.
fn table(metrics: &str) -> String {
    let mut rows = BTreeMap::<String, (String, String)>::new();
    for line in metrics.lines().filter_map(|l| l.strip_prefix("# ")) {
        let mut words = line.splitn(3, ' ');
        let (what, name, rest) = (words.next(), words.next(), words.next().unwrap_or_default().to_string());
        let row = rows.entry(name.unwrap_or_default().to_string()).or_default();
        match what {
            Some("TYPE") => row.0 = rest,
            Some("HELP") => row.1 = rest.trim_end_matches('.').to_string(),
            _ => {}
        }
    }
    rows.remove("");
    let mut text = String::from(
        "# Metrics\n\nWhat `/metrics` of a node shows (OpenMetrics). Counters begin at 0 with the process; names end in their unit, and \
         one without has none.\nGenerated: `SLIPWAY_GOLDEN=write cargo test --test cluster shipped_files`.\n\n| name | type | labels | meaning \
         |\n|---|---|---|---|\n",
    );
    for (name, (kind, help)) in rows {
        assert!(name.starts_with("slipway_") && !kind.is_empty() && !help.is_empty(), "{name}: {kind}: {help}");
        for unit in ["_ms", "_milliseconds", "_minutes", "_percent", "_kib", "_mib"] {
            assert!(!name.ends_with(unit), "{name} is not in a base unit");
        }
        let labels = labels(metrics, &name);
        let name = if kind == "counter" { format!("{name}_total") } else { name };
        text.push_str(&format!("| `{name}` | {kind} | {labels} | {help} |\n"));
    }
    text
}

/// The labels that samples of a metric have.
fn labels(metrics: &str, name: &str) -> String {
    let mut found = std::collections::BTreeSet::new();
    for line in metrics.lines().filter(|l| !l.starts_with('#')) {
        let Some((sample, rest)) = line.split_once('{') else { continue };
        let suffix = sample.strip_prefix(name);
        if suffix.is_none_or(|s| !["", "_total", "_sum", "_count", "_bucket"].contains(&s)) {
            continue;
        }
        let inside = rest.split_once('}').unwrap().0;
        found.extend(inside.split("\",").filter_map(|pair| pair.split_once('=')).map(|(label, _)| label.to_string()));
    }
    found.remove("le");
    found.into_iter().map(|l| format!("`{l}`")).collect::<Vec<_>>().join(", ")
}

/// Sources that have one of everything.
fn full() -> HttpSources {
    let one = || BTreeMap::from([("x", 1)]);
    HttpSources {
        strategies: STRATEGIES.iter().map(|s| s.name.to_string()).collect(),
        state: Arc::new(|| Arc::new(State::default())),
        raft: Arc::new(move || RaftFigures {
            seen: Some(ConsensusMetrics {
                quorum_age: Some(Duration::from_millis(500)),
                members: vec![Member { id: 2, addr: "x".into(), voter: true, matched: Some(1), heard: None }],
                ..ConsensusMetrics::default()
            }),
            meters: Some(Meters::default()),
            applied: ApplyCounts { commands: one(), refused: one() },
            ..RaftFigures::default()
        }),
        dns: Arc::new(move || DnsFigures {
            generations: BTreeMap::from([("x".to_string(), 1)]),
            answers: one(),
            events: one(),
            realised: vec![("a".into(), "b".into(), 1)],
            ..DnsFigures::default()
        }),
        lead: Arc::new(move || LeadFigures {
            refused: one(),
            deliveries: one(),
            restarts: one(),
            delivery: Some(Histogram::new([1.0])),
            ..LeadFigures::default()
        }),
        process: Arc::new(ProcessFigures::default),
        rpc: Arc::new(move || RpcFigures {
            proposals: one(),
            rejections: one(),
            connections: BTreeMap::from([("x", Connections::default())]),
            ..RpcFigures::default()
        }),
        ready: Arc::new(|| Ok(())),
    }
}

#[tokio::test]
async fn every_metric_says_what_it_is_and_stands_in_the_docs() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let served =
        tokio::spawn(http::serve(listener, http::Pages::new(full()), async move { stopped.await.unwrap_or_default() }));
    let answer = reqwest::get(format!("http://{addr}/metrics")).await.unwrap();
    let kind = answer.headers()["content-type"].to_str().unwrap().to_string();
    let metrics = answer.text().await.unwrap();
    stop.send(()).unwrap();
    served.await.unwrap().unwrap();
    assert!(kind.starts_with("application/openmetrics-text"), "{kind}");
    assert!(metrics.ends_with("# EOF\n"), "an OpenMetrics page says where it ends");
    current("metrics.md", &table(&metrics));
}
