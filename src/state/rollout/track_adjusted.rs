//! `TrackAdjusted`: the keeper's change of an idle deployment: new instances, drains, tracks whose time is over. Traffic that an abort
//! left on the candidate goes back to stable as soon as half of it passes.

use super::{back, batches};
use crate::state::{
    base::prelude::*,
    fleet::{
        alloc,
        assign::{self, Allow},
        drain, serving,
    },
    traffic::switches,
};

/// Most instances one adjustment adds.
const MAX_ADD: u32 = 1000;

fields! {
    /// The keeper's change of an idle deployment: new instances on a track, or drains.
    #[derive(Debug, Clone, PartialEq)]
    pub struct TrackAdjusted {
        1 [required] pub deployment: DeploymentId,
        /// Its revision seen.
        2 pub seen: u64,
        /// New instances: pair's track, worker, how many.
        3 pub add: Vec<(TrackName, WorkerName, u32)>,
        /// Instances to drain.
        4 pub drain: Vec<InstanceId>,
        /// Desired count of stable from now on.
        5 pub desired: u32,
        /// Tracks whose time is over and that have no live instance left: forgotten.
        6 pub drop: Vec<TrackName>,
    }
}

impl Apply for TrackAdjusted {
    fn apply(&self, cx: &mut Cx<'_>) -> Done {
        let &Self { deployment: ref id, seen, .. } = self;
        let mut d = cx.lasting(id)?;
        if d.meta.revision != seen {
            return Err(Rejection::Stale { seen, now: d.meta.revision });
        }
        if let Some(rollout) = d.live {
            return guard(format!("{rollout} owns {id}"));
        }
        switches::not_switching(cx, id)?;
        let limit = cx.settings().limits.instances_per_deployment;
        let adding = self.add.iter().fold(0u32, |n, (_, _, k)| n.saturating_add(*k));
        if adding > MAX_ADD || self.desired > limit {
            return guard(format!("{adding} new instances and {} desired are over {MAX_ADD}, {limit}", self.desired));
        }
        check_drains(cx, &d.tracks, id, self)?;
        check_yield(cx, &d, self)?;
        if let Some(left) = &d.as_is {
            let adds = self.add.iter().any(|(t, _, _)| d.tracks.get(*t).is_some_and(|t| t.pair == left.given_up));
            if adds {
                return guard(format!(
                    "{} was given up by {}: nobody adds instances of it",
                    left.given_up, left.rollout
                ));
            }
        }
        d.desired = self.desired;
        drain::begin(cx, &self.drain);
        for (track, worker, n) in &self.add {
            add(cx, &d.tracks, id, *track, worker, *n)?;
        }
        for (name, slot) in [
            (TrackName::Stable, &mut d.tracks.stable),
            (TrackName::Candidate, &mut d.tracks.candidate),
            (TrackName::Previous, &mut d.tracks.previous),
        ] {
            if let Some(t) = slot.as_mut().filter(|_| d.as_is.is_none()) {
                t.want = if name == TrackName::Stable { self.desired } else { serving::wanted(&cx.s, id, &t.pair) };
            }
        }
        for name in &self.drop {
            drop_track(cx, &mut d.tracks, id, *name)?;
        }
        if d.as_is.is_none() {
            back::follow_back(cx, &mut d);
        }
        let weights = d.route.as_ref().map(|r| r.weights).unwrap_or_default();
        check_weights(&d.tracks, weights)?;
        cx.put_deployment(d);
        assign::refresh(cx, id);
        Ok(())
    }
}

/// Stable never loses more than what is above the desired count (with what is added) or on lost workers.
fn check_drains(cx: &Cx<'_>, tracks: &Tracks, id: &DeploymentId, c: &TrackAdjusted) -> Done {
    let leaving = drain::check_ids(cx, id, &c.drain)?;
    let Some(stable) = &tracks.stable else { return Ok(()) };
    let of_stable = |i: &&Instance| i.pair == stable.pair && i.life.is_wanted() && serving::ready(&cx.s, i);
    let loses = leaving.iter().filter(of_stable).count();
    let has = cx.s.instances_of(id).filter(of_stable).count();
    let adds = c.add.iter().filter(|(t, _, _)| *t == TrackName::Stable).map(|(_, _, n)| *n as usize);
    let then = adds.fold(has.saturating_sub(loses), usize::saturating_add);
    if loses > 0 && then < c.desired as usize {
        return guard(format!("{then} of {} stable instances would be left", c.desired));
    }
    Ok(())
}

/// What serves beside stable makes room for it bit by bit: never more than may be missing goes at once.
fn check_yield(cx: &Cx<'_>, d: &Deployment, c: &TrackAdjusted) -> Done {
    let weights = d.route.as_ref().map(|r| r.weights).unwrap_or_default();
    let shares = |i: &Instance| {
        let mut others = d.tracks.iter().filter(|(name, _)| *name != TrackName::Stable);
        others.any(|(name, t)| t.pair == i.pair && weights.get(name).0 > 0)
    };
    let leaving = drain::check_ids(cx, &d.id, &c.drain)?;
    let serves = |i: &Instance| i.serves() && serving::ready(&cx.s, i);
    if !leaving.iter().any(|i| shares(i) && serves(i)) {
        return Ok(());
    }
    let is_stable = |i: &Instance| d.tracks.stable.as_ref().is_some_and(|t| t.pair == i.pair);
    let stays = |i: &&Instance| serves(i) && (is_stable(i) || shares(i)) && !c.drain.contains(&i.id);
    let left = cx.s.instances_of(&d.id).filter(stays).count();
    let floor = cx.s.floor(d, c.desired) as usize;
    if left < floor {
        return guard(format!("{left} healthy instances would be left and at least {floor} must be"));
    }
    Ok(())
}

fn add(cx: &mut Cx<'_>, tracks: &Tracks, id: &DeploymentId, track: TrackName, worker: &WorkerName, n: u32) -> Done {
    let Some(t) = tracks.get(track) else { return guard(format!("there is no {track:?} track")) };
    let pair = t.pair.clone();
    let Some(spec) = cx.s.spec(id, pair.spec).cloned() else { return guard("its spec is gone") };
    if !serving::hears(&cx.s, worker) {
        return guard(format!("worker {worker} is unknown or lost"));
    }
    let ports = alloc::ports(&spec);
    for _ in 0..n {
        let mut i = batches::new_instance(cx, id, &pair, worker);
        i.ports = ports.clone();
        i.address = alloc::take(cx, worker, id, &spec, i.id)?;
        let entry = assign::entry(&i);
        cx.put_instance(i);
        // A known-good pair: no probation, so that a slow start is waited for and not undone.
        assign::edit(cx, worker, id, Allow::Set(Permit::Commit), true, |c| c.instances.push(entry));
    }
    Ok(())
}

fn drop_track(cx: &Cx<'_>, tracks: &mut Tracks, id: &DeploymentId, name: TrackName) -> Done {
    let slot = match name {
        TrackName::Stable => return guard("the stable track is never dropped"),
        TrackName::Candidate => &mut tracks.candidate,
        TrackName::Previous => &mut tracks.previous,
    };
    let Some(t) = slot else { return guard(format!("there is no {name:?} track")) };
    let live = cx.s.instances_of(id).filter(|i| i.pair == t.pair && drain::holds_up(&cx.s, i)).count();
    if live > 0 {
        return guard(format!("{live} instances of {} are still there", t.pair));
    }
    *slot = None;
    Ok(())
}

/// No track that has weight may be missing.
fn check_weights(tracks: &Tracks, weights: RouteWeights) -> Done {
    for name in [TrackName::Stable, TrackName::Candidate, TrackName::Previous] {
        if weights.get(name).0 > 0 && tracks.get(name).is_none() {
            return guard(format!("the {name:?} track still has traffic"));
        }
    }
    Ok(())
}
