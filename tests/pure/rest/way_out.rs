//! What a person does about a wait that a story allows: verbs, tried on copies of the world until one brings the
//! deployment to rest. A rollback that waits must end by each of the two verbs that are made for it.

use slipway::model::{DeploymentId, Principal, RolloutId};
use slipway::state::{
    Command, RolloutStatus,
    command::{Abort, Promote, Resume, Rollback},
};

use super::law::{self, Unrest, Way};
use super::play;
use super::shape::Laid;
use super::story::Story;
use super::tale::Tale;
use super::world::{Finding, World};

/// A verb, or a few that belong together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Out {
    Resume,
    Rollback,
    Abort,
    Promote,
    /// Ends it as it is; the fix goes over both.
    AsIs,
    /// The fix, in place of what is live.
    Replace,
    /// The fix.
    Fix,
    /// Another machine.
    Machine,
}

/// Runs until the deployment is at rest for a while, or its time is over: why it is not.
pub fn until_rest(w: &mut World, laids: &[Laid]) -> Result<(), (Laid, String)> {
    let mut end = w.real + law::bound(w);
    let mut calm = 0;
    let mut pause = 5000;
    loop {
        let mut unrest = None;
        let mut kept = None;
        for laid in laids {
            match law::rest(w, laid) {
                Ok(()) => {}
                Err(Unrest::Kept(at)) => kept = kept.max(Some(at)),
                Err(Unrest::Because(text)) => unrest = Some((laid.clone(), text)),
            }
        }
        let quiet = unrest.is_none() && kept.is_none();
        calm = if quiet { calm + 1 } else { 0 };
        if calm >= 3 || w.over() {
            return Ok(());
        }
        if let (None, Some(at)) = (&unrest, kept) {
            // What is kept goes in its time, and then it must be gone.
            let real = w.real_of(at);
            end = end.max(real + 5 * 60_000);
            w.run_to(real.max(w.real + 1));
        }
        if w.real >= end {
            return match unrest {
                Some(why) => Err(why),
                None => Err((laids[0].clone(), "what was kept did not go".into())),
            };
        }
        w.run(if quiet { 60_000 } else { pause });
        pause = (pause * 3 / 2).min(60_000);
    }
}

/// The verbs for a wait, the likely ones first, and how many of them must bring it to rest.
fn ways(w: &World, laid: &Laid) -> (Vec<Out>, bool) {
    let living = w.agents.values().any(|a| a.alive);
    if !living {
        return (vec![Out::Machine], true);
    }
    let Some(r) = w.state.live_rollout(&laid.id) else { return (vec![Out::Fix], true) };
    match (law::way(r), r.status) {
        (Way::Undo | Way::Return, RolloutStatus::Paused) => (vec![Out::Resume, Out::AsIs, Out::Replace], false),
        (Way::Undo | Way::Return, _) => (vec![Out::AsIs, Out::Replace], true),
        (Way::Forward, RolloutStatus::Paused) => {
            (vec![Out::Resume, Out::Rollback, Out::Abort, Out::Replace, Out::AsIs], false)
        }
        (Way::Forward, _) => (vec![Out::Rollback, Out::Promote, Out::Abort, Out::Replace, Out::AsIs], false),
    }
}

/// Ends the wait as a person would; what could not be ended is a finding.
pub fn take(w: &mut World, story: &Story, laid: &Laid, why: &str) {
    let (ways, each) = ways(w, laid);
    // What a person is told can be done about it, by the law's own word.
    if slipway::engine::ways_out(&w.state, &Principal::local_operator(), &laid.id).is_empty()
        && w.agents.values().any(|a| a.alive)
    {
        w.found("a wait offers no verb", format!("{} ({why})", laid.id));
        return;
    }
    let mut done: Option<(Out, World)> = None;
    let (mut tried, mut failed_by) = (Vec::new(), None);
    for out in ways {
        let mut copy = w.clone();
        copy.tale = Tale::default();
        let result = apply(&mut copy, story, laid, out);
        if let Some(f) = copy.finding.take() {
            told(w, story, laid, out);
            w.finding = Some(Finding { kind: f.kind, text: format!("after {out:?}: {}", f.text) });
            return;
        }
        match result {
            Ok(()) => {
                w.tally.note(format!("ended by {out:?}"));
                done = done.or(Some((out, copy)));
                if !each {
                    break;
                }
            }
            Err(text) => {
                failed_by = failed_by.or(Some(out));
                tried.push(format!("{out:?}: {text}"));
            }
        }
    }
    let failed = if each { !tried.is_empty() } else { done.is_none() };
    if failed {
        told(w, story, laid, failed_by.unwrap_or(Out::Fix));
        w.finding = None;
        w.found("no verb ends the wait", format!("{} ({why}): {}", laid.id, tried.join("; ")));
        return;
    }
    let Some((out, copy)) = done else { return };
    if w.tale.is_told() {
        w.tale.line(|| format!("-- {why}"));
        told(w, story, laid, out);
    } else {
        let tally = std::mem::take(&mut w.tally);
        *w = copy;
        w.tally = tally;
    }
}

/// The same once more, for the transcript.
fn told(w: &mut World, story: &Story, laid: &Laid, out: Out) {
    if w.tale.is_told() {
        w.tale.line(|| format!("-- {out:?}"));
        let _ = apply(w, story, laid, out);
    }
}

fn apply(w: &mut World, story: &Story, laid: &Laid, out: Out) -> Result<(), String> {
    let id = &laid.id;
    let live = w.state.deployments.get(id).and_then(|d| d.live);
    let verb = |w: &mut World, of: fn(RolloutId) -> Command| match live {
        Some(r) if w.verb(of(r)) => Ok(()),
        Some(_) => Err("refused".to_string()),
        None => Err("nothing is live".to_string()),
    };
    match out {
        Out::Resume => verb(w, |rollout| Command::Resume(Resume { rollout }))?,
        Out::Rollback => verb(w, |rollout| Command::Rollback(Rollback { rollout }))?,
        Out::Abort => verb(w, |rollout| Command::Abort(Abort { rollout, as_is: false }))?,
        Out::Promote => verb(w, |rollout| Command::Promote(Promote { rollout, full: true }))?,
        Out::AsIs => {
            verb(w, |rollout| Command::Abort(Abort { rollout, as_is: true }))?;
            w.run(150_000);
            fix(w, story, id, false)?;
        }
        Out::Replace => fix(w, story, id, true)?,
        Out::Fix => fix(w, story, id, false)?,
        Out::Machine => play::add_worker(w, "w9", 9),
    }
    w.settle();
    if out == Out::Machine {
        return machine(w, story, laid);
    }
    until_rest(w, std::slice::from_ref(laid)).map_err(|(_, why)| why)
}

/// With a new machine it rests by itself, or the fix does the rest where nothing else is sound.
fn machine(w: &mut World, story: &Story, laid: &Laid) -> Result<(), String> {
    let one = std::slice::from_ref(laid);
    let Err((_, why)) = until_rest(w, one) else { return Ok(()) };
    if law::allowed(w, laid).is_none() {
        return Err(why);
    }
    let replace = w.state.live_rollout(&laid.id).is_some();
    fix(w, story, &laid.id, replace)?;
    until_rest(w, one).map_err(|(_, why)| why)
}

fn fix(w: &mut World, story: &Story, id: &DeploymentId, replace: bool) -> Result<(), String> {
    let version = story.releases[story.fix].version.to_string();
    if play::start(w, id, &version, &law::fixing(), replace) { Ok(()) } else { Err("the fix is refused".into()) }
}
