//! `ArmingConfirmed`: servers have served the entries from which on their leases bind.

use super::switches;
use crate::state::base::prelude::*;

fields! {
    /// Servers have served the entries from which on their leases bind.
    #[derive(Debug, Clone, PartialEq)]
    pub struct ArmingConfirmed {
        /// Servers, with the index each has served.
        1 pub served: Vec<(NodeId, u64)>,
    }
}

impl Apply for ArmingConfirmed {
    fn apply(&self, cx: &mut Cx<'_>) -> Done {
        let Self { served } = self;
        if switches::confirm(cx, served) { Ok(()) } else { guard("nothing new is confirmed") }
    }
}
