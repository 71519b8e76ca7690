//! Follows a rollout to its end: a view that redraws itself on a terminal, a line an event elsewhere; across lost
//! nodes.
//!
//! The end is read from the rollout itself, never guessed from events, so a lost event cannot lose the end.

use std::{collections::BTreeSet, time::Duration};

use indicatif::{ProgressBar, ProgressStyle};

use serde::Serialize;

use super::{
    CliError, Session,
    args::{Until, WatchLimits},
    error, render,
};
use crate::{
    client::{ClientError, Watch, WatchItem},
    console,
    model::Millis,
    wire::{
        convert_rollout::{compared, has_counts},
        v1,
    },
};

/// Between two looks at the rollout: on a terminal, and elsewhere (events come at once in both).
const LOOK: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(5));
/// A look follows the last event of a burst after this long: what has happened is said before what is.
const SETTLE: Duration = Duration::from_millis(100);
/// How long the first events may take to come.
const FIRST: Duration = Duration::from_secs(1);
/// So many events without a look are enough.
const BURST: u32 = 50;
/// How long nobody may answer when nothing limits the watch.
pub const PATIENCE: Duration = Duration::from_secs(60);

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
    pub limits: WatchLimits,
    /// Cluster time of the command that is followed: what steps saw before it is known. 0: everything is told.
    pub from_ms: u64,
    /// The operator asked for the rollback, so arriving there is success.
    pub wants_rollback: bool,
}

/// What a watch gives, in order.
type Feed = tokio::sync::mpsc::Receiver<Result<Option<WatchItem>, ClientError>>;

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

/// A line of a watch. The first is `started`, the last `ended`.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum WatchLine<'a> {
    /// First of all.
    Started {
        rollout: &'a str,
        /// The entry from which events are shown.
        index: u64,
        notes: &'a [String],
    },
    /// What happened.
    Event {
        /// As `event watch` prints it.
        event: &'a v1::Event,
    },
    /// What a step that ended has seen.
    Evidence {
        /// As it ended, with its evidence.
        step: &'a v1::Step,
    },
    /// What it waits for now, when that is something else than before.
    Waiting { waits: &'a [String] },
    /// It is paused: somebody must say how it goes on.
    Paused { rollout: &'a str, reason: &'a str, ways_out: &'a [String] },
    /// Another node is followed.
    Moved {
        /// Client address of the node that is gone.
        from_node: &'a str,
        /// And of the one that is followed.
        to_node: &'a str,
    },
    /// No node answers at present.
    Silent { error: &'a str },
    /// Last of all.
    Ended {
        rollout: &'a str,
        status: &'a str,
        exit_code: u8,
        text: &'a str,
        /// The rollout as it ended.
        record: &'a v1::Rollout,
    },
}

struct View<'a> {
    session: &'a Session,
    bar: Option<ProgressBar>,
}

impl View<'_> {
    fn say(&self, line: &WatchLine<'_>, text: impl FnOnce() -> String) -> Result<(), CliError> {
        match &self.bar {
            Some(bar) => {
                bar.println(console::harmless(&text()));
                Ok(())
            }
            None => self.session.out.item(line, |_| console::harmless(&text())),
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

/// What was said already of what stays for a while.
#[derive(Default)]
struct Before {
    /// Cluster time before which nothing is told.
    from_ms: u64,
    paused: bool,
    evidence: BTreeSet<u64>,
    waits: String,
    /// Why the rollout turned back or was held, as far as a line has said it.
    reason: String,
}

impl Before {
    /// The text without a reason that a line before has said.
    fn once(&mut self, text: String, reason: &str) -> String {
        if reason.is_empty() {
            return text;
        }
        if self.reason == reason {
            return text.replace(&format!(": {reason}"), "").replace(&format!(" ({reason})"), "");
        }
        self.reason = reason.into();
        text
    }
}

/// Follows until the rollout has ended, is paused if that is waited for, or the time is over.
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
    let from = if follow.from_index > 0 { follow.from_index - 1 } else { rollout.applied_index };
    let mut events = Some(feed(client.watch(&rollout.deployment, (from, u32::MAX), true)));
    let mut every = tokio::time::interval(if view.bar.is_some() { LOOK.0 } else { LOOK.1 });
    every.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    every.reset_after(FIRST);
    let mut before = Before { from_ms: follow.from_ms, ..Before::default() };
    let (mut burst, mut silent_since) = (0, None);
    while !rollout.terminal {
        let over = follow.limits.within.map(|p| p.0.saturating_sub(client.clock().mono().since(started)));
        if over == Some(0) {
            finish(&view);
            let (id, is) = (&rollout.id, render::words(&rollout.status));
            let text = format!("{id} is still {is}: `slipway rollout watch {id}` goes on watching");
            return Ok(End { code: error::TIMED_OUT, text });
        }
        let limit = Duration::from_millis(over.unwrap_or(u64::MAX / 4).min(60_000));
        tokio::select! {
            seen = next(&mut events) => {
                let about = saw(&view, &mut events, &rollout, &mut before, seen)?;
                burst += 1;
                if about && burst < BURST {
                    every.reset_after(SETTLE);
                }
            }
            _ = every.tick() => {
                burst = 0;
                match session.rollout(&follow.rollout).await {
                    Ok(now) => (rollout, silent_since) = (now, None),
                    Err(e) if passing(&e) => {
                        let since = *silent_since.get_or_insert_with(|| client.clock().mono());
                        silent(&view, &e)?;
                        let waited = Duration::from_millis(client.clock().mono().since(since));
                        if follow.limits.within.is_none() && waited > PATIENCE {
                            return Err(e);
                        }
                        continue;
                    }
                    Err(e) => return Err(e),
                }
                // What happened before this look is said before what it saw.
                while let Ok(seen) = tokio::time::timeout(SETTLE / 4, next(&mut events)).await {
                    saw(&view, &mut events, &rollout, &mut before, seen)?;
                    burst += 1;
                    if burst >= BURST {
                        break;
                    }
                }
                if events.is_none() {
                    events = Some(feed(client.watch(&rollout.deployment, (rollout.applied_index, u32::MAX), true)));
                }
                let enough = stands(&rollout) && follow.limits.until == Until::Paused;
                before.paused |= enough;
                looked(&view, &rollout, &mut before).await?;
                if enough {
                    finish(&view);
                    let text = is_paused(&rollout);
                    let text = if session.out.for_people() { before.once(text, &rollout.reason) } else { text };
                    return Ok(End { code: error::PAUSED, text });
                }
            }
            () = tokio::time::sleep(limit) => {}
        }
    }
    // It has ended: that nobody reads the last lines changes nothing about how.
    heard(rest(&view, &mut events, &rollout, &mut before).await)?;
    heard(say_evidence(&view, &rollout, &mut before))?;
    let deployment = session.deployment(&rollout.deployment).await.ok();
    finish(&view);
    if view.bar.is_some() {
        heard(session.out.line(&render::rollout(&rollout, 0)))?;
    }
    let End { code, text } = end(&rollout, deployment.as_ref(), follow.wants_rollback);
    // A view that was redrawn has left no line behind.
    let told = view.bar.is_none() && session.out.for_people();
    Ok(End { code, text: if told { before.once(text, &rollout.reason) } else { text } })
}

/// Says what the rollout's row shows that was not said yet.
async fn looked(view: &View<'_>, rollout: &v1::Rollout, before: &mut Before) -> Result<(), CliError> {
    let arms = if view.bar.is_some() { view.session.deployment(&rollout.deployment).await.ok() } else { None };
    say_evidence(view, rollout, before)?;
    view.draw(rollout, arms.as_ref());
    let paused = stands(rollout);
    if view.bar.is_none() && !paused {
        say_waits(view, rollout, &mut before.waits)?;
    }
    if paused && !before.paused {
        let line = WatchLine::Paused { rollout: &rollout.id, reason: &rollout.reason, ways_out: &rollout.ways_out };
        view.say(&line, || before.once(is_paused(rollout), &rollout.reason))?;
    }
    before.paused = paused;
    Ok(())
}

/// Whether it waits for a person.
fn stands(rollout: &v1::Rollout) -> bool {
    rollout.held || rollout.status == "paused"
}

fn is_paused(rollout: &v1::Rollout) -> String {
    let how = if rollout.held { "is held until somebody promotes it" } else { "is paused" };
    let because = if rollout.reason.is_empty() { String::new() } else { format!(" ({})", rollout.reason) };
    format!("{} {how}{because}{}", rollout.id, render::ways_out(&rollout.ways_out))
}

/// Whether a failure may be over in a moment: nodes that restart, an election.
pub fn passing(e: &CliError) -> bool {
    matches!(
        e,
        CliError::Client(
            ClientError::Unreachable { .. } | ClientError::Unavailable { .. } | ClientError::TimedOut { .. }
        )
    )
}

fn silent(view: &View<'_>, e: &CliError) -> Result<(), CliError> {
    let text = e.to_string();
    if view.session.out.for_people() {
        console::note(&format!("still watching: {text}"));
        return Ok(());
    }
    view.say(&WatchLine::Silent { error: &text }, String::new)
}

/// What the feed gives next; nothing ever while there is none.
async fn next(events: &mut Option<Feed>) -> Result<Option<WatchItem>, ClientError> {
    match events {
        Some(feed) => feed.recv().await.unwrap_or(Ok(None)),
        None => std::future::pending().await,
    }
}

/// A line that nobody read, as the reader has left, counts as said.
pub fn heard(said: Result<(), CliError>) -> Result<(), CliError> {
    said.or_else(|e| if e.reader_left() { Ok(()) } else { Err(e) })
}

/// Prints what was seen by each step that ended since the last look.
fn say_evidence(view: &View<'_>, rollout: &v1::Rollout, before: &mut Before) -> Result<(), CliError> {
    evidence(rollout, before).into_iter().try_for_each(|(step, line)| view.say(&WatchLine::Evidence { step }, || line))
}

/// Counts with the verdict, and which node served a switch when, of each step that was not told yet. A step is known by
/// its id: when a rollback begins the same rows stand among the current ones first, and among those of the way there
/// later. What is the reason for the rollback is said with it.
fn evidence<'a>(rollout: &'a v1::Rollout, before: &mut Before) -> Vec<(&'a v1::Step, String)> {
    let mut lines = Vec::new();
    for step in rollout.forward_steps.iter().chain(&rollout.steps) {
        let Some(evidence) = &step.evidence else { continue };
        if !before.evidence.insert(step.step_id) || step.ended_at_ms < before.from_ms {
            continue;
        }
        let judged = render::judged(step, &evidence.verdict);
        let totals = evidence.totals.iter().filter(|t| judged && has_counts(t));
        let totals = totals.map(|t| compared(evidence, t));
        // A switch says which node served it when.
        let reason = |n: &str| rollout.reason.contains(n) || n.contains(&rollout.reason) && !rollout.reason.is_empty();
        let note = Some(evidence.note.clone()).filter(|n| !n.is_empty() && !step.announced && !reason(n));
        let verdict = Some(evidence.verdict.clone()).filter(|_| judged);
        let seen: Vec<String> = totals.chain(note).chain(verdict).collect();
        if !seen.is_empty() {
            let since = since_start(step.ended_at_ms, rollout);
            lines.push((step, format!("{since:>9}  {} has seen: {}", named(step), seen.join("; "))));
        }
    }
    lines
}

/// A step as a line names it: its heading says nothing new where it is in its name.
fn named(step: &v1::Step) -> String {
    let what = if step.detail.is_empty() { &step.kind } else { &step.detail };
    if what.contains(&step.group) { what.clone() } else { format!("{}: {what}", step.group) }
}

/// Prints what a rollout waits for where nothing is redrawn, when that is another reason than at the last look. The
/// numbers in it move all the time and are no other reason.
fn say_waits(view: &View<'_>, rollout: &v1::Rollout, said: &mut String) -> Result<(), CliError> {
    let waits = rollout.waits.join("; ");
    let reason = reason(&waits);
    if !waits.is_empty() && reason != *said {
        let line = WatchLine::Waiting { waits: &rollout.waits };
        view.say(&line, || format!("{:>9}  waiting: {waits}", since_start(rollout.now_ms, rollout)))?;
    }
    *said = reason;
    Ok(())
}

/// What a reason says beside its numbers.
pub fn reason(waits: &str) -> String {
    waits.chars().filter(|c| !c.is_ascii_digit()).collect()
}

fn finish(view: &View<'_>) {
    if let Some(bar) = &view.bar {
        bar.finish_and_clear();
    }
}

/// Prints what a watch gave; says whether the rollout may have moved.
fn saw(
    view: &View<'_>,
    events: &mut Option<Feed>,
    rollout: &v1::Rollout,
    before: &mut Before,
    seen: Result<Option<WatchItem>, ClientError>,
) -> Result<bool, CliError> {
    match seen {
        Ok(Some(WatchItem::Event(event))) => {
            let about = about(&event, rollout);
            if about {
                view.say(&WatchLine::Event { event: &event }, || line(&event, rollout, before))?;
            }
            Ok(about)
        }
        Ok(Some(WatchItem::Moved { from, to })) => {
            view.say(&WatchLine::Moved { from_node: &from, to_node: &to }, || format!("{from} gone, following {to}"))?;
            Ok(true)
        }
        // The ring has gone on without us, or nobody answers: what was missed shows in the rollout itself, and the next
        // look that succeeds goes on from there.
        Ok(None) | Err(ClientError::OutOfRange { .. }) => {
            *events = None;
            Ok(true)
        }
        Err(e) => {
            let e = CliError::from(e);
            *events = None;
            if passing(&e) { Ok(true) } else { Err(e) }
        }
    }
}

/// Prints the events up to the end that the rollout's own row has overtaken.
async fn rest(
    view: &View<'_>,
    events: &mut Option<Feed>,
    rollout: &v1::Rollout,
    before: &mut Before,
) -> Result<(), CliError> {
    while let Ok(Ok(Some(WatchItem::Event(event)))) =
        tokio::time::timeout(Duration::from_millis(500), next(events)).await
    {
        if event.index > rollout.applied_index {
            break;
        }
        if about(&event, rollout) {
            view.say(&WatchLine::Event { event: &event }, || line(&event, rollout, before))?;
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
        "instance_changed" => {
            event.text.contains("failed") || event.fields.get("status").is_some_and(|l| l == "failed")
        }
        "spec_changed" | "release_added" => false,
        _ => event.rollout.is_empty() || event.rollout == rollout.id,
    }
}

/// An event as a plain line, with the time since the rollout began.
fn line(event: &v1::Event, rollout: &v1::Rollout, before: &mut Before) -> String {
    let since = since_start(event.at_ms, rollout);
    let fields: Vec<String> = event.fields.iter().map(|(k, v)| format!("{k}={v}")).collect();
    let what = if event.text.is_empty() { format!("{} {}", event.kind, fields.join(" ")) } else { event.text.clone() };
    // The watcher knows what it watches: the deployment's name at the front of each line says nothing.
    let what = what.strip_prefix(&format!("{}: ", rollout.deployment)).unwrap_or(&what).to_string();
    let reason = event.fields.get("reason").map_or("", String::as_str);
    format!("{since:>9}  {}", before.once(what, reason))
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
            let nothing = rollout.from.is_none();
            let back = if nothing { "rolled back, nothing runs".into() } else { format!("rolled back to {from}") };
            End { code, text: format!("{back}{}{because}", without(rollout)) }
        }
        "aborted" => End { code: error::ABORTED, text: format!("aborted{because}") },
        status => End { code: error::FAILED, text: format!("{}{because}", render::words(status)) },
    }
}

/// Who was not there, as a rollout that ends without them must say so.
fn without(rollout: &v1::Rollout) -> String {
    if rollout.without.is_empty() { String::new() } else { format!(", without {} (lost)", rollout.without.join(", ")) }
}

#[cfg(test)]
mod tests;
