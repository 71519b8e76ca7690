//! How the value of a setting is written: read from text, shown as the same text, and held to its range.
//!
//! Not here: which settings there are (`settings`).

use std::{fmt::Display, ops::RangeInclusive, str::FromStr};

use strum::VariantNames as _;

use super::{BasisPoints, Ceiling, FailureAction, OnNoData, Period, Portion, StrategyName, WHOLE};

/// A value that a setting may have.
pub trait SettingValue: Sized {
    /// What stands for a value in help.
    const VALUE: &'static str;

    /// The only values there are; empty: there are more.
    const WORDS: &'static [&'static str] = &[];

    /// Whether it is a list.
    const MANY: bool = false;

    /// What bounds it.
    type Range;

    /// Reads what a person writes; the error is what is wrong with it, without the setting's name.
    fn read(text: &str) -> Result<Self, String>;

    /// As a person writes it.
    fn show(&self) -> String;

    /// What is wrong with a value out of its range.
    fn outside(&self, range: &Self::Range) -> Option<String>;

    /// The range in words; empty where there is none.
    fn told(range: &Self::Range) -> String;
}

fn span<T: PartialEq + Display>(range: &RangeInclusive<T>, most: &T) -> String {
    let (from, to) = (range.start(), range.end());
    if to == most { format!("{from} or more") } else { format!("from {from} to {to}") }
}

macro_rules! whole_numbers {
    ($($type:ty),+) => {$(
        impl SettingValue for $type {
            const VALUE: &'static str = "N";
            type Range = RangeInclusive<Self>;

            fn read(text: &str) -> Result<Self, String> {
                text.parse().map_err(|_| format!("{text:?} is not a whole number that fits here: write one such as 3"))
            }

            fn show(&self) -> String {
                self.to_string()
            }

            fn outside(&self, range: &Self::Range) -> Option<String> {
                (!range.contains(self)).then(|| format!("must be {}", Self::told(range)))
            }

            fn told(range: &Self::Range) -> String {
                span(range, &Self::MAX)
            }
        }
    )+};
}

whole_numbers!(u32, u64);

impl SettingValue for Period {
    const VALUE: &'static str = "DURATION";
    type Range = RangeInclusive<Self>;

    fn read(text: &str) -> Result<Self, String> {
        text.parse().map_err(|e: super::ModelError| e.to_string())
    }

    fn show(&self) -> String {
        self.to_string()
    }

    fn outside(&self, range: &Self::Range) -> Option<String> {
        (!range.contains(self)).then(|| format!("must be {}", Self::told(range)))
    }

    fn told(range: &Self::Range) -> String {
        span(range, &Self(u64::MAX))
    }
}

impl SettingValue for bool {
    const VALUE: &'static str = "true|false";
    const WORDS: &'static [&'static str] = &["true", "false"];
    type Range = ();

    fn read(text: &str) -> Result<Self, String> {
        text.parse().map_err(|_| format!("{text:?} is neither true nor false"))
    }

    fn show(&self) -> String {
        self.to_string()
    }

    fn outside(&self, (): &()) -> Option<String> {
        None
    }

    fn told((): &()) -> String {
        String::new()
    }
}

impl SettingValue for Portion {
    const VALUE: &'static str = "N|PERCENT%";
    type Range = RangeInclusive<u32>;

    fn read(text: &str) -> Result<Self, String> {
        text.parse().map_err(|e: super::ModelError| e.to_string())
    }

    fn show(&self) -> String {
        self.to_string()
    }

    fn outside(&self, range: &Self::Range) -> Option<String> {
        (!self.within(range)).then(|| format!("must be {}", Self::told(range)))
    }

    fn told(range: &Self::Range) -> String {
        let share = if *range.start() == 0 { "up to 100%" } else { "above 0% and up to 100%" };
        format!("{}, or {share} of the instances", span(range, &u32::MAX))
    }
}

/// Values that are read and shown as they print themselves and have no range.
macro_rules! printed {
    ($($type:ty, $value:literal, $words:expr;)+) => {$(
        impl SettingValue for $type {
            const VALUE: &'static str = $value;
            const WORDS: &'static [&'static str] = $words;
            type Range = ();

            fn read(text: &str) -> Result<Self, String> {
                Self::from_str(text).map_err(|e| e.to_string())
            }

            fn show(&self) -> String {
                self.to_string()
            }

            fn outside(&self, (): &()) -> Option<String> {
                None
            }

            fn told((): &()) -> String {
                String::new()
            }
        }
    )+};
}

printed! {
    StrategyName, "STRATEGY", &[];
    Ceiling, "PERCENT|off", &[];
    FailureAction, "ACTION", FailureAction::VARIANTS;
    OnNoData, "ACTION", OnNoData::VARIANTS;
    String, "PATH", &[];
}

/// No list of increments becomes longer than a hundred shares.
const SMALLEST_INCREMENT: BasisPoints = BasisPoints::percent(1);

fn share(text: &str) -> Result<BasisPoints, String> {
    text.trim().parse().map_err(|e: super::ModelError| e.to_string())
}

/// Shares, such as the steps of a canary: each, or `10+20` for 10 and then 20 more at a time up to all. The range is
/// how many there may be.
impl SettingValue for Vec<BasisPoints> {
    const VALUE: &'static str = "PERCENT,...";
    const MANY: bool = true;
    type Range = RangeInclusive<usize>;

    fn read(text: &str) -> Result<Self, String> {
        let mut all = Vec::new();
        for one in text.split(',') {
            let Some((first, by)) = one.split_once('+') else {
                all.push(share(one)?);
                continue;
            };
            // A first share and an increment, up to all of it.
            let (mut next, by) = (share(first)?, share(by)?);
            if by < SMALLEST_INCREMENT {
                return Err(format!("{one:?} rises by {by}: an increment is {SMALLEST_INCREMENT} or more"));
            }
            while next < WHOLE {
                all.push(next);
                next = BasisPoints(next.0.saturating_add(by.0));
            }
            all.push(WHOLE);
        }
        Ok(all)
    }

    fn show(&self) -> String {
        self.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
    }

    fn outside(&self, range: &Self::Range) -> Option<String> {
        (!range.contains(&self.len())).then(|| format!("needs {}", Self::told(range)))
    }

    fn told(range: &Self::Range) -> String {
        format!("{} to {} percentages", range.start(), range.end())
    }
}

/// What may be left open: `none`.
impl<T: SettingValue> SettingValue for Option<T> {
    const VALUE: &'static str = T::VALUE;
    const WORDS: &'static [&'static str] = T::WORDS;
    const MANY: bool = T::MANY;
    type Range = T::Range;

    fn read(text: &str) -> Result<Self, String> {
        if text == "none" { Ok(None) } else { T::read(text).map(Some) }
    }

    fn show(&self) -> String {
        self.as_ref().map_or_else(|| "none".into(), T::show)
    }

    fn outside(&self, range: &Self::Range) -> Option<String> {
        self.as_ref()?.outside(range)
    }

    fn told(range: &Self::Range) -> String {
        T::told(range)
    }
}
