//! Flags of the verbs about the cluster and its nodes.

use super::*;

#[derive(Debug, Subcommand)]
pub enum ClusterVerb {
    /// Make a new cluster of the node at --node
    #[command(after_help = "Example:\n  slipway cluster init --name shop --node 10.0.0.1:7652")]
    Init {
        /// The cluster's name
        #[arg(long, default_value = "slipway", value_name = "NAME")]
        name: String,
        /// DNS zone [default: slipway.internal]
        #[arg(long, value_name = "ZONE")]
        zone: Option<String>,
    },
    /// Make the node at --node join the cluster of another node
    #[command(after_help = "Example:\n  slipway cluster join 10.0.0.1:7652 --node 10.0.0.2:7652")]
    Join {
        /// Client address of any member
        #[arg(value_name = "HOST:PORT", value_hint = ValueHint::Hostname)]
        seed: String,
    },
    /// Who is in it, who leads, how far everyone is
    #[command(visible_alias = "show", after_help = "Example:\n  slipway cluster status -o wide")]
    Status,
    /// Ask every node for a digest of its State: do all replicas agree?
    #[command(after_help = "Example:\n  slipway cluster digest")]
    Digest,
    /// Make the node at --node write a snapshot of its log now, and drop what it covers
    #[command(after_help = "Example:\n  slipway cluster snapshot --all")]
    Snapshot {
        /// Every node of the cluster
        #[arg(long)]
        all: bool,
    },
    /// Take a backup of everything from a running node: the state and all packages, in one file
    #[command(after_help = "Example:\n  slipway cluster backup slipway.backup")]
    Backup {
        /// Where to; it must not exist
        #[arg(value_name = "FILE", value_hint = ValueHint::FilePath)]
        file: std::path::PathBuf,
        /// Leave packages out: releases must be pushed again after a restore
        #[arg(long, visible_alias = "without-blobs")]
        without_packages: bool,
    },
    /// Make a new cluster of one node on this machine from a backup (runs `slipwayd restore`)
    #[command(
        after_help = "Example:\n  slipway cluster restore slipway.backup --name n1 --data-dir /var/lib/slipway/n1"
    )]
    Restore {
        /// A backup, as `cluster backup` makes it
        #[arg(value_name = "FILE", value_hint = ValueHint::FilePath)]
        file: std::path::PathBuf,
        /// Flags of the new node, as for `slipwayd node`: --config FILE, or --name NAME --data-dir DIRECTORY ...; see
        /// `slipwayd restore --help`
        #[arg(trailing_var_arg = true, allow_hyphen_values = true, required = true, value_name = "FLAGS")]
        flags: Vec<std::ffi::OsString>,
    },
    /// Check a backup or a stopped node's data directory (runs `slipwayd check`)
    #[command(after_help = "Example:\n  slipway cluster check slipway.backup")]
    Check {
        /// A file or a directory
        #[arg(value_name = "PATH", value_hint = ValueHint::AnyPath)]
        path: std::path::PathBuf,
    },
    /// Hand leadership to another node
    #[command(after_help = "Example:\n  slipway cluster transfer-leader --to n2")]
    TransferLeader {
        /// Name or id of a node; any other voter when absent
        #[arg(long, value_name = "NODE", add = complete::nodes())]
        to: Option<String>,
    },
    /// Remove a node for ever; its data directory cannot come back
    #[command(after_help = "Example:\n  slipway cluster leave n3 --yes")]
    Leave {
        /// Name or id of a member
        #[arg(value_name = "MEMBER", add = complete::nodes())]
        member: String,
        /// Also when it holds the last copy of a package: its releases must be pushed again
        #[arg(long)]
        lose_packages: bool,
        #[command(flatten)]
        sure: Sure,
    },
    /// Take a node out for maintenance: it hands leadership over, does not lead and is not ready, until --undo
    #[command(after_help = "Examples:\n  slipway cluster drain n3\n  slipway cluster drain n3 --undo")]
    Drain {
        /// Name or id of a member; the node at --node when absent
        #[arg(value_name = "MEMBER", add = complete::nodes())]
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
    #[command(after_help = "Example:\n  slipway cluster dns-cookie rotate")]
    Rotate,
}

#[derive(Debug, Subcommand)]
pub enum UpgradeVerb {
    /// The active feature level, and what each node's program supports
    #[command(visible_alias = "show", after_help = "Example:\n  slipway cluster upgrade status")]
    Status,
    /// Raise the feature level by one; older programs cannot come back after it
    #[command(after_help = "Example:\n  slipway cluster upgrade finalize --yes")]
    Finalize(Sure),
}

#[derive(Debug, Subcommand)]
pub enum NodeVerb {
    /// List nodes
    #[command(visible_alias = "ls", after_help = "Example:\n  slipway node list -o wide")]
    List,
    /// One node: where it listens, how far it is
    #[command(visible_alias = "status", after_help = "Example:\n  slipway node show n1")]
    Show {
        /// Name or id of a member
        #[arg(value_name = "NODE", add = complete::nodes())]
        name: String,
    },
    /// Put a new node in a dead one's place: the new one joins, then the dead one is removed. May be run again
    #[command(after_help = "Example:\n  slipway node replace n3 --with 10.0.0.4:7652 --yes")]
    Replace {
        /// Name or id of the node to remove
        #[arg(value_name = "DEAD", add = complete::nodes())]
        dead: String,
        /// Client address of the new node, which runs on an empty data directory
        #[arg(long, value_name = "HOST:PORT", value_hint = ValueHint::Hostname)]
        with: String,
        /// Also when the dead one holds the last copy of a package: its releases must be pushed again
        #[arg(long)]
        lose_packages: bool,
        #[command(flatten)]
        sure: Sure,
    },
}
