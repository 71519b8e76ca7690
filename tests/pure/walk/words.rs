//! What a leader hears in a walk: servers that lag, are silent or not heard at all, workers whose instances break,
//! agents that start anew, and the counts at a step's end. All of it is made of the present State and of a pick.

use super::*;

/// What a leader would have heard by now. Servers lag by up to 50 entries, are silent or not heard at all, as `luck`
/// has it; with 0 all serve what is applied.
pub fn heard(s: &State, errors: u64, luck: u32) -> Observations {
    let mut seen = Observations { leader_since: Millis(0), ..Observations::default() };
    let at = s.now;
    for n in s.nodes.values() {
        let mine = luck.rotate_right(n.id as u32 * 5);
        let lag = if luck == 0 || mine.is_multiple_of(3) { 0 } else { u64::from(mine % 51) };
        let served_index = s.applied.index.saturating_sub(lag);
        let serving_since = if mine % 16 == 5 { s.now } else { Millis(0) };
        let value = NodeSeen { served_index, serving_since, ..NodeSeen::default() };
        let word = match mine % 16 {
            1 if luck > 0 => Seen::Unknown,
            2 if luck > 0 => Seen::Silent { since: Millis(s.now.0.saturating_sub(5000)) },
            _ => Seen::Known { at, value },
        };
        seen.nodes.insert(n.id, word);
    }
    for w in s.workers.values() {
        let value = WorkerFacts {
            worker: w.name.clone(),
            epoch: w.report.0,
            seq: w.report.1,
            instances: Vec::new(),
            reached: Vec::new(),
            staged: None,
        };
        seen.workers.insert(w.name.clone(), Seen::Known { at, value });
    }
    for d in [shop(), cart()] {
        if let Some(r) = s.live_rollout(&d)
            && let Some(id) = r.running().and_then(|(_, row)| row.step_id)
        {
            let pairs = BTreeMap::from([(r.to.clone(), crate::counted(100, errors))]);
            let counts = s
                .workers
                .keys()
                .map(|w| (w.clone(), StepCounts { pairs: pairs.clone(), ..StepCounts::default() }))
                .collect();
            seen.counts.insert((d, id), counts);
        }
    }
    seen
}

/// A worker's report: mostly all is well, sometimes something broke, and sometimes its agent was started anew.
pub fn report(s: &State, name: &WorkerName, luck: u32) -> Option<WorkerFacts> {
    let w = s.workers.get(name)?;
    let mine = || s.assignments.of_worker(name);
    let entries: BTreeSet<InstanceId> = mine().flat_map(|(_, a)| a.content.instances.iter().map(|e| e.id)).collect();
    let fact = |(n, i): (usize, &slipway::state::Instance)| {
        let bad = luck.is_multiple_of(97) && n == (luck / 97) as usize % 4;
        let (life, health) = match (entries.contains(&i.id), bad) {
            (false, _) => (Life::Gone, Health::Unknown),
            (true, true) if luck.is_multiple_of(2) => (Life::Failed, Health::Unknown),
            (true, true) => (Life::Running, Health::Failing),
            (true, false) => (Life::Running, Health::Passing),
        };
        let restarts = i.restarts + u32::from(bad && luck.is_multiple_of(3));
        InstanceFact { id: i.id, life, health, failures: u32::from(bad) * 3, restarts, exit: None }
    };
    let instances =
        s.instances.values().filter(|i| &i.worker == name && i.life.is_live()).enumerate().map(fact).collect();
    let reached = |(d, a): (&DeploymentId, &slipway::state::Assignment)| ReachedFact {
        deployment: d.clone(),
        generation: a.generation,
        reached: Reached::Committed,
        // Whoever lacks something has it with a later report.
        fit: a
            .content
            .next
            .as_ref()
            .map(|_| if luck.is_multiple_of(61) { Fit::Lacks("no user".into()) } else { Fit::Fits }),
    };
    let (epoch, seq) = if luck % 53 == 7 { (w.report.0 + 1, 1) } else { (w.report.0.max(1), w.report.1 + 1) };
    Some(WorkerFacts {
        worker: name.clone(),
        epoch,
        seq,
        instances,
        reached: mine().map(reached).collect(),
        staged: Some((1..=4).map(package).collect()),
    })
}

/// What was seen at a step's end, with counts of the pair it is about; sometimes they contradict the verdict.
pub fn evidence(s: &State, r: Option<&Rollout>, verdict: Verdict, luck: u32) -> Evidence {
    let errors = if luck.is_multiple_of(3) { 60 } else { 1 };
    let of_one = |r: &Rollout| {
        let workers = [(worker(1 + luck % 4), crate::counted(100, errors))].into();
        PairSeen { pair: r.to.clone(), workers, rest: Samples::default() }
    };
    let seen = r.map(of_one).filter(|_| !luck.is_multiple_of(5)).into_iter().collect();
    let row = r.and_then(|r| r.steps.get(r.cursor as usize)).filter(|_| !luck.is_multiple_of(7));
    let checks = row.map(|row| crate::records(row.step.kind.checks(), verdict)).unwrap_or_default();
    Evidence { from: Millis(0), to: s.now, checks, seen, verdict, note: String::new() }
}
