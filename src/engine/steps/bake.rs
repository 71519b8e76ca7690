//! `bake`: hold for cluster time while the checks run. Worse is acted on at once; not worse only counts at the end,
//! with data from everyone who runs the pair. What is missing then, `on_no_data` decides: a lost worker is waited for
//! until it is counted out, or judged without, or taken for a failure; as are requests that did not come. Not here:
//! which checks there are, and their tests (`analysis`).

use super::{Runner, begin};
use crate::engine::{
    analysis::{Asked, Finding},
    lost,
    prelude::*,
    view::names,
};

pub(super) const RUNNER: Runner = Runner { start: begin, next };

/// How old a worker's word may be that a bake ends on: two reports.
const FRESH: Period = Period::seconds(4);
/// Until it is looked at again.
const LOOK_AGAIN: Period = Period::seconds(1);

fn next(turn: &Turn<'_>, notes: &mut Notes) -> Option<Command> {
    let (view, r) = (turn.view, turn.r);
    let pair = r.target()?;
    let finding = turn.judged(pair);
    if let Finding::Worse(reason) = finding {
        return turn.fail(reason, Verdict::Worse);
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
    let unheard = workers_of(turn, pair, |w| view.worker_ready(w) && !view.heard_since(w, view.now.minus(FRESH)));
    if !unheard.is_empty() {
        // Their instances' health is old news: they are heard of soon, or lost.
        notes.wake_at(view.now.plus(LOOK_AGAIN));
        notes.wait(Wait::Unheard { workers: unheard });
        return None;
    }
    let away = workers_of(turn, pair, |w| !view.worker_ready(w));
    if !away.is_empty() {
        match r.params.no_data() {
            OnNoData::Hold => {
                notes.wait(lost::wait(view, away));
                return None;
            }
            OnNoData::Pass => {}
            OnNoData::Fail => return turn.fail(Reason::NoData, Verdict::Undecided),
        }
    }
    let (have, need) = (view.passing(pair), view.there(pair));
    if need == 0 {
        let detail = "their workers are lost".into();
        return turn.fail(Reason::NobodyLeft { detail }, Verdict::Undecided);
    }
    if have < need {
        notes.wait(Wait::Healthy { have, need });
        return None;
    }
    let left = if away.is_empty() && r.without.is_empty() {
        String::new()
    } else {
        let all: Vec<WorkerName> = away.into_iter().chain(r.without.iter().cloned()).collect();
        format!("judged without {}", names(&all))
    };
    let say =
        |text: String| if left.is_empty() { text } else { format!("{text}; {left}").trim_start_matches("; ").into() };
    let (wait, seen) = match finding {
        Finding::Unjudged => return Some(turn.end(Verdict::Unjudged, say(why_by_health(turn)))),
        Finding::NotWorse => return Some(turn.end(Verdict::NotWorse, say(String::new()))),
        Finding::Worse(_) => return None,
        Finding::Missing { workers, uncounted } => {
            if !uncounted.is_empty() {
                // Requests came and nobody knows how they went: that is no absence of data, and no policy promotes it.
                if r.params.no_data() == OnNoData::Fail {
                    return turn.fail(Reason::NoData, Verdict::Undecided);
                }
                uncounted.into_iter().for_each(|(worker, why)| notes.wait(Wait::Uncounted { worker, why }));
                return None;
            }
            let text = format!("no counts from {}", names(&workers));
            (Wait::Missing { workers }, text)
        }
        Finding::Data { metric, have, need } => {
            let text = format!("{have} of {need} {metric}");
            (Wait::Data { metric, pair: pair.clone(), have, need }, text)
        }
    };
    match r.params.no_data() {
        OnNoData::Hold => {
            notes.wait(wait);
            None
        }
        OnNoData::Pass => Some(turn.end(Verdict::Undecided, say(format!("passed on {seen}, as on_no_data says pass")))),
        OnNoData::Fail => turn.fail(Reason::NoData, Verdict::Undecided),
    }
}

/// What a bake says that judged nothing but health.
fn why_by_health(turn: &Turn<'_>) -> String {
    let r = turn.r;
    let asked = turn.view.spec(&r.to).map(|spec| Asked { params: &r.params, spec, before: r.from.is_some() });
    asked.and_then(|a| a.left_out()).map_or_else(String::new, |why| format!("judged by health alone: {why}"))
}

/// Those of the workers that run the pair.
fn workers_of(turn: &Turn<'_>, pair: &Pair, of: impl Fn(&WorkerName) -> bool) -> Vec<WorkerName> {
    let mut all: Vec<WorkerName> = turn.view.wanted(pair).map(|i| &i.worker).filter(|w| of(w)).cloned().collect();
    all.sort();
    all.dedup();
    all
}
