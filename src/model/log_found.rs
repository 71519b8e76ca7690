//! What an agent found of an instance's log, as it says on the wire.
//!
//! Not here: the words that people read, which are `api`'s.

use strum::{Display, EnumString};

/// What there was when an agent was asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Display, EnumString)]
#[strum(serialize_all = "snake_case")]
pub enum LogFound {
    /// Not looked yet: the agent has heard the question.
    Heard,
    /// Lines, which were sent.
    Lines,
    /// Lines, and none of those that were asked for.
    Others,
    /// The program has written nothing.
    Empty,
    /// Its directory, and no log in it: no program began.
    NeverStarted,
    /// Not even its directory.
    Nothing,
    /// The disk refuses; why is said beside it.
    Unreadable,
}
