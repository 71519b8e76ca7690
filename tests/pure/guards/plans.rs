//! Plans that the law does not take, verbs that come at the wrong moment, and a backup with a switch and a rollback in
//! it.

use std::collections::BTreeSet;

use slipway::model::{ClusterId, Step};
use slipway::state::{
    ArmedBy, Budget, Reason, Restoration, Role, RolloutPhase, RouteForm, SwitchAsk, SwitchTo, Unfenced, WaitLevel,
    codec,
    command::{RolloutFinished, StepsCompiled, SwitchAsked},
    restored,
};

use super::*;
use crate::walk::heard;

fn pending() -> Story {
    let mut t = Story::new();
    t.completes("1.0.0", StrategyName::DIRECT);
    t.start("2.0.0", StrategyName::CANARY).unwrap();
    t
}

/// Steps of the live rollout, as a planner could propose them.
fn plan(t: &Story) -> StepsCompiled {
    let step = |kind| Step { group: "x".into(), kind };
    StepsCompiled {
        rollout: t.live().id,
        seen: t.live().meta.revision,
        phase: RolloutPhase::Forward,
        desired: 8,
        order: vec![WorkerName::new("w1").unwrap()],
        steps: vec![step(StepKind::Stage), step(StepKind::Promote)],
        form: RouteForm::default(),
        budget: None,
    }
}

#[test]
fn a_plan_that_nobody_could_carry_out_is_refused() {
    let mut t = pending();
    let good = plan(&t);
    let limit = t.s().cluster.as_ref().unwrap().settings.limits.instances_per_deployment;
    let stage = Step { group: "x".into(), kind: StepKind::Stage };
    for (bad, says) in [
        (
            StepsCompiled { steps: vec![stage; 501], ..good.clone() },
            "501 steps and 8 instances are over the limits 500".to_string(),
        ),
        (StepsCompiled { desired: limit + 1, ..good.clone() }, format!("{} instances are over the limits", limit + 1)),
        (StepsCompiled { order: vec![WorkerName::new("w99").unwrap()], ..good.clone() }, "w99 is no worker".into()),
        (
            StepsCompiled { budget: Some(Budget { surge: 9, unavailable: 0 }), ..good.clone() },
            "is wider than what".into(),
        ),
        (StepsCompiled { steps: Vec::new(), ..good.clone() }, "nothing to do".into()),
        (StepsCompiled { desired: 0, ..good.clone() }, "nothing to do".into()),
        (
            StepsCompiled { phase: RolloutPhase::Undo, ..good.clone() },
            "is pending and its rollback is compiled: false".into(),
        ),
    ] {
        let before = t.s().deployments[&shop()].clone();
        let said = t.no(Command::StepsCompiled(bad));
        assert!(said.contains(&says), "{said}");
        assert_eq!(t.s().deployments[&shop()], before);
    }
    t.ok(Command::StepsCompiled(good.clone()));
    assert!(matches!(t.try_(Command::StepsCompiled(good)), Err(Rejection::Stale { .. })));
    let again = plan(&t);
    assert!(t.no(Command::StepsCompiled(again)).contains("is active"));
}

/// A fix that finds no room leaves what an abort left as it was, with its traffic.
#[test]
fn a_rollout_that_never_began_changes_nothing_of_what_was_there() {
    let mut t = pending();
    t.until("half of it", |s| s.deployments[&shop()].arms.weight(Role::Candidate).0 >= 5000);
    let rollout = t.live().id;
    t.ok(Command::Rollback(Rollback { rollout }));
    t.ok(Command::Abort(Abort { rollout, as_is: true }));
    t.start("3.0.0", StrategyName::DIRECT).unwrap();
    let before = t.s().deployments[&shop()].clone();
    let (rollout, seen) = (t.live().id, t.live().meta.revision);
    let reason = Some(Reason::Compile { detail: "no room".into() });
    t.ok(Command::RolloutFinished(RolloutFinished { rollout, seen, status: RolloutStatus::Failed, reason }));
    let after = &t.s().deployments[&shop()];
    assert_eq!((&before.as_is, &before.arms, &before.route), (&after.as_is, &after.arms, &after.route));
}

#[test]
fn more_instances_than_a_deployment_may_have_are_refused_before_anything_begins() {
    let mut t = Story::new();
    let limit = t.s().cluster.as_ref().unwrap().settings.limits.instances_per_deployment;
    let mut small = t.s().clone();
    let mut cluster = small.cluster.as_deref().unwrap().clone();
    cluster.settings.limits.instances_per_deployment = 7;
    small.cluster = Some(std::sync::Arc::new(cluster));
    assert!(limit > 8);
    t.0.state = small;
    let said = t.unplanned("1.0.0", StrategyName::DIRECT);
    assert!(said.contains("would be 8 instances, 2 on each of 4 workers") && said.contains("at most 7"), "{said}");
}

#[test]
fn a_verb_that_comes_at_the_wrong_moment_says_what_can_be_done() {
    let mut t = Story::new();
    t.start("1.0.0", StrategyName::DIRECT).unwrap();
    t.until("the first rollout runs", |s| s.live_rollout(&shop()).unwrap().status == RolloutStatus::Active);
    let first = t.live().id;
    let said = t.no(Command::Rollback(Rollback { rollout: first }));
    assert!(said.contains("the first rollout of production/shop") && said.contains("slipway rollout abort"), "{said}");
    t.until("completion", |s| s.deployments[&shop()].live.is_none());
    let said = t.no(Command::Rollback(Rollback { rollout: first }));
    assert!(said.contains("was the first rollout") && said.contains("nothing to return to"), "{said}");
    for verb in [Command::Pause(Pause { rollout: first }), Command::Abort(Abort { rollout: first, as_is: false })] {
        let said = t.try_(verb);
        assert!(
            matches!(&said, Err(Rejection::Lifecycle { next, .. }) if next.contains("`slipway rollout")),
            "{said:?}"
        );
    }

    t.start("2.0.0", StrategyName::CANARY).unwrap();
    let id = t.live().id;
    let said = t.no(Command::Rollback(Rollback { rollout: id }));
    assert!(
        said.contains("is pending: it cannot be rolled back; it begins in a moment, or `slipway rollout abort"),
        "{said}"
    );
    t.until("an installation", |s| {
        let r = s.live_rollout(&shop()).unwrap();
        r.running().is_some_and(|(_, row)| row.step.kind.name() == "install")
    });
    let said = t.no(Command::Promote(Promote { rollout: id, full: false }));
    assert!(said.contains("cannot be passed over") && said.contains("promote r-") && said.contains("--full"), "{said}");
    let said = t.no(Command::Resume(Resume { rollout: id }));
    assert!(said.contains("is active: it cannot be resumed; `slipway rollout explain"), "{said}");
    t.until("promoting", |s| s.live_rollout(&shop()).unwrap().status == RolloutStatus::Promoting);
    let replaces = StartRollout { replace: true, ..start(t.s(), "3.0.0", StrategyName::DIRECT) };
    let said = t.no(Command::StartRollout(replaces));
    assert!(said.contains("cannot be replaced any more") && said.contains(&format!("rollback {id}")), "{said}");
    assert!(
        t.no(Command::Promote(Promote { rollout: id, full: true })).contains("is promoting: it cannot be promoted")
    );
}

/// Where no digest has a majority nobody knows whose State is right: what is live waits with that reason, and nothing
/// is proposed.
#[test]
fn nothing_is_planned_while_no_majority_agrees_on_the_state() {
    let mut t = pending();
    t.until("it runs", |s| s.live_rollout(&shop()).unwrap().status == RolloutStatus::Active);
    let mut split = t.s().clone();
    let found = slipway::state::Divergence { index: 77, tables: vec!["instances".into()] };
    std::sync::Arc::make_mut(&mut split.replicas).split = Some(found);
    let now = split.now;
    let plan = slipway::engine::plan(&split, &heard(&split, 0, 0), now);
    assert!(plan.commands.is_empty() && plan.wake_at.is_none(), "{:?}", plan.commands);
    let said: Vec<String> = plan.waits[&shop()].iter().map(ToString::to_string).collect();
    assert!(said.len() == 1 && said[0].contains("77") && said[0].contains("instances"), "{said:?}");
    assert!(!slipway::engine::plan(t.s(), &heard(t.s(), 0, 0), now).commands.is_empty(), "it plans otherwise");
}

/// The servers of the old cluster are gone, so nothing is armed in the new one and no rollback is watched; what has
/// ended stays told.
#[test]
fn a_restored_cluster_has_no_switch_under_way_and_no_rollback_to_watch() {
    let mut t = pending();
    t.until("completion", |s| s.deployments[&shop()].live.is_none());
    let rollout = t.s().deployments[&shop()].last.unwrap();
    t.ok(Command::Rollback(Rollback { rollout }));
    assert!(t.s().backs.values().any(|b| b.end.is_none()), "a rollback is watched");
    assert!(anew(t.s()).backs.is_empty());
    t.until("its end", |s| s.deployments[&shop()].live.is_none() && s.backs.values().all(|b| b.end.is_some()));
    let ended = t.s().backs.len();
    assert!(ended > 0);

    t.completes("3.0.0", StrategyName::CANARY);
    let (wait, unfenced, within) = (WaitLevel::Fenced, Unfenced::Proceed, slipway::model::Period::seconds(10));
    let ask = SwitchAsk { deployments: vec![shop()], to: SwitchTo::Previous, wait, unfenced, within };
    t.ok(Command::SwitchAsked(SwitchAsked { ask }));
    let switch = *t.s().fences.switches.keys().next_back().unwrap();
    assert!(t.s().fences.armed.values().any(|a| a.owner == ArmedBy::Switch(switch)));
    let state = anew(t.s());
    assert!(state.fences.armed.is_empty() && !state.fences.switches.contains_key(&switch));
    assert_eq!(state.backs.len(), ended);
    let (old, new) = (&t.s().deployments[&shop()], &state.deployments[&shop()]);
    assert_eq!(old.arms, new.arms);
    assert!(new.route.as_ref().unwrap().generation > old.route.as_ref().unwrap().generation);
    assert_eq!(codec::decode_snapshot(&codec::encode_snapshot(&state).unwrap()).unwrap(), state);
}

/// The first State of a new cluster made of this one.
fn anew(s: &State) -> State {
    let mut node = s.nodes.values().next().unwrap().clone();
    node.name = "b".into();
    let node = NewNode {
        name: node.name,
        peer_addr: node.peer_addr,
        client_addr: node.client_addr,
        dns_addr: node.dns_addr,
        level: codec::LEVEL.into(),
    };
    let id = ClusterId::new("c-new").unwrap();
    let new = Restoration { id, node, incarnation: 0, succeeds: Vec::new(), held: BTreeSet::new() };
    let state = restored(s, &new).unwrap();
    invariants::check(&state).unwrap();
    state
}
