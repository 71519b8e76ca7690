//! What cannot be counted is unknown, with its reason, and never zero.

use slipway::wire::v1;

use super::{
    ID, serves,
    worker::{Worker, assignment, free_port, spec_of, until},
};

/// A worker whose instance serves, with these selectors; a step is counted.
async fn counting(metrics: &str) -> Worker {
    let mut w = Worker::start().await;
    let (package, port) = (serves::package("1.0.0"), free_port());
    w.offer(&[&package]);
    let text = format!(
        "service: shop\nenvironment: production\nrun: {{command: [\"bin/shop\"], env: {{TEST_SERVES: plainly}}}}\n\
         ports: {{http: 80}}\nhealth: {{http: /healthz, interval: 100ms}}\nmetrics: {metrics}\n"
    );
    let mut wanted = assignment(1, "activate", &[&package], vec![package.entry(ID, port)]);
    wanted.specs = vec![spec_of(&text)];
    w.desire(vec![wanted.clone()]);
    w.instance_is(ID, "running", "passing").await;
    w.desire(vec![v1::Assignment { mark: 140, ..wanted }]);
    w
}

/// Requests and errors of a pair.
pub fn numbers(p: &v1::PairCounts) -> Option<(u64, u64)> {
    let of = |name: &str| Some(p.metrics.iter().find(|m| m.name == name)?.count);
    of("requests").zip(of("errors"))
}

fn step(w: &Worker) -> Option<v1::StepCounts> {
    w.report().counts.into_iter().find(|c| c.step_id == 140)
}

#[tokio::test(flavor = "multi_thread")]
async fn errors_that_match_no_series_are_reported_as_unknown_and_a_page_that_is_missing_too() {
    for (metrics, why) in [
        ("{requests: http_requests_total, errors: 'http_requests_total{status=\"500\"}'}", "has a label \"status\""),
        ("{requests: http_requests_total, errors: http_errors_total}", "no metric http_errors_total"),
    ] {
        let w = counting(metrics).await;
        let said = until("what is not known", || step(&w)?.uncounted.first().map(|u| u.why.clone())).await;
        assert!(said.contains(ID) && said.contains("metrics.errors") && said.contains(why), "{said}");
        assert!(step(&w).unwrap().pairs.is_empty(), "requests alone would thin errors out");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn errors_that_never_happened_are_zero() {
    let w = counting("{requests: http_requests_total, errors: 'http_requests_total{code=~\"5..\"}'}").await;
    let pairs =
        until("the step's counts", || step(&w).filter(|c| c.uncounted.is_empty() && !c.pairs.is_empty())).await.pairs;
    assert_eq!(numbers(&pairs[0]), Some((0, 0)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_that_cannot_be_read_is_unknown_with_what_came_back() {
    let (mut w, package, port) = super::running().await;
    let text = "service: shop\nenvironment: production\n\
                run: {command: [\"bin/shop\", \"--listen\", \"${SLIPWAY_ADDR_HTTP}\"], stop: {grace: 1s}}\n\
                ports: {http: 80}\nhealth: {http: /healthz, interval: 100ms}\n\
                metrics: {path: /nowhere, requests: a, errors: b}\n";
    let entry = v1::Entry { replaces: ID.into(), ..package.entry("60-0", port) };
    let next =
        v1::Assignment { specs: vec![spec_of(text)], mark: 140, ..assignment(2, "activate", &[&package], vec![entry]) };
    w.desire(vec![next]);
    w.instance_is("60-0", "running", "passing").await;
    let known = || step(&w)?.uncounted.first().map(|u| u.why.clone()).filter(|why| why.contains("/nowhere"));
    let said = until("what is not known", known).await;
    assert!(said.contains("60-0: /nowhere answered 404 Not Found"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_declared_histogram_is_scraped_and_reported_by_its_name() {
    let w = counting("{requests: http_requests_total, errors: 'http_requests_total{code=~\"5..\"}', series: {latency: request_seconds, gone: none}}").await;
    let of = |name: &'static str| {
        let w = &w;
        move || step(w)?.pairs.first()?.metrics.iter().find(|m| m.name == name).cloned()
    };
    let latency = until("the latency", of("latency")).await;
    let histogram = latency.histogram.expect("it is declared as a histogram");
    assert_eq!((histogram.bounds, latency.count), (vec![5_000, 100_000], 0), "nothing since the step began");
    assert_eq!(until("the requests", of("requests")).await.count, 0, "a metric that is unknown hides no other");
    let unknown = step(&w).unwrap().uncounted;
    assert_eq!(unknown.iter().map(|u| u.metric.as_str()).collect::<Vec<_>>(), ["gone"]);
}
