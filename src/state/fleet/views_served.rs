//! `ViewsServed`: what each DNS server has served, when only freed addresses wait for it.

use super::drain;
use crate::state::base::prelude::*;

fields! {
    /// What every DNS server has served, when only freed addresses wait for it.
    #[derive(Debug, Clone, PartialEq)]
    pub struct ViewsServed {
        /// Servers with the index each has served.
        1 pub served: Vec<(NodeId, u64)>,
    }
}

impl Apply for ViewsServed {
    fn apply(&self, cx: &mut Cx<'_>) -> Done {
        let Self { served } = self;
        if drain::raise_served(cx, served) { Ok(()) } else { guard("no server has served more than is known") }
    }
}
