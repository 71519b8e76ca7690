//! How an entry takes effect, and how State is written and compared: the top of `state`.

pub(in crate::state) mod apply;
mod bounds;
pub mod codec;
pub mod command;
pub mod digest;
pub mod invariants;
pub(in crate::state) mod requests;
pub(in crate::state) mod restore;
pub mod snapshot;
pub(in crate::state) mod stamp;
