//! What a command ends with when it does not end well, and the exit code a script sees.
//!
//! Invariant: [`USAGE`] says only what could be told without a cluster, so a script that meets it is itself wrong. A
//! node may be the one to say so: what it calls invalid no cluster would take.

use serde::Serialize;
use thiserror::Error;

use crate::{
    client::ClientError,
    config::ConfigError,
    console::{self, Unwritten},
    model::ModelError,
};

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
/// The rollout is paused.
pub const PAUSED: u8 = 6;
/// The rollout was aborted.
pub const ABORTED: u8 = 7;
/// Ctrl-C.
pub const INTERRUPTED: u8 = 130;

/// Every exit code: in a word for the first page of the help, and in full for the reference page.
pub const CODES: &[(u8, &str, &str)] = &[
    (DONE, "done", "Done as asked, or so already."),
    (
        FAILED,
        "failed or refused",
        "The cluster refused it, a name is not there, a file could not be read or written, or what was asked for failed. \
         `logs`: a worker did not give the log of an instance.",
    ),
    (
        USAGE,
        "usage",
        "The command line, the spec, `config.toml` or a variable makes no sense, whatever is in the cluster: the same command fails \
        the same way always.",
    ),
    (ROLLED_BACK, "rolled back", "A watched rollout was rolled back, unless that is what was asked for."),
    (
        TIMED_OUT,
        "timed out",
        "A node was silent, or what was watched goes on after `--within`, or standard output has lost its reader.",
    ),
    (
        UNAVAILABLE,
        "no node available",
        "No node could be reached, or none could take the call now. The same command may be run again.",
    ),
    (PAUSED, "paused", "A watched rollout is paused and waits for a person (`--until paused`)."),
    (ABORTED, "aborted", "A watched rollout was aborted."),
    (INTERRUPTED, "interrupted", "Ctrl-C. What was asked for goes on in the cluster."),
];

/// What a code also says after some verbs. Their help and the reference page are made of it.
pub const OF_VERBS: &[(&str, u8, &str)] = &[
    ("traffic switch", FAILED, "that no server answers with the old version could not be said"),
    ("traffic switch", ROLLED_BACK, "nothing was moved"),
    ("traffic probe", FAILED, "a request failed"),
    ("dns trace", FAILED, "the name has no answer"),
    ("dns query", FAILED, "a node is behind or silent"),
    ("cluster digest", FAILED, "a node differs, or no majority agrees"),
    ("cluster check", FAILED, "it is not sound"),
];

/// The codes of a verb's own, one a line; empty: there are none.
pub fn of_verb(verb: &str) -> String {
    let own = OF_VERBS.iter().filter(|(of, ..)| *of == verb);
    own.map(|(_, code, when)| format!("\nExit code {code}: {when}.")).collect()
}

/// The codes in one line.
pub fn codes() -> String {
    CODES.iter().map(|(code, word, _)| format!("{code} {word}")).collect::<Vec<_>>().join(", ")
}

/// Why a command failed.
#[derive(Debug, Error)]
pub enum CliError {
    /// The cluster, or the way there.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// Nobody answers; says where the addresses came from.
    #[error("{problem}; {source_said}")]
    NoNode {
        problem: ClientError,
        /// Where the addresses came from, and what to do.
        source_said: String,
    },
    /// A name, version or value on the command line.
    #[error(transparent)]
    Value(#[from] ModelError),
    /// The CLI's own settings.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The command line, in words of its own.
    #[error("{0}")]
    Usage(String),
    /// The cluster has nothing of that name.
    #[error("{0}")]
    Missing(String),
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

/// An error for people: the system's words without its numbers.
pub fn plain(e: &CliError) -> String {
    let said = e.to_string();
    let mut parts = said.split(" (os error ");
    let first = parts.next().unwrap_or_default().to_string();
    let text = parts.fold(first, |text, part| text + part.split_once(')').map_or(part, |(_, rest)| rest));
    console::harmless(&text)
}

/// An error, on standard error.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(super) struct Failure<'a> {
    error: &'a str,
    /// For programs: the cluster's own word, or usage, unreachable, unavailable, timed_out, out_of_range, not_found,
    /// failed, file, output
    reason: &'a str,
    exit_code: u8,
}

/// One line of JSON about an error.
pub fn json(error: &str, reason: &str, exit_code: u8) -> String {
    serde_json::to_string(&Failure { error, reason, exit_code }).unwrap_or_else(|_| "{}".into())
}

impl CliError {
    /// Whether it is only that nobody reads standard output any more.
    pub fn reader_left(&self) -> bool {
        matches!(self, Self::Output(Unwritten::ReaderLeft))
    }

    /// The machine-readable reason: the cluster's own word where it refused.
    pub fn reason(&self) -> &str {
        match self {
            Self::Client(e) | Self::NoNode { problem: e, .. } => match (e, e.reason()) {
                (ClientError::Refused { .. }, "") => "refused",
                (ClientError::Refused { .. }, reason) => reason,
                (ClientError::Address(_), _) => "usage",
                (ClientError::Unreachable { .. } | ClientError::Foreign { .. }, _) => "unreachable",
                (ClientError::Unavailable { .. }, _) => "unavailable",
                (ClientError::TimedOut { .. }, _) => "timed_out",
                (ClientError::OutOfRange { .. }, _) => "out_of_range",
                (ClientError::Package { .. }, _) => "file",
            },
            Self::Value(_) | Self::Config(_) | Self::Usage(_) => "usage",
            Self::Missing(_) => "not_found",
            Self::TimedOut(_) => "timed_out",
            Self::Failed(_) => "failed",
            Self::File { .. } => "file",
            Self::Output(_) => "output",
        }
    }

    /// What a script sees.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Client(e) | Self::NoNode { problem: e, .. } => match e {
                ClientError::Address(_) => USAGE,
                ClientError::Unreachable { .. } | ClientError::Foreign { .. } | ClientError::Unavailable { .. } => {
                    UNAVAILABLE
                }
                ClientError::TimedOut { .. } => TIMED_OUT,
                // What no cluster would take, whatever is in it.
                ClientError::Refused { .. } if e.is_invalid() => USAGE,
                ClientError::Refused { .. } | ClientError::OutOfRange { .. } | ClientError::Package { .. } => FAILED,
            },
            Self::Value(_) | Self::Config(_) | Self::Usage(_) => USAGE,
            Self::TimedOut(_) => TIMED_OUT,
            // Whoever read has seen enough. Who watched something for its end has not: `live` says so itself.
            Self::Output(Unwritten::ReaderLeft) => DONE,
            Self::Missing(_) | Self::Failed(_) | Self::File { .. } | Self::Output(Unwritten::Failed(_)) => FAILED,
        }
    }
}
