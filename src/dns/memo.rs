//! Siblings agree: the A, AAAA and SRV queries of one look-up get the same version.
//!
//! A draw is remembered for two seconds under the client's address, the service and the generation of its route, with
//! the client's port: some clients use one socket for all queries of a look-up and others one for each. It serves each
//! record type once; a repeated type is a new look-up and draws anew, so that a resolver shared by many clients still
//! gets whole decks. Bounded: a table of fixed size, in which each client and service has room for its newest draws,
//! and what is asked newly takes the place of what was drawn longest ago.
//!
//! Keys are kept as 64-bit fingerprints under a secret of this process. Two keys with one fingerprint would share a
//! draw, which is an arm that can be served all the same, at odds of one in 2^48 a query.

use std::{
    hash::BuildHasher as _,
    net::{IpAddr, SocketAddr},
    sync::OnceLock,
};

use foldhash::quality::RandomState;
use parking_lot::{Mutex, MutexGuard};

use crate::{clock::Mono, state::FencePoint};

/// How long a draw is remembered, in milliseconds.
pub(super) const SIBLINGS_MS: u64 = 2000;
const SHARDS: usize = 64;
/// Clients and services of one shard; each has a line of the processor's cache.
const SETS: usize = 512;
/// Draws that are kept for one client and service: what fills the line.
const DRAWS: usize = 7;

/// A record type of a look-up, as a bit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sibling {
    A = 1,
    Aaaa = 2,
    Srv = 4,
}

/// A draw; none, while it has served no record type.
#[derive(Debug, Clone, Copy, Default)]
struct Draw {
    /// When it was drawn: milliseconds, of which the low half tells 2 seconds apart well enough.
    at: u32,
    port: u16,
    arm: u8,
    served: u8,
}

impl Draw {
    /// How old it is, in milliseconds, if it may still be used. Threads read the clock once a batch: one that read it a
    /// little before this was drawn by another sees a draw of the future, which is as new as can be.
    fn age(self, now: Mono) -> Option<u64> {
        let ago = low(now).wrapping_sub(self.at);
        let ahead = self.at.wrapping_sub(low(now));
        let age = if u64::from(ahead) < SIBLINGS_MS { 0 } else { u64::from(ago) };
        (self.served != 0 && age < SIBLINGS_MS).then_some(age)
    }

    fn is_fresh(self, now: Mono) -> bool {
        self.age(now).is_some()
    }
}

/// The draws of one client and service, newest first.
#[derive(Debug, Clone, Copy, Default)]
#[repr(align(64))]
struct Set {
    key: u64,
    draws: [Draw; DRAWS],
}

/// A query, as far as siblings matter.
#[derive(Debug, Clone, Copy)]
pub(super) struct Query {
    pub client: SocketAddr,
    /// Which service.
    pub site: u64,
    pub generation: FencePoint,
    pub kind: Sibling,
    pub now: Mono,
}

type Shard = OnceLock<Mutex<Box<[Set]>>>;

/// The memory of recent draws.
#[derive(Debug)]
pub(super) struct Memo {
    /// Made when first needed: most nodes have few clients.
    shards: Vec<Shard>,
    secret: RandomState,
}

impl Memo {
    pub(super) fn new() -> Self {
        Self { shards: (0..SHARDS).map(|_| Shard::new()).collect(), secret: RandomState::default() }
    }

    /// The arm for a query: that of its sibling, if one was drawn lately and `servable` still allows it, else a new
    /// `draw`.
    pub(super) fn arm(
        &self,
        query: Query,
        servable: impl Fn(usize) -> bool,
        draw: impl FnOnce() -> Option<usize>,
    ) -> Option<usize> {
        let Query { client, site, generation, kind, now } = query;
        let key = self.key(client.ip(), site, generation);
        let mut sets = self.shard(key);
        let set = place(&mut sets, key, now);
        // Of this socket, else of this address: its newest.
        let of_socket = set.draws.iter().position(|d| d.port == client.port() && d.is_fresh(now));
        let mut places = of_socket.into_iter().chain([0]);
        let fits = |d: Draw| d.is_fresh(now) && d.served & kind as u8 == 0 && servable(usize::from(d.arm));
        if let Some(draw) = places.find(|n| fits(set.draws[*n])).map(|n| &mut set.draws[n]) {
            draw.served |= kind as u8;
            return Some(usize::from(draw.arm));
        }
        let arm = draw()?;
        set.draws.copy_within(..DRAWS - 1, 1);
        set.draws[0] = Draw { at: low(now), port: client.port(), arm: u8::try_from(arm).ok()?, served: kind as u8 };
        Some(arm)
    }

    /// The arm that a further record type of this client's newest look-up would get; nothing is noted.
    pub(super) fn peek(&self, address: IpAddr, site: u64, generation: FencePoint, now: Mono) -> Option<usize> {
        let key = self.key(address, site, generation);
        let sets = self.shard(key);
        let newest = pair(key).into_iter().find(|n| sets[*n].key == key).map(|n| sets[n].draws[0])?;
        newest.is_fresh(now).then_some(usize::from(newest.arm))
    }

    fn key(&self, address: IpAddr, site: u64, generation: FencePoint) -> u64 {
        self.secret.hash_one((address, site, generation.incarnation, generation.n))
    }

    fn shard(&self, key: u64) -> MutexGuard<'_, Box<[Set]>> {
        // Six bits; below them are those of the place.
        let shard = &self.shards[usize::try_from(key >> 58).unwrap_or(0) % SHARDS];
        let sets = shard.get_or_init(|| Mutex::new(vec![Set::default(); SETS].into()));
        sets.lock()
    }
}

/// The two places where a key may be.
fn pair(key: u64) -> [usize; 2] {
    let first = usize::try_from(key % SETS as u64).unwrap_or(0);
    [first, first ^ 1]
}

/// The set of a key: its own, else one that is emptied for it.
fn place(sets: &mut [Set], key: u64, now: Mono) -> &mut Set {
    let [a, b] = pair(key);
    let own = [a, b].into_iter().find(|n| sets[*n].key == key);
    let n = own.unwrap_or_else(|| {
        // Without a fresh draw it is as good as empty.
        let age = |n: usize| sets[n].draws[0].age(now).unwrap_or(u64::MAX);
        let oldest = if age(a) >= age(b) { a } else { b };
        sets[oldest] = Set { key, ..Set::default() };
        oldest
    });
    &mut sets[n]
}

fn low(now: Mono) -> u32 {
    // Masked, so it fits.
    u32::try_from(now.0 & u64::from(u32::MAX)).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Asking {
        memo: Memo,
        next: usize,
    }

    impl Asking {
        fn ask(&mut self, from: &str, site: u64, generation: u64, kind: Sibling, at: u64) -> usize {
            let next = &mut self.next;
            let generation = FencePoint { incarnation: 1, n: generation };
            let draw = || {
                *next += 1;
                // An arm is a small number.
                Some(*next % 250)
            };
            let query = Query { client: from.parse().unwrap(), site, generation, kind, now: Mono(at) };
            self.memo.arm(query, |_| true, draw).unwrap()
        }
    }

    #[test]
    fn each_type_is_served_once_by_socket_then_by_address() {
        use Sibling::{A, Aaaa, Srv};
        let mut m = Asking { memo: Memo::new(), next: 0 };
        assert_eq!(m.ask("10.0.0.1:1000", 1, 7, A, 0), 1);
        assert_eq!(m.ask("10.0.0.1:1000", 1, 7, Aaaa, 1), 1);
        assert_eq!(m.ask("10.0.0.1:1000", 1, 7, A, 2), 2, "a repeated type is a new look-up");
        assert_eq!(m.ask("10.0.0.1:2000", 1, 7, Aaaa, 3), 2, "another socket of the same client");
        assert_eq!(m.ask("10.0.0.1:1000", 1, 7, Aaaa, 4), 3, "it was served already, from the other socket");
        assert_eq!(m.ask("10.0.0.1:3000", 1, 7, Srv, 5), 3);
        assert_eq!(m.ask("10.0.0.2:1000", 1, 7, Srv, 6), 4, "another client");
        assert_eq!(m.ask("10.0.0.1:1000", 2, 7, Srv, 7), 5, "another service");
        assert_eq!(m.ask("10.0.0.1:1000", 1, 8, Srv, 8), 6, "another generation");
        assert_eq!(m.ask("10.0.0.2:1000", 1, 7, A, 6 + SIBLINGS_MS), 7, "too late");
    }

    #[test]
    fn a_thread_whose_clock_was_read_earlier_sees_the_draw() {
        use Sibling::{A, Aaaa};
        let mut m = Asking { memo: Memo::new(), next: 0 };
        assert_eq!(m.ask("10.0.0.1:1", 1, 7, A, 5000), 1);
        assert_eq!(m.ask("10.0.0.1:1", 1, 7, Aaaa, 4999), 1, "asked at once, answered by another thread");
        assert_eq!(
            m.ask("10.0.0.1:1", 1, 7, A, 5000 + (1 << 31)),
            2,
            "what is much older is over, whatever its low half says"
        );
    }

    #[test]
    fn two_sockets_of_one_client_do_not_mix() {
        use Sibling::{A, Aaaa};
        let mut m = Asking { memo: Memo::new(), next: 0 };
        for port in 1..=DRAWS {
            assert_eq!(m.ask(&format!("10.0.0.1:{port}"), 1, 7, A, 0), port);
        }
        for port in 1..=DRAWS {
            assert_eq!(m.ask(&format!("10.0.0.1:{port}"), 1, 7, Aaaa, 1), port);
        }
    }

    #[test]
    fn what_was_drawn_longest_ago_makes_room() {
        let mut m = Asking { memo: Memo::new(), next: 0 };
        // Four times as many as there is room for, half a millisecond each: the last of them are there.
        let all = 4 * (SHARDS * SETS) as u64;
        for site in 0..all {
            m.ask("10.0.0.1:1", site, 7, Sibling::A, site / 200);
        }
        let kept = (all - 2000..all).filter(|site| {
            let before = m.next;
            m.ask("10.0.0.1:1", *site, 7, Sibling::Aaaa, all / 200);
            m.next == before
        });
        let kept = kept.count();
        assert!(kept > 1800, "{kept} of the last 2,000 are remembered");
    }

    #[test]
    fn an_arm_that_is_down_is_drawn_anew() {
        let memo = Memo::new();
        let ask = |kind, servable: &dyn Fn(usize) -> bool, arm| {
            let client = "10.0.0.1:1".parse().unwrap();
            let query = Query { client, site: 1, generation: FencePoint::default(), kind, now: Mono(0) };
            memo.arm(query, servable, || Some(arm))
        };
        assert_eq!(ask(Sibling::A, &|_| true, 0), Some(0));
        assert_eq!(memo.peek([10, 0, 0, 1].into(), 1, FencePoint::default(), Mono(1)), Some(0));
        assert_eq!(memo.peek([10, 0, 0, 1].into(), 1, FencePoint::default(), Mono(SIBLINGS_MS)), None);
        assert_eq!(ask(Sibling::Aaaa, &|a| a != 0, 1), Some(1));
    }
}
