//! What a switch is refused for, by name, and how many that ended are kept.

use std::sync::Arc;

use slipway::state::command::Abort;

use super::*;
use crate::sim_fleet::Behaviour;

fn asked(f: &Fleet, to: SwitchTo, within: Period) -> Command {
    let (wait, unfenced) = (WaitLevel::Fenced, Unfenced::TakeBack);
    Command::SwitchAsked(SwitchAsked { ask: SwitchAsk { deployments: vec![f.shop()], to, wait, unfenced, within } })
}

#[test]
fn a_switch_of_what_does_not_serve_or_shares_its_traffic_is_refused() {
    let mut f = Fleet::new(&Shape::default());
    let body = asked(&f, SwitchTo::Previous, Period::seconds(1));
    refused(&mut f, body, "nothing serves production/shop yet: `slipway rollout start` it first");
    let mut f = both();
    let body = asked(&f, SwitchTo::Previous, Period::minutes(11));
    refused(&mut f, body, "waiting for servers for 11m is over 10m");
    let stale = Some(OnExpiry::Stale { max: Period::minutes(60 * 24 * 30) });
    let body = Command::ExpirySet(ExpirySet { deployment: f.shop(), on_expiry: stale });
    refused(&mut f, body, "make no sense");
    // A rollback that a person ended where it stood leaves both versions with traffic.
    let mut f = Fleet::with_stable(&Shape { workers: 2, ..Shape::default() });
    let direct = slipway::model::RolloutParams { grace: Period(0), ..params(StrategyName::DIRECT) };
    let id = f.start("2.0.0", direct);
    let stopping = |f: &Fleet| f.state.instances.values().any(|i| i.life == slipway::model::Life::Stopping);
    f.until(90, "the old ones stop", stopping);
    let broken = Behaviour { exits_after: Some(500), only_on: ["w2".into()].into(), ..Behaviour::default() };
    f.behaviour.insert("1.0.0".into(), broken);
    f.operator(Command::Rollback(Rollback { rollout: id })).unwrap();
    f.run(30);
    f.operator(Command::Abort(Abort { rollout: id, as_is: true })).unwrap();
    let body = asked(&f, SwitchTo::Version(version("2.0.0")), Period::seconds(1));
    refused(&mut f, body, "production/shop still shares its traffic after an abort");
}

#[test]
fn a_switch_moves_once_and_only_as_it_was_asked_for() {
    let mut f = both();
    f.nodes.get_mut(&3).unwrap().alive = false;
    let body = asked(&f, SwitchTo::Previous, Period::seconds(4));
    let id = f.commit(body).unwrap();
    let back = ask(&f, SwitchTo::Back(id), WaitLevel::Fenced, Unfenced::Proceed);
    refused(&mut f, back, &format!("s-{id} is under way, or moved nothing"));
    let moves = |f: &Fleet, served: Vec<(u64, u64)>| {
        Command::SwitchMoved(SwitchMoved { switch: id, seen: row(f, id).revision, served })
    };
    let body = moves(&f, vec![(1, id), (2, id)]);
    refused(&mut f, body, "is to be made only when every server knows of it");
    let stale = Command::SwitchMoved(SwitchMoved { switch: id, seen: row(&f, id).revision + 1, served: Vec::new() });
    assert!(matches!(f.commit(stale), Err(Rejection::Stale { .. })));
    let body = moves(&f, vec![(1, id), (2, id), (3, id)]);
    f.must(body);
    let body = moves(&f, Vec::new());
    refused(&mut f, body, "has moved already");
    let end = |f: &Fleet, note: String| {
        let end = SwitchEnd { at: f.now(), switched: true, fenced_at: None, servers: Vec::new(), clear_at: None, note };
        Command::SwitchEnded(SwitchEnded { switch: id, seen: row(f, id).revision, end })
    };
    let body = end(&f, "x".repeat(2049));
    refused(&mut f, body, "its note is too long");
    let body = end(&f, "x".repeat(2048));
    f.must(body);
    let body = end(&f, String::new());
    refused(&mut f, body, &format!("s-{id} is over"));
    let body = Command::SwitchMoved(SwitchMoved { switch: id + 99, seen: 1, served: Vec::new() });
    refused(&mut f, body, &format!("there is no switch s-{}", id + 99));
}

#[test]
fn the_newest_switches_that_ended_are_kept_and_so_many_may_be_under_way() {
    let mut f = both();
    let first = to_previous(&mut f, WaitLevel::Quorum, Unfenced::Proceed);
    for _ in 0..34 {
        to_previous(&mut f, WaitLevel::Quorum, Unfenced::Proceed);
    }
    assert_eq!(f.state.fences.switches.len(), 32);
    let back = ask(&f, SwitchTo::Back(first), WaitLevel::Fenced, Unfenced::Proceed);
    refused(&mut f, back, &format!("switch s-{first} does not exist: `slipway traffic history`"));
    let last = f.state.fences.switches.values().next_back().unwrap().clone();
    for n in 0..16 {
        let open = Switch { id: 900_000 + n, targets: Vec::new(), moved: None, end: None, ..last.clone() };
        Arc::make_mut(&mut f.state.fences).switches.insert(open.id, open);
    }
    let body = asked(&f, SwitchTo::Previous, Period::seconds(1));
    assert!(matches!(f.commit(body), Err(Rejection::Exhausted { limit: 16, .. })));
}
