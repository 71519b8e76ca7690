//! What every law stands on: row data, events, refusals, life cycles, and what a command works on.

pub(in crate::state) mod about;
pub(in crate::state) mod context;
pub(in crate::state) mod event;
pub mod lifecycle;
pub(in crate::state) mod names;
pub(in crate::state) mod observed;
pub(in crate::state) mod prelude;
pub(in crate::state) mod rejection;
pub(in crate::state) mod rows;
mod savepoint;
pub(in crate::state) mod servers;
