//! What can be rolled out: specs, packages, releases. Also the "did you mean" of unknown names.

use std::{collections::BTreeMap, fmt::Display, sync::Arc};

use super::{
    Blob, Deployment, EventBody, NodeRole, Rejection, Release, ReleaseStatus, Rollout, RolloutStatus, Service, State,
    Track, Tracks,
    context::{Cx, Done},
    copies,
};
use crate::model::{BuildInfo, DeploymentId, Digest, Name, NodeId, Spec, Version};

/// `; did you mean X?` for the nearest of the known names, or what is known, or nothing.
pub(super) fn hint<T: Display>(wanted: &str, known: impl Iterator<Item = T>) -> String {
    let mut known: Vec<String> = known.map(|k| k.to_string()).collect();
    known.sort();
    known.dedup();
    // Edits between the two, letters swapped counting as one; integers, as refusals are kept in State.
    let edits = |k: &String| strsim::damerau_levenshtein(k, wanted);
    let near = |k: &String| {
        let begins = wanted.len() >= 3 && k.starts_with(wanted);
        begins || edits(k) <= (k.len() / 3).clamp(1, 4)
    };
    let best = known.iter().filter(|k| near(k)).min_by_key(|k| edits(k)).or(known.first());
    match best {
        Some(k) if near(k) => format!("; did you mean {k}?"),
        Some(_) if known.len() <= 8 => format!("; known: {}", known.join(", ")),
        Some(_) | None => String::new(),
    }
}

/// Which part of a deployment's name is unknown.
pub(super) fn unknown_deployment(s: &State, id: &DeploymentId) -> Rejection {
    if !s.environments.contains_key(&id.environment) {
        let near = hint(id.environment.as_str(), s.environments.keys());
        return Rejection::not_found("environment", &id.environment, near);
    }
    if !s.services.contains_key(&id.service) {
        let near = hint(id.service.as_str(), s.services.keys());
        let near = if near.is_empty() { "; `slipway apply -f` makes it".into() } else { near };
        return Rejection::not_found("service", &id.service, near);
    }
    let near = hint(&id.to_string(), s.deployments.keys());
    let near = if near.is_empty() { "; `slipway apply -f` makes it".into() } else { near };
    Rejection::not_found("deployment", id, near)
}

fn exhausted(what: &str, limit: u32) -> Rejection {
    Rejection::Exhausted { what: what.into(), limit: u64::from(limit), fix: "remove one that is not used".into() }
}

fn make_service(cx: &mut Cx<'_>, name: &Name) -> Done {
    Name::service(name.as_str()).map_err(|e| Rejection::Invalid(e.to_string()))?;
    if cx.s.services.contains_key(name) {
        return Ok(());
    }
    let limit = cx.settings().limits.services;
    if cx.s.services.len() >= limit as usize {
        return Err(exhausted("services", limit));
    }
    cx.s.services.insert(name.clone(), Service { meta: cx.new_meta(), name: name.clone() });
    Ok(())
}

/// `SpecApplied`. The revision only rises when the spec differs.
pub(super) fn spec_applied(cx: &mut Cx<'_>, spec: &Spec, expected: Option<u64>) -> Done {
    spec.check().map_err(|e| Rejection::Invalid(e.to_string()))?;
    let id = &spec.deployment;
    if !cx.s.environments.contains_key(&id.environment) {
        return Err(unknown_deployment(&cx.s, id));
    }
    let known = cx.s.deployments.get(id).cloned();
    let newest = known.as_ref().map_or(0, |d| d.spec);
    if let Some(seen) = expected.filter(|e| *e != newest) {
        return Err(Rejection::Stale { seen, now: newest });
    }
    if known.is_some() && cx.s.spec(id, newest).is_some_and(|s| s.as_ref() == spec) {
        return Ok(());
    }
    check_mode_stays(&cx.s, spec)?;
    make_service(cx, &id.service)?;
    let revision = newest.saturating_add(1);
    let mut row = match known {
        Some(d) => d,
        None => {
            let limit = cx.settings().limits.deployments;
            if cx.s.deployments.len() >= limit as usize {
                return Err(exhausted("deployments", limit));
            }
            Deployment {
                meta: cx.new_meta(),
                id: id.clone(),
                spec: 0,
                tracks: Tracks::default(),
                route: None,
                desired: 0,
                live: None,
                last: None,
                as_is: None,
            }
        }
    };
    row.spec = revision;
    row.meta.labels = spec.labels.clone();
    cx.put_deployment(row);
    cx.s.specs.insert((id.clone(), revision), Arc::new(spec.clone()));
    cx.emit(EventBody::SpecChanged { deployment: id.clone(), revision });
    Ok(())
}

/// What runs at addresses of one mode cannot be replaced in place by what has those of the other: a rollout between them would stand.
fn check_mode_stays(s: &State, spec: &Spec) -> Done {
    let modes = s.instances_of(&spec.deployment).filter(|i| i.life.is_live());
    let mut others = modes.filter_map(|i| s.spec(&i.deployment, i.pair.spec)).map(|was| was.address);
    match others.find(|was| *was != spec.address) {
        Some(was) => Err(Rejection::Precondition(format!(
            "{} runs with address: {was}, and what runs cannot change to address: {}: apply it as a deployment of another \
             name and move over to that",
            spec.deployment, spec.address
        ))),
        None => Ok(()),
    }
}

/// `BlobHeld`.
pub(super) fn blob_held(cx: &mut Cx<'_>, digest: &Digest, size: u64, node: NodeId) -> Done {
    let n = cx.node(node)?;
    if n.role == NodeRole::Removed {
        return Err(Rejection::Precondition(format!("node {node} was removed")));
    }
    let mut row = match cx.s.blobs.get(digest) {
        Some(b) if b.size != size => {
            return Err(Rejection::Conflict {
                what: format!(
                    "package {} is {} bytes long, not {size}: one of the copies is damaged",
                    digest.short(),
                    b.size
                ),
            });
        }
        Some(b) => b.clone(),
        None => Blob { meta: cx.new_meta(), size, holders: Vec::new() },
    };
    if let Err(place) = row.holders.binary_search(&node) {
        row.holders.insert(place, node);
        cx.touch(&mut row.meta);
        cx.s.blobs.insert(digest.clone(), row);
    }
    Ok(())
}

/// `BlobDropped`: the row goes with its last holder, unless a release names it.
pub(super) fn blob_dropped(cx: &mut Cx<'_>, digest: &Digest, node: NodeId) -> Done {
    if !cx.s.blobs.contains_key(digest) {
        return Err(Rejection::not_found("package", digest, ""));
    }
    copies::drop_holder(cx, digest, node);
    Ok(())
}

/// `ReleaseRegistered`: its package is fsynced on a majority of the voters.
pub(super) fn release_registered(
    cx: &mut Cx<'_>,
    service: &Name,
    version: &Version,
    digest: &Digest,
    build: &BuildInfo,
    labels: &BTreeMap<String, String>,
) -> Done {
    let long = |s: &String| s.len() > 256;
    let too_long = long(&build.commit) || long(&build.built_at) || long(&build.toolchain);
    if too_long || build.components.len() > 256 || build.components.iter().any(|(k, v)| long(k) || long(v)) {
        return Err(Rejection::Invalid("build information: at most 256 components and 256 characters a value".into()));
    }
    if labels.len() > 64 || labels.iter().any(|(k, v)| long(k) || long(v)) {
        return Err(Rejection::Invalid("labels: at most 64, of 256 characters each".into()));
    }
    let key = (service.clone(), version.clone());
    if let Some(known) = cx.s.releases.get(&key) {
        if &known.digest == digest {
            return Ok(());
        }
        return Err(Rejection::Conflict {
            what: format!(
                "{service} {version} is registered with package {}, not {}: a version never changes, push a new one",
                known.digest.short(),
                digest.short()
            ),
        });
    }
    let Some(blob) = cx.s.blobs.get(digest) else {
        return Err(Rejection::not_found("package", digest.short(), "; `slipway release push` uploads it"));
    };
    let size = blob.size;
    let (held, voters) = copies::copies_of(&cx.s, digest);
    if held.saturating_mul(2) <= voters {
        return Err(Rejection::Precondition(format!(
            "package {} is on {held} of {} nodes and needs a majority: wait until the nodes have fetched it, then push again",
            digest.short(),
            voters
        )));
    }
    make_service(cx, service)?;
    let limit = cx.settings().limits.releases_per_service;
    if cx.s.releases.keys().filter(|(s, _)| s == service).count() >= limit as usize {
        return Err(exhausted("releases of a service", limit));
    }
    let mut meta = cx.new_meta();
    meta.labels = labels.clone();
    let row = Release {
        meta,
        service: service.clone(),
        version: version.clone(),
        digest: digest.clone(),
        size,
        build: build.clone(),
        status: ReleaseStatus::Loading,
    };
    cx.s.releases.insert(key, row);
    cx.emit(EventBody::ReleaseAdded { service: service.clone(), version: version.clone(), digest: digest.clone() });
    Ok(())
}

/// Brings the statuses of both versions of a rollout up to date, after anything moved.
pub(super) fn settle(cx: &mut Cx<'_>, r: &Rollout) {
    let versions: Vec<Version> = r.from.iter().chain([&r.to]).map(|p| p.version.clone()).collect();
    settle_versions(cx, &r.deployment.service, versions);
}

/// Brings the statuses of some versions of a service up to date.
pub(super) fn settle_versions(cx: &mut Cx<'_>, service: &Name, versions: impl IntoIterator<Item = Version>) {
    for version in versions {
        let key = (service.clone(), version);
        let Some(mut row) = cx.s.releases.get(&key).cloned() else { continue };
        let to = status(&cx.s, &row);
        if row.status != to {
            row.status = to;
            cx.touch(&mut row.meta);
            cx.s.releases.insert(key, row);
        }
    }
}

/// What a release is, by where it runs and how its rollouts ended.
fn status(s: &State, row: &Release) -> ReleaseStatus {
    if row.status == ReleaseStatus::Retired {
        return row.status;
    }
    let ids = s.environments.keys().map(|e| DeploymentId { environment: e.clone(), service: row.service.clone() });
    let mine: Vec<&Deployment> = ids.filter_map(|id| s.deployments.get(&id)).collect();
    let is = |t: &Option<Track>| t.as_ref().is_some_and(|t| t.pair.version == row.version);
    if mine.iter().any(|d| is(&d.tracks.stable)) {
        return ReleaseStatus::Active;
    }
    let shares = |d: &&Deployment| is(&d.tracks.previous) && d.route.as_ref().is_some_and(|x| x.weights.previous.0 > 0);
    if mine.iter().any(|d| is(&d.tracks.candidate) || shares(d)) {
        return ReleaseStatus::Canary;
    }
    let ended = || {
        let rollouts = mine.iter().flat_map(|d| s.rollouts.of(&d.id));
        rollouts.filter(|r| r.status.is_terminal() && r.to.version == row.version)
    };
    let served = match row.status {
        ReleaseStatus::Active | ReleaseStatus::Deprecated => true,
        ReleaseStatus::Loading | ReleaseStatus::Canary | ReleaseStatus::Failed | ReleaseStatus::Retired => {
            ended().any(|r| r.status == RolloutStatus::Completed)
        }
    };
    let kept = if served { ReleaseStatus::Deprecated } else { ReleaseStatus::Loading };
    match ended().max_by_key(|r| r.id).map(|r| r.status) {
        Some(RolloutStatus::RolledBack | RolloutStatus::Failed) => ReleaseStatus::Failed,
        Some(
            RolloutStatus::Completed
            | RolloutStatus::Aborted
            | RolloutStatus::Pending
            | RolloutStatus::Active
            | RolloutStatus::Paused
            | RolloutStatus::Promoting
            | RolloutStatus::RollingBack,
        )
        | None => kept,
    }
}
