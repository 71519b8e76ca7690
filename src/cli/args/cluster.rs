//! Flags of the verbs about the cluster and its nodes.

use super::*;

#[derive(Debug, Subcommand)]
pub enum ClusterVerb {
    /// Make a new cluster of the node at --node
    Init {
        /// The cluster's name
        #[arg(long, default_value = "slipway")]
        name: String,
        /// DNS zone [default: slipway.internal]
        #[arg(long)]
        zone: Option<String>,
    },
    /// Make the node at --node join the cluster of another node
    Join {
        /// Client address of any member
        #[arg(value_name = "MEMBER")]
        seed: String,
    },
    /// Who is in it, who leads, how far everyone is
    Status,
    /// Ask every node for a digest of its State: do all replicas agree?
    Digest,
    /// Make the node at --node write a snapshot of its log now, and drop what it covers
    Snapshot {
        /// Every node of the cluster
        #[arg(long)]
        all: bool,
    },
    /// Take a backup of everything from a running node: the state and all packages, in one file
    Backup {
        /// Where to; it must not exist
        file: std::path::PathBuf,
        /// Leave packages out: releases must be pushed again after a restore
        #[arg(long, visible_alias = "without-blobs")]
        without_packages: bool,
    },
    /// Make a new cluster of one node on this machine from a backup (runs `slipwayd restore`)
    Restore {
        /// A backup
        file: std::path::PathBuf,
        /// Flags of the new node, as for `slipwayd node`: --config FILE, or --name NAME --data-dir DIRECTORY ...; see `slipwayd restore --help`
        #[arg(trailing_var_arg = true, allow_hyphen_values = true, required = true, value_name = "FLAGS")]
        flags: Vec<std::ffi::OsString>,
    },
    /// Check a backup or a stopped node's data directory (runs `slipwayd check`)
    Check {
        /// A file or a directory
        path: std::path::PathBuf,
    },
    /// Hand leadership to another node
    TransferLeader {
        /// Name or id of a node; any other voter when absent
        #[arg(long, value_name = "NODE")]
        to: Option<String>,
    },
    /// Remove a node for ever; its data directory cannot come back
    Leave {
        /// Name or id of a member; the node at --node when absent
        #[arg(value_name = "MEMBER")]
        member: Option<String>,
        /// Also when it holds the last copy of a package: its releases must be pushed again
        #[arg(long)]
        lose_packages: bool,
    },
    /// Take a node out for maintenance: it hands leadership over, does not lead and is not ready, until --undo
    Drain {
        /// Name or id of a member; the node at --node when absent
        #[arg(value_name = "MEMBER")]
        member: Option<String>,
        /// Take it back
        #[arg(long)]
        undo: bool,
    },
    /// Feature levels: what nodes support, and raising the active one
    #[command(subcommand)]
    Upgrade(UpgradeVerb),
    /// The secret of DNS cookies that all nodes share
    #[command(subcommand)]
    DnsCookie(DnsCookieVerb),
}

#[derive(Debug, Subcommand)]
pub enum DnsCookieVerb {
    /// Make up another secret now; cookies of the one before are good for another hour
    Rotate,
}

#[derive(Debug, Subcommand)]
pub enum UpgradeVerb {
    /// The active feature level, and what each node's program supports
    Status,
    /// Raise the feature level by one; older programs cannot come back after it
    Finalize,
}

#[derive(Debug, Subcommand)]
pub enum NodeVerb {
    /// List them
    #[command(visible_alias = "ls")]
    List,
    /// Put a new node in a dead one's place: the new one joins, then the dead one is removed. May be run again
    Replace {
        /// Name or id of the node to remove
        #[arg(value_name = "DEAD")]
        dead: String,
        /// Client address of the new node, which runs on an empty data directory
        #[arg(long, value_name = "HOST:PORT")]
        with: String,
        /// Also when the dead one holds the last copy of a package: its releases must be pushed again
        #[arg(long)]
        lose_packages: bool,
    },
}
