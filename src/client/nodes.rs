//! The nodes a client knows: those it was given first, then those the cluster named. One is asked first; a failure
//! moves on.

use std::{
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use parking_lot::RwLock;
use tonic::transport::{Channel, Endpoint};

use super::ClientError;
use crate::{model::host_port, wire::v1};

/// Most nodes a client keeps.
const MAX_NODES: usize = 32;

#[derive(Debug, Clone)]
struct Node {
    address: String,
    name: Option<String>,
    channel: Channel,
}

/// Never empty, and never shrinks, so an index stays good.
#[derive(Debug)]
pub struct Nodes {
    all: RwLock<Vec<Node>>,
    current: AtomicUsize,
}

impl Nodes {
    pub fn new(addresses: &[String]) -> Result<Self, ClientError> {
        let mut all = Vec::new();
        for address in addresses.iter().take(MAX_NODES) {
            all.push(Node { address: address.clone(), name: None, channel: connect(address)? });
        }
        if all.is_empty() {
            return Err(ClientError::Address(String::new()));
        }
        Ok(Self { all: RwLock::new(all), current: AtomicUsize::new(0) })
    }

    fn read<T>(&self, at: usize, take: impl Fn(&Node) -> T) -> T {
        let all = self.all.read();
        take(&all[at % all.len()])
    }

    /// How many nodes are known; never zero.
    pub fn len(&self) -> usize {
        self.all.read().len()
    }

    /// The place of the node that is asked first.
    pub fn current(&self) -> usize {
        self.current.load(Ordering::SeqCst) % self.len()
    }

    /// The connection to the node at a place, made at its first use; places go round.
    pub fn channel(&self, at: usize) -> Channel {
        self.read(at, |n| n.channel.clone())
    }

    /// Where that node is, as `HOST:PORT`.
    pub fn address(&self, at: usize) -> String {
        self.read(at, |n| n.address.clone())
    }

    /// Its name once the cluster told it, else its address.
    pub fn label(&self, at: usize) -> String {
        self.read(at, |n| n.name.clone().unwrap_or_else(|| n.address.clone()))
    }

    /// Moves on from a node, unless another call did already.
    pub fn leave(&self, at: usize) {
        let next = (at + 1) % self.len();
        let _ = self.current.compare_exchange(at, next, Ordering::SeqCst, Ordering::SeqCst);
    }

    /// Adds members of the cluster that were not named by the caller, so that a single address outlives its node.
    pub fn learn(&self, members: &[v1::Node]) {
        let mut all = self.all.write();
        for member in members.iter().filter(|m| !m.client_addr.is_empty() && m.role != "removed") {
            if let Some(known) = all.iter_mut().find(|n| n.address == member.client_addr) {
                known.name = Some(member.name.clone());
            } else if let (true, Ok(channel)) = (all.len() < MAX_NODES, connect(&member.client_addr)) {
                all.push(Node { address: member.client_addr.clone(), name: Some(member.name.clone()), channel });
            }
        }
    }
}

/// A channel that connects when it is first used, and again when the connection is gone.
fn connect(address: &str) -> Result<Channel, ClientError> {
    let bad = || ClientError::Address(address.to_string());
    host_port(address).map_err(|_| bad())?;
    if address.contains('/') {
        return Err(bad());
    }
    let endpoint = Endpoint::from_shared(format!("http://{address}")).map_err(|_| bad())?;
    // Pings find a node that hangs with its connections open, also under a quiet watch.
    Ok(endpoint
        .connect_timeout(Duration::from_secs(1))
        .http2_keep_alive_interval(Duration::from_secs(2))
        .keep_alive_timeout(Duration::from_secs(2))
        .tcp_nodelay(true)
        .connect_lazy())
}
