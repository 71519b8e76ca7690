//! `CookieRotated`: another secret of DNS cookies, from the leader. Cookies of the one before are good for a while.

use super::cookies::KEPT;
use crate::state::base::prelude::*;

fields! {
    /// Another secret of DNS cookies, from the leader.
    #[derive(Debug, Clone, PartialEq)]
    pub struct CookieRotated {
        1 [required] pub secret: Secret,
        /// Index of the entry that brought the one seen; 0: none.
        2 pub seen: u64,
    }
}

impl Apply for CookieRotated {
    fn apply(&self, cx: &mut Cx<'_>) -> Done {
        let &Self { secret, seen } = self;
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
}
