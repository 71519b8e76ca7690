//! What almost every file of the law names: the nouns, the rows, and what guards and effects are written with.
//!
//! Not here: what one room does for another. A file names that itself, so that its imports show which rooms it leans
//! on.

pub(in crate::state) use crate::{
    model::*,
    state::{
        State,
        base::{
            context::{Apply, Cx, Done, guard},
            event::EventBody,
            rejection::Rejection,
            rows::*,
        },
        catalog::rows::*,
        cluster::rows::*,
        fleet::rows::*,
        rollout::rows::*,
        traffic::{arms::*, fences::*, rows::*},
    },
};
