//! The secret of DNS cookies that all servers of the cluster share, so that a client that one has answered is known to all.
//!
//! A secret comes with the command that carries it: the leader makes one up when there is none, when an operator asked for another, or
//! when it is older than a day. Invariants: the one before is accepted for as long as its cookies live; a secret is shown nowhere (its
//! `Debug` hides it). It stands in the log, in snapshots and in backups as everything else does. Not here: cookies (`dns`).

use std::fmt;

use serde::{Deserialize, Serialize};

use super::{
    Rejection, State,
    context::{Cx, Done, guard},
};
use crate::model::{Millis, Period};

/// For how long after a change cookies of the one before are good: as long as one lives.
const KEPT: Period = Period::minutes(60);
/// Age at which another secret is due: a day and a bit, so that it is not always at the same time of day.
const AGE: Period = Period::minutes(26 * 60);

/// A secret of 128 bits.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Secret([u8; 16]);

impl Secret {
    /// From random bytes.
    pub fn new(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// For who computes with it.
    pub fn bytes(&self) -> &[u8; 16] {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(secret)")
    }
}

/// The secrets.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CookieSecrets {
    /// Index of the entry that brought the newest; 0: there is none yet.
    pub index: u64,
    /// Cluster time of that entry.
    pub since: Millis,
    /// What cookies are made with.
    pub newest: Option<Secret>,
    /// The one before, and until when its cookies are good.
    pub before: Option<(Secret, Millis)>,
    /// Whether an operator has asked for another.
    pub asked: bool,
}

impl CookieSecrets {
    /// The secrets whose cookies are good now; the first one signs.
    pub fn accepted(&self, now: Millis) -> Vec<Secret> {
        let before = self.before.filter(|(_, until)| now < *until).map(|(secret, _)| secret);
        self.newest.into_iter().chain(before).collect()
    }
}

/// Whether another secret is due; says which entry brought the present one.
pub fn cookie_due(s: &State, now: Millis) -> Option<u64> {
    let c = &s.cookies;
    let due = c.newest.is_none() || c.asked || now >= c.since.plus(AGE);
    (s.cluster.is_some() && due).then_some(c.index)
}

/// `CookieAsked`.
pub(super) fn asked(cx: &mut Cx<'_>) -> Done {
    let mut next = (*cx.s.cookies).clone();
    next.asked = true;
    cx.s.cookies = next.into();
    Ok(())
}

/// `CookieRotated`.
pub(super) fn rotated(cx: &mut Cx<'_>, secret: Secret, seen: u64) -> Done {
    let old = cx.s.cookies.clone();
    if old.index != seen {
        return Err(Rejection::Stale { seen, now: old.index });
    }
    if old.newest == Some(secret) || secret.bytes() == &[0; 16] {
        return guard("that is no new secret");
    }
    let now = cx.now();
    let before = old.newest.map(|s| (s, now.plus(KEPT)));
    let next = CookieSecrets { index: cx.at.index, since: now, newest: Some(secret), before, asked: false };
    cx.s.cookies = next.into();
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

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
