//! The secret of DNS cookies that all servers of the cluster share, so that a client that one server has answered is
//! known to all.
//!
//! A secret comes with the command that carries it. The leader generates one when there is none, when an operator asked
//! for another, or when it is older than a day. Invariants: the previous secret is accepted for as long as its cookies
//! live; no command shows a secret (its `Debug` hides it). It is in the log, in snapshots and in backups like
//! everything else. Not here: cookies (`dns`).

use crate::state::base::prelude::*;

/// For how long after a change cookies of the one before are good: as long as one lives.
pub(in crate::state) const KEPT: Period = Period::minutes(60);

/// Age at which another secret is due: a day and a bit, so that it is not always at the same time of day.
const AGE: Period = Period::minutes(26 * 60);

/// Whether another secret is due; says which entry brought the present one.
pub fn cookie_due(s: &State, now: Millis) -> Option<u64> {
    let c = &s.cookies;
    let due = c.newest.is_none() || c.asked || now >= c.since.plus(AGE);
    (s.cluster.is_some() && due).then_some(c.index)
}

#[cfg(test)]
mod tests {
    use crate::{
        model::Millis,
        state::{CookieSecrets, Secret},
    };

    #[test]
    fn the_one_before_is_accepted_for_an_hour_and_none_is_shown() {
        let (new, old) = (Secret::new([7; 16]), Secret::new([9; 16]));
        let c = CookieSecrets { newest: Some(new), before: Some((old, Millis(1000))), ..CookieSecrets::default() };
        assert_eq!(c.accepted(Millis(999)), [new, old]);
        assert_eq!(c.accepted(Millis(1000)), [new]);
        let shown = format!("{c:?}");
        assert!(shown.contains("(secret)") && !shown.contains('7') && !shown.contains('9'), "{shown}");
    }
}
