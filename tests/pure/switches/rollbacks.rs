//! What is recorded once traffic was taken back.

use super::*;

/// A blue-green rollout that has switched, with a bake to go.
fn switched() -> (Fleet, RolloutId) {
    let mut f = Fleet::with_stable(&Shape::default());
    f.seen.leases = Some(Left::default());
    let id = f.start("2.0.0", params(StrategyName::BLUE_GREEN));
    f.until(90, "it monitors", |f| f.at(id, "bake", "monitor"));
    (f, id)
}

/// A blue-green rollout that has switched and waits for the lease of a server that fell silent.
pub fn waiting_for_n3() -> (Fleet, RolloutId) {
    let mut f = Fleet::with_stable(&Shape::default());
    f.must(Command::LeaseSet(LeaseSet { mode: Some(LeaseMode::Always), terms: None }));
    f.run(2);
    f.nodes.get_mut(&3).unwrap().alive = false;
    f.seen.leases = Some(Left { presumed: Period(0), held: [(3, Period(3000))].into() });
    let id = f.start("2.0.0", params(StrategyName::BLUE_GREEN));
    f.until(90, "the traffic has moved", |f| f.state.rollouts.get(&id).unwrap().switched);
    assert!(f.at(id, "switch", "switch"), "{}", f.transcript.join("\n"));
    (f, id)
}

fn back(f: &Fleet, id: RolloutId) -> TrafficBack {
    f.state.backs[&id].clone()
}

fn settles(f: &mut Fleet, id: RolloutId, limit_s: u64) -> SwitchEnd {
    f.until(limit_s, "the servers are known", |f| f.state.backs[&id].end.is_some());
    back(f, id).end.unwrap()
}

#[test]
fn a_rollback_moves_at_once_and_then_says_when_it_was_fenced() {
    let (mut f, id) = switched();
    let at = f.commit(Command::Rollback(Rollback { rollout: id })).unwrap();
    assert_eq!(stable(&f), "1.0.0", "in the entry that asked for it");
    assert_eq!((back(&f, id).index, back(&f, id).end), (at, None));
    let end = settles(&mut f, id, 5);
    assert!(end.fenced_at.is_some() && end.clear_at > end.fenced_at && end.note.is_empty(), "{end:?}");
    assert!(end.servers.len() == 3 && end.servers.iter().all(|(_, _, how)| matches!(how, ServerEnd::Served(_))));
    assert!(f.transcript.join("\n").contains("no server answers with what was left"), "{}", f.transcript.join("\n"));
    let bytes = codec::encode_snapshot(&f.state).unwrap();
    assert_eq!(codec::decode_snapshot(&bytes).unwrap(), f.state);
    // A return of what had completed says so too.
    let mut f = both();
    let last = f.state.deployments[&f.shop()].last.unwrap();
    let made = RolloutId(f.operator(Command::Rollback(Rollback { rollout: last })).unwrap());
    assert!(settles(&mut f, made, 5).fenced_at.is_some());
    assert_eq!(back(&f, made).left, version("2.0.0"));
}

#[test]
fn a_rollback_waits_for_no_server_and_claims_nothing_of_one_that_is_silent() {
    let (mut f, id) = switched();
    f.nodes.get_mut(&3).unwrap().alive = false;
    f.operator(Command::Rollback(Rollback { rollout: id })).unwrap();
    assert_eq!(stable(&f), "1.0.0");
    f.until_status(50, id, RolloutStatus::RolledBack);
    assert_eq!(back(&f, id).end, None, "there is still time to hear of it");
    let end = settles(&mut f, id, 60);
    assert!(end.fenced_at.is_none() && end.clear_at.is_none(), "{end:?}");
    assert!(end.note.contains("n3 may go on answering with 2.0.0"), "{end:?}");
    assert!(end.servers.iter().any(|(n, _, how)| *n == 3 && *how == ServerEnd::Unbound), "{end:?}");
    // One that is heard in time counts.
    let (mut f, id) = switched();
    f.nodes.get_mut(&3).unwrap().alive = false;
    f.operator(Command::Rollback(Rollback { rollout: id })).unwrap();
    f.run(20);
    f.nodes.get_mut(&3).unwrap().alive = true;
    assert!(settles(&mut f, id, 5).fenced_at.is_some());
}

#[test]
fn a_rollback_is_fenced_by_leases_where_they_bind() {
    // In mode always.
    let (mut f, id) = switched();
    f.must(Command::LeaseSet(LeaseSet { mode: Some(LeaseMode::Always), terms: None }));
    f.run(2);
    f.nodes.get_mut(&3).unwrap().alive = false;
    f.seen.leases = Some(Left { presumed: Period(0), held: [(3, Period(3000))].into() });
    f.operator(Command::Rollback(Rollback { rollout: id })).unwrap();
    f.run(2);
    assert!(back(&f, id).end.is_none(), "its lease is not over");
    f.seen.leases = Some(Left::default());
    let end = settles(&mut f, id, 5);
    assert!(end.fenced_at.is_some(), "{end:?}");
    assert!(end.servers.iter().any(|(n, _, how)| *n == 3 && *how == ServerEnd::Expired), "{end:?}");
    // In the middle of a rollout's own fence.
    let (mut f, id) = waiting_for_n3();
    f.operator(Command::Rollback(Rollback { rollout: id })).unwrap();
    assert_eq!(stable(&f), "1.0.0");
    assert!(f.state.fences.armed.is_empty(), "its step is over");
    assert_eq!(back(&f, id).bound, [1, 2, 3].into());
    f.seen.leases = Some(Left::default());
    assert!(settles(&mut f, id, 5).fenced_at.is_some());
}

#[test]
fn what_is_said_of_a_rollback_must_be_in_its_record() {
    let (mut f, id) = switched();
    f.nodes.get_mut(&3).unwrap().alive = false;
    let index = f.operator(Command::Rollback(Rollback { rollout: id })).unwrap();
    let (now, none) = (Some(f.now()), Vec::new());
    let end =
        SwitchEnd { at: f.now(), switched: true, fenced_at: now, servers: none, clear_at: now, note: String::new() };
    let settle = |end: &SwitchEnd, index| {
        Command::TrafficBackSettled(TrafficBackSettled { rollout: id, index, end: end.clone() })
    };
    refused(&mut f, settle(&end, index), "not fenced at node 1");
    let servers = (1..=3).map(|n| (n, format!("n{n}"), ServerEnd::Expired)).collect();
    refused(&mut f, settle(&SwitchEnd { servers, ..end.clone() }, index), "not fenced at node 1");
    refused(&mut f, settle(&end, index + 1), "revision");
    let long = SwitchEnd { fenced_at: None, note: "x".repeat(3000), ..end.clone() };
    refused(&mut f, settle(&long, index), "too long");
    let other = Command::TrafficBackSettled(TrafficBackSettled { rollout: RolloutId(1), index, end: end.clone() });
    refused(&mut f, other, "took no traffic back");
    let none = SwitchEnd { fenced_at: None, ..end };
    f.commit(settle(&none, index)).unwrap();
    refused(&mut f, settle(&none, index), "is settled");
}
