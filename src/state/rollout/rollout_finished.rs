//! `RolloutFinished`: completed, rolled back, or failed.

use super::{back, turn};
use crate::state::{base::prelude::*, catalog::statuses};

fields! {
    /// The rollout ends.
    #[derive(Debug, Clone, PartialEq)]
    pub struct RolloutFinished {
        1 [required] pub rollout: RolloutId,
        /// Its revision seen.
        2 pub seen: u64,
        /// How: `Completed`, `RolledBack` or `Failed`.
        3 [required] pub status: RolloutStatus,
        /// Why, when it failed.
        4 pub reason: Option<Reason>,
    }
}

impl Apply for RolloutFinished {
    fn apply(&self, cx: &mut Cx<'_>) -> Done {
        let &Self { rollout: id, seen, status, .. } = self;
        let reason = self.reason.as_ref();
        let mut r = cx.rollout_seen(id, seen)?;
        let all_done = r.cursor as usize >= r.steps.len();
        let turns = r.status == RolloutStatus::RollingBack;
        let ok = match status {
            RolloutStatus::Completed => r.status == RolloutStatus::Promoting && all_done,
            RolloutStatus::RolledBack => turns && r.undo_compiled && all_done && r.from.is_some(),
            RolloutStatus::Failed => {
                r.status == RolloutStatus::Pending || turns && r.from.is_none() && (!r.undo_compiled || all_done)
            }
            RolloutStatus::Pending
            | RolloutStatus::Active
            | RolloutStatus::Paused
            | RolloutStatus::Promoting
            | RolloutStatus::RollingBack
            | RolloutStatus::Aborted => false,
        };
        if !ok {
            return guard(format!(
                "{id} is {} at step {} of {} and cannot end as {status}",
                r.status,
                r.cursor,
                r.steps.len()
            ));
        }
        if let Some(reason) = reason {
            r.reason = Some(reason.clone());
        }
        if r.status == RolloutStatus::Pending && r.switched {
            // A return that moved the traffic at once and could not be compiled: what it moved to is stable now, and
            // stays.
            r.switched = false;
        }
        // One that never began changes nothing of what was there before it.
        let began = r.status != RolloutStatus::Pending || r.kind != RolloutKind::Forward;
        cx.move_rollout(&mut r, status, "ended")?;
        let to = r.to.clone();
        let mut d = cx.deployment(&r.deployment)?;
        match status {
            RolloutStatus::Completed => {
                let now = cx.now();
                if let Some(previous) = d.arms.get_mut(Role::Previous) {
                    // What is left of it stands on lost workers, or came back from one: the keeper's.
                    previous.retire_at = previous.retire_at.or(Some(now));
                }
            }
            RolloutStatus::RolledBack | RolloutStatus::Failed if !began => {}
            RolloutStatus::RolledBack | RolloutStatus::Failed => {
                d.as_is = None;
                d.arms.take_if(Role::Previous, |a| a.retire_at.is_none());
                back::all_on_stable(cx, &mut d);
                d.arms.take_if(Role::Candidate, |a| a.pair == to && r.phase == RolloutPhase::Undo);
            }
            RolloutStatus::Pending
            | RolloutStatus::Active
            | RolloutStatus::Paused
            | RolloutStatus::Promoting
            | RolloutStatus::RollingBack
            | RolloutStatus::Aborted => {}
        }
        cx.put_deployment(d);
        turn::end(cx, r.clone())?;
        statuses::settle(cx, &r);
        Ok(())
    }
}
