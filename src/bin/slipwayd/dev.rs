//! `slipwayd dev`: a node, an agent and DNS in one process, with one directory; its instances end with it.
//!
//! Not here: what a node or an agent does.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use clap::Args;
use slipway::{
    agent,
    config::{AgentConfig, AgentLayer, NodeConfig, NodeLayer},
    console,
    node::{Node, NodeEnd},
};
use tokio_util::sync::CancellationToken;

use super::{program, signals};

#[derive(Args)]
pub struct Flags {
    /// Everything is kept here.
    #[arg(long, value_name = "DIRECTORY", default_value = "./.slipway-dev")]
    dir: PathBuf,
    /// Where the CLI reaches it.
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:7652")]
    client_listen: SocketAddr,
    /// Where its DNS listens.
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:8653")]
    dns_listen: SocketAddr,
    /// Where `/readyz` and `/metrics` listen.
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:7653")]
    http_listen: SocketAddr,
    /// Where peers would reach it.
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:7651")]
    peer_listen: SocketAddr,
    /// Addresses for instances; may be repeated.
    #[arg(long, value_name = "ADDRESS[-ADDRESS]", default_value = "127.0.50.1-127.0.50.16")]
    pool: Vec<String>,
}

impl Flags {
    /// The settings of its node and of its agent.
    pub fn read(&self) -> anyhow::Result<(NodeConfig, AgentConfig)> {
        let node = NodeLayer {
            name: Some("dev".into()),
            data_dir: Some(self.dir.join("node")),
            client_listen: Some(self.client_listen),
            dns_listen: Some(self.dns_listen),
            http_listen: Some(self.http_listen),
            peer_listen: Some(self.peer_listen),
            ..NodeLayer::default()
        };
        let worker = AgentLayer {
            name: Some(Some("dev".into())),
            data_dir: Some(self.dir.join("agent")),
            nodes: Some(vec![self.client_listen.to_string()]),
            pool: Some(self.pool.clone()),
            ..AgentLayer::default()
        };
        Ok((NodeConfig::read(None, node)?.config, AgentConfig::read(None, worker)?.config))
    }
}

/// Runs until a signal, or until either ends.
pub async fn run(config: NodeConfig, worker: AgentConfig) -> anyhow::Result<()> {
    let asked = signals()?;
    let (client, dns) = (config.client_listen, config.dns_listen);
    let node = Node::start(config).await?;
    let making = node.init_when_new("dev");
    let stop_node = CancellationToken::new();
    let mut running = tokio::spawn(node.run(stop_node.clone()));
    let dir = worker.data_dir.clone();
    let stop_agent = CancellationToken::new();
    let work = async {
        making.await?;
        say_next(client, dns, worker.pool_addresses()?.len());
        let (program, stop) = (program()?, stop_agent.clone());
        // A runtime of its own: what supervises instances must be over before they are stopped.
        let agent = tokio::task::spawn_blocking(move || {
            let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
            let ended = runtime.block_on(agent::run_until(worker, program, stop.cancelled_owned()));
            runtime.shutdown_timeout(std::time::Duration::from_secs(5));
            anyhow::Ok(ended?)
        });
        agent.await.context("the agent's thread")?
    };
    tokio::pin!(work);
    let ended = tokio::select! {
        () = asked.cancelled() => {
            stop_agent.cancel();
            work.await
        }
        ended = &mut work => ended,
        node = &mut running => {
            stop_agent.cancel();
            work.await?;
            node.context("the node's task")?.context("the node ended").and_then(|end| match end {
                NodeEnd::Asked => Ok(()),
                NodeEnd::Reopen => anyhow::bail!("the disk was full; there is room again: start it again"),
            })
        }
    };
    let drained = stop_instances(&dir).await;
    stop_node.cancel();
    if !running.is_finished() {
        running.await.context("the node's task")??;
    }
    ended.and(drained)
}

/// Instances outlive an agent; with `dev` they end with it.
async fn stop_instances(dir: &Path) -> anyhow::Result<()> {
    if !dir.is_dir() {
        return Ok(());
    }
    console::note("slipwayd dev: stopping instances");
    Ok(agent::drain(dir, program()?).await?)
}

fn say_next(client: SocketAddr, dns: SocketAddr, pool: usize) {
    let (ip, port) = (dns.ip(), dns.port());
    let place = if client.port() == 7652 { String::new() } else { format!("  export SLIPWAY_NODES={client}\n") };
    let text = format!(
        "slipwayd dev runs: one node, one worker with {pool} addresses. In another terminal, with a spec and a directory of yours:\n\n\
         {place}  slipway apply -f SPEC.yaml\n  slipway release push shop 1.0.0 DIRECTORY\n  \
         slipway rollout start production/shop --to 1.0.0 --watch\n  slipway status\n  \
         dig @{ip} -p {port} shop.production.svc.slipway.internal\n\nCtrl-C stops everything, instances too."
    );
    // Not the purpose of this process: it runs on when nobody reads it.
    let _ = console::line(&text);
}
