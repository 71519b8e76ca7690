//! Workers: registration, committed facts, lost and found.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    sync::Arc,
};

use super::{
    EventBody, Instance, InstanceFact, PoolSlot, Presence, Rejection, Worker, WorkerFacts, alloc, assign,
    context::{Cx, Done, guard},
    drain, lost,
};
use crate::model::{Health, Life, MAX_POOL, Millis, WorkerName, unfit};

/// Most digests a worker may say it has.
const MAX_STAGED: usize = 1024;
/// Longest free text of an agent that is kept.
const MAX_TEXT: usize = 512;

/// What a worker says of itself at registration.
pub(super) struct Form<'a> {
    pub key: &'a str,
    pub labels: &'a BTreeMap<String, String>,
    pub capacity: u32,
    pub build: &'a str,
    pub host: &'a str,
    pub pool: &'a [String],
    pub absent: &'a [String],
    pub keeping: &'a str,
}

fn check(name: &WorkerName, f: &Form<'_>) -> Done {
    let bad = |text: String| Err(Rejection::Invalid(format!("worker {name}: {text}")));
    WorkerName::new(name.as_str()).map_err(|e| Rejection::Invalid(e.to_string()))?;
    if f.key.len() != 64 || !f.key.bytes().all(|b| b.is_ascii_hexdigit()) {
        return bad("the key is not 64 hexadecimal digits".into());
    }
    if f.capacity == 0 || f.capacity > 10_000 {
        return bad(format!("capacity {} is not from 1 to 10000", f.capacity));
    }
    if f.labels.len() > 64 || f.labels.iter().any(|(k, v)| k.is_empty() || k.len() > 128 || v.len() > 256) {
        return bad("labels: at most 64, names up to 128 and values up to 256 characters".into());
    }
    if f.build.len() > 128 {
        return bad("its version text is longer than 128 characters".into());
    }
    if f.keeping.len() > MAX_TEXT {
        return bad(format!("what it says of keeping processes together is longer than {MAX_TEXT} bytes"));
    }
    if f.pool.len() > MAX_POOL {
        return bad(format!("a pool of {} addresses is over the limit of {MAX_POOL}", f.pool.len()));
    }
    // The machine's own address may be absent too.
    if f.absent.len() > MAX_POOL + 1 {
        return bad(format!("{} absent addresses are over the limit of {}", f.absent.len(), MAX_POOL + 1));
    }
    for a in f.pool.iter().chain(f.absent).map(String::as_str).chain([f.host]) {
        if a.parse::<IpAddr>().is_err() {
            return bad(format!("{a:?} is not an IP address"));
        }
    }
    for a in f.pool.iter().map(String::as_str).chain([f.host]) {
        if let Some(why) = a.parse().ok().and_then(unfit) {
            return bad(format!("{a} {why}: no instance can have it"));
        }
    }
    Ok(())
}

/// `WorkerRegistered`: new, or changed.
pub(super) fn registered(cx: &mut Cx<'_>, name: &WorkerName, form: &Form<'_>) -> Done {
    check(name, form)?;
    let known = cx.s.workers.get(name).cloned();
    if known.as_ref().is_some_and(|w| w.key != form.key) {
        return Err(Rejection::Conflict {
            what: format!(
                "worker name {name} is taken by another machine (its key differs): give this one another with --name"
            ),
        });
    }
    for a in form.pool {
        let ip: IpAddr = a.parse().map_err(|_| Rejection::Invalid(format!("{a:?} is not an IP address")))?;
        if let Some(other) = cx.s.workers.with_address(ip).find(|w| *w != name) {
            return Err(Rejection::Conflict {
                what: format!("address {a} is in the pool of worker {other} already: pools must not overlap"),
            });
        }
    }
    let limit = cx.settings().limits.workers;
    if known.is_none() && cx.s.workers.len() >= limit as usize {
        return Err(Rejection::Exhausted {
            what: "workers".into(),
            limit: u64::from(limit),
            fix: "remove one that is not used".into(),
        });
    }
    let is_new = known.is_none();
    let mut row = known.unwrap_or_else(|| Worker {
        meta: cx.new_meta(),
        name: name.clone(),
        key: form.key.into(),
        capacity: 0,
        build: String::new(),
        host: String::new(),
        pool: Arc::default(),
        absent: Vec::new(),
        withdrawn: BTreeSet::new(),
        keeping: String::new(),
        presence: Presence::Ready,
        registered_at: cx.now(),
        lost_at: None,
        set_generation: 0,
        staged: Vec::new(),
        report: (0, 0),
    });
    let before = row.clone();
    row.meta.labels = form.labels.clone();
    row.capacity = form.capacity;
    row.build = form.build.into();
    row.host = form.host.into();
    row.absent = form.absent.to_vec();
    row.keeping = form.keeping.into();
    // An address in use stays until its instance is gone, whatever the worker says now.
    let pool = Arc::make_mut(&mut row.pool);
    pool.retain(|a, slot| form.pool.contains(a) || matches!(slot, PoolSlot::Used(_)));
    for a in form.pool {
        pool.entry(a.clone()).or_insert(PoolSlot::Free { since: 0, last: None });
    }
    row.withdrawn = row.pool.keys().filter(|a| !form.pool.contains(a)).cloned().collect();
    if is_new || row != before {
        let mut what = if is_new { "registered" } else { "changed" }.to_owned();
        if row.absent != before.absent
            && let Some(first) = row.absent.first()
        {
            let more = row.absent.len() - 1;
            let more = if more == 0 { String::new() } else { format!(" and {more} more") };
            what = format!("{what}; its machine lacks {first}{more}");
        }
        cx.emit(EventBody::WorkerChanged { worker: name.clone(), what });
        row.registered_at = cx.now();
        cx.put_worker(row);
    }
    Ok(())
}

/// `WorkerLost`.
pub(super) fn lost(cx: &mut Cx<'_>, name: &WorkerName, last_heard: Millis) -> Done {
    let Some(mut w) = cx.s.workers.get(name).cloned() else { return Err(unknown(cx, name)) };
    if w.presence == Presence::Lost {
        return guard(format!("worker {name} is lost already"));
    }
    w.presence = Presence::Lost;
    w.lost_at = Some(last_heard.min(cx.now()));
    cx.put_worker(w);
    cx.emit(EventBody::WorkerChanged { worker: name.clone(), what: "lost".into() });
    Ok(())
}

/// `WorkerReturned`.
pub(super) fn returned(cx: &mut Cx<'_>, name: &WorkerName) -> Done {
    let Some(mut w) = cx.s.workers.get(name).cloned() else { return Err(unknown(cx, name)) };
    if w.presence == Presence::Ready {
        return guard(format!("worker {name} is not lost"));
    }
    w.presence = Presence::Ready;
    w.lost_at = None;
    cx.put_worker(w);
    lost::back(cx, name);
    cx.emit(EventBody::WorkerChanged { worker: name.clone(), what: "returned".into() });
    Ok(())
}

fn unknown(cx: &Cx<'_>, name: &WorkerName) -> Rejection {
    let near = super::catalog::hint(name.as_str(), cx.s.workers.keys());
    Rejection::not_found("worker", name, near)
}

/// `FactsRecorded`: reports above each worker's fence; everything unknown is skipped.
pub(super) fn facts(cx: &mut Cx<'_>, workers: &[WorkerFacts]) -> Done {
    let mut any = false;
    for f in workers {
        let Some(mut w) = cx.s.workers.get(&f.worker).cloned() else { continue };
        if (f.epoch, f.seq) <= w.report {
            continue;
        }
        any = true;
        w.report = (f.epoch, f.seq);
        if let Some(staged) = &f.staged {
            w.staged = staged.iter().take(MAX_STAGED).cloned().collect();
            w.staged.sort();
            w.staged.dedup();
        }
        cx.put_worker(w);
        for r in &f.reached {
            let key = (f.worker.clone(), r.deployment.clone());
            let Some(mut a) = cx.s.assignments.get(&key).cloned() else { continue };
            let older = a.reached.as_ref().is_some_and(|(g, _)| *g > r.generation);
            if r.generation > a.generation || older {
                continue;
            }
            a.reached = Some((r.generation, clip(&r.reached)));
            cx.put_assignment(key, a);
        }
        for fact in &f.instances {
            if let Some(i) = cx.s.instances.get(&fact.id).filter(|i| i.worker == f.worker).cloned() {
                instance(cx, i, fact);
            }
        }
    }
    if any { Ok(()) } else { guard("no report is newer than what is committed") }
}

fn clip(r: &super::Reached) -> super::Reached {
    use super::Reached::{Accepted, Active, Committed, Failed, Refused, Staged};
    match r {
        Failed(text) => Failed(cut(text)),
        Refused { packages, detail } => {
            Refused { packages: packages.iter().take(MAX_STAGED).cloned().collect(), detail: cut(detail) }
        }
        Accepted | Staged | Active | Committed => r.clone(),
    }
}

/// Cuts free text at a character's edge.
pub(super) fn cut(text: &str) -> String {
    text.chars().take(MAX_TEXT).collect()
}

/// Where a report takes a life; `None`: it says nothing new.
fn next_life(now: Life, said: Life) -> Option<Life> {
    match (now, said) {
        // Ended is ended: ids are never used again.
        (Life::Gone | Life::Failed, _) => None,
        // State's own words are never a report.
        (_, Life::Draining | Life::Stopping) => None,
        // A restart with back-off is still the same running instance; its health says the rest.
        (Life::Starting | Life::Running | Life::Draining | Life::Stopping, Life::Starting) => None,
        (Life::Starting, Life::Running) => Some(Life::Running),
        (Life::Running | Life::Draining | Life::Stopping, Life::Running) => None,
        (Life::Starting | Life::Running, Life::Gone | Life::Failed) => Some(Life::Failed),
        (Life::Draining, Life::Gone) => Some(Life::Gone),
        (Life::Draining, Life::Failed) => Some(Life::Failed),
        (Life::Stopping, Life::Gone | Life::Failed) => Some(Life::Gone),
    }
}

fn instance(cx: &mut Cx<'_>, mut i: Instance, fact: &InstanceFact) {
    if !i.life.is_live() {
        return;
    }
    // A worker that was never told of it cannot speak of it (in place: it waits for the one it replaces). A stopping one has lost its
    // entry and is the exception.
    if i.life != Life::Stopping && !assign::has_entry(&cx.s, &i) {
        return;
    }
    if let Some(to) = next_life(i.life, fact.life) {
        cx.move_life(&mut i, to);
    }
    let health = if i.life.is_live() { fact.health } else { Health::Unknown };
    if i.health != health {
        i.health = health;
        i.health_index = cx.at.index;
    }
    i.passed_once |= health == Health::Passing;
    i.failures = fact.failures;
    i.restarts = i.restarts.max(fact.restarts);
    i.exit = fact.exit.as_deref().map(cut);
    let ended = !i.life.is_live();
    cx.put_instance(i.clone());
    if ended {
        alloc::free(cx, &i);
        if assign::has_entry(&cx.s, &i) {
            assign::remove(cx, &i.worker, &i.deployment, &[i.id]);
        }
        successors(cx, &i);
    }
}

/// Who takes the place of an instance that ended: one that still stops at their address is now whom they wait for, and who was not told
/// yet, as it ended without being stopped, begins.
fn successors(cx: &mut Cx<'_>, old: &Instance) {
    let before = drain::before(&cx.s, old).map(|b| b.id);
    let next: Vec<Instance> =
        cx.s.instances_of(&old.deployment)
            .filter(|i| i.replaces == Some(old.id) && i.life.is_live())
            .cloned()
            .collect();
    for mut i in next {
        let told = assign::has_entry(&cx.s, &i);
        if before.is_some() {
            i.replaces = before;
            cx.put_instance(i.clone());
        }
        let entry = assign::entry(&i);
        if told && before.is_some() {
            assign::edit(cx, &i.worker, &i.deployment, assign::Allow::Keep, false, |c| {
                c.instances.iter_mut().filter(|e| e.id == entry.id).for_each(|e| *e = entry.clone());
            });
        } else if !told && i.life == Life::Starting {
            if let Some(mut w) = cx.s.workers.get(&i.worker).cloned() {
                if let Some(slot) = Arc::make_mut(&mut w.pool).get_mut(&i.address) {
                    *slot = PoolSlot::Used(i.id);
                }
                cx.put_worker(w);
            }
            let allow = assign::Allow::Set(super::Permit::Activate);
            assign::edit(cx, &i.worker, &i.deployment, allow, true, |c| c.instances.push(entry));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::next_life;
    use crate::model::Life;
    use crate::state::lifecycle;

    #[test]
    fn every_report_moves_along_the_table_or_not_at_all() {
        let all = [Life::Starting, Life::Running, Life::Draining, Life::Stopping, Life::Gone, Life::Failed];
        for now in all {
            for said in all {
                if let Some(to) = next_life(now, said) {
                    assert!(lifecycle::life(now, to), "{now} + {said} -> {to}");
                }
            }
        }
        assert_eq!(next_life(Life::Running, Life::Gone), Some(Life::Failed), "not asked to go");
        assert_eq!(next_life(Life::Stopping, Life::Gone), Some(Life::Gone));
        assert_eq!(next_life(Life::Draining, Life::Running), None);
    }
}
