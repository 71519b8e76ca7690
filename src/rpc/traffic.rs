//! The `Traffic` service: who gets which version, switches of deployments, and the settings of serving leases.
//!
//! Invariants: a switch is asked for under one request id, so a repeat finds the first one; waiting for its end reads this node's own
//! State and may be cut off and taken up again anywhere. Not here: what a switch waits for (`engine`).

use std::time::Duration;

use tokio::time::timeout;
use tonic::{Code, Request, Response, Status, async_trait};

use super::{Shared, catalog::known, error};
use crate::{
    model::{DeploymentId, Period},
    state::{
        Command, State, SwitchAsk, SwitchTo, Unfenced,
        command::{ExpirySet, LeaseSet, SwitchAsked},
    },
    traffic::lease::Terms,
    wire::{convert, convert_switch, v1},
};

/// How long servers may take to confirm a switch when nothing else is said.
const WITHIN: Period = Period::seconds(10);
/// Longest wait of one call for the end of a switch.
const MAX_WAIT: Duration = Duration::from_secs(2);

fn deployment(text: &str) -> Result<DeploymentId, Status> {
    text.parse().map_err(|e| error::invalid(&e))
}

/// The index of `s-INDEX`.
fn switch_id(text: &str) -> Result<u64, Status> {
    let digits = text.strip_prefix("s-").unwrap_or(text);
    digits
        .parse()
        .map_err(|_| error::bad(format!("{text:?} is no switch (such as s-120): `slipway traffic lease` lists them")))
}

fn read_ask(ask: &v1::SwitchRequest) -> Result<SwitchAsk, Status> {
    let deployments = ask.deployments.iter().map(|d| deployment(d)).collect::<Result<Vec<_>, _>>()?;
    let to = match (ask.to.as_str(), ask.back.as_str()) {
        ("", "") => return Err(error::bad("say where to: --to VERSION, --to previous, or --back SWITCH")),
        ("", back) => SwitchTo::Back(switch_id(back)?),
        ("previous", "") => SwitchTo::Previous,
        (version, "") => SwitchTo::Version(version.parse().map_err(|e| error::invalid(&e))?),
        (_, _) => return Err(error::bad("--to and --back exclude each other")),
    };
    Ok(SwitchAsk {
        deployments,
        to,
        wait: convert_switch::read_wait(&ask.wait).map_err(|e| error::invalid(&e))?,
        unfenced: if ask.take_back { Unfenced::TakeBack } else { Unfenced::Proceed },
        within: if ask.within_ms == 0 { WITHIN } else { Period(ask.within_ms) },
    })
}

fn find(state: &State, id: u64) -> Result<v1::Switch, Status> {
    let row = state.fences.switches.get(&id);
    row.map(convert_switch::switch)
        .ok_or_else(|| error::not_found(format!("switch s-{id} does not exist, or no longer")))
}

impl Shared {
    /// The switch at its end, or as it is when the time is over.
    async fn switch_end(&self, id: u64, wait_ms: u64) -> Result<v1::Switch, Status> {
        let consensus = self.consensus()?;
        let mut views = consensus.view_changes();
        let over = || consensus.view().fences.switches.get(&id).is_none_or(|s| s.end.is_some());
        let limit = Duration::from_millis(wait_ms).min(MAX_WAIT);
        // A State that does not come in time is said as it is.
        let _ = timeout(limit, views.wait_for(|_| over())).await;
        find(&consensus.view(), id)
    }

    async fn set_terms(&self, ask: &v1::SetLeaseRequest) -> Result<super::propose::Done, Status> {
        let old = self.read().await?.state.fences.terms;
        let or = |new: u64, old: Period| if new == 0 { old } else { Period(new) };
        let terms = Terms {
            duration: or(ask.duration_ms, old.duration),
            drift_ppm: if ask.drift_ppm == 0 { old.drift_ppm } else { ask.drift_ppm },
            margin: or(ask.margin_ms, old.margin),
        };
        let mode = convert_switch::read_mode(&ask.mode).map_err(|e| error::invalid(&e))?;
        let terms = (terms != old).then_some(terms);
        self.change(ask.request.as_ref(), Command::LeaseSet(LeaseSet { mode, terms })).await
    }
}

#[async_trait]
impl v1::traffic_server::Traffic for Shared {
    async fn get_route(&self, request: Request<v1::GetRouteRequest>) -> Result<Response<v1::GetRouteReply>, Status> {
        let read = self.read().await?;
        let id = deployment(&request.into_inner().deployment)?;
        let mut reply = convert::traffic(&read.state, known(&read.state, &id)?);
        self.backend.realised(&id, &mut reply);
        Ok(read.answer(reply))
    }

    async fn trace(&self, request: Request<v1::TraceRequest>) -> Result<Response<v1::TraceReply>, Status> {
        // A node is asked about itself: no leader is needed to know what it says.
        self.trusted()?;
        self.backend.trace(&request.into_inner()).map(Response::new)
    }

    async fn switch(&self, request: Request<v1::SwitchRequest>) -> Result<Response<v1::SwitchReply>, Status> {
        let ask = request.into_inner();
        let done =
            self.change(ask.request.as_ref(), Command::SwitchAsked(SwitchAsked { ask: read_ask(&ask)? })).await?;
        let switch = Some(self.switch_end(done.index, ask.wait_ms).await?);
        Ok(Response::new(v1::SwitchReply { receipt: done.receipt(), switch }))
    }

    async fn get_switch(&self, request: Request<v1::GetSwitchRequest>) -> Result<Response<v1::Switch>, Status> {
        let ask = request.into_inner();
        let read = self.read_or_older().await?;
        let newest = read.state.fences.switches.keys().next_back().copied();
        let id = match (ask.switch.as_str(), newest) {
            ("", Some(id)) => id,
            ("", None) => {
                return Err(error::not_found(
                    "there was no `traffic switch` yet; `rollout status` shows the switch of a rollout".to_string(),
                ));
            }
            (text, _) => switch_id(text)?,
        };
        let switch = self.switch_end(id, ask.wait_ms).await?;
        Ok(read.answer(switch))
    }

    async fn set_lease(&self, request: Request<v1::SetLeaseRequest>) -> Result<Response<v1::SetLeaseReply>, Status> {
        let ask = request.into_inner();
        let done = if ask.deployment.is_empty() {
            if !ask.on_expiry.is_empty() {
                return Err(error::bad("what happens at a lease's end is set for a deployment: name one"));
            }
            self.set_terms(&ask).await?
        } else {
            if !ask.mode.is_empty() || ask.duration_ms > 0 || ask.drift_ppm > 0 || ask.margin_ms > 0 {
                let text = "mode and times are the whole cluster's: set them in a call of their own";
                return Err(error::status(Code::InvalidArgument, "invalid", text));
            }
            let on_expiry = convert_switch::read_expiry(&ask.on_expiry).map_err(|e| error::invalid(&e))?;
            let deployment = deployment(&ask.deployment)?;
            self.change(ask.request.as_ref(), Command::ExpirySet(ExpirySet { deployment, on_expiry })).await?
        };
        let lease = Some(convert_switch::lease(&self.consensus()?.view()));
        Ok(Response::new(v1::SetLeaseReply { receipt: done.receipt(), lease }))
    }

    async fn get_lease(&self, _: Request<v1::GetLeaseRequest>) -> Result<Response<v1::Lease>, Status> {
        let read = self.read().await?;
        let lease = convert_switch::lease(&read.state);
        Ok(read.answer(lease))
    }
}
