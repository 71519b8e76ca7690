//! `LeaseSet`: when leases bind, and their terms.
//!
//! Invariant: terms change only while nothing is armed for a switch, and old terms are waited out first.

use std::collections::BTreeSet;

use super::switches;
use crate::{state::base::prelude::*, traffic::lease::Terms};

/// Refuses while a rollout's step switches the deployment. Servers that confirmed the arming go by the policy that they
/// knew then, and one that is cut off goes on doing so: it must not be judged by a shorter one.
pub(in crate::state) fn not_armed(cx: &Cx<'_>, id: &DeploymentId) -> Done {
    match cx.s.fences.armed.get(id).map(|arming| arming.owner) {
        Some(ArmedBy::Step(rollout, _)) => Err(Rejection::Conflict {
            what: format!("{id} is being switched by its rollout {rollout}: try again when that step is over"),
        }),
        Some(ArmedBy::Cluster | ArmedBy::Switch(_)) | None => Ok(()),
    }
}

fields! {
    /// Settings of leases, each kept when absent.
    #[derive(Debug, Clone, PartialEq)]
    pub struct LeaseSet {
        /// When leases bind.
        1 pub mode: Option<LeaseMode>,
        /// How long they are.
        2 pub terms: Option<Terms>,
    }
}

impl Apply for LeaseSet {
    fn steers(&self) -> bool {
        true
    }

    fn apply(&self, cx: &mut Cx<'_>) -> Done {
        let &Self { mode, terms } = self;
        if let Some(t) = &terms {
            t.check().map_err(Rejection::Invalid)?;
        }
        if cx.s.fences.open().next().is_some() {
            return Err(Rejection::Conflict { what: "a switch is under way: try again when it is over".into() });
        }
        for id in cx.s.fences.armed.keys() {
            not_armed(cx, id)?;
        }
        let arming =
            Arming { index: cx.at.index, since: cx.now(), owner: ArmedBy::Cluster, confirmed: BTreeSet::new() };
        switches::edit(cx, |f| {
            if let Some(new) = terms.filter(|t| *t != f.terms) {
                f.floor = Some((f.waited(), None));
                f.terms = new;
            }
            if let Some(mode) = mode.filter(|m| *m != f.mode) {
                f.mode = mode;
                f.always = match mode {
                    LeaseMode::Always => Some(arming),
                    LeaseMode::Armed => None,
                };
            }
        });
        Ok(())
    }
}
