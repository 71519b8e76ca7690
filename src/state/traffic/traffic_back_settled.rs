//! `TrafficBackSettled`: what is known of the DNS servers after traffic was taken back.

use super::{bound::fence_set, returns::KEPT};
use crate::state::base::{prelude::*, servers::differs};

/// Longest note of an end.
const MAX_NOTE: usize = 2048;

fields! {
    /// What is known of the DNS servers after traffic was taken back.
    #[derive(Debug, Clone, PartialEq)]
    pub struct TrafficBackSettled {
        /// The rollout that took it back.
        1 [required] pub rollout: RolloutId,
        /// Index of the entry that moved it.
        2 pub index: u64,
        3 [required] pub end: SwitchEnd,
    }
}

impl Apply for TrafficBackSettled {
    fn apply(&self, cx: &mut Cx<'_>) -> Done {
        let &Self { rollout, index, ref end } = self;
        let Some(row) = cx.s.backs.get(&rollout) else { return guard(format!("{rollout} took no traffic back")) };
        if row.index != index {
            return Err(Rejection::Stale { seen: index, now: row.index });
        }
        if row.end.is_some() || !end.switched {
            return guard(format!("what is known of {rollout}'s rollback is settled"));
        }
        if end.note.len() > MAX_NOTE {
            return guard("its note is too long");
        }
        for node in fence_set(cx.s).into_iter().filter(|_| end.fenced_at.is_some()) {
            let how = end.servers.iter().find(|(n, _, _)| *n == node).map(|(_, _, how)| *how);
            let evidence = match how {
                Some(ServerEnd::Served(_)) => true,
                Some(ServerEnd::Expired) => row.bound.contains(&node) || cx.s.fences.left.contains_key(&node),
                Some(ServerEnd::Holds | ServerEnd::Unbound) | None => false,
            };
            if differs(cx.s, node) || !evidence {
                return guard(format!("the rollback of {rollout} is not fenced at node {node}"));
            }
        }
        let mut row = row.clone();
        let now = cx.now();
        row.end = Some(SwitchEnd { at: now, ..end.clone() });
        let what = match end.fenced_at {
            Some(_) => format!("fenced after {} ms: no server answers with {}", now.since(row.at).0, row.left),
            None => format!("not fenced: {}", end.note),
        };
        cx.emit(EventBody::TrafficBack { rollout, deployment: row.deployment.clone(), what });
        cx.s.backs.insert(rollout, row);
        if cx.s.backs.len() > KEPT {
            let oldest = cx.s.backs.values().find(|b| b.end.is_some()).map(|b| b.rollout);
            oldest.into_iter().for_each(|id| drop(cx.s.backs.remove(&id)));
        }
        Ok(())
    }
}
