//! Whether the replicas agree: probes, the nodes' hashes of their State at a probe's entry, and the verdict about them.
//!
//! Invariants: the verdict follows from committed reports alone, so every node, the odd one too, reaches the same; a
//! node is named only against a digest that a majority of the voters reported. Deliberately not here: hashing
//! (`digest`, off the apply path) and what a named node does (`node`).

use std::collections::BTreeMap;

use crate::state::base::prelude::*;

/// Tables in one report, and letters in a name, at most.
pub(in crate::state) const MAX_TABLES: usize = 64;

pub(in crate::state) const MAX_NAME: usize = 32;

fn differing(a: &DigestReport, b: &DigestReport) -> Vec<String> {
    let theirs: BTreeMap<&str, u64> = b.tables.iter().map(|(n, h)| (n.as_str(), *h)).collect();
    let mut odd: Vec<String> =
        a.tables.iter().filter(|(n, h)| theirs.get(n.as_str()) != Some(h)).map(|(n, _)| n.clone()).collect();
    odd.extend(theirs.keys().filter(|n| !a.tables.iter().any(|(m, _)| m == *n)).map(ToString::to_string));
    odd
}

pub(in crate::state) fn judge(s: &State, r: &mut Replicas) {
    let voters: Vec<NodeId> = s.nodes.values().filter(|n| n.role == NodeRole::Voter).map(|n| n.id).collect();
    let mut votes: BTreeMap<u64, usize> = BTreeMap::new();
    for report in voters.iter().filter_map(|id| r.reports.get(id)) {
        *votes.entry(report.all).or_default() += 1;
    }
    let heard: usize = votes.values().sum();
    let most = votes.values().copied().max().unwrap_or(0);
    let majority = |n: usize| n.saturating_mul(2) > voters.len();
    let truth = votes.iter().find(|(_, n)| majority(**n)).map(|(all, _)| *all);
    let Some(truth) = truth.and_then(|all| r.reports.values().find(|x| x.all == all).cloned()) else {
        if heard > 0 && !majority(most.saturating_add(voters.len().saturating_sub(heard))) {
            let mut all = r.reports.values();
            let first = all.next().cloned().unwrap_or_default();
            let mut tables: Vec<String> = all.flat_map(|other| differing(&first, other)).collect();
            tables.sort();
            tables.dedup();
            r.split = Some(Divergence { index: r.probe, tables });
        }
        return;
    };
    r.split = None;
    r.agreed = r.probe;
    for (id, report) in &r.reports {
        if report.all == truth.all {
            r.diverged.remove(id);
        } else {
            let tables = differing(report, &truth);
            r.diverged.insert(*id, Divergence { index: r.probe, tables });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        model::{ClusterId, Millis, Principal},
        state::{
            Command, EventBody, LogId, NewNode, Rejection, Stamped, apply,
            command::{ClusterInit, DigestProbe, DigestReported, NodeAdmitted, NodeRoleSet},
        },
    };

    fn run(s: &mut State, body: Command) -> Vec<EventBody> {
        let at = LogId { term: 1, index: s.applied.index + 1 };
        let principal = Principal::leader();
        let stamped = Stamped { at: Millis(at.index), wall: 0, term: 1, principal, request: None, body };
        apply(s, at, &stamped).unwrap().events.into_iter().map(|e| e.body).collect()
    }

    fn cluster(voters: u64) -> State {
        let node = |n: u64| NewNode {
            name: format!("n{n}"),
            peer_addr: format!("127.0.0.1:{n}"),
            client_addr: format!("127.0.0.1:{n}"),
            dns_addr: format!("127.0.0.1:{n}"),
            level: 1,
        };
        let mut s = State::default();
        let id = ClusterId::new("c-000000000001").unwrap();
        run(
            &mut s,
            Command::ClusterInit(ClusterInit { id, name: "t".into(), zone: "slipway.internal".into(), node: node(1) }),
        );
        for n in 2..=voters {
            run(&mut s, Command::NodeAdmitted(NodeAdmitted { node: node(n) }));
            run(
                &mut s,
                Command::NodeRoleSet(NodeRoleSet {
                    node: n,
                    role: NodeRole::Learner,
                    seen: NodeRole::Joining,
                    lose_packages: false,
                }),
            );
            run(
                &mut s,
                Command::NodeRoleSet(NodeRoleSet {
                    node: n,
                    role: NodeRole::Voter,
                    seen: NodeRole::Learner,
                    lose_packages: false,
                }),
            );
        }
        run(&mut s, Command::DigestProbe(DigestProbe {}));
        s
    }

    fn says(s: &mut State, node: NodeId, services: u64) -> Vec<EventBody> {
        let tables = vec![("head".to_string(), 1), ("services".to_string(), services)];
        let report = DigestReport { all: services, tables };
        run(s, Command::DigestReported(DigestReported { node, index: s.replicas.probe, report }))
    }

    #[test]
    fn the_minority_is_named_with_index_and_table_in_any_order_and_forgiven_when_it_agrees() {
        for order in [[1, 2, 3], [3, 2, 1], [2, 3, 1]] {
            let mut s = cluster(3);
            let probe = s.replicas.probe;
            let mut events = Vec::new();
            for node in order {
                events.extend(says(&mut s, node, if node == 3 { 9 } else { 5 }));
            }
            let named = EventBody::ReplicaDiverged { node: 3, index: probe, tables: vec!["services".into()] };
            assert_eq!(events, [named]);
            assert_eq!((s.replicas.agreed, s.replicas.split.clone()), (probe, None));
            // It stays named over the next probe until it agrees.
            run(&mut s, Command::DigestProbe(DigestProbe {}));
            assert!(s.replicas.diverged.contains_key(&3));
            let events: Vec<_> = [1, 2, 3].into_iter().flat_map(|n| says(&mut s, n, 6)).collect();
            assert_eq!(events, [EventBody::ReplicaAgrees { node: 3, index: s.replicas.probe }]);
            assert!(s.replicas.diverged.is_empty());
        }
    }

    #[test]
    fn without_a_majority_nobody_is_named_and_rollouts_freeze() {
        let mut s = cluster(3);
        says(&mut s, 1, 1);
        assert_eq!(s.replicas.split, None, "two that are silent may still agree");
        says(&mut s, 2, 2);
        assert_eq!(s.replicas.split, None, "the third may still decide");
        let events = says(&mut s, 3, 3);
        assert!(
            matches!(&events[..], [EventBody::ReplicasSplit { tables, .. }] if tables == &["services"]),
            "{events:?}"
        );
        assert!(s.replicas.diverged.is_empty());
        run(&mut s, Command::DigestProbe(DigestProbe {}));
        says(&mut s, 1, 4);
        let events = says(&mut s, 2, 4);
        assert!(matches!(&events[..], [EventBody::ReplicasSplit { tables, .. }] if tables.is_empty()), "{events:?}");
        assert_eq!(s.replicas.split, None);
    }

    #[test]
    fn a_report_about_another_probe_is_refused() {
        let mut s = cluster(2);
        let before = s.replicas.clone();
        let (node, index) = (1, before.probe - 1);
        let at = LogId { term: 1, index: s.applied.index + 1 };
        let body = Command::DigestReported(DigestReported { node, index, report: DigestReport::default() });
        let stamped = Stamped { at: Millis(99), wall: 0, term: 1, principal: Principal::leader(), request: None, body };
        assert!(matches!(apply(&mut s, at, &stamped), Err(Rejection::Guard(_))));
        assert_eq!(s.replicas, before);
    }

    #[test]
    fn a_snapshot_keeps_the_verdict() {
        let mut s = cluster(3);
        for (node, services) in [(1, 5), (2, 5), (3, 9)] {
            says(&mut s, node, services);
        }
        let bytes = crate::state::codec::encode_snapshot(&s).unwrap();
        assert_eq!(crate::state::codec::decode_snapshot(&bytes).unwrap(), s);
    }
}
