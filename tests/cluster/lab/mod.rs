//! What the scenarios stand on: addresses, processes, the CLI, DNS, load.

mod block;
mod cli;
mod daemon;
mod disk;
mod dns;
mod load;
mod net;
mod shop;
mod skew;
mod watch;
mod world;

pub use cli::{Said, list, number, text};
pub use daemon::Daemon;
pub use disk::Disk;
pub use dns::ask;
pub use load::Load;
pub use net::Net;
pub use procs::{Proc, dies_with_us, kill_all, naming as procs_naming, signal};
pub use scratch::{Scratch, sweep};
pub use shop::{Release, package, spec};
pub use skew::{Skew, forget_clock};
pub use skip::skip;
pub use watch::{EventWatch, step_began};
pub use world::{Lab, SHOP, clean, eventually};

use std::time::Duration;

use crate::helpers::{procs, scratch, skip};

/// The longest wait for something that takes a moment: two cores may be shared by many.
pub const SOON: Duration = Duration::from_secs(30);
/// The longest wait for a rollout.
pub const ROLLOUT: &str = "90s";
