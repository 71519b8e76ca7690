//! What DNS does when a version, or most of it, has nothing healthy to name.
//!
//! Kept as labels of the spec under `slipway/`, which only the spec's own fields write: so a spec's stored form is what it was before these
//! fields, and a program that does not know them keeps them. Not here: what is healthy (`state::serving`).

use std::{collections::BTreeMap, fmt, str::FromStr};

use super::{BasisPoints, ModelError, WHOLE};

/// Labels that begin so are the spec's own.
pub const OWN_LABELS: &str = "slipway/";
const WHEN_EMPTY: &str = "slipway/dns.when_empty";
const ON_PANIC: &str = "slipway/dns.on_panic";
const PANIC_BELOW: &str = "slipway/dns.panic_below";

/// What happens to an answer whose version has nothing to name.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum WhenEmpty {
    /// Another version is drawn.
    #[default]
    Renormalise,
    /// SERVFAIL: shares hold, and the client asks another server.
    Strict,
}

/// What a version names when fewer of its running instances pass than `panic_below`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
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

/// Both, and the threshold.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct DnsPolicy {
    /// For a version without anything to name.
    pub when_empty: WhenEmpty,
    /// For a version below the threshold.
    pub on_panic: OnPanic,
    /// Share of a version's running instances; below it `on_panic` holds. None: half of them.
    pub panic_below: Option<BasisPoints>,
}

impl DnsPolicy {
    /// Reads the labels of a spec.
    pub fn read(labels: &BTreeMap<String, String>) -> Result<Self, ModelError> {
        let known = [WHEN_EMPTY, ON_PANIC, PANIC_BELOW];
        if let Some(other) = labels.keys().find(|k| k.starts_with(OWN_LABELS) && !known.contains(&k.as_str())) {
            return Err(ModelError::field(
                "labels",
                format!("{other:?}: labels under {OWN_LABELS} are the spec's own"),
            ));
        }
        let below = labels.get(PANIC_BELOW).map(|text| text.parse::<BasisPoints>()).transpose()?;
        if below.is_some_and(|b| b.0 == 0 || b > WHOLE) {
            return Err(ModelError::field("dns.panic_below", "must be above 0 and at most 100%"));
        }
        Ok(Self {
            when_empty: labels.get(WHEN_EMPTY).map(|t| t.parse()).transpose()?.unwrap_or_default(),
            on_panic: labels.get(ON_PANIC).map(|t| t.parse()).transpose()?.unwrap_or_default(),
            panic_below: below,
        })
    }

    /// Writes what is not the default into labels.
    pub fn lay(&self, labels: &mut BTreeMap<String, String>) {
        let default = Self::default();
        if self.when_empty != default.when_empty {
            labels.insert(WHEN_EMPTY.into(), self.when_empty.to_string());
        }
        if self.on_panic != default.on_panic {
            labels.insert(ON_PANIC.into(), self.on_panic.to_string());
        }
        if let Some(below) = self.panic_below {
            // Exact: `12.5%` and not rounded.
            let text = format!("{}.{:02}%", below.0 / 100, below.0 % 100);
            labels.insert(PANIC_BELOW.into(), text);
        }
    }

    /// Whether so many of so many are too few.
    pub fn is_panic(&self, passing: usize, running: usize) -> bool {
        let below = self.panic_below.unwrap_or(BasisPoints(WHOLE.0 / 2));
        passing as u64 * u64::from(WHOLE.0) < running as u64 * u64::from(below.0)
    }
}

impl FromStr for WhenEmpty {
    type Err = ModelError;

    fn from_str(s: &str) -> Result<Self, ModelError> {
        match s {
            "renormalise" => Ok(Self::Renormalise),
            "strict" => Ok(Self::Strict),
            other => Err(ModelError::field("dns.when_empty", format!("{other:?} is neither renormalise nor strict"))),
        }
    }
}

impl fmt::Display for WhenEmpty {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Renormalise => "renormalise",
            Self::Strict => "strict",
        })
    }
}

impl FromStr for OnPanic {
    type Err = ModelError;

    fn from_str(s: &str) -> Result<Self, ModelError> {
        match s {
            "nodata" => Ok(Self::Nodata),
            "fail_open" => Ok(Self::FailOpen),
            "last_good" => Ok(Self::LastGood),
            "servfail" => Ok(Self::Servfail),
            other => {
                let problem = format!("{other:?} is not one of nodata, fail_open, last_good, servfail");
                Err(ModelError::field("dns.on_panic", problem))
            }
        }
    }
}

impl fmt::Display for OnPanic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Nodata => "nodata",
            Self::FailOpen => "fail_open",
            Self::LastGood => "last_good",
            Self::Servfail => "servfail",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_carry_the_policy_and_nothing_when_it_is_the_default() {
        let mut labels = BTreeMap::from([("team".to_string(), "web".to_string())]);
        DnsPolicy::default().lay(&mut labels);
        assert_eq!(labels.len(), 1);
        let policy = DnsPolicy {
            when_empty: WhenEmpty::Strict,
            on_panic: OnPanic::LastGood,
            panic_below: Some(BasisPoints(1250)),
        };
        policy.lay(&mut labels);
        assert_eq!(DnsPolicy::read(&labels).unwrap(), policy);
        for (key, value) in [(WHEN_EMPTY, "no"), (ON_PANIC, "x"), (PANIC_BELOW, "0"), ("slipway/other", "1")] {
            let labels = BTreeMap::from([(key.to_string(), value.to_string())]);
            assert!(DnsPolicy::read(&labels).is_err(), "{key}");
        }
        assert!(policy.is_panic(1, 9) && !policy.is_panic(1, 8));
        assert!(DnsPolicy::default().is_panic(1, 3) && !DnsPolicy::default().is_panic(1, 2));
        assert!(!DnsPolicy::default().is_panic(0, 0));
    }
}
