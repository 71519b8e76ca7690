//! The rows of the cluster: itself, its settings, its nodes, whether their replicas agree, the secrets of DNS cookies.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

pub use super::settings::{Limits, Settings, SettingsChange};
use crate::{
    model::{ClusterId, Millis, NodeId, fields},
    state::base::rows::Meta,
};

fields! {
    /// The one cluster.
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub struct Cluster {
        1 pub meta: Meta,
        /// Its id, made by `init`.
        2 [required] pub id: ClusterId,
        /// Its name for people.
        3 pub name: String,
        /// DNS zone, absolute, lower case, without the final dot: `slipway.internal`.
        4 pub zone: String,
        /// The next node id to give out.
        5 pub next_node_id: NodeId,
        /// Replicated settings.
        6 [required] pub settings: Settings,
        7 pub parted: Parted,
    }
}

fields! {
    /// What removed workers leave: those that come later begin above it.
    #[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
    pub struct Parted {
        /// Index at or after which no server names who had an address that left its pool; who brings new ones waits for
        /// that.
        1 pub vacated: u64,
        /// Above all generations that removed workers saw.
        2 pub generation: u64,
        /// Above all epochs of their reports.
        3 pub epoch: u64,
    }
}

/// A node's place in the cluster. Only moves as the table in `base::lifecycle` allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, strum::Display)]
#[strum(serialize_all = "snake_case")]
pub enum NodeRole {
    /// Admitted, not yet in the membership.
    Joining,
    /// Receives the log, does not vote.
    Learner,
    /// Votes.
    Voter,
    /// Being removed.
    Leaving,
    /// Gone for ever; its id is never used again.
    Removed,
}

impl NodeRole {
    /// Whether the node's DNS may have answered clients.
    pub fn serves_dns(self) -> bool {
        match self {
            Self::Learner | Self::Voter | Self::Leaving => true,
            Self::Joining | Self::Removed => false,
        }
    }
}

fields! {
    /// A node.
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub struct NodeRow {
        1 pub meta: Meta,
        2 pub id: NodeId,
        3 pub name: String,
        /// Where peers reach it, `host:port`.
        4 pub peer_addr: String,
        /// Where clients and agents reach it, `host:port`.
        5 pub client_addr: String,
        /// Where its DNS listens, `ip:port`.
        6 pub dns_addr: String,
        /// Highest feature level its program supports.
        7 pub level: u32,
        8 [required] pub role: NodeRole,
        /// Cluster time since when its DNS view has not been heard of; `None` while heard.
        9 pub silent_since: Option<Millis>,
        /// Highest index its DNS view was committed to have served (by `DrainSettled`); frees addresses for other
        /// deployments.
        10 pub served: u64,
        /// Version of its program; empty until it says so itself.
        11 pub version: String,
        /// Lowest feature level its program supports; 1 until it says so itself.
        12 pub min_level: u32,
        /// Whether an operator takes it out for maintenance: it does not lead.
        13 pub drained: bool,
    }
}

fields! {
    /// A node that joins.
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub struct NewNode {
        1 pub name: String,
        /// Peer address, `host:port`.
        2 pub peer_addr: String,
        /// Client address, `host:port`.
        3 pub client_addr: String,
        /// DNS address, `ip:port`.
        4 pub dns_addr: String,
        /// Highest feature level.
        5 pub level: u32,
    }
}

fields! {
    /// A node's hashes at the probe.
    #[derive(Debug, Clone, Default, PartialEq, Eq)]
    pub struct DigestReport {
        /// Over all tables.
        1 pub all: u64,
        /// Each table by name, in the order of the snapshot.
        2 pub tables: Vec<(String, u64)>,
    }
}

fields! {
    /// Where a replica differs.
    #[derive(Debug, Clone, Default, PartialEq, Eq, derive_more::Display)]
    #[display("at index {index}, table {}", tables.join(", "))]
    pub struct Divergence {
        /// The probe's entry.
        1 pub index: u64,
        /// Tables that differ.
        2 pub tables: Vec<String>,
    }
}

fields! {
    /// What is known of the replicas' agreement.
    #[derive(Debug, Clone, Default, PartialEq, Eq)]
    pub struct Replicas {
        /// Entry of the newest probe; 0 before the first.
        1 pub probe: u64,
        /// Reports about that entry.
        2 pub reports: BTreeMap<NodeId, DigestReport>,
        /// Newest probe at which a majority of the voters agreed; 0: none yet.
        3 pub agreed: u64,
        /// Nodes that differ from the majority.
        4 pub diverged: BTreeMap<NodeId, Divergence>,
        /// Set while no digest can have a majority: rollouts are frozen.
        5 pub split: Option<Divergence>,
    }
}

/// A secret of 128 bits.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize, derive_more::Debug)]
#[debug("(secret)")]
pub struct Secret([u8; 16]);

impl Secret {
    /// From random bytes.
    pub fn new(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// For who computes with it.
    pub fn bytes(&self) -> &[u8; 16] {
        &self.0
    }
}

fields! {
    /// The secrets.
    #[derive(Debug, Clone, Default, PartialEq, Eq)]
    pub struct CookieSecrets {
        /// Index of the entry that brought the newest; 0: there is none yet.
        1 pub index: u64,
        /// Cluster time of that entry.
        2 pub since: Millis,
        /// What cookies are made with.
        3 pub newest: Option<Secret>,
        /// The one before, and until when its cookies are good.
        4 pub before: Option<(Secret, Millis)>,
        /// Whether an operator has asked for another.
        5 pub asked: bool,
    }
}

impl CookieSecrets {
    /// The secrets whose cookies are good now; the first one signs.
    pub fn accepted(&self, now: Millis) -> Vec<Secret> {
        let before = self.before.filter(|(_, until)| now < *until).map(|(secret, _)| secret);
        self.newest.into_iter().chain(before).collect()
    }
}
