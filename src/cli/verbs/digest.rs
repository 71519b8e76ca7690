//! `cluster digest`: whether all nodes hold the same State. Exit code 1 when one differs or no majority agrees.

use crate::{
    cli::{
        CliError, Session,
        error::{DONE, FAILED},
    },
    wire::v1,
};

pub async fn run(s: &Session) -> Result<u8, CliError> {
    let reply = s.client.digest(v1::DigestRequest {}).await?;
    let good = reply.agreed && reply.nodes.iter().all(|n| n.differs.is_empty());
    s.out.show(&reply, text)?;
    Ok(if good { DONE } else { FAILED })
}

fn text(r: &v1::DigestReply) -> String {
    let mut lines = vec![match (r.agreed, r.split_tables.is_empty()) {
        (true, _) => format!("index {}: a majority agrees", r.index),
        (false, true) => format!("index {}: too few nodes have reported to tell", r.index),
        (false, false) => {
            format!("index {}: NO MAJORITY AGREES, rollouts are frozen; table {}", r.index, r.split_tables.join(", "))
        }
    }];
    for n in &r.nodes {
        let word = if !n.differs.is_empty() {
            format!("DIFFERS at index {}, table {}: it serves nothing", n.differs_since, n.differs.join(", "))
        } else if !n.reported {
            "no report".to_string()
        } else {
            n.digest.clone()
        };
        lines.push(format!("  {} (node {}): {word}", n.node, n.node_id));
    }
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_the_node_the_index_and_the_table() {
        let odd = v1::NodeDigest {
            node_id: 3,
            node: "n3".into(),
            differs: vec!["services".into()],
            differs_since: 90,
            ..Default::default()
        };
        let said = text(&v1::DigestReply { index: 95, nodes: vec![odd], agreed: true, split_tables: vec![] });
        assert!(said.contains("n3 (node 3): DIFFERS at index 90, table services"), "{said}");
    }
}
