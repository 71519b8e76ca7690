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
    #[error(
        "cannot listen on {addr} for {what}: {source}; end what uses it, or choose another address with --{} (`{key}` in the \
         configuration)",
        key.replace('_', "-")
    )]
    Listen { what: &'static str, addr: SocketAddr, key: &'static str, source: std::io::Error },
    /// The data directory refused.
    #[error("data directory {}: {source}", dir.display())]
    Data { dir: PathBuf, source: StorageError },
    /// Consensus did not start.
    #[error("consensus: {0}")]
    Consensus(#[from] ConsensusError),
    #[error("this node cannot go on: {0}")]
    Failed(String),
    #[error("the listener for {what} ended: {reason}")]
    Ended { what: &'static str, reason: String },
    #[error(
        "the task {what:?} of this node {why} again and again, and was started again in vain: start the node again"
    )]
    Task { what: &'static str, why: String },
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
