//! `BatchPassed`: probation is over; by capacity, weights and drains.

use super::{batches, steps, weights};
use crate::state::{
    base::prelude::*,
    fleet::{assign, drain, serving},
    traffic::routes,
};

fields! {
    /// The batch passes: probation over; by capacity: weights and drains.
    #[derive(Debug, Clone, PartialEq)]
    pub struct BatchPassed {
        /// Which step of which rollout.
        1 [required] pub at: StepRef,
        /// Batch number.
        2 pub batch: u32,
        /// Old instances that drain now.
        3 pub drain: Vec<InstanceId>,
        /// Weights after the batch, when the step routes by capacity.
        4 pub weights: Option<Weights>,
    }
}

impl Apply for BatchPassed {
    fn apply(&self, cx: &mut Cx<'_>) -> Done {
        let &Self { at: StepRef { rollout: id, seen, .. }, .. } = self;
        let mut r = cx.rollout_seen(id, seen)?;
        batches::check_status(&r)?;
        let row = steps::running(&r, self.at.step)?.clone();
        let StepKind::Install { mode, routing, delay, .. } = row.step.kind else {
            return guard("the running step installs nothing");
        };
        let Some(pair) = r.target().cloned() else { return guard("there is nothing to install") };
        let Some(batch) = row.batch.as_ref().filter(|x| x.n == self.batch && !x.passed).cloned() else {
            return guard(format!("batch {} is not under way", self.batch));
        };
        let go_on = r.params.failure_action == FailureAction::Continue;
        // A rollback goes on with what is there: who does not come up is tried again beside the rest.
        let back = r.is_rollback();
        let late = cx.now() >= batch.deadline;
        let mut workers = Vec::new();
        for added in &batch.added {
            let i = cx.instance_of(&r.deployment, *added)?;
            let passes = serving::passes(cx.s, &i);
            let given_up = back && (late || !i.life.is_wanted() || !serving::ready(cx.s, &i));
            if !(passes || given_up || go_on && i.life == Life::Failed) {
                return guard(format!("{added} is {} and {}", i.life, i.health));
            }
            workers.push(i.worker);
        }
        let olds = drain::check_ids(cx, &r.deployment, &self.drain)?;
        if mode != BatchMode::Replace && !back && !olds.is_empty() {
            return guard("only an installation that replaces drains here");
        }
        if let Some(i) = olds.iter().find(|i| i.pair == pair) {
            return guard(format!("{} is of the pair that is installed", i.id));
        }
        batches::check_unavailable(cx, &r, &self.drain)?;
        weigh(cx, &mut r, routing, self)?;
        drain::begin(cx, &self.drain);
        workers.sort();
        workers.dedup();
        let next_at = cx.now().plus(delay);
        if let Some(row) = r.steps.get_mut(self.at.step as usize) {
            if let Some(x) = row.batch.as_mut() {
                x.passed = true;
                x.next_at = next_at;
            }
            // A wait between batches does not use the step's time up.
            row.deadline = row.deadline.map(|d| d.plus(delay));
            if self.weights.is_some() {
                row.routed = Some((cx.at.index, cx.now()));
            }
        }
        cx.emit(batches::event(&r, self.at.step, self.batch, true));
        cx.put_rollout(r.clone());
        assign::commit(cx, &r.deployment, &workers);
        batches::set_want(cx, &r.deployment, &pair)
    }
}

/// Weights of a passed batch, when the step routes by capacity.
fn weigh(cx: &mut Cx<'_>, r: &mut Rollout, routing: Routing, b: &BatchPassed) -> Done {
    let weights = match (routing, &b.weights) {
        (Routing::Explicit, None) => return Ok(()),
        (Routing::Explicit, Some(_)) => return guard("this installation sets no weights"),
        (Routing::ByCapacity, Some(w)) => w,
        (Routing::ByCapacity, None) => return guard("weights are missing"),
    };
    let mut d = cx.deployment(&r.deployment)?;
    let cap = d.arms.get(Role::Candidate).and_then(|a| a.cap);
    let share = weights.get(Role::Candidate);
    match r.phase {
        RolloutPhase::Forward if r.is_rollback() => {
            weights::check_return(cx, &d, r, weights, &b.drain)?;
            weights::returned(cx, &d, r, weights);
        }
        RolloutPhase::Forward => weights::check_rise(cx, &d, r, weights, &b.drain, true)?,
        RolloutPhase::Undo => {
            weights::check_undo(&d, weights)?;
            weights::left(cx, &d, r, weights);
        }
    }
    if let Some(cap) = cap.filter(|cap| share > *cap) {
        return guard(format!("{share} is above the cap {cap}"));
    }
    let form = d.route.as_ref().map_or(r.form, Route::form);
    routes::write(cx, &mut d, weights, form);
    if r.phase == RolloutPhase::Forward {
        d.arms.set_cap(cap);
    }
    cx.put_deployment(d);
    Ok(())
}
