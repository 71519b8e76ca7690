//! `StartRollout`: what needs no plan to be refused is refused here; then a pending rollout owns the deployment.

use super::{begin, operator};
use crate::state::{
    base::prelude::*,
    catalog::{defaults::rollout_defaults, in_use},
    traffic::switches,
};

fields! {
    /// Starts a rollout: `rollout start`.
    #[derive(Debug, Clone, PartialEq)]
    pub struct StartRollout {
        /// What to move.
        1 [required] pub deployment: DeploymentId,
        /// To which release.
        2 [required] pub version: Version,
        /// What is said of its settings, laid over those of the spec that this entry finds.
        3 [required] pub overrides: Overrides,
        /// Whether the running pair may be rolled out again (`rollout restart`).
        4 pub restart: bool,
        /// Whether a live rollout is ended first, in this entry: a rollback where it stands, one that goes forward with
        /// the traffic on stable.
        5 pub replace: bool,
        /// Deployment revision the caller saw, if it asks for that.
        6 pub expected: Option<u64>,
    }
}

impl Apply for StartRollout {
    fn steers(&self) -> bool {
        // One that ends another rollout turns it.
        self.replace
    }

    fn apply(&self, cx: &mut Cx<'_>) -> Done {
        let mut d = cx.unstopped(&self.deployment)?;
        let service = &self.deployment.service;
        let Some(release) = cx.s.releases.get(&(service.clone(), self.version.clone())).cloned() else {
            return Err(in_use::missing(cx, service, &self.version));
        };
        if release.status == ReleaseStatus::Retired {
            return Err(Rejection::Precondition(format!(
                "release {service} {} is retired: push a new version",
                self.version
            )));
        }
        if let Some(seen) = self.expected.filter(|e| *e != d.meta.revision) {
            return Err(Rejection::Stale { seen, now: d.meta.revision });
        }
        if let Some(rollout) = d.live {
            if !self.replace {
                return Err(Rejection::Busy { rollout });
            }
            operator::replace(cx, rollout)?;
            d = cx.deployment(&self.deployment)?;
        }
        switches::not_switching(cx, &d.id)?;
        let mut to = Pair { version: self.version.clone(), digest: release.digest.clone(), spec: d.spec };
        let Some(spec) = cx.s.spec(&d.id, to.spec).cloned() else {
            return Err(Rejection::Precondition(format!("{} has no spec: `slipway apply -f` gives it one", d.id)));
        };
        let from = d.arms.pair(Role::Stable).cloned();
        if from.as_ref() == Some(&to) {
            // After `abort --as-is` it does not run everywhere, and this makes it whole.
            if !self.restart && d.as_is.is_none() {
                return Err(Rejection::Precondition(format!(
                    "{} runs {} already: `slipway rollout restart` rolls it out again",
                    d.id, to.version
                )));
            }
            // The same settings under a new revision: arms, instances and counts are told apart by pairs.
            to.spec = to.spec.saturating_add(1);
            d.spec = to.spec;
            cx.s.specs.insert((d.id.clone(), to.spec), spec.clone());
        }
        let mut params = self.overrides.over(rollout_defaults(cx.s, &spec));
        params.check("rollout").map_err(|e| Rejection::Invalid(e.to_string()))?;
        let strategy = strategy_of(cx.s, &d, &params);
        params.strategy = Some(strategy.clone());
        params.on_no_data = params.on_no_data.or(cx.s.environments.get(&d.id.environment).map(|e| e.on_no_data));
        let row = begin::new_rollout(cx, &d, RolloutKind::Forward, from, to, params, strategy);
        d.live = Some(row.id);
        cx.put_deployment(d);
        begin::announce(cx, &row);
        cx.s.rollouts.insert(row.id, row);
        Ok(())
    }
}

/// The strategy of a rollout with these settings: direct where nothing serves yet, as there is nothing to compare with
/// or to switch from; else what the settings say, or the environment.
pub fn strategy_of(s: &State, d: &Deployment, params: &RolloutParams) -> StrategyName {
    if d.arms.get(Role::Stable).is_none() {
        return StrategyName::DIRECT;
    }
    let default = s.environments.get(&d.id.environment).map(|e| e.default_strategy.clone());
    params.strategy.clone().or(default).unwrap_or(StrategyName::ROLLING)
}
