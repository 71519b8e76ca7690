//! How far an agent may go with an assignment: nodes say it, agents keep it.

use serde::{Deserialize, Serialize};
use strum::{Display, EnumString, VariantNames};

/// How far an assignment may go. Only rises within a generation.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, Display, EnumString, VariantNames,
)]
#[strum(serialize_all = "snake_case", parse_err_ty = String, parse_err_fn = super::one_of::<Self>)]
pub enum Permit {
    /// Fetch, verify, unpack.
    Stage,
    /// Run the entries, new ones on probation.
    Activate,
    /// Probation is over.
    Commit,
}
