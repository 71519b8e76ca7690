//! The import table: which module of ours may import which. `ARCHITECTURE.md` shows the same table with the reasons,
//! and a test holds the two together.
//!
//! Invariant: the table has no cycle, so the layers are layers.

/// Module, what it may import (itself, std and crates are always allowed).
pub const TABLE: [(&str, &[&str]); 28] = [
    ("model", &[]),
    ("traffic", &["model"]),
    ("flags", &["model"]),
    ("state", &["model", "traffic", "flags"]),
    ("alerts", &["model", "state"]),
    ("engine", &["model", "state", "traffic", "flags"]),
    ("clock", &["model"]),
    ("console", &[]),
    ("supervise", &["clock"]),
    ("config", &["model"]),
    ("wire", &["model", "state"]),
    ("storage", &["model", "wire", "clock", "supervise"]),
    ("raft", &["model", "state", "wire", "storage", "clock", "supervise"]),
    ("observe", &["model", "state", "wire", "clock", "config"]),
    ("archive", &["model"]),
    ("ask", &["model"]),
    ("act", &["model", "state", "wire", "clock", "ask"]),
    ("lead", &["model", "state", "engine", "traffic", "raft", "observe", "act", "clock", "supervise"]),
    ("dns", &["model", "state", "traffic", "flags", "wire", "raft", "storage", "clock", "supervise"]),
    ("api", &["model", "state", "engine", "traffic", "flags", "wire", "raft", "storage", "clock"]),
    ("http", &["model", "state", "traffic", "flags", "wire", "raft", "storage", "clock", "api"]),
    ("rpc", &["model", "state", "wire", "raft", "api"]),
    ("client", &["model", "wire", "clock"]),
    ("agent", &["model", "wire", "clock", "console", "supervise", "config", "client", "archive", "ask"]),
    ("probe", &["model", "clock", "console"]),
    ("demo", &["clock", "config", "console", "probe"]),
    (
        "cli",
        &[
            "model", "state", "engine", "traffic", "wire", "client", "config", "clock", "console", "archive", "probe",
            "demo",
        ],
    ),
    (
        "node",
        &[
            "model",
            "state",
            "engine",
            "traffic",
            "flags",
            "alerts",
            "clock",
            "config",
            "wire",
            "storage",
            "raft",
            "observe",
            "act",
            "lead",
            "dns",
            "api",
            "http",
            "rpc",
            "supervise",
        ],
    ),
];

/// Modules that every replica must compute alike: no clock, randomness, unordered maps, async, environment or files.
pub const PURE: [&str; 6] = ["model", "state", "engine", "traffic", "flags", "alerts"];

/// Crates that one module alone may name: (first segment of the path, where, why).
pub const OWNED: [(&str, &[&str], &str); 7] = [
    ("openraft", &["src/raft/"], "only src/raft may name openraft"),
    ("openraft_rt", &["src/raft/"], "only src/raft may name openraft"),
    ("openraft_rt_tokio", &["src/raft/"], "only src/raft may name openraft"),
    ("openraft_macros", &["src/raft/"], "only src/raft may name openraft"),
    (
        "tonic",
        &[
            "src/rpc/",
            "src/raft/",
            "src/wire/",
            "src/client/",
            "src/node/",
            "src/agent/",
            "src/cli/live/",
            "src/cli/tests/",
        ],
        "an operation (src/api) knows no transport: src/rpc is the skin that names gRPC",
    ),
    ("rocksdb", &["src/storage/"], "only src/storage may name rocksdb"),
    ("anyhow", &["src/bin/"], "anyhow is for src/bin; a module has a thiserror enum of its own"),
];

/// The row of a module, if it has one.
pub fn row(module: &str) -> Option<&'static [&'static str]> {
    TABLE.iter().find(|(name, _)| *name == module).map(|(_, may)| *may)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_names_known_modules() {
        for (module, may) in TABLE {
            for other in may {
                assert!(row(other).is_some(), "{module} may import {other}, which has no row");
            }
        }
        assert!(PURE.iter().all(|m| row(m).is_some()));
    }

    #[test]
    fn layers_have_no_cycle() {
        let mut placed: Vec<&str> = Vec::new();
        while placed.len() < TABLE.len() {
            let free = TABLE.iter().find(|(m, may)| !placed.contains(m) && may.iter().all(|o| placed.contains(o)));
            let (module, _) = free.expect("a cycle in the import table");
            placed.push(module);
        }
    }
}
