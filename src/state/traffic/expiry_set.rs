//! `ExpirySet`: what a bound deployment answers after a lease's end. Every server confirms the change anew.

use super::{lease_set, switches};
use crate::state::base::prelude::*;

/// Longest time of stale answers.
const MAX_STALE: Period = Period::minutes(60 * 24 * 7);

fields! {
    /// What a bound service does when a lease is over.
    #[derive(Debug, Clone, PartialEq)]
    pub struct ExpirySet {
        1 [required] pub deployment: DeploymentId,
        /// `None`: the default.
        2 pub on_expiry: Option<OnExpiry>,
    }
}

impl Apply for ExpirySet {
    fn steers(&self) -> bool {
        true
    }

    fn apply(&self, cx: &mut Cx<'_>) -> Done {
        let &Self { deployment: ref id, on_expiry: to } = self;
        cx.deployment(id)?;
        if to.is_some_and(|p| p.stale() > MAX_STALE) {
            return Err(Rejection::Invalid(format!("stale answers for more than {MAX_STALE} make no sense")));
        }
        switches::not_switching(cx, id)?;
        lease_set::not_armed(cx, id)?;
        let (index, since) = (cx.at.index, cx.now());
        switches::edit(cx, |f| {
            match to {
                Some(policy) => drop(f.on_expiry.insert(id.clone(), policy)),
                None => drop(f.on_expiry.remove(id)),
            }
            // A server that has not served this entry may go on with stale answers for as long as the policy before
            // allowed. So the mode `always` is confirmed anew, and only who knows this policy can be waited out by it.
            if let Some(arming) = &mut f.always {
                (arming.index, arming.since) = (index, since);
                arming.confirmed.clear();
            }
        });
        Ok(())
    }
}
