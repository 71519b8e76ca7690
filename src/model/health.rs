//! Life and health of an instance, as agents report and State commits them.

use serde::{Deserialize, Serialize};
use strum::{Display, EnumString};

/// Where an instance is in its life. Only moves forward, but for `Draining` back to `Running` by a rollback.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, Display, EnumString)]
#[strum(serialize_all = "snake_case")]
pub enum Life {
    /// Assigned; its agent has not said that it runs.
    Starting,
    /// Its process runs.
    Running,
    /// Left out of DNS; still runs until every cache has let go of it.
    Draining,
    /// Its agent is to stop it.
    Stopping,
    /// Its process is gone, as was wanted.
    Gone,
    /// Its process is gone, or never came, as was not wanted.
    Failed,
}

impl Life {
    /// Whether a process may exist and count against surge and addresses.
    pub fn is_live(self) -> bool {
        match self {
            Self::Starting | Self::Running | Self::Draining | Self::Stopping => true,
            Self::Gone | Self::Failed => false,
        }
    }

    /// Whether the instance is meant to serve: not on its way out.
    pub fn is_wanted(self) -> bool {
        match self {
            Self::Starting | Self::Running => true,
            Self::Draining | Self::Stopping | Self::Gone | Self::Failed => false,
        }
    }
}

/// Committed health, after the agent's hysteresis. Unknown is a value: never read as passing or failing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, Display, EnumString)]
#[strum(serialize_all = "snake_case")]
pub enum Health {
    /// No verdict of the checks yet.
    Unknown,
    /// The last `healthy_after` checks passed.
    Passing,
    /// The last `unhealthy_after` checks failed.
    Failing,
}

impl Health {
    /// What its checks say, for people.
    pub fn said(self) -> &'static str {
        match self {
            Self::Unknown => "not checked yet",
            Self::Passing => "passing",
            Self::Failing => "failing",
        }
    }
}
