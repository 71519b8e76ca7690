//! Samples in, verdict out: the absolute error ceiling and consecutive health failures. Integer arithmetic only, as both hold
//! exactly; the relative tests of later strategies belong beside them.

pub(super) mod ceiling;
pub(super) mod health;
