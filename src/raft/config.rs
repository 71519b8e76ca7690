//! Timing profiles and bounds of the consensus module, and their translation for openraft.
//!
//! Deliberately not here: where the values come from; `node` fills them from the configuration file.

use std::time::Duration;

use super::ConsensusError;

/// Heartbeat, election and RPC times. They must be the same on all nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timing {
    /// Time between heartbeats.
    pub heartbeat: Duration,
    /// Shortest election timeout.
    pub election_min: Duration,
    /// Longest election timeout; also the leader's lease.
    pub election_max: Duration,
    /// Limit of one append call between nodes.
    pub rpc: Duration,
}

impl Timing {
    /// For nodes on one network: a dead leader is replaced in well under a second.
    #[must_use]
    pub const fn lan() -> Self {
        Self::of(50, 200, 400, 150)
    }

    /// For busy or distant machines.
    #[must_use]
    pub const fn slow() -> Self {
        Self::of(150, 600, 1_200, 450)
    }

    const fn of(heartbeat: u64, min: u64, max: u64, rpc: u64) -> Self {
        Self {
            heartbeat: Duration::from_millis(heartbeat),
            election_min: Duration::from_millis(min),
            election_max: Duration::from_millis(max),
            rpc: Duration::from_millis(rpc),
        }
    }
}

/// Everything that can be tuned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConsensusConfig {
    /// Heartbeats and elections.
    pub timing: Timing,
    /// Entries after which a snapshot is made.
    pub snapshot_after: u64,
    /// Entries kept behind a snapshot: what is written while a snapshot travels to a late follower must still be there
    /// when it has it; and from the snapshot before a damaged one the log must still lead on.
    pub keep_behind_snapshot: u64,
    /// Limit of one proposal or read, also without a quorum.
    pub call_timeout: Duration,
    /// Limit of sending one whole snapshot.
    pub snapshot_timeout: Duration,
    /// Largest encoded command.
    pub max_command: usize,
    /// Largest snapshot accepted from a leader.
    pub max_snapshot: u64,
    /// Feature level up to which entries and snapshots are read; less than the program's own only to play an older one
    /// in tests.
    pub reads: u16,
}

impl Default for ConsensusConfig {
    fn default() -> Self {
        Self {
            timing: Timing::lan(),
            snapshot_after: 50_000,
            keep_behind_snapshot: 75_000,
            call_timeout: Duration::from_secs(2),
            snapshot_timeout: Duration::from_secs(60),
            max_command: 1 << 20,
            max_snapshot: 1 << 30,
            reads: crate::state::codec::LEVEL,
        }
    }
}

impl ConsensusConfig {
    /// The same with a snapshot every so many entries. Half as many more are kept, as the next snapshot is begun a
    /// little late.
    #[must_use]
    pub fn with_snapshot_every(self, entries: u64) -> Self {
        Self { snapshot_after: entries, keep_behind_snapshot: entries.saturating_add(entries / 2), ..self }
    }

    pub(super) fn openraft(&self, cluster: &str) -> Result<openraft::Config, ConsensusError> {
        let timing = &self.timing;
        if timing.rpc >= timing.election_min {
            return Err(ConsensusError::Config {
                reason: format!(
                    "RPC limit {:?} must be below the shortest election timeout {:?}",
                    timing.rpc, timing.election_min
                ),
            });
        }
        let config = openraft::Config {
            cluster_name: cluster.into(),
            heartbeat_interval: millis(timing.heartbeat),
            election_timeout_min: millis(timing.election_min),
            election_timeout_max: millis(timing.election_max),
            install_snapshot_timeout: millis(self.snapshot_timeout),
            snapshot_policy: openraft::SnapshotPolicy::LogsSinceLast(self.snapshot_after),
            max_in_snapshot_log_to_keep: self.keep_behind_snapshot,
            // Below the purge point a follower needs a snapshot in any case; above it, entries are cheaper.
            replication_lag_threshold: self.snapshot_after.saturating_mul(4),
            // A node that cannot win does not disturb a leader that works.
            enable_pre_vote: Some(true),
            // A leader cut off from its quorum stops suppressing elections among those who still see it.
            quorum_loss_probe_interval: Some(
                millis(timing.election_max).saturating_mul(2).saturating_add(millis(timing.election_min)),
            ),
            // All leader-only memory is lost at a restart, so leadership is won anew.
            enable_leader_restore: Some(false),
            allow_log_reversion: Some(false),
            ..openraft::Config::default()
        };
        config.validate().map_err(|e| ConsensusError::Config { reason: e.to_string() })
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_profiles_are_valid() {
        for timing in [Timing::lan(), Timing::slow()] {
            ConsensusConfig { timing, ..ConsensusConfig::default() }.openraft("c").unwrap();
        }
    }

    #[test]
    fn an_rpc_limit_that_livelocks_elections_is_refused() {
        let timing = Timing { rpc: Duration::from_millis(300), ..Timing::lan() };
        let config = ConsensusConfig { timing, ..ConsensusConfig::default() };
        assert!(config.openraft("c").unwrap_err().to_string().contains("must be below"));
    }
}
