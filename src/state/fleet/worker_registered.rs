//! `WorkerRegistered`: a worker is new, or its registration changed.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    sync::Arc,
};

use super::{alloc, worker_rekeyed, workers::MAX_TEXT};
use crate::state::base::prelude::*;

fn check(name: &WorkerName, f: &WorkerRegistered) -> Done {
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
    for a in f.pool.iter().chain(&f.absent).map(String::as_str).chain([f.host.as_str()]) {
        if a.parse::<IpAddr>().is_err() {
            return bad(format!("{a:?} is not an IP address"));
        }
    }
    for a in f.pool.iter().map(String::as_str).chain([f.host.as_str()]) {
        if let Some(why) = a.parse().ok().and_then(unfit) {
            return bad(format!("{a} {why}: no instance can have it"));
        }
    }
    Ok(())
}

fields! {
    /// A worker is new, or its registration changed.
    #[derive(Debug, Clone, PartialEq)]
    pub struct WorkerRegistered {
        1 [required] pub name: WorkerName,
        /// Its public key.
        2 pub key: String,
        3 pub labels: BTreeMap<String, String>,
        /// Instances at most.
        4 pub capacity: u32,
        /// Agent's version.
        5 pub build: String,
        /// Machine's own address.
        6 pub host: String,
        /// Pool addresses that its machine has.
        7 pub pool: Vec<String>,
        /// Addresses of its configuration that its machine does not have.
        8 pub absent: Vec<String>,
        /// How the processes of an instance are kept together there.
        9 pub keeping: String,
    }
}

impl Apply for WorkerRegistered {
    fn apply(&self, cx: &mut Cx<'_>) -> Done {
        let Self { name, .. } = self;
        check(name, self)?;
        let other = cx.s.workers.get(name).filter(|w| w.key != self.key);
        let taken_over = other.is_some_and(|w| worker_rekeyed::allowed(w, cx.now()));
        if other.is_some() && !taken_over {
            return Err(Rejection::Conflict {
                what: format!(
                    "worker name {name} is taken by another machine (its key differs): give this one another with --name, or, if it is \
                     to take that machine's place, let it: `slipway worker rekey {name}`"
                ),
            });
        }
        for a in &self.pool {
            let ip: IpAddr = a.parse().map_err(|_| Rejection::Invalid(format!("{a:?} is not an IP address")))?;
            if let Some(other) = cx.s.workers.with_address(ip).find(|w| *w != name) {
                return Err(Rejection::Conflict {
                    what: format!("address {a} is in the pool of worker {other} already: pools must not overlap"),
                });
            }
        }
        if taken_over {
            worker_rekeyed::take_over(cx, name, &self.key);
        }
        let known = cx.s.workers.get(name).cloned();
        let limit = cx.settings().limits.workers;
        if known.is_none() && cx.s.workers.len() >= limit as usize {
            return Err(Rejection::Exhausted {
                what: "workers".into(),
                limit: u64::from(limit),
                fix: "remove one that is not used".into(),
            });
        }
        let is_new = known.is_none();
        let parted = cx.s.cluster.as_ref().map(|c| c.parted).unwrap_or_default();
        let mut row = known.unwrap_or_else(|| Worker {
            meta: cx.new_meta(),
            name: name.clone(),
            key: self.key.clone(),
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
            set_generation: parted.generation,
            staged: Vec::new(),
            report: (parted.epoch, 0),
            rekey_until: None,
        });
        let before = row.clone();
        row.meta.labels = self.labels.clone();
        row.capacity = self.capacity;
        row.build = self.build.clone();
        row.host = self.host.clone();
        row.absent = self.absent.to_vec();
        row.keeping = self.keeping.clone();
        // An address in use stays until its instance is gone, whatever the worker says now.
        let pool = Arc::make_mut(&mut row.pool);
        let mut vacated = 0;
        pool.retain(|a, slot| match slot {
            PoolSlot::Used(_) => true,
            PoolSlot::Free { since, .. } => {
                let stays = self.pool.contains(a);
                vacated = vacated.max(if stays { 0 } else { *since });
                stays
            }
        });
        let new = alloc::new_slot(cx.s);
        for a in &self.pool {
            pool.entry(a.clone()).or_insert_with(|| new.clone());
        }
        alloc::part(cx, |p| p.vacated = p.vacated.max(vacated));
        row.withdrawn = row.pool.keys().filter(|a| !self.pool.contains(a)).cloned().collect();
        if is_new || taken_over || row != before {
            let mut what = match (is_new, taken_over) {
                (true, _) => "registered".to_owned(),
                (false, true) => "is another machine from here on".to_owned(),
                (false, false) => "changed".to_owned(),
            };
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
}
