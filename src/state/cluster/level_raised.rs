//! `LevelRaised`: the feature level rises by one, once every node supports it.

use crate::state::base::prelude::*;

fields! {
    /// Raises the feature level, once every node supports it.
    #[derive(Debug, Clone, PartialEq)]
    pub struct LevelRaised {
        /// The next level.
        1 pub to: u32,
        /// Fence: the level seen.
        2 pub seen: u32,
    }
}

impl Apply for LevelRaised {
    fn apply(&self, cx: &mut Cx<'_>) -> Done {
        let &Self { to, seen } = self;
        let level = cx.s.level;
        if level != seen || Some(to) != level.checked_add(1) {
            return guard(format!("the feature level is {level}; it rises by one, not from {seen} to {to}"));
        }
        let old: Vec<String> =
            cx.s.nodes
                .values()
                .filter(|n| n.role != NodeRole::Removed && n.level < to)
                .map(|n| format!("{} (node {}, up to level {})", n.name, n.id, n.level))
                .collect();
        if !old.is_empty() {
            return Err(Rejection::Precondition(format!(
                "not every node supports feature level {to}: {}; upgrade them first, or remove them with `slipway cluster leave`",
                old.join(", ")
            )));
        }
        cx.s.level = to;
        Ok(())
    }
}
