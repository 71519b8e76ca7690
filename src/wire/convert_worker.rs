//! Messages between nodes and agents: what a worker is to do (`Desired`) and what it reports (`Report`).
//!
//! Invariants: a `Desired` is whole and made from one State; a `Report` is checked before anyone believes it. Not here:
//! the session that carries them (`rpc`, `agent`).

use super::{
    convert::{pair, ports, read_metrics},
    v1,
};
use crate::{
    model::{
        AddressMode, DeploymentId, Digest, Health, InstanceId, Life, ModelError, Pair, Permit, StepId, WorkerName,
    },
    state::{Assignment, Fit, InstanceFact, Reached, ReachedFact, Reported, State, StepCounts, WorkerFacts},
};

/// Most instances, deployments or counts in one report.
const MAX_ITEMS: usize = 10_000;
const MAX_TEXT: usize = 1024;
/// An epoch counts an agent's starts; one above this is damage, and would leave no room for those after it.
const MAX_EPOCH: u64 = 1 << 48;

/// The assignments of one worker, in order of deployments.
fn assignments<'a>(
    state: &'a State,
    worker: &'a WorkerName,
) -> impl Iterator<Item = (&'a DeploymentId, &'a Assignment)> + 'a {
    state.assignments.of_worker(worker)
}

/// What a worker's part depends on; while it is equal nothing need be sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DesiredKey {
    incarnation: u64,
    set_generation: u64,
    parts: Vec<(DeploymentId, u64, Permit, Option<StepId>)>,
}

/// The key of a worker's present part; `None` for a worker that is not registered.
pub fn desired_key(state: &State, worker: &WorkerName) -> Option<DesiredKey> {
    let row = state.workers.get(worker)?;
    let parts = assignments(state, worker).map(|(d, a)| (d.clone(), a.generation, a.permit, a.mark));
    Some(DesiredKey { incarnation: state.incarnation, set_generation: row.set_generation, parts: parts.collect() })
}

/// Everything the worker is to run and hold.
pub fn desired(state: &State, worker: &WorkerName) -> Option<v1::Desired> {
    let row = state.workers.get(worker)?;
    Some(v1::Desired {
        incarnation: state.incarnation,
        index: state.applied.index,
        set_generation: row.set_generation,
        assignments: assignments(state, worker).map(|(d, a)| assignment(state, worker, d, a)).collect(),
        now_ms: state.now.0,
    })
}

fn assignment(state: &State, worker: &WorkerName, id: &DeploymentId, a: &Assignment) -> v1::Assignment {
    let hold = a.content.hold.iter().map(|digest| {
        let release = state.releases.values().find(|r| &r.digest == digest && r.service == id.service);
        v1::Hold {
            digest: digest.to_string(),
            size: state.blobs.get(digest).map_or(0, |b| b.size),
            version: release.map(|r| r.version.to_string()).unwrap_or_default(),
        }
    });
    let instances = a.content.instances.iter().map(|e| v1::Entry {
        id: e.id.to_string(),
        pair: Some(pair(&e.pair)),
        address: e.address.clone(),
        ports: ports(&e.ports),
        replaces: e.replaces.map(|r| r.to_string()).unwrap_or_default(),
    });
    let next = a.content.next.iter();
    let named: std::collections::BTreeSet<u64> =
        a.content.instances.iter().map(|e| e.pair.spec).chain(next.map(|p| p.spec)).collect();
    let specs = named.into_iter().filter_map(|revision| {
        // A spec holds no map with keys that are not text, so it always has a JSON form.
        let json = serde_json::to_string(state.spec(id, revision)?.as_ref()).ok()?;
        Some(v1::SpecDoc { revision, json })
    });
    v1::Assignment {
        deployment: id.to_string(),
        generation: a.generation,
        content_digest: a.content_digest,
        permit: a.permit.to_string(),
        hold: hold.collect(),
        instances: instances.collect(),
        specs: specs.collect(),
        current: a.content.current.as_ref().map(pair),
        previous: a.content.previous.as_ref().map(pair),
        mark: a.mark.map_or(0, |m| m.0),
        next: a.content.next.as_ref().map(|p| v1::Next { pair: Some(pair(p)), address: address(state, id, worker, p) }),
    }
}

/// Where the only instance of a pair that a worker can have will listen; empty where the batch chooses.
fn address(state: &State, id: &DeploymentId, worker: &WorkerName, pair: &Pair) -> String {
    match state.spec(id, pair.spec).map(|spec| spec.address) {
        Some(AddressMode::Host) => state.workers.get(worker).map(|w| w.host.clone()).unwrap_or_default(),
        Some(AddressMode::Pool) | None => String::new(),
    }
}

fn bad(value: &str, expected: &'static str) -> ModelError {
    ModelError::BadValue { value: value.chars().take(80).collect(), expected }
}

fn life(s: &str) -> Result<Life, ModelError> {
    let reported = s.parse().ok().filter(|life| !matches!(life, Life::Draining | Life::Stopping));
    reported.ok_or_else(|| bad(s, "a life that an agent reports (starting, running, gone, failed)"))
}

fn health(s: &str) -> Result<Health, ModelError> {
    if s.is_empty() {
        return Ok(Health::Unknown);
    }
    s.parse().map_err(|_| bad(s, "a health (unknown, passing, failing)"))
}

fn cut(s: &str) -> String {
    s.chars().take(MAX_TEXT).collect()
}

fn reached(r: &v1::ReachedReport) -> Result<ReachedFact, ModelError> {
    let reached = match r.state.as_str() {
        "accepted" => Reached::Accepted,
        "staged" => Reached::Staged,
        "active" => Reached::Active,
        "committed" => Reached::Committed,
        "failed" => Reached::Failed(cut(&r.detail)),
        "refused" => {
            let packages = r.packages.iter().take(MAX_ITEMS).map(|d| Digest::new(d)).collect::<Result<_, _>>()?;
            Reached::Refused { packages, detail: cut(&r.detail) }
        }
        other => {
            let states = "a state that an agent reaches (accepted, staged, active, committed, failed, refused)";
            return Err(bad(other, states));
        }
    };
    let fit = match r.fit.as_str() {
        "" => None,
        "fits" => Some(Fit::Fits),
        "lacks" => Some(Fit::Lacks(cut(&r.lacks))),
        other => return Err(bad(other, "whether a machine has what is asked for (fits, lacks)")),
    };
    Ok(ReachedFact { deployment: r.deployment.parse()?, generation: r.generation, reached, fit })
}

/// A pair from the outside.
pub fn read_pair(p: &v1::Pair) -> Result<Pair, ModelError> {
    Ok(Pair { version: p.version.parse()?, digest: Digest::new(&p.digest)?, spec: p.spec })
}

/// A report from the outside, whole.
pub fn read_report(worker: &WorkerName, r: &v1::Report) -> Result<Reported, ModelError> {
    if r.instances.len() > MAX_ITEMS
        || r.reached.len() > MAX_ITEMS
        || r.staged.len() > MAX_ITEMS
        || r.counts.len() > MAX_ITEMS
    {
        return Err(ModelError::field("report", format!("holds more than {MAX_ITEMS} rows of a kind")));
    }
    let instances = r.instances.iter().map(|i| {
        Ok(InstanceFact {
            id: i.id.parse::<InstanceId>()?,
            life: life(&i.life)?,
            health: health(&i.health)?,
            failures: i.failures,
            restarts: i.restarts,
            exit: (!i.exit.is_empty()).then(|| cut(&i.exit)),
        })
    });
    let staged: Result<Vec<Digest>, ModelError> = r.staged.iter().map(|d| Digest::new(d)).collect();
    if r.epoch > MAX_EPOCH {
        return Err(ModelError::field("epoch", format!("{} is above {MAX_EPOCH}", r.epoch)));
    }
    let facts = WorkerFacts {
        worker: worker.clone(),
        epoch: r.epoch,
        seq: r.seq,
        instances: instances.collect::<Result<_, ModelError>>()?,
        reached: r.reached.iter().map(reached).collect::<Result<_, _>>()?,
        staged: Some(staged?),
    };
    Ok(Reported { facts, counts: r.counts.iter().map(step_counts).collect::<Result<_, _>>()? })
}

/// Whole-step totals.
fn step_counts(c: &v1::StepCounts) -> Result<(DeploymentId, StepId, StepCounts), ModelError> {
    let named = |pair: &Option<v1::Pair>| {
        read_pair(pair.as_ref().ok_or_else(|| ModelError::field("counts", "a pair is missing"))?)
    };
    let mut counts = StepCounts::default();
    for p in &c.pairs {
        counts.pairs.insert(named(&p.pair)?, read_metrics(&p.metrics)?);
    }
    for u in &c.uncounted {
        counts.unknown.entry(named(&u.pair)?).or_default().insert(u.metric.parse()?, cut(&u.why));
    }
    Ok((c.deployment.parse()?, StepId(c.step_id), counts))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        model::{Histogram, Sample, Samples},
        wire::convert::metrics,
    };

    #[test]
    fn what_is_counted_arrives_as_it_was_sent_and_nonsense_is_refused_by_name() {
        let histogram = Histogram::new(vec![(5_000, 3), (10_000, 7)], 61_000, 9).unwrap();
        let all = [("latency", Sample::Histogram(histogram)), ("requests", Sample::Counter(9))];
        let all: Samples = all.into_iter().map(|(name, s)| (name.parse().unwrap(), s)).collect();
        let sent = metrics(&all);
        assert_eq!(sent[0].name, "requests", "in the order in which people are told");
        assert_eq!(read_metrics(&sent).unwrap(), all);
        let refused = |change: &dyn Fn(&mut v1::Metric)| {
            let mut bad = sent.clone();
            change(&mut bad[1]);
            read_metrics(&bad).unwrap_err().to_string()
        };
        let bounds = |m: &mut v1::Metric, to: Vec<u64>| m.histogram.as_mut().unwrap().bounds = to;
        assert!(refused(&|m| m.name = "a b".into()).contains("is not the name of a metric"));
        assert!(refused(&|m| m.name = "requests".into()).contains("counts.requests: comes twice"));
        assert!(refused(&|m| bounds(m, vec![7])).contains("counts.latency: has 1 bounds and 2 counts"));
        assert!(refused(&|m| bounds(m, vec![7, 7])).contains("counts.latency: has bounds that do not rise"));
        let many = vec![v1::Metric::default(); 11];
        assert!(read_metrics(&many).unwrap_err().to_string().contains("counts: names 11 metrics, and at most 10"));
    }
}
