//! Consensus: the replicated log, elections, membership, linearizable reads. The only module that names openraft.
//!
//! What the others see is the handle [`Consensus`]: propose a command, read the published State, follow who leads.
//! Everything that openraft persists or sends goes through our own encoding (`codec`).
//!
//! Invariants: a proposal carries the term it was stamped in and is appended in that term or refused; it waits for the
//! term's time anchor, which is taken once this term's blank entry is applied; every call has a time limit; an invented
//! vote or a lost error never happens quietly.
//!
//! Deliberately not here: what commands mean (`state`), what to propose (`engine`, `lead`), listeners (`rpc`).

mod backup;
mod codec;
mod config;
mod consensus;
mod error;
mod forward;
mod leadership;
mod log_store;
mod machine;
mod membership;
mod meters;
mod metrics;
mod network;
mod peers;
mod propose;
mod quorum;
mod read;
mod serve;
mod stream;
mod suspect;
mod tail;
#[doc(hidden)]
pub mod testing;
mod types;

pub use backup::{
    BackupSource, Loaded, OfflineError, Stopped, Written, check_stopped, load_backup, open_stopped, restore_backup,
    write_backup,
};
pub use config::{ConsensusConfig, Timing};
pub use consensus::Consensus;
pub use error::{ConsensusError, PeerAddress, PeerError, ProposeError, ReadError};
pub use leadership::Leadership;
pub use machine::ApplyCounts;
pub use meters::Meters;
pub use metrics::{ConsensusMetrics, Member, Role};
pub use peers::PEER_MESSAGE_LIMIT;
pub use propose::Applied;
pub use serve::SnapshotReceiver;
