//! Holds the view that answers are made from, and says which index it serves.
//!
//! Invariant: [`ViewStore::served_index`] is published after the pointer swap, so a query that begins afterwards is
//! answered from that index or a later one. A query that began before it may still be answered from an older view:
//! [`ViewStore::settled_index`] is what all answers come from, those under way too, and so what is told to others.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, AtomicU64, Ordering, fence},
    },
};

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use tokio::sync::watch;

use super::{
    requests::{Requested, Requests},
    tally::Realised,
    view::{Builder, ZoneView},
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
    view: ArcSwap<ZoneView>,
    builder: Mutex<Builder>,
    served: watch::Sender<u64>,
    /// Views that were swapped out while somebody was answering from them.
    leaving: Mutex<Vec<Weak<ZoneView>>>,
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
            view: ArcSwap::from_pointee(ZoneView::empty()),
            builder: Mutex::new(Builder::new()),
            served: watch::Sender::new(0),
            leaving: Mutex::default(),
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

    /// Lets answers out, or answers SERVFAIL "not ready" again. A restarted node is ready when its view has reached its
    /// first ReadIndex.
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

    /// A view and a lease to answer from, in the order that makes the lease's law hold: the view is taken first, and
    /// never one that is older than the lease. The clock is to be read after this.
    pub fn leased_view(&self) -> (Arc<ZoneView>, Hold) {
        let view = self.view();
        let hold = self.hold();
        // The view of a lease is served before the lease is set, so a second look finds it.
        if view.index < hold.index { (self.view(), hold) } else { (view, hold) }
    }

    /// Makes the view of a State, swaps the pointer, then publishes the index. Takes well below a millisecond for one
    /// changed deployment.
    pub fn publish(&self, state: &Arc<State>) {
        let mut builder = self.builder.lock();
        let view = builder.next(state);
        let index = view.index;
        let old = self.view.swap(Arc::clone(&view));
        if !Arc::ptr_eq(&old, &view) {
            let mut leaving = self.leaving.lock();
            // As many as there are answering threads: what nobody holds is gone.
            leaving.retain(|view| view.strong_count() > 0);
            fence(Ordering::Acquire);
            leaving.push(Arc::downgrade(&old));
        }
        drop(old);
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
    pub fn view(&self) -> Arc<ZoneView> {
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

    /// The index that no answer is older than from now on: a view that is still answered from, be it a batch that is
    /// about to be sent, counts as the one that is served.
    pub fn settled_index(&self) -> u64 {
        // First what is served: the views before it stand among those that leave by then.
        let served = *self.served.borrow();
        let leaving = self.leaving.lock();
        let held = leaving.iter().filter_map(Weak::upgrade).map(|view| view.index).min();
        // What was noted under a view is seen by whoever sees that it was let go of; here and where dead ones are
        // dropped.
        fence(Ordering::Acquire);
        held.map_or(served, |held| held.min(served))
    }

    /// The largest TTL per deployment that a cache may still hold at `now`, in milliseconds (for `NodeSeen.ttls`).
    pub fn ttls_handed_out(&self, now: Mono) -> BTreeMap<DeploymentId, u64> {
        let view = self.view.load();
        view.sites().filter_map(|s| Some((s.id.clone(), s.noted.largest(now)?))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        clock::Clock,
        dns::{Responder, mmsg::Datagrams},
    };

    #[test]
    fn an_index_is_told_as_served_once_the_last_answers_of_older_views_are_sent() {
        let store = Arc::new(ViewStore::new());
        let responder = Responder::new(Arc::clone(&store), Clock::real());
        let publish = |index| {
            let mut state = State::default();
            state.applied.index = index;
            store.publish(&Arc::new(state));
            (*store.served_index().borrow(), store.settled_index())
        };
        assert_eq!(publish(5), (5, 5));
        // A batch that is answered and not sent yet: its thread was held up.
        let batch = responder.respond_all(&mut Datagrams::new(false), 0);
        assert_eq!(publish(6), (6, 5));
        assert_eq!(publish(7), (7, 5));
        let another = responder.respond_all(&mut Datagrams::new(false), 0);
        assert_eq!(publish(8), (8, 5));
        drop(batch);
        assert_eq!(store.settled_index(), 7, "the other one's");
        drop(another);
        assert_eq!(store.settled_index(), 8);
        // The same State again takes nothing back.
        assert_eq!(publish(8), (8, 8));
        assert_eq!(publish(9), (9, 9));
    }
}
