//! One seed from its first act to its end: played, judged, and told when there is something to tell.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Instant;

use super::law;
use super::story::Story;
use super::tale::Tale;
use super::tally::Tally;
use super::way_out;
use super::world::{Finding, Look, World};
use super::{draw, play};

/// What a seed came to.
pub struct Outcome {
    pub finding: Option<Finding>,
    pub tally: Tally,
    pub micros: u64,
}

/// Plays and judges a story.
fn judge(story: &Story, look: Look, tale: Tale) -> World {
    let mut w = play::world(story, look, tale);
    shapes(&mut w.tally, story);
    play::acts(&mut w, story);
    let mut open = story.shape.deployments.clone();
    // Every wait is ended by a person once; what waits again has no excuse but a new one.
    for _ in 0..=2 * open.len() {
        if w.over() {
            return w;
        }
        let Err((_, _)) = way_out::until_rest(&mut w, &open) else { break };
        let mut waiting = open.clone();
        waiting.retain(|laid| matches!(law::rest(&w, laid), Err(law::Unrest::Because(_))));
        for laid in waiting {
            let Err(why) = law::rest(&w, &laid) else { continue };
            let Some(reason) = law::allowed(&w, &laid) else {
                let waits = w.waits.get(&laid.id).cloned().unwrap_or_default();
                w.found("not at rest", format!("{}: {why:?}; waits {waits:?}", laid.id));
                return w;
            };
            w.tally.note(format!("allowed: {reason}"));
            if w.waits.get(&laid.id).is_none_or(Vec::is_empty) && law::waits_for_something(&w, &laid) {
                w.found("it waits and does not say for what", format!("{}: {why:?} ({reason})", laid.id));
                return w;
            }
            way_out::take(&mut w, story, &laid, reason);
            if w.over() {
                return w;
            }
        }
    }
    open.retain(|laid| law::rest(&w, laid).is_err());
    if let Some(laid) = open.first() {
        let why = law::rest(&w, laid);
        w.found("not at rest", format!("{}: {why:?}", laid.id));
    }
    w
}

/// Which shapes there were.
fn shapes(tally: &mut Tally, story: &Story) {
    let shape = &story.shape;
    tally.note(format!("shape {:?} spare", shape.spare));
    tally.note(format!("shape {} workers", shape.workers));
    tally.note(format!("shape {} deployments", shape.deployments.len()));
    for laid in &shape.deployments {
        tally.note(if laid.host { "shape host" } else { "shape pool" });
        tally.note(format!("shape {} per worker", laid.per_worker));
        for (what, is) in [("singleton", laid.singleton), ("metrics", laid.metrics), ("no traffic", laid.rate == 0)] {
            if is {
                tally.note(format!("shape {what}"));
            }
        }
    }
    for r in &story.releases {
        let ill = format!("{:?}", r.ill);
        tally.note(format!("release {}", ill.split('(').next().unwrap_or_default()));
        let package = format!("{:?}", r.package);
        tally.note(format!("package {}", package.split('(').next().unwrap_or_default()));
        if r.only_on.is_some() {
            tally.note("release bad on one worker");
        }
    }
    for (_, act) in &story.acts {
        if let super::story::Act::Start { params: p, .. } = act {
            tally.note(p.strategy.as_ref().map_or_else(|| "asked default".into(), |s| format!("asked {s}")));
            tally.note(format!("policy {:?}", p.failure_action));
            tally.note(format!("policy on_no_data {:?}", p.on_no_data));
            tally.note(format!("policy surge {}", p.max_surge));
            tally.note(format!("policy unavailable {}", p.max_unavailable));
        }
    }
}

/// Plays one seed.
pub fn seed(seed: u64, look: Look) -> Outcome {
    let began = Instant::now();
    let story = draw::story(seed);
    let played = catch_unwind(AssertUnwindSafe(|| {
        let w = judge(&story, look, Tale::default());
        (w.finding, w.tally)
    }));
    let (finding, tally) = played.unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        let text = text.or_else(|| panic.downcast_ref::<&str>().map(ToString::to_string)).unwrap_or_default();
        (Some(Finding { kind: "a panic", text }), Tally::default())
    });
    Outcome { finding, tally, micros: began.elapsed().as_micros() as u64 }
}

/// The whole story of a seed with its transcript, for a person.
pub fn told(seed: u64) -> (Vec<String>, Option<Finding>) {
    let story = draw::story(seed);
    let tale = Tale::told();
    let copy = tale.clone();
    let played = catch_unwind(AssertUnwindSafe(|| {
        let w = judge(&story, Look::All, copy);
        w.tale.end(&w.state);
        w.finding
    }));
    let mut lines = story.told();
    lines.push("--".into());
    lines.extend(tale.lines());
    let finding = played.unwrap_or_else(|_| Some(Finding { kind: "a panic", text: "see above".into() }));
    if let Some(f) = &finding {
        lines.push(format!("== seed {seed}: {}: {}", f.kind, f.text));
    }
    (lines, finding)
}
