//! Specs, releases, lists.

use std::collections::BTreeSet;

use super::{Api, ApiError, Caller, Reply, changes::changes, page::page};
use crate::{
    engine::strategy,
    model::{BuildInfo, DeploymentId, Digest, Name, Named, Spec, SpecFormat, Version, read_spec},
    state::{
        Command, State,
        command::{ReleaseRegistered, SpecApplied},
        copies_of, rehearse, serving,
    },
    wire::{
        convert::{self, count},
        v1,
    },
};

const MAX_LABELS: usize = 64;
const MAX_TEXT: usize = 256;

fn format(name: &str) -> Result<SpecFormat, ApiError> {
    if name.is_empty() {
        return Ok(SpecFormat::Yaml);
    }
    name.parse().map_err(|_| ApiError::bad(format!("format {name:?} is not yaml, json or toml")))
}

/// Whether a row passes an exact filter; an empty one takes everything.
fn takes(filter: &str, value: &str) -> bool {
    filter.is_empty() || filter == value
}

fn check_text(what: &str, text: &str) -> Result<(), ApiError> {
    if text.len() > MAX_TEXT {
        return Err(ApiError::bad(format!("{what} is longer than {MAX_TEXT} bytes")));
    }
    Ok(())
}

/// Things that are allowed and probably not meant.
fn warnings(state: &State, spec: &Spec) -> Vec<String> {
    let mut said = Vec::new();
    if state.workers.carrying(&spec.placement.workers).next().is_none() {
        said.push("no registered worker matches placement.workers yet: `slipway worker list`".into());
    }
    if let (None, Some(most)) = (&spec.metrics, spec.rollout.max_error_rate.0) {
        said.push(format!(
            "there are no metrics, so rollout.max_error_rate ({most}) judges nothing: name them, or set it to off"
        ));
    }
    said
}

impl Api {
    /// Creates or changes a deployment's spec.
    pub async fn apply(&self, by: &Caller, ask: v1::ApplyRequest) -> Reply<v1::ApplyReply> {
        let spec = read_spec(&ask.document, format(&ask.format)?)?;
        if let Some(named) = &spec.rollout.strategy {
            strategy(named).map_err(|e| ApiError::bad(format!("rollout.strategy: {e}")))?;
        }
        let read = self.read(by).await?;
        let before = read.state.deployments.get(&spec.deployment);
        let old = before.and_then(|d| read.state.spec(&spec.deployment, d.spec)).cloned();
        let mut reply = v1::ApplyReply {
            deployment: spec.deployment.to_string(),
            created: before.is_none(),
            changes: old.as_ref().map(|o| changes(o, &spec)).unwrap_or_default(),
            warnings: warnings(&read.state, &spec),
            ..v1::ApplyReply::default()
        };
        reply.changed = reply.created || !reply.changes.is_empty();
        let expected = (ask.expected > 0).then_some(ask.expected);
        let id = spec.deployment.clone();
        if ask.dry_run {
            let applied = Command::SpecApplied(SpecApplied { spec, expected });
            let after = rehearse(&read.state, &by.principal, applied)?;
            reply.spec = after.deployments.get(&id).map_or(0, |d| d.spec);
            reply.receipt = Some(v1::Receipt { index: 0, now_ms: read.state.now.0, repeated: false });
            return Ok(read.answer(reply));
        }
        let done = self.change(by, ask.request.as_ref(), Command::SpecApplied(SpecApplied { spec, expected })).await?;
        reply.spec = self.consensus()?.view().deployments.get(&id).map_or(0, |d| d.spec);
        reply.receipt = done.receipt();
        Ok(reply.into())
    }

    /// Registers a release whose package was pushed.
    pub async fn register_release(
        &self,
        by: &Caller,
        ask: v1::RegisterReleaseRequest,
    ) -> Reply<v1::RegisterReleaseReply> {
        let build = ask.build.unwrap_or_default();
        for (what, text) in [("commit", &build.commit), ("built_at", &build.built_at), ("toolchain", &build.toolchain)]
        {
            check_text(what, text)?;
        }
        if ask.labels.len() > MAX_LABELS || build.components.len() > MAX_LABELS {
            return Err(ApiError::bad(format!("at most {MAX_LABELS} labels and {MAX_LABELS} components")));
        }
        for (key, value) in ask.labels.iter().chain(&build.components) {
            check_text("a label or component", key)?;
            check_text("a label or component", value)?;
        }
        let digest = Digest::new(&ask.digest)?;
        let command = Command::ReleaseRegistered(ReleaseRegistered {
            service: Name::service(&ask.service)?,
            version: ask.version.parse::<Version>()?,
            digest: digest.clone(),
            build: BuildInfo {
                commit: build.commit,
                built_at: build.built_at,
                toolchain: build.toolchain,
                components: build.components,
            },
            labels: ask.labels,
        });
        let done = self.change(by, ask.request.as_ref(), command).await?;
        let (holders, nodes) = self.holders(&digest);
        Ok(v1::RegisterReleaseReply { receipt: done.receipt(), holders, nodes }.into())
    }

    /// In their order.
    pub async fn list_environments(&self, by: &Caller, ask: v1::ListRequest) -> Reply<v1::ListEnvironmentsReply> {
        let read = self.read(by).await?;
        let rows = read.state.environments.values();
        let rows = rows.map(|e| (format!("{:010}/{}", e.order, e.name), convert::environment(e))).collect();
        let (page, items) = page(&read.state, ask.page.as_ref(), rows);
        Ok(read.answer(v1::ListEnvironmentsReply { page, items }))
    }

    /// By name.
    pub async fn list_services(&self, by: &Caller, ask: v1::ListRequest) -> Reply<v1::ListServicesReply> {
        let read = self.read(by).await?;
        let rows = read.state.services.values().filter(|s| takes(&ask.service, s.name.as_str()));
        let rows = rows.map(|s| (s.name.to_string(), convert::service(&read.state, s))).collect();
        let (page, items) = page(&read.state, ask.page.as_ref(), rows);
        Ok(read.answer(v1::ListServicesReply { page, items }))
    }

    /// By service, each one's in the order of versions.
    pub async fn list_releases(&self, by: &Caller, ask: v1::ListRequest) -> Reply<v1::ListReleasesReply> {
        let read = self.read(by).await?;
        let rows = read.state.releases.values().filter(|r| takes(&ask.service, r.service.as_str()));
        let key = |r: &crate::state::Release| format!("{}/{}", r.service, r.version.sort_key(r.meta.created_index));
        let rows = rows.map(|r| (key(r), convert::release(&read.state, r))).collect();
        let (page, items) = page(&read.state, ask.page.as_ref(), rows);
        Ok(read.answer(v1::ListReleasesReply { page, items }))
    }

    /// By environment and service.
    pub async fn list_deployments(&self, by: &Caller, ask: v1::ListRequest) -> Reply<v1::ListDeploymentsReply> {
        let read = self.read(by).await?;
        let rows = read.state.deployments.values().filter(|d| {
            takes(&ask.service, d.id.service.as_str()) && takes(&ask.environment, d.id.environment.as_str())
        });
        let rows = rows.map(|d| (d.id.to_string(), convert::deployment(&read.state, d))).collect();
        let (page, items) = page(&read.state, ask.page.as_ref(), rows);
        Ok(read.answer(v1::ListDeploymentsReply { page, items }))
    }

    /// By name.
    pub async fn list_workers(&self, by: &Caller, ask: v1::ListRequest) -> Reply<v1::ListWorkersReply> {
        let read = self.read(by).await?;
        let rows = read.state.workers.values().filter(|w| takes(&ask.worker, w.name.as_str()));
        let rows = rows.map(|w| (w.name.to_string(), convert::worker(&read.state, w))).collect();
        let (page, items) = page(&read.state, ask.page.as_ref(), rows);
        Ok(read.answer(v1::ListWorkersReply { page, items }))
    }

    /// Those that live, or all that are remembered, oldest first.
    pub async fn list_instances(&self, by: &Caller, ask: v1::ListRequest) -> Reply<v1::ListInstancesReply> {
        let read = self.read(by).await?;
        let state = &read.state;
        let serves: BTreeSet<_> = state
            .deployments
            .keys()
            .filter(|d| takes(&ask.service, d.service.as_str()) && takes(&ask.environment, d.environment.as_str()))
            .flat_map(|d| serving(state, d, state.now))
            .map(|i| i.id)
            .collect();
        let rows = state.instances.values().filter(|i| {
            takes(&ask.service, i.deployment.service.as_str())
                && takes(&ask.environment, i.deployment.environment.as_str())
                && takes(&ask.worker, i.worker.as_str())
                && (ask.all || i.life.is_live())
        });
        let key = |i: &crate::state::Instance| format!("{:020}-{:010}", i.id.index, i.id.ordinal);
        let rows = rows.map(|i| (key(i), convert::instance(state, i, serves.contains(&i.id)))).collect();
        let (page, items) = page(state, ask.page.as_ref(), rows);
        Ok(read.answer(v1::ListInstancesReply { page, items }))
    }

    /// A deployment's spec as JSON, defaults filled in.
    pub async fn get_spec(&self, by: &Caller, ask: v1::GetSpecRequest) -> Reply<v1::GetSpecReply> {
        let read = self.read(by).await?;
        let id: DeploymentId = ask.deployment.parse()?;
        let row = known(&read.state, &id)?;
        let revision = if ask.spec == 0 { row.spec } else { ask.spec };
        let spec = read.state.spec(&id, revision).ok_or_else(|| {
            ApiError::not_found(format!("{id} has no spec {revision} (any more): the newest is {}", row.spec))
        })?;
        let json = serde_json::to_string(spec.as_ref()).map_err(ApiError::internal)?;
        Ok(read.answer(v1::GetSpecReply { deployment: id.to_string(), spec: revision, json }))
    }
}

/// The deployment's row, or why there is none.
pub(super) fn known<'a>(state: &'a State, id: &DeploymentId) -> Result<&'a crate::state::Deployment, ApiError> {
    state
        .deployments
        .get(id)
        .ok_or_else(|| ApiError::missing(Named::Deployment, &id.to_string(), state.deployments.keys()))
}

impl Api {
    /// How many voters hold a package, of how many.
    pub(super) fn holders(&self, digest: &Digest) -> (u32, u32) {
        let Some(consensus) = self.consensus.get() else { return (0, 0) };
        let (held, voters) = copies_of(&consensus.view(), digest);
        (count(held), count(voters))
    }
}
