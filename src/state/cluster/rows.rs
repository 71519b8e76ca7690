//! The rows of the cluster: itself, its settings, its nodes, whether their replicas agree, the secrets of DNS cookies.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{
    model::{ClusterId, Millis, NodeId, Period, fields},
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
    }
}

fields! {
    /// Replicated times and bounds.
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub struct Settings {
        /// How long a new leader waits for observations before it reads Unknown as Silent.
        1 pub term_grace: Period,
        /// Silence at every node after which a worker is lost.
        2 pub lost_after: Period,
        /// Time after its last report at which a lost worker's instances leave DNS.
        3 pub dns_out_after: Period,
        /// Silence after which a DNS server counts as silent in a drain.
        4 pub node_silent_after: Period,
        /// How long an aborted rollout's candidates are kept to look at.
        5 pub abort_keep: Period,
        /// Silence after which a DNS server holds back no freed address any more.
        6 pub silent_for_good: Period,
        /// Counts per kind of object.
        7 [required] pub limits: Limits,
    }
}

fields! {
    /// Bounds on what State holds. They leave room above what one cluster is measured at (1,000 services, 10,000 workers, 100,000
    /// instances, and a minute of over a thousand client requests a second), and keep State from growing without end.
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub struct Limits {
        1 pub services: u32,
        2 pub environments: u32,
        3 pub deployments: u32,
        4 pub releases_per_service: u32,
        5 pub workers: u32,
        6 pub instances_per_deployment: u32,
        /// Terminal rollouts kept per deployment.
        7 pub history_per_deployment: u32,
        /// Requests remembered for retries; a tenth of them for verbs that stop or turn something.
        8 pub requests: u32,
        /// Undelivered outbox rows.
        9 pub outbox: u32,
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            term_grace: Period::seconds(5),
            lost_after: Period::seconds(10),
            dns_out_after: Period::seconds(15),
            node_silent_after: Period::seconds(10),
            abort_keep: Period::minutes(60),
            silent_for_good: Period::minutes(10),
            limits: Limits {
                services: 10_000,
                environments: 100,
                deployments: 20_000,
                releases_per_service: 500,
                workers: 20_000,
                instances_per_deployment: 5000,
                history_per_deployment: 50,
                requests: 100_000,
                outbox: 10_000,
            },
        }
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
        /// Highest index its DNS view was committed to have served (by `DrainSettled`); frees addresses for other deployments.
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
