//! Which releases something needs: what runs them, moves to or from them, or could go back to them.

use std::collections::BTreeMap;

use crate::state::base::prelude::*;

/// The release, as somebody names it.
pub(in crate::state) fn named(cx: &Cx<'_>, service: &Name, version: &Version) -> Result<Release, Rejection> {
    let found = cx.s.releases.get(&(service.clone(), version.clone())).cloned();
    found.ok_or_else(|| missing(cx, service, version))
}

/// The refusal of a release that is not there.
pub(in crate::state) fn missing(cx: &Cx<'_>, service: &Name, version: &Version) -> Rejection {
    let known = cx.s.releases_of(service).map(|r| &r.version);
    Rejection::missing(Named::Release, format_args!("{service} {version}"), known)
}

/// What of a service is needed, and why.
pub(in crate::state) struct Needed {
    versions: BTreeMap<Version, String>,
    /// Set while every version is.
    all: Option<String>,
}

impl Needed {
    /// Looked up once for all versions of a service.
    pub fn of(s: &State, service: &Name) -> Self {
        let mut needed = Self { versions: BTreeMap::new(), all: None };
        for d in s.deployments_of(service) {
            needed.by(s, d);
        }
        needed
    }

    /// What needs a version, and what ends that.
    pub fn why(&self, version: &Version) -> Option<&String> {
        self.versions.get(version).or(self.all.as_ref())
    }

    fn by(&mut self, s: &State, d: &Deployment) {
        let id = &d.id;
        let mut need = |pair: &Pair, why: String| {
            self.versions.entry(pair.version.clone()).or_insert(why);
        };
        if let Some(r) = s.live_rollout(id) {
            for pair in r.from.iter().chain([&r.to]) {
                need(pair, format!("{} of {id} is under way with it: wait for its end", r.id));
            }
        }
        if s.fences.switching(id).is_some() {
            self.all.get_or_insert(format!("the traffic of {id} is being switched: wait for its end"));
            return;
        }
        if let Some(stable) = d.arms.pair(Role::Stable) {
            let why = if d.is_stopped() {
                format!("{id} is stopped and comes back with it: `slipway deployment remove {id}` ends that")
            } else {
                format!("{id} runs it: start another version first")
            };
            need(stable, why);
        }
        let live = s.instances_of(id).filter(|i| i.life.is_live()).map(|i| &i.pair);
        for pair in d.arms.iter().map(|a| &a.pair).chain(live) {
            let what = if d.is_stopped() {
                format!("it is kept for a start of {id}: it goes when its time is over")
            } else {
                format!("instances of it still run for {id}: they go when their time is over")
            };
            need(pair, format!("{what}, see `slipway deployment show {id}`"));
        }
        if let Some((r, from)) = s.undoable(d).filter(|r| !r.is_rollback()).and_then(|r| Some((r, r.from.as_ref()?))) {
            let until = "it is free once another rollout has completed";
            need(from, format!("a rollback of {} would take {id} back to it: {until}", r.id));
        }
    }
}

/// Refuses what would take a release away that something needs.
pub(in crate::state) fn check(s: &State, service: &Name, version: &Version) -> Done {
    match Needed::of(s, service).why(version) {
        Some(why) => Err(Rejection::Precondition(format!("{service} {version} is needed: {why}"))),
        None => Ok(()),
    }
}
