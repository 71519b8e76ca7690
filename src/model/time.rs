//! Cluster time and durations. Both are milliseconds; nothing here reads a clock.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use super::{ModelError, text_form::text_form};

/// A point of cluster time: milliseconds since `ClusterInit`, stamped by leaders, never going back.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, derive_more::Display,
)]
#[display("{}.{} s", _0 / 1000, _0 % 1000 / 100)]
pub struct Millis(pub u64);

/// A length of time in milliseconds. A person writes `10m`, `1h30m`, `250ms` or ISO 8601 `PT10M`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Period(pub u64);

text_form!(Period(u64));

impl Millis {
    /// This point plus a period; saturates.
    #[must_use]
    pub fn plus(self, p: Period) -> Self {
        Self(self.0.saturating_add(p.0))
    }

    /// This point earlier by a period; zero is the earliest.
    pub fn minus(self, p: Period) -> Self {
        Self(self.0.saturating_sub(p.0))
    }

    /// Time from `earlier` to this point; zero when `earlier` is later.
    pub fn since(self, earlier: Self) -> Period {
        Period(self.0.saturating_sub(earlier.0))
    }
}

impl Period {
    /// Whole seconds.
    pub const fn seconds(s: u64) -> Self {
        Self(s * 1000)
    }

    /// Whole minutes.
    pub const fn minutes(m: u64) -> Self {
        Self(m * 60_000)
    }
}

impl fmt::Display for Period {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (ms, s, m, h) = (self.0 % 1000, self.0 / 1000 % 60, self.0 / 60_000 % 60, self.0 / 3_600_000);
        if self.0 == 0 {
            return f.write_str("0s");
        }
        for (n, unit) in [(h, "h"), (m, "m"), (s, "s"), (ms, "ms")] {
            if n > 0 {
                write!(f, "{n}{unit}")?;
            }
        }
        Ok(())
    }
}

impl FromStr for Period {
    type Err = ModelError;

    fn from_str(s: &str) -> Result<Self, ModelError> {
        let bad =
            || ModelError::BadValue { value: s.into(), expected: "a duration (such as 30s, 10m, 1h30m or PT10M)" };
        let (text, iso) = match s.strip_prefix("PT").or_else(|| s.strip_prefix("pt")) {
            Some(rest) => (rest.to_ascii_lowercase(), true),
            None => (s.to_string(), false),
        };
        let mut rest = text.as_str();
        if rest.is_empty() {
            return Err(bad());
        }
        if rest == "0" && !iso {
            return Ok(Self(0));
        }
        let mut total: u64 = 0;
        while !rest.is_empty() {
            let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
            let n: u64 = rest.get(..digits).and_then(|d| d.parse().ok()).ok_or_else(bad)?;
            rest = rest.get(digits..).unwrap_or_default();
            let unit_len = rest.bytes().take_while(u8::is_ascii_alphabetic).count();
            let unit = match rest.get(..unit_len) {
                Some("ms") if !iso => 1,
                Some("s") => 1000,
                Some("m") => 60_000,
                Some("h") => 3_600_000,
                Some("d") if !iso => 86_400_000,
                Some(_) | None => return Err(bad()),
            };
            rest = rest.get(unit_len..).unwrap_or_default();
            total = n.checked_mul(unit).and_then(|n| total.checked_add(n)).ok_or_else(bad)?;
        }
        Ok(Self(total))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_as_people_write_them() {
        for (text, ms) in [
            ("30s", 30_000),
            ("1h30m", 5_400_000),
            ("250ms", 250),
            ("PT10M", 600_000),
            ("0", 0),
            ("0s", 0),
            ("1d", 86_400_000),
        ] {
            assert_eq!(text.parse::<Period>().unwrap(), Period(ms), "{text}");
        }
        for bad in ["", "10", "s", "10x", "PT", "-1s", "1.5s", "99999999999999999999s"] {
            assert!(bad.parse::<Period>().is_err(), "{bad}");
        }
        assert_eq!(Period(5_400_000).to_string(), "1h30m");
        assert_eq!(Period(1500).to_string(), "1s500ms");
    }
}
