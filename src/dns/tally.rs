//! What was really answered, beside the weights: answers by version since the route last changed, and how many clients
//! ask.
//!
//! Answers are exact over each deck. Traffic is not, as each client (mostly a resolver) keeps its answer, and clients
//! ask for unequal shares of the traffic. With shares s of the answers and a weight p, the share of traffic scatters by
//! sqrt(p (1 - p) sum s^2): that is the spread shown here, and the largest s is the largest swing that one client can
//! make. Bounded: two tables that take turns. Not here: the requests that instances count.

use std::{collections::HashMap, net::IpAddr};

use super::site::Site;
use crate::{
    clock::Mono,
    model::WHOLE,
    state::{ByRole, Role},
};

/// How long a client counts that asks no more, at least.
const WINDOW_MS: u64 = 300_000;
/// Clients of one table; beyond that no new ones are told apart, and then no single one matters.
const CLIENTS: usize = 4096;

/// So many answers after a change of the route are each noted with their client; of later answers one in [`ONE_OF`] is.
const EACH: u64 = 256;
const ONE_OF: u64 = 16;

/// Who asked for one deployment's policy lately, and how often.
#[derive(Debug, Default)]
pub(super) struct Clients {
    now: HashMap<IpAddr, u64>,
    before: HashMap<IpAddr, u64>,
    turned: Mono,
}

impl Clients {
    fn note(&mut self, client: IpAddr, answers: u64, now: Mono) {
        self.turn(now);
        if self.now.len() < CLIENTS || self.now.contains_key(&client) {
            *self.now.entry(client).or_default() += answers;
        }
    }

    fn turn(&mut self, now: Mono) {
        if now.since(self.turned) >= WINDOW_MS {
            self.before = std::mem::take(&mut self.now);
            if now.since(self.turned) >= 2 * WINDOW_MS {
                self.before.clear();
            }
            self.turned = now;
        }
    }

    /// How many there are, the largest one's share, and the sum of the shares' squares.
    fn shares(&mut self, now: Mono) -> (usize, f64, f64) {
        self.turn(now);
        let mut all = self.now.clone();
        for (client, n) in &self.before {
            *all.entry(*client).or_default() += n;
        }
        // Counts are far below 2^53.
        let counts: Vec<f64> = all.values().map(|n| *n as f64).collect();
        let sum: f64 = counts.iter().sum();
        if sum == 0.0 {
            return (0, 0.0, 0.0);
        }
        let largest = counts.iter().copied().fold(0.0, f64::max);
        (counts.len(), largest / sum, counts.iter().map(|n| (n / sum) * (n / sum)).sum())
    }
}

/// What one node's DNS answered for a deployment's policy, since the route last changed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Realised {
    /// Role, version, weight in basis points and answers that named it.
    pub versions: Vec<(Role, String, u32, u64)>,
    /// Clients that asked in the last minutes.
    pub clients: u32,
    /// The largest one's part of the answers in basis points: as much of the traffic may swing when its answer changes.
    pub largest_bp: u32,
    /// The expected spread (one standard deviation) of the traffic's share around the weight, in basis points.
    pub spread_bp: u32,
}

impl Realised {
    /// The share of the answers that a version really had, in basis points.
    pub fn share(&self, role: Role) -> Option<u32> {
        let all: u64 = self.versions.iter().map(|(_, _, _, n)| n).sum();
        let own = self.versions.iter().find(|(r, _, _, _)| *r == role)?.3;
        let bp = own.checked_mul(u64::from(WHOLE.0))?.checked_div(all)?;
        u32::try_from(bp).ok()
    }
}

/// The spread for clients whose shares' squares sum up to `squares`, at a weight in basis points.
pub fn spread(weight_bp: u32, squares: f64) -> u32 {
    let p = f64::from(weight_bp) / f64::from(WHOLE.0);
    basis_points((p * (1.0 - p) * squares).max(0.0).sqrt())
}

fn basis_points(share: f64) -> u32 {
    // A share is from 0 to 1.
    (share * f64::from(WHOLE.0)).round() as u32
}

impl Site {
    /// Notes that an answer of the policy, keyed or not, named this arm.
    pub(super) fn answered(&self, arm: usize, client: IpAddr, now: Mono) {
        self.noted.answered(arm);
        // Where there are many, one of some stands for all of them: answers are not to wait for a table of clients.
        match self.answers().iter().sum::<u64>() {
            0..=EACH => self.clients.lock().note(client, 1, now),
            n if n.is_multiple_of(ONE_OF) => self.clients.lock().note(client, ONE_OF, now),
            _ => {}
        }
    }

    /// Answers by arm since the route last changed.
    fn answers(&self) -> ByRole<u64> {
        let all = self.noted.answers();
        Role::each(|role| all[role.place()].saturating_sub(self.answered_before[role.place()]))
    }

    pub(super) fn realised(&self, now: Mono) -> Realised {
        let answers = self.answers();
        let (clients, largest, squares) = self.clients.lock().shares(now);
        let arms = Role::ALL.iter().zip(&self.arms).zip(answers);
        let versions = arms.filter_map(|((role, arm), n)| Some((*role, arm.version.clone()?, arm.bps, n)));
        let weight = self.arm(Role::Candidate).bps;
        Realised {
            versions: versions.collect(),
            clients: u32::try_from(clients).unwrap_or(u32::MAX),
            largest_bp: basis_points(largest),
            spread_bp: spread(weight, squares),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(n: u8) -> IpAddr {
        [10, 0, 0, n].into()
    }

    #[test]
    fn unequal_clients_scatter_more_than_equal_ones() {
        let mut equal = Clients::default();
        for n in 0..100 {
            equal.note(ip(n), 1, Mono(0));
        }
        let (count, largest, squares) = equal.shares(Mono(1));
        assert_eq!((count, basis_points(largest)), (100, 100));
        assert_eq!(spread(5000, squares), 500, "sqrt(0.25 / 100)");
        for _ in 0..900 {
            equal.note(ip(7), 1, Mono(2));
        }
        let (count, largest, squares) = equal.shares(Mono(3));
        assert_eq!((count, basis_points(largest)), (100, 9010));
        assert!(spread(5000, squares) > 4500);
        assert_eq!(spread(0, squares), 0);
    }

    #[test]
    fn clients_that_ask_no_more_are_forgotten_and_memory_is_bounded() {
        let mut clients = Clients::default();
        clients.note(ip(1), 1, Mono(0));
        clients.note(ip(2), 1, Mono(WINDOW_MS));
        assert_eq!(clients.shares(Mono(WINDOW_MS + 1)).0, 2);
        clients.note(ip(2), 1, Mono(2 * WINDOW_MS));
        assert_eq!(clients.shares(Mono(2 * WINDOW_MS)).0, 1);
        assert_eq!(clients.shares(Mono(9 * WINDOW_MS)).0, 0);
        for n in 0..20_000_u32 {
            clients.note(std::net::Ipv4Addr::from(n).into(), 1, Mono(9 * WINDOW_MS));
        }
        assert_eq!(clients.shares(Mono(9 * WINDOW_MS)).0, CLIENTS);
    }
}
