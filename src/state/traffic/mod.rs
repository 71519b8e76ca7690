//! Arms, routes, slots of keys, serving leases and fenced switches.

pub(in crate::state) mod arming_confirmed;
pub(in crate::state) mod arms;
pub(in crate::state) mod bound;
pub(in crate::state) mod expiry_set;
pub(in crate::state) mod fences;
pub(in crate::state) mod key_slots;
pub(in crate::state) mod lease_set;
pub(in crate::state) mod leases_settled;
pub(in crate::state) mod returns;
pub(in crate::state) mod routes;
pub(in crate::state) mod rows;
pub(in crate::state) mod slots;
pub(in crate::state) mod switch_asked;
pub(in crate::state) mod switch_ended;
pub(in crate::state) mod switch_moved;
pub(in crate::state) mod switches;
pub(in crate::state) mod traffic_back_settled;
