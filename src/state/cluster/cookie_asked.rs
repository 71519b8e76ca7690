//! `CookieAsked`: an operator wants another secret of DNS cookies; the leader generates it.

use crate::state::base::prelude::*;

fields! {
    /// An operator wants another secret of DNS cookies.
    #[derive(Debug, Clone, PartialEq)]
    pub struct CookieAsked {}
}

impl Apply for CookieAsked {
    fn apply(&self, cx: &mut Cx<'_>) -> Done {
        let mut next = (*cx.s.cookies).clone();
        next.asked = true;
        cx.s.cookies = next.into();
        Ok(())
    }
}
