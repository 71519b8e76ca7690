//! Deliveries the leader owes: made by the step that needs them, forgotten with it.
//!
//! Not here: their end (`delivery_settled`).

use crate::state::{base::prelude::*, fleet::serving};

/// Queues the smoke test of a step's attempt: every candidate that serves is asked.
pub(in crate::state) fn queue_smoke(cx: &mut Cx<'_>, r: &Rollout, step: u32, path: &str) -> Done {
    let Some(row) = r.steps.get(step as usize) else { return guard("no such step") };
    let limit = cx.settings().limits.outbox;
    if cx.s.outbox.len() >= limit as usize {
        return Err(Rejection::Exhausted {
            what: "undelivered hooks".into(),
            limit: u64::from(limit),
            fix: "wait until some are settled".into(),
        });
    }
    let port = cx.s.spec(&r.deployment, r.to.spec).and_then(|s| s.check_port());
    let targets: Vec<String> = serving::serving(cx.s, &r.deployment, cx.now())
        .into_iter()
        .filter(|i| i.pair == r.to)
        .filter_map(|i| Some(target(&i.address, port?)))
        .collect();
    if targets.is_empty() {
        return guard("no candidate serves that could be asked");
    }
    let key = DeliveryKey { index: cx.at.index, ordinal: cx.next_delivery() };
    let expires = row.deadline.unwrap_or_else(|| cx.now().plus(r.params.deadline));
    let row = Delivery {
        meta: cx.new_meta(),
        path: path.into(),
        targets,
        rollout: r.id,
        step,
        attempt: row.attempt,
        expires,
    };
    cx.s.outbox.insert(key, row);
    Ok(())
}

fn target(address: &str, port: u16) -> String {
    if address.contains(':') { format!("[{address}]:{port}") } else { format!("{address}:{port}") }
}

/// Forgets what a rollout still had to deliver: its step is over.
pub(in crate::state) fn drop_of(cx: &mut Cx<'_>, rollout: RolloutId) {
    let keys: Vec<DeliveryKey> = cx.s.outbox.iter().filter(|(_, d)| d.rollout == rollout).map(|(k, _)| *k).collect();
    for key in keys {
        cx.s.outbox.remove(&key);
    }
}
