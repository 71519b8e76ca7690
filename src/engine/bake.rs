//! `bake`: hold for cluster time while the checks run. Worse is acted on at once; not worse only counts at the end, with data from
//! everyone who runs the pair.

use super::analysis::ceiling::{self, Finding};
use super::analysis::health;
use super::executor::Turn;
use super::view::{Notes, target};
use crate::model::{OnNoData, Wait, WorkerName};
use crate::state::{Command, Reason, Verdict};

pub(super) fn next(turn: &Turn<'_>, judged: bool, notes: &mut Notes) -> Option<Command> {
    let (view, r) = (turn.view, turn.r);
    let pair = target(r)?;
    if let Some(reason) = health::failure(view, r, pair, turn.began()) {
        return turn.fail(reason, Verdict::Worse);
    }
    let finding = if judged { ceiling::judge(view, r, pair, turn.row.step_id) } else { Finding::Unjudged };
    if let Finding::Worse { errors, requests, limit } = finding {
        return turn.fail(Reason::ErrorRate { errors, requests, limit }, Verdict::Worse);
    }
    let until = turn.row.until.unwrap_or(view.now);
    if view.now < until {
        notes.wait(Wait::Bake { until });
        notes.wake_at(until);
        return None;
    }
    if view.observing(view.wanted(pair).map(|i| &i.worker), notes) {
        return None;
    }
    let silent = unheard(turn, pair);
    if !silent.is_empty() {
        notes.wait(Wait::Missing { workers: silent });
        return None;
    }
    let (have, need) = (view.passing(pair), super::view::count(view.wanted(pair)));
    if have < need {
        notes.wait(Wait::Healthy { have, need });
        return None;
    }
    let no_data = |have, need, notes: &mut Notes| match r.params.on_no_data {
        OnNoData::Hold => {
            notes.wait(Wait::Data { pair: pair.clone(), have, need });
            None
        }
        OnNoData::Pass => Some(turn.end(Verdict::Undecided, "no data, and on_no_data says pass".into())),
        OnNoData::Fail => turn.fail(Reason::NoData, Verdict::Undecided),
    };
    match finding {
        Finding::Unjudged => Some(turn.end(Verdict::Unjudged, String::new())),
        Finding::NotWorse => Some(turn.end(Verdict::NotWorse, String::new())),
        Finding::Missing(workers) => {
            notes.wait(Wait::Missing { workers });
            None
        }
        Finding::Data { have, need } => no_data(have, need, notes),
        Finding::Worse { .. } => None,
    }
}

/// Workers that run the pair and are lost, or have not been heard of in this term: their instances' health is old news.
fn unheard(turn: &Turn<'_>, pair: &crate::model::Pair) -> Vec<WorkerName> {
    let view = turn.view;
    let mut silent: Vec<WorkerName> = view
        .wanted(pair)
        .filter(|i| !view.worker_ready(&i.worker) || !view.heard(&i.worker))
        .map(|i| i.worker.clone())
        .collect();
    silent.sort();
    silent.dedup();
    silent
}
