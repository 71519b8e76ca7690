//! Connections to the other nodes: one lazily connected channel for each peer, kept while its address stays the same.
//!
//! Invariants: every message carries the cluster, the sender and the target; keep-alive notices a silent connection,
//! long before TCP would.
//!
//! Not here: TLS between nodes, which comes with the listeners that offer it.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use parking_lot::Mutex;
use tonic::transport::{Channel, Endpoint};

use crate::{
    model::NodeId,
    wire::v1::{PeerHeader, peer_client::PeerClient},
};

/// Largest message between nodes, both ways; servers of the peer service must accept it.
pub const PEER_MESSAGE_LIMIT: usize = 8 << 20;

const CONNECT: Duration = Duration::from_secs(1);
const KEEP_ALIVE: Duration = Duration::from_secs(2);

/// The peers of one node.
#[derive(Clone)]
pub(super) struct Peers {
    cluster: Arc<str>,
    me: NodeId,
    open: Arc<Mutex<BTreeMap<NodeId, (String, Channel)>>>,
}

impl Peers {
    pub(super) fn new(cluster: &str, me: NodeId) -> Self {
        Self { cluster: cluster.into(), me, open: Arc::default() }
    }

    pub(super) fn me(&self) -> NodeId {
        self.me
    }

    pub(super) fn header(&self, to: NodeId) -> PeerHeader {
        PeerHeader { cluster_id: self.cluster.to_string(), from: self.me, to }
    }

    /// A client for the peer; connects at its first call. An address that is none is an error with the reason.
    pub(super) fn client(&self, id: NodeId, addr: &str) -> Result<PeerClient<Channel>, String> {
        let mut open = self.open.lock();
        let channel = match open.get(&id) {
            Some((known, channel)) if known == addr => channel.clone(),
            Some(_) | None => {
                let endpoint = Endpoint::from_shared(format!("http://{addr}"))
                    .map_err(|e| format!("address `{addr}` of node {id} is not valid: {e}"))?
                    .connect_timeout(CONNECT)
                    .tcp_nodelay(true)
                    .http2_keep_alive_interval(KEEP_ALIVE)
                    .keep_alive_timeout(KEEP_ALIVE)
                    .keep_alive_while_idle(true);
                let channel = endpoint.connect_lazy();
                open.insert(id, (addr.to_owned(), channel.clone()));
                channel
            }
        };
        Ok(PeerClient::new(channel)
            .max_decoding_message_size(PEER_MESSAGE_LIMIT)
            .max_encoding_message_size(PEER_MESSAGE_LIMIT))
    }
}
