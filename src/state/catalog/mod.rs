//! What can be rolled out: specs, packages, releases.

pub(in crate::state) mod blob_dropped;
pub(in crate::state) mod blob_held;
pub(in crate::state) mod copies;
pub(in crate::state) mod in_use;
pub(in crate::state) mod release_registered;
pub(in crate::state) mod release_removed;
pub(in crate::state) mod release_retired;
pub(in crate::state) mod rows;
pub(in crate::state) mod services;
pub(in crate::state) mod spec_applied;
pub(in crate::state) mod statuses;
