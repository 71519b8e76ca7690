//! State as a sequence of framed rows, and back: one variant a table. Each frame says the active feature level, so that
//! a program that does not support it refuses the snapshot by number.
//!
//! The head comes first and the end last; the end carries the number of rows, so that a snapshot that lost its tail is
//! refused. What can be derived (`requests_by_expiry`, the indexes of `indexed`) is not written. Digests are made over
//! these rows, and nodes keep and send them. Not here: files and transport.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::state::{
    base::{event::Event, prelude::*},
    store::frame::{CodecError, FrameKind, frame, unframe},
    tables::shares::Shares,
    traffic::key_slots::KeySlots,
};

/// What stands at the top of State.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::state) struct Head {
    now: Millis,
    wall: u64,
    applied: LogId,
    incarnation: u64,
    level: u32,
    cluster: Option<Arc<Cluster>>,
}

/// One row of a table. A new table's variant goes to the end.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(in crate::state) enum Row {
    Head(Head),
    Node(NodeRow),
    Environment(Environment),
    Service(Service),
    Spec(DeploymentId, u64, Arc<Spec>),
    Blob(Digest, Blob),
    Release(Release),
    Deployment(Arc<Deployment>),
    Rollout(Arc<Rollout>),
    Instance(Arc<Instance>),
    Worker(Arc<Worker>),
    Assignment(WorkerName, DeploymentId, Arc<Assignment>),
    Delivery(DeliveryKey, Delivery),
    Request(Principal, RequestId, Arc<Request>),
    Event(Arc<Event>),
    Replicas(Arc<Replicas>),
    Lineage(Vec<ClusterId>),
    Fences(Arc<Fences>),
    Slots(DeploymentId, Arc<KeySlots>),
    Back(Arc<TrafficBack>),
    Cookies(Arc<CookieSecrets>),
    Tombstone(Name, Version, Digest),
    /// The last of a snapshot: how many came before it.
    End {
        rows: u64,
    },
}

/// A table: its name, and its rows in key order, made one by one.
pub(in crate::state) type Table<'a> = (&'static str, Box<dyn Iterator<Item = Row> + 'a>);

fn rows<'a>(name: &'static str, rows: impl IntoIterator<Item = Row, IntoIter: 'a>) -> Table<'a> {
    (name, Box::new(rows.into_iter()))
}

/// All tables but the end, in the order in which they are written.
pub(in crate::state) fn tables(s: &State) -> Vec<Table<'_>> {
    let head = Head {
        now: s.now,
        wall: s.wall,
        applied: s.applied,
        incarnation: s.incarnation,
        level: s.level,
        cluster: s.cluster.clone(),
    };
    let lineage = (!s.lineage.is_empty()).then(|| Row::Lineage(s.lineage.clone()));
    vec![
        rows("head", [Row::Head(head)]),
        rows("nodes", s.nodes.values().cloned().map(Row::Node)),
        rows("environments", s.environments.values().cloned().map(Row::Environment)),
        rows("services", s.services.values().cloned().map(Row::Service)),
        rows("specs", s.specs.shared().map(|((d, r), x)| Row::Spec(d.clone(), *r, x.clone()))),
        rows("blobs", s.blobs.iter().map(|(d, b)| Row::Blob(d.clone(), b.clone()))),
        rows("releases", s.releases.values().cloned().map(Row::Release)),
        rows("deployments", s.deployments.shared().map(|(_, r)| Row::Deployment(r.clone()))),
        rows("rollouts", s.rollouts.shared().map(|(_, r)| Row::Rollout(r.clone()))),
        rows("instances", s.instances.shared().map(|(_, r)| Row::Instance(r.clone()))),
        rows("workers", s.workers.shared().map(|(_, r)| Row::Worker(r.clone()))),
        rows("assignments", s.assignments.shared().map(|((w, d), a)| Row::Assignment(w.clone(), d.clone(), a.clone()))),
        rows("outbox", s.outbox.iter().map(|(k, d)| Row::Delivery(*k, d.clone()))),
        rows("requests", s.requests.shared().map(|((p, r), x)| Row::Request(p.clone(), r.clone(), x.clone()))),
        rows("events", s.events.shared().map(|(_, r)| Row::Event(r.clone()))),
        rows("replicas", (*s.replicas != Replicas::default()).then(|| Row::Replicas(s.replicas.clone()))),
        rows("lineage", lineage),
        rows("fences", (*s.fences != Fences::default()).then(|| Row::Fences(s.fences.clone()))),
        rows("slots", s.slots.shared().map(|(d, x)| Row::Slots(d.clone(), x.clone()))),
        rows("backs", s.backs.shared().map(|(_, x)| Row::Back(x.clone()))),
        rows("tombstones", s.tombstones.iter().map(|((n, v), d)| Row::Tombstone(n.clone(), v.clone(), d.clone()))),
        rows("cookies", (*s.cookies != CookieSecrets::default()).then(|| Row::Cookies(s.cookies.clone()))),
    ]
}

/// Bytes of the whole State.
pub fn encode_snapshot(state: &State) -> Result<Vec<u8>, CodecError> {
    let mut out = Vec::new();
    let mut rows: u64 = 0;
    for (_, table) in tables(state) {
        for row in table {
            out.extend_from_slice(&frame(FrameKind::Row, state.level, &row)?);
            rows = rows.saturating_add(1);
        }
    }
    out.extend_from_slice(&frame(FrameKind::Row, state.level, &Row::End { rows })?);
    Ok(out)
}

/// A State from its bytes; whole or not at all.
pub fn decode_snapshot(bytes: &[u8]) -> Result<State, CodecError> {
    let bad = |text: String| Err(CodecError::Snapshot(text));
    let mut state = State::default();
    let mut shares = Shares::default();
    let mut at = 0usize;
    let mut rows: u64 = 0;
    loop {
        let (row, used) = unframe::<Row>(FrameKind::Row, bytes.get(at..).unwrap_or_default())?;
        at = at.saturating_add(used);
        match row {
            Row::End { rows: said } if said != rows => return bad(format!("{rows} rows instead of {said}")),
            Row::End { .. } if at != bytes.len() => return bad("bytes after the end".into()),
            Row::End { .. } => return Ok(state),
            row => {
                let head = matches!(row, Row::Head(_));
                if head != (rows == 0) {
                    return bad("it does not begin with its one head".into());
                }
                insert(&mut state, &mut shares, row);
            }
        }
        rows = rows.saturating_add(1);
    }
}

fn insert(s: &mut State, shares: &mut Shares, row: Row) {
    match row {
        Row::Head(h) => {
            (s.now, s.wall, s.applied) = (h.now, h.wall, h.applied);
            (s.incarnation, s.level, s.cluster) = (h.incarnation, h.level, h.cluster);
        }
        Row::Node(r) => drop(s.nodes.insert(r.id, r)),
        Row::Environment(r) => drop(s.environments.insert(r.name.clone(), r)),
        Row::Service(r) => drop(s.services.insert(r.name.clone(), r)),
        Row::Spec(d, n, r) => drop(s.specs.insert((d, n), r)),
        Row::Blob(d, r) => drop(s.blobs.insert(d, r)),
        Row::Release(r) => drop(s.releases.insert((r.service.clone(), r.version.clone()), r)),
        Row::Deployment(r) => drop(s.deployments.insert(r.id.clone(), r)),
        Row::Rollout(r) => s.rollouts.insert(r.id, r),
        Row::Instance(mut r) => {
            shares.instance(Arc::make_mut(&mut r));
            s.instances.insert(r.id, r);
        }
        Row::Worker(mut r) => {
            shares.worker(Arc::make_mut(&mut r));
            s.workers.insert(r.name.clone(), r);
        }
        Row::Assignment(mut w, mut d, mut r) => {
            shares.assignment(&mut w, &mut d, Arc::make_mut(&mut r));
            s.assignments.insert((w, d), r);
        }
        Row::Delivery(k, r) => drop(s.outbox.insert(k, r)),
        Row::Request(p, id, r) => {
            s.requests_by_expiry.insert((r.not_after, p.clone(), id.clone()), ());
            s.requests.insert((p, id), r);
        }
        Row::Event(r) => drop(s.events.insert(r.key, r)),
        Row::Replicas(r) => s.replicas = r,
        Row::End { .. } => {}
        Row::Lineage(ids) => s.lineage = ids,
        Row::Fences(r) => s.fences = r,
        Row::Slots(d, r) => drop(s.slots.insert(d, r)),
        Row::Back(r) => drop(s.backs.insert(r.rollout, r)),
        Row::Cookies(r) => s.cookies = r,
        Row::Tombstone(n, v, d) => drop(s.tombstones.insert((n, v), d)),
    }
}
