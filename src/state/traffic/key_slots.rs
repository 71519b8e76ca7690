//! The row of a deployment's slots of keys, by version.
//!
//! Not here: when it changes (`slots`), how a key finds its slot (`traffic`).

use serde::{Deserialize, Serialize};

use super::{
    arms::{Arm, Arms, Role},
    rows::Deployment,
};
use crate::{
    model::Pair,
    traffic::{End, Run, Slots, TrafficError},
};

/// Versions with their slots, each in the order in which it got them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeySlots {
    pub(in crate::state) versions: Vec<Pair>,
    pub(in crate::state) slots: Slots,
}

impl KeySlots {
    /// A table from its parts, which must hold every place once.
    pub fn from_parts(parts: Vec<(Pair, Vec<Run>)>) -> Result<Self, TrafficError> {
        let (versions, runs): (Vec<Pair>, Vec<Vec<Run>>) = parts.into_iter().filter(|(_, r)| !r.is_empty()).unzip();
        Ok(Self { versions, slots: Slots::from_runs(runs)? })
    }

    /// A version's slots; none when it has no share.
    pub fn of(&self, pair: &Pair) -> &[Run] {
        let at = self.versions.iter().position(|p| p == pair);
        at.and_then(|at| self.slots.runs().get(at)).map_or(&[], Vec::as_slice)
    }

    /// What a route's weights alone say: where a history begins, with one version.
    pub(in crate::state) fn by_weights(row: &Deployment) -> Option<Self> {
        let slots = unkept(&row.arms)?;
        let of = |a: &Arm| Some((a.pair.clone(), slots.runs().get(a.role.place())?.clone()));
        let parts = row.arms.iter().filter_map(of);
        Self::from_parts(parts.collect()).ok()
    }

    /// The next table, with the fewest moves.
    pub(in crate::state) fn towards(mut self, want: &[(Pair, u32)]) -> Option<Self> {
        let new = want.iter().filter(|(pair, _)| !self.versions.contains(pair)).map(|(pair, _)| pair.clone());
        let new: Vec<Pair> = new.collect();
        self.versions.extend(new);
        let weight = |pair: &Pair| want.iter().find(|(p, _)| p == pair).map_or(0, |(_, weight)| *weight);
        let weights: Vec<u32> = self.versions.iter().map(weight).collect();
        let slots = self.slots.reassigned(&weights).ok()?;
        Self::from_parts(self.versions.into_iter().zip(slots.runs().to_vec()).collect()).ok()
    }
}

/// Versions with a share of the traffic.
pub(in crate::state) fn weighted(row: &Deployment) -> Vec<(Pair, u32)> {
    row.arms.iter().filter(|a| a.weight.0 > 0).map(|a| (a.pair.clone(), a.weight.0)).collect()
}

/// Slots by role, as weights alone say; none while they are not whole, as without a route.
pub(in crate::state) fn unkept(arms: &Arms) -> Option<Slots> {
    let end = |role: Role| if role.on_trial() { End::Back } else { End::Front };
    Slots::from_both_ends(&Role::each(|role| (arms.weight(role).0, end(role)))).ok()
}
