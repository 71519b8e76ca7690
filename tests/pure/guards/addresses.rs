//! Who may have which address.

use slipway::model::StrategyName;
use slipway::state::{PoolSlot, State, free_addresses};

use super::{Story, shop};

#[test]
fn an_address_goes_to_another_deployment_only_when_every_server_has_let_go_of_it() {
    let mut t = Story::new();
    t.completes("1.0.0", StrategyName::DIRECT);
    t.completes("2.0.0", StrategyName::ROLLING);
    let other = "production/cart".parse().unwrap();
    let w = |s: &State| s.workers.values().next().unwrap().clone();
    let row = w(t.s());
    let freed: Vec<u64> = row
        .pool
        .values()
        .filter_map(|slot| match slot {
            PoolSlot::Free { since, .. } if *since > 0 => Some(*since),
            PoolSlot::Free { .. } | PoolSlot::Used(_) => None,
        })
        .collect();
    assert_eq!(freed.len(), 2);
    let mut late = t.s().clone();
    let mut node = late.nodes[&3].clone();
    node.served = freed[0] - 1;
    late.nodes.insert(3, node);
    assert_eq!(free_addresses(&late, &row, &shop()).len(), 4);
    assert_eq!(free_addresses(&late, &row, &other).len(), 2, "node 3 may still name them");
    assert_eq!(free_addresses(t.s(), &row, &other).len(), 4);
    assert_eq!(free_addresses(t.s(), &row, &shop()).first().map(String::as_str), Some("127.1.1.5"), "the queue's head");
}
