//! Siblings agree: the A, AAAA and SRV queries of one look-up get the same version.
//!
//! A draw is remembered for two seconds under (address, port, name, generation) and under (address, name, generation), as some
//! clients use one socket for both queries and others two. It serves each record type once; a repeated type is a new look-up and
//! draws anew, so that a resolver shared by many clients still gets whole decks. Bounded: two tables that take turns.
//!
//! Keys are kept as 64-bit fingerprints under a secret of this process. Two keys with one fingerprint would share a draw, which is
//! an arm that can be served all the same, at odds of one in 2^47 a query.

use std::{
    collections::HashMap,
    hash::{BuildHasher, BuildHasherDefault, Hasher, RandomState},
    net::{IpAddr, SocketAddr},
    sync::{Mutex, PoisonError},
};

use crate::{clock::Mono, state::FencePoint};

/// How long a draw is remembered, in milliseconds.
pub(super) const SIBLINGS_MS: u64 = 2000;
const SHARDS: usize = 16;
/// Draws of one shard and table; twice that many are kept at most.
const DRAWS: usize = 2048;

/// A record type of a look-up, as a bit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sibling {
    A = 1,
    Aaaa = 2,
    Srv = 4,
}

/// Takes fingerprints as they are: they are hashes already.
#[derive(Debug, Default)]
struct AsIs(u64);

impl Hasher for AsIs {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for b in bytes {
            self.0 = self.0 << 8 | u64::from(*b);
        }
    }

    fn write_u64(&mut self, fingerprint: u64) {
        self.0 = fingerprint;
    }
}

#[derive(Debug, Clone, Copy)]
struct Draw {
    arm: usize,
    at: Mono,
    served: u8,
}

#[derive(Debug, Default)]
struct Table {
    draws: Vec<Draw>,
    by_key: HashMap<u64, usize, BuildHasherDefault<AsIs>>,
}

#[derive(Debug, Default)]
struct Shard {
    new: Table,
    old: Table,
    /// When the tables last took turns, in milliseconds.
    turned: u64,
}

/// A query, as far as siblings matter.
#[derive(Debug, Clone, Copy)]
pub(super) struct Query<'a> {
    pub client: SocketAddr,
    /// The labels, in lower case.
    pub name: &'a [&'a str],
    pub generation: FencePoint,
    pub kind: Sibling,
    pub now: Mono,
}

/// The memory of recent draws.
#[derive(Debug)]
pub(super) struct Memo {
    shards: Vec<Mutex<Shard>>,
    secret: RandomState,
}

impl Memo {
    pub(super) fn new() -> Self {
        Self { shards: (0..SHARDS).map(|_| Mutex::default()).collect(), secret: RandomState::new() }
    }

    /// The arm for a query: that of its sibling, if one was drawn lately and `servable` still allows it, else a new `draw`.
    pub(super) fn arm(
        &self,
        query: Query<'_>,
        servable: &dyn Fn(usize) -> bool,
        draw: &mut dyn FnMut() -> Option<usize>,
    ) -> Option<usize> {
        let Query { client, name, generation, kind, now } = query;
        let by_address = self.by_address(client.ip(), name, generation);
        let keys = [self.secret.hash_one((by_address, client.port())), by_address];
        let mut shard = self.shard(by_address).lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(arm) = keys.iter().find_map(|k| shard.sibling(*k, kind, now, servable)) {
            return Some(arm);
        }
        let arm = draw()?;
        shard.remember(keys, Draw { arm, at: now, served: kind as u8 }, now);
        Some(arm)
    }

    /// The arm that a further record type of this client's newest look-up would get; nothing is noted.
    pub(super) fn peek(&self, address: IpAddr, name: &[&str], generation: FencePoint, now: Mono) -> Option<usize> {
        let key = self.by_address(address, name, generation);
        let shard = self.shard(key).lock().unwrap_or_else(PoisonError::into_inner);
        let draw = |table: &Table| table.by_key.get(&key).and_then(|at| table.draws.get(*at)).copied();
        let newest = draw(&shard.new).or_else(|| draw(&shard.old))?;
        (now.since(newest.at) < SIBLINGS_MS).then_some(newest.arm)
    }

    fn by_address(&self, address: IpAddr, name: &[&str], generation: FencePoint) -> u64 {
        self.secret.hash_one((address, name, generation.incarnation, generation.n))
    }

    /// By name too: most queries may come from one resolver.
    fn shard(&self, by_address: u64) -> &Mutex<Shard> {
        &self.shards[usize::try_from(by_address >> 32).unwrap_or(0) % SHARDS]
    }
}

impl Shard {
    fn sibling(&mut self, key: u64, kind: Sibling, now: Mono, servable: &dyn Fn(usize) -> bool) -> Option<usize> {
        let Self { new, old, .. } = self;
        let (table, place) = match (new.by_key.get(&key).copied(), old.by_key.get(&key).copied()) {
            (Some(place), _) => (new, place),
            (None, Some(place)) => (old, place),
            (None, None) => return None,
        };
        let draw = table.draws.get_mut(place)?;
        let fits = now.since(draw.at) < SIBLINGS_MS && draw.served & kind as u8 == 0 && servable(draw.arm);
        fits.then(|| {
            draw.served |= kind as u8;
            draw.arm
        })
    }

    fn remember(&mut self, keys: [u64; 2], draw: Draw, now: Mono) {
        let stale = now.0.saturating_sub(self.turned) >= SIBLINGS_MS;
        if stale || self.new.draws.len() >= DRAWS {
            std::mem::swap(&mut self.new, &mut self.old);
            self.new.draws.clear();
            self.new.by_key.clear();
            self.turned = now.0;
        }
        let place = self.new.draws.len();
        self.new.draws.push(draw);
        for key in keys {
            self.new.by_key.insert(key, place);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Asking {
        memo: Memo,
        next: usize,
    }

    impl Asking {
        fn ask(&mut self, from: &str, name: &str, generation: u64, kind: Sibling, at: u64) -> usize {
            let next = &mut self.next;
            let generation = FencePoint { incarnation: 1, n: generation };
            let mut draw = || {
                *next += 1;
                Some(*next)
            };
            let query = Query { client: from.parse().unwrap(), name: &[name], generation, kind, now: Mono(at) };
            self.memo.arm(query, &|_| true, &mut draw).unwrap()
        }
    }

    #[test]
    fn each_type_is_served_once_by_socket_then_by_address() {
        use Sibling::{A, Aaaa, Srv};
        let mut m = Asking { memo: Memo::new(), next: 0 };
        assert_eq!(m.ask("10.0.0.1:1000", "s", 7, A, 0), 1);
        assert_eq!(m.ask("10.0.0.1:1000", "s", 7, Aaaa, 1), 1);
        assert_eq!(m.ask("10.0.0.1:1000", "s", 7, A, 2), 2, "a repeated type is a new look-up");
        assert_eq!(m.ask("10.0.0.1:2000", "s", 7, Aaaa, 3), 2, "another socket of the same client");
        assert_eq!(m.ask("10.0.0.1:1000", "s", 7, Aaaa, 4), 3, "it was served already, from the other socket");
        assert_eq!(m.ask("10.0.0.1:3000", "s", 7, Srv, 5), 3);
        assert_eq!(m.ask("10.0.0.2:1000", "s", 7, Srv, 6), 4, "another client");
        assert_eq!(m.ask("10.0.0.1:1000", "other", 7, Srv, 7), 5, "another name");
        assert_eq!(m.ask("10.0.0.1:1000", "s", 8, Srv, 8), 6, "another generation");
        assert_eq!(m.ask("10.0.0.2:1000", "s", 7, A, 6 + SIBLINGS_MS), 7, "too late");
    }

    #[test]
    fn two_sockets_of_one_client_do_not_mix() {
        use Sibling::{A, Aaaa};
        let mut m = Asking { memo: Memo::new(), next: 0 };
        assert_eq!(m.ask("10.0.0.1:1", "s", 7, A, 0), 1);
        assert_eq!(m.ask("10.0.0.1:2", "s", 7, A, 0), 2);
        assert_eq!(m.ask("10.0.0.1:1", "s", 7, Aaaa, 1), 1);
        assert_eq!(m.ask("10.0.0.1:2", "s", 7, Aaaa, 1), 2);
    }

    #[test]
    fn memory_is_bounded() {
        let mut m = Asking { memo: Memo::new(), next: 0 };
        for n in 0..200_000_u32 {
            m.ask("10.0.0.1:1", &format!("s{n}"), 7, Sibling::A, 0);
        }
        let kept: usize =
            m.memo.shards.iter().map(|s| s.lock().unwrap()).map(|s| s.new.draws.len() + s.old.draws.len()).sum();
        assert!(kept <= 2 * DRAWS * SHARDS, "{kept}");
    }

    #[test]
    fn an_arm_that_is_down_is_drawn_anew() {
        let memo = Memo::new();
        let ask = |kind, servable: &dyn Fn(usize) -> bool, arm| {
            let client = "10.0.0.1:1".parse().unwrap();
            let query = Query { client, name: &["s"], generation: FencePoint::default(), kind, now: Mono(0) };
            memo.arm(query, servable, &mut || Some(arm))
        };
        assert_eq!(ask(Sibling::A, &|_| true, 0), Some(0));
        assert_eq!(ask(Sibling::Aaaa, &|a| a != 0, 1), Some(1));
    }
}
