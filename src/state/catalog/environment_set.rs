//! `EnvironmentSet`: another place in the order of promotion, another default strategy, another answer to the absence
//! of data.

use super::environments;
use crate::state::base::prelude::*;

fields! {
    /// Changes an environment; what is not said stays.
    #[derive(Debug, Clone, PartialEq)]
    pub struct EnvironmentSet {
        1 [required] pub name: Name,
        2 pub order: Option<u32>,
        3 pub default_strategy: Option<StrategyName>,
        4 pub on_no_data: Option<OnNoData>,
    }
}

impl Apply for EnvironmentSet {
    fn apply(&self, cx: &mut Cx<'_>) -> Done {
        let Self { name, .. } = self;
        let before = environments::named(cx, name)?;
        if (self.order, &self.default_strategy, self.on_no_data) == (None, &None, None) {
            return Err(Rejection::Invalid(format!("nothing is said of environment {name} that could be set")));
        }
        let mut row = before.clone();
        if let Some(order) = self.order {
            environments::check_order(cx, name, order)?;
            row.order = order;
        }
        row.default_strategy = self.default_strategy.clone().unwrap_or(row.default_strategy);
        row.on_no_data = self.on_no_data.unwrap_or(row.on_no_data);
        // Asked twice, done once.
        if row != before {
            cx.touch(&mut row.meta);
            let what =
                format!("order {}, default strategy {}, no data: {}", row.order, row.default_strategy, row.on_no_data);
            cx.s.environments.insert(name.clone(), row);
            environments::announce(cx, name, &what);
        }
        Ok(())
    }
}
