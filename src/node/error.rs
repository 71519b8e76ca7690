//! Why a node does not start, or ends.

use std::{net::SocketAddr, path::PathBuf};

use crate::{
    dns::TlsError,
    raft::ConsensusError,
    storage::{StorageError, space},
};

/// An error of the daemon.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    /// A listener could not be bound.
    #[error(
        "cannot listen on {addr} for {what}: {source}; end what uses it, or choose another address with --{} (`{key}` in the \
         configuration)",
        key.replace('_', "-")
    )]
    Listen {
        /// What it is for.
        what: &'static str,
        /// The address.
        addr: SocketAddr,
        /// The configuration's key.
        key: &'static str,
        /// The system's reason.
        source: std::io::Error,
    },
    /// The data directory refused.
    #[error("data directory {}: {source}", dir.display())]
    Data {
        /// Which.
        dir: PathBuf,
        /// Why.
        source: StorageError,
    },
    /// Consensus did not start.
    #[error("consensus: {0}")]
    Consensus(#[from] ConsensusError),
    /// The disk or Raft failed while running.
    #[error("this node cannot go on: {0}")]
    Failed(String),
    /// A listener ended.
    #[error("the listener for {what} ended: {reason}")]
    Ended {
        /// Which.
        what: &'static str,
        /// Why.
        reason: String,
    },
    /// A background task cannot be kept running.
    #[error(
        "the task {what:?} of this node {why} again and again, and was started again in vain: start the node again"
    )]
    Task {
        /// Which.
        what: &'static str,
        /// How it ended last.
        why: String,
    },
    /// DNS over TLS has no certificate that it could show.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The client certificate or the like is not usable.
    #[error("{0}")]
    Other(String),
}

impl NodeError {
    /// Whether it may start, or go on, once there is room on its disk: a write found none.
    pub fn is_for_want_of_room(&self) -> bool {
        match self {
            Self::Data { .. } | Self::Consensus(_) => space::is_full(&self.to_string()),
            Self::Listen { .. }
            | Self::Failed(_)
            | Self::Ended { .. }
            | Self::Task { .. }
            | Self::Tls(_)
            | Self::Other(_) => false,
        }
    }
}
