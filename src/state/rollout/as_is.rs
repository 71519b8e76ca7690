//! A rollback that a person ends where it stands: `abort --as-is`, and `start --replace` of one.
//!
//! The version to go back to may not run any more, and then only a person can say that what serves now goes on.
//! Invariants: both versions keep their instances and their shares; the one with more traffic becomes stable, the other
//! previous; the one that was given up gets no new instances; the next rollout replaces both. Not here: ending a
//! rollout that goes forward (`operator`).

use std::cmp::Reverse;

use super::{opening, operator, turn};
use crate::state::{
    base::prelude::*,
    catalog::statuses,
    fleet::{assign, drain, serving},
    traffic::routes,
};

/// `Abort` with `as_is`.
pub(in crate::state) fn abort(cx: &mut Cx<'_>, id: RolloutId) -> Done {
    let r = cx.rollout(id)?;
    match r.status {
        RolloutStatus::Pending | RolloutStatus::Active | RolloutStatus::Paused | RolloutStatus::RollingBack => {}
        RolloutStatus::Promoting
        | RolloutStatus::Completed
        | RolloutStatus::RolledBack
        | RolloutStatus::Failed
        | RolloutStatus::Aborted => return Err(operator::lifecycle(&r, "ended as it is")),
    }
    if !r.is_way_back() {
        return Err(Rejection::Precondition(format!(
            "{id} goes forward: `slipway rollout abort {id}` puts the traffic on stable; `--as-is` ends a way back where it stands"
        )));
    }
    end_here(cx, r)
}

/// Ends a way back where it stands.
pub(in crate::state) fn end_here(cx: &mut Cx<'_>, mut r: Rollout) -> Done {
    operator::cancel_running(cx, &mut r)?;
    r.reason = Some(Reason::Operator { principal: cx.principal.to_string() });
    cx.move_rollout(&mut r, RolloutStatus::Aborted, "ended as it is")?;
    let given_up = match r.phase {
        RolloutPhase::Undo => r.from.clone(),
        RolloutPhase::Forward => Some(r.to.clone()),
    };
    turn::end(cx, r.clone())?;
    let mut d = cx.deployment(&r.deployment)?;
    match given_up {
        Some(pair) if d.tracks.stable.is_some() => keep(cx, &mut d, &r, pair),
        // A first rollout: nothing serves, and what is left of it goes.
        Some(_) | None => {
            if let Some(candidate) = d.tracks.candidate.as_mut() {
                candidate.retire_at = Some(cx.now());
            }
        }
    }
    cx.put_deployment(d);
    statuses::settle(cx, &r);
    assign::refresh(cx, &r.deployment);
    Ok(())
}

/// Arranges the two versions so that the candidate's place is free for the next rollout.
fn keep(cx: &mut Cx<'_>, d: &mut Deployment, r: &Rollout, given_up: Pair) {
    let weights = d.route.as_ref().map(|x| x.weights).unwrap_or_default();
    // What waits for a place that nobody leaves any more; and what serves and was about to leave.
    drain::cancel_pending(cx, &d.id, &given_up);
    let served: Vec<Pair> =
        d.tracks.iter().filter(|(name, _)| weights.get(*name).0 > 0).map(|(_, t)| t.pair.clone()).collect();
    for pair in &served {
        drain::revive(cx, &d.id, pair);
    }
    let mut all: Vec<(BasisPoints, Track)> = d.tracks.iter().map(|(n, t)| (weights.get(n), t.clone())).collect();
    // By share; of equal ones, what is stable stays so.
    all.sort_by_key(|(w, _)| Reverse(*w));
    let was = d.tracks.stable.as_ref().map(|t| t.pair.clone());
    let mut all = all.into_iter();
    let Some((first_share, mut first)) = all.next() else { return };
    let second = all.next();
    first.retire_at = None;
    first.want = serving::wanted(&cx.s, &d.id, &first.pair);
    let share = second.as_ref().map_or(BasisPoints(0), |(w, _)| *w);
    let previous = second.map(|(w, mut t)| {
        // Without traffic it is only kept where it is what was fled from, ready to be asked for.
        let goes = w.0 == 0 && (t.pair == given_up || r.phase == RolloutPhase::Undo);
        t.retire_at = goes.then(|| cx.now());
        t.want = serving::wanted(&cx.s, &d.id, &t.pair);
        t
    });
    let moved = was.as_ref() != Some(&first.pair);
    (d.tracks.stable, d.tracks.candidate, d.tracks.previous) = (Some(first), None, previous);
    if let Some(form) = d.route.as_ref().map(Route::form) {
        let mut weights = RouteWeights { stable: first_share, candidate: BasisPoints(0), previous: share };
        // A third version is let go of.
        let rest = WHOLE.0.saturating_sub(weights.sum());
        opening::share_out(&cx.s, d, &d.tracks, &mut weights, BasisPoints(rest));
        routes::write(cx, d, weights, BasisPoints(0), form, moved);
    }
    // Where one version serves and it is not the one that was given up, there is nothing to hold.
    let holds = share.0 > 0 || d.tracks.stable.as_ref().is_some_and(|t| t.pair == given_up);
    d.as_is = holds.then_some(AsIs { rollout: r.id, given_up });
}
