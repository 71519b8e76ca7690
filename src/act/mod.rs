//! The outbox: what the leader owes to the outside. So far the smoke test: a GET of one path at every target.
//!
//! Invariants: at least once, keyed: each call carries the delivery's key, so a receiver can recognise a repetition; a
//! target passes only with a 2xx answer; a delivery ends when all targets have passed or its time is over; a few
//! targets are asked at once, and only addresses that a sane worker can have ([`refusal`]).
//!
//! Not here: committing the outcome (`lead`), and what follows from it (`engine`).

mod targets;

use std::time::Duration;

use futures_util::{StreamExt as _, stream};

pub use targets::refusal;

use crate::{
    ask::Way,
    clock::{Backoff, Clock},
    model::HealthCheck,
    state::{Delivery, DeliveryKey},
};

const ATTEMPT: Duration = Duration::from_secs(2);
/// Targets that are asked at once.
const AT_ONCE: usize = 8;
/// What the last attempt may take beyond the time, so that its own words are heard.
const MARGIN: Duration = Duration::from_millis(500);
/// Between two rounds over the targets that did not answer well.
const BACKOFF: Backoff = Backoff::new(Duration::from_millis(200), Duration::from_secs(2));
/// Header that carries the delivery's key.
pub const KEY_HEADER: &str = "slipway-delivery";
/// Longest detail that is committed, in characters.
const MAX_DETAIL: usize = 512;

/// How a delivery ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeliveryOutcome {
    /// Whether every target answered well.
    pub ok: bool,
    /// What they answered.
    pub detail: String,
}

/// Delivers.
#[derive(Debug, Clone)]
pub struct Courier {
    clock: Clock,
}

impl Courier {
    /// A courier; calls do not go through proxies and do not follow redirections.
    pub fn new(clock: Clock) -> Self {
        Self { clock }
    }

    /// Asks every target, over what its health check goes over too, until it is well or `limit` is over.
    pub async fn deliver(
        &self,
        key: DeliveryKey,
        delivery: &Delivery,
        check: Option<&HealthCheck>,
        limit: Duration,
    ) -> DeliveryOutcome {
        let way = check.map_or_else(Way::plain, Way::of);
        let started = self.clock.mono();
        let mut backoff = BACKOFF;
        let mut left: Vec<&String> = delivery.targets.iter().collect();
        loop {
            let mut problem = None;
            let mut still = Vec::new();
            let spent = || Duration::from_millis(self.clock.mono().since(started));
            // Of many that hang a round would take longer than there is time; one attempt there is.
            let round = limit.saturating_sub(spent()).max(ATTEMPT);
            let (way, path) = (&way, &delivery.path);
            let asking: Vec<_> =
                left.iter().copied().map(|target| async move { (target, ask(way, key, target, path).await) }).collect();
            let asked = async {
                let mut answers = stream::iter(asking).buffered(AT_ONCE);
                while let Some((target, answer)) = answers.next().await {
                    if let Err(why) = answer {
                        problem.get_or_insert_with(|| format!("{target}: {why}"));
                        still.push(target);
                    }
                }
            };
            let all = tokio::time::timeout(round.saturating_add(MARGIN), asked).await.is_ok();
            if !all {
                problem.get_or_insert_with(|| "not every target was asked in time".into());
            }
            let Some(problem) = problem else {
                return DeliveryOutcome {
                    ok: true,
                    detail: format!("{} targets answered well", delivery.targets.len()),
                };
            };
            let pause = backoff.pause();
            if !all || spent().saturating_add(pause) >= limit {
                return DeliveryOutcome { ok: false, detail: problem.chars().take(MAX_DETAIL).collect() };
            }
            left = still;
            tokio::time::sleep(pause).await;
        }
    }
}

async fn ask(way: &Way, key: DeliveryKey, target: &str, path: &str) -> Result<(), String> {
    let at = target.parse().map_err(|_| format!("{target:?} is not an address with a port"))?;
    let key = format!("{}-{}", key.index, key.ordinal);
    let headers = [(KEY_HEADER, key.as_str())];
    match tokio::time::timeout(ATTEMPT, way.get(at, path, &headers)).await {
        Ok(Ok(answer)) => {
            let (well, said) = (answer.is_success(), answer.said());
            answer.dismiss();
            if well { Ok(()) } else { Err(format!("{path} answered {said}")) }
        }
        Ok(Err(e)) => Err(format!("{path} {e}")),
        Err(_) => Err(format!("{path} did not answer within {ATTEMPT:?}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        model::{Millis, RolloutId},
        state::Meta,
    };
    use std::sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    };

    async fn target(fail_first: u32) -> (String, Arc<AtomicU32>) {
        let asked = Arc::new(AtomicU32::new(0));
        let count = asked.clone();
        let app = axum::Router::new().route(
            "/smoke",
            axum::routing::get(move || {
                let n = count.fetch_add(1, Ordering::SeqCst);
                async move {
                    if n < fail_first {
                        axum::http::StatusCode::INTERNAL_SERVER_ERROR
                    } else {
                        axum::http::StatusCode::OK
                    }
                }
            }),
        );
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap().to_string();
        tokio::spawn(async move { axum::serve(listener, app).await });
        (addr, asked)
    }

    fn delivery(targets: Vec<String>) -> Delivery {
        Delivery {
            meta: Meta::default(),
            path: "/smoke".into(),
            targets,
            rollout: RolloutId(1),
            step: 0,
            attempt: 1,
            expires: Millis(0),
        }
    }

    #[tokio::test]
    async fn a_target_is_asked_until_it_is_well() {
        let (addr, asked) = target(1).await;
        let courier = Courier::new(Clock::real());
        let key = DeliveryKey { index: 270, ordinal: 0 };
        let outcome = courier.deliver(key, &delivery(vec![addr]), None, Duration::from_secs(10)).await;
        assert!(outcome.ok, "{}", outcome.detail);
        assert_eq!(asked.load(Ordering::SeqCst), 2);
    }

    #[tokio::test]
    async fn a_target_behind_a_name_is_asked_by_that_name() {
        let app = axum::Router::new().route(
            "/smoke",
            axum::routing::get(|headers: axum::http::HeaderMap| async move {
                let ours = headers.get("host").is_some_and(|h| h == "shop.example");
                if ours { axum::http::StatusCode::OK } else { axum::http::StatusCode::BAD_REQUEST }
            }),
        );
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap().to_string();
        tokio::spawn(async move { axum::serve(listener, app).await });
        let text = "{service: shop, environment: qa, run: {command: [x]}, ports: {http: 80}, \
                    health: {http: /, host: shop.example}}";
        let spec = crate::model::read_spec(text, crate::model::SpecFormat::Yaml).unwrap();
        let (courier, key) = (Courier::new(Clock::real()), DeliveryKey { index: 270, ordinal: 0 });
        let soon = Duration::from_millis(1);
        let outcome = courier.deliver(key, &delivery(vec![addr.clone()]), Some(&spec.health), soon).await;
        assert!(outcome.ok, "{}", outcome.detail);
        let outcome = courier.deliver(key, &delivery(vec![addr]), None, soon).await;
        assert!(outcome.detail.contains("400 Bad Request"), "{}", outcome.detail);
    }

    #[tokio::test]
    async fn targets_that_hang_do_not_keep_the_others_waiting_nor_beyond_the_time() {
        // Each answers only once all of them were asked.
        let all = Arc::new(tokio::sync::Barrier::new(AT_ONCE));
        let mut targets = Vec::new();
        for _ in 0..AT_ONCE {
            let all = all.clone();
            let answer = axum::routing::get(move || async move {
                let _ = all.wait().await;
            });
            let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
            targets.push(listener.local_addr().unwrap().to_string());
            tokio::spawn(async move { axum::serve(listener, axum::Router::new().route("/smoke", answer)).await });
        }
        let (courier, key) = (Courier::new(Clock::real()), DeliveryKey { index: 270, ordinal: 0 });
        let outcome = courier.deliver(key, &delivery(targets), None, Duration::from_millis(1)).await;
        assert!(outcome.ok, "{}", outcome.detail);
        // Connections that nobody takes: a round over all of them one after the other would take a minute.
        let quiet = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let quiet = vec![quiet.local_addr().unwrap().to_string(); 30];
        let delivery = delivery(quiet);
        let asking = courier.deliver(key, &delivery, None, ATTEMPT);
        let outcome =
            tokio::time::timeout(Duration::from_secs(6), asking).await.expect("a delivery ends with its time");
        assert!(!outcome.ok && outcome.detail.contains("did not answer within"), "{}", outcome.detail);
    }

    #[tokio::test]
    async fn a_target_that_stays_ill_is_named() {
        let (addr, _) = target(u32::MAX).await;
        let courier = Courier::new(Clock::real());
        let key = DeliveryKey { index: 270, ordinal: 0 };
        let outcome = courier.deliver(key, &delivery(vec![addr.clone()]), None, Duration::from_millis(1)).await;
        assert!(!outcome.ok && outcome.detail.contains(&addr) && outcome.detail.contains("500"), "{}", outcome.detail);
    }
}
