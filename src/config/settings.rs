//! Settings in layers: a file, over it the environment, over it the command line; below them the defaults.
//!
//! Invariants: each setting is declared once, by `settings!`, which makes of it the field, the key of the file, the
//! variable, the flag, the line of `slipwayd config print` and the line of docs/config.md; an unknown key or variable
//! is refused with the nearest known one. Not here: what values fit together (`NodeConfig::check`,
//! `AgentConfig::check`).

use std::fmt::Write as _;

use clap::{Arg, ArgAction, ArgMatches, error::ErrorKind};

use super::{ConfigError, kinds::SettingKind};

/// Where a value came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, strum::Display)]
#[strum(serialize_all = "snake_case")]
pub enum Source {
    /// The command line.
    Flag,
    /// An environment variable.
    Environment,
    /// The configuration file.
    File,
    /// Nobody said anything.
    Default,
}

/// A setting as it is in force.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shown {
    pub key: &'static str,
    /// Its value as TOML; absent when there is none.
    pub value: Option<String>,
    /// Where it came from.
    pub source: Source,
}

/// A configuration and where each of its values came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resolved<T> {
    /// The configuration.
    pub config: T,
    /// All settings, in the order of the reference page.
    pub shown: Vec<Shown>,
}

impl<T> Resolved<T> {
    /// As a file that says the same, with the source of each value.
    pub fn print(&self) -> String {
        let line = |s: &Shown| match &s.value {
            Some(value) => format!("{} = {value}", s.key),
            None => format!("# {} is not set", s.key),
        };
        let width = self.shown.iter().map(|s| line(s).chars().count()).max().unwrap_or(0).min(60);
        let mut text = String::new();
        for s in &self.shown {
            let _ = writeln!(text, "{:width$}  # {}", line(s), s.source);
        }
        text
    }
}

/// A setting as the reference page has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Described {
    /// Its key in the file.
    pub key: &'static str,
    pub about: &'static str,
    /// What to write.
    pub kind: &'static str,
    /// What stands for a value in the flag's help.
    pub value: &'static str,
    /// Whether the flag may be repeated.
    pub many: bool,
    /// Its value when it is not set; absent when it must be set.
    pub default: Option<String>,
    pub flag: &'static str,
    /// Its environment variable.
    pub variable: String,
}

impl Described {
    /// Its flag. What is off unless somebody wants it is a switch.
    pub(super) fn argument(&self) -> Arg {
        let about = self.about.trim_end_matches('.');
        let arg = Arg::new(self.key).long(self.flag.trim_start_matches('-'));
        match (self.value, self.default.as_deref(), self.many) {
            ("true|false", Some("false"), _) => arg.help(about).action(ArgAction::SetTrue),
            (value, _, true) => {
                arg.help(format!("{about}; may be repeated")).value_name(value).action(ArgAction::Append)
            }
            (value, _, false) => arg.help(about).value_name(value),
        }
    }
}

/// What a flag was given; none when it was not.
pub(super) fn given<T: SettingKind>(
    matches: &ArgMatches,
    key: &str,
    flag: &'static str,
) -> Result<Option<T>, clap::Error> {
    let texts: Vec<&str> = match matches.try_get_many::<String>(key) {
        Ok(texts) => texts.into_iter().flatten().map(String::as_str).collect(),
        Err(_) if matches.get_flag(key) => vec!["true"],
        Err(_) => Vec::new(),
    };
    let read = (!texts.is_empty()).then(|| T::given(&texts)).transpose();
    let flag = split(flag).0;
    read.map_err(|problem| clap::Error::raw(ErrorKind::ValueValidation, format!("{flag}: {problem}\n")))
}

/// A flag as it is declared, `--node HOST:PORT`, as its name and what stands for its value, if that is said.
pub(super) fn split(flag: &'static str) -> (&'static str, Option<&'static str>) {
    flag.split_once(' ').map_or((flag, None), |(name, value)| (name, Some(value)))
}

/// The variable of a key.
pub(super) fn variable_name(prefix: &str, key: &str) -> String {
    format!("{prefix}{}", key.to_ascii_uppercase())
}

/// What to say of a setting that must be given and was not.
pub(super) fn missing(key: &'static str, prefix: &str, flag: &'static str) -> ConfigError {
    let (variable, flag) = (variable_name(prefix, key), split(flag).0);
    let problem = format!("not set: write it in the file of --config FILE, or give {flag} or {variable}");
    ConfigError::Value { key, problem }
}

/// What to say of a variable that is none of ours but begins as ours do.
pub(super) fn unknown(variable: &str, prefix: &str, keys: &[&str]) -> ConfigError {
    let known: Vec<String> = keys.iter().map(|k| variable_name(prefix, k)).collect();
    // In the words of serde, which the nearest one is found by.
    let said = format!("unknown field `{variable}`, expected one of {}", known.join(", "));
    let said = crate::model::with_nearest(&said);
    let problem = said.replacen("unknown field", "unknown setting", 1);
    ConfigError::Environment { variable: variable.into(), problem }
}

/// Declares a configuration: the struct in force and its layer, in which everything may be absent.
macro_rules! settings {
    (
        $(#[doc = $about:literal])+
        pub struct $name:ident, layer $layer:ident, variables $prefix:literal {
            $(
                $(#[doc = $doc:literal])+
                $key:ident: $ty:ty, $flag:literal, $how:ident $(($default:expr))?;
            )+
        } $(hidden {$(
            $(#[doc = $hidden_doc:literal])+
            $hidden:ident: $hidden_ty:ty;
        )+})?
    ) => {
        $(#[doc = $about])+
        #[derive(Debug, Clone, PartialEq, Eq)]
        pub struct $name {
            $($(#[doc = $doc])+ pub $key: $ty,)+
            $($($(#[doc = $hidden_doc])+ pub $hidden: $hidden_ty,)+)?
        }

        #[doc = concat!("One source's part of a [`", stringify!($name), "`].")]
        #[derive(Debug, Clone, Default, PartialEq, Eq, serde::Deserialize)]
        #[serde(deny_unknown_fields, default)]
        pub struct $layer {
            $($(#[doc = $doc])+ pub $key: Option<$ty>,)+
        }

        impl $layer {
            const KEYS: &[&str] = &[$(stringify!($key)),+];

            /// Reads variables. A variable without our prefix is ignored; an empty one counts as not set.
            pub fn from_environment(
                variables: impl IntoIterator<Item = (String, String)>,
            ) -> Result<Self, $crate::config::ConfigError> {
                let mut layer = Self::default();
                for (variable, text) in variables {
                    let Some(key) = variable.strip_prefix($prefix) else { continue };
                    match key.to_ascii_lowercase().as_str() {
                        $(stringify!($key) if variable == $crate::config::settings::variable_name($prefix, stringify!($key)) => {
                            if !text.is_empty() {
                                let read = <$ty as $crate::config::kinds::SettingKind>::read(&text);
                                layer.$key = Some(read.map_err(|problem| $crate::config::ConfigError::Environment {
                                    variable: variable.clone(),
                                    problem,
                                })?);
                            }
                        })+
                        _ => return Err($crate::config::settings::unknown(&variable, $prefix, Self::KEYS)),
                    }
                }
                Ok(layer)
            }
        }

        impl clap::FromArgMatches for $layer {
            fn from_arg_matches(matches: &clap::ArgMatches) -> Result<Self, clap::Error> {
                Ok(Self { $($key: $crate::config::settings::given(matches, stringify!($key), $flag)?,)+ })
            }

            fn update_from_arg_matches(&mut self, matches: &clap::ArgMatches) -> Result<(), clap::Error> {
                *self = Self::from_arg_matches(matches)?;
                Ok(())
            }
        }

        impl clap::Args for $layer {
            fn augment_args(command: clap::Command) -> clap::Command {
                command.args($name::described().iter().map($crate::config::settings::Described::argument))
            }

            fn augment_args_for_update(command: clap::Command) -> clap::Command {
                Self::augment_args(command)
            }
        }

        impl $name {
            /// Lays the sources over each other, the first one on top.
            pub fn from_layers(
                layers: Vec<($crate::config::settings::Source, $layer)>,
            ) -> Result<$crate::config::settings::Resolved<Self>, $crate::config::ConfigError> {
                use $crate::config::{kinds::SettingKind as _, settings::{Shown, Source}};
                $(let mut $key: Option<($ty, Source)> = None;)+
                for (source, layer) in layers {
                    $($key = $key.or(layer.$key.map(|value| (value, source)));)+
                }
                let mut shown = Vec::new();
                $(
                    let ($key, source) = match $key {
                        Some(found) => found,
                        None => $crate::config::settings::settings!(@otherwise $key, $prefix, $flag, $how $(($default))?),
                    };
                    shown.push(Shown { key: stringify!($key), value: $key.show(), source });
                )+
                Ok($crate::config::settings::Resolved { config: Self { $($key,)+ $($($hidden: Default::default(),)+)? }, shown })
            }

            /// Every setting, for the reference page.
            pub fn described() -> Vec<$crate::config::settings::Described> {
                vec![$($crate::config::settings::Described {
                    key: stringify!($key),
                    about: concat!($($doc),+).trim(),
                    kind: <$ty as $crate::config::kinds::SettingKind>::NAME,
                    value: $crate::config::settings::split($flag).1.unwrap_or(<$ty as $crate::config::kinds::SettingKind>::VALUE),
                    many: <$ty as $crate::config::kinds::SettingKind>::MANY,
                    default: $crate::config::settings::settings!(@default $ty, $how $(($default))?),
                    flag: $crate::config::settings::split($flag).0,
                    variable: $crate::config::settings::variable_name($prefix, stringify!($key)),
                }),+]
            }
        }
    };
    (@otherwise $key:ident, $prefix:literal, $flag:literal, required) => {
        return Err($crate::config::settings::missing(stringify!($key), $prefix, $flag))
    };
    (@otherwise $key:ident, $prefix:literal, $flag:literal, or ($default:expr)) => {
        ($default, Source::Default)
    };
    (@default $ty:ty, required) => {
        None
    };
    (@default $ty:ty, or ($default:expr)) => {{
        let default: $ty = $default;
        Some($crate::config::kinds::SettingKind::show(&default).unwrap_or_else(|| "not set".into()))
    }};
}
pub(super) use settings;
