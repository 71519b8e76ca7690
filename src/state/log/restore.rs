//! A State of a backup as the first State of a new cluster of one node.
//!
//! Invariants: every fence rises above all that the old cluster can have handed out after the backup, which nobody
//! knows any more: routes and desired states by the incarnation, generations of assignments by a high part made of it,
//! ids by a jump of the log index. Contents are untouched, so what runs goes on running. Not here: files (`storage`,
//! `raft`).

use std::{collections::BTreeSet, sync::Arc};

use crate::state::{
    base::prelude::*,
    cluster::members,
    traffic::{returns, switches},
};

/// Log indexes are moved ahead by so many for each incarnation: more than a cluster writes between a backup and its
/// loss.
const INDEX_JUMP: u64 = 100_000_000;

/// Generations of an incarnation begin at incarnation << this.
const GENERATION_BITS: u32 = 40;

/// Incarnations that fit above that.
const MAX_INCARNATION: u64 = 1 << 20;

/// What the new cluster is.
#[derive(Debug, Clone)]
pub struct Restoration {
    pub id: ClusterId,
    /// Its first node, number 1.
    pub node: NewNode,
    /// Its incarnation at least; the next one in any case.
    pub incarnation: u64,
    /// Other clusters whose agents are to go on with it: restored earlier from the same backup.
    pub succeeds: Vec<ClusterId>,
    /// Packages that the first node holds.
    pub held: BTreeSet<Digest>,
}

/// The first State of the new cluster; the reason when there can be none.
pub fn restored(old: &State, new: &Restoration) -> Result<State, String> {
    let mut s = old.clone();
    let Some(mut cluster) = s.cluster.as_deref().cloned() else { return Err("it holds no cluster yet".into()) };
    let incarnation = old.incarnation.saturating_add(1).max(new.incarnation);
    if incarnation >= MAX_INCARNATION {
        return Err(format!("incarnation {incarnation} is over the limit of {MAX_INCARNATION}"));
    }
    let jump = (incarnation - old.incarnation).saturating_mul(INDEX_JUMP);
    let index = old.applied.index.saturating_add(jump);
    s.incarnation = incarnation;
    s.applied = LogId { term: old.applied.term.max(1), index };
    let before = std::mem::replace(&mut cluster.id, new.id.clone());
    for id in new.succeeds.iter().chain([&before]) {
        if !s.lineage.contains(id) {
            s.lineage.push(id.clone());
        }
    }
    cluster.next_node_id = 2;
    let raised = |g: u64| (incarnation << GENERATION_BITS) | (g & ((1 << GENERATION_BITS) - 1));
    // Also of workers that the old cluster took in after the backup.
    cluster.parted.generation = raised(cluster.parted.generation);
    touch(&mut cluster.meta, index);
    s.cluster = Some(Arc::new(cluster));

    // Which nodes agreed says nothing about new ones.
    s.replicas = Arc::new(Replicas::default());
    s.fences = Arc::new(switches::restored(&old.fences, index, old.now));
    returns::restored(&mut s);
    // The leader makes another one up: this one is in the backup.
    s.cookies = Arc::default();
    s.nodes.clear();
    let meta = Meta { created_index: index, ..Meta::default() };
    let mut row = members::row(meta, 1, &new.node, NodeRole::Voter);
    touch(&mut row.meta, index);
    s.nodes.insert(1, row);

    let named: BTreeSet<&Digest> = old.releases.values().map(|r| &r.digest).collect();
    // What nobody holds and no release names is nowhere.
    let kept = |digest: &&Digest| new.held.contains(*digest) || named.contains(*digest);
    for (digest, blob) in old.blobs.iter().filter(|(digest, _)| kept(digest)) {
        let mut blob = blob.clone();
        blob.holders = if new.held.contains(digest) { vec![1] } else { Vec::new() };
        touch(&mut blob.meta, index);
        s.blobs.insert(digest.clone(), blob);
    }
    for (id, d) in &old.deployments {
        let mut d = d.clone();
        if let Some(route) = &mut d.route {
            route.generation = FencePoint { incarnation, n: index };
            touch(&mut d.meta, index);
            s.deployments.insert(id.clone(), d);
        }
    }
    for (key, a) in &old.assignments {
        let mut a = a.clone();
        a.generation = raised(a.generation);
        touch(&mut a.meta, index);
        s.assignments.insert(key.clone(), a);
    }
    for (name, w) in &old.workers {
        let mut w = w.clone();
        w.set_generation = raised(w.set_generation);
        touch(&mut w.meta, index);
        s.workers.insert(name.clone(), w);
    }
    Ok(s)
}

fn touch(meta: &mut Meta, index: u64) {
    meta.revision = meta.revision.saturating_add(1);
    meta.updated_index = index;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        model::{Millis, Principal},
        state::{Command, Stamped, apply, codec, command::ClusterInit, invariants},
    };

    fn node(name: &str) -> NewNode {
        NewNode {
            name: name.into(),
            peer_addr: "127.0.0.1:1".into(),
            client_addr: "127.0.0.1:2".into(),
            dns_addr: "127.0.0.1:3".into(),
            level: 1,
        }
    }

    fn cluster(id: &str) -> State {
        let mut state = State::default();
        let body = Command::ClusterInit(ClusterInit {
            id: ClusterId::new(id).unwrap(),
            name: "test".into(),
            zone: "slipway.internal".into(),
            node: node("a"),
        });
        let command =
            Stamped { at: Millis(5), wall: 5, term: 3, principal: Principal::local_operator(), request: None, body };
        apply(&mut state, LogId { term: 3, index: 9 }, &command).unwrap();
        state
    }

    fn restoration(id: &str) -> Restoration {
        Restoration {
            id: ClusterId::new(id).unwrap(),
            node: node("b"),
            incarnation: 0,
            succeeds: Vec::new(),
            held: BTreeSet::new(),
        }
    }

    #[test]
    fn fences_rise_and_the_lineage_is_kept() {
        let first = cluster("c-1");
        let second = restored(&first, &restoration("c-2")).unwrap();
        invariants::check(&second).unwrap();
        assert_eq!((second.incarnation, second.applied.term), (2, 3));
        assert!(second.applied.index >= 9 + INDEX_JUMP);
        assert_eq!(second.nodes.values().map(|n| n.name.as_str()).collect::<Vec<_>>(), ["b"]);
        assert_eq!(second.lineage, [ClusterId::new("c-1").unwrap()]);
        let back = codec::decode_snapshot(&codec::encode_snapshot(&second).unwrap()).unwrap();
        assert_eq!(back, second);
        // The same backup once more: above the first restoration, whose agents are to follow.
        let again =
            Restoration { incarnation: 3, succeeds: vec![ClusterId::new("c-2").unwrap()], ..restoration("c-3") };
        let third = restored(&first, &again).unwrap();
        assert!(third.incarnation > second.incarnation && third.applied.index > second.applied.index);
        assert_eq!(third.lineage.len(), 2);
        assert!(restored(&State::default(), &restoration("c-4")).is_err());
    }
}
