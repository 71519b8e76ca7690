//! Weights in basis points: integers, so that they sum exactly.

use std::{fmt, str::FromStr};

use super::{ModelError, text_form::text_form};

/// All of the traffic.
pub const WHOLE: BasisPoints = BasisPoints(10_000);

/// A share of 10,000: 2,500 is 25 %. A person writes `25`, `25%` or `0.5%`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BasisPoints(pub u32);

text_form!(BasisPoints(u32));

impl BasisPoints {
    /// `part` of `all`, rounded down; zero of zero is zero; never above the whole.
    pub fn ratio(part: u64, all: u64) -> Self {
        if all == 0 {
            return Self(0);
        }
        let bp = u128::from(part) * 10_000 / u128::from(all);
        Self(u32::try_from(bp).unwrap_or(10_000).min(10_000))
    }

    /// A whole number of percent.
    pub const fn percent(p: u32) -> Self {
        Self(p * 100)
    }

    /// How many of `n` this share is, rounded up (a canary of 1 % of 8 is one instance).
    pub fn of_rounded_up(self, n: u32) -> u32 {
        u32::try_from((u64::from(n) * u64::from(self.0)).div_ceil(10_000)).unwrap_or(n)
    }
}

impl fmt::Display for BasisPoints {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.0 / 100, self.0 % 100) {
            (w, 0) => write!(f, "{w} %"),
            (w, r) if r % 10 == 0 => write!(f, "{w}.{} %", r / 10),
            (w, r) => write!(f, "{w}.{r:02} %"),
        }
    }
}

impl FromStr for BasisPoints {
    type Err = ModelError;

    fn from_str(s: &str) -> Result<Self, ModelError> {
        let bad = || ModelError::BadValue {
            value: s.into(),
            expected: "a percentage from 0 to 100 (such as 10, 10% or 0.5%)",
        };
        let text = s.trim().trim_end_matches('%').trim();
        let (whole, frac) = text.split_once('.').unwrap_or((text, "0"));
        let (w, f): (u32, u32) = (whole.parse().map_err(|_| bad())?, frac.parse().map_err(|_| bad())?);
        let frac_bp = match frac.len() {
            1 => f * 10,
            2 => f,
            _ => return Err(bad()),
        };
        let bp = w.checked_mul(100).and_then(|w| w.checked_add(frac_bp)).ok_or_else(bad)?;
        if bp > WHOLE.0 { Err(bad()) } else { Ok(Self(bp)) }
    }
}

/// So many of a number of instances: a count, or a share of them. A person writes `3` or `25%`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Portion(Part);

#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
enum Part {
    Count(u32),
    Share(BasisPoints),
}

text_form!(Portion(Part));

impl Default for Portion {
    fn default() -> Self {
        Self::NONE
    }
}

impl Portion {
    /// None of however many.
    pub const NONE: Self = Self::count(0);

    /// So many, of however many.
    pub const fn count(n: u32) -> Self {
        Self(Part::Count(n))
    }

    /// Whether it is none of however many.
    pub const fn is_none(self) -> bool {
        matches!(self.0, Part::Count(0) | Part::Share(BasisPoints(0)))
    }

    /// As a count out of `n`, rounded up.
    pub fn of_rounded_up(self, n: u32) -> u32 {
        match self.0 {
            Part::Count(count) => count,
            Part::Share(share) => share.of_rounded_up(n),
        }
    }

    /// As a count out of `n`, rounded down.
    pub fn of_rounded_down(self, n: u32) -> u32 {
        match self.0 {
            Part::Count(count) => count,
            Part::Share(share) => n - BasisPoints(WHOLE.0 - share.0).of_rounded_up(n),
        }
    }

    /// Whether a count lies in `range`; a share always does.
    pub fn within(self, range: &std::ops::RangeInclusive<u32>) -> bool {
        match self.0 {
            Part::Count(n) => range.contains(&n),
            Part::Share(share) => *range.start() == 0 || share.0 > 0,
        }
    }
}

impl fmt::Display for Portion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Part::Count(n) => n.fmt(f),
            Part::Share(share) => share.fmt(f),
        }
    }
}

impl FromStr for Portion {
    type Err = ModelError;

    fn from_str(s: &str) -> Result<Self, ModelError> {
        let part = if s.trim_end().ends_with('%') {
            s.parse().ok().map(Part::Share)
        } else {
            s.trim().parse().ok().map(Part::Count)
        };
        let expected = "a count or a percentage of the instances (such as 3 or 25%)";
        part.map(Self).ok_or_else(|| ModelError::BadValue { value: s.into(), expected })
    }
}

/// A ceiling of a share as a person writes it: a percentage, or `off`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Ceiling(pub Option<BasisPoints>);

text_form!(Ceiling(Option<BasisPoints>));

impl fmt::Display for Ceiling {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(share) => share.fmt(f),
            None => f.write_str("off"),
        }
    }
}

impl FromStr for Ceiling {
    type Err = ModelError;

    fn from_str(s: &str) -> Result<Self, ModelError> {
        if s.trim() == "off" {
            return Ok(Self(None));
        }
        let expected = "a percentage from 0 to 100 (such as 10, 10% or 0.5%), or off";
        s.parse().map(|bp| Self(Some(bp))).map_err(|_| ModelError::BadValue { value: s.into(), expected })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentages_as_people_write_them() {
        for (text, bp) in [("10", 1000), ("10%", 1000), ("0.5%", 50), ("12.25 %", 1225), ("100", 10_000)] {
            assert_eq!(text.parse::<BasisPoints>().unwrap(), BasisPoints(bp), "{text}");
        }
        for bad in ["", "%", "101", "-1", "1.234", "100.01", "a"] {
            assert!(bad.parse::<BasisPoints>().is_err(), "{bad}");
        }
        assert_eq!(BasisPoints(50).to_string(), "0.5 %");
        assert_eq!(BasisPoints(100).of_rounded_up(8), 1);
        assert_eq!(BasisPoints(2500).of_rounded_up(8), 2);
        assert_eq!(BasisPoints::ratio(1, 8), BasisPoints(1250));
    }

    #[test]
    fn a_portion_is_a_count_or_a_share_and_is_rounded_as_asked() {
        let of = |text: &str, n| {
            let portion: Portion = text.parse().unwrap();
            (portion.of_rounded_down(n), portion.of_rounded_up(n))
        };
        assert_eq!(
            (of("3", 8), of("25%", 8), of("10%", 8), of("100 %", 8), of("0%", 8)),
            ((3, 3), (2, 2), (0, 1), (8, 8), (0, 0))
        );
        assert_eq!((of("33.33%", 3), of("99.99%", u32::MAX).1), ((0, 1), 4_294_537_799));
        for bad in ["", "%", "101%", "-1", "1.5", "a", "3 of 4"] {
            assert!(bad.parse::<Portion>().is_err(), "{bad}");
        }
    }
}
