//! `LeasesSettled`: what earlier leases may still hold is settled, in two entries.

use super::switches;
use crate::state::base::prelude::*;

fields! {
    /// What earlier leases may still hold is settled.
    #[derive(Debug, Clone, PartialEq)]
    pub struct LeasesSettled {
        /// Revision of the fences seen.
        1 pub seen: u64,
    }
}

impl Apply for LeasesSettled {
    fn apply(&self, cx: &mut Cx<'_>) -> Done {
        let &Self { seen } = self;
        if cx.s.fences.revision != seen {
            return Err(Rejection::Stale { seen, now: cx.s.fences.revision });
        }
        if !due(&cx.s.fences, cx.now()) {
            return guard("nothing is to be settled yet");
        }
        let now = cx.now();
        switches::edit(cx, |f| {
            let bound = f.waited().bound();
            let over = |at: &Option<Millis>| at.is_some_and(|t| now >= t.plus(bound));
            f.left.retain(|_, at| !over(at));
            for at in f.left.values_mut() {
                *at = at.or(Some(now));
            }
            f.floor = f.floor.filter(|(_, at)| !over(at)).map(|(terms, at)| (terms, at.or(Some(now))));
        });
        Ok(())
    }
}

/// Whether `LeasesSettled` would change something.
pub fn due(f: &Fences, now: Millis) -> bool {
    let bound = f.waited().bound();
    let ready = |at: &Option<Millis>| at.is_none_or(|t| now >= t.plus(bound));
    f.left.values().any(ready) || f.floor.as_ref().is_some_and(|(_, at)| ready(at))
}
