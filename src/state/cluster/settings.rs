//! The settings of the cluster, each declared once: the field, its text, its default, its range and what it is for.
//!
//! From the declaration come [`Settings`] with its [`Limits`], what somebody changes of them ([`SettingsChange`]),
//! `settings show` and the reference page. Defaults of rollouts are settings too, as `rollout.NAME`: those of
//! `model::settings`, by the same names. Not here: the command (`settings_set`), what a rollout makes of its defaults
//! (`catalog::defaults`).

use crate::model::{ModelError, Overrides, Period, Setting, SettingValue, fields, nearest};

/// Declares a struct of settings, the struct of what is changed of it, and how both are read and shown.
macro_rules! settings {
    (
        $(#[doc = $doc:literal])*
        $name:ident, changed by $change:ident, after $prefix:literal {
            $(
                #[doc = $about:literal]
                $number:literal $field:ident: $type:ty = $default:expr, in $range:expr;
            )+
            $(inside: $(#[doc = $inner_doc:literal] $inner_number:literal $([$required:ident])? $inner:ident: $inner_type:ty, $inner_change:ty;)+)?
        }
    ) => {
        fields! {
            $(#[doc = $doc])*
            #[derive(Debug, Clone, PartialEq, Eq)]
            pub struct $name {
                $(#[doc = $about] $number pub $field: $type,)+
                $($(#[doc = $inner_doc] $inner_number $([$required])? pub $inner: $inner_type,)+)?
            }
        }

        fields! {
            /// What somebody changes of them.
            #[derive(Debug, Clone, Default, PartialEq, Eq)]
            pub struct $change {
                $(#[doc = $about] $number pub $field: Option<$type>,)+
                $($(#[doc = $inner_doc] $inner_number pub $inner: $inner_change,)+)?
            }
        }

        impl Default for $name {
            fn default() -> Self {
                Self { $($field: $default,)+ $($($inner: Default::default(),)+)? }
            }
        }

        impl $name {
            const DECLARED: &[Setting] = &[$(Setting {
                name: concat!($prefix, stringify!($field)),
                about: $about.trim_ascii(),
                value: <$type as SettingValue>::VALUE,
                many: <$type as SettingValue>::MANY,
                words: <$type as SettingValue>::WORDS,
                alias: None,
            }),+];

            /// Values and ranges as text, in the order of the declaration.
            fn told(&self) -> Vec<[String; 2]> {
                vec![$([self.$field.show(), <$type as SettingValue>::told(&$range)]),+]
            }

            fn outside(&self) -> Option<(&'static str, String)> {
                $(if let Some(problem) = self.$field.outside(&$range) {
                    return Some((concat!($prefix, stringify!($field)), problem));
                })+
                None
            }

            fn lay(&mut self, change: &$change) {
                $(self.$field = change.$field.clone().unwrap_or(self.$field.clone());)+
            }
        }

        impl $change {
            /// Takes the text of a setting in; with none, its default. Says whether it is one of these.
            fn take(&mut self, name: &str, text: Option<&str>) -> Result<bool, ModelError> {
                match name.strip_prefix($prefix) {
                    $(Some(stringify!($field)) => {
                        let read = text.map_or(Ok($default), <$type as SettingValue>::read);
                        self.$field = Some(read.map_err(|problem| ModelError::field(name, problem))?);
                    })+
                    Some(_) | None => return Ok(false),
                }
                Ok(true)
            }
        }
    };
}

impl Limits {
    /// The first that is lowered below what there is: its name, and both numbers.
    pub(in crate::state) fn lowered(&self, before: &Self, held: &Self) -> Option<(&'static str, String, String)> {
        let numbers = |all: &Self| all.told().into_iter().map(|[value, _]| value);
        let less = |a: &str, b: &str| a.parse::<u64>().ok() < b.parse::<u64>().ok();
        let all = Self::DECLARED.iter().zip(numbers(self)).zip(numbers(before).zip(numbers(held)));
        let below = |((d, to), (was, has)): ((&'static Setting, String), (String, String))| {
            (less(&to, &was) && less(&to, &has)).then_some((d.name, to, has))
        };
        all.into_iter().find_map(below)
    }
}

const DAY: Period = Period::minutes(60 * 24);

settings! {
    /// Bounds on what State holds. They leave room above what one cluster is measured at (1,000 services, 10,000
    /// workers, 100,000 instances, and a minute of over a thousand client requests a second), and keep State from
    /// growing without end.
    Limits, changed by LimitsChange, after "limits." {
        /// Services at most
        1 services: u32 = 10_000, in 1..=100_000;
        /// Environments at most
        2 environments: u32 = 100, in 1..=1000;
        /// Deployments at most
        3 deployments: u32 = 20_000, in 1..=200_000;
        /// Releases of a service at most; `release prune` makes room
        4 releases_per_service: u32 = 500, in 1..=5000;
        /// Workers at most
        5 workers: u32 = 20_000, in 1..=200_000;
        /// Instances of a deployment at most
        6 instances_per_deployment: u32 = 5000, in 1..=50_000;
        /// Ended rollouts kept of each deployment beside those that can still be undone; 0 keeps no history
        7 history_per_deployment: u32 = 50, in 0..=1000;
        /// Requests remembered for retries; a tenth of them for verbs that stop or turn something
        8 requests: u32 = 100_000, in 1000..=1_000_000;
        /// Undelivered smoke tests at most
        9 outbox: u32 = 10_000, in 1..=100_000;
        /// Newest events kept for those who watch
        10 events: u32 = 8192, in 100..=65_536;
    }
}

settings! {
    /// Replicated times, bounds and defaults.
    Settings, changed by SettingsChange, after "" {
        /// How long a new leader waits for reports before it takes a worker that is not heard for silent
        1 term_grace: Period = Period::seconds(5), in Period::seconds(1)..=Period::minutes(5);
        /// Silence at every node after which a worker is lost
        2 lost_after: Period = Period::seconds(10), in Period::seconds(3)..=Period::minutes(60);
        /// Time after its last report at which a lost worker's instances leave DNS
        3 dns_out_after: Period = Period::seconds(15), in Period::seconds(3)..=Period::minutes(60);
        /// Silence after which a DNS server counts as silent in a drain
        4 node_silent_after: Period = Period::seconds(10), in Period::seconds(3)..=Period::minutes(10);
        /// How long the candidates of an aborted rollout are kept to look at
        5 abort_keep: Period = Period::minutes(60), in Period(0)..=Period::minutes(60 * 24 * 30);
        /// Silence after which a DNS server holds back no freed address any more
        6 silent_for_good: Period = Period::minutes(10), in Period::minutes(1)..=DAY;
        /// Time between health checks where a spec says nothing
        7 health_interval: Period = Period::seconds(2), in Period(100)..=Period::minutes(60);
        /// How long a package is kept that no release names
        8 package_keep: Period = Period::minutes(60), in Period::minutes(1)..=Period::minutes(60 * 24 * 30);
        inside:
            /// Counts per kind of object.
            9 [required] limits: Limits, LimitsChange;
            /// What is said of the rollouts of all services, under what a service and a spec say.
            10 rollout: Overrides, Overrides;
    }
}

/// The settings of the cluster itself, in the order in which they are told; `rollout.*` are those of `model::SETTINGS`.
pub fn declared() -> impl Iterator<Item = &'static Setting> {
    Settings::DECLARED.iter().chain(Limits::DECLARED)
}

/// What stands before a setting of rollouts.
pub const ROLLOUT: &str = "rollout.";

impl SettingsChange {
    /// Takes `name=text` in. Errors name the setting.
    pub fn set(&mut self, name: &str, text: &str) -> Result<(), ModelError> {
        match name.strip_prefix(ROLLOUT) {
            Some(of_rollouts) => self.rollout.set(of_rollouts, text),
            None if self.take(name, Some(text))? || self.limits.take(name, Some(text))? => Ok(()),
            None => Err(unknown(name)),
        }
    }

    /// Whether it says nothing of the cluster itself.
    pub fn is_of_rollouts(&self) -> bool {
        *self == Self { rollout: self.rollout.clone(), ..Self::default() }
    }
}

fn unknown(name: &str) -> ModelError {
    let names: Vec<String> = declared().map(|s| s.name.to_string()).collect();
    let near = nearest(name, &names).map(|k| format!("; did you mean {k}?")).unwrap_or_default();
    let problem = format!(
        "no setting has this name{near} (`slipway settings show` lists them; those of rollouts are rollout.NAME)"
    );
    ModelError::field(name.chars().take(63).collect::<String>(), problem)
}

impl Settings {
    /// With what somebody changes, and then with the defaults of what is unset. Ranges are checked by
    /// [`Settings::check`].
    pub fn changed(&self, change: &SettingsChange, unset: &[String]) -> Result<Self, ModelError> {
        let mut to = self.clone();
        let mut change = change.clone();
        to.rollout = change.rollout.or(&to.rollout);
        for name in unset {
            match name.strip_prefix(ROLLOUT) {
                Some(of_rollouts) => to.rollout.unset(of_rollouts)?,
                None if change.take(name, None)? || change.limits.take(name, None)? => {}
                None => return Err(unknown(name)),
            }
        }
        to.lay(&change);
        to.limits.lay(&change.limits);
        Ok(to)
    }

    /// Ranges, and what two settings say together.
    pub fn check(&self) -> Result<(), ModelError> {
        if let Some((name, problem)) = self.outside().or_else(|| self.limits.outside()) {
            return Err(ModelError::field(name, problem));
        }
        let order = [("dns_out_after", self.dns_out_after, "lost_after", self.lost_after)];
        let order = order.into_iter().chain([(
            "silent_for_good",
            self.silent_for_good,
            "node_silent_after",
            self.node_silent_after,
        )]);
        for (later, a, earlier, b) in order {
            if a < b {
                return Err(ModelError::field(later, format!("{a} is before {earlier} ({b}), which it comes after")));
            }
        }
        Ok(())
    }

    /// Name, value, default and range of each, in the order of [`declared`].
    pub fn shown(&self) -> Vec<(&'static Setting, [String; 3])> {
        let all = |s: &Self| s.told().into_iter().chain(s.limits.told()).collect::<Vec<_>>();
        let (mine, defaults) = (all(self), all(&Self::default()));
        let texts = mine.into_iter().zip(defaults).map(|([value, range], [default, _])| [value, default, range]);
        declared().zip(texts).collect()
    }
}
