//! A rollback that a person ends where it stands: `abort --as-is`, and `start --replace` of one.
//!
//! The version to go back to may not run any more, and then only a person can say that what serves now goes on.
//! Invariants: both versions keep their instances and their shares; the one with more traffic becomes stable, the other
//! previous; the one that was given up gets no new instances; the next rollout replaces both. Not here: ending a
//! rollout that goes forward (`operator`).

use std::cmp::Reverse;

use super::{opening, operator, turn};
use crate::state::{
    base::{lifecycle, prelude::*},
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
        | RolloutStatus::Aborted => return Err(lifecycle::refused(&r, "ended as it is")),
    }
    if !r.is_rollback() {
        return Err(Rejection::Precondition(format!(
            "{id} goes forward: `slipway rollout abort {id}` puts the traffic on stable; `--as-is` ends a rollback where it stands"
        )));
    }
    end_here(cx, r)
}

/// Ends a rollback where it stands.
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
        Some(pair) if d.arms.get(Role::Stable).is_some() => keep(cx, &mut d, &r, pair),
        // A first rollout: nothing serves, and what is left of it goes.
        Some(_) | None => {
            if let Some(candidate) = d.arms.get_mut(Role::Candidate) {
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
    // What waits for a place that nobody leaves any more; and what serves and was about to leave.
    drain::cancel_pending(cx, &d.id, &given_up);
    for arm in d.arms.iter().filter(|a| a.weight.0 > 0) {
        drain::revive(cx, &d.id, &arm.pair);
    }
    let mut all: Vec<Arm> = d.arms.iter().cloned().collect();
    // By share; of equal ones, what is stable stays so. A third version is let go of.
    all.sort_by_key(|a| Reverse(a.weight));
    let mut all = all.into_iter();
    let Some(first) = all.next() else { return };
    let first = Arm { role: Role::Stable, want: serving::wanted(cx.s, &d.id, &first.pair), retire_at: None, ..first };
    let second = all.next().map(|a| {
        // Without traffic it is only kept where it is what was fled from, ready to be asked for.
        let goes = a.weight.0 == 0 && (a.pair == given_up || r.phase == RolloutPhase::Undo);
        let want = serving::wanted(cx.s, &d.id, &a.pair);
        Arm { role: Role::Previous, want, retire_at: goes.then(|| cx.now()), ..a }
    });
    // Where one version serves and it is not the one that was given up, there is nothing to hold.
    let holds = second.as_ref().is_some_and(|a| a.weight.0 > 0) || first.pair == given_up;
    d.arms = [first].into_iter().chain(second).collect();
    if let Some(form) = d.route.as_ref().map(Route::form) {
        let rest = d.arms.weights().rest();
        opening::share_out(cx.s, &d.id, &mut d.arms, rest);
        let weights = d.arms.weights();
        routes::write(cx, d, &weights, form);
    }
    d.as_is = holds.then_some(AsIs { rollout: r.id, given_up });
}
