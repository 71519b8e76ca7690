//! Counters of the DNS server, for metrics.
//!
//! Not here: how metrics are named and shown (`http`).

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

/// Declares the counters: what runs, what is read of it, and the values of their label.
macro_rules! counters {
    ($($(#[$doc:meta])+ $name:ident,)+) => {
        /// Running counters.
        #[derive(Debug, Default)]
        pub(super) struct Stats {
            rcodes: [AtomicU64; RCODES.len()],
            $(pub $name: AtomicU64,)+
        }

        /// What the server has done since it started.
        #[derive(Debug, Clone, Default, PartialEq, Eq)]
        pub struct DnsCounts {
            /// Responses by code, in the order of [`RCODES`].
            pub rcodes: [u64; RCODES.len()],
            $($(#[$doc])+ pub $name: u64,)+
        }

        impl DnsCounts {
            /// What came and what became of it, by the value of a label, for metrics.
            pub fn events(&self) -> Vec<(&'static str, u64)> {
                vec![$((stringify!($name), self.$name)),+]
            }
        }

        impl Stats {
            pub(super) fn counts(&self) -> DnsCounts {
                let get = |n: &AtomicU64| n.load(Ordering::Relaxed);
                DnsCounts { rcodes: self.rcodes.each_ref().map(get), $($name: get(&self.$name)),+ }
            }
        }
    };
}

counters! {
    /// Messages received over UDP.
    udp,
    /// Messages received over TCP.
    tcp,
    /// Responses with TC set.
    truncated,
    /// Messages that get no answer: responses, and what is shorter than a header.
    ignored,
    /// Answers whose version was drawn while another version with a weight had no endpoint.
    renormalised,
    /// Responses withheld because the client's network is over its rate.
    limited,
    /// Responses sent short for the same reason.
    slipped,
    /// Answers given after the serving lease was over, marked as stale.
    stale,
    /// Questions refused because the serving lease was over.
    fenced,
    /// Questions refused because this node has not caught up yet, or has had no lease yet.
    not_ready,
    /// TCP connections closed at once because of a limit.
    tcp_refused,
    /// TCP connections closed to make room for a new one.
    tcp_evicted,
    /// TLS connections that got through their handshake.
    tls,
    /// TLS connections that did not.
    tls_failed,
    /// Messages whose handling failed inside; always 0 unless there is a bug.
    panics,
}

/// What one batch of datagrams adds.
#[derive(Debug, Default)]
pub(super) struct QueryTally {
    pub queries: u64,
    rcodes: [u64; RCODES.len()],
}

impl QueryTally {
    pub(super) fn code(&mut self, code: u16) {
        if let Some(i) = RCODES.iter().position(|(c, _)| *c == code) {
            self.rcodes[i] += 1;
        }
    }
}

impl Stats {
    pub(super) fn add_all(&self, tally: &QueryTally) {
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
}

pub(super) fn add(n: &AtomicU64) {
    n.fetch_add(1, Ordering::Relaxed);
}
