//! Workers and instances: what runs where, what each worker is told, drains.

pub(in crate::state) mod alloc;
pub(in crate::state) mod assign;
pub(in crate::state) mod drain;
pub(in crate::state) mod drain_settled;
pub(in crate::state) mod facts_recorded;
pub(in crate::state) mod rows;
pub(in crate::state) mod serving;
pub(in crate::state) mod stop_permitted;
pub(in crate::state) mod views_served;
pub(in crate::state) mod worker_lost;
pub(in crate::state) mod worker_registered;
pub(in crate::state) mod worker_rekeyed;
pub(in crate::state) mod worker_removed;
pub(in crate::state) mod worker_returned;
pub(in crate::state) mod workers;
