//! What DNS does when a version, or most of it, has nothing healthy to name.
//!
//! Not here: what is healthy (`state::fleet`).

use serde::{Deserialize, Serialize};
use strum::{Display, EnumString, VariantNames};

use super::{BasisPoints, ModelError, WHOLE, fields};

/// What happens to an answer whose version has nothing to name.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, Display, EnumString, VariantNames)]
#[strum(serialize_all = "snake_case", parse_err_ty = ModelError, parse_err_fn = no_when_empty)]
pub enum WhenEmpty {
    /// Another version is drawn.
    #[default]
    Renormalise,
    /// SERVFAIL: shares hold, and the client asks another server.
    Strict,
}

/// What a version names when fewer of its running instances pass than `panic_below`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, Display, EnumString, VariantNames)]
#[strum(serialize_all = "snake_case", parse_err_ty = ModelError, parse_err_fn = no_on_panic)]
pub enum OnPanic {
    /// What passes, as always; with none, nothing.
    #[default]
    Nodata,
    /// All that run: the checks are likelier wrong than all of them.
    FailOpen,
    /// What was named before it came so far, as long as it runs.
    LastGood,
    /// Nothing, and SERVFAIL.
    Servfail,
}

fields! {
    json
    /// What DNS does when there is too little to name.
    #[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
    pub struct DnsPolicy {
        /// For a version without anything to name.
        1 pub when_empty: WhenEmpty,
        /// For a version below the threshold.
        2 pub on_panic: OnPanic,
        /// Share of a version's running instances; below it `on_panic` holds. `None`: half of them.
        3 pub panic_below: Option<BasisPoints>,
    }
}

impl DnsPolicy {
    /// Checks its range; the error names the field.
    pub fn check(&self) -> Result<(), ModelError> {
        if self.panic_below.is_some_and(|b| b.0 == 0 || b > WHOLE) {
            return Err(ModelError::field("dns.panic_below", "must be above 0 and at most 100%"));
        }
        Ok(())
    }

    /// Whether fewer instances pass than the threshold asks for.
    pub fn is_panic(&self, passing: usize, running: usize) -> bool {
        let below = self.panic_below.unwrap_or(BasisPoints(WHOLE.0 / 2));
        passing as u64 * u64::from(WHOLE.0) < running as u64 * u64::from(below.0)
    }
}

fn no_when_empty(text: &str) -> ModelError {
    ModelError::field("dns.when_empty", format!("{text:?} is neither {}", WhenEmpty::VARIANTS.join(" nor ")))
}

fn no_on_panic(text: &str) -> ModelError {
    ModelError::field("dns.on_panic", format!("{text:?} is not one of {}", OnPanic::VARIANTS.join(", ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn too_few_are_fewer_than_the_threshold() {
        let policy = DnsPolicy { panic_below: Some(BasisPoints(1250)), ..DnsPolicy::default() };
        policy.check().unwrap();
        assert!(DnsPolicy { panic_below: Some(BasisPoints(0)), ..policy }.check().is_err());
        assert!(DnsPolicy { panic_below: Some(BasisPoints(10_001)), ..policy }.check().is_err());
        assert!(policy.is_panic(1, 9) && !policy.is_panic(1, 8));
        assert!(DnsPolicy::default().is_panic(1, 3) && !DnsPolicy::default().is_panic(1, 2));
        assert!(!DnsPolicy::default().is_panic(0, 0));
    }
}
