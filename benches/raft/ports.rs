//! Loopback ports for the programs of a benchmark; shared by those that start any.

use std::net::{SocketAddr, TcpListener, UdpSocket};

/// A port that is free for TCP and UDP.
pub fn free() -> SocketAddr {
    loop {
        let tcp = TcpListener::bind("127.0.0.1:0").expect("a loopback port");
        let addr = tcp.local_addr().expect("its address");
        if UdpSocket::bind(addr).is_ok() {
            return addr;
        }
    }
}
