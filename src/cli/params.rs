//! The flags that shape a rollout, in the spellings of the spec and in the older ones. What is not given stays the spec's.

use clap::Args;

use crate::{
    model::{BasisPoints, Ceiling, Period, Strategy},
    wire::v1,
};

#[derive(Debug, Default, Args)]
#[command(next_help_heading = "Rollout (default: what the spec says)")]
pub struct ParamArgs {
    /// direct, rolling, canary or blue-green
    #[arg(long)]
    pub strategy: Option<Strategy>,
    /// Rising percentages such as 10,25,50,100
    #[arg(long, visible_alias = "canary-steps", value_delimiter = ',', value_name = "PERCENT,...")]
    pub steps: Vec<BasisPoints>,
    /// How long each canary step is watched, such as 5m
    #[arg(long, visible_alias = "stability-window", value_name = "DURATION")]
    pub bake: Option<Period>,
    /// Highest error rate of the new version, or off
    #[arg(long, value_name = "PERCENT|off")]
    pub max_error_rate: Option<Ceiling>,
    /// Requests before the error rate is judged
    #[arg(long, value_name = "N")]
    pub min_requests: Option<u64>,
    /// What to do when they do not come
    #[arg(long, value_parser = ["hold", "pass", "fail"])]
    pub on_no_data: Option<String>,
    /// Instances updated at once
    #[arg(long, value_name = "N")]
    pub parallelism: Option<u32>,
    /// Wait between batches
    #[arg(long, value_name = "DURATION")]
    pub delay: Option<Period>,
    /// Instances above the desired count while updating
    #[arg(long, value_name = "N")]
    pub max_surge: Option<u32>,
    /// Instances below the desired count while updating
    #[arg(long, value_name = "N")]
    pub max_unavailable: Option<u32>,
    /// What a failure does
    #[arg(long, value_parser = ["pause", "rollback", "continue"])]
    pub failure_action: Option<String>,
    /// Failed health checks in a row that count as a failure
    #[arg(long, value_name = "N")]
    pub max_health_failures: Option<u32>,
    /// Longest time until a batch passes its checks, the drains before it not counted
    #[arg(long, value_name = "DURATION")]
    pub health_timeout: Option<Period>,
    /// Blue-green: time between all healthy and the smoke test
    #[arg(long, value_name = "DURATION")]
    pub warm_up: Option<Period>,
    /// Blue-green: path of the smoke test
    #[arg(long, value_name = "PATH")]
    pub smoke: Option<String>,
    /// Blue-green: time watched after the switch
    #[arg(long, value_name = "DURATION")]
    pub monitor: Option<Period>,
    /// How long the old version is kept running after completion
    #[arg(long, value_name = "DURATION")]
    pub grace: Option<Period>,
    /// Longest time of one step, bakes not counted
    #[arg(long, value_name = "DURATION")]
    pub deadline: Option<Period>,
}

impl ParamArgs {
    /// As a request carries them.
    pub fn to_wire(&self) -> v1::Params {
        let ms = |p: Option<Period>| p.map(|p| p.0);
        v1::Params {
            strategy: self.strategy.map(|s| s.to_string()),
            steps_bp: self.steps.iter().map(|s| s.0).collect(),
            bake_ms: ms(self.bake),
            max_error_rate_bp: self.max_error_rate.and_then(|c| c.0).map(|r| r.0),
            max_error_rate_off: self.max_error_rate.is_some_and(|c| c.0.is_none()),
            min_requests: self.min_requests,
            on_no_data: self.on_no_data.clone(),
            parallelism: self.parallelism,
            delay_ms: ms(self.delay),
            max_surge: self.max_surge,
            max_unavailable: self.max_unavailable,
            failure_action: self.failure_action.clone(),
            max_health_failures: self.max_health_failures,
            health_timeout_ms: ms(self.health_timeout),
            warm_up_ms: ms(self.warm_up),
            smoke: self.smoke.clone(),
            monitor_ms: ms(self.monitor),
            grace_ms: ms(self.grace),
            deadline_ms: ms(self.deadline),
        }
    }
}
