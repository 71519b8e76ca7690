//! State as a sequence of framed rows, and back. One variant a table and version; old variants stay readable.
//!
//! The head comes first and the end last; the end carries the number of rows, so that a snapshot that lost its tail is refused.
//! What can be derived (`requests_by_expiry`, the indexes of `indexed`) is not written. Digests are made over these rows, and
//! nodes keep and send them. Not here: files and transport.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{
    Assignment, Blob, Cluster, CookieSecrets, Delivery, DeliveryKey, Deployment, Environment, Event, EventBody, Fences,
    Instance, KeySlots, LogId, Meta, NodeRole, NodeRow, Release, Replicas, Request, Rollout, Service, State,
    TrafficBack, Worker,
    codec::{CodecError, Kind, Leveled, frame, unframe},
    shares::Shares,
};
use crate::model::{ClusterId, DeploymentId, Digest, Millis, NodeId, Principal, RequestId, Spec, WorkerName};

/// What stands at the top of State.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Head {
    now: Millis,
    wall: u64,
    applied: LogId,
    incarnation: u64,
    level: u32,
    cluster: Option<Arc<Cluster>>,
}

/// One row. Variants are only ever added at the end.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) enum Row {
    HeadV1(Head),
    NodeV1(NodeRowV1),
    EnvironmentV1(Environment),
    ServiceV1(Service),
    SpecV1(DeploymentId, u64, Arc<Spec>),
    BlobV1(Digest, Blob),
    ReleaseV1(Release),
    DeploymentV1(Arc<Deployment>),
    RolloutV1(Arc<Rollout>),
    InstanceV1(Arc<Instance>),
    WorkerV1(Arc<Worker>),
    AssignmentV1(WorkerName, DeploymentId, Arc<Assignment>),
    DeliveryV1(DeliveryKey, Delivery),
    RequestV1(Principal, RequestId, Arc<Request>),
    EventV1(Arc<Event>),
    EndV1 { rows: u64 },
    ReplicasV1(Arc<Replicas>),
    LineageV1(Vec<ClusterId>),
    NodeV2(NodeRow),
    FencesV1(Arc<Fences>),
    SlotsV1(DeploymentId, Arc<KeySlots>),
    BackV1(Arc<TrafficBack>),
    CookiesV1(Arc<CookieSecrets>),
}

/// A node's row as feature level 1 writes it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct NodeRowV1 {
    meta: Meta,
    id: NodeId,
    name: String,
    peer_addr: String,
    client_addr: String,
    dns_addr: String,
    level: u32,
    role: NodeRole,
    silent_since: Option<Millis>,
    served: u64,
}

impl From<&NodeRow> for NodeRowV1 {
    fn from(n: &NodeRow) -> Self {
        Self {
            meta: n.meta.clone(),
            id: n.id,
            name: n.name.clone(),
            peer_addr: n.peer_addr.clone(),
            client_addr: n.client_addr.clone(),
            dns_addr: n.dns_addr.clone(),
            level: n.level,
            role: n.role,
            silent_since: n.silent_since,
            served: n.served,
        }
    }
}

impl From<NodeRowV1> for NodeRow {
    fn from(n: NodeRowV1) -> Self {
        Self {
            meta: n.meta,
            id: n.id,
            name: n.name,
            peer_addr: n.peer_addr,
            client_addr: n.client_addr,
            dns_addr: n.dns_addr,
            level: n.level,
            role: n.role,
            silent_since: n.silent_since,
            served: n.served,
            version: String::new(),
            min_level: 1,
            drained: false,
        }
    }
}

/// The newest form of a node's row that the active level allows. What level 1 has no room for, `apply` does not set there.
fn node_row(level: u32, n: &NodeRow) -> Row {
    if level >= 2 { Row::NodeV2(n.clone()) } else { Row::NodeV1(n.into()) }
}

impl Leveled for Row {
    fn level(&self) -> u16 {
        let newer = |e: &Event| matches!(e.body, EventBody::SwitchChanged { .. } | EventBody::TrafficBack { .. });
        let second = matches!(
            self,
            Self::NodeV2(_) | Self::FencesV1(_) | Self::SlotsV1(..) | Self::BackV1(_) | Self::CookiesV1(_)
        ) || matches!(self, Self::EventV1(e) if newer(e));
        if second { 2 } else { 1 }
    }
}

/// A table: its name, and its rows in key order, made one by one.
pub(super) type Table<'a> = (&'static str, Box<dyn Iterator<Item = Row> + 'a>);

fn rows<'a>(name: &'static str, rows: impl IntoIterator<Item = Row, IntoIter: 'a>) -> Table<'a> {
    (name, Box::new(rows.into_iter()))
}

/// All tables but the end, in the order in which they are written.
pub(super) fn tables(s: &State) -> Vec<Table<'_>> {
    let head = Head {
        now: s.now,
        wall: s.wall,
        applied: s.applied,
        incarnation: s.incarnation,
        level: s.level,
        cluster: s.cluster.clone(),
    };
    let lineage = (!s.lineage.is_empty()).then(|| Row::LineageV1(s.lineage.clone()));
    let mut all = vec![
        rows("head", [Row::HeadV1(head)]),
        rows("nodes", s.nodes.values().map(|n| node_row(s.level, n))),
        rows("environments", s.environments.values().cloned().map(Row::EnvironmentV1)),
        rows("services", s.services.values().cloned().map(Row::ServiceV1)),
        rows("specs", s.specs.iter().map(|((d, r), x)| Row::SpecV1(d.clone(), *r, x.clone()))),
        rows("blobs", s.blobs.iter().map(|(d, b)| Row::BlobV1(d.clone(), b.clone()))),
        rows("releases", s.releases.values().cloned().map(Row::ReleaseV1)),
        rows("deployments", s.deployments.shared().map(|(_, r)| Row::DeploymentV1(r.clone()))),
        rows("rollouts", s.rollouts.shared().map(|(_, r)| Row::RolloutV1(r.clone()))),
        rows("instances", s.instances.shared().map(|(_, r)| Row::InstanceV1(r.clone()))),
        rows("workers", s.workers.shared().map(|(_, r)| Row::WorkerV1(r.clone()))),
        rows(
            "assignments",
            s.assignments.shared().map(|((w, d), a)| Row::AssignmentV1(w.clone(), d.clone(), a.clone())),
        ),
        rows("outbox", s.outbox.iter().map(|(k, d)| Row::DeliveryV1(*k, d.clone()))),
        rows("requests", s.requests.shared().map(|((p, r), x)| Row::RequestV1(p.clone(), r.clone(), x.clone()))),
        rows("events", s.events.shared().map(|(_, r)| Row::EventV1(r.clone()))),
        // Absent before the first probe, as it was before there were probes.
        rows("replicas", (*s.replicas != Replicas::default()).then(|| Row::ReplicasV1(s.replicas.clone()))),
        rows("lineage", lineage),
    ];
    // A table that only nodes of level 2 know is not there before it has a row: digests of both must agree.
    if *s.fences != Fences::default() {
        all.push(rows("fences", [Row::FencesV1(s.fences.clone())]));
    }
    if !s.slots.is_empty() {
        all.push(rows("slots", s.slots.shared().map(|(d, x)| Row::SlotsV1(d.clone(), x.clone()))));
    }
    if !s.backs.is_empty() {
        all.push(rows("backs", s.backs.shared().map(|(_, x)| Row::BackV1(x.clone()))));
    }
    if *s.cookies != CookieSecrets::default() {
        all.push(rows("cookies", [Row::CookiesV1(s.cookies.clone())]));
    }
    all
}

/// Bytes of the whole State.
pub fn encode_snapshot(state: &State) -> Result<Vec<u8>, CodecError> {
    let mut out = Vec::new();
    let mut rows: u64 = 0;
    for (_, table) in tables(state) {
        for row in table {
            out.extend_from_slice(&frame(Kind::Row, &row)?);
            rows = rows.saturating_add(1);
        }
    }
    out.extend_from_slice(&frame(Kind::Row, &Row::EndV1 { rows })?);
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
        let (row, used) = unframe::<Row>(Kind::Row, bytes.get(at..).unwrap_or_default())?;
        at = at.saturating_add(used);
        match row {
            Row::EndV1 { rows: said } if said != rows => return bad(format!("{rows} rows instead of {said}")),
            Row::EndV1 { .. } if at != bytes.len() => return bad("bytes after the end".into()),
            Row::EndV1 { .. } => return Ok(state),
            row => {
                let head = matches!(row, Row::HeadV1(_));
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
        Row::HeadV1(h) => {
            (s.now, s.wall, s.applied) = (h.now, h.wall, h.applied);
            (s.incarnation, s.level, s.cluster) = (h.incarnation, h.level, h.cluster);
        }
        Row::NodeV1(r) => drop(s.nodes.insert(r.id, r.into())),
        Row::NodeV2(r) => drop(s.nodes.insert(r.id, r)),
        Row::EnvironmentV1(r) => drop(s.environments.insert(r.name.clone(), r)),
        Row::ServiceV1(r) => drop(s.services.insert(r.name.clone(), r)),
        Row::SpecV1(d, n, r) => drop(s.specs.insert((d, n), r)),
        Row::BlobV1(d, r) => drop(s.blobs.insert(d, r)),
        Row::ReleaseV1(r) => drop(s.releases.insert((r.service.clone(), r.version.clone()), r)),
        Row::DeploymentV1(r) => drop(s.deployments.insert(r.id.clone(), r)),
        Row::RolloutV1(r) => s.rollouts.insert(r.id, r),
        Row::InstanceV1(mut r) => {
            shares.instance(Arc::make_mut(&mut r));
            s.instances.insert(r.id, r);
        }
        Row::WorkerV1(mut r) => {
            shares.worker(Arc::make_mut(&mut r));
            s.workers.insert(r.name.clone(), r);
        }
        Row::AssignmentV1(mut w, mut d, mut r) => {
            shares.assignment(&mut w, &mut d, Arc::make_mut(&mut r));
            s.assignments.insert((w, d), r);
        }
        Row::DeliveryV1(k, r) => drop(s.outbox.insert(k, r)),
        Row::RequestV1(p, id, r) => {
            s.requests_by_expiry.insert((r.not_after, p.clone(), id.clone()), ());
            s.requests.insert((p, id), r);
        }
        Row::EventV1(r) => drop(s.events.insert(r.key, r)),
        Row::ReplicasV1(r) => s.replicas = r,
        Row::EndV1 { .. } => {}
        Row::LineageV1(ids) => s.lineage = ids,
        Row::FencesV1(r) => s.fences = r,
        Row::SlotsV1(d, r) => drop(s.slots.insert(d, r)),
        Row::BackV1(r) => drop(s.backs.insert(r.rollout, r)),
        Row::CookiesV1(r) => s.cookies = r,
    }
}
