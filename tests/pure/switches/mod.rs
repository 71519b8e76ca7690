//! Stories of switches on the simulated fleet: who is waited for, what is claimed, and what is taken back.

mod guards;
mod several;
mod rollbacks;

use rollbacks::waiting_for_n3;
use slipway::state::Role;

use crate::sim_fleet::{Fleet, Shape, params, starting, version};
use slipway::{
    model::{BasisPoints, Period, RolloutId, StrategyName},
    state::{
        Command, DigestReport, LeaseMode, OnExpiry, Rejection, RolloutStatus, Seen, ServerEnd, StepRef, Switch,
        SwitchAsk, SwitchEnd, SwitchTo, TrafficBack, Unfenced, WaitLevel, codec,
        command::{
            DigestProbe, DigestReported, ExpirySet, LeaseSet, NodeRoleSet, Rollback, RouteSet, SwitchAsked,
            SwitchEnded, SwitchMoved, Switched, TrafficBackSettled, WorkerLost, WorkerReturned,
        },
    },
    traffic::lease::{Left, Terms},
};

/// 2.0.0 is stable, 1.0.0 still runs beside it, and leases are kept.
fn both() -> Fleet {
    let mut f = Fleet::with_stable(&Shape::default());
    let id = f.start("2.0.0", params(StrategyName::BLUE_GREEN));
    f.until_status(90, id, RolloutStatus::Completed);
    f.run(2);
    f.transcript.clear();
    f.seen.leases = Some(Left::default());
    f
}

fn ask(f: &Fleet, to: SwitchTo, wait: WaitLevel, unfenced: Unfenced) -> Command {
    let deployments = if matches!(to, SwitchTo::Back(_)) { Vec::new() } else { vec![f.shop()] };
    Command::SwitchAsked(SwitchAsked { ask: SwitchAsk { deployments, to, wait, unfenced, within: Period::seconds(4) } })
}

fn to_previous(f: &mut Fleet, wait: WaitLevel, unfenced: Unfenced) -> u64 {
    let body = ask(f, SwitchTo::Previous, wait, unfenced);
    f.operator(body).unwrap()
}

fn row(f: &Fleet, id: u64) -> Switch {
    f.state.fences.switches[&id].clone()
}

fn ends(f: &mut Fleet, id: u64) -> slipway::state::SwitchEnd {
    f.until(30, "the switch ends", |f| f.state.fences.switches[&id].end.is_some());
    assert!(f.state.fences.armed.is_empty(), "an arming outlived its switch");
    row(f, id).end.unwrap()
}

fn stable(f: &Fleet) -> String {
    f.state.deployments[&f.shop()].arms.pair(Role::Stable).unwrap().version.to_string()
}

fn refused(f: &mut Fleet, body: Command, says: &str) {
    let why = f.commit(body).unwrap_err();
    assert!(why.to_string().contains(says), "{why}");
}

#[test]
fn a_blue_green_rollout_says_when_it_was_fenced() {
    let mut f = Fleet::with_stable(&Shape::default());
    let id = f.start("2.0.0", params(StrategyName::BLUE_GREEN));
    f.until_status(90, id, RolloutStatus::Completed);
    let all = f.transcript.join("\n");
    assert!(all.contains("; fenced after") && !all.contains("not fenced"), "{all}");
    assert!(f.state.fences.armed.is_empty(), "{all}");
}

#[test]
fn a_rollout_does_not_claim_what_a_silent_server_may_do() {
    let mut f = Fleet::with_stable(&Shape::default());
    f.seen.leases = Some(Left::default());
    let id = f.start("2.0.0", params(StrategyName::BLUE_GREEN));
    f.nodes.get_mut(&3).unwrap().alive = false;
    f.until_status(120, id, RolloutStatus::Completed);
    let all = f.transcript.join("\n");
    assert!(all.contains("not fenced: n3 may answer with the old version"), "{all}");
}

#[test]
fn a_switch_is_fenced_by_the_servers_words_and_taken_back_as_a_whole() {
    let mut f = both();
    let id = to_previous(&mut f, WaitLevel::Fenced, Unfenced::Proceed);
    let end = ends(&mut f, id);
    assert!(end.switched && end.fenced_at.is_some() && end.note.is_empty(), "{end:?}");
    assert!(end.servers.iter().all(|(_, _, how)| matches!(how, ServerEnd::Served(_))) && end.servers.len() == 3);
    assert!(end.clear_at > end.fenced_at, "caches hold on for a TTL");
    assert_eq!(stable(&f), "1.0.0");
    f.run(3);
    let back = f.operator(ask(&f, SwitchTo::Back(id), WaitLevel::Fenced, Unfenced::Proceed)).unwrap();
    assert!(ends(&mut f, back).fenced_at.is_some());
    assert_eq!((stable(&f).as_str(), row(&f, back).undoes), ("2.0.0", Some(id)));
    refused(
        &mut f,
        Command::SwitchAsked(SwitchAsked {
            ask: SwitchAsk {
                deployments: vec![],
                to: SwitchTo::Back(back + 1000),
                wait: WaitLevel::Fenced,
                unfenced: Unfenced::Proceed,
                within: Period::seconds(1),
            },
        }),
        "does not exist",
    );
    // The old side goes in its time, as after a rollout.
    let previous = f.state.deployments[&f.shop()].arms.get(Role::Previous).unwrap().clone();
    assert!(previous.retire_at.is_some_and(|at| at > f.now()), "{previous:?}");
    // A whole State with all of it survives its snapshot.
    let bytes = codec::encode_snapshot(&f.state).unwrap();
    assert_eq!(codec::decode_snapshot(&bytes).unwrap(), f.state);
    assert_eq!(codec::highest_level(&bytes).unwrap(), 1);
}

#[test]
fn quorum_moves_at_once_and_claims_nothing() {
    let mut f = both();
    let id = to_previous(&mut f, WaitLevel::Quorum, Unfenced::Proceed);
    let s = row(&f, id);
    assert_eq!(s.moved.map(|(index, _)| index), Some(id));
    assert!(s.end.is_some_and(|e| e.switched && e.fenced_at.is_none() && e.clear_at.is_none()));
}

#[test]
fn caches_are_waited_for_before_the_traffic_moves() {
    let mut f = both();
    let id = to_previous(&mut f, WaitLevel::Caches, Unfenced::Proceed);
    f.step();
    let s = row(&f, id);
    assert!(s.ready.is_some() && s.moved.is_none(), "no TTL has run out yet: {s:?}");
    let end = ends(&mut f, id);
    let (_, moved) = row(&f, id).moved.unwrap();
    assert!(moved >= s.ready.unwrap().plus(s.ttl) && s.ttl.0 > 0);
    assert_eq!(end.clear_at, end.fenced_at);
}

#[test]
fn a_server_that_does_not_confirm_is_named_or_nothing_moves() {
    let mut f = both();
    f.nodes.get_mut(&3).unwrap().alive = false;
    let id = to_previous(&mut f, WaitLevel::Fenced, Unfenced::TakeBack);
    let end = ends(&mut f, id);
    assert!(!end.switched && end.note.contains("n3 did not confirm"), "{end:?}");
    assert_eq!(stable(&f), "2.0.0");
    // Its lease being over does not help: it is not known to know that it is bound.
    let id = to_previous(&mut f, WaitLevel::Fenced, Unfenced::Proceed);
    let end = ends(&mut f, id);
    assert!(end.switched && end.fenced_at.is_none() && end.clear_at.is_none(), "{end:?}");
    assert!(end.note.contains("n3 may go on answering with the old version"), "{end:?}");
    assert_eq!(stable(&f), "1.0.0");
}

#[test]
fn in_mode_always_a_silent_server_is_waited_out() {
    let mut f = both();
    f.must(Command::LeaseSet(LeaseSet { mode: Some(LeaseMode::Always), terms: None }));
    f.run(2);
    assert_eq!(f.state.fences.always.as_ref().unwrap().confirmed.len(), 3);
    f.nodes.get_mut(&3).unwrap().alive = false;
    let held = Left { presumed: Period(0), held: [(3, Period(3000))].into() };
    f.seen.leases = Some(held);
    let id = to_previous(&mut f, WaitLevel::Fenced, Unfenced::TakeBack);
    f.run(2);
    assert!(row(&f, id).moved.is_some() && row(&f, id).end.is_none(), "its lease is not over");
    f.seen.leases = Some(Left::default());
    let end = ends(&mut f, id);
    assert!(end.fenced_at.is_some(), "{end:?}");
    assert!(end.servers.iter().any(|(n, _, how)| *n == 3 && *how == ServerEnd::Expired), "{end:?}");
    // A leader without a book says nothing of leases.
    f.seen.leases = None;
    let back = f.operator(ask(&f, SwitchTo::Back(id), WaitLevel::Fenced, Unfenced::Proceed)).unwrap();
    let end = ends(&mut f, back);
    assert!(end.fenced_at.is_none() && end.note.contains("n3 may answer"), "{end:?}");
}

#[test]
fn whom_only_its_word_binds_is_confirmed_before_it_is_waited_out() {
    let mut f = both();
    f.nodes.get_mut(&3).unwrap().alive = false;
    f.seen.leases = Some(Left { presumed: Period(0), held: [(3, Period(3000))].into() });
    let id = to_previous(&mut f, WaitLevel::Fenced, Unfenced::Proceed);
    f.until(30, "the traffic moves", |f| row(f, id).moved.is_some());
    assert!(row(&f, id).end.is_none());
    // Now n3 says that it knows of the switch, and is cut off before it serves the move.
    let arming = f.state.fences.armed[&f.shop()].clone();
    assert!(!arming.confirmed.contains(&3));
    let now = f.now();
    let Some(Seen::Known { at, value }) = f.seen.nodes.get_mut(&3) else { panic!("n3 was never heard") };
    (*at, value.served_index) = (now, arming.index);
    f.seen.leases = Some(Left::default());
    let end = ends(&mut f, id);
    assert!(end.fenced_at.is_some(), "{end:?}");
    assert!(end.servers.iter().any(|(n, _, how)| *n == 3 && *how == ServerEnd::Expired), "{end:?}");
}

#[test]
fn a_service_that_serves_stale_is_not_fenced_by_a_leases_end() {
    let mut f = both();
    f.must(Command::LeaseSet(LeaseSet { mode: Some(LeaseMode::Always), terms: None }));
    let on_expiry = Some(slipway::state::OnExpiry::Stale { max: Period::minutes(10) });
    f.must(Command::ExpirySet(ExpirySet { deployment: f.shop(), on_expiry }));
    f.run(2);
    f.nodes.get_mut(&3).unwrap().alive = false;
    let id = to_previous(&mut f, WaitLevel::Fenced, Unfenced::Proceed);
    assert!(ends(&mut f, id).fenced_at.is_none());
}

#[test]
fn a_leader_that_dies_in_between_leaves_nothing_in_between() {
    // Before the traffic moved: the next leader hears the servers anew and goes on.
    let mut f = both();
    let body = ask(&f, SwitchTo::Previous, WaitLevel::Fenced, Unfenced::TakeBack);
    f.commit(body).unwrap();
    let id = *f.state.fences.switches.keys().next_back().unwrap();
    f.change_leader(700, 0);
    assert!(ends(&mut f, id).fenced_at.is_some());
    assert_eq!(stable(&f), "1.0.0");
    // After it moved: a new leader presumes that the silent server holds a lease, and waits for it.
    f.must(Command::LeaseSet(LeaseSet { mode: Some(LeaseMode::Always), terms: None }));
    f.run(2);
    f.nodes.get_mut(&2).unwrap().alive = false;
    f.seen.leases = Some(Left { presumed: Period(0), held: [(2, Period(5000))].into() });
    let id = to_previous(&mut f, WaitLevel::Fenced, Unfenced::TakeBack);
    f.run(1);
    assert!(row(&f, id).moved.is_some());
    f.change_leader(700, 0);
    f.seen.leases = Some(Left { presumed: Period(5055), held: Default::default() });
    f.run(2);
    assert!(row(&f, id).end.is_none(), "the new leader knows nothing of leases before its own");
    f.seen.leases = Some(Left::default());
    assert!(ends(&mut f, id).fenced_at.is_some());
}

#[test]
fn what_cannot_be_switched_is_refused_with_its_name() {
    let mut f = both();
    let to = |f: &Fleet, v: &str| ask(f, SwitchTo::Version(version(v)), WaitLevel::Fenced, Unfenced::Proceed);
    let body = to(&f, "2.0.0");
    refused(&mut f, body, "runs 2.0.0 already");
    let body = to(&f, "3.0.0");
    refused(&mut f, body, "has no 3.0.0 beside 2.0.0 (it has 1.0.0)");
    // Nothing healthy to switch to.
    let name = f.agents.keys().next().unwrap().clone();
    f.agents.remove(&name);
    f.must(Command::WorkerLost(WorkerLost { worker: name.clone(), last_heard: f.now() }));
    let body = to(&f, "1.0.0");
    refused(&mut f, body, "6 of 8 instances of production/shop 1.0.0 pass");
    f.must(Command::WorkerReturned(WorkerReturned { worker: name }));
    // While one is under way nothing else touches the traffic.
    f.nodes.get_mut(&3).unwrap().alive = false;
    let body = to(&f, "1.0.0");
    let id = f.commit(body.clone()).unwrap();
    refused(&mut f, body, &format!("is being switched (s-{id})"));
    let start = starting(f.shop(), "3.0.0", params(StrategyName::CANARY));
    refused(&mut f, start.into(), "is being switched");
    let last = f.state.deployments[&f.shop()].last.unwrap();
    refused(&mut f, Command::Rollback(Rollback { rollout: last }), "is being switched");
    let terms = Terms { duration: Period::seconds(9), ..Terms::default() };
    refused(&mut f, Command::LeaseSet(LeaseSet { mode: None, terms: Some(terms) }), "a switch is under way");
    let roles = (slipway::state::NodeRole::Voter, slipway::state::NodeRole::Leaving);
    refused(
        &mut f,
        Command::NodeRoleSet(NodeRoleSet { node: 3, seen: roles.0, role: roles.1, lose_packages: false }),
        "is switching",
    );
    // What the end claims must be in its record.
    let s = row(&f, id);
    let end = slipway::state::SwitchEnd {
        at: f.now(),
        switched: true,
        fenced_at: Some(f.now()),
        servers: vec![],
        clear_at: None,
        note: String::new(),
    };
    refused(
        &mut f,
        Command::SwitchEnded(SwitchEnded { switch: id, seen: s.revision, end: end.clone() }),
        "has not moved",
    );
    f.must(Command::SwitchMoved(SwitchMoved { switch: id, seen: s.revision, served: vec![] }));
    let seen = row(&f, id).revision;
    refused(&mut f, Command::SwitchEnded(SwitchEnded { switch: id, seen, end: end.clone() }), "not fenced at node 1");
    let servers = (1..=3).map(|n| (n, format!("n{n}"), ServerEnd::Expired)).collect();
    let end = slipway::state::SwitchEnd { servers, ..end };
    refused(&mut f, Command::SwitchEnded(SwitchEnded { switch: id, seen, end }), "not fenced at node");
}

#[test]
fn longer_terms_are_waited_for_until_no_lease_of_theirs_is_left() {
    let mut f = both();
    let short = Terms { duration: Period::seconds(1), ..Terms::default() };
    let long = f.state.fences.terms;
    f.operator(Command::LeaseSet(LeaseSet { mode: None, terms: Some(short) })).unwrap();
    assert_eq!((f.state.fences.terms, f.state.fences.waited().duration), (short, long.duration));
    f.run(4);
    assert_eq!(f.state.fences.waited().duration, long.duration, "a lease of 5 s may still be held");
    f.run(4);
    assert_eq!(f.state.fences.waited(), short, "{}", f.transcript.join("\n"));
    let bad = Terms { duration: Period::minutes(5), ..long };
    refused(&mut f, Command::LeaseSet(LeaseSet { mode: None, terms: Some(bad) }), "is not from 500ms to 1m");
}

#[test]
fn a_server_that_left_is_waited_for_until_its_last_lease_is_over() {
    use slipway::state::NodeRole::{Leaving, Removed, Voter};
    let mut f = both();
    f.operator(Command::NodeRoleSet(NodeRoleSet { node: 3, role: Leaving, seen: Voter, lose_packages: false }))
        .unwrap();
    f.nodes.get_mut(&3).unwrap().alive = false;
    f.seen.leases = Some(Left { presumed: Period(0), held: [(3, Period(4000))].into() });
    f.operator(Command::NodeRoleSet(NodeRoleSet { node: 3, role: Removed, seen: Leaving, lose_packages: false }))
        .unwrap();
    assert!(f.state.fences.left.contains_key(&3));
    let id = to_previous(&mut f, WaitLevel::Fenced, Unfenced::Proceed);
    f.run(2);
    assert!(row(&f, id).end.is_none(), "it may hold a lease");
    f.seen.leases = Some(Left::default());
    assert!(ends(&mut f, id).fenced_at.is_some());
    f.run(8);
    assert!(f.state.fences.left.is_empty());
}

#[test]
fn a_policy_stays_while_a_rollouts_step_has_its_deployment_armed() {
    let (mut f, _) = waiting_for_n3();
    let shop = f.shop();
    let shorter = Command::ExpirySet(ExpirySet { deployment: shop.clone(), on_expiry: Some(OnExpiry::Fail) });
    refused(&mut f, shorter.clone(), "production/shop is being switched by its rollout r-");
    let terms = Terms { duration: Period::seconds(9), ..Terms::default() };
    refused(
        &mut f,
        Command::LeaseSet(LeaseSet { mode: None, terms: Some(terms) }),
        "is being switched by its rollout r-",
    );
    f.until(60, "the step is over", |f| f.state.fences.armed.is_empty());
    f.operator(shorter).unwrap();
}

/// What a server whose State differs says of itself is no evidence, nor is its lease: nobody knows what it knows.
#[test]
fn a_server_that_differs_is_no_evidence_of_a_fence_and_is_not_waited_for() {
    let mut f = both();
    let report = |node, index, services| {
        let tables = vec![("services".to_string(), services)];
        Command::DigestReported(DigestReported { node, index, report: DigestReport { all: services, tables } })
    };
    let probe = f.commit(Command::DigestProbe(DigestProbe {})).unwrap();
    for (node, services) in [(1, 5), (2, 5), (3, 9)] {
        f.must(report(node, probe, services));
    }
    assert!(f.state.replicas.diverged.contains_key(&3));
    let asked = f.now();
    let id = to_previous(&mut f, WaitLevel::Fenced, Unfenced::Proceed);
    let end = ends(&mut f, id);
    assert!(end.switched && end.fenced_at.is_none(), "{end:?}");
    assert!(end.servers.contains(&(3, "n3".into(), ServerEnd::Unbound)), "{end:?}");
    assert!(end.at.since(asked) < Period::seconds(5), "nobody waits for one that answers nobody: {end:?}");
}

/// Who does not know that stale answers were forbidden may go on with them when its lease is over.
#[test]
fn in_mode_always_another_policy_is_confirmed_anew() {
    let mut f = both();
    f.must(Command::LeaseSet(LeaseSet { mode: Some(LeaseMode::Always), terms: None }));
    let stale = Some(OnExpiry::Stale { max: Period::minutes(10) });
    f.must(Command::ExpirySet(ExpirySet { deployment: f.shop(), on_expiry: stale }));
    f.run(2);
    f.nodes.get_mut(&3).unwrap().alive = false;
    f.must(Command::ExpirySet(ExpirySet { deployment: f.shop(), on_expiry: Some(OnExpiry::Fail) }));
    f.run(2);
    assert_eq!(f.state.fences.always.as_ref().unwrap().confirmed, [1, 2].into());
    let id = to_previous(&mut f, WaitLevel::Fenced, Unfenced::Proceed);
    assert!(ends(&mut f, id).fenced_at.is_none());
}

#[test]
fn weights_do_not_change_while_a_rollout_waits_for_its_fence() {
    let (mut f, id) = waiting_for_n3();
    let r = f.state.rollouts.get(&id).unwrap().clone();
    assert!(!f.state.fences.armed.is_empty());
    let weights = [Role::Stable, Role::Previous].map(|role| (role, BasisPoints(5000))).into_iter().collect();
    let (seen, step) = (r.meta.revision, r.cursor);
    refused(
        &mut f,
        Command::RouteSet(RouteSet { at: StepRef { rollout: id, seen, step }, weights }),
        "the running step sets no route",
    );
    refused(&mut f, Command::Switched(Switched { at: StepRef { rollout: id, seen, step } }), "has switched already");
    let body = ask(&f, SwitchTo::Previous, WaitLevel::Fenced, Unfenced::Proceed);
    assert!(matches!(f.commit(body), Err(Rejection::Busy { rollout }) if rollout == id));
    let nobody = SwitchAsk {
        deployments: vec!["production/nobody".parse().unwrap()],
        to: SwitchTo::Previous,
        wait: WaitLevel::Fenced,
        unfenced: Unfenced::Proceed,
        within: Period::seconds(1),
    };
    refused(&mut f, Command::SwitchAsked(SwitchAsked { ask: nobody }), "production/nobody does not exist");
    f.seen.leases = Some(Left::default());
    f.until_status(90, id, RolloutStatus::Completed);
}
