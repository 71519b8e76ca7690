//! The judgement: what the leader proposes next. Pure: State, what was heard, and the time go in; commands, the next
//! moment to look, and typed reasons for waiting come out.
//!
//! Invariants: nothing here remembers anything between two passes, so a new leader plans as the old one did; at most
//! one command a rollout and pass; silence is never read as health. Not here: what a command does (`state`), sending it
//! (`lead`).

mod analysis;
mod back;
mod batch;
mod collect;
mod drain;
mod evidence;
mod executor;
mod facts;
mod fence;
mod keeper;
mod lost;
mod place;
mod plan;
mod prelude;
mod preview;
mod returned;
mod room;
mod standing;
mod steps;
mod strategy;
mod verbs;
mod view;
mod rollback_estimate;
mod weigh;

pub use facts::facts;
pub use plan::{Plan, plan};
pub use preview::{Preview, Refused, preview};
pub use rollback_estimate::{RollbackEstimate, planned_rollback_estimate, rollback_estimate};
pub use strategy::{STRATEGIES, Strategy, settings_page, strategy};
pub use verbs::ways_out;
