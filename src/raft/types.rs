//! The openraft type configuration: standard Raft (one leader a term, so a fence is one `u64` term) over our own
//! command envelope.
//!
//! Deliberately not here: how any of it is encoded (`codec`).

use std::sync::Arc;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::{
    model::Millis,
    state::{self, Rejection},
};

openraft::declare_raft_types!(
    /// The type configuration.
    pub TypeConfig:
        D = Sealed,
        R = ApplyOutcome,
        NodeId = u64,
        Node = openraft::BasicNode,
        LeaderId = openraft::impls::leader_id_std::LeaderId<u64, u64>,
        AsyncRuntime = openraft_rt_tokio::TokioRuntime,
);

pub(super) type Raft = openraft::Raft<TypeConfig, super::machine::Machine>;
pub(super) type LogId = openraft::alias::LogIdOf<TypeConfig>;
pub(super) type Vote = openraft::alias::VoteOf<TypeConfig>;
pub(super) type Entry = openraft::alias::EntryOf<TypeConfig>;
pub(super) type Membership = openraft::Membership<u64, openraft::BasicNode>;
pub(super) type StoredMembership = openraft::alias::StoredMembershipOf<TypeConfig>;
pub(super) type SnapshotMeta = openraft::alias::SnapshotMetaOf<TypeConfig>;
/// A whole encoded state; shared, as the leader may send it to several peers at once.
pub(super) type SnapshotBytes = Arc<Vec<u8>>;
pub(super) type RaftSnapshot = openraft::alias::SnapshotOf<TypeConfig, SnapshotBytes>;

/// A stamped command in the encoding of `state`'s codec; opaque to the log and to the network. Clones share the bytes.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, derive_more::Debug, derive_more::Display)]
#[debug("Sealed({} bytes)", _0.len())]
#[display("command of {} bytes", _0.len())]
#[serde(from = "Vec<u8>", into = "Vec<u8>")]
pub struct Sealed(pub(super) Bytes);

impl From<Vec<u8>> for Sealed {
    fn from(bytes: Vec<u8>) -> Self {
        Self(bytes.into())
    }
}

impl From<Sealed> for Vec<u8> {
    fn from(sealed: Sealed) -> Self {
        sealed.0.into()
    }
}

/// What `apply` answered; never leaves the process, so it is not serialised.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct ApplyOutcome {
    /// Cluster time after the entry.
    #[serde(skip)]
    pub(super) now: Millis,
    /// `None` for entries without a command.
    #[serde(skip)]
    pub(super) result: Option<Result<state::Applied, Rejection>>,
}
