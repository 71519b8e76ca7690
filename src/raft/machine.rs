//! openraft's state machine over `state::apply`, and the published view of it.
//!
//! Invariants: a proposer's answer is sent only after the view that contains its effect is published, so that whoever
//! got an answer reads its own write on this node; every responder is answered; a snapshot is built from a value, off
//! the apply path.
//!
//! Deliberately not here: what commands do. A committed entry that cannot be decoded stops the node: going on would let
//! it diverge.

use std::{
    collections::BTreeMap,
    io,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use arc_swap::ArcSwap;
use futures_util::{Stream, StreamExt};
use openraft::{
    EntryPayload, OptionalSend, RaftSnapshotBuilder,
    storage::{ApplyResponder, EntryResponder, RaftStateMachine},
};
use parking_lot::Mutex;
use tokio::sync::{Notify, watch};

use super::{
    codec::{CodecError, Coded},
    meters::{Meters, seconds},
    types::{ApplyOutcome, Entry, LogId, RaftSnapshot, SnapshotBytes, SnapshotMeta, StoredMembership, TypeConfig},
};
use crate::{
    clock::Clock,
    state::{self, State},
    storage::{SnapshotDir, StorageError},
};

/// Views are published, and proposers answered, at least this often.
const PUBLISH_EVERY: usize = 64;

/// The published state: readers take a value and hold no lock.
pub(super) struct Published {
    state: ArcSwap<State>,
    applied: watch::Sender<u64>,
    probed: Mutex<Option<Arc<State>>>,
    asked: Notify,
    /// Length of the newest snapshot that this process made or read.
    made: AtomicU64,
    counts: Mutex<ApplyCounts>,
    pub(super) meters: Meters,
}

/// What `apply` has done since this process started, replayed entries included.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ApplyCounts {
    /// Commands by name.
    pub commands: BTreeMap<&'static str, u64>,
    /// Refusals by reason.
    pub refused: BTreeMap<&'static str, u64>,
}

impl Published {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            state: ArcSwap::from_pointee(State::default()),
            applied: watch::Sender::new(0),
            probed: Mutex::default(),
            asked: Notify::new(),
            made: AtomicU64::new(0),
            counts: Mutex::default(),
            meters: Meters::default(),
        })
    }

    pub(super) fn load(&self) -> Arc<State> {
        self.state.load_full()
    }

    /// Carries the applied index; the value is stored before the index is announced.
    pub(super) fn changes(&self) -> watch::Receiver<u64> {
        self.applied.subscribe()
    }

    /// The State as of the newest digest probe that nobody has taken yet; one taker at a time.
    pub(super) async fn probed(&self) -> Arc<State> {
        loop {
            if let Some(state) = self.probed.lock().take() {
                return state;
            }
            self.asked.notified().await;
        }
    }

    pub(super) fn snapshot_bytes(&self) -> u64 {
        self.made.load(Ordering::Relaxed)
    }

    pub(super) fn counts(&self) -> ApplyCounts {
        self.counts.lock().clone()
    }

    fn publish(&self, state: Arc<State>) {
        let index = state.applied.index;
        self.state.store(state);
        self.applied.send_replace(index);
    }
}

/// The state machine.
pub struct Machine {
    state: Arc<State>,
    applied: Option<LogId>,
    membership: StoredMembership,
    view: Arc<Published>,
    snapshots: SnapshotDir,
    clock: Clock,
    /// What the newest snapshot file holds, once known; spares writing at start what was just read.
    on_disk: Arc<Mutex<Option<LogId>>>,
    reads: u16,
}

impl Machine {
    /// An empty machine; openraft restores it from the newest snapshot and the log.
    #[must_use]
    pub fn new(snapshots: SnapshotDir) -> Self {
        Self {
            state: Arc::default(),
            applied: None,
            membership: StoredMembership::default(),
            view: Published::new(),
            snapshots,
            clock: Clock::real(),
            on_disk: Arc::default(),
            reads: state::codec::LEVEL,
        }
    }

    /// The same, for a program that reads up to this feature level only.
    #[must_use]
    pub fn reading(self, level: u16) -> Self {
        Self { reads: level.min(state::codec::READS), ..self }
    }

    pub(super) fn view(&self) -> Arc<Published> {
        self.view.clone()
    }

    fn meta(&self) -> SnapshotMeta {
        SnapshotMeta { last_log_id: self.applied, last_membership: self.membership.clone() }
    }

    fn apply_one(&mut self, entry: Entry) -> io::Result<ApplyOutcome> {
        let began = self.clock.micros();
        let id = state::LogId { term: entry.log_id.leader_id.term, index: entry.log_id.index };
        let state = Arc::make_mut(&mut self.state);
        let result = match entry.payload {
            EntryPayload::Blank => {
                state::apply_blank(state, id);
                None
            }
            EntryPayload::Membership(membership) => {
                state::apply_blank(state, id);
                self.membership = StoredMembership::new(Some(entry.log_id), membership);
                None
            }
            EntryPayload::Normal(sealed) => {
                readable(&sealed.0, self.reads).map_err(|e| undecodable(id.index, &e))?;
                let stamped = state::codec::decode_command(&sealed.0).map_err(|e| undecodable(id.index, &e))?;
                let result = state::apply(state, id, &stamped);
                {
                    let mut counts = self.view.counts.lock();
                    *counts.commands.entry(stamped.body.name()).or_default() += 1;
                    if let Err(refused) = &result {
                        *counts.refused.entry(refused.code()).or_default() += 1;
                    }
                }
                if result.is_ok() && state.replicas.probe == id.index {
                    *self.view.probed.lock() = Some(self.state.clone());
                    self.view.asked.notify_one();
                }
                self.view.meters.apply.observe(seconds(self.clock.micros().saturating_sub(began)));
                Some(result)
            }
        };
        self.applied = Some(entry.log_id);
        Ok(ApplyOutcome { now: self.state.now, result })
    }

    fn publish(&mut self, answers: &mut Vec<(ApplyResponder<TypeConfig>, ApplyOutcome)>) {
        self.view.publish(self.state.clone());
        for (responder, outcome) in answers.drain(..) {
            responder.send(outcome);
        }
    }
}

/// Refuses what an older program could not read.
fn readable(bytes: &[u8], reads: u16) -> Result<(), state::codec::CodecError> {
    match state::codec::highest_level(bytes)? {
        level if level > reads => Err(state::codec::CodecError::Newer { format: state::codec::FORMAT, level, reads }),
        _ => Ok(()),
    }
}

fn undecodable(index: u64, error: &dyn std::error::Error) -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidData,
        format!("committed command {index} cannot be decoded ({error}); run the version that wrote it, or a newer one"),
    )
}

impl RaftStateMachine<TypeConfig> for Machine {
    type SnapshotData = SnapshotBytes;
    type SnapshotBuilder = Builder;

    async fn applied_state(&mut self) -> Result<(Option<LogId>, StoredMembership), io::Error> {
        Ok((self.applied, self.membership.clone()))
    }

    async fn apply<S>(&mut self, mut entries: S) -> Result<(), io::Error>
    where
        S: Stream<Item = Result<EntryResponder<TypeConfig>, io::Error>> + Unpin + OptionalSend,
    {
        let mut answers = Vec::new();
        let mut unpublished = 0;
        while let Some(next) = entries.next().await {
            let (entry, responder) = next?;
            let outcome = self.apply_one(entry)?;
            answers.extend(responder.map(|r| (r, outcome)));
            unpublished += 1;
            if unpublished == PUBLISH_EVERY {
                self.publish(&mut answers);
                unpublished = 0;
            }
        }
        self.publish(&mut answers);
        Ok(())
    }

    async fn get_snapshot_builder(&mut self) -> Builder {
        Builder {
            state: self.state.clone(),
            meta: self.meta(),
            snapshots: self.snapshots.clone(),
            on_disk: self.on_disk.clone(),
            view: self.view.clone(),
            meters: self.view.meters.clone(),
            clock: self.clock.clone(),
        }
    }

    async fn install_snapshot(&mut self, meta: &SnapshotMeta, snapshot: SnapshotBytes) -> Result<(), io::Error> {
        let index = meta.last_log_id.map_or(0, |id| id.index);
        let known = *self.on_disk.lock() == meta.last_log_id;
        let size = snapshot.len() as u64;
        let (bytes, described, snapshots) = (snapshot, meta.encode(), self.snapshots.clone());
        let reads = self.reads;
        let state = tokio::task::spawn_blocking(move || {
            readable(&bytes, reads).map_err(|e| {
                io::Error::new(io::ErrorKind::InvalidData, format!("snapshot {index} cannot be read: {e}"))
            })?;
            let state = state::codec::decode_snapshot(&bytes).map_err(|e| {
                io::Error::new(io::ErrorKind::InvalidData, format!("snapshot {index} cannot be decoded: {e}"))
            })?;
            if state.applied.index != index {
                return Err(io::Error::new(
                    io::ErrorKind::InvalidData,
                    format!("snapshot {index} holds the state of entry {}", state.applied.index),
                ));
            }
            if !known {
                snapshots.write(index, &described, &bytes).map_err(StorageError::into_io)?;
            }
            Ok(state)
        })
        .await
        .map_err(io::Error::other)??;
        *self.on_disk.lock() = meta.last_log_id;
        self.view.made.store(size, Ordering::Relaxed);
        if !known {
            self.view.meters.installed.inc();
        }
        self.state = Arc::new(state);
        self.applied = meta.last_log_id;
        self.membership = meta.last_membership.clone();
        self.publish(&mut Vec::new());
        Ok(())
    }

    async fn get_current_snapshot(&mut self) -> Result<Option<RaftSnapshot>, io::Error> {
        let snapshots = self.snapshots.clone();
        let found = tokio::task::spawn_blocking(move || snapshots.newest())
            .await
            .map_err(io::Error::other)?
            .map_err(StorageError::into_io)?;
        let Some(found) = found else { return Ok(None) };
        let meta = SnapshotMeta::decode(&found.meta).map_err(CodecError::into_io)?;
        *self.on_disk.lock() = meta.last_log_id;
        self.view.made.store(found.body.len() as u64, Ordering::Relaxed);
        Ok(Some(RaftSnapshot { meta, snapshot: Arc::new(found.body) }))
    }
}

/// Encodes and writes one value of the state while the machine goes on.
pub struct Builder {
    state: Arc<State>,
    meta: SnapshotMeta,
    snapshots: SnapshotDir,
    on_disk: Arc<Mutex<Option<LogId>>>,
    view: Arc<Published>,
    meters: Meters,
    clock: Clock,
}

impl RaftSnapshotBuilder<TypeConfig> for Builder {
    type SnapshotData = SnapshotBytes;

    async fn build_snapshot(&mut self) -> Result<RaftSnapshot, io::Error> {
        let (state, snapshots, described) = (self.state.clone(), self.snapshots.clone(), self.meta.encode());
        let index = self.meta.last_log_id.map_or(0, |id| id.index);
        let began = self.clock.micros();
        let body = tokio::task::spawn_blocking(move || {
            let body = state::codec::encode_snapshot(&state).map_err(io::Error::other)?;
            snapshots.write(index, &described, &body).map_err(StorageError::into_io)?;
            Ok::<_, io::Error>(body)
        })
        .await
        .map_err(io::Error::other)??;
        *self.on_disk.lock() = self.meta.last_log_id;
        self.view.made.store(body.len() as u64, Ordering::Relaxed);
        self.meters.snapshot.observe(seconds(self.clock.micros().saturating_sub(began)));
        Ok(RaftSnapshot { meta: self.meta.clone(), snapshot: Arc::new(body) })
    }
}
