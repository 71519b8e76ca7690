//! What can go wrong between this process and a cluster, and which failures another node may not have.
//!
//! Invariant: a refusal is final; an unknown outcome is never called a refusal. Not here: trying again (`client`).

use std::{error::Error as _, time::Duration};

use thiserror::Error;
use tonic::{Code, Status};

use crate::{model::innermost, wire::REASON};

/// The reason of a node that belongs to no cluster.
const NO_CLUSTER: &str = "no_cluster";

/// Why a call did not succeed.
#[derive(Debug, Error)]
pub enum ClientError {
    #[error("{0:?} is not a node's address: write HOST:PORT without a scheme, such as 127.0.0.1:7652")]
    Address(String),
    #[error("no node answers at {nodes} ({why})")]
    Unreachable {
        /// The addresses that were tried.
        nodes: String,
        why: String,
    },
    /// Something answers, and it is no node, or another program of Slipway's.
    #[error("{nodes} is no client address of a node of this version: name one (`client_listen`, port 7652 by default)")]
    Foreign {
        /// The addresses that were tried.
        nodes: String,
    },
    /// Nodes answered, but none could take the call in time.
    #[error("unavailable{}: {message}; see `slipway cluster status`, and run the same command again", lasting(.tried))]
    Unavailable {
        /// What the last node said.
        message: String,
        /// How long it was tried.
        tried: Duration,
    },
    #[error("no answer from {nodes} within {tried:?}: try again, or allow more with --timeout")]
    TimedOut {
        /// The addresses that were tried.
        nodes: String,
        /// How long it was tried.
        tried: Duration,
    },
    /// The cluster said no.
    #[error("{message}")]
    Refused {
        code: Code,
        /// The server's message: what was wrong, and what to do.
        message: String,
        /// Machine-readable reason, such as `not_found`; empty when the node gave none.
        reason: String,
    },
    /// The position asked for is older than what is kept.
    #[error("{message}")]
    OutOfRange { message: String },
    /// The package could not be read.
    #[error("cannot read {path}: {source}")]
    Package { path: String, source: std::io::Error },
}

impl ClientError {
    /// Whether what was asked makes no sense, whatever is in the cluster.
    pub fn is_invalid(&self) -> bool {
        matches!(self, Self::Refused { code: Code::InvalidArgument, .. })
    }

    /// The machine-readable reason of a refusal, if the node gave one.
    pub fn reason(&self) -> &str {
        match self {
            Self::Refused { reason, .. } => reason,
            Self::Address(_)
            | Self::Unreachable { .. }
            | Self::Foreign { .. }
            | Self::Unavailable { .. }
            | Self::TimedOut { .. }
            | Self::OutOfRange { .. }
            | Self::Package { .. } => "",
        }
    }
}

/// How long something was tried, as words; empty when it was refused at once.
fn lasting(tried: &Duration) -> String {
    if tried.is_zero() { String::new() } else { format!(" for {tried:?}") }
}

/// A failure that the next try, or the next node, may not have.
#[derive(Debug, Clone)]
pub enum Failure {
    /// No connection.
    Connect(String),
    /// The connection broke while the call was under way.
    Broken(String),
    /// The node said "not now".
    NotNow(String),
    /// It leads, and no majority follows it: waiting longer than an election takes does not help.
    NoQuorum(String),
    /// It belongs to no cluster, yet: it may be about to join the one whose other nodes are known.
    NoCluster(String),
    /// It does not know the call.
    Foreign,
    /// It said nothing in time.
    Silent,
}

/// Tells what is worth another try from what is final.
pub fn judge(status: Status) -> Result<Failure, ClientError> {
    // Only failures of the transport carry a source: what a server says comes as plain trailers.
    if let Some(cause) = status.source() {
        let said = innermost(cause).to_string().to_lowercase();
        // Without the operating system's number.
        let innermost = said.split(" (os error").next().unwrap_or(&said).to_string();
        let refused = innermost.contains("refused") || status.message().contains("connect");
        return Ok(if refused { Failure::Connect(innermost) } else { Failure::Broken(innermost) });
    }
    let message = status.message().to_string();
    let reason = status.metadata().get(REASON).and_then(|v| v.to_str().ok()).unwrap_or_default().to_string();
    match status.code() {
        Code::Unavailable if reason == "no_quorum" => Ok(Failure::NoQuorum(message)),
        Code::Unavailable => Ok(Failure::NotNow(message)),
        Code::FailedPrecondition if reason == NO_CLUSTER => Ok(Failure::NoCluster(message)),
        // The law's own word: the request came after its time, and will not be in time at another node.
        Code::DeadlineExceeded if !reason.is_empty() => {
            Err(ClientError::Refused { code: Code::DeadlineExceeded, message, reason })
        }
        Code::DeadlineExceeded | Code::Cancelled => Ok(Failure::Broken(message)),
        // A page of HTTP, or the peers' address: neither knows our calls, and neither says anything of its own.
        _ if message.starts_with("grpc-status header missing") => Ok(Failure::Foreign),
        Code::Unimplemented if message.is_empty() => Ok(Failure::Foreign),
        Code::OutOfRange => Err(ClientError::OutOfRange { message }),
        code @ (Code::Ok
        | Code::Unknown
        | Code::InvalidArgument
        | Code::NotFound
        | Code::AlreadyExists
        | Code::PermissionDenied
        | Code::ResourceExhausted
        | Code::FailedPrecondition
        | Code::Aborted
        | Code::Unimplemented
        | Code::Internal
        | Code::DataLoss
        | Code::Unauthenticated) => {
            let message = if message.is_empty() { format!("the node answered {code:?}") } else { message };
            Err(ClientError::Refused { code, message, reason })
        }
    }
}

/// The error for a call that no node accepted, with the time that has passed (not the time that was allowed).
pub fn give_up(failures: Vec<(String, Failure)>, tried: Duration) -> ClientError {
    let mut nodes: Vec<&str> = failures.iter().map(|(n, _)| n.as_str()).collect();
    nodes.sort_unstable();
    nodes.dedup();
    let nodes = nodes.join(", ");
    if let Some((_, Failure::NoCluster(message))) = failures.last()
        && failures.iter().all(|(_, f)| matches!(f, Failure::NoCluster(_)))
    {
        let (message, reason) = (message.clone(), NO_CLUSTER.to_string());
        return ClientError::Refused { code: Code::FailedPrecondition, message, reason };
    }
    if failures.iter().all(|(_, f)| matches!(f, Failure::Foreign)) && !failures.is_empty() {
        return ClientError::Foreign { nodes };
    }
    // What a node said tells more than that another one is gone.
    for (_, failure) in failures.iter().rev() {
        if let Failure::NotNow(message) | Failure::NoQuorum(message) | Failure::NoCluster(message) = failure {
            return ClientError::Unavailable { message: message.clone(), tried };
        }
    }
    for (_, failure) in failures.iter().rev() {
        if let Failure::Silent = failure {
            return ClientError::TimedOut { nodes, tried };
        }
    }
    let why = match failures.last() {
        Some((
            _,
            Failure::Connect(why)
            | Failure::Broken(why)
            | Failure::NotNow(why)
            | Failure::NoQuorum(why)
            | Failure::NoCluster(why),
        )) => why.clone(),
        Some((_, Failure::Foreign)) => "it is no node's client address".into(),
        Some((_, Failure::Silent)) | None => "no answer".into(),
    };
    ClientError::Unreachable { nodes, why }
}
