//! What callers of the consensus module must tell apart: refused before anything happened, unknown outcome, and broken.

use std::{io, time::Duration};

use crate::{model::NodeId, storage::StorageError};

/// A node and its peer address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerAddress {
    pub id: NodeId,
    /// Where its peers reach it, `host:port`.
    pub addr: String,
}

/// An error of starting, membership or administration.
#[derive(Debug, thiserror::Error)]
pub enum ConsensusError {
    /// Settings contradict each other.
    #[error("consensus settings: {reason}")]
    Config { reason: String },
    /// The data directory refused.
    #[error(transparent)]
    Storage(#[from] StorageError),
    #[error("this node does not lead the cluster{}", hint(.leader))]
    NotLeader { leader: Option<PeerAddress> },
    #[error("{what} did not finish within {limit:?}; it may still take effect")]
    TimedOut { what: &'static str, limit: Duration },
    /// The cluster refused.
    #[error("{what}: {reason}")]
    Refused { what: &'static str, reason: String },
    #[error("consensus has stopped on this node: {reason}")]
    Stopped { reason: String },
}

/// Why a proposal has no result.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProposeError {
    #[error("this node does not lead the cluster{}", hint(.leader))]
    NotLeader {
        /// The leader, if known; it may be asked.
        leader: Option<PeerAddress>,
    },
    #[error("the leader cannot reach a majority of the voters; retry")]
    NoQuorum,
    /// The leader takes no proposals for now; nothing was proposed.
    #[error("the cluster takes no changes now: {reason}")]
    Refusing {
        /// Why, and what to do.
        reason: String,
    },
    /// It was proposed and may or may not take effect: retry under the same request id.
    #[error("the outcome is unknown ({reason}); retry with the same request id")]
    Unknown { reason: String },
    /// The command is larger than the log takes; nothing was proposed.
    #[error("the command has {size} bytes; the log takes {limit}")]
    TooLarge { size: usize, limit: usize },
    #[error("the command cannot be encoded: {reason}")]
    Encoding { reason: String },
    #[error("consensus has stopped on this node: {reason}")]
    Stopped { reason: String },
}

/// Why a linearizable read is not possible now.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    #[error("no leader is reachable{}", asked(.leader))]
    NoLeader {
        /// The leader believed in, if any.
        leader: Option<PeerAddress>,
    },
    #[error("the leader cannot reach a majority of the voters; retry")]
    NoQuorum,
    #[error("this node did not catch up to entry {index} within {limit:?}; retry or ask another node")]
    Behind { index: u64, limit: Duration },
    #[error("consensus has stopped on this node: {reason}")]
    Stopped { reason: String },
}

/// Why a peer's call was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PeerError {
    #[error("this node belongs to cluster {ours}, the call is for {theirs}")]
    OtherCluster { ours: String, theirs: String },
    /// The call is for another node: an address was reused.
    #[error("this is node {ours}, the call is for node {theirs}")]
    OtherNode { ours: NodeId, theirs: NodeId },
    #[error("node {node} was removed from the cluster and cannot come back")]
    Removed { node: NodeId },
    /// The bytes make no sense.
    #[error("malformed peer message: {reason}")]
    Malformed { reason: String },
    /// This node leads and cannot reach a majority; nothing was proposed.
    #[error("the leader cannot reach a majority of the voters; retry")]
    NoQuorum,
    /// This node leads and takes no proposals for now; nothing was proposed.
    #[error("{reason}")]
    Refusing {
        /// Why, and what to do.
        reason: String,
    },
    #[error("cannot serve the peer's call: {reason}")]
    Failed { reason: String },
}

fn asked(leader: &Option<PeerAddress>) -> String {
    match leader {
        Some(at) => format!(", node {} at {} was asked", at.id, at.addr),
        None => String::new(),
    }
}

fn hint(leader: &Option<PeerAddress>) -> String {
    match leader {
        Some(at) => format!(" (node {} at {} does)", at.id, at.addr),
        None => String::new(),
    }
}

impl From<io::Error> for ConsensusError {
    fn from(error: io::Error) -> Self {
        Self::Stopped { reason: error.to_string() }
    }
}

impl From<PeerError> for tonic::Status {
    fn from(error: PeerError) -> Self {
        let text = error.to_string();
        match error {
            PeerError::OtherCluster { .. }
            | PeerError::OtherNode { .. }
            | PeerError::Removed { .. }
            | PeerError::NoQuorum => Self::failed_precondition(text),
            PeerError::Malformed { .. } => Self::invalid_argument(text),
            PeerError::Refusing { .. } => Self::resource_exhausted(text),
            PeerError::Failed { .. } => Self::unavailable(text),
        }
    }
}
