//! What a check asks and what it makes of the answer: hosts, TLS, statuses, endless bodies; and what is said of those
//! that fail.

use slipway::wire::v1;

use super::{
    ID, serves,
    worker::{Worker, assignment, free_port, spec_of},
};

/// Starts an instance of this habit under this `health:`; more of the spec's environment may follow.
async fn start(what: &str, health: &str, env: &str) -> Worker {
    let mut w = Worker::start().await;
    let (package, port) = (serves::package("1.0.0"), free_port());
    w.offer(&[&package]);
    let text = format!(
        "service: shop\nenvironment: production\nrun: {{command: [\"bin/shop\"], env: {{TEST_SERVES: {what}{env}}}}}\n\
         ports: {{http: 80}}\nhealth: {{http: /healthz, interval: 100ms, start_within: 5s, {health}}}\n"
    );
    let mut wanted = assignment(1, "activate", &[&package], vec![package.entry(ID, port)]);
    wanted.specs = vec![spec_of(&text)];
    w.desire(vec![wanted]);
    w
}

async fn passes(w: &Worker) {
    w.instance_is(ID, "running", "passing").await;
}

async fn fails(w: &Worker) -> String {
    let failed: v1::InstanceReport = w.instance_is(ID, "failed", "unknown").await;
    assert!(failed.exit.contains("did not pass its health check within 5s: "), "{}", failed.exit);
    failed.exit
}

#[tokio::test(flavor = "multi_thread")]
async fn a_200_passes_however_long_its_body() {
    passes(&start("endless", "timeout: 500ms", "").await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_instance_with_a_list_of_hosts_is_asked_by_its_name() {
    passes(&start("host", "host: shop.example", "").await).await;
    let said = fails(&start("host", "timeout: 1s", "").await).await;
    assert!(said.contains("/healthz answered 400 Bad Request"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_rule_of_statuses_decides() {
    passes(&start("busy", "status: '200-299,429'", "").await).await;
    let said = fails(&start("busy", "timeout: 1s", "").await).await;
    assert!(said.contains("answered 429 Too Many Requests"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_instance_that_speaks_tls_is_checked_against_its_ca_or_unverified_by_name() {
    let dir = tempfile::tempdir().unwrap();
    let key = rcgen::KeyPair::generate().unwrap();
    let cert = rcgen::CertificateParams::new(vec!["shop.example".into()]).unwrap().self_signed(&key).unwrap();
    let (cert_file, key_file) = (dir.path().join("cert.pem"), dir.path().join("key.pem"));
    std::fs::write(&cert_file, cert.pem()).unwrap();
    std::fs::write(&key_file, key.serialize_pem()).unwrap();
    let env = format!(", TEST_CERT: {}, TEST_KEY: {}", cert_file.display(), key_file.display());
    let ca = format!("ca_file: {}", cert_file.display());
    passes(&start("tls", &format!("scheme: https, host: shop.example, tls: {{{ca}}}"), &env).await).await;
    passes(&start("tls", "scheme: https, tls: {insecure_skip_verify: true}", &env).await).await;
    let wrong = format!("scheme: https, tls: {{{ca}, server_name: other.example}}");
    let said = fails(&start("tls", &wrong, &env).await).await;
    assert!(said.contains("certificate") && said.contains("other.example"), "{said}");
    let said = fails(&start("tls", "timeout: 1s", &env).await).await;
    assert!(said.contains("speaks TLS: set health.scheme: https"), "{said}");
}
