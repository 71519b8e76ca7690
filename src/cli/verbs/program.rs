//! `version` and `man`: this program itself.

use std::path::Path;

use serde::Serialize;

use crate::{
    cli::{CliError, Session, args, error::DONE, output::Output, render::or_dash},
    console::{self, table},
    wire::v1,
};

/// A node's program.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(in crate::cli) struct NodeVersion {
    node: String,
    /// Of its program; empty: not known.
    version: String,
    min_level: u32,
    max_level: u32,
}

/// What runs where.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(in crate::cli) struct Versions {
    /// This program's version and commit.
    client: &'static str,
    /// Active feature level; 0: not known.
    level: u32,
    /// Members that were not removed.
    nodes: Vec<NodeVersion>,
}

/// This program's version is said whether a node answers or not.
pub async fn version(s: &Session) -> Result<u8, CliError> {
    let asked = s.client.status().await;
    let (level, nodes) = match &asked {
        Ok(status) => (status.level, status.nodes.iter().filter(|n| n.role != "removed").map(of).collect()),
        Err(e) => {
            console::note(&format!("the nodes' versions are not known: {e}"));
            (0, Vec::new())
        }
    };
    let all = Versions { client: args::version(), level, nodes };
    s.out.show(&all, |v| {
        let mut text = format!("slipway {}", v.client);
        if v.level > 0 {
            let row =
                |n: &NodeVersion| vec![n.node.clone(), or_dash(&n.version), format!("{}-{}", n.min_level, n.max_level)];
            let rows = v.nodes.iter().map(row).collect();
            text += &format!(
                "\ncluster at feature level {}\n\n{}",
                v.level,
                table(&["NODE", "VERSION", "LEVELS"], rows, "")
            );
        }
        text
    })?;
    Ok(DONE)
}

fn of(n: &v1::Node) -> NodeVersion {
    NodeVersion { node: n.name.clone(), version: n.version.clone(), min_level: n.min_level, max_level: n.max_level }
}

/// Writes the man pages.
pub fn man(out: &Output, dir: &Path) -> Result<u8, CliError> {
    let failed = |source| CliError::Failed(format!("cannot write into {}: {source}", dir.display()));
    clap_mangen::generate_to(args::definition(), dir).map_err(failed)?;
    out.line(&format!("written; `man {}` is where to begin", dir.join("slipway.1").display()))?;
    Ok(DONE)
}
