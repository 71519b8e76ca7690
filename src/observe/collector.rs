//! The collector of one leader term: the newest report of each worker and each node's DNS, as observations for a
//! planning pass.
//!
//! Invariants: a report of another term is refused; a report never replaces a newer one (epoch, sequence). Not here:
//! the relay that brings reports (`node`), what follows from them (`engine`).

use std::{collections::BTreeMap, sync::Arc};

use parking_lot::Mutex;
use tokio::sync::watch;

use crate::{
    clock::{Clock, Mono},
    model::{DeploymentId, MetricName, Millis, ModelError, NodeId, Period, StepId, WorkerName},
    state::{NodeSeen, Observations, Reported, Seen},
    wire::v1,
};

/// Why an item was not taken.
#[derive(Debug, thiserror::Error)]
pub enum ObserveError {
    #[error("the item is for term {theirs}, this node knows term {ours}")]
    Term { theirs: u64, ours: u64 },
    /// It makes no sense.
    #[error("malformed item: {0}")]
    Malformed(#[from] ModelError),
}

#[derive(Debug)]
struct WorkerRecord {
    node: NodeId,
    heard: Mono,
    gone: bool,
    report: Option<Arc<Reported>>,
}

/// What a node says of a worker's session.
#[derive(Debug, Clone)]
pub struct WorkerWord {
    pub worker: WorkerName,
    /// Milliseconds since the worker's last message.
    pub age_ms: u64,
    /// Its newest report; `None` when there is none that was not told before.
    pub report: Option<Arc<Reported>>,
    /// Whether the session has ended.
    pub gone: bool,
}

#[derive(Debug)]
struct NodeRecord {
    heard: Mono,
    served_index: u64,
    ttls: BTreeMap<DeploymentId, u64>,
    serving_since: Mono,
    unready_since: Option<Mono>,
}

#[derive(Debug, Default)]
struct Heard {
    term: u64,
    workers: BTreeMap<WorkerName, WorkerRecord>,
    nodes: BTreeMap<NodeId, NodeRecord>,
}

impl Heard {
    /// Enters a newer term with nothing heard; refuses an older one.
    fn enter(&mut self, term: u64) -> Result<(), ObserveError> {
        if term < self.term {
            return Err(ObserveError::Term { theirs: term, ours: self.term });
        }
        if term > self.term {
            *self = Self { term, ..Self::default() };
        }
        Ok(())
    }
}

/// What was heard in the newest term.
#[derive(Debug)]
pub struct Collector {
    clock: Clock,
    heard: Mutex<Heard>,
    changed: watch::Sender<u64>,
}

/// The point `ms` before `now`.
fn before(now: Mono, ms: u64) -> Mono {
    Mono(now.0.saturating_sub(ms))
}

impl Collector {
    /// An empty one.
    pub fn new(clock: Clock) -> Self {
        Self { clock, heard: Mutex::default(), changed: watch::Sender::new(0) }
    }

    /// Changes whenever something new was heard; a mere sign of life is nothing new.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    /// Forgets earlier terms.
    pub fn begin_term(&self, term: u64) {
        // An older term than the one heard of is not led by anyone; there is nothing to begin.
        let _ = self.heard.lock().enter(term);
    }

    /// The node that holds a worker's session.
    pub fn holder(&self, worker: &WorkerName) -> Option<NodeId> {
        self.heard.lock().workers.get(worker).filter(|w| !w.gone).map(|w| w.node)
    }

    /// Takes what a node says of a worker.
    pub fn worker(&self, from: NodeId, term: u64, seen: WorkerWord) -> Result<(), ObserveError> {
        let now = self.clock.mono();
        let at = before(now, seen.age_ms);
        let mut heard = self.heard.lock();
        heard.enter(term)?;
        let new = WorkerRecord { node: from, heard: at, gone: seen.gone, report: None };
        let record = heard.workers.entry(seen.worker).or_insert(new);
        if seen.gone {
            record.gone |= record.node == from;
            return Ok(());
        }
        record.heard = record.heard.max(at);
        let Some(report) = seen.report else { return Ok(()) };
        let newest = record.report.as_ref().map_or((0, 0), |r| (r.facts.epoch, r.facts.seq));
        if (report.facts.epoch, report.facts.seq) < newest {
            return Ok(());
        }
        record.node = from;
        record.gone = false;
        record.report = Some(report);
        drop(heard);
        self.changed.send_modify(|n| *n = n.wrapping_add(1));
        Ok(())
    }

    /// Takes what a node says of itself.
    pub fn node(&self, from: NodeId, term: u64, seen: &v1::NodeSeen) -> Result<(), ObserveError> {
        let ttls: Result<BTreeMap<DeploymentId, u64>, ModelError> =
            seen.ttls_ms.iter().map(|(d, ttl)| Ok((d.parse()?, *ttl))).collect();
        let now = self.clock.mono();
        let ready = seen.dns_ready;
        let mut record = NodeRecord {
            heard: now,
            served_index: if ready { seen.served_index } else { 0 },
            ttls: ttls?,
            serving_since: before(now, seen.serving_for_ms),
            unready_since: (!ready).then_some(now),
        };
        let mut heard = self.heard.lock();
        heard.enter(term)?;
        let earlier = heard.nodes.get(&from);
        let news = earlier.is_none_or(|n| (n.served_index, n.unready_since.is_none()) != (record.served_index, ready));
        record.unready_since = record.unready_since.map(|at| earlier.and_then(|n| n.unready_since).unwrap_or(at));
        heard.nodes.insert(from, record);
        drop(heard);
        if news {
            self.changed.send_modify(|n| *n = n.wrapping_add(1));
        }
        Ok(())
    }

    /// Everything heard in `term`, in cluster time. A report older than `silent_after` counts as silence.
    pub fn observations(&self, term: u64, leader_since: Millis, now: Millis, silent_after: Period) -> Observations {
        let mono = self.clock.mono();
        let cluster = |at: Mono| Millis(now.0.saturating_sub(mono.since(at)));
        let heard = self.heard.lock();
        let mut seen = Observations { leader_since, ..Observations::default() };
        if heard.term != term {
            return seen;
        }
        for (name, w) in &heard.workers {
            let at = cluster(w.heard);
            let word = match &w.report {
                None => Seen::Unknown,
                Some(_) if mono.since(w.heard) >= silent_after.0 => Seen::Silent { since: at },
                Some(report) => Seen::Known { at, value: report.facts.clone() },
            };
            seen.workers.insert(name.clone(), word);
            for (deployment, step, counts) in w.report.iter().flat_map(|r| &r.counts) {
                seen.counts.entry((deployment.clone(), *step)).or_default().insert(name.clone(), counts.clone());
            }
        }
        for (id, n) in &heard.nodes {
            let value = NodeSeen {
                served_index: n.served_index,
                ttls: n.ttls.clone(),
                serving_since: cluster(n.serving_since),
                unready_since: n.unready_since.map(cluster),
            };
            let at = cluster(n.heard);
            let silent = mono.since(n.heard) >= silent_after.0;
            let word = if silent { Seen::Silent { since: at } } else { Seen::Known { at, value } };
            seen.nodes.insert(*id, word);
        }
        seen
    }

    /// Requests by deployment and version since the newest step began that workers count for.
    pub fn requests(&self) -> BTreeMap<DeploymentId, BTreeMap<String, u64>> {
        let heard = self.heard.lock();
        let reports = || heard.workers.values().filter(|w| !w.gone).filter_map(|w| w.report.as_deref());
        let all = || reports().flat_map(|r| &r.counts);
        let mut newest: BTreeMap<&DeploymentId, StepId> = BTreeMap::new();
        for (deployment, step, _) in all() {
            let known = newest.entry(deployment).or_insert(*step);
            *known = (*known).max(*step);
        }
        let mut out: BTreeMap<DeploymentId, BTreeMap<String, u64>> = BTreeMap::new();
        for (deployment, _, counted) in all().filter(|(d, step, _)| newest.get(d) == Some(step)) {
            let versions = out.entry(deployment.clone()).or_default();
            for (pair, samples) in &counted.pairs {
                let n = versions.entry(pair.version.to_string()).or_default();
                *n = n.saturating_add(samples.count(&MetricName::REQUESTS).unwrap_or(0));
            }
        }
        out
    }

    /// The index that each node's DNS was last heard to serve.
    pub fn served(&self) -> BTreeMap<NodeId, u64> {
        self.heard.lock().nodes.iter().map(|(id, n)| (*id, n.served_index)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::convert_worker::read_report;
    use std::time::Duration;

    fn report(worker: &str, epoch: u64, seq: u64) -> WorkerWord {
        word(worker, &v1::Report { epoch, seq, ..v1::Report::default() })
    }

    fn word(worker: &str, report: &v1::Report) -> WorkerWord {
        let worker = WorkerName::new(worker).unwrap();
        let report = Some(Arc::new(read_report(&worker, report).unwrap()));
        WorkerWord { worker, age_ms: 0, report, gone: false }
    }

    fn counts(step_id: u64, pairs: Vec<v1::PairCounts>, uncounted: Vec<v1::Uncounted>) -> v1::Report {
        let counts = vec![v1::StepCounts { deployment: "production/shop".into(), step_id, pairs, uncounted }];
        v1::Report { epoch: 1, seq: 1, counts, ..v1::Report::default() }
    }

    fn requests(version: &str, count: u64) -> v1::PairCounts {
        let pair = v1::Pair { version: version.into(), digest: "a".repeat(64), spec: 1 };
        let metrics = vec![v1::Metric { name: "requests".into(), count, histogram: None }];
        v1::PairCounts { pair: Some(pair), metrics }
    }

    #[test]
    fn a_new_term_knows_nothing_and_an_old_one_is_refused() {
        let c = Collector::new(Clock::manual(0));
        c.begin_term(3);
        c.worker(1, 3, report("w1", 1, 1)).unwrap();
        let seen = |term| c.observations(term, Millis(0), Millis(50_000), Period::seconds(10));
        assert!(seen(3).workers.values().all(|w| w.known().is_some()));
        assert!(matches!(c.worker(1, 2, report("w1", 1, 2)), Err(ObserveError::Term { theirs: 2, ours: 3 })));
        // An item may come before the leader has noticed its own term.
        c.worker(2, 4, report("w2", 1, 1)).unwrap();
        c.begin_term(4);
        assert_eq!(seen(4).workers.len(), 1);
        assert!(seen(3).workers.is_empty());
    }

    #[test]
    fn requests_are_summed_up_over_the_workers_of_the_newest_step() {
        let c = Collector::new(Clock::manual(0));
        c.begin_term(1);
        let counted = |worker: &str, step, all: &[(&str, u64)]| {
            word(worker, &counts(step, all.iter().map(|(version, n)| requests(version, *n)).collect(), vec![]))
        };
        c.worker(1, 1, counted("w1", 9, &[("1.0.0", 70), ("2.0.0", 20)])).unwrap();
        c.worker(2, 1, counted("w2", 9, &[("1.0.0", 5)])).unwrap();
        c.worker(2, 1, counted("w3", 8, &[("1.0.0", 1000)])).unwrap();
        let all = c.requests();
        let shop = all.values().next().unwrap();
        assert_eq!(shop.iter().map(|(v, n)| (v.as_str(), *n)).collect::<Vec<_>>(), [("1.0.0", 75), ("2.0.0", 20)]);
    }

    #[test]
    fn what_a_worker_could_not_count_arrives_as_unknown_with_its_reason() {
        let c = Collector::new(Clock::manual(0));
        c.begin_term(1);
        let seen = requests("2.0.0", 40);
        let why = "no series has a label".into();
        let errors = v1::Uncounted { pair: seen.pair.clone(), metric: "errors".into(), why };
        c.worker(1, 1, word("w1", &counts(9, vec![seen], vec![errors]))).unwrap();
        let all = c.observations(1, Millis(0), Millis(50_000), Period::seconds(10)).counts;
        let counts = all.values().flat_map(BTreeMap::values).next().unwrap();
        let pair = counts.pairs.keys().next().unwrap();
        assert_eq!(counts.why_unknown(pair, &MetricName::ERRORS), Some("no series has a label"));
        assert_eq!(counts.why_unknown(pair, &MetricName::REQUESTS), None);
    }

    #[test]
    fn newest_report_wins_and_silence_is_told_apart() {
        let clock = Clock::manual(0);
        clock.advance(Duration::from_secs(100));
        let c = Collector::new(clock.clone());
        c.begin_term(1);
        c.worker(1, 1, report("w1", 2, 5)).unwrap();
        c.worker(2, 1, report("w1", 1, 9)).unwrap();
        assert_eq!(c.holder(&WorkerName::new("w1").unwrap()), Some(1));
        c.worker(2, 1, report("w1", 2, 6)).unwrap();
        c.worker(1, 1, WorkerWord { gone: true, ..report("w1", 0, 0) }).unwrap();
        assert_eq!(c.holder(&WorkerName::new("w1").unwrap()), Some(2));
        clock.advance(Duration::from_secs(10));
        let seen = c.observations(1, Millis(0), Millis(50_000), Period::seconds(10));
        assert!(matches!(seen.workers.values().next(), Some(Seen::Silent { since: Millis(40_000) })));
    }
}
