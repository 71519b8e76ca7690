//! Stories of packages' copies: who holds them when nodes go.
//!
//! Not here: how copies are made (`tests/cluster/members.rs`).

use slipway::state::{
    command::{BlobDropped, BlobHeld, NodeRoleSet},
    copies, copies_of,
};

use super::*;
use crate::walk::package;

fn leaves(node: u64, lose_packages: bool) -> Command {
    Command::NodeRoleSet(NodeRoleSet { node, role: NodeRole::Leaving, seen: NodeRole::Voter, lose_packages })
}

fn removed(node: u64) -> Command {
    Command::NodeRoleSet(NodeRoleSet { node, role: NodeRole::Removed, seen: NodeRole::Leaving, lose_packages: false })
}

#[test]
fn a_removed_node_holds_no_package() {
    let mut t = Story::new();
    let loose = Digest::new(&"e".repeat(64)).unwrap();
    t.ok(Command::BlobHeld(BlobHeld { digest: loose.clone(), size: 7, node: 2 }));
    t.ok(leaves(2, false));
    assert_eq!(copies_of(t.s(), &package(1)), (1, 2), "who leaves does not count");
    t.ok(removed(2));
    assert!(t.s().blobs.values().all(|b| b.holders == [1]), "{:?}", t.s().blobs);
    assert!(!t.s().blobs.contains_key(&loose), "no release names it and nobody has it");
    assert!(t.no(Command::BlobHeld(BlobHeld { digest: loose, size: 7, node: 2 })).contains("node 2 was removed"));
}

#[test]
fn a_node_takes_the_last_copy_of_a_package_along_only_on_purpose() {
    let mut t = Story::new();
    for n in [1, 3] {
        t.ok(Command::BlobDropped(BlobDropped { digest: package(n), node: 2 }));
    }
    let said = t.no(leaves(1, false));
    let (first, second) = (package(1), package(3));
    for (version, digest) in [("1.0.0", &first), ("3.0.0", &second)] {
        assert!(said.contains(&format!("shop {version} ({})", digest.short())), "{said}");
    }
    assert!(said.contains("without n1 these packages would be lost") && !said.contains("2.0.0"), "{said}");
    assert!(said.contains("`slipway release push shop 1.0.0 DIR`") && said.contains("--lose-packages"), "{said}");
    t.ok(Command::BlobHeld(BlobHeld { digest: first.clone(), size: 100, node: 3 }));
    assert!(t.no(leaves(1, false)).contains("shop 3.0.0"));
    t.ok(Command::BlobHeld(BlobHeld { digest: second.clone(), size: 100, node: 2 }));
    t.ok(leaves(1, false));
    t.ok(removed(1));
    assert!(t.no(leaves(2, false)).contains("would be lost"));
    t.ok(leaves(2, true));
    t.ok(removed(2));
    let none = copies(t.s()).iter().filter(|c| c.holders.is_empty()).count();
    assert_eq!(none, 3, "the rows of releases stay, so that pushing again heals them");
}
