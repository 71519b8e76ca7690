//! The cluster itself: its nodes, feature levels, whether replicas agree, the secret of DNS cookies.

pub(in crate::state) mod cluster_init;
pub(in crate::state) mod cookie_asked;
pub(in crate::state) mod cookie_rotated;
pub(in crate::state) mod cookies;
pub(in crate::state) mod digest_probe;
pub(in crate::state) mod digest_reported;
pub(in crate::state) mod level_probe;
pub(in crate::state) mod level_raised;
pub(in crate::state) mod levels;
pub(in crate::state) mod members;
pub(in crate::state) mod node_admitted;
pub(in crate::state) mod node_announced;
pub(in crate::state) mod node_drained;
pub(in crate::state) mod node_heard;
pub(in crate::state) mod node_role_set;
pub(in crate::state) mod node_silent;
pub(in crate::state) mod replicas;
pub(in crate::state) mod rows;
pub mod settings;
pub(in crate::state) mod settings_set;
pub(in crate::state) mod tick;
