//! What all operations share: the consensus handle once there is one, the blobs, the sessions, the node behind them;
//! reads and answers.
//!
//! Invariants: a read is confirmed by the leader unless its caller takes an older one; an answer that may be old says
//! so.

use std::{
    collections::BTreeMap,
    sync::{Arc, OnceLock},
    time::Duration,
};

use parking_lot::Mutex;
use tokio::{sync::mpsc, time::timeout};
use tokio_util::sync::CancellationToken;

use super::{ApiError, Backend, Caller, Kind, Remote, Sessions};
use crate::{
    clock::Clock,
    raft::{Consensus, ReadError},
    state::State,
    storage::BlobStore,
};

/// Longest wait of a read for the leader's confirmation.
const READ_LIMIT: Duration = Duration::from_secs(1);

/// Counters for metrics.
#[derive(Debug, Default)]
pub struct Counts(Mutex<BTreeMap<(&'static str, &'static str), u64>>);

impl Counts {
    pub(super) fn add(&self, what: &'static str, label: &'static str) {
        *self.0.lock().entry((what, label)).or_default() += 1;
    }

    /// All counters: (`proposal` or `rejection`, label) and value.
    pub fn all(&self) -> BTreeMap<(&'static str, &'static str), u64> {
        self.0.lock().clone()
    }
}

/// Handles that all operations share; clones share them.
#[derive(Clone)]
pub struct Api {
    /// Set once this node belongs to a cluster.
    pub consensus: Arc<OnceLock<Consensus>>,
    pub blobs: BlobStore,
    /// Workers' sessions at this node.
    pub sessions: Arc<Sessions>,
    pub clock: Clock,
    /// Ends streams when the node stops.
    pub stop: CancellationToken,
    pub counts: Arc<Counts>,
    pub backend: Arc<dyn Backend>,
    pub remote: Arc<dyn Remote>,
}

impl Api {
    /// Once this node belongs to a cluster.
    pub fn consensus(&self) -> Result<&Consensus, ApiError> {
        self.consensus.get().ok_or_else(ApiError::no_cluster)
    }

    /// The same, unless this node's State differs from the majority's and nothing may be answered from it.
    pub(super) fn trusted(&self) -> Result<&Consensus, ApiError> {
        let consensus = self.consensus()?;
        match consensus.diverged() {
            Some(why) => Err(ApiError::new(Kind::Unavailable, "diverged", why)),
            None => Ok(consensus),
        }
    }

    /// The State as of now, confirmed by the leader; the local one, with a warning, if the request takes that.
    pub(super) async fn read(&self, by: &Caller) -> Result<Read, ApiError> {
        if by.stale {
            return self.local(Some("stale reads were asked for".into()));
        }
        let consensus = self.trusted()?;
        let alone = || consensus.has_quorum() == Some(false);
        if consensus.lacks_quorum().await {
            return Err(ApiError::unconfirmed(true, "this node leads without a majority"));
        }
        match timeout(READ_LIMIT, consensus.read_index()).await {
            Ok(Ok(_)) => self.local(None),
            Ok(Err(e)) => Err(ApiError::unconfirmed(matches!(e, ReadError::NoQuorum), &e.to_string())),
            Err(_) => Err(ApiError::unconfirmed(alone(), "the leader did not answer in time")),
        }
    }

    /// The State as of now, or the local one with a warning when no leader confirms it: for watches and for what helps
    /// to find out why there is no leader.
    pub(super) async fn read_or_older(&self) -> Result<Read, ApiError> {
        match timeout(READ_LIMIT, self.trusted()?.read_index()).await {
            Ok(Ok(_)) => self.local(None),
            Ok(Err(e)) => self.local(Some(e.to_string())),
            Err(_) => self.local(Some("the leader did not confirm the read in time".into())),
        }
    }

    fn local(&self, warning: Option<String>) -> Result<Read, ApiError> {
        let state = self.trusted()?.view();
        if state.cluster.is_none() {
            return Err(warning.map_or_else(ApiError::no_cluster, |_| ApiError::no_leader()));
        }
        Ok(Read { state, warning })
    }
}

/// A State to answer from.
pub(super) struct Read {
    pub(super) state: Arc<State>,
    pub(super) warning: Option<String>,
}

impl Read {
    /// An answer made of it, with a warning when the State may be old.
    pub(super) fn answer<T>(&self, body: T) -> Answer<T> {
        let warning = self.warning.as_ref().map(|why| format!("this answer may be old: {why}"));
        Answer { body, applied: Some(self.state.applied.index), warning }
    }
}

/// An answer in many messages, as they come; an error ends it.
pub type Many<T> = mpsc::Receiver<Result<T, ApiError>>;

/// What an operation answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer<T> {
    pub body: T,
    /// Index of the State that it was made from, where it was made from one.
    pub applied: Option<u64>,
    pub warning: Option<String>,
}

/// What an operation gives: an answer, or why it was not done.
pub type Reply<T> = Result<Answer<T>, ApiError>;

impl<T> From<T> for Answer<T> {
    fn from(body: T) -> Self {
        Self { body, applied: None, warning: None }
    }
}
