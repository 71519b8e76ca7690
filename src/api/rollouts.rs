//! Rollouts: plan, start, look, and the verbs.

use std::time::Duration;

use tokio::time::timeout;

use super::{Api, ApiError, Caller, Kind, Reply, catalog::known, page::page, starting::read_start};
use crate::{
    engine::{Preview, Refused, planned_rollback_estimate, preview, rollback_estimate, ways_out},
    model::{DeploymentId, Named, Period, RolloutId, Step, StepKind},
    state::{
        Command, Deployment, Rejection, ReleaseStatus, Role, Rollout, RolloutStatus, State,
        command::{Abort, Pause, Promote, Resume, Rollback},
    },
    wire::{
        convert::{pair, stop_word},
        convert_rollout::{self, planned_step},
        v1,
    },
};

/// Longest wait for the leader's word.
const ASK: Duration = Duration::from_secs(1);

pub(super) fn deployment(text: &str) -> Result<DeploymentId, ApiError> {
    text.parse().map_err(ApiError::from)
}

/// The rollout that a verb names: itself, or a deployment's live one (with `or_last` also its last one).
fn named(state: &State, rollout: &str, deployed: &str, or_last: bool) -> Result<RolloutId, ApiError> {
    if !rollout.is_empty() {
        return rollout.parse().map_err(ApiError::from);
    }
    let id = deployment(deployed)?;
    let row = known(state, &id)?;
    let found = row.live.or(if or_last { row.last } else { None });
    found.ok_or_else(|| {
        let what = match row.last.and_then(|last| state.rollouts.get(&last)) {
            Some(last) => format!(
                "no live rollout: the last one, {}, is {}; `slipway rollout start {id} --to VERSION` starts another",
                last.id, last.status
            ),
            None => no_rollout(state, &id),
        };
        ApiError::new(Kind::Precondition, "no_rollout", format!("{id} has {what}"))
    })
}

/// What to do about a deployment that never had a rollout.
fn no_rollout(state: &State, id: &DeploymentId) -> String {
    let all = state.releases_of(&id.service).filter(|r| r.status != ReleaseStatus::Retired);
    match all.max_by_key(|r| r.meta.created_index) {
        Some(r) => format!("no rollout yet: `slipway rollout start {id} --to {}` starts one", r.version),
        None => format!(
            "no rollout yet: `slipway release push {} VERSION DIR` brings a release, then `slipway rollout start {id} \
             --to VERSION` starts one",
            id.service
        ),
    }
}

/// How long the bakes of a plan take together.
fn bakes(steps: &[Step]) -> Option<String> {
    let holds = steps.iter().map(|s| if let StepKind::Bake { hold, .. } = s.kind { hold.0 } else { 0 });
    let all = holds.fold(0, u64::saturating_add);
    (all > 0).then(|| format!("its bakes alone take {}", Period(all)))
}

pub(super) fn find(state: &State, id: RolloutId) -> Result<&Rollout, ApiError> {
    state.rollouts.get(&id).ok_or_else(|| Rejection::not_there(Named::Rollout, id).into())
}

impl Api {
    async fn verb(
        &self,
        by: &Caller,
        ask: &v1::VerbRequest,
        or_last: bool,
        command: impl FnOnce(RolloutId) -> Command,
    ) -> Reply<v1::VerbReply> {
        let read = self.read(by).await?;
        // A repeat finds the rollout that its first try ended among the last ones.
        let or_last = or_last || self.known_request(by, &read.state, ask.request.as_ref());
        let id = named(&read.state, &ask.rollout, &ask.deployment, or_last)?;
        let done = self.change(by, ask.request.as_ref(), command(id)).await?;
        // A rollback of a completed rollout makes a new one, named after its entry.
        let made = RolloutId(done.index);
        let answered = if self.consensus()?.view().rollouts.contains_key(&made) { made } else { id };
        Ok(v1::VerbReply { receipt: done.receipt(), rollout: answered.to_string() }.into())
    }

    /// The leader's reasons for waiting, from wherever it is.
    pub(super) async fn leader_waits(&self, id: &DeploymentId) -> Option<v1::WaitsReply> {
        let consensus = self.consensus.get()?;
        let leadership = consensus.leader().borrow().clone();
        if leadership.is_me {
            let (waits, now, term) = self.backend.waits(id);
            return Some(v1::WaitsReply { waits, now_ms: now.0, term });
        }
        let leader = leadership.leader?.id;
        timeout(ASK, self.remote.waits(consensus, leader, id)).await.ok()?.ok()
    }

    /// Starts a rollout.
    pub async fn start_rollout(&self, by: &Caller, ask: v1::StartRequest) -> Reply<v1::StartReply> {
        let read = self.read(by).await?;
        let asked = read_start(&read.state, &ask)?;
        // What the law refuses it says itself, with its reason; of a repeat this State may say anything.
        if !self.known_request(by, &read.state, ask.request.as_ref())
            && let Err(Refused::Plan(why)) = preview(&read.state, &by.principal, &asked.start)
        {
            return Err(ApiError::precondition(why));
        }
        let notes = asked.notes(&read.state);
        let done = self.change(by, ask.request.as_ref(), Command::StartRollout(asked.start)).await?;
        let rollout = RolloutId(done.index).to_string();
        Ok(v1::StartReply { receipt: done.receipt(), rollout, notes }.into())
    }

    /// The steps that a rollout would have, or why it would be refused.
    pub async fn plan_rollout(&self, by: &Caller, ask: v1::StartRequest) -> Reply<v1::PlanReply> {
        let read = self.read(by).await?;
        let asked = read_start(&read.state, &ask)?;
        let start = &asked.start;
        let Preview { desired, steps } = preview(&read.state, &by.principal, start).map_err(|e| match e {
            Refused::Law(why) => why.into(),
            Refused::Plan(why) => ApiError::precondition(why),
        })?;
        let weights: Vec<u32> = steps
            .iter()
            .filter_map(|s| if let StepKind::Route { weight } = s.kind { Some(weight.0) } else { None })
            .collect();
        let reply = v1::PlanReply {
            revision: asked.row.meta.revision,
            strategy: asked.strategy.to_string(),
            desired,
            from_version: asked.row.arms.pair(Role::Stable).map(|pair| pair.version.to_string()).unwrap_or_default(),
            to_version: start.version.to_string(),
            steps: steps.iter().map(planned_step).collect(),
            notes: bakes(&steps)
                .into_iter()
                .chain(asked.notes(&read.state))
                .chain(asked.unused())
                .chain(self.backend.coarse(&start.deployment, &weights))
                .chain(planned_rollback_estimate(&read.state, &by.principal, start).map(|w| format!("going back: {w}")))
                .collect(),
        };
        Ok(read.answer(reply))
    }

    /// A rollout, and what it waits for.
    pub async fn get_rollout(&self, by: &Caller, ask: v1::GetRolloutRequest) -> Reply<v1::Rollout> {
        let read = self.read(by).await?;
        let row = find(&read.state, named(&read.state, &ask.rollout, &ask.deployment, true)?)?;
        let mut reply = convert_rollout::rollout(&read.state, row, true);
        reply.rollback_estimate = rollback_estimate(&read.state, row).map(|w| w.to_string()).unwrap_or_default();
        if !row.status.is_terminal()
            && let Some(said) = self.leader_waits(&row.deployment).await
        {
            reply.waits = said.waits;
            reply.ways_out = ways_out(&read.state, &by.principal, &row.deployment);
            reply.now_ms = reply.now_ms.max(said.now_ms);
        }
        Ok(read.answer(reply))
    }

    /// A deployment's rollouts, or all, newest first.
    pub async fn history(&self, by: &Caller, ask: v1::HistoryRequest) -> Reply<v1::HistoryReply> {
        let read = self.read(by).await?;
        let of = if ask.deployment.is_empty() { None } else { Some(deployment(&ask.deployment)?) };
        if let Some(id) = &of {
            known(&read.state, id)?;
        }
        let rows = read.state.rollouts.values().filter(|r| of.as_ref().is_none_or(|d| d == &r.deployment));
        // Newest first: the key falls as the id rises.
        let rows =
            rows.map(|r| (format!("{:020}", u64::MAX - r.id.0), convert_rollout::rollout(&read.state, r, false)));
        let (page, items) = page(&read.state, ask.page.as_ref(), rows.collect());
        Ok(read.answer(v1::HistoryReply { page, items }))
    }

    /// Holds a rollout where it is.
    pub async fn pause(&self, by: &Caller, ask: v1::VerbRequest) -> Reply<v1::VerbReply> {
        self.verb(by, &ask, false, |rollout| Command::Pause(Pause { rollout })).await
    }

    /// Lets a paused rollout go on.
    pub async fn resume(&self, by: &Caller, ask: v1::VerbRequest) -> Reply<v1::VerbReply> {
        self.verb(by, &ask, false, |rollout| Command::Resume(Resume { rollout })).await
    }

    /// Puts traffic on stable and stops.
    pub async fn abort(&self, by: &Caller, ask: v1::AbortRequest) -> Reply<v1::VerbReply> {
        let v1::AbortRequest { request, rollout, deployment, as_is } = ask;
        let ask = v1::VerbRequest { request, rollout, deployment };
        self.verb(by, &ask, false, |rollout| Command::Abort(Abort { rollout, as_is })).await
    }

    /// Ends the present step, or skips to the end.
    pub async fn promote(&self, by: &Caller, ask: v1::PromoteRequest) -> Reply<v1::VerbReply> {
        let v1::PromoteRequest { request, rollout, deployment, full } = ask;
        let ask = v1::VerbRequest { request, rollout, deployment };
        self.verb(by, &ask, false, |rollout| Command::Promote(Promote { rollout, full })).await
    }

    /// Unwinds a live rollout, or starts a return from the last completed one.
    pub async fn rollback(&self, by: &Caller, ask: v1::VerbRequest) -> Reply<v1::VerbReply> {
        self.verb(by, &ask, true, |rollout| Command::Rollback(Rollback { rollout })).await
    }

    /// Why a deployment is not moving, as the leader's planner sees it now.
    pub async fn explain(&self, by: &Caller, ask: v1::ExplainRequest) -> Reply<v1::ExplainReply> {
        let read = self.read_or_older().await?;
        let id = deployment(&ask.deployment)?;
        let row = known(&read.state, &id)?;
        let shown = row.live.or(row.last).and_then(|r| read.state.rollouts.get(&r));
        let said = self.leader_waits(&id).await;
        let summary = shown.map_or_else(|| no_rollout(&read.state, &id), |r| describe(&read.state, r));
        let summary = stop_told(&read.state, row).map_or_else(|| summary.clone(), |stop| format!("{stop}; {summary}"));
        let leader = self.consensus()?.leader().borrow().leader.as_ref().map_or(0, |l| l.id);
        let mut waits = said.as_ref().map(|s| s.waits.clone()).unwrap_or_default();
        if said.is_none() {
            waits.push("no leader answers, so nobody plans: retry".into());
        }
        let reply = v1::ExplainReply {
            deployment: id.to_string(),
            rollout: shown.map(|r| r.id.to_string()).unwrap_or_default(),
            status: shown.map(|r| r.status.to_string()).unwrap_or_default(),
            summary,
            step: shown.and_then(Rollout::running).map(|(_, row)| convert_rollout::step_row(row, true)),
            terminal: shown.is_some_and(|r| r.status.is_terminal()),
            waits,
            leader_id: leader,
            now_ms: said.map_or(read.state.now.0, |s| s.now_ms),
            decisions: shown.map(convert_rollout::decisions).unwrap_or_default(),
            ways_out: ways_out(&read.state, &by.principal, &id),
            rollback_estimate: shown
                .and_then(|r| rollback_estimate(&read.state, r))
                .map(|w| w.to_string())
                .unwrap_or_default(),
        };
        Ok(read.answer(reply))
    }
}

/// How a deployment that was stopped stands, and by whom.
fn stop_told(state: &State, d: &Deployment) -> Option<String> {
    let stop = d.stop.as_ref()?;
    let way = if stop.starting { String::new() } else { format!(": `slipway service start {}` brings it back", d.id) };
    Some(format!("{}, by {}{way}", stop_word(state, d), stop.by))
}

fn describe(state: &State, r: &Rollout) -> String {
    let to = pair(&r.to).version;
    let at = r.running().map(|(_, row)| format!(", {}", row.step)).unwrap_or_default();
    match r.status {
        RolloutStatus::Pending
        | RolloutStatus::Active
        | RolloutStatus::Paused
        | RolloutStatus::Promoting
        | RolloutStatus::RollingBack => format!("{} to {to} is {}{at}", r.id, r.status),
        RolloutStatus::Completed | RolloutStatus::RolledBack | RolloutStatus::Failed | RolloutStatus::Aborted => {
            switched_since(state, r).unwrap_or_else(|| format!("idle; last: {} to {to} {}", r.id, r.status))
        }
    }
}

/// What `traffic switch` has done, or does, with a deployment since its last rollout began.
fn switched_since(state: &State, r: &Rollout) -> Option<String> {
    let (_, switch) = state.fences.switches.iter().rev().take_while(|(id, _)| **id > r.id.0).find(|(_, s)| {
        s.targets.iter().any(|t| t.deployment == r.deployment) && s.end.as_ref().is_none_or(|e| e.switched)
    })?;
    let t = switch.targets.iter().find(|t| t.deployment == r.deployment)?;
    let (id, from, to) = (switch.id, &t.from.version, &t.to.version);
    Some(match switch.end {
        None => format!("s-{id} switches its traffic {from} -> {to}: `slipway traffic history` says how far it is"),
        Some(_) => format!("idle; last: s-{id} switched its traffic {from} -> {to}"),
    })
}
