//! Follows a rollout to its end: a view that redraws itself on a terminal, a line an event elsewhere; across lost nodes.
//!
//! The end is read from the rollout itself, never guessed from events, so a lost event cannot lose the end.

use std::{collections::BTreeSet, time::Duration};

use indicatif::{ProgressBar, ProgressStyle};

use super::{CliError, Session, error, render};
use crate::{
    client::{ClientError, Seen, Watch},
    model::{Millis, Period},
    wire::{convert_rollout::compared, v1},
};

/// Between two looks at the rollout: on a terminal, and elsewhere (events come at once in both).
const LOOK: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(5));

/// How a watched rollout ended.
pub struct End {
    /// Exit code.
    pub code: u8,
    /// One line for people.
    pub text: String,
}

/// What following needs.
pub struct Follow {
    pub rollout: String,
    /// Events from this log index on; 0: only what comes.
    pub from_index: u64,
    /// Stop watching after this long.
    pub within: Option<Period>,
    /// The operator asked for the rollback, so arriving there is success.
    pub wants_rollback: bool,
}

/// What a watch gives, in order.
type Feed = tokio::sync::mpsc::Receiver<Result<Option<Seen>, ClientError>>;

/// Reads a watch on a task of its own, so that a look at the rollout never interrupts the search for another node.
fn feed(mut watch: Watch) -> Feed {
    let (send, receive) = tokio::sync::mpsc::channel(64);
    tokio::spawn(async move {
        loop {
            let seen = tokio::select! {
                seen = watch.next() => seen,
                () = send.closed() => return,
            };
            let goes_on = matches!(seen, Ok(Some(_)));
            if send.send(seen).await.is_err() || !goes_on {
                return;
            }
        }
    });
    receive
}

struct View<'a> {
    session: &'a Session,
    bar: Option<ProgressBar>,
}

impl View<'_> {
    fn line(&self, text: &str) -> Result<(), CliError> {
        match &self.bar {
            Some(bar) => {
                bar.println(text);
                Ok(())
            }
            None if self.session.out.for_people() => self.session.out.line(text),
            None => Ok(()),
        }
    }

    fn draw(&self, rollout: &v1::Rollout, arms: Option<&v1::Deployment>) {
        if let Some(bar) = &self.bar {
            let now = self.session.client.cluster_now().unwrap_or_default().max(rollout.now_ms);
            let arms = arms.map(|d| format!("\n\n{}", render::arms(d))).unwrap_or_default();
            bar.set_message(format!("\n{}{arms}", render::rollout(rollout, now)));
        }
    }
}

/// Follows until the rollout has ended or `within` is over.
pub async fn follow(session: &Session, follow: Follow) -> Result<End, CliError> {
    let client = &session.client;
    let started = client.clock().mono();
    // Who else can be followed when this node dies, and what time it is in the cluster.
    client.status().await?;
    let bar = session.out.live().then(|| {
        let style = ProgressStyle::with_template("{msg}").unwrap_or_else(|_| ProgressStyle::default_spinner());
        ProgressBar::new_spinner().with_style(style)
    });
    let view = View { session, bar };
    let mut rollout = session.rollout(&follow.rollout).await?;
    let mut events = feed(if follow.from_index > 0 {
        client.watch(&rollout.deployment, (follow.from_index - 1, u32::MAX), true)
    } else {
        client.watch_from_now(&rollout.deployment).await?
    });
    let mut every = tokio::time::interval(if view.bar.is_some() { LOOK.0 } else { LOOK.1 });
    every.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut said_paused = false;
    let mut said_evidence: BTreeSet<u64> = BTreeSet::new();
    let mut said_waits = String::new();
    while !rollout.terminal {
        let over = follow.within.map(|p| p.0.saturating_sub(client.clock().mono().since(started)));
        if over == Some(0) {
            finish(&view);
            let text =
                format!("{} is still {}: `slipway rollout watch {0}` goes on watching", rollout.id, rollout.status);
            return Ok(End { code: error::TIMED_OUT, text });
        }
        let limit = Duration::from_millis(over.unwrap_or(u64::MAX / 4).min(60_000));
        let mut idle = false;
        let look = tokio::select! {
            seen = events.recv() => saw(&view, &mut events, &rollout, seen.unwrap_or(Ok(None))).await?,
            _ = every.tick() => {
                idle = true;
                true
            }
            () = tokio::time::sleep(limit) => false,
        };
        if look {
            rollout = session.rollout(&follow.rollout).await?;
            let arms = if view.bar.is_some() { session.deployment(&rollout.deployment).await.ok() } else { None };
            say_evidence(&view, &rollout, &mut said_evidence)?;
            view.draw(&rollout, arms.as_ref());
            if idle && view.bar.is_none() {
                say_waits(&view, &rollout, &mut said_waits)?;
            }
        }
        if rollout.status == "paused" && !said_paused {
            let why = if rollout.reason.is_empty() { String::new() } else { format!(" ({})", rollout.reason) };
            let out = render::ways_out(&rollout.ways_out);
            view.line(&format!("{} is paused{why}{out}", rollout.id))?;
        }
        said_paused = rollout.status == "paused";
    }
    // It has ended: that nobody reads the last lines changes nothing about how.
    heard(rest(&view, &mut events, &rollout).await)?;
    heard(say_evidence(&view, &rollout, &mut said_evidence))?;
    let deployment = session.deployment(&rollout.deployment).await.ok();
    finish(&view);
    if view.bar.is_some() {
        heard(session.out.line(&render::rollout(&rollout, 0)))?;
    }
    Ok(end(&rollout, deployment.as_ref(), follow.wants_rollback))
}

/// A line that nobody read, as the reader has left, counts as said.
pub fn heard(said: Result<(), CliError>) -> Result<(), CliError> {
    said.or_else(|e| if e.reader_left() { Ok(()) } else { Err(e) })
}

/// Prints what was seen by each step that ended since the last look.
fn say_evidence(view: &View<'_>, rollout: &v1::Rollout, said: &mut BTreeSet<u64>) -> Result<(), CliError> {
    evidence(rollout, said).iter().try_for_each(|line| view.line(line))
}

/// Counts with the verdict, and which node served a switch when, of each step that `said` does not hold. A step is
/// known by its id: when a rollback begins, the same rows are first among the current steps, and later among the
/// forward steps.
fn evidence(rollout: &v1::Rollout, said: &mut BTreeSet<u64>) -> Vec<String> {
    let mut lines = Vec::new();
    for step in rollout.forward_steps.iter().chain(&rollout.steps) {
        let Some(evidence) = &step.evidence else { continue };
        if !said.insert(step.step_id) {
            continue;
        }
        let judged = render::judged(step, &evidence.verdict);
        let totals = evidence.totals.iter().filter(|_| judged);
        let totals = totals.map(|t| compared(evidence, t));
        // A switch says which node served it when.
        let note = Some(evidence.note.clone()).filter(|n| !n.is_empty() && !step.announced);
        let verdict = Some(evidence.verdict.clone()).filter(|_| judged);
        let seen: Vec<String> = totals.chain(note).chain(verdict).collect();
        if !seen.is_empty() {
            lines.push(format!("{:>9}  {}: {}", "", step.group, seen.join("; ")));
        }
    }
    lines
}

/// Prints what a rollout waits for where nothing is redrawn, when that is another reason than at the last look. The numbers in it
/// move all the time and are no other reason.
fn say_waits(view: &View<'_>, rollout: &v1::Rollout, said: &mut String) -> Result<(), CliError> {
    let waits = rollout.waits.join("; ");
    let reason = reason(&waits);
    if !waits.is_empty() && reason != *said && rollout.status != "paused" {
        view.line(&format!("{:>9}  waiting: {waits}", since_start(rollout.now_ms, rollout)))?;
    }
    *said = reason;
    Ok(())
}

/// What a reason says beside its numbers.
fn reason(waits: &str) -> String {
    waits.chars().filter(|c| !c.is_ascii_digit()).collect()
}

fn finish(view: &View<'_>) {
    if let Some(bar) = &view.bar {
        bar.finish_and_clear();
    }
}

/// Prints what a watch gave; says whether to look at the rollout again.
async fn saw(
    view: &View<'_>,
    events: &mut Feed,
    rollout: &v1::Rollout,
    seen: Result<Option<Seen>, ClientError>,
) -> Result<bool, CliError> {
    match seen {
        Ok(Some(Seen::Event(event))) => {
            let about = about(&event, rollout);
            if about {
                view.line(&line(&event, rollout))?;
            }
            Ok(about)
        }
        Ok(Some(Seen::Moved { from, to })) => {
            view.line(&format!("{from} gone, following {to}"))?;
            Ok(true)
        }
        // The ring has gone on without us: what was missed shows in the rollout itself.
        Ok(None) | Err(ClientError::OutOfRange { .. }) => {
            *events = feed(view.session.client.watch_from_now(&rollout.deployment).await?);
            Ok(true)
        }
        Err(e) => Err(e.into()),
    }
}

/// Prints the events up to the end that the rollout's own row has overtaken.
async fn rest(view: &View<'_>, events: &mut Feed, rollout: &v1::Rollout) -> Result<(), CliError> {
    while let Ok(Some(Ok(Some(Seen::Event(event))))) =
        tokio::time::timeout(Duration::from_millis(500), events.recv()).await
    {
        if event.index > rollout.index {
            break;
        }
        if about(&event, rollout) {
            view.line(&line(&event, rollout))?;
        }
        if event.rollout == rollout.id && event.fields.get("status") == Some(&rollout.status) {
            break;
        }
    }
    Ok(())
}

/// Whether an event belongs to the rollout's story: its own, its deployment's routes, and instances that failed.
fn about(event: &v1::Event, rollout: &v1::Rollout) -> bool {
    match event.kind.as_str() {
        "instance_changed" => event.text.contains("failed") || event.fields.get("life").is_some_and(|l| l == "failed"),
        "spec_changed" | "release_added" => false,
        _ => event.rollout.is_empty() || event.rollout == rollout.id,
    }
}

/// An event as a plain line, with the time since the rollout began.
fn line(event: &v1::Event, rollout: &v1::Rollout) -> String {
    let since = since_start(event.at_ms, rollout);
    let fields: Vec<String> = event.fields.iter().map(|(k, v)| format!("{k}={v}")).collect();
    let what = if event.text.is_empty() { format!("{} {}", event.kind, fields.join(" ")) } else { event.text.clone() };
    // The watcher knows what it watches: the rollout's own name at the front of each line says nothing.
    let what = what.strip_prefix(&format!("{}: ", rollout.deployment)).unwrap_or(&what);
    let what = what.strip_prefix(&format!("{} ", rollout.id)).unwrap_or(what);
    format!("{since:>9}  {what}")
}

/// A moment of cluster time as time since the rollout began.
fn since_start(at_ms: u64, rollout: &v1::Rollout) -> String {
    Millis(at_ms.saturating_sub(rollout.started_at_ms)).to_string()
}

/// The last line, and the exit code.
pub fn end(rollout: &v1::Rollout, deployment: Option<&v1::Deployment>, wants_rollback: bool) -> End {
    let because = if rollout.reason.is_empty() { String::new() } else { format!(": {}", rollout.reason) };
    let (to, from) = (render::version(rollout.to.as_ref()), render::version(rollout.from.as_ref()));
    let stable = deployment.and_then(|d| d.arms.iter().find(|a| a.role == "stable"));
    match rollout.status.as_str() {
        "completed" => {
            let serving = stable.map_or(rollout.desired, |t| t.serving);
            let without = without(rollout);
            End { code: error::DONE, text: format!("completed: {to} on {serving} of {}{without}", rollout.desired) }
        }
        "rolled_back" => {
            let code = if wants_rollback { error::DONE } else { error::ROLLED_BACK };
            let back = if rollout.from.is_none() {
                "rolled back, nothing runs".into()
            } else {
                format!("rolled back to {from}")
            };
            End { code, text: format!("{back}{}{because}", without(rollout)) }
        }
        status => End { code: error::FAILED, text: format!("{status}{because}") },
    }
}

/// Who was not there, as a rollout that ends without them must say so.
fn without(rollout: &v1::Rollout) -> String {
    if rollout.without.is_empty() { String::new() } else { format!(", without {} (lost)", rollout.without.join(", ")) }
}

#[cfg(test)]
mod tests;
