//! `Tick`: time goes by. Every entry raises `now` and drops the requests that are past their time; this one does
//! nothing else.

use crate::state::base::prelude::*;

fields! {
    /// Raises `now`; drops requests past their time.
    #[derive(Debug, Clone, PartialEq)]
    pub struct Tick {}
}

impl Apply for Tick {
    fn apply(&self, _: &mut Cx<'_>) -> Done {
        Ok(())
    }
}
