//! Stories of workers that come.
//!
//! Not here: what they run.

use slipway::state::command::WorkerLost;
use slipway::{engine::facts, model::Period, state::Observations};

use super::*;

#[test]
fn a_worker_that_has_just_registered_is_not_lost() {
    let mut t = Story::new();
    t.pass(Period::minutes(1));
    t.ok(worker("w9", 9, &["127.1.9.1"]));
    let lost = |t: &Story| {
        let seen = Observations { leader_since: Millis(0), ..Observations::default() };
        let name = WorkerName::new("w9").unwrap();
        facts(t.s(), &seen, t.s().now)
            .iter()
            .any(|c| matches!(c, Command::WorkerLost(WorkerLost { worker, .. }) if *worker == name))
    };
    t.pass(Period::seconds(9));
    assert!(!lost(&t), "it has had no time to report");
    t.pass(Period::seconds(1));
    assert!(lost(&t), "it never did");
}
