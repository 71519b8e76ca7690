//! Traffic: who gets which version, switches of deployments, and the settings of serving leases.
//!
//! Invariants: a switch is asked for under one request id, so a repeat finds the first one; waiting for its end reads
//! this node's own State and may be cut off and taken up again anywhere. Not here: what a switch waits for (`engine`).

use std::time::Duration;

use tokio::time::timeout;

use super::{Answer, Api, ApiError, Caller, Reply, catalog::known, propose::Done};
use crate::{
    model::{DeploymentId, Named, Period},
    state::{
        Command, Rejection, State, SwitchAsk, SwitchTo, Unfenced,
        command::{ExpirySet, LeaseSet, SwitchAsked},
    },
    traffic::lease::Terms,
    wire::{convert, convert_switch, v1},
};

/// How long servers may take to confirm a switch when nothing else is said.
const WITHIN: Period = Period::seconds(10);

fn deployment(text: &str) -> Result<DeploymentId, ApiError> {
    text.parse().map_err(ApiError::from)
}

/// The index of `s-INDEX`.
fn switch_id(text: &str) -> Result<u64, ApiError> {
    let digits = text.strip_prefix("s-").unwrap_or(text);
    digits.parse().map_err(|_| {
        ApiError::bad(format!("{text:?} is no switch (such as s-120): `slipway traffic history` lists them"))
    })
}

fn read_ask(ask: &v1::SwitchRequest) -> Result<SwitchAsk, ApiError> {
    let deployments = ask.deployments.iter().map(|d| deployment(d)).collect::<Result<Vec<_>, _>>()?;
    let to = match (ask.to.as_str(), ask.back.as_str()) {
        ("", "") => return Err(ApiError::bad("say where to: --to VERSION, --to previous, or --back SWITCH")),
        ("", back) => SwitchTo::Back(switch_id(back)?),
        ("previous", "") => SwitchTo::Previous,
        (version, "") => SwitchTo::Version(version.parse()?),
        (_, _) => return Err(ApiError::bad("--to and --back exclude each other")),
    };
    Ok(SwitchAsk {
        deployments,
        to,
        wait: convert_switch::read_wait(&ask.wait)?,
        unfenced: if ask.take_back { Unfenced::TakeBack } else { Unfenced::Proceed },
        within: if ask.within_ms == 0 { WITHIN } else { Period(ask.within_ms) },
    })
}

fn find(state: &State, id: u64) -> Result<v1::Switch, ApiError> {
    let row = state.fences.switches.get(&id);
    row.map(|s| convert_switch::switch(state, s))
        .ok_or_else(|| Rejection::not_there(Named::Switch, format_args!("s-{id}")).into())
}

impl Api {
    /// The switch at its end, or as it is when the time is over.
    async fn switch_end(&self, by: &Caller, id: u64, wait_ms: u64) -> Result<v1::Switch, ApiError> {
        let consensus = self.consensus()?;
        let mut views = consensus.view_changes();
        let over = || consensus.view().fences.switches.get(&id).is_none_or(|s| s.end.is_some());
        let limit = Duration::from_millis(wait_ms).min(by.operation.wait);
        // A State that does not come in time is said as it is.
        let _ = timeout(limit, views.wait_for(|_| over())).await;
        find(&consensus.view(), id)
    }

    async fn set_terms(&self, by: &Caller, ask: &v1::SetLeaseRequest) -> Result<Done, ApiError> {
        let old = self.read(by).await?.state.fences.terms;
        let or = |new: u64, old: Period| if new == 0 { old } else { Period(new) };
        let terms = Terms {
            duration: or(ask.duration_ms, old.duration),
            drift_ppm: if ask.drift_ppm == 0 { old.drift_ppm } else { ask.drift_ppm },
            margin: or(ask.margin_ms, old.margin),
        };
        let mode = convert_switch::read_mode(&ask.mode)?;
        let terms = (terms != old).then_some(terms);
        self.change(by, ask.request.as_ref(), Command::LeaseSet(LeaseSet { mode, terms })).await
    }

    /// Who gets which version, and what this node's DNS has really answered.
    pub async fn get_route(&self, by: &Caller, ask: v1::GetRouteRequest) -> Reply<v1::GetRouteReply> {
        let read = self.read(by).await?;
        let id = deployment(&ask.deployment)?;
        let reply = convert::traffic(&read.state, known(&read.state, &id)?);
        let reply = match self.backend.realised(&id) {
            Some(seen) => seen.beside(reply),
            None => reply,
        };
        Ok(read.answer(reply))
    }

    /// What this node's DNS would answer about a name, and why.
    pub async fn trace(&self, _: &Caller, ask: v1::TraceRequest) -> Reply<v1::TraceReply> {
        // A node is asked about itself: no leader is needed to know what it says.
        self.trusted()?;
        self.backend.trace(&ask).map(Answer::from)
    }

    /// Switches deployments together.
    pub async fn switch(&self, by: &Caller, ask: v1::SwitchRequest) -> Reply<v1::SwitchReply> {
        let done =
            self.change(by, ask.request.as_ref(), Command::SwitchAsked(SwitchAsked { ask: read_ask(&ask)? })).await?;
        let switch = Some(self.switch_end(by, done.index, ask.wait_ms).await?);
        Ok(v1::SwitchReply { receipt: done.receipt(), switch }.into())
    }

    /// A switch, at its end if that comes in time.
    pub async fn get_switch(&self, by: &Caller, ask: v1::GetSwitchRequest) -> Reply<v1::Switch> {
        let read = self.read_or_older().await?;
        let newest = read.state.fences.switches.keys().next_back().copied();
        let id = match (ask.switch.as_str(), newest) {
            ("", Some(id)) => id,
            ("", None) => {
                return Err(ApiError::not_found(
                    "there was no `traffic switch` yet; `slipway rollout status` shows the switch of a rollout"
                        .to_string(),
                ));
            }
            (text, _) => switch_id(text)?,
        };
        let switch = self.switch_end(by, id, ask.wait_ms).await?;
        Ok(read.answer(switch))
    }

    /// Changes the settings of serving leases.
    pub async fn set_lease(&self, by: &Caller, ask: v1::SetLeaseRequest) -> Reply<v1::SetLeaseReply> {
        let done = if ask.deployment.is_empty() {
            if !ask.on_expiry.is_empty() {
                return Err(ApiError::bad("what happens at a lease's end is set for a deployment: name one"));
            }
            self.set_terms(by, &ask).await?
        } else {
            if !ask.mode.is_empty() || ask.duration_ms > 0 || ask.drift_ppm > 0 || ask.margin_ms > 0 {
                let text = "mode and times are the whole cluster's: set them in a call of their own";
                return Err(ApiError::bad(text));
            }
            let on_expiry = convert_switch::read_expiry(&ask.on_expiry)?;
            let deployment = deployment(&ask.deployment)?;
            self.change(by, ask.request.as_ref(), Command::ExpirySet(ExpirySet { deployment, on_expiry })).await?
        };
        let lease = Some(convert_switch::lease(&self.consensus()?.view()));
        Ok(v1::SetLeaseReply { receipt: done.receipt(), lease }.into())
    }

    /// The settings of serving leases, and the switches.
    pub async fn get_lease(&self, by: &Caller, _: v1::GetLeaseRequest) -> Reply<v1::Lease> {
        let read = self.read(by).await?;
        let lease = convert_switch::lease(&read.state);
        Ok(read.answer(lease))
    }
}
