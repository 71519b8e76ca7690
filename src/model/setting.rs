//! The settings of a rollout that only some strategies read. What every strategy reads (ceilings, failures, deadlines) is not listed.
//!
//! Invariant: what a strategy's compiler reads going forward stands in its list here, and nothing else does. Not here: the values
//! (`RolloutParams`).

use super::{AddressMode, RolloutParams, Strategy};

/// A setting, by its name in a spec's `rollout`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, strum::Display, strum::VariantArray)]
#[strum(serialize_all = "snake_case")]
pub enum Setting {
    /// `steps`
    Steps,
    /// `bake`
    Bake,
    /// `parallelism`
    Parallelism,
    /// `delay`
    Delay,
    /// `max_surge`
    MaxSurge,
    /// `max_unavailable`
    MaxUnavailable,
    /// `warm_up`
    WarmUp,
    /// `smoke`
    Smoke,
    /// `monitor`
    Monitor,
    /// `grace`
    Grace,
}

impl Setting {
    /// All of them.
    pub const ALL: &[Self] = <Self as strum::VariantArray>::VARIANTS;

    /// Whether two sets of parameters differ in it.
    pub fn differs(self, a: &RolloutParams, b: &RolloutParams) -> bool {
        match self {
            Self::Steps => a.steps != b.steps,
            Self::Bake => a.bake != b.bake,
            Self::Parallelism => a.parallelism != b.parallelism,
            Self::Delay => a.delay != b.delay,
            Self::MaxSurge => a.max_surge != b.max_surge,
            Self::MaxUnavailable => a.max_unavailable != b.max_unavailable,
            Self::WarmUp => a.warm_up != b.warm_up,
            Self::Smoke => a.smoke != b.smoke,
            Self::Monitor => a.monitor != b.monitor,
            Self::Grace => a.grace != b.grace,
        }
    }

    /// As a flag of the command line.
    pub fn flag(self) -> String {
        format!("--{}", self.to_string().replace('_', "-"))
    }
}

impl Strategy {
    /// Which settings it reads for a service of an address mode.
    pub fn reads(self, mode: AddressMode) -> &'static [Setting] {
        match (self, mode) {
            (Self::Direct, AddressMode::Pool) => &[Setting::Bake, Setting::Grace],
            (Self::Direct, AddressMode::Host) => &[Setting::Bake],
            (Self::Rolling, AddressMode::Pool) => {
                &[Setting::Bake, Setting::Parallelism, Setting::Delay, Setting::MaxSurge, Setting::MaxUnavailable]
            }
            (Self::Rolling, AddressMode::Host) => {
                &[Setting::Bake, Setting::Parallelism, Setting::Delay, Setting::MaxUnavailable]
            }
            (Self::Canary, AddressMode::Pool) => &[Setting::Steps, Setting::Bake, Setting::Grace],
            (Self::Canary, AddressMode::Host) => {
                &[Setting::Steps, Setting::Bake, Setting::Parallelism, Setting::Delay, Setting::MaxUnavailable]
            }
            (Self::BlueGreen, AddressMode::Pool | AddressMode::Host) => {
                &[Setting::WarmUp, Setting::Smoke, Setting::Monitor, Setting::Grace]
            }
        }
    }
}
