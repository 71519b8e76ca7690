//! What the parts of a node share, and the start of consensus once it is known whose directory this is.

use std::sync::{Arc, OnceLock};

use tokio::sync::{Mutex, watch};

use super::{NodeError, clock_watch::Jumped, lease::Leases, readiness::Confirmed, tasks::Watched};
use crate::{
    clock::{Clock, Mono},
    config::{NodeConfig, RaftProfile},
    dns::{Responder, ViewStore},
    lead::{LeadCounts, Panics, PlanBoard},
    observe::Collector,
    raft::{Consensus, ConsensusConfig, Timing},
    state::NewNode,
    storage::{DataDir, Identity},
};

/// The oldest and the newest feature level that this program supports.
const LEVELS: (u32, u32) = (1, crate::state::codec::LEVEL as u32);

/// Shared by all parts.
pub(super) struct Parts {
    pub(super) config: NodeConfig,
    pub(super) clock: Clock,
    pub(super) dir: DataDir,
    pub(super) slot: Arc<OnceLock<Consensus>>,
    pub(super) installed: watch::Sender<bool>,
    /// Held by init and join, which exclude each other.
    pub(super) making: Mutex<()>,
    pub(super) collector: Arc<Collector>,
    pub(super) board: PlanBoard,
    pub(super) lead_counts: Arc<LeadCounts>,
    pub(super) dns: Arc<ViewStore>,
    /// What answers DNS, once it does.
    pub(super) responder: OnceLock<Arc<Responder>>,
    /// When DNS began to answer.
    pub(super) dns_since: OnceLock<Mono>,
    /// The leases that this node granted as the leader.
    pub(super) leases: Leases,
    /// The newest read that a majority confirmed.
    pub(super) confirmed: Confirmed,
    /// What became of the background tasks.
    pub(super) tasks: Arc<Watched>,
    /// The newest jump of this machine's wall clock.
    pub(super) jumped: Jumped,
    /// Panics of leaders' loops, as far as this node knows.
    pub(super) panics: Arc<Panics>,
}

impl Parts {
    /// Takes part in the cluster as `identity`; the directory is this node's from then on.
    pub(super) async fn start_consensus(&self, identity: Identity) -> Result<Consensus, NodeError> {
        let timing = match self.config.raft {
            RaftProfile::Lan => Timing::lan(),
            RaftProfile::Slow => Timing::slow(),
        };
        let reads = u16::try_from(self.levels().1).unwrap_or(u16::MAX);
        let config = ConsensusConfig { timing, reads, ..ConsensusConfig::default() }
            .with_snapshot_every(self.config.snapshot_every);
        let (log, wanted) = (self.dir.log().clone(), identity.clone());
        let place = format!("{} at {}", self.config.name, self.as_new_node().peer_addr);
        let claimed = tokio::task::spawn_blocking(move || log.claim(&wanted).and_then(|()| log.claim_place(&place)));
        let claimed = claimed.await.map_err(|e| NodeError::Other(format!("claiming the data directory: {e}")))?;
        claimed.map_err(|source| NodeError::Data { dir: self.config.data_dir.clone(), source })?;
        self.dns.set_node(identity.node);
        tracing::info!(cluster = identity.cluster, node = identity.node, "starting consensus");
        let consensus = Consensus::start(config, &self.dir, identity, self.clock.clone()).await?;
        // The slot is empty here: only a start with an identity, init and join come here, and they exclude each other.
        let consensus = self.slot.get_or_init(|| consensus).clone();
        self.installed.send_replace(true);
        Ok(consensus)
    }

    /// The feature levels that this node says it supports.
    pub(super) fn levels(&self) -> (u32, u32) {
        levels(&self.config)
    }

    /// How others reach this node.
    pub(super) fn as_new_node(&self) -> NewNode {
        as_new_node(&self.config)
    }
}

/// The feature levels that a node of this configuration says it supports.
pub(super) fn levels(config: &NodeConfig) -> (u32, u32) {
    config.levels.unwrap_or(LEVELS)
}

/// How others reach a node of this configuration.
pub(super) fn as_new_node(config: &NodeConfig) -> NewNode {
    let place = |listen: std::net::SocketAddr| match &config.advertise {
        Some(host) if host.contains(':') => format!("[{host}]:{}", listen.port()),
        Some(host) => format!("{host}:{}", listen.port()),
        // DNS may listen everywhere; others reach it where clients reach this node, which is one address (`config`).
        None if listen.ip().is_unspecified() => {
            std::net::SocketAddr::new(config.client_listen.ip(), listen.port()).to_string()
        }
        None => listen.to_string(),
    };
    NewNode {
        name: config.name.clone(),
        peer_addr: place(config.peer_listen),
        client_addr: place(config.client_listen),
        dns_addr: place(config.dns_listen),
        level: levels(config).1,
    }
}
