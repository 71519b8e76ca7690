//! Holds the view that answers are made from, and says which index it serves.
//!
//! Invariant: [`ViewStore::served_index`] is published after the pointer swap, so a query that begins afterwards is answered from
//! that index or a later one.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use arc_swap::ArcSwap;
use tokio::sync::watch;

use super::{
    requests::{Requested, Requests},
    tally::Realised,
    view::{Builder, View},
};
use crate::{
    clock::Mono,
    model::{DeploymentId, NodeId},
    state::State,
    traffic::lease::Hold,
};

/// The views of one node, newest first served.
#[derive(Debug)]
pub struct ViewStore {
    view: ArcSwap<View>,
    builder: Mutex<Builder>,
    served: watch::Sender<u64>,
    ready: AtomicBool,
    node: AtomicU64,
    hold_index: AtomicU64,
    hold_until: AtomicU64,
    pub(super) requests: Requests,
}

impl Default for ViewStore {
    fn default() -> Self {
        Self::new()
    }
}

impl ViewStore {
    /// A store without a view, not ready.
    pub fn new() -> Self {
        Self {
            view: ArcSwap::from_pointee(View::empty()),
            builder: Mutex::new(Builder::new()),
            served: watch::Sender::new(0),
            ready: AtomicBool::new(false),
            node: AtomicU64::new(0),
            hold_index: AtomicU64::new(0),
            hold_until: AtomicU64::new(0),
            requests: Requests::default(),
        }
    }

    /// Says which node this is, for `_rollout` TXT and as primary server of the SOA.
    pub fn set_node(&self, id: NodeId) {
        self.node.store(id, Ordering::Relaxed);
    }

    /// This node's id; 0 before it is known.
    pub fn node(&self) -> NodeId {
        self.node.load(Ordering::Relaxed)
    }

    /// Lets answers out, or answers SERVFAIL "not ready" again. A restarted node is ready when its view has reached its first
    /// ReadIndex.
    pub fn set_ready(&self, ready: bool) {
        self.ready.store(ready, Ordering::Release);
    }

    /// Whether answers are let out: told so, and there is a cluster to answer for.
    pub fn is_ready(&self) -> bool {
        self.ready.load(Ordering::Acquire) && self.view.load().zone.is_some()
    }

    /// The serving lease from now on. Its view must be served already.
    pub fn set_hold(&self, hold: Hold) {
        // The index first: who reads the new end then also reads the new index.
        self.hold_index.store(hold.index, Ordering::SeqCst);
        self.hold_until.store(hold.until, Ordering::SeqCst);
    }

    /// The serving lease.
    pub fn hold(&self) -> Hold {
        let until = self.hold_until.load(Ordering::SeqCst);
        Hold { index: self.hold_index.load(Ordering::SeqCst), until }
    }

    /// A view and a lease to answer from, in the order that makes the lease's law hold: the view is taken first, and never one that
    /// is older than the lease. The clock is to be read after this.
    pub fn leased_view(&self) -> (Arc<View>, Hold) {
        let view = self.view();
        let hold = self.hold();
        // The view of a lease is served before the lease is set, so a second look finds it.
        if view.index < hold.index { (self.view(), hold) } else { (view, hold) }
    }

    /// Makes the view of a State, swaps the pointer, then publishes the index. Takes well below a millisecond for one changed
    /// deployment.
    pub fn publish(&self, state: &Arc<State>) {
        let mut builder = self.builder.lock().unwrap_or_else(PoisonError::into_inner);
        let view = builder.next(state);
        let index = view.index;
        self.view.store(view);
        self.served.send_replace(index);
    }

    /// Publishes every State that a watch yields, the present one first; ends with the sender.
    pub async fn follow(&self, mut states: watch::Receiver<Arc<State>>) {
        loop {
            let state = Arc::clone(&states.borrow_and_update());
            self.publish(&state);
            if states.changed().await.is_err() {
                return;
            }
        }
    }

    /// The view that is served now.
    pub fn view(&self) -> Arc<View> {
        self.view.load_full()
    }

    /// The route generation that is served, by deployment.
    pub fn generations(&self) -> BTreeMap<DeploymentId, u64> {
        let view = self.view.load();
        view.sites().filter_map(|s| Some((s.id.clone(), s.route.as_ref()?.generation.n))).collect()
    }

    /// What was answered for a deployment's policy at this node; nothing for one that DNS does not know.
    pub fn realised(&self, id: &DeploymentId, now: Mono) -> Option<Realised> {
        Some(self.view.load().site(id.environment.as_str(), id.service.as_str())?.realised(now))
    }

    /// The same for all deployments that have a route.
    pub fn all_realised(&self, now: Mono) -> Vec<(DeploymentId, Realised)> {
        let view = self.view.load();
        view.sites().filter(|s| s.route.is_some()).map(|s| (s.id.clone(), s.realised(now))).collect()
    }

    /// What instances have counted of the running steps, as the leader says.
    pub fn set_requests(&self, all: Requested, now: Mono) {
        self.requests.set(now, all);
    }

    /// The same, while it is fresh.
    pub fn requests(&self, now: Mono) -> Requested {
        self.requests.all(now)
    }

    /// The index that is served: applied and swapped.
    pub fn served_index(&self) -> watch::Receiver<u64> {
        self.served.subscribe()
    }

    /// The largest TTL per deployment that a cache may still hold at `now`, in milliseconds (for `NodeSeen.ttls`).
    pub fn ttls_handed_out(&self, now: Mono) -> BTreeMap<DeploymentId, u64> {
        let view = self.view.load();
        view.sites().filter_map(|s| Some((s.id.clone(), s.noted.largest(now)?))).collect()
    }
}
