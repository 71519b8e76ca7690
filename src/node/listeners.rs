//! Binds every listener first, so that a used port is reported before anything else happens.

use std::net::SocketAddr;

use tokio::net::{TcpListener, UdpSocket};

use super::NodeError;
use crate::config::NodeConfig;

/// All sockets of a node.
pub(super) struct Listeners {
    pub(super) peer: TcpListener,
    pub(super) client: TcpListener,
    pub(super) http: TcpListener,
    pub(super) dns_tcp: TcpListener,
    pub(super) dns_udp: UdpSocket,
    pub(super) dns_tls: Option<TcpListener>,
}

async fn tcp(what: &'static str, key: &'static str, addr: SocketAddr) -> Result<TcpListener, NodeError> {
    TcpListener::bind(addr).await.map_err(|source| NodeError::Listen { what, addr, key, source })
}

impl Listeners {
    pub(super) async fn bind(config: &NodeConfig) -> Result<Self, NodeError> {
        let peer = tcp("peers", "peer_listen", config.peer_listen).await?;
        let client = tcp("clients and agents", "client_listen", config.client_listen).await?;
        let http = tcp("HTTP", "http_listen", config.http_listen).await?;
        let dns_tcp = tcp("DNS over TCP", "dns_listen", config.dns_listen).await?;
        // With port 0 both transports must share what the first one got.
        let addr = dns_tcp.local_addr().unwrap_or(config.dns_listen);
        let dns_udp = UdpSocket::bind(addr).await.map_err(|source| NodeError::Listen {
            what: "DNS over UDP",
            addr,
            key: "dns_listen",
            source,
        })?;
        let dns_tls = match config.dns_tls_listen {
            Some(addr) => Some(tcp("DNS over TLS", "dns_tls_listen", addr).await?),
            None => None,
        };
        tracing::info!(
            peer = %config.peer_listen,
            client = %config.client_listen,
            http = %config.http_listen,
            dns = %config.dns_listen,
            dns_tls = config.dns_tls_listen.map(tracing::field::display),
            "listening"
        );
        Ok(Self { peer, client, http, dns_tcp, dns_udp, dns_tls })
    }
}
