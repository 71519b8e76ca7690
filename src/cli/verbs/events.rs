//! `event list` and `event watch`.

use std::collections::VecDeque;

use crate::{
    cli::{CliError, Session, args::EventVerb, error::DONE, render},
    client::{Watch, WatchItem},
    console,
    model::Period,
    wire::v1,
};

pub async fn run(s: &Session, verb: EventVerb) -> Result<u8, CliError> {
    // Who else can be followed when this node dies.
    s.client.status().await?;
    match verb {
        EventVerb::List { target, limit, since } => list(s, target.as_deref(), limit, since).await,
        EventVerb::Watch { target, after } => {
            let of = Of::read(s, target.as_deref()).await?;
            let mut watch = match after {
                Some(after) => s.client.watch(&of.deployment, (after, u32::MAX), true),
                None => s.client.watch_from_now(&of.deployment).await?,
            };
            header(s)?;
            while let Some(event) = next(&mut watch).await? {
                if of.holds(&event) {
                    s.out.item(&event, render::event)?;
                }
            }
            Ok(DONE)
        }
    }
}

fn header(s: &Session) -> Result<(), CliError> {
    if s.out.for_people() { s.out.line(&render::events()) } else { Ok(()) }
}

async fn list(s: &Session, target: Option<&str>, limit: Option<usize>, since: Option<Period>) -> Result<u8, CliError> {
    let of = Of::read(s, target).await?;
    let from = since.map_or(0, |p| s.client.clock().wall_ms().saturating_sub(p.0));
    let mut watch = s.client.watch(&of.deployment, (0, 0), false);
    let (mut newest, limit) = (VecDeque::new(), limit.unwrap_or(usize::MAX));
    let mut first = true;
    let mut print = |event: &v1::Event| {
        if std::mem::take(&mut first) {
            header(s)?;
        }
        s.out.item(event, render::event)
    };
    while let Some(event) = next(&mut watch).await? {
        if event.wall_ms < from || !of.holds(&event) {
            continue;
        }
        // A line for people comes at once, unless it may turn out to be too old.
        if s.out.for_people() && limit == usize::MAX {
            print(&event)?;
            continue;
        }
        newest.push_back(event);
        if newest.len() > limit {
            newest.pop_front();
        }
    }
    if !s.out.for_people() {
        s.out.show(&newest, |_| String::new())?;
        return Ok(DONE);
    }
    newest.iter().try_for_each(&mut print)?;
    if first {
        s.out.line("no event is kept of that")?;
    }
    Ok(DONE)
}

/// Whose events.
struct Of {
    /// Empty: all of them.
    deployment: String,
    /// Empty: all of the deployment's.
    rollout: String,
}

impl Of {
    async fn read(s: &Session, target: Option<&str>) -> Result<Self, CliError> {
        let Some(target) = target else { return Ok(Self { deployment: String::new(), rollout: String::new() }) };
        let rollout = s.target(target)?.rollout;
        // A name that is not there is a mistake, and not one without events.
        let deployment = s.deployment(&s.deployment_of(target).await?).await?.id;
        Ok(Self { deployment, rollout })
    }

    fn holds(&self, event: &v1::Event) -> bool {
        self.rollout.is_empty() || event.rollout == self.rollout
    }
}

async fn next(watch: &mut Watch) -> Result<Option<v1::Event>, CliError> {
    loop {
        match watch.next().await? {
            Some(WatchItem::Event(event)) => return Ok(Some(event)),
            Some(WatchItem::Moved { from, to }) => console::note(&format!("{from} gone, following {to}")),
            None => return Ok(None),
        }
    }
}
