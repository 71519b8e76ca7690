//! What almost every file of the planner names: the nouns, the rows and commands, what a pass sees and what it notes.
//!
//! Not here: what one step does for another. A file names that itself, so that its imports show on what it leans.

pub(super) use super::{
    executor::Turn,
    view::{Notes, View, count},
};
pub(super) use crate::{
    model::*,
    state::{command::*, *},
};
