//! Stories of requests that are repeated, too late, too far ahead, or too many.
//!
//! Not here: what the commands themselves do.

use super::*;
use slipway::state::command::{Abort, NodeDrained, Pause, Rollback, Tick};

#[test]
fn a_repeat_answers_with_the_first_result_and_does_nothing() {
    let mut t = Story::new();
    let body = Command::StartRollout(start(t.s(), "1.0.0", StrategyName::DIRECT));
    let (at, c) = t.0.stamp(body, 0);
    let first = apply(&mut t.0.state, at, &c).unwrap();
    assert!(!first.repeated && !first.events.is_empty());
    let (at, _) = t.0.stamp(Command::Tick(Tick {}), 0);
    let again = apply(&mut t.0.state, at, &c).unwrap();
    assert_eq!((again.index, again.repeated, again.events.len()), (first.index, true, 0));
    assert_eq!(t.s().rollouts.len(), 1);
    // Past its time it is forgotten, and refused as expired: it can never take effect twice.
    let (at, mut tick) = t.0.stamp(Command::Tick(Tick {}), 0);
    tick.at = Millis(t.s().now.0 + 61_000);
    apply(&mut t.0.state, at, &tick).unwrap();
    assert!(t.s().requests.is_empty() && t.s().requests_by_expiry.is_empty());
    let (at, _) = t.0.stamp(Command::Tick(Tick {}), 0);
    assert!(matches!(apply(&mut t.0.state, at, &c), Err(Rejection::Expired { .. })));
}

/// A client's request under this id, valid for so long, a millisecond after the last entry.
fn ask(story: &mut Story, id: &str, ahead: u64, body: Command) -> Result<Applied, Rejection> {
    let (at, mut c) = story.0.stamp(body, 0);
    c.at = Millis(story.s().now.0 + 1);
    c.principal = Principal::local_operator();
    c.request = Some(Fence { id: RequestId::new(id).unwrap(), not_after: Millis(c.at.0 + ahead) });
    apply(&mut story.0.state, at, &c)
}

#[test]
fn a_flood_of_requests_meets_a_bound_locks_no_rollback_out_and_old_ones_are_still_answered() {
    // Longer than the flood, which moves the time by a millisecond a request.
    const AHEAD: u64 = 500_000;
    let mut story = Story::new();
    let first = ask(&mut story, "first", AHEAD, Command::Tick(Tick {})).unwrap();
    let all = story.s().cluster.as_ref().unwrap().settings.limits.requests;
    let limit = all - all / 10;
    // What the story began with is in the table too, until its time is over.
    for n in 0.. {
        if story.s().requests.len() >= limit as usize {
            break;
        }
        ask(&mut story, &format!("flood-{n}"), AHEAD, Command::Tick(Tick {})).unwrap();
    }
    for n in 0..3 {
        let refused = ask(&mut story, &format!("more-{n}"), AHEAD, Command::Tick(Tick {})).unwrap_err();
        assert!(matches!(refused, Rejection::Exhausted { .. }), "{refused}");
    }
    assert_eq!(story.s().requests.len(), limit as usize, "the table does not grow");
    // The verbs that stop or turn something still get through, with their own words and as often as one needs.
    let rollout = slipway::model::RolloutId(1);
    for (n, verb) in [
        Command::Rollback(Rollback { rollout }),
        Command::Abort(Abort { rollout, as_is: false }),
        Command::Pause(Pause { rollout }),
        Command::NodeDrained(NodeDrained { node: 1, on: false }),
    ]
    .into_iter()
    .enumerate()
    {
        let said = ask(&mut story, &format!("verb-{n}"), AHEAD, verb.clone());
        assert!(!matches!(said, Err(Rejection::Exhausted { .. })), "{verb:?}: {said:?}");
    }
    // Their part has an end too.
    for n in story.s().requests.len()..all as usize {
        let said = ask(&mut story, &format!("stop-{n}"), AHEAD, Command::Pause(Pause { rollout }));
        assert!(!matches!(said, Err(Rejection::Exhausted { .. })), "{said:?}");
    }
    let refused = ask(&mut story, "stop", AHEAD, Command::Pause(Pause { rollout })).unwrap_err();
    assert!(matches!(refused, Rejection::Exhausted { .. }), "{refused}");
    assert_eq!(story.s().requests.len(), all as usize, "the table does not grow");
    invariants::check(story.s()).unwrap();
    // What was taken before is answered from the table, also from one that was in a snapshot.
    let again = ask(&mut story, "first", AHEAD, Command::Tick(Tick {})).unwrap();
    assert_eq!((again.index, again.repeated), (first.index, true));
    let bytes = slipway::state::codec::encode_snapshot(story.s()).unwrap();
    story.0.state = slipway::state::codec::decode_snapshot(&bytes).unwrap();
    let again = ask(&mut story, "first", AHEAD, Command::Tick(Tick {})).unwrap();
    assert_eq!((again.index, again.repeated), (first.index, true));
    // Once it is past its time there is room again.
    story.0.state.now = Millis(story.s().now.0 + 2 * AHEAD);
    assert!(!ask(&mut story, "later", AHEAD, Command::Tick(Tick {})).unwrap().repeated);
    assert_eq!(story.s().requests.len(), 1);
}

#[test]
fn a_request_is_refused_past_its_time_too_far_ahead_and_with_another_body() {
    let mut story = Story::new();
    let first = ask(&mut story, "r", 5_000, Command::Tick(Tick {})).unwrap();
    let reused =
        ask(&mut story, "r", 5_000, Command::Abort(Abort { rollout: slipway::model::RolloutId(1), as_is: false }))
            .unwrap_err();
    assert!(matches!(reused, Rejection::RequestReused { .. }), "{reused}");
    let far = ask(&mut story, "far", 10 * 60_000 + 1_000, Command::Tick(Tick {})).unwrap_err();
    assert!(matches!(far, Rejection::TooFarAhead), "{far}");
    // A late repeat with the limit of its first try takes no effect a second time.
    let (at, mut c) = story.0.stamp(Command::Tick(Tick {}), 0);
    let not_after = Millis(story.s().now.0 + 4_000);
    c.at = Millis(not_after.0 + 2_000);
    c.principal = Principal::local_operator();
    c.request = Some(Fence { id: RequestId::new("r").unwrap(), not_after });
    let late = apply(&mut story.0.state, at, &c).unwrap_err();
    assert!(matches!(late, Rejection::Expired { .. }), "{late}");
    assert!(first.index < at.index);
}
