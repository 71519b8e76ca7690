//! What can be rolled out: specs, packages, releases.

pub(in crate::state) mod blob_doomed;
pub(in crate::state) mod blob_dropped;
pub(in crate::state) mod blob_held;
pub(in crate::state) mod copies;
pub(in crate::state) mod defaults;
pub(in crate::state) mod environment_created;
pub(in crate::state) mod environment_removed;
pub(in crate::state) mod environment_set;
pub(in crate::state) mod environments;
pub(in crate::state) mod in_use;
pub(in crate::state) mod release_registered;
pub(in crate::state) mod release_removed;
pub(in crate::state) mod release_retired;
pub(in crate::state) mod releases_pruned;
pub(in crate::state) mod rows;
pub(in crate::state) mod service_removed;
pub(in crate::state) mod services;
pub(in crate::state) mod spec_applied;
pub(in crate::state) mod statuses;
pub(in crate::state) mod tombstones;
