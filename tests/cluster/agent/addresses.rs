//! A worker offers the addresses that its machine has, says which it lacks, and offers them once they are there.

use std::process::Command;

use slipway::wire::v1;

use super::worker::{Worker, until};
use crate::helpers::skip::skip;

/// An address of nobody (RFC 5737), taken to `lo` for the time of a test; needs root.
struct Borrowed(&'static str);

impl Borrowed {
    fn take(address: &'static str) -> Option<Self> {
        ip("add", address).then_some(Self(address))
    }
}

impl Drop for Borrowed {
    fn drop(&mut self) {
        ip("del", self.0);
    }
}

fn ip(verb: &str, address: &str) -> bool {
    let done = Command::new("ip").args(["address", verb, &format!("{address}/32"), "dev", "lo"]).output();
    done.is_ok_and(|o| o.status.success())
}

const POOL: &str = "pool = [\"127.0.2.1-127.0.2.2\", \"192.0.2.61\", \"192.0.2.62\"]\nhost = \"192.0.2.63\"\n";

fn hello(w: &Worker) -> Option<v1::Hello> {
    w.node.shared.hellos.lock().unwrap().last().cloned()
}

#[tokio::test(flavor = "multi_thread")]
async fn addresses_that_the_machine_lacks_are_named_and_not_offered() {
    let w = Worker::start_with(POOL).await;
    let first = until("a hello", || hello(&w)).await;
    assert_eq!(first.pool, ["127.0.2.1", "127.0.2.2"]);
    assert_eq!(first.absent, ["192.0.2.61", "192.0.2.62", "192.0.2.63"]);
    let log = std::fs::read_to_string(w.dir.path().join("agent.log")).unwrap();
    assert!(log.contains("pool 2 of 4: 192.0.2.61, 192.0.2.62 are not on this machine"), "{log}");
    assert!(log.contains("host 192.0.2.63 is not on this machine"), "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn addresses_that_come_back_are_offered_again_without_a_restart() {
    let w = Worker::start_with(&POOL.replace("2.6", "2.5")).await;
    let first = until("a hello", || hello(&w)).await;
    let Some(_borrowed) = Borrowed::take("192.0.2.51") else {
        return skip(
            "addresses_that_come_back_are_offered_again_without_a_restart",
            "no right to give lo an address (root, iproute2)",
        );
    };
    let now = until("the address is offered", || hello(&w).filter(|h| h.pool.len() == 3)).await;
    assert_eq!(now.pool[2], "192.0.2.51");
    assert_eq!(now.absent, ["192.0.2.52", "192.0.2.53"]);
    assert_eq!(now.epoch, first.epoch);
}
