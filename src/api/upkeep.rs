//! What an operator removes, makes, stops, sets and cleans up: workers, deployments, services, environments, settings,
//! releases.
//!
//! Invariant: each answers with the lines of the events that its entry made; none says that it was so already. Not
//! here: what may go and what may not (`state`).

use super::{Api, ApiError, Caller, Kind, Reply};
use crate::{
    engine::strategy,
    model::{Name, Named, OnNoData, Period, StrategyName, WorkerName},
    state::{
        Command, EventBody, EventKey, ROLLOUT_PREFIX, Settings, SettingsChange,
        command::{
            DeploymentRemoved, DeploymentStarted, DeploymentStopped, EnvironmentCreated, EnvironmentRemoved,
            EnvironmentSet, ReleaseRemoved, ReleaseRetired, ReleasesPruned, ServiceRemoved, SettingsSet, WorkerRekeyed,
            WorkerRemoved,
        },
    },
    wire::v1,
};

/// Reads a text where there is one.
fn some<T, E: Into<ApiError>>(text: &str, read: impl FnOnce(&str) -> Result<T, E>) -> Result<Option<T>, ApiError> {
    if text.is_empty() { Ok(None) } else { read(text).map(Some).map_err(Into::into) }
}

fn registered(name: &str) -> Result<StrategyName, ApiError> {
    let name: StrategyName = name.parse()?;
    strategy(&name).map_err(|e| ApiError::bad(e.to_string()))?;
    Ok(name)
}

fn no_data(text: &str) -> Result<OnNoData, ApiError> {
    text.parse().map_err(|e: String| ApiError::bad(format!("on_no_data: {e}")))
}

impl Api {
    /// A change whose answer is what its events say.
    async fn told(&self, by: &Caller, meta: Option<v1::RequestMeta>, command: Command) -> Reply<v1::Changed> {
        let done = self.change(by, meta.as_ref(), command).await?;
        let view = self.consensus()?.view();
        if view.applied.index < done.index {
            let text = "it is done, but this node does not show it yet: retry with the same request id";
            return Err(ApiError::new(Kind::Unavailable, "behind", text));
        }
        let of = |index| EventKey { index, ordinal: 0 };
        let mut changed = v1::Changed { receipt: done.receipt(), ..Default::default() };
        for (_, event) in view.events.range(of(done.index)..of(done.index.saturating_add(1))) {
            changed.lines.push(event.body.describe().text);
            if let EventBody::ReleasesPruned { versions, left, .. } = &event.body {
                changed.removed_versions = versions.iter().map(ToString::to_string).collect();
                changed.remaining = *left;
            }
        }
        Ok(changed.into())
    }

    /// Takes a release out of use.
    pub async fn retire_release(&self, by: &Caller, ask: v1::ReleaseVerbRequest) -> Reply<v1::Changed> {
        let (service, version) = (Name::service(&ask.service)?, ask.version.parse()?);
        self.told(by, ask.request, ReleaseRetired { service, version }.into()).await
    }

    /// Removes a release for good.
    pub async fn remove_release(&self, by: &Caller, ask: v1::ReleaseVerbRequest) -> Reply<v1::Changed> {
        let (service, version) = (Name::service(&ask.service)?, ask.version.parse()?);
        self.told(by, ask.request, ReleaseRemoved { service, version }.into()).await
    }

    /// Removes old releases that nothing needs, a bounded number at a time.
    pub async fn prune_releases(&self, by: &Caller, ask: v1::PruneReleasesRequest) -> Reply<v1::Changed> {
        let service = Name::service(&ask.service)?;
        let command = ReleasesPruned { service, keep: ask.keep, older_than: ask.older_than_ms.map(Period) };
        self.told(by, ask.request, command.into()).await
    }

    /// Removes a machine that does not come back.
    pub async fn remove_worker(&self, by: &Caller, ask: v1::RemoveWorkerRequest) -> Reply<v1::Changed> {
        let worker = WorkerName::new(&ask.worker)?;
        self.told(by, ask.request, WorkerRemoved { worker, gone: ask.gone }.into()).await
    }

    /// Lets another machine take a lost one's place for a while.
    pub async fn rekey_worker(&self, by: &Caller, ask: v1::RekeyWorkerRequest) -> Reply<v1::Changed> {
        let worker = WorkerName::new(&ask.worker)?;
        self.told(by, ask.request, WorkerRekeyed { worker, within: Period(ask.within_ms) }.into()).await
    }

    /// Removes a deployment, at once or once all of it has stopped.
    pub async fn remove_deployment(&self, by: &Caller, ask: v1::RemoveDeploymentRequest) -> Reply<v1::Changed> {
        let deployment = ask.deployment.parse()?;
        self.told(by, ask.request, DeploymentRemoved { deployment, stop: ask.stop }.into()).await
    }

    /// Stops all of a deployment until it is started.
    pub async fn stop_deployment(&self, by: &Caller, ask: v1::DeploymentRequest) -> Reply<v1::Changed> {
        let deployment = ask.deployment.parse()?;
        self.told(by, ask.request, DeploymentStopped { deployment }.into()).await
    }

    /// Starts a deployment that was stopped.
    pub async fn start_deployment(&self, by: &Caller, ask: v1::DeploymentRequest) -> Reply<v1::Changed> {
        let deployment = ask.deployment.parse()?;
        self.told(by, ask.request, DeploymentStarted { deployment }.into()).await
    }

    /// Removes a service without deployments and releases.
    pub async fn remove_service(&self, by: &Caller, ask: v1::NamedRequest) -> Reply<v1::Changed> {
        let service = Name::service(&ask.name)?;
        self.told(by, ask.request, ServiceRemoved { service }.into()).await
    }

    /// Makes an environment.
    pub async fn create_environment(&self, by: &Caller, ask: v1::EnvironmentRequest) -> Reply<v1::Changed> {
        let command = EnvironmentCreated {
            name: Name::environment(&ask.name)?,
            order: ask.order,
            default_strategy: some(&ask.default_strategy, registered)?,
            on_no_data: some(&ask.on_no_data, no_data)?,
        };
        self.told(by, ask.request, command.into()).await
    }

    /// Changes an environment.
    pub async fn set_environment(&self, by: &Caller, ask: v1::EnvironmentRequest) -> Reply<v1::Changed> {
        let command = EnvironmentSet {
            name: Name::environment(&ask.name)?,
            order: ask.order,
            default_strategy: some(&ask.default_strategy, registered)?,
            on_no_data: some(&ask.on_no_data, no_data)?,
        };
        self.told(by, ask.request, command.into()).await
    }

    /// Removes an environment without deployments.
    pub async fn remove_environment(&self, by: &Caller, ask: v1::NamedRequest) -> Reply<v1::Changed> {
        let name = Name::environment(&ask.name)?;
        self.told(by, ask.request, EnvironmentRemoved { name }.into()).await
    }

    /// Changes settings of the cluster, or the defaults of a service's rollouts.
    pub async fn set_settings(&self, by: &Caller, ask: v1::SetSettingsRequest) -> Reply<v1::Changed> {
        let mut change = SettingsChange::default();
        for (name, text) in &ask.set {
            change.set(name, text)?;
        }
        if let Some(Some(named)) = &change.rollout.strategy {
            strategy(named).map_err(|e| ApiError::bad(format!("{ROLLOUT_PREFIX}strategy: {e}")))?;
        }
        let service = some(&ask.service, Name::service)?;
        self.told(by, ask.request, SettingsSet { service, change, unset: ask.unset }.into()).await
    }

    /// Settings of the cluster with their defaults and ranges; of a service those of its rollouts.
    pub async fn get_settings(&self, by: &Caller, ask: v1::GetSettingsRequest) -> Reply<v1::SettingsReply> {
        let read = self.read(by).await?;
        let settings = read.state.cluster.as_ref().map_or_else(Settings::default, |c| c.settings.clone());
        let (own, said) = match some(&ask.service, Name::service)? {
            None => (settings.shown(), settings.rollout),
            Some(name) => {
                let row = read.state.services.get(&name);
                let known = read.state.services.keys();
                let row = row.ok_or_else(|| ApiError::missing(Named::Service, name.as_str(), known))?;
                (Vec::new(), row.defaults.clone())
            }
        };
        let own = own.into_iter().map(|(setting, [value, default, range])| v1::Setting {
            name: setting.name.into(),
            about: setting.about.into(),
            value,
            default,
            range,
        });
        let said = said.said().into_iter().map(|(setting, value)| v1::Setting {
            name: format!("{ROLLOUT_PREFIX}{}", setting.name),
            about: setting.about.into(),
            value,
            ..Default::default()
        });
        Ok(read.answer(v1::SettingsReply { settings: own.chain(said).collect() }))
    }
}
