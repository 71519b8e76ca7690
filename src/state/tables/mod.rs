//! Tables that are looked up by more than their key, and what rows share in memory.

pub(in crate::state) mod indexed;
pub(in crate::state) mod shares;
