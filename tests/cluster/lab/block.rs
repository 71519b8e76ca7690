//! A block of loopback addresses for one test, 127.B.0.0/16, kept by a lock on a file: tests in other processes take
//! other blocks.
//!
//! Nodes listen at 127.B.250.N, worker N has 127.B.N.1 and up; the ports are the product's own. So no port is guessed
//! or raced for.

use std::{
    fs::File,
    net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket},
    os::unix::fs::OpenOptionsExt as _,
    path::Path,
    sync::{Arc, Once},
};

use rustix::fs::{FlockOperation, flock};

use super::{net, world::POOL};

/// Locks, one a block. Addresses and networks are the machine's, so this is not below `TMPDIR`.
const LOCKS: &str = "/tmp/slipway-test-addresses";
const FIRST: u8 = 100;
const BLOCKS: u8 = 100;
/// Most nodes and workers of one test.
const NODES: u8 = 6;
const WORKERS: u8 = 8;

/// The block, as long as this lives.
pub struct Block {
    b: u8,
    bridged: bool,
    lock: Arc<File>,
}

/// The lock of a block, if nobody has it: the kernel lets go of a dead one's.
fn lock(b: u8) -> Option<File> {
    // Another user's file cannot be opened: that block is not ours to take.
    let mut open = File::options();
    let file =
        open.create(true).truncate(false).write(true).mode(0o666).open(Path::new(LOCKS).join(b.to_string())).ok()?;
    flock(&file, FlockOperation::NonBlockingLockExclusive).is_ok().then_some(file)
}

impl Block {
    /// Takes a block that nobody has.
    pub fn take() -> Self {
        static SWEPT: Once = Once::new();
        std::fs::create_dir_all(LOCKS).unwrap();
        SWEPT.call_once(sweep);
        for b in FIRST..FIRST + BLOCKS {
            if let Some(lock) = lock(b) {
                let block = Self { b, bridged: false, lock: Arc::new(lock) };
                if block.is_free() {
                    return block;
                }
            }
        }
        panic!("no block of loopback addresses is free (locks in {LOCKS})");
    }

    /// Instances outlive their agents, so an aborted run may have left some, at any address; and something else than a
    /// test may listen on these ports of every address.
    fn is_free(&self) -> bool {
        let nodes = (1..=NODES).map(|n| self.node(n));
        let listeners = nodes.clone().flat_map(|at| [7651, 7652, 7653, 8653].map(|port| (at, port)));
        let workers = (1..=WORKERS).flat_map(|n| (1..=POOL).map(move |i| (n, i)));
        !self.listens("tcp")
            && !self.listens("udp")
            && listeners.chain(workers.map(|(n, i)| (self.worker(n, i), 8080))).all(|at| TcpListener::bind(at).is_ok())
            && nodes.into_iter().all(|at| UdpSocket::bind((at, 8653)).is_ok())
    }

    /// Whether a socket waits for others at any address of the block, on any port.
    fn listens(&self, protocol: &str) -> bool {
        let table = std::fs::read_to_string(format!("/proc/net/{protocol}")).unwrap_or_default();
        // "sl local_address rem_address st ...": the address is a little-endian word in hexadecimal; 0A is LISTEN.
        table.lines().skip(1).any(|line| {
            let mut fields = line.split_whitespace().skip(1);
            let (local, state) = (fields.next().unwrap_or_default(), fields.nth(1).unwrap_or_default());
            let word = local.split(':').next().and_then(|a| u32::from_str_radix(a, 16).ok()).unwrap_or_default();
            word.to_le_bytes().starts_with(&[127, self.b]) && (protocol == "udp" || state == "0A")
        })
    }

    /// From now on nodes have addresses of the bridged test network (RFC 2544), each in a namespace of its own.
    pub fn bridge(&mut self) {
        self.bridged = true;
    }

    /// Address of node `n`.
    pub fn node(&self, n: u8) -> Ipv4Addr {
        if self.bridged {
            return Ipv4Addr::new(198, 18, self.b, n);
        }
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

    /// A number that no other test that runs now has, for as long as the lock is held.
    pub fn number(&self) -> (u8, Arc<File>) {
        (self.b, Arc::clone(&self.lock))
    }
}

/// Removes the networks of blocks that nobody holds: a runner that was killed could not.
fn sweep() {
    for b in net::left_behind().into_iter().filter(|b| (FIRST..FIRST + BLOCKS).contains(b)) {
        if let Some(_held) = lock(b) {
            net::remove(b);
        }
    }
}

#[test]
fn a_block_with_a_left_over_instance_is_not_free() {
    let block = Block::take();
    assert!(block.is_free());
    let instance = TcpListener::bind((block.worker(3, 5), 0)).unwrap();
    assert!(!block.is_free(), "{:?} is taken", instance.local_addr());
    drop(instance);
    let answers = UdpSocket::bind((block.node(4), 0)).unwrap();
    assert!(!block.is_free(), "{:?} is taken", answers.local_addr());
    drop(answers);
    assert!(block.is_free());
}

#[test]
fn a_network_is_swept_when_its_runner_is_dead_and_not_before() {
    const NAME: &str = "a_network_is_swept_when_its_runner_is_dead_and_not_before";
    let block = Block::take();
    let net = match net::Net::make(&block, 1) {
        Ok(net) => net,
        Err(why) => return super::skip(NAME, &why),
    };
    let b = block.b;
    // Without its test, but with the network still there: what it holds is not free either.
    drop(block);
    sweep();
    assert!(net::left_behind().contains(&b), "it is of one that lives");
    net.abandon();
    // Another process may sweep first, or take the block, which removes the network too.
    sweep();
    assert!(!net::left_behind().contains(&b) || lock(b).is_none());
}
