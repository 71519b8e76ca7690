//! The leader's loop: observe, decide, propose, act; starts and stops with the term.
//!
//! Invariants: it proposes only while this node leads the term it began with; a pass proposes and waits for its own proposals before
//! the next one plans; everything it remembers may be lost with the term, as State and the workers' whole reports hold the rest.
//!
//! Deliberately not here: membership (`node`), what to propose (`engine`).

mod loop_;
mod published;
mod rests;

pub use loop_::{DeliveryTimes, Lead, LeadCounts};
pub use published::{LastPlan, PlanBoard};
