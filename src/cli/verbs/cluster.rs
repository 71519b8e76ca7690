//! `cluster` and `node`.

use crate::{
    cli::{CliError, Session, args::ClusterVerb, error::DONE, render},
    wire::v1,
};

pub async fn run(s: &Session, verb: ClusterVerb) -> Result<u8, CliError> {
    match verb {
        ClusterVerb::Init { name, zone } => {
            let request = v1::InitRequest { name: name.clone(), zone: zone.unwrap_or_default() };
            let reply = s.client.init(request).await?;
            s.out.show(&reply, |r| {
                let node = s.client.node();
                format!(
                    "cluster {name} ({}) made, {node} is node {}; next, for each other node: \
                     `slipway cluster join {node} --node OTHER`",
                    r.cluster_id, r.node_id
                )
            })?;
        }
        ClusterVerb::Join { seed } => {
            let reply = s.client.join(v1::JoinRequest { seed }).await?;
            s.out.show(&reply, |r| format!("{} joined as node {} ({})", r.name, r.node_id, r.role))?;
        }
        ClusterVerb::Snapshot { all } => return super::backup::snapshot(s, all).await,
        ClusterVerb::Backup { file, without_packages } => {
            return super::backup::backup(s, &file, without_packages).await;
        }
        ClusterVerb::Restore { file, flags } => return super::backup::daemon("restore", &file, &flags).await,
        ClusterVerb::Check { path } => return super::backup::daemon("check", &path, &[]).await,
        ClusterVerb::Status => {
            let reply = s.client.status().await?;
            s.out.show(&reply, render::cluster)?;
        }
        ClusterVerb::Digest => return super::digest::run(s).await,
        ClusterVerb::TransferLeader { to } => {
            let nodes = s.client.status().await?.nodes;
            let to = match to {
                None => 0,
                Some(to) => node_id(&nodes, &to)?,
            };
            let reply = s.client.transfer_leader(v1::TransferLeaderRequest { to }).await?;
            let name = nodes.iter().find(|n| n.id == reply.leader_id).map(|n| n.name.clone());
            let name = name.unwrap_or_else(|| format!("node {}", reply.leader_id));
            s.out.show(&reply, |r| format!("{name} leads (term {})", r.term))?;
        }
    }
    Ok(DONE)
}

/// A node by name or number.
fn node_id(nodes: &[v1::Node], text: &str) -> Result<u64, CliError> {
    let found = nodes.iter().find(|n| n.name == text || n.id.to_string() == text);
    found.map(|n| n.id).ok_or_else(|| {
        let known: Vec<&str> = nodes.iter().map(|n| n.name.as_str()).collect();
        CliError::Usage(format!("there is no node {text:?}: it is one of {}", known.join(", ")))
    })
}

pub async fn nodes(s: &Session) -> Result<u8, CliError> {
    let reply = s.client.status().await?;
    s.out.show(&reply.nodes, |nodes| render::nodes(nodes))?;
    Ok(DONE)
}
