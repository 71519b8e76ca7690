//! Copies of packages: who holds them, what a node that leaves would take along, and what is left of a removed node's.
//!
//! Invariants: a removed node holds nothing, from the entry that removes it on; only voters are counted as holders, as
//! nobody else stays by himself; a package that no release names may be lost. Not here: fetching (`node`), and who
//! answers at the moment (`rpc`).

use std::collections::{BTreeMap, BTreeSet};

use crate::state::base::prelude::*;

/// Packages that one refusal names; the others are counted.
const NAMED: usize = 5;

/// A package that releases name, and the voters that have it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Copies<'a> {
    /// Which package.
    pub digest: &'a Digest,
    /// Releases that name it.
    pub releases: Vec<&'a Release>,
    /// Voters that hold it.
    pub holders: Vec<NodeId>,
}

/// The nodes that vote.
fn voters(s: &State) -> BTreeSet<NodeId> {
    s.nodes.values().filter(|n| n.role == NodeRole::Voter).map(|n| n.id).collect()
}

/// How many voters hold a package, and how many voters there are.
pub fn copies_of(s: &State, digest: &Digest) -> (usize, usize) {
    let voters = voters(s);
    let held = s.blobs.get(digest).map_or(0, |b| b.holders.iter().filter(|h| voters.contains(h)).count());
    (held, voters.len())
}

/// Every package that a release names, by digest.
pub fn copies(s: &State) -> Vec<Copies<'_>> {
    let voters = voters(s);
    let mut all: BTreeMap<&Digest, Vec<&Release>> = BTreeMap::new();
    for release in s.releases.values() {
        all.entry(&release.digest).or_default().push(release);
    }
    let one = |(digest, releases)| {
        let held = s.blobs.get(digest).into_iter().flat_map(|b| b.holders.iter().copied());
        Copies { digest, releases, holders: held.filter(|h| voters.contains(h)).collect() }
    };
    all.into_iter().map(one).collect()
}

/// Packages of releases that `leaving` holds and that none of the other voters for which `stays` holds has.
pub fn last_copies(s: &State, leaving: NodeId, stays: impl Fn(NodeId) -> bool) -> Vec<Copies<'_>> {
    let here = |c: &Copies<'_>| s.blobs.get(c.digest).is_some_and(|b| b.holders.contains(&leaving));
    let lost = |c: &Copies<'_>| here(c) && !c.holders.iter().any(|h| *h != leaving && stays(*h));
    copies(s).into_iter().filter(lost).collect()
}

/// Why a node may not leave yet, and what to do.
pub fn would_lose(node: &NodeRow, last: &[Copies<'_>]) -> String {
    let release =
        |c: &Copies<'_>| c.releases.first().map_or_else(String::new, |r| format!("{} {}", r.service, r.version));
    let one = |c: &Copies<'_>| match c.releases.len().saturating_sub(1) {
        0 => format!("{} ({})", release(c), c.digest.short()),
        more => format!("{} and {more} more ({})", release(c), c.digest.short()),
    };
    let mut named: Vec<String> = last.iter().take(NAMED).map(one).collect();
    if last.len() > NAMED {
        named.push(format!("{} others", last.len() - NAMED));
    }
    let push = last.first().map_or_else(String::new, release);
    format!(
        "without {0} these packages would be lost, as no other voter that can be reached holds them: {1}. Wait until another has \
         fetched them (`slipway release list` says how many hold each), or push them again (`slipway release push {push} DIR`); \
         --lose-packages lets {0} go without them",
        node.name,
        named.join(", ")
    )
}

/// Refuses a node that would take the last copy of a package along.
pub(in crate::state) fn check_stay(s: &State, node: &NodeRow) -> Done {
    let last = last_copies(s, node.id, |_| true);
    if last.is_empty() { Ok(()) } else { Err(Rejection::Precondition(would_lose(node, &last))) }
}

/// A node was removed: it holds nothing. This walks every package, which a removal is rare enough for.
pub(in crate::state) fn removed(cx: &mut Cx<'_>, node: NodeId) {
    let held: Vec<Digest> =
        cx.s.blobs.iter().filter(|(_, b)| b.holders.contains(&node)).map(|(d, _)| d.clone()).collect();
    for digest in &held {
        drop_holder(cx, digest, node);
    }
}

/// A release that names a package.
pub(in crate::state) fn names<'a>(s: &'a State, digest: &Digest) -> Option<&'a Release> {
    s.releases.values().find(|r| &r.digest == digest)
}

/// Takes a node out of a package's holders; the row goes with its last holder, unless a release names it.
pub(in crate::state) fn drop_holder(cx: &mut Cx<'_>, digest: &Digest, node: NodeId) {
    let Some(mut row) = cx.s.blobs.get(digest).cloned() else { return };
    row.holders.retain(|n| *n != node);
    if row.holders.is_empty() && names(cx.s, digest).is_none() {
        cx.s.blobs.remove(digest);
        return;
    }
    cx.touch(&mut row.meta);
    cx.s.blobs.insert(digest.clone(), row);
}

/// What must hold in every State.
pub(in crate::state) fn check(s: &State) -> Result<(), String> {
    for (digest, blob) in &s.blobs {
        let gone = |h: &&NodeId| s.nodes.get(*h).is_none_or(|n| n.role == NodeRole::Removed);
        if let Some(node) = blob.holders.iter().find(gone) {
            return Err(format!("package {} is held by node {node}, which was removed", digest.short()));
        }
    }
    Ok(())
}
