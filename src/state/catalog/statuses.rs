//! The status of a release, derived from where it runs and how its rollouts ended.

use crate::state::base::prelude::*;

/// Brings the statuses of both versions of a rollout up to date, after anything moved.
pub(in crate::state) fn settle(cx: &mut Cx<'_>, r: &Rollout) {
    let versions: Vec<Version> = r.from.iter().chain([&r.to]).map(|p| p.version.clone()).collect();
    settle_versions(cx, &r.deployment.service, versions);
}

/// Brings the statuses of some versions of a service up to date.
pub(in crate::state) fn settle_versions(cx: &mut Cx<'_>, service: &Name, versions: impl IntoIterator<Item = Version>) {
    for version in versions {
        let key = (service.clone(), version);
        let Some(mut row) = cx.s.releases.get(&key).cloned() else { continue };
        let to = status(cx.s, &row);
        let ran = row.ran || matches!(to, ReleaseStatus::Active | ReleaseStatus::Canary);
        if row.status != to || row.ran != ran {
            (row.status, row.ran) = (to, ran);
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
    let mine: Vec<&Deployment> = s.deployments_of(&row.service).collect();
    let arms = || mine.iter().flat_map(|d| d.arms.iter()).filter(|a| a.pair.version == row.version);
    if arms().any(|a| a.role == Role::Stable) {
        return ReleaseStatus::Active;
    }
    if arms().any(|a| a.role.on_trial() || a.weight.0 > 0) {
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

/// The rollout that a release is bad by: the newest to it, if that failed, was rolled back, or was held or turned back
/// by what it did; or the return that went back from it.
pub fn failed_in<'a>(s: &'a State, row: &Release) -> Option<&'a Rollout> {
    let all = s.deployments_of(&row.service).flat_map(|d| s.rollouts.of(&d.id));
    let newest = all.filter(|r| r.to.version == row.version).max_by_key(|r| r.id)?;
    match newest.status {
        RolloutStatus::RolledBack | RolloutStatus::Failed | RolloutStatus::RollingBack => Some(newest),
        RolloutStatus::Paused => {
            Some(newest).filter(|r| r.reason.as_ref().is_some_and(|why| !matches!(why, Reason::Operator { .. })))
        }
        RolloutStatus::Completed => {
            let by = newest.undone_by.and_then(|by| s.rollouts.get(&by));
            by.filter(|by| by.status == RolloutStatus::Completed)
        }
        RolloutStatus::Pending | RolloutStatus::Active | RolloutStatus::Promoting | RolloutStatus::Aborted => None,
    }
}
