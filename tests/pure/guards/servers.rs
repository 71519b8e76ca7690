//! Stories of DNS servers that answer nobody: they hold up no drain, and become silent in time.
//!
//! Not here: switches (`tests/pure/switches`).

use slipway::{
    engine::facts,
    model::{NodeId, Period},
    state::{
        DigestReport, NodeSeen, Observations, Seen,
        command::{DigestProbe, DigestReported, DrainSettled, NodeHeard, NodeSilent},
    },
};

use super::*;

/// A State in which something drains and no server has said anything.
fn draining() -> (Story, u64) {
    let mut t = Story::new();
    t.completes("1.0.0", StrategyName::DIRECT);
    t.start("2.0.0", StrategyName::DIRECT).unwrap();
    let open = |s: &State| s.instances.values().find_map(|i| i.drain.filter(|d| d.clear_at.is_none())).map(|d| d.index);
    t.until("a drain", |s| open(s).is_some());
    let index = open(t.s()).unwrap();
    (t, index)
}

fn settled(index: u64, silent: &[NodeId], unready: &[NodeId]) -> Command {
    Command::DrainSettled(DrainSettled {
        deployment: shop(),
        index,
        confirmed: vec![(1, index), (2, index)],
        silent: silent.to_vec(),
        unready: unready.to_vec(),
        ttl_ms: 1000,
    })
}

#[test]
fn a_server_that_was_heard_to_answer_nobody_holds_up_no_drain() {
    let (mut t, index) = draining();
    assert!(t.no(settled(index, &[], &[])).contains("node 3 has not served"));
    assert!(t.no(settled(index, &[3], &[])).contains("and is not silent"), "it is heard");
    t.ok(settled(index, &[], &[3]));
}

#[test]
fn a_server_that_differs_counts_as_silent_in_drains_at_once_whatever_it_says() {
    let (mut t, index) = draining();
    t.ok(Command::DigestProbe(DigestProbe {}));
    let probe = t.s().replicas.probe;
    for (node, all) in [(1, 5), (2, 5), (3, 9)] {
        let report = DigestReport { all, tables: vec![("services".into(), all)] };
        t.ok(Command::DigestReported(DigestReported { node, index: probe, report }));
    }
    let mut claims = settled(index, &[], &[]);
    if let Command::DrainSettled(DrainSettled { confirmed, .. }) = &mut claims {
        confirmed.push((3, index));
    }
    assert!(t.no(claims).contains("node 3 has not served"), "its word is no evidence");
    t.ok(settled(index, &[3], &[]));
    assert!(t.s().nodes[&3].served < index, "nor does it free an address");
}

#[test]
fn a_server_that_answers_nobody_is_silent_in_time_and_heard_again_once_it_answers() {
    let mut t = Story::new();
    t.pass(Period::minutes(1));
    let word = |t: &Story, unready_since| {
        let mut seen = Observations { leader_since: Millis(0), ..Observations::default() };
        for node in 1..=3 {
            let value =
                NodeSeen { unready_since: (node == 3).then_some(unready_since).flatten(), ..Default::default() };
            seen.nodes.insert(node, Seen::Known { at: t.s().now, value });
        }
        let all = facts(t.s(), &seen, t.s().now).into_iter();
        all.filter(|c| matches!(c, Command::NodeSilent(_) | Command::NodeHeard(_))).collect::<Vec<_>>()
    };
    let since = Some(t.s().now);
    assert_eq!(word(&t, since), [], "it may be about to answer");
    t.pass(Period::seconds(10));
    assert_eq!(word(&t, since), [Command::NodeSilent(NodeSilent { node: 3 })]);
    t.ok(Command::NodeSilent(NodeSilent { node: 3 }));
    assert_eq!(word(&t, Some(t.s().now)), [], "it was started again, and answers nobody yet");
    assert_eq!(word(&t, None), [Command::NodeHeard(NodeHeard { node: 3 })]);
}
