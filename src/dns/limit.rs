//! Response rate limiting: how many UDP responses of a kind a network gets a second, so that spoofed queries gain
//! nothing.
//!
//! Networks are /24 of IPv4 and /56 of IPv6. Kinds are answers, negative answers and errors; the last two have smaller
//! rates, as no client needs many. A response over the rate is dropped. But each second such query gets a response that
//! cannot be misused: truncated and empty, or BADCOOKIE when the query carried a cookie. So a real client behind a
//! spoofed address gets through over TCP or with its cookie. Exempt are configured prefixes, clients with a good
//! cookie, and TCP, whose addresses are proved. Memory is fixed: two tables of times, indexed by two hashes with keys
//! of this process; a network is over its rate only when both say so.

use std::{
    hash::{BuildHasher as _, RandomState},
    net::IpAddr,
    sync::atomic::{AtomicU64, Ordering},
};

use crate::{clock::Mono, model::Prefix};

/// Entries of one table.
const BUCKETS: usize = 1 << 16;
const TABLES: usize = 2;
/// What may come at once after a pause, in seconds of the rate.
const BURST: u64 = 2;

/// The kind of a response.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Class {
    /// Records.
    Answer,
    /// No such name, or no such record.
    Negative,
    /// Everything else.
    Error,
}

/// What becomes of a response.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum RateDecision {
    /// It is sent.
    Send,
    /// Nothing is sent.
    Drop,
    /// A short one is sent in its stead.
    Slip,
}

/// Rates a second and network; 0: no limit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rates {
    /// Responses with records.
    pub answers: u32,
    /// NXDOMAIN and NODATA.
    pub negative: u32,
    /// Other codes.
    pub errors: u32,
    /// Each so-many-th response over the rate is sent short; 0: none.
    pub slip: u32,
    /// Who is not limited.
    pub exempt: Vec<Prefix>,
}

impl Rates {
    /// No limits.
    pub const NONE: Self = Self { answers: 0, negative: 0, errors: 0, slip: 2, exempt: Vec::new() };
}

/// The times up to which each network has used its rate.
#[derive(Debug)]
pub(super) struct Limiter {
    rates: Rates,
    tables: [Vec<AtomicU64>; TABLES],
    hashers: [RandomState; TABLES],
    over: AtomicU64,
}

impl Limiter {
    pub(super) fn new(rates: Rates) -> Self {
        let on = rates.answers > 0 || rates.negative > 0 || rates.errors > 0;
        let table = || (0..if on { BUCKETS } else { 0 }).map(|_| AtomicU64::new(0)).collect();
        Self {
            rates,
            tables: [table(), table()],
            hashers: [RandomState::new(), RandomState::new()],
            over: AtomicU64::new(0),
        }
    }

    /// Whether a client is limited at all.
    pub(super) fn exempts(&self, ip: IpAddr) -> bool {
        self.rates.exempt.iter().any(|p| p.contains(ip))
    }

    /// Counts a response and says what becomes of it.
    pub(super) fn verdict(&self, ip: IpAddr, class: Class, now: Mono) -> RateDecision {
        let rate = match class {
            Class::Answer => self.rates.answers,
            Class::Negative => self.rates.negative,
            Class::Error => self.rates.errors,
        };
        if rate == 0 || self.exempts(ip) {
            return RateDecision::Send;
        }
        // Each response takes 1/rate of a second; who is more than BURST seconds ahead of the clock is over.
        let (now, cost) = (now.0.saturating_mul(1000), 1_000_000 / u64::from(rate).min(1_000_000));
        let latest = now.saturating_add(BURST * 1_000_000);
        let key = (network(ip), class);
        let mut within = false;
        for (table, hasher) in self.tables.iter().zip(&self.hashers) {
            // A table has 2^16 entries, so the low bits are an index.
            let place = usize::try_from(hasher.hash_one(key) % BUCKETS as u64).unwrap_or(0);
            let Some(bucket) = table.get(place) else { return RateDecision::Send };
            let used = |at: u64| Some(at.max(now).saturating_add(cost)).filter(|next| *next <= latest);
            within |= bucket.fetch_update(Ordering::Relaxed, Ordering::Relaxed, used).is_ok();
        }
        if within {
            return RateDecision::Send;
        }
        let nth = self.over.fetch_add(1, Ordering::Relaxed);
        let slips = self.rates.slip > 0 && nth.is_multiple_of(u64::from(self.rates.slip));
        if slips { RateDecision::Slip } else { RateDecision::Drop }
    }
}

fn network(ip: IpAddr) -> (bool, u64) {
    match ip.to_canonical() {
        IpAddr::V4(ip) => (false, u64::from(u32::from(ip) >> 8)),
        // 56 of 128 bits, so it fits.
        IpAddr::V6(ip) => (true, u64::try_from(u128::from(ip) >> 72).unwrap_or(u64::MAX)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limiter(slip: u32) -> Limiter {
        let exempt = vec!["198.51.100.0/24".parse().unwrap()];
        Limiter::new(Rates { answers: 100, negative: 20, errors: 10, slip, exempt })
    }

    fn sent(l: &Limiter, ip: &str, class: Class, n: u32, at: u64) -> u32 {
        let ip = ip.parse().unwrap();
        (0..n).map(|_| u32::from(l.verdict(ip, class, Mono(at)) == RateDecision::Send)).sum()
    }

    #[test]
    fn each_network_and_kind_has_its_rate() {
        let l = limiter(2);
        assert_eq!(sent(&l, "192.0.2.1", Class::Answer, 1000, 10_000), 200, "two seconds at once");
        assert_eq!(sent(&l, "192.0.2.9", Class::Answer, 1000, 10_000), 0, "the same /24");
        assert_eq!(sent(&l, "192.0.3.1", Class::Answer, 1000, 10_000), 200, "another");
        assert_eq!(sent(&l, "192.0.2.1", Class::Negative, 1000, 10_000), 40);
        assert_eq!(sent(&l, "192.0.2.1", Class::Error, 1000, 10_000), 20);
        assert_eq!(sent(&l, "192.0.2.1", Class::Answer, 1000, 11_000), 100, "a second later");
        assert_eq!(sent(&l, "2001:db8:0:1::1", Class::Answer, 1000, 10_000), 200);
        assert_eq!(sent(&l, "2001:db8:0:2::1", Class::Answer, 1000, 10_000), 0, "the same /56");
        assert_eq!(sent(&l, "198.51.100.7", Class::Error, 1000, 10_000), 1000, "exempt");
        assert_eq!(sent(&Limiter::new(Rates::NONE), "192.0.2.1", Class::Error, 1000, 0), 1000);
    }

    #[test]
    fn every_second_one_over_the_rate_slips() {
        let l = limiter(2);
        sent(&l, "192.0.2.1", Class::Error, 20, 0);
        let verdicts: Vec<RateDecision> =
            (0..6).map(|_| l.verdict("192.0.2.1".parse().unwrap(), Class::Error, Mono(0))).collect();
        assert_eq!(verdicts, [RateDecision::Slip, RateDecision::Drop].repeat(3));
        let l = limiter(0);
        sent(&l, "192.0.2.1", Class::Error, 20, 0);
        assert!((0..6).all(|_| l.verdict("192.0.2.1".parse().unwrap(), Class::Error, Mono(0)) == RateDecision::Drop));
    }

    #[test]
    fn a_flood_from_many_networks_leaves_a_quiet_one_alone() {
        let l = limiter(2);
        // A quarter of the table's size in networks, each far over its rate.
        for n in 0..16_384_u32 {
            let ip = std::net::Ipv4Addr::from(0x0a00_0000 | n << 8).to_string();
            sent(&l, &ip, Class::Negative, 60, 5000);
        }
        let quiet = (0..200_u32).filter(|n| sent(&l, &format!("203.0.{n}.1"), Class::Negative, 10, 5000) == 10);
        let quiet = quiet.count();
        assert!(quiet > 160, "{quiet} of 200 were left alone");
    }
}
