//! Properties of `apply`: whatever is committed, it never panics and the invariants hold after every entry; replicas
//! that were fed one log agree, also over snapshots; a retry returns the first result; time never goes back.

use std::{collections::BTreeSet, sync::OnceLock};

use crate::walk::{self, Walk, cart, command, prelude_of_two, rounds, shop};
use proptest::prelude::{ProptestConfig, TestCaseError, any, prop, prop_assert, prop_assert_eq, proptest};
use slipway::model::{FailureAction, Millis, StrategyName};
use slipway::state::{
    Command, Fence, LogId, Rejection, Role, Stamped, State, apply, codec,
    command::{Abort, Rollback, Tick},
    digest,
    invariants::{check, check_step},
};

/// A refusal changes nothing but the position, the time and the table of requests.
pub fn untouched(before: &State, after: &State) -> bool {
    let mut same = after.clone();
    same.applied = before.applied;
    same.now = before.now;
    same.wall = before.wall;
    same.requests = before.requests.clone();
    same.requests_by_expiry = before.requests_by_expiry.clone();
    same == *before
}

/// Applies and checks everything.
fn step(state: &mut State, at: LogId, c: &Stamped) -> Result<Result<(), Rejection>, String> {
    let before = state.clone();
    let result = apply(state, at, c);
    let place = format!("#{} {}", at.index, c.body.name());
    check(state).map_err(|e| format!("{place}: {e}"))?;
    check_step(&before, state).map_err(|e| format!("{place}: {e}"))?;
    match &result {
        Err(r) if !untouched(&before, state) => Err(format!("{place}: refused ({r}) and changed something")),
        Ok(_) | Err(_) => Ok(result.map(|_| ())),
    }
}

/// Half of the walks begin with a bare cluster, the others where both deployments run 2.0.0 and have 1.0.0 beside it.
fn random_walk(picks: &[[u32; 4]]) -> Result<Walk, String> {
    let warm = picks.first().is_some_and(|[kind, ..]| kind.is_multiple_of(2));
    let mut walk = if warm { both_have_two_versions().clone() } else { fresh()? };
    for pick in picks {
        for body in command(&walk.state, *pick) {
            let (at, c) = walk.stamp(body, pick[3]);
            let result = step(&mut walk.state, at, &c)?;
            // The planner saw exactly this State: a refusal would be a disagreement about the law.
            if let (Err(e), true) = (&result, walk::is_plan(*pick)) {
                return Err(format!("#{}: the planner's {} was refused: {e}", at.index, c.body.name()));
            }
            walk.note(result.as_ref().err(), &c);
            walk.log.push((at, c));
        }
    }
    Ok(walk)
}

fn fresh() -> Result<Walk, String> {
    let mut walk = Walk::default();
    for body in prelude_of_two() {
        let (at, c) = walk.stamp(body, 0);
        step(&mut walk.state, at, &c)?.map_err(|e| format!("the prelude's {}: {e}", c.body.name()))?;
        walk.log.push((at, c));
    }
    Ok(walk)
}

/// Made once; what led there is no part of the log.
fn both_have_two_versions() -> &'static Walk {
    static MADE: OnceLock<Walk> = OnceLock::new();
    MADE.get_or_init(|| {
        let mut walk = fresh().unwrap();
        for (d, version, strategy) in [
            (shop(), 1, StrategyName::DIRECT),
            (cart(), 1, StrategyName::DIRECT),
            (shop(), 2, StrategyName::BLUE_GREEN),
            (cart(), 2, StrategyName::BLUE_GREEN),
        ] {
            let start = walk::start_as(d.clone(), version, strategy);
            let mut bodies = vec![Command::StartRollout(start)];
            let mut rounds = 0;
            while !bodies.is_empty() {
                for body in bodies.drain(..) {
                    let (at, c) = walk.stamp(body, 100);
                    let _ = step(&mut walk.state, at, &c).unwrap();
                }
                rounds += 1;
                assert!(rounds < 500, "{d} does not get to {version}: {}", rounds::summary(&walk.state));
                if walk.state.live_rollout(&d).is_some() {
                    bodies = rounds::good_round(&walk.state).0;
                }
            }
        }
        let both = [shop(), cart()].iter().all(|d| walk.state.deployments[d].arms.get(Role::Previous).is_some());
        assert!(both, "{}", rounds::summary(&walk.state));
        walk.base = walk.state.clone();
        walk.log.clear();
        walk
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn random_commands_keep_the_invariants(picks in prop::collection::vec(any::<[u32; 4]>(), 1..220)) {
        random_walk(&picks).map_err(TestCaseError::fail)?;
    }

    #[test]
    fn replicas_agree_in_any_chunking(
        picks in prop::collection::vec(any::<[u32; 4]>(), 1..120),
        cuts in prop::collection::vec(0usize..200, 0..4),
    ) {
        let walk = random_walk(&picks).map_err(TestCaseError::fail)?;
        let mut other = walk.base.clone();
        for (n, (at, c)) in walk.log.iter().enumerate() {
            if cuts.contains(&n) {
                let bytes = codec::encode_snapshot(&other).unwrap();
                other = codec::decode_snapshot(&bytes).unwrap();
            }
            let c = codec::decode_command(&codec::encode_command(c).unwrap()).unwrap();
            let _ = apply(&mut other, *at, &c);
        }
        prop_assert_eq!(digest(&walk.state), digest(&other));
        prop_assert_eq!(&walk.state, &other);
        let bytes = codec::encode_snapshot(&other).unwrap();
        prop_assert_eq!(codec::decode_snapshot(&bytes).unwrap(), other);
    }

    #[test]
    fn retries_return_the_first_result(picks in prop::collection::vec(any::<[u32; 4]>(), 1..60)) {
        let mut walk = random_walk(&picks).map_err(TestCaseError::fail)?;
        let asked: Vec<Stamped> = walk.log.iter().map(|(_, c)| c.clone()).filter(|c| c.request.is_some()).collect();
        for mut c in asked {
            let (at, stamp) = walk.stamp(c.body.clone(), 0);
            let key = (c.principal.clone(), c.request.as_ref().unwrap().id.clone());
            let Some(first) = walk.state.requests.get(&key).cloned() else { continue };
            (c.at, c.term) = (stamp.at, stamp.term);
            let before = walk.state.clone();
            let again = apply(&mut walk.state, at, &c);
            prop_assert!(untouched(&before, &walk.state));
            match (&first.rejection, again) {
                (None, Ok(a)) => prop_assert!(a.repeated && a.index == first.index && a.events.is_empty()),
                (Some(r), Err(e)) => prop_assert_eq!(r, &e),
                (r, a) => prop_assert!(false, "first {:?}, then {:?}", r, a),
            }
            // The same id with another body is refused.
            let mut other = c.clone();
            other.body = Command::Tick(Tick {});
            let (at, _) = walk.stamp(Command::Tick(Tick {}), 0);
            let e = apply(&mut walk.state, at, &other).unwrap_err();
            prop_assert_eq!(e.code(), "request_reused");
        }
    }

    #[test]
    fn no_byte_makes_the_decoder_panic(bytes in prop::collection::vec(any::<u8>(), 0..400), flip in any::<(usize, u8)>()) {
        let _ = codec::decode_command(&bytes);
        let _ = codec::decode_snapshot(&bytes);
        let walk = random_walk(&[]).map_err(TestCaseError::fail)?;
        let mut good = codec::encode_snapshot(&walk.state).unwrap();
        let place = flip.0 % good.len();
        good[place] ^= flip.1 | 1;
        prop_assert!(codec::decode_snapshot(&good).is_err(), "byte {} flipped and not seen", place);
    }
}

#[test]
fn time_never_goes_back_and_a_foreign_term_is_refused() {
    let mut walk = random_walk(&[]).unwrap();
    let (at, mut c) = walk.stamp(Command::Tick(Tick {}), 0);
    c.at = Millis(90_000);
    apply(&mut walk.state, at, &c).unwrap();
    let now = walk.state.now;
    assert_eq!(now, Millis(90_000));
    let (at, mut c) = walk.stamp(Command::Tick(Tick {}), 0);
    c.at = Millis(0);
    apply(&mut walk.state, at, &c).unwrap();
    assert_eq!(walk.state.now, now, "a skewed leader's stamp lowered the time");
    let (at, mut c) = walk.stamp(Command::Tick(Tick {}), 0);
    (c.term, c.at) = (at.term + 1, Millis(now.0 + 1_000_000));
    assert_eq!(apply(&mut walk.state, at, &c).unwrap_err().code(), "wrong_term");
    assert_eq!(walk.state.now, now, "a refused term moved the time");
    let (at, mut c) = walk.stamp(Command::Tick(Tick {}), 0);
    let id = slipway::model::RequestId::new("late").unwrap();
    c.request = Some(Fence { id: id.clone(), not_after: Millis(now.0.saturating_sub(1)) });
    assert_eq!(apply(&mut walk.state, at, &c).unwrap_err().code(), "expired");
    c.request = Some(Fence { id, not_after: Millis(now.0 + 601_000) });
    assert_eq!(apply(&mut walk.state, at, &c).unwrap_err().code(), "too_far_ahead");
}

/// How many walks: `SLIPWAY_WALKS` for a longer run.
fn walks(usual: u64) -> u64 {
    std::env::var("SLIPWAY_WALKS").ok().and_then(|n| n.parse().ok()).unwrap_or(usual)
}

/// A fixed walk.
fn picks(seed: u64, len: usize) -> Vec<[u32; 4]> {
    let mut x = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut draw = || {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        (x >> 32) as u32
    };
    (0..len).map(|_| [draw(), draw(), draw(), draw()]).collect()
}

/// A repeat is compared only while its first result is kept: of a fixed walk nearly all are.
#[test]
fn repeats_are_compared_and_not_only_asked_for() {
    let (mut asked, mut kept) = (0, 0);
    for seed in 0..10 {
        let walk = random_walk(&picks(seed, 60)).unwrap();
        let requests = walk.log.iter().filter_map(|(_, c)| Some((c.principal.clone(), c.request.as_ref()?.id.clone())));
        for key in requests {
            asked += 1;
            kept += usize::from(walk.state.requests.contains_key(&key));
        }
    }
    assert!(asked > 50 && kept * 10 > asked * 9, "{kept} of {asked}");
}

/// The properties above say nothing about what was never reached: fixed walks must reach every way a rollout can go,
/// and what two deployments on the same workers have to do with each other.
#[test]
fn the_walks_reach_what_they_claim_to_check() {
    let mut seen: BTreeSet<String> = BTreeSet::new();
    let mut accepted: BTreeSet<&'static str> = BTreeSet::new();
    let mut refused: BTreeSet<String> = BTreeSet::new();
    for seed in 0..walks(45) {
        let walk = random_walk(&picks(seed, 300)).unwrap_or_else(|e| panic!("seed {seed}: {e}"));
        seen.extend(walk.seen);
        accepted.extend(walk.accepted);
        refused.extend(walk.refused);
    }
    let states = ["active", "paused", "promoting", "rolling back", "completed", "rolled back", "failed", "aborted"];
    let shared = ["both roll", "two asked for", "two moved", "a second target refused"];
    for want in states.into_iter().chain(shared) {
        assert!(seen.contains(want), "no walk reached {want}: {seen:?}");
    }
    for want in REFUSALS {
        assert!(refused.iter().any(|r| r.contains(want)), "no walk had {want} refused: {refused:#?}");
    }
    // The prelude makes the cluster, and there is no level above.
    let elsewhere = ["ClusterInit", "LevelProbe", "LevelRaised"];
    let never: Vec<&&str> =
        Command::NAMES.iter().filter(|name| !accepted.contains(*name) && !elsewhere.contains(name)).collect();
    assert!(never.is_empty(), "no walk had an accepted {never:?}");
}

/// Refusals that the walks must meet, without their numbers.
const REFUSALS: &[&str] = &[
    // An address or a place is asked for and none is free.
    "has no free address in its pool",
    // A record that contradicts its verdict.
    "are above the ceiling",
];

/// Whatever happened: once nothing fails any more, planner and law bring every rollout to its end by themselves, but
/// for those that a policy or a person holds, which wait for an operator; and every deployment to its desired
/// instances.
#[test]
fn after_healing_everything_comes_to_rest() {
    let (mut stuck, mut alone) = (Vec::new(), 0);
    for seed in 0..walks(60) {
        let end = random_walk(&picks(seed, 160)).and_then(|mut walk| heal(&mut walk));
        match end {
            Ok(helped) => alone += usize::from(!helped),
            Err(e) => stuck.push(format!("seed {seed}: {e}")),
        }
    }
    assert!(stuck.is_empty(), "{} walks: {}", stuck.len(), stuck.join("\n"));
    assert!(alone > 15, "{alone} walks came to rest without an operator");
}

/// Whether an operator had to help.
fn heal(walk: &mut Walk) -> Result<bool, String> {
    for body in rounds::healing(&walk.state) {
        let (at, c) = walk.stamp(body, 0);
        let _ = step(&mut walk.state, at, &c)?;
    }
    let mut last = String::new();
    let mut holds = 0;
    let before = rounds::held(&walk.state);
    for _ in 0..3000 {
        let (mut bodies, waits) = rounds::good_round(&walk.state);
        for rollout in rounds::held(&walk.state) {
            // What is held only now is held because its policy says so.
            let policy = walk.state.rollouts[&rollout].params.failure_action;
            if !before.contains(&rollout) && policy != FailureAction::Pause {
                return Err(format!("{rollout} waits for an operator, and its policy is {policy:?}; {waits}"));
            }
            // An operator resumes it; in vain twice, they roll back, or abort what has nothing to return to.
            holds += 1;
            if holds > 4 {
                bodies.retain(|b| !matches!(b, Command::Resume(_)));
                bodies.push(Command::Rollback(Rollback { rollout }));
                bodies.push(Command::Abort(Abort { rollout, as_is: false }));
            }
        }
        let pause = if bodies.len() <= 2 { 600_000 } else { 100 };
        last = waits;
        for body in bodies {
            let (at, mut c) = walk.stamp(body, 0);
            c.at = Millis(walk.state.now.0 + pause);
            let _ = step(&mut walk.state, at, &c)?;
        }
        if rounds::at_rest(&walk.state) {
            return Ok(holds > 0);
        }
    }
    Err(format!("no rest: {last}; {}", rounds::summary(&walk.state)))
}
