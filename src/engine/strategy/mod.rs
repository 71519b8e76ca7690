//! Strategies compile to steps; one executor runs them. A strategy is one file with its descriptor and its compiler,
//! and one line of [`STRATEGIES`]; neither the executor nor the law knows it.
//!
//! Invariants: a compiler reads committed State only; its steps end with a promotion (forward) or with the new pair
//! gone (undo); what cannot be carried out is refused here, before anything runs. Not here: what the settings are
//! (`model::settings`).

mod blue_green;
mod canary;
mod direct;
mod page;
mod return_;
mod rolling;
mod undo;

use super::analysis::Asked;
use super::place::{Freed, free_places};
use crate::engine::prelude::*;

pub use page::settings_page;

/// A strategy: what people are told of it, and what it makes of a rollout.
pub struct Strategy {
    pub name: StrategyName,
    /// What it does, for lists.
    pub about: &'static str,
    /// Settings it reads going forward, of those that not every strategy reads, where instances have addresses of their
    /// own.
    pub pool: &'static [&'static Setting],
    /// The same where they have their machine's.
    pub host: &'static [&'static Setting],
    /// How the versions share the traffic while it runs; the TTL is the spec's where that names one.
    pub form: RouteForm,
    /// Whether `max_surge` and `max_unavailable` bound what runs, as instances take each other's place.
    pub bounded: bool,
    /// What needs less room.
    smaller: &'static str,
    compile: fn(&Site<'_>) -> Result<Compiled, String>,
}

/// All strategies, in the order in which they are told.
pub static STRATEGIES: &[Strategy] = &[direct::DIRECT, rolling::ROLLING, canary::CANARY, blue_green::BLUE_GREEN];

impl Strategy {
    /// Which settings it reads for a service of an address mode; none of those that every strategy reads.
    pub fn reads(&self, mode: AddressMode) -> &'static [&'static Setting] {
        match mode {
            AddressMode::Pool => self.pool,
            AddressMode::Host => self.host,
        }
    }

    /// The settings that only some strategies read.
    pub fn of_some() -> Vec<&'static Setting> {
        let mut all: Vec<&Setting> = STRATEGIES.iter().flat_map(|s| s.pool.iter().chain(s.host)).copied().collect();
        all.sort_by_key(|s| s.name);
        all.dedup();
        all
    }
}

/// The strategy of a name, or what there is instead.
pub fn strategy(name: &StrategyName) -> Result<&'static Strategy, String> {
    STRATEGIES.iter().find(|s| &s.name == name).ok_or_else(|| {
        let known: Vec<&str> = STRATEGIES.iter().map(|s| s.name.as_str()).collect();
        let near = nearest(name.as_str(), known.iter().copied()).map(|k| format!("; did you mean {k}?"));
        format!("unknown strategy {:?}{}; known: {}", name.as_str(), near.unwrap_or_default(), known.join(", "))
    })
}

/// What is compiled: a rollout, or one that is only being previewed.
#[derive(Debug, Clone)]
pub(super) struct Subject {
    pub deployment: DeploymentId,
    pub forward: bool,
    pub from: Option<Pair>,
    pub to: Pair,
    pub strategy: StrategyName,
    pub params: RolloutParams,
    /// How its first installation makes room, once its steps are compiled.
    pub mode: Option<BatchMode>,
}

impl Subject {
    /// From a rollout's row.
    pub fn of(r: &Rollout) -> Self {
        Self {
            deployment: r.deployment.clone(),
            forward: match r.kind {
                RolloutKind::Forward => true,
                RolloutKind::Return { .. } => false,
            },
            from: r.from.clone(),
            to: r.to.clone(),
            strategy: r.strategy.clone(),
            params: r.params.clone(),
            mode: r.steps.iter().chain(&r.forward_steps).find_map(|s| s.step.kind.mode()),
        }
    }
}

/// A compiler's result.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Compiled {
    /// Desired instances of the pair the phase installs.
    pub desired: u32,
    /// Order in which workers get instances.
    pub order: Vec<WorkerName>,
    pub steps: Vec<Step>,
    /// How the versions share the traffic.
    pub form: RouteForm,
    /// What bounds its instances.
    pub budget: Option<Budget>,
}

/// What compilers read, gathered once.
pub(super) struct Site<'a> {
    pub state: &'a State,
    pub subject: &'a Subject,
    pub deployment: &'a Deployment,
    pub spec: &'a Spec,
    strategy: &'static Strategy,
    /// Ready workers that the spec's placement chooses, by name.
    pub workers: Vec<WorkerName>,
    /// What goes on serving beside the candidate once it has begun.
    serving: Vec<Pair>,
    /// Which free addresses count as room.
    freed: Freed,
}

/// Stable, and what an earlier rollout left with a share of the traffic, or with one to come back to.
fn serving_beside(state: &State, deployment: &Deployment, to: &Pair) -> Vec<Pair> {
    let arms = arms_at_start(state, deployment, to);
    let serves = |a: &&Arm| a.role == Role::Stable || deployment.shares(a);
    arms.iter().filter(serves).map(|a| a.pair.clone()).collect()
}

/// Compiles one phase of a rollout.
pub(super) fn compile(state: &State, subject: &Subject, phase: RolloutPhase, freed: Freed) -> Result<Compiled, String> {
    let deployment = state.deployments.get(&subject.deployment).ok_or_else(|| {
        format!("deployment {} does not exist: `slipway apply -f` its spec first", subject.deployment)
    })?;
    let pair = match phase {
        RolloutPhase::Forward => &subject.to,
        RolloutPhase::Undo => subject.from.as_ref().unwrap_or(&subject.to),
    };
    let spec = state
        .spec(&subject.deployment, pair.spec)
        .ok_or_else(|| format!("spec {} of {} is no longer kept: apply it again", pair.spec, subject.deployment))?;
    let workers: Vec<WorkerName> = chosen(state, spec).map(|w| w.name.clone()).collect();
    let serving = serving_beside(state, deployment, &subject.to);
    let named = strategy(&subject.strategy);
    let of = |strategy| Site { state, subject, deployment, spec, strategy, workers, serving, freed };
    match phase {
        // A rollback needs no strategy, so one that is no longer known hinders nobody.
        RolloutPhase::Undo => Ok(undo::compile(&of(named.unwrap_or(&direct::DIRECT)))),
        RolloutPhase::Forward if !subject.forward => Ok(return_::compile(&of(named.unwrap_or(&direct::DIRECT)))),
        RolloutPhase::Forward => forward(&of(named?)),
    }
}

fn forward(site: &Site<'_>) -> Result<Compiled, String> {
    if site.workers.is_empty() {
        return Err(site.no_worker());
    }
    let compiled = (site.strategy.compile)(site)?;
    let limit = site.state.cluster.as_ref().map_or(u32::MAX, |c| c.settings.limits.instances_per_deployment);
    if compiled.desired > limit {
        return Err(format!(
            "{} would be {} instances, {} on each of {} workers, and a deployment has at most {limit}: lower \
             placement.per_worker, or choose fewer workers with placement.workers",
            site.subject.deployment,
            compiled.desired,
            site.spec.placement.per_worker,
            compiled.order.len()
        ));
    }
    Ok(compiled)
}

impl Site<'_> {
    /// What was compiled, with the form of the route and the bounds that go with the strategy. Who goes back keeps the
    /// route's form.
    pub fn compiled(&self, desired: u32, order: Vec<WorkerName>, steps: Vec<Step>) -> Compiled {
        let (strategy, p) = (self.strategy, &self.subject.params);
        let form = RouteForm { ttl: self.spec.ttl.unwrap_or(strategy.form.ttl), ..strategy.form };
        let form = self.deployment.route.as_ref().filter(|_| !self.subject.forward).map_or(form, |r| r.form());
        let budget = Budget { surge: p.surge(desired), unavailable: p.unavailable(desired) };
        Compiled { desired, order, steps, form, budget: strategy.bounded.then_some(budget) }
    }

    /// Desired instances over the chosen workers.
    pub fn desired(&self) -> u32 {
        u32::try_from(self.workers.len()).unwrap_or(u32::MAX).saturating_mul(self.spec.placement.per_worker)
    }

    /// Whether instances can only take each other's place.
    pub fn host(&self) -> bool {
        self.spec.address == AddressMode::Host
    }

    /// Live instances of the deployment.
    pub fn live(&self) -> impl Iterator<Item = &Instance> {
        self.state.instances_of(&self.subject.deployment).filter(|i| i.life.is_live())
    }

    /// Live instances of one pair.
    pub fn of(&self, pair: &Pair) -> u32 {
        count(self.live().filter(|i| &i.pair == pair))
    }

    fn no_worker(&self) -> String {
        let selector = &self.spec.placement.workers;
        if selector.is_empty() {
            return "no worker is ready: start `slipwayd agent` on a machine, then `slipway worker list`".into();
        }
        let labels: Vec<String> = selector.iter().map(|(k, v)| format!("{k}={v}")).collect();
        format!(
            "no ready worker has the labels {} that placement.workers asks for: see `slipway worker list`",
            labels.join(",")
        )
    }

    /// Steps that come first: what an earlier rollout left behind and neither side of this one needs.
    pub fn opening(&self) -> Vec<Step> {
        let mine = |p: &Pair| self.is_mine(p);
        let left = self.deployment.arms.iter().any(|a| !mine(&a.pair)) || self.live().any(|i| !mine(&i.pair));
        let mut steps = Vec::new();
        if left {
            steps.push(step("retire leftover", StepKind::Retire { delay: Period(0) }));
        }
        steps.push(step("stage", StepKind::Stage));
        steps
    }

    /// Whether instances of a pair take part in the rollout, or serve beside it; what is left over goes before it
    /// begins.
    fn is_mine(&self, pair: &Pair) -> bool {
        pair == &self.subject.to || self.subject.from.as_ref() == Some(pair) || self.serving.contains(pair)
    }

    /// How a rollback makes room: as its rollout did, but beside only where there is room for all that is missing.
    fn mode_back(&self, pair: &Pair) -> BatchMode {
        let p = &self.subject.params;
        let rolling = if p.max_surge.is_none() { BatchMode::InPlace } else { BatchMode::Replace };
        match self.subject.mode {
            _ if self.host() => BatchMode::InPlace,
            Some(mode) => mode,
            None if self.strategy.bounded && self.of(pair) == 0 => rolling,
            None if self.needs_room_beside_of(pair, self.spec.placement.per_worker).is_ok() => BatchMode::Beside,
            None => rolling,
        }
    }

    /// The one installation of a rollback: in batches as large as its rollout's, the traffic following.
    pub fn install_back(&self, group: &str, pair: &Pair, desired: u32) -> (Step, BatchMode) {
        let mode = self.mode_back(pair);
        let (batch, delay) = (self.subject.params.batch(mode, desired), Period(0));
        let checks = Vec::new();
        (step(group, StepKind::Install { share: ALL, mode, routing: Routing::ByCapacity, batch, delay, checks }), mode)
    }

    /// What the rollout's settings ask to be judged; what needs something to go back to, only where there is one.
    fn checks(&self, before: bool) -> Vec<Check> {
        Asked { params: &self.subject.params, spec: self.spec, before }.checks()
    }

    /// What a person has to end, where the rollout does not promote by itself.
    pub fn pause(&self, group: &str) -> Option<Step> {
        let checks = || self.checks(self.subject.from.is_some());
        (!self.subject.params.auto_promote).then(|| step(group, StepKind::Pause { checks: checks() }))
    }

    /// A bake of `hold`.
    pub fn bake(&self, group: &str, hold: Period, traffic: bool) -> Step {
        let mut checks = self.checks(self.subject.from.is_some());
        checks.retain(|c| traffic || !c.needs_traffic());
        step(group, StepKind::Bake { hold, checks })
    }

    /// An installation in batches. It goes on over what fails by itself where failures are only counted.
    pub fn install(
        &self,
        group: &str,
        share: BasisPoints,
        mode: BatchMode,
        routing: Routing,
        batch: u32,
        delay: Period,
    ) -> Step {
        let mut checks = self.checks(true);
        checks.retain(|c| c.needs_traffic() || self.subject.params.failure_action != FailureAction::Continue);
        step(group, StepKind::Install { share, mode, routing, batch: batch.max(1), delay, checks })
    }

    /// One installation next to the old ones, all at once.
    pub fn beside(&self, group: &str, share: BasisPoints, routing: Routing) -> Step {
        self.install(group, share, BatchMode::Beside, routing, share.of_rounded_up(self.desired()), Period(0))
    }

    /// Promotion, and the end of the old pair.
    pub fn closing(&self, delay: Period) -> Vec<Step> {
        let mut steps = vec![step("promote", StepKind::Promote)];
        if self.subject.from.is_some() {
            steps.push(step("retire", StepKind::Retire { delay }));
        }
        steps
    }

    /// Refused when a worker has no place for `per_worker` more instances next to those that run.
    pub fn needs_room_beside(&self, extra: u32) -> Result<(), String> {
        self.needs_room_beside_of(&self.subject.to, extra)
    }

    fn needs_room_beside_of(&self, pair: &Pair, extra: u32) -> Result<(), String> {
        for name in &self.workers {
            let Some(worker) = self.state.workers.get(name) else { continue };
            let has = count(self.live().filter(|i| &i.pair == pair && &i.worker == name));
            let need = extra.saturating_sub(has);
            // The first step makes room of what an earlier rollout left.
            let left = count(self.live().filter(|i| &i.worker == name && !self.is_mine(&i.pair)));
            let (free, what) = free_places(self.state, &self.subject.deployment, self.spec, worker, left, self.freed);
            if free < need {
                return Err(format!(
                    "worker {name} has room for {free} more instances of {}, {need} are needed: it lacks {what}; add \
                     addresses to its pool, raise its capacity, or {}",
                    self.subject.deployment, self.strategy.smaller
                ));
            }
        }
        Ok(())
    }

    /// Refused when replacing in place has no instance that may be missing.
    pub fn needs_unavailable(&self) -> Result<(), String> {
        if self.subject.params.max_unavailable.is_none() && self.subject.from.is_some() {
            return Err(format!(
                "{} replaces instances in place (address mode {}), which needs max_unavailable of at least 1: set \
                 rollout.max_unavailable or pass --max-unavailable 1",
                self.subject.deployment, self.spec.address
            ));
        }
        Ok(())
    }
}

/// A step under its heading.
pub(super) fn step(group: impl Into<String>, kind: StepKind) -> Step {
    Step { group: group.into(), kind }
}

/// The whole share, for compilers that install everything.
pub(super) const ALL: BasisPoints = WHOLE;
