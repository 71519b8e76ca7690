//! The product as real processes: nodes, agents, the demo's service, the CLI, DNS over the wire; killed and paused at
//! will.
//!
//! `bogus`, `drained`, `forming`, `handshake`, `members`, `packages`, `refusals`, `sizes` and `upgrade` speak to single
//! nodes (`support`). The other scenarios have a whole cluster each, with a directory and loopback addresses of its own
//! (`lab`), and check at their end that nothing of it is left running. Conditions are waited for with a deadline; when
//! a test fails, the ends of all logs are printed.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "../helpers/mod.rs"]
mod helpers;
mod lab;
mod support;

mod agent;
mod agents;
mod answers;
mod backups;
mod bogus;
mod clock;
mod cookies;
mod disks;
mod drained;
mod chaos;
mod failing;
mod floods;
mod form;
mod forming;
mod handshake;
mod host;
mod killed;
mod leader;
mod limits;
mod logs;
mod members;
mod mistakes;
mod packages;
mod pipes;
mod refusals;
mod replicas;
mod setup;
mod shipped_files;
mod shop;
mod sizes;
mod stops;
mod strategies;
mod switches;
mod tasks;
mod unfit;
mod upgrade;
mod verbs;
mod rollbacks;
mod worker_disk;
