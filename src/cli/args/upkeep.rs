//! Flags of the verbs that remove, make, set and clean up.

use super::*;

/// What is said of an environment.
#[derive(Debug, Args)]
pub struct EnvironmentArgs {
    /// Name of an environment
    #[arg(value_name = "ENVIRONMENT", add = complete::environments())]
    pub name: String,
    /// Its place in the order of promotion
    #[arg(long, value_name = "NUMBER")]
    pub order: Option<u32>,
    /// Strategy of rollouts that name none
    #[arg(long, value_name = "STRATEGY")]
    pub default_strategy: Option<String>,
    /// What a bake does without data, where neither spec nor flags say it
    #[arg(long, value_name = "ACTION")]
    pub on_no_data: Option<String>,
}

#[derive(Debug, Subcommand)]
pub enum SettingsVerb {
    /// Settings with their values, defaults and ranges
    #[command(
        visible_alias = "list",
        after_help = "Examples:\n  slipway settings show\n  slipway settings show --service shop"
    )]
    Show {
        /// Only the defaults of this service's rollouts
        #[arg(long, value_name = "SERVICE", add = complete::services())]
        service: Option<String>,
    },
    /// Change settings of the cluster, or the defaults of a service's rollouts (rollout.NAME)
    ///
    /// A rollout takes what its flags say, then its spec, its service, the cluster, in this order, when it starts.
    #[command(
        after_help = "Examples:\n  slipway settings set limits.history_per_deployment=20\n  slipway settings set --service shop rollout.bake=10m"
    )]
    Set {
        /// Of the rollouts of this service
        #[arg(long, value_name = "SERVICE", add = complete::services())]
        service: Option<String>,
        /// Settings with their values
        #[arg(value_name = "NAME=VALUE", required = true, value_parser = label)]
        settings: Vec<(String, String)>,
    },
    /// Give settings their defaults again
    #[command(after_help = "Example:\n  slipway settings unset limits.history_per_deployment")]
    Unset {
        /// Of the rollouts of this service
        #[arg(long, value_name = "SERVICE", add = complete::services())]
        service: Option<String>,
        /// Names of settings
        #[arg(value_name = "NAME", required = true)]
        names: Vec<String>,
    },
}
