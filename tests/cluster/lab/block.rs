//! A block of loopback addresses for one test, 127.B.0.0/16, kept by a lock on a file: tests in other processes take other blocks.
//!
//! Nodes listen at 127.B.250.N, worker N has 127.B.N.1 and up; the ports are the product's own. So no port is guessed or raced for.

use std::{
    fs::File,
    net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket},
};

use rustix::fs::{FlockOperation, flock};

const FIRST: u8 = 100;
const BLOCKS: u8 = 100;

/// The block, as long as this lives.
pub struct Block {
    b: u8,
    _lock: File,
}

impl Block {
    /// Takes a block that nobody has.
    pub fn take() -> Self {
        let dir = std::env::temp_dir().join("slipway-test-addresses");
        std::fs::create_dir_all(&dir).unwrap();
        for b in FIRST..FIRST + BLOCKS {
            let lock = File::options().create(true).truncate(false).write(true).open(dir.join(b.to_string())).unwrap();
            if flock(&lock, FlockOperation::NonBlockingLockExclusive).is_ok() {
                let block = Self { b, _lock: lock };
                if block.is_free() {
                    return block;
                }
            }
        }
        panic!("no block of loopback addresses is free (locks in {})", dir.display());
    }

    /// Something else than a test may listen on these ports of every address.
    fn is_free(&self) -> bool {
        let node = self.node(1);
        [7651, 7652, 7653, 8653].iter().all(|p| TcpListener::bind((node, *p)).is_ok())
            && UdpSocket::bind((node, 8653)).is_ok()
            && TcpListener::bind((self.worker(1, 1), 8080)).is_ok()
    }

    /// Address of node `n`.
    pub fn node(&self, n: u8) -> Ipv4Addr {
        Ipv4Addr::new(127, self.b, 250, n)
    }

    /// A listener of node `n`.
    pub fn at(&self, n: u8, port: u16) -> SocketAddr {
        SocketAddr::from((self.node(n), port))
    }

    /// Address `i` of worker `n`.
    pub fn worker(&self, n: u8, i: u8) -> Ipv4Addr {
        Ipv4Addr::new(127, self.b, n, i)
    }

    /// A number that no other test that runs now has.
    pub fn number(&self) -> u8 {
        self.b
    }
}
