//! The flags that shape a rollout, made from the declaration of the settings. What is not given stays the spec's.

use clap::{Arg, ArgMatches, Command, builder::PossibleValuesParser, error::ErrorKind};

use crate::{
    engine::STRATEGIES,
    model::{Overrides, SETTINGS, Setting},
};

/// What the flags say.
#[derive(Debug, Clone, Default)]
pub struct ParamArgs(pub Overrides);

fn argument(setting: &Setting) -> Arg {
    let known = STRATEGIES.iter().map(|s| s.name.as_str()).collect::<Vec<_>>().join(", ");
    let about = if setting.name == "strategy" { format!("{}: {known}", setting.about) } else { setting.about.into() };
    let arg = Arg::new(setting.name)
        .long(setting.name.replace('_', "-"))
        .help(about)
        .value_name(setting.value)
        .help_heading("Rollout (default: what the spec says)");
    let arg = setting.alias.map_or_else(|| arg.clone(), |alias| arg.clone().visible_alias(alias));
    if setting.words.is_empty() { arg } else { arg.value_parser(PossibleValuesParser::new(setting.words)) }
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
                said.set(setting.name, text).map_err(|e| {
                    clap::Error::raw(ErrorKind::ValueValidation, format!("--{}\n", e.to_string().replacen('_', "-", 1)))
                })?;
            }
        }
        Ok(Self(said))
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}
