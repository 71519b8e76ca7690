//! Rollouts, their steps and evidence as messages, and what a request says of the settings.

use std::collections::BTreeMap;

use super::{
    convert::{meta, metrics, pair},
    v1,
};
use crate::{
    model::{Millis, ModelError, Overrides, Step},
    state::{CheckRecord, Evidence, Reason, Rollout, RolloutKind, State, StepRow, StepStatus, Verdict},
};

fn evidence(e: &Evidence) -> v1::Evidence {
    let totals = e.by_version().into_iter();
    let totals = totals.map(|(version, all)| v1::PairTotals { version: version.to_string(), metrics: metrics(&all) });
    let checks = e.checks.iter().map(|CheckRecord { check, verdict }| v1::CheckRecord {
        test: check.test.to_string(),
        metric: check.metric.to_string(),
        over: check.over.as_ref().map(ToString::to_string).unwrap_or_default(),
        limit: check.limit,
        min: check.min,
        verdict: verdict.to_string(),
    });
    v1::Evidence {
        started_at_ms: e.from.0,
        ended_at_ms: e.to.0,
        totals: totals.collect(),
        verdict: e.verdict.to_string(),
        note: e.note.clone(),
        checks: checks.collect(),
    }
}

/// What was counted of a version, as its checks compare it: `2.0.0: 8 errors of 80 requests`. Without such a check, all
/// that was counted.
pub fn compared(e: &v1::Evidence, of: &v1::PairTotals) -> String {
    let count = |name: &str| of.metrics.iter().find(|m| m.name == name).map_or(0, |m| m.count);
    let share = |c: &v1::CheckRecord| format!("{} {} of {} {}", count(&c.metric), c.metric, count(&c.over), c.over);
    let shares: Vec<String> = e.checks.iter().filter(|c| !c.over.is_empty()).map(share).collect();
    let all = if shares.is_empty() { counted(of) } else { shares };
    format!("{}: {}", of.version, all.join(", "))
}

/// All that was counted of a version: `730 requests`, `0 errors`, `730 values of latency`.
pub fn counted(of: &v1::PairTotals) -> Vec<String> {
    let told = |m: &v1::Metric| {
        let what = if m.histogram.is_some() { "values of " } else { "" };
        format!("{} {what}{}", m.count, m.name)
    };
    of.metrics.iter().map(told).collect()
}

/// Whether anything was counted of a version.
pub fn has_counts(of: &v1::PairTotals) -> bool {
    of.metrics.iter().any(|m| m.count > 0)
}

/// A step as it stands; without `whole` its evidence is left out.
pub fn step_row(row: &StepRow, whole: bool) -> v1::Step {
    v1::Step {
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
        ..planned_step(&row.step)
    }
}

/// A compiled step that nothing has run yet.
pub fn planned_step(s: &Step) -> v1::Step {
    v1::Step {
        group: s.group.clone(),
        kind: s.kind.name().into(),
        detail: s.kind.to_string(),
        judges: s.kind.facts().judges,
        announced: s.kind.facts().announced,
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
        status: r.status.code().into(),
        phase: r.phase.to_string(),
        cursor: r.cursor,
        desired: r.desired,
        held: r.running().is_some_and(|(_, row)| row.step.kind.facts().held),
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
        applied_index: state.applied.index,
        terminal: r.status.is_terminal(),
        forward_steps: r.forward_steps.iter().map(|s| step_row(s, whole)).collect(),
        back: state.backs.get(&r.id).map(super::convert_switch::back),
        ways_out: Vec::new(),
        rollback_estimate: String::new(),
        without: r.without.iter().map(ToString::to_string).collect(),
    }
}

/// What ended steps and why, oldest first.
pub fn decisions(r: &Rollout) -> Vec<String> {
    let mut lines = Vec::new();
    for row in r.forward_steps.iter().chain(&r.steps) {
        let Some(at) = row.ended_at else { continue };
        let after = Millis(at.0.saturating_sub(r.started_at.0));
        let mut line = format!("after {after}: {} {}", row.step, row.status.said());
        if let Some(e) = &row.evidence {
            let said = evidence(e);
            // A step that is not there to judge ends "undecided", which would read as a doubt.
            let verdict =
                Some(said.verdict.clone()).filter(|_| row.step.kind.facts().judges || e.verdict == Verdict::Worse);
            let totals = said.totals.iter().filter(|t| has_counts(t)).map(|t| compared(&said, t));
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

/// Longest text of a setting, in bytes.
const MAX_TEXT: usize = 1024;

/// What a request says of the settings. Ranges are checked once it is laid over the spec's.
pub fn overrides(settings: &BTreeMap<String, String>) -> Result<Overrides, ModelError> {
    let mut said = Overrides::default();
    for (name, text) in settings {
        if text.len() > MAX_TEXT {
            return Err(ModelError::field(name, format!("its text is longer than {MAX_TEXT} bytes")));
        }
        said.set(name, text)?;
    }
    Ok(said)
}

/// As a request carries them.
pub fn settings(said: &Overrides) -> BTreeMap<String, String> {
    said.said().into_iter().map(|(setting, text)| (setting.name.to_string(), text)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_counted_is_told_as_its_checks_compare_it() {
        let one = |name: &str, count, histogram| v1::Metric { name: name.into(), count, histogram };
        let latency = Some(v1::Histogram { bounds: vec![5_000], counts: vec![70], sum: 400_000 });
        let all = vec![one("requests", 80, None), one("errors", 8, None), one("latency", 80, latency)];
        let of = v1::PairTotals { version: "2.0.0".into(), metrics: all };
        let check = |test: &str, metric: &str, over: &str| v1::CheckRecord {
            test: test.into(),
            metric: metric.into(),
            over: over.into(),
            ..v1::CheckRecord::default()
        };
        let mut e = v1::Evidence { checks: vec![check("health", "health", "")], ..v1::Evidence::default() };
        assert_eq!(compared(&e, &of), "2.0.0: 80 requests, 8 errors, 80 values of latency");
        e.checks.push(check("ceiling", "errors", "requests"));
        assert_eq!(compared(&e, &of), "2.0.0: 8 errors of 80 requests");
        assert!(has_counts(&of) && !has_counts(&v1::PairTotals::default()));
    }
}
