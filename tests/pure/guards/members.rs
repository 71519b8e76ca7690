//! Stories of nodes that join, leave, are drained and raise the feature level.
//!
//! Not here: Raft's own view of its members.

use super::*;
use slipway::state::command::{
    LevelProbe, LevelRaised, NodeAdmitted, NodeAnnounced, NodeDrained, NodeHeard, NodeRoleSet, NodeSilent, Pause,
};

/// A node that joins.
fn node(n: u32) -> NewNode {
    NewNode {
        name: format!("n{n}"),
        peer_addr: "127.0.0.9:1".into(),
        client_addr: "127.0.0.9:2".into(),
        dns_addr: "127.0.0.9:3".into(),
        level: slipway::state::codec::LEVEL.into(),
    }
}

/// A step along the table of roles.
fn set(node: u64, role: NodeRole, seen: NodeRole) -> Command {
    Command::NodeRoleSet(NodeRoleSet { node, role, seen, lose_packages: false })
}

#[test]
fn nodes_keep_their_ids() {
    let mut t = Story::new();
    assert!(
        t.no(Command::NodeAdmitted(NodeAdmitted { node: node(2) })).contains("node name n2 is taken by node 2 (voter)")
    );
    t.ok(Command::NodeAdmitted(NodeAdmitted { node: node(7) }));
    t.ok(Command::NodeAdmitted(NodeAdmitted { node: node(7) }));
    assert_eq!(t.s().nodes.keys().copied().collect::<Vec<_>>(), [1, 2, 3, 4]);
    let jump = set(4, NodeRole::Voter, NodeRole::Joining);
    assert!(t.no(jump).contains("cannot go from joining to voter"));
    t.ok(set(4, NodeRole::Removed, NodeRole::Joining));
    t.ok(Command::NodeAdmitted(NodeAdmitted { node: node(7) }));
    assert!(t.s().nodes.contains_key(&5), "a removed id is never used again");
    assert!(t.no(Command::NodeHeard(NodeHeard { node: 1 })).contains("heard already"));
}

#[test]
fn one_node_leaves_at_a_time_and_nobody_joins_meanwhile() {
    let mut t = Story::new();
    let new = node(7);
    assert!(t.no(set(9, NodeRole::Leaving, NodeRole::Voter)).contains('9'));
    t.ok(Command::NodeAdmitted(NodeAdmitted { node: new.clone() }));
    t.ok(set(4, NodeRole::Learner, NodeRole::Joining));
    let said = t.no(set(3, NodeRole::Leaving, NodeRole::Voter));
    assert!(said.contains("another change of members is running: node n7 (4) is learner"), "{said}");
    t.ok(set(4, NodeRole::Leaving, NodeRole::Learner));
    t.ok(set(4, NodeRole::Removed, NodeRole::Leaving));
    t.ok(set(3, NodeRole::Leaving, NodeRole::Voter));
    assert!(t.no(set(2, NodeRole::Leaving, NodeRole::Voter)).contains("node n3 (3) is leaving"));
    assert!(
        t.no(Command::NodeAdmitted(NodeAdmitted { node: new }))
            .contains("node n3 (3) is leaving: join again once it has left")
    );
    t.ok(set(3, NodeRole::Removed, NodeRole::Leaving));
    t.ok(set(2, NodeRole::Leaving, NodeRole::Voter));
    t.ok(set(2, NodeRole::Removed, NodeRole::Leaving));
    assert!(t.no(set(1, NodeRole::Leaving, NodeRole::Voter)).contains("the last voter"));
    assert!(t.no(set(2, NodeRole::Voter, NodeRole::Removed)).contains("cannot go from removed to voter"));
}

#[test]
fn a_node_that_never_came_or_fell_silent_on_its_way_keeps_nobody_from_leaving() {
    let mut t = Story::new();
    t.ok(Command::NodeAdmitted(NodeAdmitted { node: node(7) }));
    t.ok(set(3, NodeRole::Leaving, NodeRole::Voter));
    t.ok(set(3, NodeRole::Removed, NodeRole::Leaving));
    t.ok(Command::NodeAdmitted(NodeAdmitted { node: node(8) }));
    t.ok(set(5, NodeRole::Learner, NodeRole::Joining));
    assert!(t.no(set(2, NodeRole::Leaving, NodeRole::Voter)).contains("node n8 (5) is learner"));
    t.ok(Command::NodeSilent(NodeSilent { node: 5 }));
    t.ok(set(2, NodeRole::Leaving, NodeRole::Voter));
}

#[test]
fn a_rollout_that_is_paused_in_its_switch_keeps_no_member() {
    let mut t = Story::new();
    t.completes("1.0.0", StrategyName::DIRECT);
    t.start("2.0.0", StrategyName::BLUE_GREEN).unwrap();
    t.until("a running switch", |s| switching(s).is_some());
    let leaves = set(3, NodeRole::Leaving, NodeRole::Voter);
    assert!(t.no(leaves.clone()).contains("is switching"));
    let rollout = t.live().id;
    t.ok(Command::Pause(Pause { rollout }));
    assert!(t.live().running().is_some(), "it is paused in its step");
    t.ok(leaves);
}

#[test]
fn members_stay_while_traffic_is_switched() {
    let mut t = Story::new();
    t.completes("1.0.0", StrategyName::DIRECT);
    t.start("2.0.0", StrategyName::BLUE_GREEN).unwrap();
    let live = t.live().id;
    t.until("a running switch", |s| switching(s).is_some());
    let new = node(7);
    let leaves = set(3, NodeRole::Leaving, NodeRole::Voter);
    let said = t.no(Command::NodeAdmitted(NodeAdmitted { node: new.clone() }));
    assert!(said.contains(&format!("rollout {live} of production/shop is switching: no node can join")), "{said}");
    let said = t.no(leaves.clone());
    assert!(said.contains("is switching: no node can leave until that is over; try again"), "{said}");
    t.until("the switch's end", |s| switching(s).is_none());
    t.ok(leaves);
    t.ok(set(3, NodeRole::Removed, NodeRole::Leaving));
    t.ok(Command::NodeAdmitted(NodeAdmitted { node: new }));
}

#[test]
fn the_level_rises_by_one_once_every_node_supports_it() {
    let mut t = Story::new();
    let says = |node, min, max| {
        Command::NodeAnnounced(NodeAnnounced {
            node,
            version: "0.2.0".into(),
            min,
            max,
            client_addr: "127.0.0.9:2".into(),
            dns_addr: "127.0.0.9:3".into(),
        })
    };
    assert!(t.no(Command::LevelProbe(LevelProbe {})).contains("LevelProbe needs feature level 2, the cluster is at 1"));
    t.ok(says(1, 1, 2));
    t.ok(says(2, 1, 2));
    let said = t.no(Command::LevelRaised(LevelRaised { to: 2, seen: 1 }));
    assert!(said.contains("n3 (node 3, up to level 1)") && !said.contains("n1"), "{said}");
    assert!(t.no(says(3, 2, 3)).contains("node n3 is too new: it supports feature levels 2 to 3, the cluster is at 1"));
    t.ok(says(3, 1, 2));
    t.ok(says(3, 1, 1));
    assert!(t.no(Command::LevelRaised(LevelRaised { to: 2, seen: 1 })).contains("n3"), "it was taken back");
    t.ok(says(3, 1, 2));
    assert!(t.no(Command::LevelRaised(LevelRaised { to: 3, seen: 1 })).contains("rises by one"));
    t.ok(Command::LevelRaised(LevelRaised { to: 2, seen: 1 }));
    assert!(t.no(Command::LevelRaised(LevelRaised { to: 2, seen: 1 })).contains("the feature level is 2"));
    let said = t.no(says(3, 1, 1));
    assert!(said.contains("node n3 is too old: it supports feature levels 1 to 1, the cluster is at 2"), "{said}");
    assert_eq!(t.s().nodes[&1].version, "0.2.0");
    t.ok(Command::LevelProbe(LevelProbe {}));
}

#[test]
fn the_last_node_that_may_lead_is_not_drained() {
    let mut t = Story::new();
    t.ok(Command::NodeDrained(NodeDrained { node: 1, on: true }));
    t.ok(Command::NodeDrained(NodeDrained { node: 2, on: true }));
    assert!(t.no(Command::NodeDrained(NodeDrained { node: 3, on: true })).contains("is the last that may lead"));
    t.ok(Command::NodeDrained(NodeDrained { node: 1, on: false }));
    t.ok(Command::NodeDrained(NodeDrained { node: 3, on: true }));
}

#[test]
fn a_node_says_where_it_is_reached_and_nonsense_is_refused() {
    let mut t = Story::new();
    let says = |client: &str, dns: &str| {
        Command::NodeAnnounced(NodeAnnounced {
            node: 2,
            version: "0.2.0".into(),
            min: 1,
            max: 2,
            client_addr: client.into(),
            dns_addr: dns.into(),
        })
    };
    t.ok(says("10.0.0.9:7652", "10.0.0.9:53"));
    let row = &t.s().nodes[&2];
    assert_eq!((row.client_addr.as_str(), row.dns_addr.as_str()), ("10.0.0.9:7652", "10.0.0.9:53"));
    assert_eq!(row.peer_addr, "127.0.0.2:7001", "Raft's membership has it too");
    assert!(t.no(says("10.0.0.9", "10.0.0.9:53")).contains("client address \"10.0.0.9\" is not HOST:PORT"));
}
