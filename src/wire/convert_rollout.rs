//! Rollouts, their steps and evidence as messages, and a request's parameters laid over the spec's defaults.

use std::collections::BTreeMap;

use super::{
    convert::{count, meta, pair},
    v1,
};
use crate::{
    model::{
        BasisPoints, Ceiling, Millis, ModelError, Period, RolloutParams, Setting, Step, StepKind, Version,
        spec_doc::RolloutDoc,
    },
    state::{Evidence, Reason, Rollout, RolloutKind, State, StepRow, StepStatus, Verdict},
};

fn evidence(e: &Evidence) -> v1::Evidence {
    let mut totals: BTreeMap<&Version, (u64, u64)> = BTreeMap::new();
    for c in e.counts.values().flatten() {
        let t = totals.entry(&c.pair.version).or_default();
        *t = (t.0.saturating_add(c.requests), t.1.saturating_add(c.errors));
    }
    let totals = totals.into_iter().map(|(version, (requests, errors))| v1::PairTotals {
        version: version.to_string(),
        requests,
        errors,
    });
    v1::Evidence {
        from_ms: e.from.0,
        to_ms: e.to.0,
        totals: totals.collect(),
        limit_bp: e.limit.unwrap_or(0),
        verdict: e.verdict.to_string(),
        note: e.note.clone(),
    }
}

fn step_row(row: &StepRow, whole: bool) -> v1::Step {
    v1::Step {
        group: row.step.group.clone(),
        kind: row.step.kind.name().into(),
        detail: row.step.kind.to_string(),
        status: row.status.to_string(),
        attempt: row.attempt,
        step_id: row.step_id.map_or(0, |s| s.0),
        started_at_ms: row.started_at.map_or(0, |t| t.0),
        until_ms: row.until.map_or(0, |t| t.0),
        ended_at_ms: row.ended_at.map_or(0, |t| t.0),
        batch: row.batch.as_ref().map(|b| v1::Batch {
            n: b.n,
            added: b.added.iter().map(ToString::to_string).collect(),
            replaced: b.replaced.iter().map(ToString::to_string).collect(),
            passed: b.passed,
        }),
        evidence: row.evidence.as_ref().filter(|_| whole).map(evidence),
    }
}

/// A compiled step that nothing has run yet.
pub fn planned_step(s: &Step) -> v1::Step {
    v1::Step {
        group: s.group.clone(),
        kind: s.kind.name().into(),
        detail: s.kind.to_string(),
        status: StepStatus::Waiting.to_string(),
        ..v1::Step::default()
    }
}

/// A rollout; without `whole` the steps' evidence is left out.
pub fn rollout(state: &State, r: &Rollout, whole: bool) -> v1::Rollout {
    let (kind, undoes) = match r.kind {
        RolloutKind::Forward => ("forward", String::new()),
        RolloutKind::Return { undoes } => ("return", undoes.to_string()),
    };
    v1::Rollout {
        meta: Some(meta(&r.meta)),
        id: r.id.to_string(),
        deployment: r.deployment.to_string(),
        kind: kind.into(),
        from: r.from.as_ref().map(pair),
        to: Some(pair(&r.to)),
        strategy: r.strategy.to_string(),
        status: r.status.to_string(),
        phase: r.phase.to_string(),
        cursor: r.cursor,
        desired: r.desired,
        steps: r.steps.iter().map(|s| step_row(s, whole)).collect(),
        reason: r.reason.as_ref().map(ToString::to_string).unwrap_or_default(),
        reason_label: r.reason.as_ref().map(Reason::label).unwrap_or_default().into(),
        waits: Vec::new(),
        started_at_ms: r.started_at.0,
        ended_at_ms: r.ended_at.map_or(0, |t| t.0),
        traffic_back_at_ms: r.traffic_back_at.map_or(0, |t| t.0),
        principal: r.principal.clone(),
        undoes,
        undone_by: r.undone_by.map(|u| u.to_string()).unwrap_or_default(),
        started_wall_ms: r.started_wall,
        ended_wall_ms: r.ended_wall,
        now_ms: state.now.0,
        index: state.applied.index,
        terminal: r.status.is_terminal(),
        forward_steps: r.forward_steps.iter().map(|s| step_row(s, whole)).collect(),
        back: state.backs.get(&r.id).map(super::convert_switch::back),
        ways_out: Vec::new(),
        way_back: String::new(),
        without: r.without.iter().map(ToString::to_string).collect(),
    }
}

/// What ended steps and why, oldest first.
pub fn decisions(r: &Rollout) -> Vec<String> {
    let mut lines = Vec::new();
    for row in r.forward_steps.iter().chain(&r.steps) {
        let Some(at) = row.ended_at else { continue };
        let (group, kind) = (row.step.group.as_str(), row.step.kind.to_string());
        // "stage stage" says no more than "stage".
        let what = if kind.starts_with(group) { kind } else { format!("{group}: {kind}") };
        let after = Millis(at.0.saturating_sub(r.started_at.0));
        let mut line = format!("after {after}: {what} {}", row.status);
        if let Some(e) = &row.evidence {
            let said = evidence(e);
            let tests = matches!(row.step.kind, StepKind::Bake { .. });
            // A step that is not there to judge ends "undecided", which would read as a doubt.
            let verdict = Some(said.verdict).filter(|_| tests || e.verdict == Verdict::Worse);
            let totals = said.totals.iter().filter(|t| t.requests > 0);
            let totals = totals.map(|t| format!("{} {} of {} failed", t.version, t.errors, t.requests));
            let all: Vec<String> =
                verdict.into_iter().chain(totals).chain(Some(e.note.clone()).filter(|n| !n.is_empty())).collect();
            if !all.is_empty() {
                line.push_str(&format!(" ({})", all.join("; ")));
            }
        }
        if let Some((ok, detail)) = &row.hook {
            line.push_str(&format!(" (hook {}: {detail})", if *ok { "ok" } else { "failed" }));
        }
        lines.push(line);
    }
    if let Some(reason) = &r.reason {
        lines.push(format!("{}: {reason}", r.status));
    }
    lines
}

/// Bounds on what one request may list, before `RolloutParams::check`.
const MAX_STEPS: usize = 1000;

/// Settings that a request names and that not every strategy reads.
pub fn given(p: &v1::Params) -> Vec<Setting> {
    let is_given = |s: &Setting| match s {
        Setting::Steps => !p.steps_bp.is_empty(),
        Setting::Bake => p.bake_ms.is_some(),
        Setting::Parallelism => p.parallelism.is_some(),
        Setting::Delay => p.delay_ms.is_some(),
        Setting::MaxSurge => p.max_surge.is_some(),
        Setting::MaxUnavailable => p.max_unavailable.is_some(),
        Setting::WarmUp => p.warm_up_ms.is_some(),
        Setting::Smoke => p.smoke.is_some(),
        Setting::Monitor => p.monitor_ms.is_some(),
        Setting::Grace => p.grace_ms.is_some(),
    };
    Setting::ALL.iter().copied().filter(is_given).collect()
}

/// Lays a request's fields over the defaults.
pub fn params_over(p: &v1::Params, base: RolloutParams) -> Result<RolloutParams, ModelError> {
    if p.steps_bp.len() > MAX_STEPS {
        return Err(ModelError::field("steps", format!("{} percentages are too many", count(p.steps_bp.len()))));
    }
    let steps: Vec<BasisPoints> = p.steps_bp.iter().copied().map(BasisPoints).collect();
    let max_error_rate = match p.max_error_rate_off {
        true => Some(Ceiling(None)),
        false => p.max_error_rate_bp.map(|rate| Ceiling(Some(BasisPoints(rate)))),
    };
    let said = RolloutDoc {
        strategy: p.strategy.clone(),
        steps: (!steps.is_empty()).then_some(steps),
        bake: p.bake_ms.map(Period),
        max_error_rate,
        min_requests: p.min_requests,
        on_no_data: p.on_no_data.clone(),
        parallelism: p.parallelism,
        delay: p.delay_ms.map(Period),
        max_surge: p.max_surge,
        max_unavailable: p.max_unavailable,
        failure_action: p.failure_action.clone(),
        max_health_failures: p.max_health_failures,
        health_timeout: p.health_timeout_ms.map(Period),
        warm_up: p.warm_up_ms.map(Period),
        smoke: p.smoke.clone(),
        monitor: p.monitor_ms.map(Period),
        grace: p.grace_ms.map(Period),
        deadline: p.deadline_ms.map(Period),
    };
    said.over(base, "")
}
