//! The settings of a rollout, each declared once: the field, its text, its default, its range and what it is for.
//!
//! From the declaration come [`RolloutParams`] (complete), [`Overrides`] (what somebody said of it, in a spec or at a
//! start), the flags, the wire's form, the reference page and the lines that tell two specs apart. Invariants: a value
//! is read from text in one way, wherever it comes from; what is shown of a value reads as the same value. Not here:
//! which strategy reads what (`engine/strategy`), how single values are written (`setting_values`).

use super::{
    BasisPoints, BatchMode, Ceiling, FailureAction, ModelError, OnNoData, Period, Portion, StrategyName, WHOLE, fields,
    setting_values::SettingValue,
};

/// A setting, as flags, errors and the reference page have it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Setting {
    /// Its name in a spec's `rollout` and on the wire.
    pub name: &'static str,
    pub about: &'static str,
    /// What stands for a value in help.
    pub value: &'static str,
    /// Whether it is a list, with commas as text.
    pub many: bool,
    /// The only values it may have; empty: there are more.
    pub words: &'static [&'static str],
    /// The name of another product for it, which the command line takes too.
    pub alias: Option<&'static str>,
}

impl Setting {
    /// As a flag of the command line.
    pub fn flag(&self) -> String {
        format!("--{}", self.name.replace('_', "-"))
    }
}

macro_rules! rollout_settings {
    ($(
        #[doc = $about:literal]
        $(#[doc = $more:literal])*
        $number:literal $([$required:ident])? $name:ident: $type:ty = $default:expr, in $range:expr $(, or $alias:literal)?;
    )+) => {
        fields! {
            json
            /// Everything that shapes one rollout, complete: defaults are filled in when the rollout starts.
            #[derive(Debug, Clone, PartialEq, Eq)]
            pub struct RolloutParams {
                $(
                    #[doc = $about]
                    $(#[doc = $more])*
                    $number $([$required])? pub $name: $type,
                )+
            }
        }

        fields! {
            json
            /// What somebody says of the settings: for a cluster or a service over the defaults, in a spec over those,
            /// at a start over the spec.
            #[derive(Debug, Clone, Default, PartialEq, Eq)]
            pub struct Overrides {
                $(
                    #[doc = $about]
                    $number pub $name: Option<$type>,
                )+
            }
        }

        /// All settings, in the order in which they are told.
        pub const SETTINGS: &[Setting] = &[$(Setting {
            name: stringify!($name),
            about: $about.trim_ascii(),
            value: <$type as SettingValue>::VALUE,
            many: <$type as SettingValue>::MANY,
            words: <$type as SettingValue>::WORDS,
            alias: rollout_settings!(@alias $($alias)?),
        }),+];

        pub(super) const NAMES: &[&str] = &[$(stringify!($name)),+];

        impl Default for RolloutParams {
            fn default() -> Self {
                Self { $($name: $default),+ }
            }
        }

        impl From<RolloutParams> for Overrides {
            fn from(all: RolloutParams) -> Self {
                Self { $($name: Some(all.$name)),+ }
            }
        }

        impl Overrides {
            /// Takes the text of one setting in. Errors name the setting.
            pub fn set(&mut self, name: &str, text: &str) -> Result<(), ModelError> {
                match name {
                    $(stringify!($name) => {
                        let read = <$type as SettingValue>::read(text);
                        self.$name = Some(read.map_err(|problem| ModelError::field(name, problem))?);
                    })+
                    _ => return Err(unknown(name)),
                }
                Ok(())
            }

            /// What is said, as name and text.
            pub fn said(&self) -> Vec<(&'static Setting, String)> {
                let texts = [$(self.$name.as_ref().map(SettingValue::show)),+];
                SETTINGS.iter().zip(texts).filter_map(|(setting, text)| Some((setting, text?))).collect()
            }

            /// Forgets what was said of one setting. Errors name the setting.
            pub fn unset(&mut self, name: &str) -> Result<(), ModelError> {
                match name {
                    $(stringify!($name) => self.$name = None,)+
                    _ => return Err(unknown(name)),
                }
                Ok(())
            }

            /// What is said here, and of the rest what `less` says.
            pub fn or(&self, less: &Self) -> Self {
                Self { $($name: self.$name.clone().or_else(|| less.$name.clone())),+ }
            }

            /// Laid over `base`. Ranges are checked by [`RolloutParams::check`].
            pub fn over(&self, base: RolloutParams) -> RolloutParams {
                RolloutParams { $($name: self.$name.clone().unwrap_or(base.$name)),+ }
            }
        }

        impl RolloutParams {
            /// The range of each setting in words, in the order of [`SETTINGS`]; empty where there is none.
            pub fn ranges() -> Vec<String> {
                vec![$(<$type as SettingValue>::told(&$range)),+]
            }

            fn check_ranges(&self, field: &str) -> Result<(), ModelError> {
                $(
                    if let Some(problem) = SettingValue::outside(&self.$name, &$range) {
                        return Err(ModelError::field(format!("{field}.{}", stringify!($name)), problem));
                    }
                )+
                Ok(())
            }
        }
    };
    (@alias) => { None };
    (@alias $alias:literal) => { Some($alias) };
}

/// The longest period that a setting may have: 30 days.
const LONGEST: Period = Period::minutes(60 * 24 * 30);

rollout_settings! {
    /// How it moves
    /// `None` only in a spec: the environment's default.
    1 strategy: Option<StrategyName> = None, in ();
    /// Weights of a canary, such as 10,25,50,100, or 10+20 for 10 and then 20 more each time; 100 % is added
    2 steps: Vec<BasisPoints> = [10, 25, 50, 100].map(BasisPoints::percent).to_vec(), in 1..=50, or "canary-steps";
    /// How long each canary step is watched, and the last batch of a rolling or direct one
    3 bake: Period = Period::minutes(5), in Period(0)..=LONGEST, or "stability-window";
    /// Highest error rate of the new version, or off
    4 max_error_rate: Ceiling = Ceiling(Some(BasisPoints::percent(5))), in ();
    /// Requests that the new version must have had before its error rate is judged
    5 min_requests: u64 = 500, in 0..=u64::MAX;
    /// What to do when they do not come, or with a worker that is lost
    /// `None` only in a spec: the environment's default.
    6 on_no_data: Option<OnNoData> = None, in ();
    /// Instances updated at once
    7 parallelism: Portion = Portion::count(1), in 1..=1000;
    /// Wait between batches
    8 delay: Period = Period(0), in Period(0)..=LONGEST;
    /// Instances above the desired count while updating
    9 max_surge: Portion = Portion::count(1), in 0..=1000;
    /// Instances below the desired count while updating
    10 max_unavailable: Portion = Portion::NONE, in 0..=1000;
    /// What a failure does
    11 [required] failure_action: FailureAction = FailureAction::Rollback, in ();
    /// Failed health checks in a row that count as a failure of the new version
    12 max_health_failures: u32 = 3, in 1..=u32::MAX;
    /// Longest time until a batch passes its checks, the drains before it not counted
    /// `None`: the spec's `health.start_within` with a little time for reports.
    13 health_timeout: Option<Period> = None, in Period(1)..=LONGEST;
    /// Blue-green: time between all healthy and the smoke test
    14 warm_up: Period = Period::seconds(10), in Period(0)..=LONGEST;
    /// Blue-green: path of the smoke test
    /// `None` leaves it out.
    15 smoke: Option<String> = None, in ();
    /// Blue-green: time watched after the switch
    16 monitor: Period = Period::minutes(5), in Period(0)..=LONGEST;
    /// How long the old version is kept running after completion
    17 grace: Period = Period::minutes(60), in Period(0)..=LONGEST;
    /// Longest time of one step before it counts as failed, bakes and delays not counted
    18 deadline: Period = Period::minutes(30), in Period(1)..=LONGEST;
    /// Whether it goes on to all of the traffic by itself; else it stays at the step before until somebody promotes it
    19 auto_promote: bool = true, in ();
}

/// The setting of a name that the program itself writes; a wrong one does not compile.
pub const fn setting(name: &str) -> &'static Setting {
    let mut n = 0;
    while n < SETTINGS.len() {
        if same(SETTINGS[n].name.as_bytes(), name.as_bytes()) {
            return &SETTINGS[n];
        }
        n += 1;
    }
    panic!("no setting has this name")
}

const fn same(a: &[u8], b: &[u8]) -> bool {
    let mut n = 0;
    while n < a.len() && n < b.len() && a[n] == b[n] {
        n += 1;
    }
    n == a.len() && n == b.len()
}

fn unknown(name: &str) -> ModelError {
    let near = super::nearest(name, NAMES).map(|k| format!("; did you mean {k}?"));
    let problem =
        format!("no setting of rollouts has this name{}; there are {}", near.unwrap_or_default(), NAMES.join(", "));
    ModelError::field(name.chars().take(63).collect::<String>(), problem)
}

impl RolloutParams {
    /// The settings in which this differs from `other`.
    pub fn differs(&self, other: &Self) -> Vec<&'static Setting> {
        let (mine, others) = (Overrides::from(self.clone()).said(), Overrides::from(other.clone()).said());
        mine.into_iter().zip(others).filter(|(a, b)| a.1 != b.1).map(|(a, _)| a.0).collect()
    }

    /// What the absence of data does; to hold where neither the rollout nor its environment said anything.
    pub fn no_data(&self) -> OnNoData {
        self.on_no_data.unwrap_or(OnNoData::Hold)
    }

    /// Instances above `desired`.
    pub fn surge(&self, desired: u32) -> u32 {
        self.max_surge.of_rounded_up(desired)
    }

    /// Instances below `desired`: a share is rounded down, but never so that no instance could be replaced at all.
    pub fn unavailable(&self, desired: u32) -> u32 {
        let least = u32::from(self.max_surge.is_none() && !self.max_unavailable.is_none());
        self.max_unavailable.of_rounded_down(desired).max(least)
    }

    /// Instances of one batch where room is made in this way; beside all of `desired` at once.
    pub fn batch(&self, mode: BatchMode, desired: u32) -> u32 {
        let at_once = self.parallelism.of_rounded_up(desired);
        let most = match mode {
            BatchMode::Beside => desired,
            BatchMode::Replace => at_once.min(self.surge(desired).saturating_add(self.unavailable(desired))),
            BatchMode::InPlace => at_once.min(self.unavailable(desired).max(1)),
        };
        most.max(1)
    }

    /// Checks ranges, and what two settings say together. `field` is put in front of field names, such as `rollout`.
    pub fn check(&self, field: &str) -> Result<(), ModelError> {
        self.check_ranges(field)?;
        let err = |name: &str, problem: String| Err(ModelError::field(format!("{field}.{name}"), problem));
        let mut last = BasisPoints(0);
        for step in &self.steps {
            if *step > WHOLE {
                return err("steps", format!("{step} is over 100 %"));
            }
            if *step <= last {
                let problem =
                    format!("{step} does not rise above {last}: write rising percentages such as 10,25,50,100");
                return err("steps", problem);
            }
            last = *step;
        }
        if self.max_surge.is_none() && self.max_unavailable.is_none() {
            let problem =
                "max_surge and max_unavailable are both 0, so no instance could ever be replaced: set one of them";
            return err("max_surge", problem.into());
        }
        match &self.smoke {
            Some(p) if !p.starts_with('/') || p.len() > 256 => {
                err("smoke", format!("{p:?} is not a path starting with / of at most 256 characters"))
            }
            Some(_) | None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_shown_of_a_setting_reads_as_the_same_value() {
        let mut all =
            RolloutParams { strategy: Some(StrategyName::CANARY), smoke: Some("/up".into()), ..Default::default() };
        (all.on_no_data, all.health_timeout) = (Some(OnNoData::Fail), Some(Period(1500)));
        all.max_surge = "12.5%".parse().unwrap();
        (all.max_error_rate, all.steps) = (Ceiling(None), [50, 1225, 10_000].map(BasisPoints).to_vec());
        let mut read = Overrides::default();
        for (setting, text) in Overrides::from(all.clone()).said() {
            read.set(setting.name, &text).unwrap();
        }
        assert_eq!(read, Overrides::from(all.clone()));
        assert_eq!(read.over(RolloutParams::default()), all);
        assert_eq!(Overrides::default().over(all.clone()), all);
    }

    #[test]
    fn steps_may_be_a_first_share_and_an_increment() {
        let steps = |text: &str| {
            let mut said = Overrides::default();
            said.set("steps", text).map(|()| said.steps.unwrap().iter().map(|s| s.0 / 100).collect::<Vec<_>>())
        };
        assert_eq!(steps("10+20").unwrap(), [10, 30, 50, 70, 90, 100]);
        assert_eq!(steps("1, 5 + 45%").unwrap(), [1, 5, 50, 95, 100]);
        assert_eq!(steps("50+50").unwrap(), [50, 100]);
        assert_eq!(steps("0+25").unwrap(), [0, 25, 50, 75, 100]);
        for (text, wants) in [("10+0", "an increment is 1 % or more"), ("10+", "percentage"), ("10+5+5", "percentage")]
        {
            let said = steps(text).unwrap_err().to_string();
            assert!(said.starts_with("steps: ") && said.contains(wants), "{said}");
        }
    }

    #[test]
    fn shares_of_instances_leave_a_way_to_replace_them() {
        let p = |parallelism: &str, surge: &str, unavailable: &str| RolloutParams {
            parallelism: parallelism.parse().unwrap(),
            max_surge: surge.parse().unwrap(),
            max_unavailable: unavailable.parse().unwrap(),
            ..RolloutParams::default()
        };
        let of = |p: RolloutParams, n| {
            (p.surge(n), p.unavailable(n), p.batch(BatchMode::Replace, n), p.batch(BatchMode::InPlace, n))
        };
        assert_eq!(of(p("25%", "25%", "25%"), 10), (3, 2, 3, 2));
        assert_eq!(of(p("100%", "10%", "0"), 3), (1, 0, 1, 1));
        assert_eq!(of(p("50%", "0", "10%"), 3), (0, 1, 1, 1), "one must go before one can come");
        assert_eq!(of(p("50%", "0", "40%"), 10), (0, 4, 4, 4));
        assert_eq!(of(p("7", "2", "1"), 10), (2, 1, 3, 1));
    }

    #[test]
    fn what_differs_is_told_by_name() {
        let base = RolloutParams::default();
        let other = RolloutParams { bake: Period::seconds(9), smoke: Some("/up".into()), ..base.clone() };
        assert_eq!(other.differs(&base).iter().map(|s| s.name).collect::<Vec<_>>(), ["bake", "smoke"]);
        assert!(base.differs(&base).is_empty());
    }

    #[test]
    fn wrong_names_values_and_ranges_are_refused_by_name_and_with_the_fix() {
        let mut said = Overrides::default();
        let mut set = |name: &str, text: &str| said.set(name, text).unwrap_err().to_string();
        assert!(set("max_serge", "1").contains("did you mean max_surge?"));
        assert!(set("bake", "10").starts_with("bake: \"10\" is not a duration"));
        assert!(set("parallelism", "two").starts_with("parallelism: \"two\" is not a count or a percentage"));
        assert!(set("on_no_data", "wait").contains("hold, pass or fail"));
        let check = |p: RolloutParams| p.check("rollout").unwrap_err().to_string();
        let base = RolloutParams::default;
        assert_eq!(
            check(RolloutParams { parallelism: Portion::NONE, ..base() }),
            "rollout.parallelism: must be from 1 to 1000, or above 0% and up to 100% of the instances"
        );
        assert_eq!(
            check(RolloutParams { deadline: Period(0), ..base() }),
            "rollout.deadline: must be from 1ms to 720h"
        );
        assert_eq!(
            check(RolloutParams { health_timeout: Some(Period(0)), ..base() }),
            "rollout.health_timeout: must be from 1ms to 720h"
        );
        assert_eq!(
            check(RolloutParams { max_health_failures: 0, ..base() }),
            "rollout.max_health_failures: must be 1 or more"
        );
        assert!(check(RolloutParams { steps: Vec::new(), ..base() }).contains("needs 1 to 50"));
        assert!(check(RolloutParams { max_surge: Portion::NONE, ..base() }).contains("both 0"));
        assert!(check(RolloutParams { smoke: Some("up".into()), ..base() }).contains("rollout.smoke"));
    }
}
