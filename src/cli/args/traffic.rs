//! Flags of the verbs about traffic and DNS.

use super::*;

#[derive(Debug, Subcommand)]
pub enum TrafficVerb {
    /// Versions, weights, DNS names and servers of a deployment
    #[command(visible_alias = "status", after_help = "Example:\n  slipway traffic show shop")]
    Show(OnTarget),
    /// Move all traffic of deployments to the version beside the running one, in one entry, and say when no DNS server
    /// answers with the old one any more
    #[command(
        override_usage = "slipway traffic switch --to VERSION [OPTIONS] <DEPLOYMENTS>...\n       slipway traffic switch --back SWITCH [OPTIONS]"
    )]
    #[command(
        after_help = "Examples:\n  slipway traffic switch shop cart --to 1.1.0\n  slipway traffic switch --back s-308"
    )]
    Switch(SwitchArgs),
    /// Switches of traffic so far, newest first
    #[command(after_help = "Example:\n  slipway traffic history shop")]
    History {
        /// Only those of this deployment
        #[arg(value_name = "DEPLOYMENT", add = complete::deployments())]
        deployment: Option<String>,
        /// Only the newest so many
        #[arg(short = 'n', long, value_name = "NUMBER")]
        limit: Option<usize>,
    },
    /// Serving leases: show their settings, or change them
    #[command(
        after_help = "Examples:\n  slipway traffic lease\n  slipway traffic lease --mode always --duration 3s\n  slipway traffic lease shop --on-expiry stale:30s"
    )]
    Lease(LeaseArgs),
    /// Ask DNS and send requests as clients do, and count who answers
    #[command(after_help = "Example:\n  slipway traffic probe shop --rate 50 --clients 100 --duration 30s")]
    Probe(ProbeArgs),
}

#[derive(Debug, Subcommand)]
pub enum DnsVerb {
    /// Why a node answers a name as it does
    #[command(after_help = "Example:\n  slipway dns trace shop --from 10.0.0.7")]
    Trace(DnsTraceArgs),
    /// Ask every node, side by side
    #[command(after_help = "Example:\n  slipway dns query shop --type SRV")]
    Query(DnsQueryArgs),
}

#[derive(Debug, Args)]
pub struct DnsTraceArgs {
    /// DNS name, ENVIRONMENT/SERVICE, or a service in the default environment
    #[arg(value_name = "NAME", add = complete::deployments())]
    pub name: String,
    /// As this client would be answered, whose last look-up may bind the answer
    #[arg(long, value_name = "IP", value_parser = address)]
    pub from: Option<std::net::IpAddr>,
    /// As if k-KEY stood before the name
    #[arg(long, value_name = "KEY")]
    pub key: Option<String>,
    /// Node to ask, by name or id [default: the one that --node reaches]
    #[arg(long, value_name = "NODE", add = complete::nodes())]
    pub on: Option<String>,
}

#[derive(Debug, Args)]
pub struct DnsQueryArgs {
    /// DNS name, ENVIRONMENT/SERVICE, or a service in the default environment
    #[arg(value_name = "NAME", add = complete::deployments())]
    pub name: String,
    /// Record type
    #[arg(long = "type", short = 't', default_value = "A", value_name = "TYPE")]
    pub kind: String,
}

#[derive(Debug, Args)]
pub struct SwitchArgs {
    /// ENVIRONMENT/SERVICE, or services in the default environment
    #[arg(required_unless_present = "back", value_name = "DEPLOYMENTS", add = complete::deployments())]
    pub deployments: Vec<String>,
    /// Version to move to, or `previous`
    #[arg(long, value_name = "VERSION", required_unless_present = "back", conflicts_with = "back", add = complete::versions())]
    pub to: Option<String>,
    /// Take an earlier switch back, as a whole
    #[arg(long, value_name = "SWITCH", conflicts_with = "deployments")]
    pub back: Option<String>,
    /// What to wait for: committed; no server answers with the old version; nor does a cache that keeps to TTLs
    #[arg(long, value_enum, value_name = "WHAT", default_value_t = WaitFor::Fenced)]
    pub wait: WaitFor,
    /// Move nothing when a DNS server does not confirm in time that it knows of the switch
    #[arg(long)]
    pub or_take_back: bool,
    /// How long DNS servers may take to confirm that
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = above_zero)]
    pub within: Period,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, strum::Display)]
#[strum(serialize_all = "snake_case")]
pub enum WaitFor {
    Quorum,
    Fenced,
    Caches,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, strum::Display)]
#[strum(serialize_all = "snake_case")]
pub enum LeaseMode {
    Armed,
    Always,
}

#[derive(Debug, Args)]
pub struct LeaseArgs {
    /// When leases bind: only what is being switched, or every service at all times
    #[arg(long, value_enum, value_name = "MODE")]
    pub mode: Option<LeaseMode>,
    /// How long a lease is
    #[arg(long, value_name = "DURATION", value_parser = above_zero)]
    pub duration: Option<Period>,
    /// How much faster one node's clock may run than another's, parts per million
    #[arg(long, value_name = "PPM", value_parser = clap::value_parser!(u32).range(1..))]
    pub drift: Option<u32>,
    /// What is added where a lease is waited for
    #[arg(long, value_name = "DURATION", value_parser = above_zero)]
    pub margin: Option<Period>,
    /// A deployment, with --on-expiry
    #[arg(requires = "on_expiry", value_name = "DEPLOYMENT", add = complete::deployments())]
    pub deployment: Option<String>,
    /// What a bound deployment answers once the lease is over: fail, stale:DURATION, or default
    #[arg(long, value_name = "POLICY", requires = "deployment")]
    pub on_expiry: Option<String>,
}

#[derive(Debug, Args)]
pub struct ProbeArgs {
    /// ENVIRONMENT/SERVICE, a service in the default environment, or a DNS name
    #[arg(value_name = "NAME", add = complete::deployments())]
    pub name: String,
    /// HTTP requests a second, of all clients together
    #[arg(long, default_value_t = 200, value_name = "NUMBER")]
    pub rate: u32,
    /// Clients, each with its own resolver cache
    #[arg(long, default_value_t = 500, value_name = "NUMBER")]
    pub clients: u32,
    /// How long; until Ctrl-C when absent
    #[arg(long, value_name = "DURATION", value_parser = above_zero)]
    pub duration: Option<Period>,
    /// DNS servers to ask in turn [default: every node's]
    #[arg(long, value_name = "IP:PORT,...", value_delimiter = ',')]
    pub dns: Vec<std::net::SocketAddr>,
    /// Port of the service [default: its port http, or its only one]
    #[arg(long, value_name = "PORT")]
    pub port: Option<u16>,
    /// Path to get
    #[arg(long, default_value = "/", value_name = "PATH")]
    pub path: String,
    /// Print one JSON object at the end; the same as -o json
    #[arg(long)]
    pub json: bool,
    /// Write everything, second by second, to this file as JSON
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub report: Option<std::path::PathBuf>,
}

fn address(text: &str) -> Result<std::net::IpAddr, String> {
    text.parse().map_err(|_| "it must be an IP address, such as 10.0.0.7".to_string())
}
