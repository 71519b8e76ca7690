//! Flags of the verbs about rollouts.

use super::*;

#[derive(Debug, Args)]
pub struct StartArgs {
    #[command(flatten)]
    pub what: OnDeployment,
    /// Version to move to
    #[arg(long, value_name = "VERSION", add = complete::versions())]
    pub to: String,
    #[command(flatten)]
    pub params: Box<ParamArgs>,
}

#[derive(Debug, Clone, Args)]
pub struct WatchArgs {
    /// Follow until it ends; the exit code says how (0 completed, 3 rolled back)
    #[arg(short, long)]
    pub watch: bool,
    #[command(flatten)]
    pub limits: WatchLimits,
}

#[derive(Debug, Clone, Args)]
#[group(skip)]
pub struct WatchLimits {
    /// Stop watching after this long, with exit code 4; the rollout goes on
    #[arg(long, value_name = "DURATION", value_parser = above_zero)]
    pub within: Option<Period>,
    /// Watch until it has ended, or also until it is paused and waits for a person (exit code 6)
    #[arg(long, value_enum, value_name = "STATE", default_value_t = Until::Ended)]
    pub until: Until,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Until {
    Ended,
    Paused,
}

#[derive(Debug, Args)]
pub struct HistoryArgs {
    #[command(flatten)]
    pub what: OnTarget,
    /// Only the newest so many
    #[arg(short = 'n', long, value_name = "NUMBER")]
    pub limit: Option<usize>,
}

#[derive(Debug, Subcommand)]
pub enum RolloutVerb {
    /// Show the steps that `start` would run, and change nothing
    #[command(after_help = "Example:\n  slipway rollout plan shop --to 1.1.0")]
    Plan(StartArgs),
    /// Start a rollout
    #[command(
        after_help = "Examples:\n  slipway rollout start shop --to 1.1.0 --watch\n  slipway rollout start production/shop --to 1.1.0 --strategy canary --steps 10,50,100 --bake 5m"
    )]
    Start {
        #[command(flatten)]
        start: StartArgs,
        /// End a live rollout first, in the same moment: a rollback stays where it stands; a rollout that goes forward
        /// puts the traffic on stable
        #[arg(long)]
        replace: bool,
        /// Start only if the deployment is still at this revision, as `rollout plan` says it
        #[arg(long, value_name = "REVISION", value_parser = clap::value_parser!(u64).range(1..))]
        expect: Option<u64>,
        #[command(flatten)]
        watch: WatchArgs,
    },
    /// Roll the running version out again, with the newest spec
    #[command(after_help = "Example:\n  slipway rollout restart shop --watch")]
    Restart {
        #[command(flatten)]
        what: OnDeployment,
        #[command(flatten)]
        params: Box<ParamArgs>,
        #[command(flatten)]
        watch: WatchArgs,
    },
    /// List the rollouts that run, of all deployments
    #[command(
        visible_alias = "ls",
        after_help = "Examples:\n  slipway rollout list\n  slipway rollout list --all -n 20"
    )]
    List {
        /// Also those that have ended, newest first
        #[arg(long)]
        all: bool,
        /// Only the newest so many
        #[arg(short = 'n', long, value_name = "NUMBER")]
        limit: Option<usize>,
    },
    /// Steps, weights, what it waits for
    #[command(visible_alias = "show", after_help = "Example:\n  slipway rollout status shop")]
    Status(OnTarget),
    /// Follow until it ends
    #[command(
        after_help = "Examples:\n  slipway rollout watch shop\n  slipway rollout watch r-52 --within 10m --until paused -o json"
    )]
    Watch {
        #[command(flatten)]
        what: OnTarget,
        #[command(flatten)]
        limits: WatchLimits,
    },
    /// Hold it where it is
    #[command(after_help = "Example:\n  slipway rollout pause shop")]
    Pause(OnTarget),
    /// Go on after a pause
    #[command(after_help = "Example:\n  slipway rollout resume shop")]
    Resume(OnTarget),
    /// End the present step
    #[command(after_help = "Examples:\n  slipway rollout promote shop\n  slipway rollout promote shop --full --watch")]
    Promote {
        #[command(flatten)]
        what: OnTarget,
        /// Skip bakes, hooks and lower percentages, never the last install and route
        #[arg(long)]
        full: bool,
        #[command(flatten)]
        watch: WatchArgs,
    },
    /// Put traffic on stable and stop, keeping candidates to look at
    #[command(after_help = "Example:\n  slipway rollout abort shop")]
    Abort {
        #[command(flatten)]
        what: OnTarget,
        /// End a rollback where it stands: both versions keep their instances and traffic until the next rollout
        /// replaces both
        #[arg(long)]
        as_is: bool,
    },
    /// Unwind everything: traffic first, then workers
    #[command(after_help = "Example:\n  slipway rollout rollback shop --watch")]
    Rollback {
        #[command(flatten)]
        what: OnTarget,
        #[command(flatten)]
        watch: WatchArgs,
    },
    /// Past rollouts, newest first
    #[command(after_help = "Example:\n  slipway rollout history shop -n 5")]
    History(HistoryArgs),
    /// Why it is not moving, and what was decided so far
    #[command(after_help = "Example:\n  slipway rollout explain shop")]
    Explain(OnTarget),
}
