//! The nouns and their invariants: ids, versions, time, weights, specs, steps, reasons for waiting.
//!
//! Pure: no clock, no randomness, no I/O; integers only, so that every node computes the same. What a noun *does* is elsewhere:
//! `state` holds the rows and the law, `engine` the judgement.

mod dns_policy;
mod error;
pub mod health;
pub mod health_check;
pub mod ids;
mod lacking;
mod prefix;
pub mod release;
pub mod selector;
pub mod spec;
pub mod spec_doc;
mod spec_read;
pub mod step;
pub mod strategy;
pub mod time;
pub mod wait;
pub mod weight;

pub use dns_policy::{DnsPolicy, OWN_LABELS, OnPanic, WhenEmpty};
pub use error::ModelError;
pub use health::{Health, Life};
pub use health_check::{CheckTls, HealthCheck, StatusRule, Trust};
pub use ids::{
    ClusterId, DeploymentId, Digest, InstanceId, Name, NodeId, Principal, RequestId, RolloutId, StepId, WorkerName,
};
pub use lacking::lacking;
pub use prefix::Prefix;
pub use release::{BuildInfo, MAX_PACKAGE, Pair, Version};
pub use selector::Selector;
pub use spec::{AddressMode, Drain, MetricsSource, Placement, Protocol, RunSpec, Spec, StopSpec};
pub use spec_doc::SpecDoc;
pub use spec_read::{SpecFormat, read_spec, with_nearest};
pub use step::{BatchMode, Routing, Step, StepKind};
pub use strategy::{FailureAction, OnNoData, RolloutParams, Strategy};
pub use time::{Millis, Period};
pub use wait::Wait;
pub use weight::{BasisPoints, Ceiling, WHOLE};
