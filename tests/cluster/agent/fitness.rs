//! Before anything is stopped or started for the next pair, the agent says what its machine lacks, in the words of a
//! start that fails.

use slipway::wire::v1;

use super::{
    ID,
    worker::{Package, Worker, assignment, free_port, spec_of, until},
};

fn doc(revision: u64, run: &str, ports: &str) -> v1::SpecDoc {
    doc_with(revision, run, ports, "")
}

fn doc_with(revision: u64, run: &str, ports: &str, health: &str) -> v1::SpecDoc {
    let text = format!(
        "service: shop\nenvironment: production\naddress: pool\nports: {ports}\nrun: {run}\n\
         health: {{http: /healthz, interval: 100ms{health}}}\nrollout: {{strategy: direct}}\n"
    );
    v1::SpecDoc { revision, ..spec_of(&text) }
}

const RUN: &str = "command: [bin/shop, --listen, '${SLIPWAY_ADDR_HTTP}']";

/// What is to run next of a package, under spec 2.
fn next(of: &Package, address: &str) -> Option<v1::Next> {
    Some(v1::Next { pair: Some(v1::Pair { spec: 2, ..of.pair() }), address: address.into() })
}

async fn says(w: &Worker, generation: u64, fit: &str) -> v1::ReachedReport {
    until(&format!("generation {generation} {fit}"), || {
        w.report().reached.into_iter().find(|r| r.generation == generation && r.fit == fit)
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_machine_lacks_is_said_before_anything_is_stopped_and_one_that_is_mended_says_so_by_itself() {
    let mut w = Worker::start().await;
    let (old, new, port) = (Package::shop("1.0.0"), Package::shop("2.0.0"), free_port());
    let bad = Package::new("3.0.0", &[("bin/other", b"")]);
    w.offer(&[&old, &new, &bad]);
    let runs = |generation| v1::Assignment {
        specs: vec![doc(1, &format!("{{{RUN}}}"), "{http: 8080}")],
        ..assignment(generation, "commit", &[&old], vec![old.entry(ID, port)])
    };
    w.desire(vec![runs(1)]);
    w.instance_is(ID, "running", "passing").await;
    w.reached(1, "committed").await;
    assert_eq!(w.reached(1, "committed").await.fit, "", "nothing is next");
    let pid = w.pid(ID);

    let stages = |generation, of: &Package, run: &str, ports: &str, address: &str| {
        let mut a = runs(generation);
        a.hold.push(of.hold());
        a.specs.push(doc(2, run, ports));
        a.next = next(of, address);
        a
    };
    let file = w.dir.path().join("shop.env");
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = listener.local_addr().unwrap().port();
    let http = "{http: 8080}";
    let env_file = format!("{{{RUN}, env_file: {}}}", file.display());
    let no_user = format!("{{{RUN}, user: no-such-user-here}}");
    let other = w.dir.path().join("other.env");
    std::fs::write(&other, "B=1\n").unwrap();
    let unset = format!("{{command: [bin/shop, '${{NOT_SET}}'], env_file: {}}}", other.display());
    let all = [
        (&new, no_user.as_str(), http.to_owned(), "run.user: this worker has no user \"no-such-user-here\": create it"),
        (&new, env_file.as_str(), http.to_owned(), "shop.env: No such file"),
        (&new, unset.as_str(), http.to_owned(), "${NOT_SET} is not set"),
        (&bad, &format!("{{{RUN}}}"), http.to_owned(), "the release holds no \"bin/shop\""),
        (&new, &format!("{{{RUN}}}"), format!("{{http: {taken}}}"), "is in use by pid"),
    ];
    for (n, (of, run, ports, words)) in (2..).zip(&all) {
        w.desire(vec![stages(n, of, run, ports, "127.0.0.1")]);
        let said = says(&w, n, "lacks").await;
        assert!(said.lacks.contains(words), "{}", said.lacks);
        assert_eq!(w.pid(ID), pid, "what runs is not touched");
    }
    let mut trusts = stages(19, &new, &format!("{{{RUN}}}"), http, "");
    let health = ", scheme: https, tls: {ca_file: /no/such/ca.pem}";
    trusts.specs[1] = doc_with(2, &format!("{{{RUN}}}"), http, health);
    w.desire(vec![trusts]);
    let said = says(&w, 19, "lacks").await.lacks;
    assert!(said.starts_with("health.tls.ca_file /no/such/ca.pem: No such file"), "{said}");

    // Where it listens itself its instance will make room; and what a start would find only then is no reason now.
    w.desire(vec![stages(20, &new, &format!("{{{RUN}}}"), &format!("{{http: {port}}}"), "127.0.0.1")]);
    says(&w, 20, "fits").await;

    w.desire(vec![stages(21, &new, &env_file, http, "")]);
    says(&w, 21, "lacks").await;
    std::fs::write(&file, "A=1\n").unwrap();
    assert_eq!(says(&w, 21, "fits").await.lacks, "");
    assert_eq!(w.pid(ID), pid);

    // A start says the same, word for word.
    std::fs::remove_file(&file).unwrap();
    w.desire(vec![stages(22, &new, &env_file, http, "")]);
    let before = says(&w, 22, "lacks").await.lacks;
    let mut starts = stages(23, &new, &env_file, http, "");
    starts.next = None;
    starts.permit = "activate".into();
    let entry = new.entry("61-0", free_port());
    starts.instances.push(v1::Entry { pair: Some(v1::Pair { spec: 2, ..new.pair() }), ..entry });
    w.desire(vec![starts]);
    assert_eq!(w.instance_is("61-0", "failed", "unknown").await.exit, before);
    assert_eq!(w.pid(ID), pid);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_is_started_again_looks_anew_and_keeps_the_spec_of_what_is_next() {
    let mut w = Worker::start().await;
    let new = Package::shop("2.0.0");
    w.offer(&[&new]);
    let file = w.dir.path().join("shop.env");
    let mut staged = assignment(1, "stage", &[&new], Vec::new());
    staged.specs = vec![doc(2, &format!("{{{RUN}, env_file: {}}}", file.display()), "{http: 8080}")];
    staged.next = next(&new, "");
    w.desire(vec![staged]);
    says(&w, 1, "lacks").await;
    w.kill();
    std::fs::write(&file, "A=1\n").unwrap();
    w.restart();
    says(&w, 1, "fits").await;
}
