//! Strategies compile to steps; one executor runs them. Adding a strategy adds a compiler here and golden transcripts, never
//! executor code.
//!
//! Invariants: a compiler reads committed State only; its steps end with a promotion (forward) or with the new pair gone (undo);
//! what cannot be carried out is refused here, before anything runs.

mod blue_green;
mod canary;
mod direct;
mod return_;
mod rolling;
mod undo;

use super::place::free_places;
use super::view::count;
use crate::model::{
    AddressMode, BasisPoints, BatchMode, DeploymentId, FailureAction, Pair, Period, RolloutParams, Routing, Spec, Step,
    StepKind, Strategy, WHOLE, WorkerName,
};
use crate::state::{Deployment, Instance, Rollout, RolloutKind, RolloutPhase, State, chosen};

/// What is compiled: a rollout, or one that is only being previewed.
#[derive(Debug, Clone)]
pub(super) struct Subject {
    pub deployment: DeploymentId,
    pub forward: bool,
    pub from: Option<Pair>,
    pub to: Pair,
    pub strategy: Strategy,
    pub params: RolloutParams,
    pub switched: bool,
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
            strategy: r.strategy,
            params: r.params.clone(),
            switched: r.switched,
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
    /// The steps.
    pub steps: Vec<Step>,
}

/// What compilers read, gathered once.
pub(super) struct Site<'a> {
    pub state: &'a State,
    pub subject: &'a Subject,
    pub deployment: &'a Deployment,
    pub spec: &'a Spec,
    /// Ready workers that the spec's placement chooses, by name.
    pub workers: Vec<WorkerName>,
}

/// Compiles one phase of a rollout.
pub(super) fn compile(state: &State, subject: &Subject, phase: RolloutPhase) -> Result<Compiled, String> {
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
    let site = Site { state, subject, deployment, spec, workers };
    match phase {
        RolloutPhase::Undo => Ok(undo::compile(&site)),
        RolloutPhase::Forward => forward(&site),
    }
}

fn forward(site: &Site<'_>) -> Result<Compiled, String> {
    if site.workers.is_empty() {
        return Err(site.no_worker());
    }
    if !site.subject.forward {
        return return_::compile(site);
    }
    if site.subject.from.is_none() {
        return direct::compile(site);
    }
    match site.subject.strategy {
        Strategy::Direct => direct::compile(site),
        Strategy::Rolling => rolling::compile(site),
        Strategy::Canary => canary::compile(site),
        Strategy::BlueGreen => blue_green::compile(site),
    }
}

impl Site<'_> {
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
        let mine = |p: &Pair| p == &self.subject.to || self.subject.from.as_ref() == Some(p);
        let left = self.deployment.tracks.iter().any(|(_, t)| !mine(&t.pair)) || self.live().any(|i| !mine(&i.pair));
        let mut steps = Vec::new();
        if left {
            steps.push(step("retire leftover", StepKind::Retire { delay: Period(0) }));
        }
        steps.push(step("stage", StepKind::Stage));
        steps
    }

    /// Whether the ceiling can be judged where traffic is expected.
    pub fn judged(&self) -> bool {
        self.subject.from.is_some() && self.subject.params.max_error_rate.is_some() && self.spec.metrics.is_some()
    }

    /// A bake of `hold`.
    pub fn bake(&self, group: &str, hold: Period, judged: bool) -> Step {
        step(group, StepKind::Bake { hold, judged: judged && self.judged() })
    }

    /// One installation next to the old ones, all at once.
    pub fn beside(&self, group: &str, share: BasisPoints, routing: Routing) -> Step {
        let batch = share.of_rounded_up(self.desired()).max(1);
        step(group, StepKind::Install { share, mode: BatchMode::Beside, routing, batch, delay: Period(0) })
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
        for name in &self.workers {
            let Some(worker) = self.state.workers.get(name) else { continue };
            let has = count(self.live().filter(|i| i.pair == self.subject.to && &i.worker == name));
            let need = extra.saturating_sub(has);
            let (free, what) = free_places(self.state, &self.subject.deployment, self.spec, worker);
            if free < need {
                return Err(format!(
                    "worker {name} has room for {free} more instances of {}, {need} are needed: it lacks {what}; add \
                     addresses to its pool, raise its capacity, or use a rolling update",
                    self.subject.deployment
                ));
            }
        }
        Ok(())
    }

    /// Refused when replacing in place has no instance that may be missing.
    pub fn needs_unavailable(&self) -> Result<(), String> {
        if self.subject.params.max_unavailable == 0 && self.subject.from.is_some() {
            return Err(format!(
                "{} replaces instances in place (address mode {}), which needs max_unavailable of at least 1: set \
                 rollout.max_unavailable or pass --max-unavailable 1",
                self.subject.deployment, self.spec.address
            ));
        }
        Ok(())
    }

    /// Whether what a batch leaves of the old pair has to be retired after promotion.
    pub fn leaves_old(&self, mode: BatchMode) -> bool {
        mode != BatchMode::Replace
            || self.subject.params.failure_action == FailureAction::Continue
            || self.of(&self.subject.to) > 0
    }
}

/// A step under its heading.
pub(super) fn step(group: impl Into<String>, kind: StepKind) -> Step {
    Step { group: group.into(), kind }
}

/// An installation in place of the old ones.
pub(super) fn in_place(group: &str, share: BasisPoints, routing: Routing, batch: u32, delay: Period) -> Step {
    step(group, StepKind::Install { share, mode: BatchMode::InPlace, routing, batch: batch.max(1), delay })
}

/// The whole share, for compilers that install everything.
pub(super) const ALL: BasisPoints = WHOLE;
