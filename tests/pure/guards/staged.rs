//! Readiness to roll back: no step begins while a worker lacks the package that a rollback would start.

use slipway::state::{WorkerFacts, command::StepStarted};

use super::*;
use crate::walk::package;

#[test]
fn no_step_begins_while_a_worker_no_longer_has_unpacked_what_a_rollback_would_start() {
    let mut t = Story::new();
    t.completes("1.0.0", StrategyName::DIRECT);
    t.start("2.0.0", StrategyName::CANARY).unwrap();
    t.until("the package is staged", |s| s.live_rollout(&shop()).is_some_and(|r| r.cursor > 0));
    let w1 = WorkerName::new("w1").unwrap();
    let unpacked = |t: &mut Story, all: &[u32]| {
        let (epoch, seq) = t.s().workers[&w1].report;
        t.ok(Command::FactsRecorded(FactsRecorded {
            workers: vec![WorkerFacts {
                worker: w1.clone(),
                epoch,
                seq: seq + 1,
                instances: Vec::new(),
                reached: Vec::new(),
                staged: Some(all.iter().map(|n| package(*n)).collect()),
            }],
        }));
    };
    unpacked(&mut t, &[2]);
    let next = StepStarted {
        at: StepRef { rollout: t.live().id, seen: t.live().meta.revision, step: t.live().cursor },
        attempt: 1,
    };
    t.refuses(Command::StepStarted(next.clone()), "w1 no longer has 1.0.0 unpacked, which a rollback would need");
    unpacked(&mut t, &[1, 2]);
    t.ok(Command::StepStarted(next));
}
