//! `event list` and `event watch`.

use crate::{
    cli::{CliError, Session, args::EventVerb, error::DONE, render},
    client::{Seen, Watch},
    console,
};

pub async fn run(s: &Session, verb: EventVerb) -> Result<u8, CliError> {
    let id = |d: Option<String>| d.map(|d| s.deployment_id(&d)).transpose().map(Option::unwrap_or_default);
    // Who else can be followed when this node dies.
    s.client.status().await?;
    let mut watch: Watch = match verb {
        EventVerb::List { deployment } => s.client.watch(&id(deployment)?, (0, 0), false),
        EventVerb::Watch { deployment, after: Some(after) } => {
            s.client.watch(&id(deployment)?, (after, u32::MAX), true)
        }
        EventVerb::Watch { deployment, after: None } => s.client.watch_from_now(&id(deployment)?).await?,
    };
    while let Some(seen) = watch.next().await? {
        match seen {
            Seen::Event(event) => s.out.item(&event, render::event)?,
            Seen::Moved { from, to } => console::note(&format!("{from} gone, following {to}")),
        }
    }
    Ok(DONE)
}
