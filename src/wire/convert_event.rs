//! Events as messages: a kind, what it is about, a line for people, and the fields for programs.

use super::v1;
use crate::state::{Event, EventDescription};

/// An event as watchers get it.
pub fn event(e: &Event, told: EventDescription) -> v1::Event {
    v1::Event {
        index: e.key.index,
        ordinal: e.key.ordinal,
        at_ms: e.at.0,
        wall_ms: e.wall,
        kind: told.kind.into(),
        deployment: told.deployment.map(|d| d.to_string()).unwrap_or_default(),
        rollout: told.rollout.map(|r| r.to_string()).unwrap_or_default(),
        text: told.text,
        fields: told.fields.into_iter().map(|(name, value)| (name.to_string(), value)).collect(),
        actor: e.by.to_string(),
    }
}
