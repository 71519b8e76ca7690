//! The flags that shape a rollout, made from the declaration of the settings. What is not given stays the spec's.

use clap::{Arg, ArgMatches, Command, builder::PossibleValuesParser, error::ErrorKind};

use super::complete;
use crate::{
    engine::STRATEGIES,
    model::{ModelError, Overrides, SETTINGS, Setting},
};

/// What the flags say.
#[derive(Debug, Clone, Default)]
pub struct ParamArgs(pub Overrides);

fn argument(setting: &'static Setting) -> Arg {
    let known = STRATEGIES.iter().map(|s| s.name.as_str()).collect::<Vec<_>>().join(", ");
    let about = if setting.name == "strategy" { format!("{}: {known}", setting.about) } else { setting.about.into() };
    let arg = Arg::new(setting.name)
        .long(setting.flag().trim_start_matches('-').to_string())
        .help(about)
        .value_name(setting.value)
        // `-5s` is a wrong value and no unknown flag.
        .allow_hyphen_values(true)
        .help_heading("Rollout (default: what the spec says)")
        .visible_aliases(setting.alias);
    let arg = if setting.name == "strategy" { arg.add(complete::strategies()) } else { arg };
    match setting.words {
        [] => arg.value_parser(move |text: &str| readable(setting, text)),
        words => arg.value_parser(PossibleValuesParser::new(words)),
    }
}

/// The text of a setting, if it can be read; what is wrong with it otherwise.
fn readable(setting: &Setting, text: &str) -> Result<String, String> {
    match Overrides::default().set(setting.name, text) {
        Ok(()) => Ok(text.into()),
        Err(ModelError::Field { problem, .. }) => Err(problem),
        Err(other) => Err(other.to_string()),
    }
}

impl clap::Args for ParamArgs {
    fn augment_args(command: Command) -> Command {
        command.args(SETTINGS.iter().map(argument))
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl clap::FromArgMatches for ParamArgs {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let mut said = Overrides::default();
        for setting in SETTINGS {
            if let Some(text) = matches.get_one::<String>(setting.name) {
                said.set(setting.name, text)
                    .map_err(|e| clap::Error::raw(ErrorKind::ValueValidation, e.to_string()))?;
            }
        }
        Ok(Self(said))
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}
