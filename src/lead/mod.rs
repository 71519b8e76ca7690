//! The leader's loop: observe, decide, propose, act; starts and stops with the term.
//!
//! Invariants: it proposes only while this node leads the term it began with; a pass proposes and waits for its own
//! proposals before the next one plans; a panic in it costs the leadership and nothing else (`panics`); everything it
//! remembers may be lost with the term, as State and the workers' whole reports hold the rest.
//!
//! Deliberately not here: membership (`node`), what to propose (`engine`).

mod counts;
mod loop_;
mod panics;
mod published;
mod rests;

pub use counts::LeadCounts;
pub use loop_::{Fallen, Lead};
pub use panics::{Panic, Panics, Part};
pub use published::{LastPlan, PlanBoard};
