//! `SwitchMoved`: the traffic moves, once every server of the fence set knows of it; without that only after the time
//! that was given.

use super::{
    bound::{bound, fence_set},
    switches,
};
use crate::state::base::prelude::*;

fields! {
    /// A switch moves its traffic.
    #[derive(Debug, Clone, PartialEq)]
    pub struct SwitchMoved {
        1 pub switch: u64,
        /// Its revision seen.
        2 pub seen: u64,
        /// Servers, with the index each has served.
        3 pub served: Vec<(NodeId, u64)>,
    }
}

impl Apply for SwitchMoved {
    fn apply(&self, cx: &mut Cx<'_>) -> Done {
        let &Self { switch: id, seen, ref served } = self;
        let mut s = switches::open(cx, id, seen)?;
        if s.moved.is_some() {
            return guard(format!("s-{id} has moved already"));
        }
        if switches::confirm(cx, served) {
            s = cx.s.fences.switches.get(&id).cloned().unwrap_or(s);
        }
        if s.unfenced == Unfenced::TakeBack {
            let all = s.targets.iter().all(|t| fence_set(cx.s).iter().all(|n| bound(cx.s, &t.deployment, *n, 0)));
            if !all {
                return guard(format!("s-{id} is to be made only when every server knows of it"));
            }
        }
        switches::apply_targets(cx, &s)?;
        s.moved = Some((cx.at.index, cx.now()));
        s.revision = s.revision.saturating_add(1);
        switches::edit(cx, |f| drop(f.switches.insert(id, s)));
        Ok(())
    }
}
