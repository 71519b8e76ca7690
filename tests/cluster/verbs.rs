//! Verbs of the CLI that no other scenario runs, each on a cluster with something to show: what a person reads, and
//! what scripts read.

use std::{
    io::Write as _,
    process::{Command, Stdio},
};

use slipway::wire::v1::{self, catalog_client::CatalogClient};

use crate::lab::{Lab, Release, SOON, eventually, list, package, spec, text};

/// `slipway ARGS` with these nodes in its environment and this on its standard input: whether it went well, and both
/// outputs.
fn told(nodes: &str, lab: &Lab, input: &str, args: &[&str]) -> (bool, String) {
    let mut child = Command::new(env!("CARGO_BIN_EXE_slipway"))
        .args(args)
        .env("SLIPWAY_NODES", nodes)
        .env("HOME", lab.dir())
        .env_remove("XDG_CONFIG_HOME")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let out = child.wait_with_output().unwrap();
    let said = [out.stdout, out.stderr].concat();
    (out.status.success(), String::from_utf8_lossy(&said).into_owned())
}

/// Two releases, one deployment that runs the first, one worker.
fn furnished() -> Lab {
    let lab = Lab::new(1, 1);
    let (done, said) = told(&lab.node_list(), &lab, &spec("strategy: direct, bake: 100ms"), &["apply", "-f", "-"]);
    assert!(done && said.contains("production/shop"), "{said}");
    let (done, said) = told(&lab.node_list(), &lab, "service: [", &["apply", "-f", "-"]);
    assert!(!done && said.contains("error: standard input: "), "what came over standard input is named so: {said}");
    lab.push("1.0.0");
    lab.push("2.0.0");
    lab.roll("1.0.0", &[]).ok();
    lab
}

#[test]
fn every_list_says_what_is_there_in_words_and_for_scripts() {
    let lab = furnished();
    // The verb, what its table names, what the wide one adds, and a line of its YAML.
    let lists = [
        (["node", "list"], &["NAME", "n1", "leader"][..], "LEVELS", "name: n1"),
        (["worker", "list"], &["w1", "ready", "2/"], "KEPT BY", "status: ready"),
        (
            ["release", "list"],
            &["shop", "1.0.0", "2.0.0", "production", "ago", "1/1"],
            "TOOLCHAIN",
            "version: \"2.0.0\"",
        ),
        (["environment", "list"], &["production", "canary", "WITHOUT DATA"], "STRATEGY", "name: production"),
        (["service", "list"], &["shop", "production/shop", "2"], "DEPLOYMENTS", "name: shop"),
        (["deployment", "list"], &["production/shop", "1.0.0 100 % (2)"], "TTL", "id: production/shop"),
        (["event", "list"], &["production/shop", "completed"], "production/shop", "kind: cluster_created"),
    ];
    for (verb, words, wide, yaml) in lists {
        let said = lab.slipway(&verb).ok();
        for word in words {
            assert!(said.out.contains(word), "{}: no {word:?}:\n{}", said.line, said.out);
        }
        let said = lab.slipway(&[verb[0], verb[1], "-o", "wide"]).ok();
        assert!(said.out.contains(wide), "{}: no {wide:?}:\n{}", said.line, said.out);
        let said = lab.slipway(&[verb[0], "ls", "-o", "yaml"]).ok();
        assert!(said.out.lines().any(|l| l.trim_start_matches(['-', ' ']) == yaml), "{}: {}", said.line, said.out);
        assert!(said.err.is_empty(), "{}: {}", said.line, said.err);
    }
    let said = lab.slipway(&["event", "list", "production/none"]).exits(1);
    assert!(said.out.is_empty(), "of others nothing: {}", said.out);
    said.says(&["production/none does not exist", "production/shop"]);
    // The same by the calls behind them.
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let mut catalog = CatalogClient::connect(format!("http://{}", lab.client(1))).await.unwrap();
        let all = v1::ListRequest::default;
        let of = |service: &str| v1::ListRequest { service: service.into(), ..v1::ListRequest::default() };
        let services = catalog.list_services(all()).await.unwrap().into_inner().items;
        let services: Vec<_> =
            services.iter().map(|s| (s.name.as_str(), s.release_count, s.deployment_ids.len())).collect();
        assert_eq!(services, [("shop", 2, 1)]);
        let releases = catalog.list_releases(of("shop")).await.unwrap().into_inner().items;
        let releases: Vec<_> = releases.iter().map(|r| (r.version.as_str(), r.status.as_str(), r.holders)).collect();
        assert_eq!(releases, [("1.0.0", "active", 1), ("2.0.0", "ready", 1)]);
        assert!(catalog.list_releases(of("cart")).await.unwrap().into_inner().items.is_empty());
        let instances = catalog.list_instances(of("shop")).await.unwrap().into_inner().items;
        assert_eq!(instances.len(), 2);
        assert!(instances.iter().all(|i| i.serves && i.status == "running" && i.worker == "w1"), "{instances:#?}");
        let page = v1::ListRequest { page: Some(v1::Page { limit: 1, ..Default::default() }), ..of("shop") };
        let first = catalog.list_instances(page).await.unwrap().into_inner();
        assert_eq!(first.items[..], instances[..1], "a page of one");
        assert!(!first.page.unwrap().next.is_empty(), "and there is more");
    });
    lab.finish();
}

#[test]
fn a_restart_rolls_the_running_version_out_again_and_scripts_read_it_as_yaml() {
    let lab = furnished();
    let before = lab.instances();
    let said = lab.slipway(&["rollout", "start", "production/shop", "--to", "1.0.0"]);
    assert!(said.code != 0 && said.err.contains("rollout restart"), "{}", said.err);
    let args = ["rollout", "restart", "production/shop", "--watch", "--within", "60s", "-o", "json"];
    let ended = lab.slipway(&args).ok().json();
    assert_eq!((text(&ended, "status"), text(&ended["from"], "version")), ("completed", "1.0.0"), "{ended:#}");
    let second = text(&ended, "id");
    eventually("all of them are new, of the same version", SOON, || {
        let now = lab.instances();
        let other = now.iter().all(|i| i.1 == "1.0.0" && before.iter().all(|b| b.2 != i.2));
        if other && now.len() == 2 { Ok(()) } else { Err(format!("{before:?} {now:?}")) }
    });
    for (args, line) in [
        (&["rollout", "status", second][..], "status: completed"),
        (&["deployment", "show", "shop"], "status: running"),
        (&["cluster", "status"], "quorum: true"),
    ] {
        let said = lab.slipway(&[args, &["-o", "yaml"]].concat()).ok();
        assert!(said.out.lines().any(|l| l.trim_start_matches(['-', ' ']) == line), "{}: {}", said.line, said.out);
    }
    let shown = lab.slipway(&["deployment", "show", "shop", "-o", "wide"]).ok();
    assert!(shown.out.contains("RESTARTS") && shown.out.contains("IN DNS"), "{}", shown.out);
    let history = lab.slipway(&["service", "history", "shop", "-o", "json"]).ok().json();
    let ids: Vec<&str> = history.as_array().unwrap().iter().map(|r| text(r, "id")).collect();
    assert!(ids.len() == 2 && ids[0] == second, "the newest first: {history:#}");
    lab.finish();
}

#[test]
fn short_spellings_follow_a_canary_and_flags_do_what_they_say() {
    let lab = furnished();
    lab.apply(&spec("strategy: canary, steps: [50, 100], bake: 1h"));
    let started = lab.slipway(&["service", "update", "shop", "--to", "2.0.0", "-o", "json"]).ok().json();
    let id = text(&started, "rollout");
    eventually("half of it is there", SOON, || {
        let said = lab.slipway(&["service", "canary", "status", "shop"]).ok();
        if said.out.contains("2.0.0") && said.out.contains("50 %") { Ok(()) } else { Err(said.out) }
    });
    lab.slipway(&["rollout", "watch", id, "--within", "300ms"]).exits(4);
    lab.slipway(&["service", "canary", "promote", "shop", "--watch", "--within", "60s"]).ok();
    let watched = lab.slipway(&["rollout", "watch", id, "-o", "json"]).ok().json();
    assert_eq!(text(&watched, "status"), "completed", "{watched:#}");

    let shown = lab.slipway(&["deployment", "show", "shop", "-o", "json"]).ok().json();
    let all = list(&shown, "instances");
    let instance = text(all.iter().find(|i| i["status"] == "running").unwrap(), "id").to_string();
    let logs = lab.slipway(&["logs", "shop", "--instance", &instance, "-n", "3"]).ok();
    assert!(logs.out.contains("listens on"), "{}", logs.out);
    assert!(logs.out.lines().all(|l| l.contains(&format!(" 2.0.0 {instance} w1 "))), "{}", logs.out);

    let probe = ["traffic", "probe", "shop", "--rate", "40", "--clients", "4", "--duration", "1s", "--json"];
    let seen = lab.slipway(&probe).ok().json();
    assert_eq!(seen["failed"], 0, "{seen:#}");
    assert_eq!(seen["versions"].as_object().unwrap().keys().collect::<Vec<_>>(), ["2.0.0"], "{seen:#}");
    let lease = lab.slipway(&["traffic", "lease", "shop", "--on-expiry", "stale:30s"]).ok();
    assert!(lease.out.contains("at a lease's end, production/shop: stale"), "{}", lease.out);

    let dir = package(lab.dir(), &Release { version: "3.0.0", settings: "" });
    let push = ["release", "push", "shop", "3.0.0", dir.to_str().unwrap()];
    lab.slipway(&[&push[..], &["--label", "team"]].concat()).exits(2).says(&["KEY=VALUE"]);
    let named = ["--label", "team=blue", "--commit", "0a1b2c", "--toolchain", "rust-1.95"];
    lab.slipway(&[&push[..], &named].concat()).ok();
    let releases = lab.slipway(&["release", "list", "shop", "-o", "wide"]).ok();
    assert!(["team=blue", "0a1b2c", "rust-1.95"].iter().all(|w| releases.out.contains(w)), "{}", releases.out);

    lab.slipway(&["cluster", "backup", "whole"]).ok();
    lab.slipway(&["cluster", "backup", "bare", "--without-packages"]).ok();
    let size = |name: &str| std::fs::metadata(lab.dir().join(name)).unwrap().len();
    assert!(size("bare") * 10 < size("whole"), "{} of {}", size("bare"), size("whole"));
    lab.slipway(&["cluster", "check", "bare"]).ok();
    lab.finish();
}

#[test]
fn the_file_of_the_cli_says_which_nodes_and_what_a_bare_name_means() {
    let lab = furnished();
    let dir = lab.dir().join(".config/slipway");
    std::fs::create_dir_all(&dir).unwrap();
    let write = |text: &str| std::fs::write(dir.join("config.toml"), text).unwrap();
    write(&format!("nodes = ['{}']\nenvironment = 'staging'\n", lab.client(1)));
    // An empty variable says nothing.
    let ask = |args: &[&str]| told("", &lab, "", args);
    let (done, said) = ask(&["deployment", "show", "production/shop"]);
    assert!(done && said.contains("1.0.0"), "{said}");
    let (done, said) = ask(&["deployment", "show", "shop"]);
    assert!(!done && said.contains("staging/shop"), "{said}");
    let (done, said) = ask(&["--environment", "production", "deployment", "show", "shop"]);
    assert!(done && said.contains("production/shop"), "a flag is nearer than the file: {said}");
    write("node = 'x'\n");
    let (done, said) = ask(&["deployment", "list"]);
    assert!(!done && said.contains("config.toml") && said.contains("node"), "{said}");
    lab.finish();
}

#[test]
fn completions_name_the_verbs_and_what_is_in_the_cluster() {
    let lab = furnished();
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let said = lab.slipway(&["completions", shell]).ok();
        assert!(said.out.contains("slipway") && said.out.contains("COMPLETE"), "{shell}: {}", said.out);
    }
    lab.slipway(&["completions", "csh"]).exits(2).says(&["csh", "fish"]);
    // As a shell asks: the words so far, the last of them unfinished.
    let ask = |words: &[&str]| {
        let out = Command::new(env!("CARGO_BIN_EXE_slipway"))
            .args([&["--", "slipway"], words].concat())
            .env("COMPLETE", "fish")
            .env("SLIPWAY_NODES", lab.node_list())
            .env("HOME", lab.dir())
            .env_remove("XDG_CONFIG_HOME")
            .output()
            .unwrap();
        String::from_utf8(out.stdout).unwrap()
    };
    let nouns = ask(&[""]);
    assert!(nouns.contains("rollout") && nouns.contains("status") && !nouns.contains("demo"), "{nouns}");
    for (words, name) in [
        (&["rollout", "start", ""][..], "production/shop"),
        (&["rollout", "start", "shop", "--to", ""], "2.0.0"),
        (&["release", "show", ""], "shop"),
        (&["cluster", "leave", ""], "n1"),
        (&["worker", "show", ""], "w1"),
    ] {
        let said = ask(words);
        assert!(said.contains(name), "{words:?}: no {name}: {said}");
    }
    lab.finish();
}

#[test]
fn a_release_is_shown_and_taken_out_of_use_once_nothing_needs_it() {
    let lab = furnished();
    let said = lab.slipway(&["release", "show", "shop", "1.0.0"]).ok().out;
    for word in ["shop 1.0.0", "running", "production/shop as stable", "on 1 of 1 nodes"] {
        assert!(said.contains(word), "no {word:?}:\n{said}");
    }
    let said = lab.slipway(&["release", "show", "shop", "1.0.1"]);
    assert!(said.code != 0 && said.err.contains("did you mean 1.0.0"), "{}", said.err);
    for verb in ["retire", "remove"] {
        let said = lab.slipway(&["release", verb, "shop", "1.0.0"]);
        assert!(said.code != 0 && said.err.contains("production/shop runs it"), "{}", said.err);
    }
    // A version of a team that counts otherwise.
    lab.push("dev-b7e4c27");
    let listed = lab.slipway(&["release", "list", "-o", "json"]).ok().json();
    let versions: Vec<&str> = listed.as_array().unwrap().iter().map(|r| text(r, "version")).collect();
    assert_eq!(versions, ["1.0.0", "2.0.0", "dev-b7e4c27"], "what is no semantic version comes last");
    lab.roll("dev-b7e4c27", &[]).ok();
    lab.slipway(&["release", "retire", "shop", "2.0.0"]).ok();
    let said = lab.slipway(&["rollout", "start", "production/shop", "--to", "2.0.0"]);
    assert!(said.code != 0 && said.err.contains("is retired"), "{}", said.err);
    lab.slipway(&["release", "remove", "shop", "2.0.0"]).ok();
    let said = lab.slipway(&["release", "list"]).ok().out;
    assert!(!said.contains("2.0.0") && said.contains("dev-b7e4c27"), "{said}");
    let events = lab.slipway(&["event", "list"]).ok().out;
    assert!(events.contains("release shop 2.0.0 is removed"), "{events}");
    lab.finish();
}
