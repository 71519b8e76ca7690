//! The rows of the catalog: environments, services, packages, releases.

use serde::{Deserialize, Serialize};

use crate::{
    model::{BuildInfo, Digest, Millis, Name, NodeId, OnNoData, Overrides, StrategyName, Version, fields},
    state::base::rows::Meta,
};

fields! {
    /// A stage and DNS namespace.
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub struct Environment {
        1 pub meta: Meta,
        2 [required] pub name: Name,
        /// Strategy of rollouts that name none.
        3 [required] pub default_strategy: StrategyName,
        /// Place in the order of promotion, from 0.
        4 pub order: u32,
        /// What the end of a bake without data does in rollouts that do not say.
        5 [required] pub on_no_data: OnNoData,
    }
}

fields! {
    /// What is versioned.
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub struct Service {
        1 pub meta: Meta,
        2 [required] pub name: Name,
        /// What is said of its rollouts where their specs say nothing.
        3 pub defaults: Overrides,
    }
}

fields! {
    /// A package: which nodes hold it durably.
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub struct Blob {
        1 pub meta: Meta,
        /// Size in bytes.
        2 pub size: u64,
        /// Nodes that have it fsynced, ascending.
        3 pub holders: Vec<NodeId>,
        /// Cluster time until which it is kept without a release: somebody may be about to register one.
        4 pub kept_until: Millis,
    }
}

/// A release's status (FEATURES V1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, strum::IntoStaticStr)]
#[strum(serialize_all = "snake_case")]
pub enum ReleaseStatus {
    /// Registered, nothing runs it.
    Loading,
    /// Stable somewhere.
    Active,
    /// Candidate somewhere.
    Canary,
    /// Was stable; superseded.
    Deprecated,
    /// A rollout of it failed.
    Failed,
    /// Taken out of use.
    Retired,
}

fields! {
    /// A release of a service.
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub struct Release {
        1 pub meta: Meta,
        /// Whose release.
        2 [required] pub service: Name,
        3 [required] pub version: Version,
        /// Digest of its archive.
        4 [required] pub digest: Digest,
        /// Size of its archive in bytes.
        5 pub size: u64,
        /// What the builder said.
        6 [required] pub build: BuildInfo,
        /// Where it stands.
        7 [required] pub status: ReleaseStatus,
        /// Whether a rollout ever gave it an arm: then its name stands for these bytes for good.
        8 pub ran: bool,
        /// Cluster time of the entry that registered it.
        9 pub registered_at: Millis,
    }
}
