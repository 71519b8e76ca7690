//! Why something is not moving: typed reasons that the planner gives and `rollout explain` prints.
//!
//! Not here: when a reason is given (`engine`).

use std::fmt;

use serde::{Deserialize, Serialize};

use super::{InstanceId, MetricName, Millis, NodeId, Pair, WorkerName};

/// One reason for waiting. Times are cluster time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Wait {
    /// The leader is new and has not heard from everyone yet.
    Observing { until: Millis },
    /// Workers still fetch or unpack the release.
    Staging { workers: Vec<WorkerName> },
    /// Instances have been assigned and do not run yet.
    Starting { instances: Vec<InstanceId> },
    /// Instances run and do not pass their checks yet.
    Healthy { have: u32, need: u32 },
    /// Nodes whose DNS view has not reached a committed index.
    Views { index: u64, behind: Vec<NodeId> },
    /// Resolver caches may still name a drained instance.
    Caches { until: Millis },
    /// The wait between two batches.
    Delay { until: Millis },
    /// A bake's own time.
    Bake { until: Millis },
    /// Too little was seen of the new pair to judge it.
    Data { metric: MetricName, pair: Pair, have: u64, need: u64 },
    /// Workers whose counts are not known to this leader.
    Missing { workers: Vec<WorkerName> },
    /// Workers whose last report is too old to end a bake on.
    Unheard { workers: Vec<WorkerName> },
    /// Counts that a worker cannot make, whatever time it takes: a selector matches nothing, or the page cannot be
    /// read.
    Uncounted { worker: WorkerName, why: String },
    /// Workers whose machines lack something that the release or its spec asks for; until then it may be mended.
    Unfit { workers: Vec<WorkerName>, until: Millis, why: String },
    /// A hook's answer.
    Hook { attempt: u32, until: Millis },
    /// Healthy capacity to route to, or to return to.
    Capacity { have: u32, need: u32 },
    /// A worker whose pool has no free address.
    Addresses { worker: WorkerName },
    /// Draining instances whose agents have not confirmed the stop.
    Stopping { instances: Vec<InstanceId> },
    /// Workers that are lost; from `until` on they count no more, if ever.
    Lost { workers: Vec<WorkerName>, until: Option<Millis> },
    /// The next try on a worker where the last one failed.
    Again { worker: WorkerName, until: Millis, said: String },
    /// A ready worker: none of those that the placement chooses is heard of.
    Workers,
    /// A person's promotion, which the plan asks for.
    Promotion,
    /// An operator: the rollout is paused.
    Operator,
    /// No majority of the nodes has the same State: nothing moves until one has.
    Replicas { index: u64, tables: Vec<String> },
}

impl Wait {
    /// The reason with the time that is left instead of a moment of cluster time, which says nothing to a person.
    pub fn told(&self, now: Millis) -> String {
        let text = self.to_string();
        match self.until() {
            Some(until) => {
                let left = Millis(until.0.saturating_sub(now.0));
                text.replace(&format!("until {until}"), &format!("for {left} more"))
            }
            None => text,
        }
    }

    /// The same with how long it has been so, once that says something.
    pub fn told_since(&self, now: Millis, since: Millis) -> String {
        let held = Millis(now.0.saturating_sub(since.0));
        let text = self.told(now);
        if held.0 < 1_000 { text } else { format!("{text} (for {held} so far)") }
    }

    fn until(&self) -> Option<Millis> {
        match self {
            Self::Observing { until }
            | Self::Caches { until }
            | Self::Delay { until }
            | Self::Bake { until }
            | Self::Hook { until, .. }
            | Self::Lost { until: Some(until), .. }
            | Self::Unfit { until, .. }
            | Self::Again { until, .. } => Some(*until),
            Self::Staging { .. }
            | Self::Starting { .. }
            | Self::Healthy { .. }
            | Self::Views { .. }
            | Self::Data { .. }
            | Self::Missing { .. }
            | Self::Unheard { .. }
            | Self::Uncounted { .. }
            | Self::Capacity { .. }
            | Self::Addresses { .. }
            | Self::Stopping { .. }
            | Self::Lost { until: None, .. }
            | Self::Workers
            | Self::Promotion
            | Self::Operator
            | Self::Replicas { .. } => None,
        }
    }
}

fn join<T: fmt::Display>(items: &[T]) -> String {
    items.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

fn is(workers: &[WorkerName]) -> &'static str {
    if workers.len() == 1 { "is" } else { "are" }
}

impl fmt::Display for Wait {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Observing { until } => {
                write!(f, "the new leader is still hearing from workers (until {until} at most)")
            }
            Self::Staging { workers } => write!(f, "staging the release on {}", join(workers)),
            Self::Starting { instances } => write!(f, "starting {}", join(instances)),
            Self::Healthy { have, need } => write!(f, "{have} of {need} instances pass their checks"),
            Self::Views { index, behind } => write!(f, "DNS of node {} has not served index {index} yet", join(behind)),
            Self::Caches { until } => write!(f, "resolver caches may name drained instances until {until}"),
            Self::Delay { until } => write!(f, "delay between batches until {until}"),
            Self::Bake { until } => write!(f, "baking until {until}"),
            Self::Data { metric, pair, have, need } => {
                write!(f, "{have} of {need} {metric} seen by {}", pair.version)
            }
            Self::Missing { workers } => write!(f, "no counts from {}", join(workers)),
            Self::Uncounted { worker, why } => write!(f, "{worker} cannot count: {why}"),
            Self::Unfit { workers, until, why } => {
                write!(f, "{} cannot run the release, which may be mended until {until}: {why}", join(workers))
            }
            Self::Hook { attempt, until } => write!(f, "hook, attempt {attempt}, until {until}"),
            Self::Capacity { have, need } => write!(f, "{have} of {need} instances of capacity"),
            Self::Addresses { worker } => write!(f, "no free address on {worker}"),
            Self::Stopping { instances } => write!(f, "stopping {}", join(instances)),
            Self::Lost { workers, until: Some(until) } => {
                write!(f, "{}, which {1} lost, {1} not counted out until {until}", join(workers), is(workers))
            }
            Self::Lost { workers, until: None } => {
                let (all, is) = (join(workers), is(workers));
                write!(f, "{all}, which {is} lost, {is} never counted out, as a singleton may still run there")
            }
            Self::Unheard { workers } => write!(f, "no report from {} for some seconds", join(workers)),
            Self::Again { worker, until, said } => {
                write!(f, "no new try on {worker} until {until}: the last one {said}")
            }
            Self::Workers => f.write_str("no worker that the placement chooses is heard of"),
            Self::Promotion => f.write_str("held until somebody promotes it"),
            Self::Operator => f.write_str("paused, until somebody decides"),
            Self::Replicas { index, tables } => write!(
                f,
                "frozen: no majority of the nodes agrees on State at index {index}, table {}; see `slipway cluster digest`",
                tables.join(", ")
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_person_reads_how_long_it_still_takes() {
        let bake = Wait::Bake { until: Millis(205_000) };
        assert_eq!(bake.told(Millis(195_900)), "baking for 9.1 s more");
        assert_eq!(bake.told(Millis(300_000)), "baking for 0.0 s more");
        let hears = Wait::Observing { until: Millis(4_000) };
        assert_eq!(hears.told(Millis(1_000)), "the new leader is still hearing from workers (for 3.0 s more at most)");
        let unfit =
            Wait::Unfit { workers: vec![WorkerName::new("w2").unwrap()], until: Millis(9_000), why: "no user".into() };
        let said = unfit.told(Millis(1_000));
        assert_eq!(said, "w2 cannot run the release, which may be mended for 8.0 s more: no user");
        assert_eq!(Wait::Healthy { have: 1, need: 2 }.told(Millis(1)), "1 of 2 instances pass their checks");
    }
}
