//! What the clients saw, by the second in which each request was sent.

use std::{
    collections::{BTreeMap, VecDeque},
    net::{IpAddr, SocketAddr},
};

use parking_lot::Mutex;
use serde::Serialize;

use super::Histogram;

/// Seconds kept one by one; older ones stay in the totals only.
const MAX_SECONDS: usize = 4 * 3600;
/// Failed requests kept one by one.
const MAX_FAILURES: usize = 5000;

/// Why a request failed, when no instance answered it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum FailureKind {
    /// No address from any DNS server.
    Lookup,
    /// No connection.
    Connect,
    /// No answer in time.
    Timeout,
    /// The connection ended in the middle of an answer.
    Broken,
    /// An answer with status 500 or above.
    Status,
}

impl FailureKind {
    /// What did not come, as a person says it.
    pub(super) fn words(self) -> &'static str {
        match self {
            Self::Lookup => "no address",
            Self::Connect => "no connection",
            Self::Timeout => "no answer in time",
            Self::Broken => "half an answer",
            Self::Status => "a bad status",
        }
    }
}

/// What became of one request.
#[derive(Debug)]
pub enum ProbeOutcome {
    Answered { version: String, address: IpAddr, status: u16, us: u64 },
    Failed { kind: FailureKind, version: Option<String>, address: Option<IpAddr>, detail: String },
}

/// What a DNS server did with one question.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ServerOutcome {
    Answered,
    NoAddress,
    ServFail,
    Refused,
    Unreachable,
    Silent,
}

/// One version's answers.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, derive_more::AddAssign)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct ProbeCounts {
    /// Status below 400.
    pub ok: u64,
    /// Status 400 to 499.
    pub client_errors: u64,
    /// Status 500 and above.
    pub failed: u64,
}

impl ProbeCounts {
    /// All answers.
    pub fn all(&self) -> u64 {
        self.ok + self.client_errors + self.failed
    }
}

/// One DNS server's answers.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, derive_more::AddAssign)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct ServerCounts {
    /// With addresses.
    pub answered: u64,
    /// NXDOMAIN, or no address.
    pub no_address: u64,
    /// SERVFAIL and other refusals to answer.
    pub servfail: u64,
    /// REFUSED.
    pub refused: u64,
    /// Closed port, or another failure of the network.
    pub unreachable: u64,
    /// No answer in time.
    pub silent: u64,
}

/// One second, or several added up. Every request is in exactly one of the versions' counts or failures.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Summary {
    /// Requests that were sent.
    pub requests: u64,
    /// Answers by version.
    pub versions: BTreeMap<String, ProbeCounts>,
    /// No address from any DNS server.
    pub lookup_failed: u64,
    /// No connection.
    pub connect_failed: u64,
    /// No answer in time.
    pub timed_out: u64,
    /// The connection ended in the middle.
    pub broken: u64,
    /// Not sent, as too many were under way; not in `requests`.
    pub not_sent: u64,
    /// Milliseconds by which the probe itself was behind its beat at most: how long the machine, not the service, kept
    /// it waiting.
    pub late_ms: u64,
    /// Questions by DNS server.
    pub dns: BTreeMap<String, ServerCounts>,
    /// Latency of what was answered, lookup not counted.
    #[cfg_attr(test, schemars(with = "super::histogram::Quantiles"))]
    pub latency: Histogram,
}

/// One second.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Bucket {
    /// Wall-clock milliseconds at which it begins.
    pub started_wall_ms: u64,
    /// What was sent in it.
    #[serde(flatten)]
    pub seen: Summary,
}

/// A request that a user would have noticed.
#[derive(Debug, Clone, Serialize)]
pub struct FailedRequest {
    /// Wall-clock milliseconds at which it was sent.
    pub at_wall_ms: u64,
    /// How it failed.
    pub kind: FailureKind,
    /// The version that failed it, when known.
    pub version: Option<String>,
    /// Where it went, when that far.
    pub address: Option<IpAddr>,
    /// What the system or the server said.
    pub detail: String,
}

impl Summary {
    /// Requests that no version answered.
    pub fn unanswered(&self) -> u64 {
        self.lookup_failed + self.connect_failed + self.timed_out + self.broken
    }

    /// All failures: unanswered ones, and answers with status 500 and above.
    pub fn failed(&self) -> u64 {
        self.unanswered() + self.versions.values().map(|c| c.failed).sum::<u64>()
    }

    /// All failures but the answers of one version that were its own errors.
    pub fn failed_but_by(&self, version: &str) -> u64 {
        self.failed() - self.versions.get(version).map_or(0, |c| c.failed)
    }

    /// A version's share of all answers, in percent; `None` without answers.
    pub fn share_percent(&self, version: &str) -> Option<f64> {
        let all: u64 = self.versions.values().map(ProbeCounts::all).sum();
        let part = self.versions.get(version).map_or(0, ProbeCounts::all);
        (all > 0).then(|| part as f64 * 100.0 / all as f64)
    }

    fn add(&mut self, other: &Self) {
        self.requests += other.requests;
        self.lookup_failed += other.lookup_failed;
        self.connect_failed += other.connect_failed;
        self.timed_out += other.timed_out;
        self.broken += other.broken;
        self.not_sent += other.not_sent;
        self.late_ms = self.late_ms.max(other.late_ms);
        for (version, c) in &other.versions {
            *self.versions.entry(version.clone()).or_default() += c.clone();
        }
        for (server, c) in &other.dns {
            *self.dns.entry(server.clone()).or_default() += c.clone();
        }
        self.latency.merge(&other.latency);
    }
}

#[derive(Debug, Default)]
struct Kept {
    seconds: BTreeMap<u64, Summary>,
    /// Seconds that are no longer kept one by one.
    older: Summary,
    failures: VecDeque<FailedRequest>,
}

impl Kept {
    fn second(&mut self, at_ms: u64) -> &mut Summary {
        while self.seconds.len() >= MAX_SECONDS {
            match self.seconds.pop_first() {
                Some((_, oldest)) => self.older.add(&oldest),
                None => break,
            }
        }
        self.seconds.entry(at_ms / 1000 * 1000).or_default()
    }

    fn fail(&mut self, failure: FailedRequest) {
        if self.failures.len() >= MAX_FAILURES {
            self.failures.pop_front();
        }
        self.failures.push_back(failure);
    }
}

/// The records of one probe.
#[derive(Debug, Default)]
pub struct Records {
    kept: Mutex<Kept>,
}

impl Records {
    pub fn new() -> Self {
        Self::default()
    }

    /// Counts a request in the second in which it was sent; one that failed is kept with its reason.
    pub fn request(&self, at_ms: u64, outcome: ProbeOutcome) {
        let mut kept = self.kept.lock();
        let second = kept.second(at_ms);
        second.requests += 1;
        match outcome {
            ProbeOutcome::Answered { version, address, status, us } => {
                second.latency.record(us);
                let counts = second.versions.entry(version.clone()).or_default();
                match status {
                    500.. => {
                        counts.failed += 1;
                        let detail = format!("status {status}");
                        let (version, address) = (Some(version), Some(address));
                        kept.fail(FailedRequest {
                            at_wall_ms: at_ms,
                            kind: FailureKind::Status,
                            version,
                            address,
                            detail,
                        });
                    }
                    400..=499 => counts.client_errors += 1,
                    0..=399 => counts.ok += 1,
                }
            }
            ProbeOutcome::Failed { kind, version, address, detail } => {
                match kind {
                    FailureKind::Lookup => second.lookup_failed += 1,
                    FailureKind::Connect => second.connect_failed += 1,
                    FailureKind::Timeout => second.timed_out += 1,
                    FailureKind::Broken | FailureKind::Status => second.broken += 1,
                }
                kept.fail(FailedRequest { at_wall_ms: at_ms, kind, version, address, detail });
            }
        }
    }

    /// Counts a request that found no room among those under way.
    pub fn not_sent(&self, at_ms: u64) {
        self.kept.lock().second(at_ms).not_sent += 1;
    }

    /// Notes that the probe ran this far behind its own beat.
    pub fn late(&self, at_ms: u64, by_ms: u64) {
        let mut kept = self.kept.lock();
        let second = kept.second(at_ms);
        second.late_ms = second.late_ms.max(by_ms);
    }

    /// Counts a lookup by the server that was asked.
    pub fn asked(&self, at_ms: u64, server: SocketAddr, outcome: ServerOutcome) {
        let mut kept = self.kept.lock();
        let counts = kept.second(at_ms).dns.entry(server.to_string()).or_default();
        match outcome {
            ServerOutcome::Answered => counts.answered += 1,
            ServerOutcome::NoAddress => counts.no_address += 1,
            ServerOutcome::ServFail => counts.servfail += 1,
            ServerOutcome::Refused => counts.refused += 1,
            ServerOutcome::Unreachable => counts.unreachable += 1,
            ServerOutcome::Silent => counts.silent += 1,
        }
    }

    /// The sum of the seconds from `from_ms` (0: from the beginning) to before `to_ms`, in wall-clock milliseconds.
    pub fn summary(&self, from_ms: u64, to_ms: u64) -> Summary {
        let kept = self.kept.lock();
        let mut sum = if from_ms == 0 { kept.older.clone() } else { Summary::default() };
        kept.seconds.range(from_ms..to_ms).for_each(|(_, second)| sum.add(second));
        sum
    }

    /// The seconds that are still kept one by one, from `from_ms` on.
    pub fn buckets(&self, from_ms: u64) -> Vec<Bucket> {
        let kept = self.kept.lock();
        kept.seconds
            .range(from_ms..)
            .map(|(start, seen)| Bucket { started_wall_ms: *start, seen: seen.clone() })
            .collect()
    }

    /// The newest failed requests, oldest first.
    pub fn failures(&self) -> Vec<FailedRequest> {
        self.kept.lock().failures.iter().cloned().collect()
    }
}
