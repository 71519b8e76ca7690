//! `EnvironmentCreated`: another stage, with its place in the order of promotion.

use super::environments;
use crate::state::base::{names, prelude::*};

fields! {
    /// Makes an environment.
    #[derive(Debug, Clone, PartialEq)]
    pub struct EnvironmentCreated {
        1 [required] pub name: Name,
        /// Its place in the order of promotion; `None`: after all others.
        2 pub order: Option<u32>,
        /// Strategy of rollouts that name none; `None`: rolling.
        3 pub default_strategy: Option<StrategyName>,
        /// What the end of a bake without data does; `None`: hold, as silence is no health.
        4 pub on_no_data: Option<OnNoData>,
    }
}

impl Apply for EnvironmentCreated {
    fn apply(&self, cx: &mut Cx<'_>) -> Done {
        let Self { name, .. } = self;
        Name::environment(name.as_str()).map_err(|e| Rejection::Invalid(e.to_string()))?;
        if cx.s.environments.contains_key(name) {
            return Err(Rejection::Conflict {
                what: format!("environment {name} exists already: `slipway environment set {name}` changes it"),
            });
        }
        let limit = cx.settings().limits.environments;
        if cx.s.environments.len() >= limit as usize {
            return Err(names::exhausted("environments", limit));
        }
        let last = cx.s.environments.values().map(|e| e.order.saturating_add(1)).max();
        let order = self.order.or(last).unwrap_or(0);
        environments::check_order(cx, name, order)?;
        let row = Environment {
            meta: cx.new_meta(),
            name: name.clone(),
            default_strategy: self.default_strategy.clone().unwrap_or(StrategyName::ROLLING),
            order,
            on_no_data: self.on_no_data.unwrap_or(OnNoData::Hold),
        };
        cx.s.environments.insert(name.clone(), row);
        environments::announce(cx, name, "created");
        Ok(())
    }
}
