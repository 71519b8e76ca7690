//! The table of operations: everything that may be asked of a node from outside, with what it takes to ask for it.
//!
//! Invariant: each method of each service but `Peer` has one row (the test below reads the contract itself); the door
//! refuses what has none, and a row that is no change changes nothing (`Api::change`). Not here: who holds which
//! permission, and the operations themselves.

use std::time::Duration;

/// Largest request, and largest message of a stream: a spec has 256 KiB at most, a chunk too.
pub const MESSAGE: usize = 4 << 20;

/// What a caller must be allowed to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, strum::Display)]
#[strum(serialize_all = "snake_case")]
pub enum Permission {
    /// Look at everything but packages.
    View,
    /// Bring versions and specs, and move deployments between them.
    Deploy,
    /// Look after nodes, workers and serving leases.
    Operate,
    /// Make, enlarge, shrink and copy the cluster.
    Administer,
    /// Be a worker: its session, the packages it runs, the lines it sends.
    Work,
}

/// Where an answer comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, strum::Display)]
#[strum(serialize_all = "snake_case")]
pub enum Access {
    /// An entry of the log, or something done by the node.
    Change,
    /// The State as of now, confirmed by the leader; what this node knows, if the caller takes that.
    Read,
    /// The same, or with a warning what this node knows, when no leader confirms it.
    ReadOrOlder,
    /// What this node itself has and knows.
    Own,
}

/// One operation.
#[derive(Debug, PartialEq, Eq)]
pub struct Operation {
    /// Noun and verb, such as `rollout.start`.
    pub name: &'static str,
    pub permission: Permission,
    pub access: Access,
    /// Longest wait for others, beside the time that any read or change has.
    pub wait: Duration,
    /// The method that it is reached by, with its service: `Rollouts/Start`.
    pub grpc: &'static str,
}

impl Operation {
    /// The operation that a gRPC method, such as `/slipway.v1.Rollouts/Start`, is for.
    pub fn of_grpc(path: &str) -> Option<&'static Self> {
        let method = path.strip_prefix(PACKAGE)?;
        OPERATIONS.iter().find(|o| o.grpc == method)
    }

    /// Whether a caller may ask for what this node knows, although no leader confirms it.
    pub fn takes_stale(&self) -> bool {
        self.access == Access::Read
    }
}

/// In front of all services' names in a method's path.
const PACKAGE: &str = "/slipway.v1.";

const fn row(name: &'static str, permission: Permission, access: Access, grpc: &'static str) -> Operation {
    Operation { name, permission, access, wait: Duration::ZERO, grpc }
}

impl Operation {
    const fn waits(self, seconds: u64) -> Self {
        Self { wait: Duration::from_secs(seconds), ..self }
    }
}

use Access::{Change, Own, Read, ReadOrOlder};
use Permission::{Administer, Deploy, Operate, View, Work};

/// All of them.
#[rustfmt::skip]
pub static OPERATIONS: &[Operation] = &[
    row("cluster.init",              Administer, Change,      "Cluster/Init"),
    row("cluster.join",              Administer, Change,      "Cluster/Join"),
    row("cluster.status",            View,       Own,         "Cluster/Status"),
    row("cluster.digest",            Operate,    Own,         "Cluster/Digest").waits(5),
    row("cluster.finalize",          Administer, Change,      "Cluster/Finalize"),
    row("cluster.rotate_dns_cookie", Operate,    Change,      "Cluster/RotateDnsCookie"),
    row("cluster.backup",            Administer, Read,        "Maintenance/Backup"),
    row("node.transfer_leader",      Operate,    Change,      "Cluster/TransferLeader"),
    row("node.leave",                Administer, Change,      "Cluster/Leave"),
    row("node.drain",                Operate,    Change,      "Cluster/Drain"),
    row("node.snapshot",             Operate,    Change,      "Maintenance/MakeSnapshot"),
    row("settings.get",              View,       Read,        "Catalog/GetSettings"),
    row("settings.set",              Administer, Change,      "Catalog/SetSettings"),
    row("environment.list",          View,       Read,        "Catalog/ListEnvironments"),
    row("environment.create",        Administer, Change,      "Catalog/CreateEnvironment"),
    row("environment.set",           Administer, Change,      "Catalog/SetEnvironment"),
    row("environment.remove",        Administer, Change,      "Catalog/RemoveEnvironment"),
    row("service.list",              View,       Read,        "Catalog/ListServices"),
    row("service.remove",            Deploy,     Change,      "Catalog/RemoveService"),
    row("release.register",          Deploy,     Change,      "Catalog/RegisterRelease"),
    row("release.retire",            Deploy,     Change,      "Catalog/RetireRelease"),
    row("release.remove",            Deploy,     Change,      "Catalog/RemoveRelease"),
    row("release.prune",             Deploy,     Change,      "Catalog/PruneReleases"),
    row("release.list",              View,       Read,        "Catalog/ListReleases"),
    row("package.stat",              Deploy,     Own,         "Artifacts/Stat"),
    row("package.push",              Deploy,     Change,      "Artifacts/Push").waits(30),
    row("package.fetch",             Work,       Own,         "Artifacts/Fetch"),
    row("deployment.apply",          Deploy,     Change,      "Catalog/Apply"),
    row("deployment.spec",           View,       Read,        "Catalog/GetSpec"),
    row("deployment.list",           View,       Read,        "Catalog/ListDeployments"),
    row("deployment.stop",           Deploy,     Change,      "Catalog/StopDeployment"),
    row("deployment.start",          Deploy,     Change,      "Catalog/StartDeployment"),
    row("deployment.remove",         Deploy,     Change,      "Catalog/RemoveDeployment"),
    row("rollout.start",             Deploy,     Change,      "Rollouts/Start"),
    row("rollout.plan",              View,       Read,        "Rollouts/Plan"),
    row("rollout.get",               View,       Read,        "Rollouts/Get"),
    row("rollout.history",           View,       Read,        "Rollouts/History"),
    row("rollout.pause",             Deploy,     Change,      "Rollouts/Pause"),
    row("rollout.resume",            Deploy,     Change,      "Rollouts/Resume"),
    row("rollout.abort",             Deploy,     Change,      "Rollouts/Abort"),
    row("rollout.promote",           Deploy,     Change,      "Rollouts/Promote"),
    row("rollout.rollback",          Deploy,     Change,      "Rollouts/Rollback"),
    row("rollout.explain",           View,       ReadOrOlder, "Rollouts/Explain"),
    row("route.get",                 View,       Read,        "Traffic/GetRoute"),
    row("route.trace",               View,       Own,         "Traffic/Trace"),
    row("switch.start",              Deploy,     Change,      "Traffic/Switch").waits(2),
    row("switch.get",                View,       ReadOrOlder, "Traffic/GetSwitch").waits(2),
    row("lease.get",                 View,       Read,        "Traffic/GetLease"),
    row("lease.set",                 Operate,    Change,      "Traffic/SetLease"),
    row("worker.list",               View,       Read,        "Catalog/ListWorkers"),
    row("worker.remove",             Operate,    Change,      "Catalog/RemoveWorker"),
    row("worker.rekey",              Operate,    Change,      "Catalog/RekeyWorker"),
    row("worker.session",            Work,       Change,      "Workers/Session"),
    row("worker.push_logs",          Work,       Change,      "Workers/PushLogs"),
    row("instance.list",             View,       Read,        "Catalog/ListInstances"),
    row("instance.logs",             View,       ReadOrOlder, "Workers/Logs").waits(5),
    row("event.watch",               View,       Own,         "Events/Watch"),
];

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use prost::Message as _;

    use super::*;
    use crate::wire::v1;

    /// Service and method of everything in the contract that is not between nodes.
    fn methods() -> Vec<String> {
        let all = prost_types::FileDescriptorSet::decode(v1::DESCRIPTOR).unwrap();
        let services = all.file.iter().filter(|f| f.package() == "slipway.v1").flat_map(|f| &f.service);
        let ours = services.filter(|s| s.name() != "Peer");
        let mut all: Vec<String> =
            ours.flat_map(|s| s.method.iter().map(|m| format!("{}/{}", s.name(), m.name()))).collect();
        all.sort();
        all
    }

    #[test]
    fn every_method_of_the_contract_has_one_row_and_every_row_a_method() {
        let mut rows: Vec<&str> = OPERATIONS.iter().map(|o| o.grpc).collect();
        rows.sort_unstable();
        assert_eq!(rows, methods());
        let names: BTreeSet<&str> = OPERATIONS.iter().map(|o| o.name).collect();
        assert_eq!(names.len(), OPERATIONS.len(), "two operations of one name");
        for o in OPERATIONS {
            assert_eq!(Operation::of_grpc(&format!("{PACKAGE}{}", o.grpc)), Some(o));
        }
    }

    #[test]
    fn the_page_of_operations_is_made_of_the_table() {
        let row = |o: &Operation| {
            let wait = if o.wait.is_zero() { String::new() } else { format!("{} s", o.wait.as_secs()) };
            format!("| `{}` | {} | {} | {wait} | `{}` |\n", o.name, o.permission, o.access, o.grpc)
        };
        let rows: String = OPERATIONS.iter().map(row).collect();
        let file = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/operations-table.md");
        let kept = std::fs::read_to_string(&file).unwrap_or_default();
        let head = kept.split("|---|---|---|---|---|\n").next().unwrap_or_default();
        let page = format!("{head}|---|---|---|---|---|\n{rows}");
        assert!(kept == page, "docs/operations-table.md is to end with these rows:\n{rows}");
    }
}
