//! DNS answers from agreed state: names, answers, listeners.
//!
//! The way of a query: `server` receives bytes (`mmsg`: many datagrams a system call), `fast` answers the common
//! questions where they lie; for all others `respond` checks the message and encodes the reply (with hickory's decoder
//! and encoder), `name` reads the name, `answer` makes the records from one immutable [`ZoneView`], which `store` swaps
//! when State changes. Invariants: a reply is made from one view only; one version per reply, `mix.` excepted; only
//! endpoints that `state::serving_among` lets through; [`ViewStore::served_index`] rises only after the swap, so what
//! it says is what new queries see; [`ViewStore::settled_index`] waits for those under way too.
//!
//! Not here: recursion, zone transfers, signing; how a serving lease is had (`node`).

mod answer;
mod cookie;
mod endpoints;
mod fast;
mod limit;
mod lease;
mod memo;
mod mmsg;
mod name;
mod noted;
mod requests;
mod respond;
mod reverse;
mod server;
mod serving;
mod site;
mod stats;
mod store;
mod tally;
mod tls;
mod trace;
mod view;

pub use cookie::{Cookies, SECRET};
pub use limit::Rates;
pub use requests::Requested;
pub use respond::{DnsSettings, Responder, Transport, UDP_MAX};
pub use reverse::ReverseZones;
pub use server::{DnsLimits, DnsServer};
pub use stats::{DnsCounts, RCODES};
pub use store::ViewStore;
pub use tally::Realised;
pub use tls::{TlsError, TlsIdentity};
pub use trace::{Trace, TraceArm};
pub use view::ZoneView;
