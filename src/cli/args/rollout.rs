//! Flags of the verbs about rollouts.

use super::*;

#[derive(Debug, Args)]
pub struct StartArgs {
    /// ENVIRONMENT/SERVICE, or a service in the default environment
    pub deployment: String,
    /// Version to move to
    #[arg(long, value_name = "VERSION")]
    pub to: String,
    #[command(flatten)]
    pub params: Box<ParamArgs>,
}

#[derive(Debug, Args)]
pub struct WatchArgs {
    /// Follow until it ends; the exit code says how (0 completed, 3 rolled back)
    #[arg(short, long)]
    pub watch: bool,
    /// Stop watching after this long, with exit code 4; the rollout goes on
    #[arg(long, value_name = "DURATION")]
    pub within: Option<Period>,
}

#[derive(Debug, Subcommand)]
pub enum RolloutVerb {
    /// Show the steps that `start` would run, and change nothing
    Plan(StartArgs),
    /// Start a rollout
    Start {
        #[command(flatten)]
        start: StartArgs,
        /// End a live rollout first, in the same moment: a way back where it stands, one that goes forward with the traffic on stable
        #[arg(long)]
        replace: bool,
        /// Start only if the deployment is still at this revision, as `rollout plan` says it
        #[arg(long, value_name = "REVISION", value_parser = clap::value_parser!(u64).range(1..))]
        expect: Option<u64>,
        #[command(flatten)]
        watch: WatchArgs,
    },
    /// Roll the running version out again
    Restart {
        deployment: String,
        #[command(flatten)]
        params: Box<ParamArgs>,
        #[command(flatten)]
        watch: WatchArgs,
    },
    /// Steps, weights, what it waits for
    Status {
        /// Rollout (r-52) or ENVIRONMENT/SERVICE
        target: String,
    },
    /// Follow until it ends
    Watch {
        /// Rollout (r-52) or ENVIRONMENT/SERVICE
        target: String,
        /// Stop watching after this long, with exit code 4
        #[arg(long, value_name = "DURATION")]
        within: Option<Period>,
    },
    /// Hold it where it is
    Pause { target: String },
    /// Go on after a pause
    Resume { target: String },
    /// End the present step
    Promote {
        target: String,
        /// Skip bakes, hooks and lower percentages, never the last install and route
        #[arg(long)]
        full: bool,
        #[command(flatten)]
        watch: WatchArgs,
    },
    /// Put traffic on stable and stop, keeping candidates to look at
    Abort {
        target: String,
        /// End a way back where it stands: both versions keep their instances and traffic until the next rollout replaces both
        #[arg(long)]
        as_is: bool,
    },
    /// Unwind everything: traffic first, then workers
    Rollback {
        target: String,
        #[command(flatten)]
        watch: WatchArgs,
    },
    /// Past rollouts, newest first
    History { deployment: String },
    /// Why it is not moving, and what was decided so far
    Explain { deployment: String },
}
