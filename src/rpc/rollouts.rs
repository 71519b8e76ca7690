//! The `Rollouts` service: plan, start, look, and the verbs.

use tonic::{Code, Request, Response, Status, async_trait};

use super::{Shared, catalog::known, error, page::page, starting::read_start};
use crate::{
    engine::{Refused, planned_way_back, preview, way_back, ways_out},
    model::{DeploymentId, RolloutId, StepKind},
    state::{
        Command, Role, Rollout, RolloutStatus, State,
        command::{Abort, Pause, Promote, Resume, Rollback},
    },
    wire::{
        convert::pair,
        convert_rollout::{self, planned_step},
        v1,
    },
};

pub(super) fn deployment(text: &str) -> Result<DeploymentId, Status> {
    text.parse().map_err(|e| error::invalid(&e))
}

/// The rollout that a verb names: itself, or a deployment's live one (with `or_last` also its last one).
fn named(state: &State, rollout: &str, deployed: &str, or_last: bool) -> Result<RolloutId, Status> {
    if !rollout.is_empty() {
        return rollout.parse().map_err(|e| error::invalid(&e));
    }
    let id = deployment(deployed)?;
    let row = known(state, &id)?;
    let found = row.live.or(if or_last { row.last } else { None });
    found.ok_or_else(|| {
        let what = if or_last { "no rollout" } else { "no live rollout" };
        error::status(
            Code::FailedPrecondition,
            "no_rollout",
            format!("{id} has {what}: `slipway rollout history {id}`"),
        )
    })
}

fn find(state: &State, id: RolloutId) -> Result<&Rollout, Status> {
    state.rollouts.get(&id).ok_or_else(|| error::not_found(format!("rollout {id} does not exist (any more)")))
}

impl Shared {
    async fn verb(
        &self,
        ask: &v1::VerbRequest,
        or_last: bool,
        command: impl FnOnce(RolloutId) -> Command,
    ) -> Result<Response<v1::VerbReply>, Status> {
        let read = self.read().await?;
        // A repeat finds the rollout that its first try ended among the last ones.
        let or_last = or_last || self.known_request(&read.state, ask.request.as_ref());
        let id = named(&read.state, &ask.rollout, &ask.deployment, or_last)?;
        let done = self.change(ask.request.as_ref(), command(id)).await?;
        // A rollback of a completed rollout makes a new one, named after its entry.
        let made = RolloutId(done.index);
        let answered = if self.consensus()?.view().rollouts.contains_key(&made) { made } else { id };
        Ok(Response::new(v1::VerbReply { receipt: done.receipt(), rollout: answered.to_string() }))
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
        let request = v1::WaitsRequest { header: Some(consensus.peer_header(leader)), deployment: id.to_string() };
        let mut client = consensus.peer_client(leader)?;
        let asked = tokio::time::timeout(std::time::Duration::from_secs(1), client.waits(request)).await;
        asked.ok()?.ok().map(Response::into_inner)
    }
}

#[async_trait]
impl v1::rollouts_server::Rollouts for Shared {
    async fn start(&self, request: Request<v1::StartRequest>) -> Result<Response<v1::StartReply>, Status> {
        let ask = request.into_inner();
        let read = self.read().await?;
        let asked = read_start(&read.state, &ask)?;
        // What the law refuses it says itself, with its reason; of a repeat this State may say anything.
        if !self.known_request(&read.state, ask.request.as_ref())
            && let Err(Refused::Plan(why)) = preview(&read.state, &asked.start)
        {
            return Err(error::status(Code::FailedPrecondition, "precondition", why));
        }
        let notes = asked.notes(&read.state);
        let done = self.change(ask.request.as_ref(), Command::StartRollout(asked.start)).await?;
        let rollout = RolloutId(done.index).to_string();
        Ok(Response::new(v1::StartReply { receipt: done.receipt(), rollout, notes }))
    }

    async fn plan(&self, request: Request<v1::StartRequest>) -> Result<Response<v1::PlanReply>, Status> {
        let ask = request.into_inner();
        let read = self.read().await?;
        let asked = read_start(&read.state, &ask)?;
        let start = &asked.start;
        let steps = preview(&read.state, start).map_err(|e| match e {
            Refused::Law(why) => error::refusal(&why),
            Refused::Plan(why) => error::status(Code::FailedPrecondition, "precondition", why),
        })?;
        let weights: Vec<u32> = steps
            .iter()
            .filter_map(|s| if let StepKind::Route { weight } = s.kind { Some(weight.0) } else { None })
            .collect();
        let reply = v1::PlanReply {
            strategy: asked.strategy.to_string(),
            desired: asked.row.desired,
            from: asked.row.arms.pair(Role::Stable).map(|pair| pair.version.to_string()).unwrap_or_default(),
            to: start.version.to_string(),
            steps: steps.iter().map(planned_step).collect(),
            notes: asked
                .notes(&read.state)
                .into_iter()
                .chain(asked.unused())
                .chain(self.backend.coarse(&start.deployment, &weights))
                .chain(planned_way_back(&read.state, start).map(|w| format!("going back: {w}")))
                .collect(),
        };
        Ok(read.answer(reply))
    }

    async fn get(&self, request: Request<v1::GetRolloutRequest>) -> Result<Response<v1::Rollout>, Status> {
        let ask = request.into_inner();
        let read = self.read().await?;
        let row = find(&read.state, named(&read.state, &ask.rollout, &ask.deployment, true)?)?;
        let mut reply = convert_rollout::rollout(&read.state, row, true);
        reply.way_back = way_back(&read.state, row).map(|w| w.to_string()).unwrap_or_default();
        if !row.status.is_terminal()
            && let Some(said) = self.leader_waits(&row.deployment).await
        {
            reply.waits = said.waits;
            reply.ways_out = ways_out(&read.state, &row.deployment);
            reply.now_ms = reply.now_ms.max(said.now_ms);
        }
        Ok(read.answer(reply))
    }

    async fn history(&self, request: Request<v1::HistoryRequest>) -> Result<Response<v1::HistoryReply>, Status> {
        let ask = request.into_inner();
        let read = self.read().await?;
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

    async fn pause(&self, request: Request<v1::VerbRequest>) -> Result<Response<v1::VerbReply>, Status> {
        self.verb(&request.into_inner(), false, |rollout| Command::Pause(Pause { rollout })).await
    }

    async fn resume(&self, request: Request<v1::VerbRequest>) -> Result<Response<v1::VerbReply>, Status> {
        self.verb(&request.into_inner(), false, |rollout| Command::Resume(Resume { rollout })).await
    }

    async fn abort(&self, request: Request<v1::AbortRequest>) -> Result<Response<v1::VerbReply>, Status> {
        let v1::AbortRequest { request, rollout, deployment, as_is } = request.into_inner();
        let ask = v1::VerbRequest { request, rollout, deployment };
        self.verb(&ask, false, |rollout| Command::Abort(Abort { rollout, as_is })).await
    }

    async fn promote(&self, request: Request<v1::PromoteRequest>) -> Result<Response<v1::VerbReply>, Status> {
        let v1::PromoteRequest { request, rollout, deployment, full } = request.into_inner();
        let ask = v1::VerbRequest { request, rollout, deployment };
        self.verb(&ask, false, |rollout| Command::Promote(Promote { rollout, full })).await
    }

    async fn rollback(&self, request: Request<v1::VerbRequest>) -> Result<Response<v1::VerbReply>, Status> {
        self.verb(&request.into_inner(), true, |rollout| Command::Rollback(Rollback { rollout })).await
    }

    async fn explain(&self, request: Request<v1::ExplainRequest>) -> Result<Response<v1::ExplainReply>, Status> {
        let read = self.read_or_older().await?;
        let id = deployment(&request.into_inner().deployment)?;
        let row = known(&read.state, &id)?;
        let shown = row.live.or(row.last).and_then(|r| read.state.rollouts.get(&r));
        let said = self.leader_waits(&id).await;
        let status = shown.map_or_else(|| "no rollout yet".to_string(), describe);
        let leader = self.consensus()?.leader().borrow().leader.as_ref().map_or(0, |l| l.id);
        let mut waits = said.as_ref().map(|s| s.waits.clone()).unwrap_or_default();
        if said.is_none() {
            waits.push("no leader answers, so nobody plans: retry".into());
        }
        let reply = v1::ExplainReply {
            deployment: id.to_string(),
            rollout: row.live.map(|r| r.to_string()).unwrap_or_default(),
            status,
            waits,
            leader_id: leader,
            now_ms: said.map_or(read.state.now.0, |s| s.now_ms),
            decisions: shown.map(convert_rollout::decisions).unwrap_or_default(),
            ways_out: ways_out(&read.state, &id),
            way_back: shown.and_then(|r| way_back(&read.state, r)).map(|w| w.to_string()).unwrap_or_default(),
        };
        Ok(read.answer(reply))
    }
}

fn describe(r: &Rollout) -> String {
    let to = pair(&r.to).version;
    let at = r.running().map(|(_, row)| format!(", {}: {}", row.step.group, row.step.kind)).unwrap_or_default();
    match r.status {
        RolloutStatus::Pending
        | RolloutStatus::Active
        | RolloutStatus::Paused
        | RolloutStatus::Promoting
        | RolloutStatus::RollingBack => format!("{} to {to} is {}{at}", r.id, r.status),
        RolloutStatus::Completed | RolloutStatus::RolledBack | RolloutStatus::Failed | RolloutStatus::Aborted => {
            format!("idle; last: {} to {to} {}", r.id, r.status)
        }
    }
}
