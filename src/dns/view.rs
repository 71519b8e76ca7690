//! The immutable view that answers are made from, and how the next one is made from State.
//!
//! Cheap: maps of State that did not change share their nodes with the last State, so only deployments with a changed
//! row are built anew. Invariants: a view holds one applied index; its serial, the SOA's, is the index at which this
//! node's view last changed and never goes back; an unchanged State or an unrelated change keeps the serial.

use std::{
    collections::BTreeSet,
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use imbl::{GenericHashMap, OrdMap, ordmap::DiffItem, shared_ptr::DefaultSharedPtr};

use super::{serving, site::Site};
use crate::{
    model::{DeploymentId, InstanceId, Millis, Name, NodeId},
    state::{Instance, NodeRole, NodeRow, Secret, State},
};

/// A DNS server of the zone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct NameServer {
    pub id: NodeId,
    /// `None` when it listens on all addresses and so says none.
    pub address: Option<IpAddr>,
    /// Where its API listens, likewise.
    pub api: Option<SocketAddr>,
}

/// What answers are made from.
#[derive(Debug, Clone)]
pub struct ZoneView {
    /// Applied index of the State it was made from.
    pub index: u64,
    /// Index at which its content last changed.
    pub serial: u64,
    /// The zone's labels, lower case, leftmost first; `None` before there is a cluster.
    pub(super) zone: Option<Vec<String>>,
    pub(super) servers: Vec<NameServer>,
    /// Sites by environment and service; persistent maps, so that the next view shares what did not change.
    pub(super) environments: OrdMap<String, OrdMap<String, Arc<Site>>>,
    /// Secrets of cookies that the cluster shares; the first one signs.
    pub(super) cookies: Vec<Secret>,
    /// Whose address it is: for reverse names. Several deployments may share a machine's address.
    pub(super) addresses: OrdMap<(IpAddr, InstanceId), DeploymentId>,
    /// The same sites by the labels of service and environment as a message holds them, in lower case.
    by_wire: ByWire,
    /// The end of every name of a service as a message holds it, in lower case: `svc` and the zone. Empty without a
    /// zone.
    pub(super) services: Box<[u8]>,
}

/// Keys come from operators, and not from who asks: a fast hash does.
type ByWire = GenericHashMap<Box<[u8]>, Arc<Site>, foldhash::fast::RandomState, DefaultSharedPtr>;

impl ZoneView {
    /// The view of a node that knows nothing yet.
    pub(super) fn empty() -> Self {
        Self {
            index: 0,
            serial: 0,
            zone: None,
            servers: Vec::new(),
            environments: OrdMap::new(),
            cookies: Vec::new(),
            addresses: OrdMap::new(),
            by_wire: ByWire::default(),
            services: Box::default(),
        }
    }

    pub(super) fn site(&self, environment: &str, service: &str) -> Option<&Arc<Site>> {
        self.environments.get(environment)?.get(service)
    }

    /// A site by the two labels of a message, lengths included, in lower case.
    pub(super) fn site_by_wire(&self, labels: &[u8]) -> Option<&Arc<Site>> {
        self.by_wire.get(labels)
    }

    pub(super) fn sites(&self) -> impl Iterator<Item = &Arc<Site>> {
        self.environments.values().flat_map(OrdMap::values)
    }
}

/// Makes each view from the one before.
#[derive(Debug)]
pub(super) struct Builder {
    state: Arc<State>,
    view: Arc<ZoneView>,
    /// Cluster time at which a lost worker's instances leave, though no row changes.
    due: Option<Millis>,
}

impl Builder {
    pub(super) fn new() -> Self {
        Self { state: Arc::default(), view: Arc::new(ZoneView::empty()), due: None }
    }

    /// The view of a State. An older State than the last one is answered with the last view: a view never goes back,
    /// but for another incarnation.
    pub(super) fn next(&mut self, state: &Arc<State>) -> Arc<ZoneView> {
        let (old, new) = (&self.state, state);
        if (new.incarnation, new.applied.index) < (old.incarnation, old.applied.index) {
            return Arc::clone(&self.view);
        }
        let dirty = if self.rebuild_all(new) {
            Some(new.deployments.keys().chain(old.deployments.keys()).cloned().collect())
        } else {
            changed(old, new, self.is_due(new))
        };
        let cookies = new.cookies.accepted(new.now);
        let mut view = ZoneView { index: new.applied.index, cookies, ..(*self.view).clone() };
        if let Some(dirty) = dirty {
            let (framed, built) = (frame(new, &mut view), sites(new, &dirty, &mut view));
            if framed || built {
                view.serial = new.applied.index;
            }
            self.due = serving::next_change(new);
        }
        self.state = Arc::clone(new);
        self.view = Arc::new(view);
        Arc::clone(&self.view)
    }

    /// Whether something changed that every site depends on.
    fn rebuild_all(&self, new: &State) -> bool {
        let old = &self.state;
        let common = |s: &State| s.cluster.as_ref().map(|c| (c.zone.clone(), c.settings.dns_out_after));
        old.incarnation != new.incarnation || old.fences.mode != new.fences.mode || common(old) != common(new)
    }

    /// Whether time alone has changed something.
    fn is_due(&self, new: &State) -> bool {
        self.due.is_some_and(|due| new.now >= due)
    }
}

/// Deployments with a changed row, of their own or of a worker; `None`: nothing that DNS reads changed.
fn changed(old: &State, new: &State, due: bool) -> Option<BTreeSet<DeploymentId>> {
    let mut dirty = BTreeSet::new();
    touched(old.deployments.diff(&new.deployments), |id, _| dirty.insert(id.clone()));
    touched(old.instances.diff(&new.instances), |_, i| dirty.insert(i.deployment.clone()));
    touched(old.rollouts.diff(&new.rollouts), |_, r| dirty.insert(r.deployment.clone()));
    touched(old.specs.diff(&new.specs), |(id, _), _| dirty.insert(id.clone()));
    if !Arc::ptr_eq(&old.fences, &new.fences) {
        let bound = [old, new].map(|s| s.fences.armed.keys().chain(s.fences.on_expiry.keys()));
        dirty.extend(bound.into_iter().flatten().cloned());
    }
    let mut of_worker = |name| dirty.extend(new.instances.on(name).map(|i| i.deployment.clone()));
    for item in old.workers.diff(&new.workers) {
        match item {
            DiffItem::Add(name, _) | DiffItem::Remove(name, _) => of_worker(name),
            DiffItem::Update { old: (_, a), new: (name, b) } if (a.presence, a.lost_at) != (b.presence, b.lost_at) => {
                of_worker(name);
            }
            DiffItem::Update { .. } => {}
        }
    }
    if due {
        serving::counted_out_since(old, new).for_each(|w| of_worker(&w.name));
    }
    let frame = due || !old.nodes.ptr_eq(&new.nodes) || !old.environments.ptr_eq(&new.environments);
    (frame || !dirty.is_empty()).then_some(dirty)
}

fn touched<'a, 'b, K: 'a + 'b, V: 'a + 'b>(
    diff: impl Iterator<Item = DiffItem<'a, 'b, K, V>>,
    mut with: impl FnMut(&K, &V) -> bool,
) {
    for item in diff {
        match item {
            DiffItem::Add(k, v) | DiffItem::Remove(k, v) | DiffItem::Update { new: (k, v), .. } => with(k, v),
        };
    }
}

/// Everything but the sites: zone, servers, environments. Says whether something changed.
fn frame(state: &State, view: &mut ZoneView) -> bool {
    let zone = state.cluster.as_ref().map(|c| c.zone.split('.').map(str::to_ascii_lowercase).collect());
    let serving = state.nodes.values().filter(|n| match n.role {
        NodeRole::Learner | NodeRole::Voter => true,
        NodeRole::Joining | NodeRole::Leaving | NodeRole::Removed => false,
    });
    let address = |text: &str| text.parse::<SocketAddr>().ok().filter(|a| !a.ip().is_unspecified());
    let server = |n: &NodeRow| NameServer {
        id: n.id,
        address: address(&n.dns_addr).map(|a| a.ip()),
        api: address(&n.client_addr),
    };
    let servers = serving.map(server).collect();
    let mut changed = zone != view.zone || servers != view.servers;
    let services = |zone: &Vec<String>| wire(std::iter::once("svc").chain(zone.iter().map(String::as_str)).chain([""]));
    view.services = zone.as_ref().map(services).unwrap_or_default();
    (view.zone, view.servers) = (zone, servers);
    let names: BTreeSet<&str> = state.environments.keys().map(Name::as_str).collect();
    let gone: Vec<String> = view
        .environments
        .iter()
        .filter(|(name, sites)| sites.is_empty() && !names.contains(name.as_str()))
        .map(|(name, _)| name.clone())
        .collect();
    for name in &gone {
        view.environments.remove(name);
    }
    changed |= !gone.is_empty();
    for name in names {
        if !view.environments.contains_key(name) {
            view.environments.insert(name.into(), OrdMap::new());
            changed = true;
        }
    }
    changed
}

/// Builds the sites of some deployments anew. Says whether one of them changed.
fn sites(state: &State, dirty: &BTreeSet<DeploymentId>, view: &mut ZoneView) -> bool {
    let mut changed = false;
    for id in dirty {
        let (environment, service) = (id.environment.as_str(), id.service.as_str());
        let labels = [service, environment];
        let before = view.site(environment, service).cloned();
        match state.deployments.get(id) {
            Some(row) => {
                let mine: Vec<&Instance> = state.instances_of(id).collect();
                let site = Site::build(state, row, &mine, before.as_deref());
                if before.as_ref().is_none_or(|b| **b != site) {
                    reindex(view, before.as_deref(), Some(&site));
                    let site = Arc::new(site);
                    view.by_wire.insert(wire(labels), Arc::clone(&site));
                    view.environments.entry(environment.into()).or_default().insert(service.into(), site);
                    changed = true;
                }
            }
            None => {
                reindex(view, before.as_deref(), None);
                view.by_wire.remove(&wire(labels));
                if let Some(sites) = view.environments.get_mut(environment) {
                    changed |= sites.remove(service).is_some();
                }
            }
        }
    }
    changed
}

/// Brings the addresses of one site up to date.
fn reindex(view: &mut ZoneView, before: Option<&Site>, after: Option<&Site>) {
    let of = |site: Option<&Site>, id: &InstanceId| Some(site?.instances.get(id)?.endpoint.as_ref()?.address);
    for id in before.into_iter().flat_map(|b| b.instances.keys()) {
        let (old, new) = (of(before, id), of(after, id));
        if let Some(address) = old.filter(|_| old != new) {
            view.addresses.remove(&(address, *id));
        }
    }
    for (id, site) in after.into_iter().flat_map(|a| a.instances.keys().map(move |id| (id, a))) {
        let (old, new) = (of(before, id), of(after, id));
        if let Some(address) = new.filter(|_| old != new) {
            view.addresses.insert((address, *id), site.id.clone());
        }
    }
}

/// Labels as a message holds them, in lower case. None is longer than 63 octets.
fn wire<'l>(labels: impl IntoIterator<Item = &'l str>) -> Box<[u8]> {
    let bytes = labels.into_iter().flat_map(|l| std::iter::once(l.len() as u8).chain(l.bytes()));
    bytes.map(|b| b.to_ascii_lowercase()).collect()
}
