//! What a command ends with when it does not end well, and the exit code a script sees.

use thiserror::Error;

use crate::{client::ClientError, config::ConfigError, console::Unwritten, model::ModelError};

/// Everything was done.
pub const DONE: u8 = 0;
/// It failed or was refused.
pub const FAILED: u8 = 1;
/// The command line cannot be understood.
pub const USAGE: u8 = 2;
/// The rollout ended where it began.
pub const ROLLED_BACK: u8 = 3;
/// The time allowed is over.
pub const TIMED_OUT: u8 = 4;
/// No node took the call.
pub const UNAVAILABLE: u8 = 5;

/// Why a command failed.
#[derive(Debug, Error)]
pub enum CliError {
    /// The cluster, or the way there.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// A name, version or value on the command line.
    #[error(transparent)]
    Value(#[from] ModelError),
    /// The CLI's own settings.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The command line, in words of its own.
    #[error("{0}")]
    Usage(String),
    /// What was asked for goes on, and is not over in the time that the command waits.
    #[error("{0}")]
    TimedOut(String),
    /// Done as asked, and the result is a failure.
    #[error("{0}")]
    Failed(String),
    /// A file.
    #[error("cannot read {path}: {source}")]
    File { path: String, source: std::io::Error },
    #[error("cannot write the result: {0}")]
    Output(#[from] Unwritten),
}

impl CliError {
    /// Whether it is only that nobody reads standard output any more.
    pub fn reader_left(&self) -> bool {
        matches!(self, Self::Output(Unwritten::ReaderLeft))
    }

    /// What a script sees.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Client(e) => match e {
                ClientError::Address(_) => USAGE,
                ClientError::Unreachable { .. } | ClientError::Unavailable { .. } => UNAVAILABLE,
                ClientError::TimedOut { .. } => TIMED_OUT,
                ClientError::Refused { .. } | ClientError::OutOfRange { .. } | ClientError::Package { .. } => FAILED,
            },
            Self::Value(_) | Self::Config(_) | Self::Usage(_) => USAGE,
            Self::TimedOut(_) => TIMED_OUT,
            // Whoever read has seen enough. Who watched something for its end has not: `live` says so itself.
            Self::Output(Unwritten::ReaderLeft) => DONE,
            Self::Failed(_) | Self::File { .. } | Self::Output(Unwritten::Failed(_)) => FAILED,
        }
    }
}
