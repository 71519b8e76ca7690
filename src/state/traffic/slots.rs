//! Which version holds which slots of keys: the replicated history behind sticky answers.
//!
//! A row exists while two or more versions share a route's traffic; with one there is nothing to remember. It is
//! brought up to date at the end of each entry that changed its deployment (`log::apply`), and by version and not by
//! arm: when versions change their roles (a promotion, a rollback, another candidate) keys stay with what they had.
//! Invariants (`invariants`): each version has its weight in slots, and a change moves the fewest. Deliberately not
//! here: the law of one change (`traffic::slots`), keys (`dns`).

use super::{
    arms::Role,
    key_slots::{self, KeySlots},
    rows::Deployment,
};
use crate::{
    model::Pair,
    state::State,
    traffic::{SLOTS, Slots},
};

/// Brings the row of a deployment up to what it became in an entry; `before` is what it was.
pub(in crate::state) fn follow(s: &mut State, before: Option<&Deployment>, next: &Deployment) {
    let want = key_slots::weighted(next);
    if want.len() < 2 {
        if s.slots.contains_key(&next.id) {
            s.slots.remove(&next.id);
        }
        return;
    }
    let same = before.is_some_and(|b| key_slots::weighted(b) == want);
    if same && s.slots.contains_key(&next.id) {
        return;
    }
    let kept = s.slots.get(&next.id).cloned().or_else(|| KeySlots::by_weights(before?));
    if let Some(row) = kept.and_then(|k| k.towards(&want)).or_else(|| KeySlots::by_weights(next)) {
        s.slots.insert(next.id.clone(), row);
    }
}

/// A deployment's slots by role, in their order. `None` while it has no route.
pub fn slots_of(s: &State, row: &Deployment) -> Option<Slots> {
    let Some(kept) = s.slots.get(&row.id) else { return key_slots::unkept(&row.arms) };
    let runs = Role::each(|role| row.arms.pair(role).map_or(Vec::new(), |pair| kept.of(pair).to_vec()));
    Slots::from_runs(runs.into()).ok()
}

/// What must hold in every State.
pub(in crate::state) fn check(s: &State) -> Result<(), String> {
    for (id, kept) in &s.slots {
        let want = s.deployments.get(id).map(key_slots::weighted).unwrap_or_default();
        let have: Vec<(Pair, u32)> = kept.versions.iter().cloned().zip(kept.slots.counts()).collect();
        let same = have.len() == want.len() && want.iter().all(|w| have.contains(w));
        let whole = Slots::from_runs(kept.slots.runs().to_vec()).is_ok();
        if !same || !whole || want.len() < 2 {
            return Err(format!("the slots of {id} are not its weights: {have:?}, {want:?}"));
        }
    }
    Ok(())
}

/// Who holds each place, by version.
fn owners(s: &State, row: &Deployment) -> Option<Vec<Pair>> {
    let slots = slots_of(s, row)?;
    let mut owners = vec![None; usize::from(SLOTS)];
    for (role, runs) in Role::ALL.iter().zip(slots.runs()) {
        for place in runs.iter().flat_map(|r| r.start..r.start.saturating_add(r.len)) {
            *owners.get_mut(usize::from(place))? = row.arms.pair(*role).cloned();
        }
    }
    owners.into_iter().collect()
}

/// From one State to the next: the fewest keys move, so none leaves a version whose weight does not fall.
pub(in crate::state) fn check_step(
    before: &State,
    after: &State,
    old: &Deployment,
    new: &Deployment,
) -> Result<(), String> {
    let salt = |d: &Deployment| d.route.as_ref().map(|r| r.salt);
    let (a, b) = (key_slots::weighted(old), key_slots::weighted(new));
    let alike = a == b && before.slots.get(&old.id) == after.slots.get(&new.id);
    if alike || salt(old) != salt(new) {
        return Ok(());
    }
    let (Some(x), Some(y)) = (owners(before, old), owners(after, new)) else { return Ok(()) };
    let moved = x.iter().zip(&y).filter(|(x, y)| x != y).count();
    let left = |(pair, w): &(Pair, u32)| w.saturating_sub(b.iter().find(|(p, _)| p == pair).map_or(0, |(_, w)| *w));
    let fewest: u32 = a.iter().map(left).sum();
    if moved == fewest as usize {
        return Ok(());
    }
    Err(format!("{} moved {moved} slots of keys where {fewest} do", new.id))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{
        model::{BasisPoints, Digest, Period},
        state::{Arm, FencePoint, Meta, Route, RouteMode, Weights, codec},
    };

    fn arm(role: Role, version: u32) -> Arm {
        let digest = Digest::new(&format!("{version:064x}")).unwrap();
        Arm::new(role, Pair { version: format!("{version}.0.0").parse().unwrap(), digest, spec: 1 })
    }

    fn start() -> State {
        let mut s = State::default();
        let (generation, ttl) = (FencePoint::default(), Period::seconds(5));
        let mut row = Deployment {
            meta: Meta::default(),
            id: "production/shop".parse().unwrap(),
            spec: 1,
            arms: Role::ALL.iter().zip(1..).map(|(role, n)| arm(*role, n)).collect(),
            route: Some(Route { generation, mode: RouteMode::Weighted, ttl, salt: 7 }),
            desired: 1,
            live: None,
            last: None,
            as_is: None,
            removing: None,
            stop: None,
        };
        set(&mut row, [10_000, 0, 0]);
        s.deployments.insert(row.id.clone(), row);
        s
    }

    /// One change as an entry makes it: the row, with its slots.
    fn change(s: &State, with: impl FnOnce(&mut Deployment)) -> State {
        let mut after = s.clone();
        let mut row = s.deployments.values().next().unwrap().clone();
        with(&mut row);
        follow(&mut after, s.deployments.values().next(), &row);
        after.deployments.insert(row.id.clone(), row);
        after
    }

    fn row(s: &State) -> &Deployment {
        s.deployments.values().next().unwrap()
    }

    fn holds(before: &State, after: &State) {
        check(after).unwrap();
        check_step(before, after, row(before), row(after)).unwrap();
    }

    fn set(d: &mut Deployment, shares: [u32; 3]) {
        d.arms.weigh(&Role::ALL.iter().copied().zip(shares.map(BasisPoints)).collect::<Weights>());
    }

    /// Two arms change their roles.
    fn swap(d: &mut Deployment, a: Role, b: Role) {
        let (x, y) = (d.arms.take(a).unwrap(), d.arms.take(b).unwrap());
        d.arms.put(Arm { role: b, ..x });
        d.arms.put(Arm { role: a, ..y });
    }

    fn weights() -> impl Strategy<Value = [u32; 3]> {
        (0_u32..=10_000, 0_u32..=10_000).prop_map(|(a, b)| [a.min(b), a.max(b) - a.min(b), 10_000 - a.max(b)])
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        /// Any weights, while roles move and versions come and go: the fewest keys move, seen by version.
        #[test]
        fn keys_stay_with_their_version_through_everything(steps in prop::collection::vec((weights(), 0_u32..6), 1..14)) {
            let mut s = start();
            for (n, (next, how)) in (10..).zip(steps) {
                let after = change(&s, |d| {
                    match how {
                        0 => swap(d, Role::Stable, Role::Candidate),
                        1 => swap(d, Role::Stable, Role::Previous),
                        2 => drop(d.arms.put(arm(Role::Candidate, n))),
                        _ => {}
                    }
                    set(d, next);
                });
                holds(&s, &after);
                prop_assert_eq!(after.slots.is_empty(), next.contains(&10_000));
                // Who begins from a snapshot goes on with the same table.
                let copy = codec::decode_snapshot(&codec::encode_snapshot(&after).unwrap()).unwrap();
                prop_assert_eq!(&copy.slots, &after.slots);
                s = after;
            }
        }
    }

    #[test]
    fn a_promotion_moves_nobody_and_the_newest_return_first() {
        let mut all = vec![start()];
        for next in [[9000, 1000, 0], [6000, 3000, 1000], [2000, 7000, 1000]] {
            all.push(change(all.last().unwrap(), |d| set(d, next)));
            holds(&all[all.len() - 2], all.last().unwrap());
        }
        let s = all.pop().unwrap();
        let promoted = change(&s, |d| {
            swap(d, Role::Stable, Role::Candidate);
            set(d, [7000, 2000, 1000]);
        });
        assert_eq!(owners(&s, row(&s)), owners(&promoted, row(&promoted)));
        let back = change(&promoted, |d| {
            swap(d, Role::Stable, Role::Candidate);
            set(d, [6000, 3000, 1000]);
        });
        assert_eq!(owners(&back, row(&back)), owners(&all[2], row(&all[2])));
        assert!(change(&back, |d| set(d, [10_000, 0, 0])).slots.is_empty(), "nothing to remember");
    }

    #[test]
    fn a_table_that_is_not_the_weights_is_found() {
        let mut s = change(&start(), |d| set(d, [7500, 2500, 0]));
        check(&s).unwrap();
        let other = change(&s, |d| set(d, [5000, 5000, 0]));
        s.slots = other.slots;
        assert!(check(&s).unwrap_err().contains("production/shop"));
    }
}
