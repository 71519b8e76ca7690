//! `dns trace` explains the answer to a name; `dns query` asks every node for it and shows the answers side by side.
//!
//! Not here: how a node explains (`dns::trace`).

use std::{net::SocketAddr, time::Duration};

use hickory_proto::{
    op::{Edns, Message, Query, ResponseCode},
    rr::{Name, RecordType},
};
use serde::Serialize;
use tokio::{net::UdpSocket, time::timeout};

use super::cluster::node_id;
use crate::{
    cli::{
        CliError, Session,
        args::{DnsQueryArgs, DnsTraceArgs, DnsVerb},
        error::{DONE, FAILED},
        render,
    },
    client::{Client, Limits},
    console::{self, table},
    probe,
    wire::v1,
};

/// Longest wait for one server.
const PATIENCE: Duration = Duration::from_secs(2);
const PAYLOAD: u16 = 1232;

pub async fn run(s: &Session, verb: DnsVerb) -> Result<u8, CliError> {
    match verb {
        DnsVerb::Trace(args) => trace(s, args).await,
        DnsVerb::Query(args) => query(s, &args).await,
    }
}

/// The DNS name that a person means: it as it is, or that of a deployment.
async fn full(s: &Session, name: &str) -> Result<String, CliError> {
    if name.contains('.') {
        return Ok(name.trim_end_matches('.').to_string());
    }
    let deployment = s.deployment_id(name)?;
    Ok(s.client.route(v1::GetRouteRequest { deployment }).await?.dns_name)
}

/// A deployment's route, with what the DNS of all nodes that can be reached has answered. Clients of several nodes are
/// one, so the largest number of them and the largest spread stand for all.
pub(super) async fn everywhere(s: &Session, deployment: String) -> Result<v1::GetRouteReply, CliError> {
    let request = v1::GetRouteRequest { deployment };
    let mut reply = s.client.route(request.clone()).await?;
    let status = s.client.status().await?;
    for share in &mut reply.shares {
        share.answer_count = 0;
    }
    for node in status.nodes.into_iter().filter(|n| n.role != "removed") {
        // Its own State is what its DNS answers from: no leader needs to confirm it.
        let limits = Limits { stale: true, ..s.limits };
        let seen =
            async { Client::new(&[node.client_addr], limits, s.client.clock().clone())?.route(request.clone()).await };
        let Ok(Ok(seen)) = timeout(PATIENCE, seen).await else {
            console::note(&format!("{} cannot be reached: its answers are not counted", node.name));
            continue;
        };
        if seen.generation != reply.generation {
            continue;
        }
        for share in &mut reply.shares {
            let same = |x: &&v1::VersionShare| x.role == share.role && x.version == share.version;
            share.answer_count += seen.shares.iter().find(same).map_or(0, |x| x.answer_count);
        }
        reply.clients = reply.clients.max(seen.clients);
        reply.largest_client_bp = reply.largest_client_bp.max(seen.largest_client_bp);
        reply.spread_bp = reply.spread_bp.max(seen.spread_bp);
    }
    let all: u64 = reply.shares.iter().map(|s| s.answer_count).sum();
    for share in &mut reply.shares {
        let bp = share.answer_count.saturating_mul(10_000).checked_div(all);
        share.answered_bp = bp.and_then(|bp| u32::try_from(bp).ok());
    }
    Ok(reply)
}

async fn trace(s: &Session, args: DnsTraceArgs) -> Result<u8, CliError> {
    let name = full(s, &args.name).await?;
    let from = args.from.map(|ip| ip.to_string()).unwrap_or_default();
    let request = v1::TraceRequest { name, from, key: args.key.unwrap_or_default() };
    let reply = match args.on {
        None => s.client.trace(request).await?,
        Some(node) => {
            let nodes = s.client.status().await?.nodes;
            let id = node_id(&nodes, &node)?;
            let address = nodes.into_iter().find(|n| n.node_id == id).map(|n| n.client_addr).unwrap_or_default();
            Client::new(&[address], s.limits, s.client.clock().clone())?.trace(request).await?
        }
    };
    s.out.show(&reply, |t| render::trace(t, s.out.wide()))?;
    Ok(if reply.outcome == "answer" { DONE } else { FAILED })
}

/// What one node's DNS says.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(in crate::cli) struct DnsAnswer {
    node: String,
    node_id: u64,
    /// Its DNS address.
    server: String,
    /// NOERROR, NXDOMAIN and others, as DNS programs write them; empty: it did not answer.
    rcode: String,
    /// The shortest of the records; null: there is none.
    ttl_s: Option<u32>,
    /// What the records say, sorted.
    answers: Vec<String>,
    /// How long the answer took; 0: there is none.
    took_us: u64,
    incarnation: u64,
    generation: u64,
    applied_index: u64,
    /// Whether another node serves a newer generation of the route.
    behind: bool,
    /// What kept it from answering; empty: nothing.
    problem: String,
}

/// What the DNS of all nodes says of a name.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(in crate::cli) struct DnsAnswers {
    dns_name: String,
    /// Record type, such as A.
    kind: String,
    /// One a node.
    servers: Vec<DnsAnswer>,
}

async fn query(s: &Session, args: &DnsQueryArgs) -> Result<u8, CliError> {
    let name = full(s, &args.name).await?;
    let asked = Name::from_ascii(format!("{name}."))
        .map_err(|e| CliError::Usage(format!("{name:?} is not a DNS name: {e}")))?;
    let kind: RecordType = args.kind.to_ascii_uppercase().parse().map_err(|_| {
        CliError::Usage(format!("--type {:?} is not a record type such as A, AAAA, SRV or TXT", args.kind))
    })?;
    let mut servers = Vec::new();
    for node in s.client.status().await?.nodes.into_iter().filter(|n| n.role != "removed") {
        servers.push(one(s, node, &asked, kind).await);
    }
    let newest = servers.iter().map(|x| (x.incarnation, x.generation)).max().unwrap_or_default();
    for x in &mut servers {
        x.behind = (x.incarnation, x.generation) < newest;
    }
    let failed = servers.iter().any(|x| x.behind || !x.problem.is_empty());
    let all = DnsAnswers { dns_name: name, kind: kind.to_string(), servers };
    s.out.show(&all, shown)?;
    Ok(if failed { FAILED } else { DONE })
}

async fn one(s: &Session, node: v1::Node, name: &Name, kind: RecordType) -> DnsAnswer {
    let mut said = DnsAnswer {
        node: node.name,
        node_id: node.node_id,
        server: node.dns_addr.clone(),
        rcode: String::new(),
        ttl_s: None,
        answers: Vec::new(),
        took_us: 0,
        incarnation: 0,
        generation: 0,
        applied_index: 0,
        behind: false,
        problem: String::new(),
    };
    let text = name.to_ascii();
    let request = v1::TraceRequest { name: text.trim_end_matches('.').into(), ..v1::TraceRequest::default() };
    let seen = async { Client::new(&[node.client_addr], s.limits, s.client.clock().clone())?.trace(request).await };
    match timeout(PATIENCE, seen).await {
        Ok(Ok(t)) => {
            (said.incarnation, said.generation, said.applied_index) = (t.incarnation, t.generation, t.applied_index)
        }
        Ok(Err(e)) => said.problem = e.to_string(),
        Err(_) => said.problem = "its API does not answer".into(),
    }
    let begun = s.client.clock().micros();
    match timeout(PATIENCE, ask(&node.dns_addr, name, kind)).await {
        Ok(Ok(m)) => {
            said.took_us = s.client.clock().micros().saturating_sub(begun);
            said.rcode = mnemonic(m.metadata.response_code);
            said.ttl_s = m.answers.iter().map(|r| r.ttl).min();
            said.answers = m.answers.iter().map(|r| r.data.to_string()).collect();
            said.answers.sort();
        }
        Ok(Err(e)) => said.problem = format!("its DNS at {}: {e}", node.dns_addr),
        Err(_) => said.problem = format!("its DNS at {} says nothing", node.dns_addr),
    }
    said
}

/// A response code as DNS programs write it.
fn mnemonic(code: ResponseCode) -> String {
    match code {
        ResponseCode::NoError => "NOERROR".into(),
        ResponseCode::FormErr => "FORMERR".into(),
        ResponseCode::ServFail => "SERVFAIL".into(),
        ResponseCode::NXDomain => "NXDOMAIN".into(),
        ResponseCode::NotImp => "NOTIMP".into(),
        ResponseCode::Refused => "REFUSED".into(),
        other => format!("RCODE{}", u16::from(other)),
    }
}

async fn ask(server: &str, name: &Name, kind: RecordType) -> std::io::Result<Message> {
    let server: SocketAddr = server.parse().map_err(std::io::Error::other)?;
    let mut query = Message::query();
    query.add_query(Query::query(name.clone(), kind));
    let mut edns = Edns::new();
    edns.set_max_payload(PAYLOAD);
    query.set_edns(edns);
    let bytes = query.to_vec().map_err(std::io::Error::other)?;
    let any: SocketAddr = if server.is_ipv4() { ([0; 4], 0).into() } else { ([0_u16; 8], 0).into() };
    let socket = UdpSocket::bind(any).await?;
    socket.connect(server).await?;
    socket.send(&bytes).await?;
    let mut buffer = vec![0; usize::from(PAYLOAD)];
    loop {
        let n = socket.recv(&mut buffer).await?;
        let Ok(answer) = Message::from_vec(&buffer[..n]) else { continue };
        if answer.metadata.id != query.metadata.id {
            continue;
        }
        if !answer.metadata.truncation {
            return Ok(answer);
        }
        let bytes = probe::ask_tcp(server, &bytes).await?;
        return Message::from_vec(&bytes).map_err(std::io::Error::other);
    }
}

fn shown(all: &DnsAnswers) -> String {
    let row = |x: &DnsAnswer| {
        let what = match (x.problem.as_str(), x.behind) {
            ("", true) => "behind".into(),
            ("", false) => "-".into(),
            (problem, _) => problem.to_string(),
        };
        vec![
            format!("{} ({})", x.node, x.node_id),
            x.server.clone(),
            if x.rcode.is_empty() { "-".into() } else { x.rcode.clone() },
            x.ttl_s.map_or_else(|| "-".into(), |t| format!("{t} s")),
            format!("{}.{}", x.incarnation, x.generation),
            x.applied_index.to_string(),
            format!("{} us", x.took_us),
            x.answers.join(" "),
            what,
        ]
    };
    let header = ["NODE", "SERVER", "RCODE", "TTL", "GENERATION", "INDEX", "TOOK", "ANSWERS", "PROBLEM"];
    format!("{} {}\n\n{}", all.dns_name, all.kind, table(&header, all.servers.iter().map(row).collect(), "no node"))
}
