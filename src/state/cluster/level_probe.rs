//! `LevelProbe`: a command of a feature level that only debug builds know, so that tests can play an upgrade. It
//! changes nothing.

use crate::state::base::prelude::*;

fields! {
    /// Changes nothing: what a later feature level would bring. In debug builds only, for tests of levels.
    #[derive(Debug, Clone, PartialEq)]
    pub struct LevelProbe {}
}

impl Apply for LevelProbe {
    const LEVEL: u32 = 2;

    fn apply(&self, _: &mut Cx<'_>) -> Done {
        Ok(())
    }
}
