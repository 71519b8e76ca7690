//! The nouns and their invariants: ids, versions, time, weights, specs, steps, reasons for waiting.
//!
//! Pure: no clock, no randomness, no I/O; integers only, so that every node computes the same. What a noun *does* is
//! elsewhere: `state` holds the rows and the law, `engine` the judgement.

pub mod check;
mod dns_policy;
mod env_file;
mod error;
pub mod health;
pub mod health_check;
mod host_port;
pub mod ids;
mod lacking;
mod log_found;
pub(crate) mod numbered;
mod permit;
mod prefix;
pub mod release;
pub mod sample;
pub mod selector;
mod setting_values;
mod settings;
pub mod signal;
pub mod spec;
pub mod spec_doc;
mod spec_read;
mod spec_values;
pub mod step;
pub mod strategy;
mod template;
mod text_form;
pub mod time;
mod unfit;
mod variables;
pub mod wait;
pub mod weight;
mod words;

pub use check::{Check, Test};
pub use dns_policy::{DnsPolicy, OnPanic, WhenEmpty};
pub use env_file::read_env_file;
pub use error::{ModelError, innermost};
pub use health::{Health, Life};
pub use health_check::{CheckTls, HealthCheck, StatusRule, Trust};
pub use host_port::{host_port, is_host};
pub use ids::{
    ClusterId, DeploymentId, Digest, InstanceId, Name, NodeId, Principal, RequestId, RolloutId, StepId, WorkerName,
};
pub use lacking::{MAX_POOL, lacking};
pub use log_found::LogFound;
pub(crate) use numbered::fields;
pub use permit::Permit;
pub use prefix::Prefix;
pub use release::{BuildInfo, MAX_PACKAGE, Pair, Version};
pub use sample::{Histogram, MAX_METRICS, MetricName, PARTS, Sample, Samples};
pub use selector::Selector;
pub(crate) use setting_values::SettingValue;
pub use settings::{Overrides, RolloutParams, SETTINGS, Setting, setting};
pub use spec::{AddressMode, Drain, MetricsSource, Placement, Protocol, RunSpec, Said, Spec, StopSpec, StopTo};
pub use spec_doc::{SpecDoc, is_label};
pub use spec_read::{SpecFormat, read_spec, with_nearest};
pub use step::{BatchMode, Facts, Routing, Skip, Step, StepKind};
pub use strategy::{FailureAction, OnNoData, StrategyName};
pub use template::{Template, is_variable};
pub use time::{Millis, Period};
pub use unfit::unfit;
pub use variables::{GIVEN, OF_USER, address_variable};
pub use wait::Wait;
pub use weight::{BasisPoints, Ceiling, Portion, WHOLE};
pub use words::{Named, nearest, one_of};
