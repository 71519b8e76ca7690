//! `SettingsSet`: settings of the cluster, or the defaults of a service's rollouts.
//!
//! Invariants: a value is in its range when it is set, and a limit is never below what there is. Whoever asks names
//! what changes, so two who change different settings at once take nothing from each other.

use std::{collections::BTreeMap, sync::Arc};

use super::settings::ROLLOUT;
use crate::state::{base::prelude::*, catalog::services};

fields! {
    /// Changes settings.
    #[derive(Debug, Clone, PartialEq)]
    pub struct SettingsSet {
        /// Of the rollouts of one service; `None`: of the cluster.
        1 pub service: Option<Name>,
        2 pub change: SettingsChange,
        /// Names of what is to have its default again.
        3 pub unset: Vec<String>,
    }
}

impl Apply for SettingsSet {
    fn apply(&self, cx: &mut Cx<'_>) -> Done {
        let what = match &self.service {
            Some(service) => of_service(cx, service, &self.change, &self.unset)?,
            None => of_cluster(cx, &self.change, &self.unset)?,
        };
        // Asked twice, done once.
        if !what.is_empty() {
            cx.emit(EventBody::SettingsChanged { service: self.service.clone(), what: what.join(", ") });
        }
        Ok(())
    }
}

fn invalid(e: ModelError) -> Rejection {
    Rejection::Invalid(e.to_string())
}

/// Refuses defaults that a rollout with nothing else to say would be refused for.
fn check_rollout(said: &Overrides) -> Done {
    said.over(RolloutParams::default()).check("rollout").map_err(invalid)
}

fn of_cluster(cx: &mut Cx<'_>, change: &SettingsChange, unset: &[String]) -> Result<Vec<String>, Rejection> {
    let Some(mut cluster) = cx.s.cluster.as_deref().cloned() else { return Err(Rejection::NoCluster) };
    let before = cluster.settings.clone();
    let to = before.changed(change, unset).map_err(invalid)?;
    to.check().map_err(invalid)?;
    check_rollout(&to.rollout)?;
    if let Some((name, to, has)) = to.limits.lowered(&before.limits, &held(cx.s)) {
        return Err(Rejection::Precondition(format!(
            "{name}: {to} is below the {has} that there are: remove some first, or set {has} or more"
        )));
    }
    let texts = |s: &Settings| {
        let own = s.shown().into_iter().map(|(d, [value, ..])| (d.name.to_string(), value));
        own.chain(said(&s.rollout)).collect::<BTreeMap<String, String>>()
    };
    let what = changes(&texts(&before), &texts(&to));
    if !what.is_empty() {
        cluster.settings = to;
        cx.touch(&mut cluster.meta);
        cx.s.cluster = Some(Arc::new(cluster));
    }
    Ok(what)
}

fn of_service(
    cx: &mut Cx<'_>,
    service: &Name,
    change: &SettingsChange,
    unset: &[String],
) -> Result<Vec<String>, Rejection> {
    let mut row = services::known(cx, service)?;
    let others = unset.iter().any(|name| !name.starts_with(ROLLOUT));
    if others || !change.is_of_rollouts() {
        return Err(Rejection::Invalid(format!(
            "a service has settings of its rollouts alone ({ROLLOUT}NAME): set others of the cluster, without --service"
        )));
    }
    let before = said(&row.defaults).collect();
    row.defaults = change.rollout.or(&row.defaults);
    for name in unset {
        row.defaults.unset(name.trim_start_matches(ROLLOUT)).map_err(invalid)?;
    }
    check_rollout(&row.defaults.or(&cx.settings().rollout))?;
    let what = changes(&before, &said(&row.defaults).collect());
    if !what.is_empty() {
        cx.touch(&mut row.meta);
        cx.s.services.insert(service.clone(), row);
    }
    Ok(what)
}

fn said(all: &Overrides) -> impl Iterator<Item = (String, String)> {
    all.said().into_iter().map(|(d, text)| (format!("{ROLLOUT}{}", d.name), text))
}

/// What differs, each by name with both values.
fn changes(before: &BTreeMap<String, String>, to: &BTreeMap<String, String>) -> Vec<String> {
    let text = |all: &BTreeMap<String, String>, name: &str| all.get(name).map_or("unset", String::as_str).to_string();
    let names = before.keys().chain(to.keys().filter(|name| !before.contains_key(*name)));
    let differs = names.filter(|name| before.get(*name) != to.get(*name));
    differs.map(|name| format!("{name} {} -> {}", text(before, name), text(to, name))).collect()
}

/// What there is of everything that has a limit. What is only kept for a while has none here: less of it is kept from
/// now on.
fn held(s: &State) -> Limits {
    let n = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
    let releases = s.services.keys().map(|service| s.releases_of(service).count()).max().unwrap_or(0);
    let live = |d: &Deployment| s.live_rollout(&d.id).map_or(0, |r| r.desired);
    Limits {
        services: n(s.services.len()),
        environments: n(s.environments.len()),
        deployments: n(s.deployments.len()),
        releases_per_service: n(releases),
        workers: n(s.workers.len()),
        instances_per_deployment: s.deployments.values().map(|d| d.desired.max(live(d))).max().unwrap_or(0),
        history_per_deployment: 0,
        requests: n(s.requests.len()),
        outbox: n(s.outbox.len()),
        events: 0,
    }
}
