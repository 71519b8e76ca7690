//! Counters of the DNS server, for metrics.

use std::sync::atomic::{AtomicU64, Ordering};

/// Response codes that this server gives, with the value of their label.
pub const RCODES: [(u16, &str); 8] = [
    (0, "noerror"),
    (1, "formerr"),
    (2, "servfail"),
    (3, "nxdomain"),
    (4, "notimp"),
    (5, "refused"),
    (16, "badvers"),
    (23, "badcookie"),
];

/// Running counters.
#[derive(Debug, Default)]
pub(super) struct Stats {
    rcodes: [AtomicU64; RCODES.len()],
    pub udp: AtomicU64,
    pub tcp: AtomicU64,
    pub truncated: AtomicU64,
    pub ignored: AtomicU64,
    pub renormalised: AtomicU64,
    pub limited: AtomicU64,
    pub slipped: AtomicU64,
    pub stale: AtomicU64,
    pub fenced: AtomicU64,
    pub not_ready: AtomicU64,
    pub tcp_refused: AtomicU64,
    pub tcp_evicted: AtomicU64,
    pub tls: AtomicU64,
    pub tls_failed: AtomicU64,
    pub panics: AtomicU64,
}

/// What the server has done since it started.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DnsCounts {
    /// Responses by code, in the order of [`RCODES`].
    pub rcodes: [u64; RCODES.len()],
    /// Messages received over UDP.
    pub udp: u64,
    /// Messages received over TCP.
    pub tcp: u64,
    /// Responses with TC set.
    pub truncated: u64,
    /// Messages that get no answer: responses, and what is shorter than a header.
    pub ignored: u64,
    /// Answers whose version was drawn while another version with a weight had no endpoint.
    pub renormalised: u64,
    /// Responses withheld because the client's network is over its rate.
    pub limited: u64,
    /// Responses sent short for the same reason.
    pub slipped: u64,
    /// Answers given after the serving lease was over, marked as stale.
    pub stale: u64,
    /// Questions refused because the serving lease was over.
    pub fenced: u64,
    /// Questions refused because this node has not caught up yet, or has had no lease yet.
    pub not_ready: u64,
    /// TCP connections closed at once because of a limit.
    pub tcp_refused: u64,
    /// TCP connections closed to make room for a new one.
    pub tcp_evicted: u64,
    /// TLS connections that got through their handshake.
    pub tls: u64,
    /// TLS connections that did not.
    pub tls_failed: u64,
    /// Messages whose handling failed inside; always 0 unless there is a bug.
    pub panics: u64,
}

impl DnsCounts {
    /// What came and what became of it, by the value of a label, for metrics.
    pub fn events(&self) -> [(&'static str, u64); 15] {
        [
            ("udp", self.udp),
            ("tcp", self.tcp),
            ("truncated", self.truncated),
            ("ignored", self.ignored),
            ("renormalised", self.renormalised),
            ("limited", self.limited),
            ("slipped", self.slipped),
            ("stale", self.stale),
            ("fenced", self.fenced),
            ("not_ready", self.not_ready),
            ("tcp_refused", self.tcp_refused),
            ("tcp_evicted", self.tcp_evicted),
            ("tls", self.tls),
            ("tls_failed", self.tls_failed),
            ("panics", self.panics),
        ]
    }
}

/// What one batch of datagrams adds.
#[derive(Debug, Default)]
pub(super) struct Tally {
    pub queries: u64,
    rcodes: [u64; RCODES.len()],
}

impl Tally {
    pub(super) fn code(&mut self, code: u16) {
        if let Some(i) = RCODES.iter().position(|(c, _)| *c == code) {
            self.rcodes[i] += 1;
        }
    }
}

impl Stats {
    pub(super) fn add_all(&self, tally: &Tally) {
        self.udp.fetch_add(tally.queries, Ordering::Relaxed);
        for (all, n) in self.rcodes.iter().zip(tally.rcodes).filter(|(_, n)| *n > 0) {
            all.fetch_add(n, Ordering::Relaxed);
        }
    }

    pub(super) fn rcode(&self, code: u16) {
        if let Some(i) = RCODES.iter().position(|(c, _)| *c == code) {
            add(&self.rcodes[i]);
        }
    }

    pub(super) fn counts(&self) -> DnsCounts {
        let get = |n: &AtomicU64| n.load(Ordering::Relaxed);
        DnsCounts {
            rcodes: std::array::from_fn(|i| get(&self.rcodes[i])),
            udp: get(&self.udp),
            tcp: get(&self.tcp),
            truncated: get(&self.truncated),
            ignored: get(&self.ignored),
            renormalised: get(&self.renormalised),
            limited: get(&self.limited),
            slipped: get(&self.slipped),
            stale: get(&self.stale),
            fenced: get(&self.fenced),
            not_ready: get(&self.not_ready),
            tcp_refused: get(&self.tcp_refused),
            tcp_evicted: get(&self.tcp_evicted),
            tls: get(&self.tls),
            tls_failed: get(&self.tls_failed),
            panics: get(&self.panics),
        }
    }
}

pub(super) fn add(n: &AtomicU64) {
    n.fetch_add(1, Ordering::Relaxed);
}
