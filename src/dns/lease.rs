//! What the serving lease allows: a service that a lease binds is answered while the lease holds; after that its policy
//! decides.
//!
//! Invariants: only names whose answer moves with a switch are bound: a version's or an instance's own name says the
//! same for ever; nothing here is asked for a service that is not bound. Not here: how a lease is had (`node`), its law
//! (`traffic::lease`).

use hickory_proto::{
    op::ResponseCode,
    rr::{Name, RecordType},
};

use super::{
    answer::{Context, Reply},
    name::{Select, What},
    site::Site,
    stats::add,
};
use crate::{state::OnExpiry, traffic::lease::Cover};

/// TTL of stale answers at most, seconds.
const STALE_TTL: u32 = 1;

/// What may be said of a bound name now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum LeaseGate {
    Open,
    Stale,
    Shut,
    /// There was no lease yet.
    NotYet,
}

impl Context<'_> {
    /// An answer about a service, if the lease allows one.
    pub(super) fn leased(&self, site: &Site, what: &What<'_>, name: &Name, kind: RecordType) -> Reply {
        let gate = if moves(what) { self.gate(site) } else { LeaseGate::Open };
        match gate {
            LeaseGate::Open => self.service(site, what, name, kind),
            LeaseGate::Stale => {
                add(&self.stats.stale);
                let mut reply = self.service(site, what, name, kind);
                for record in reply.answers.iter_mut().chain(&mut reply.additionals) {
                    record.ttl = record.ttl.min(STALE_TTL);
                }
                reply.extended = Some((3, "stale: this server is cut off from the cluster"));
                reply
            }
            // At once, so that the client asks its next server.
            LeaseGate::Shut => {
                add(&self.stats.fenced);
                Reply::refusal(ResponseCode::ServFail, Some((22, "no lease: this server is cut off from the cluster")))
            }
            LeaseGate::NotYet => {
                add(&self.stats.not_ready);
                Reply::refusal(ResponseCode::ServFail, Some((14, "not ready: no lease yet")))
            }
        }
    }

    /// Whether everything about a service may be answered as if there were no leases.
    pub(super) fn may_answer(&self, site: &Site) -> bool {
        self.gate(site) == LeaseGate::Open
    }

    fn gate(&self, site: &Site) -> LeaseGate {
        let Some(policy) = site.bound else { return LeaseGate::Open };
        match (self.hold.covers(self.view.index, self.boot), policy) {
            (Cover::Held, _) => LeaseGate::Open,
            // The view is taken again when it is older than the lease; a second time only a bug would find it so.
            (Cover::OldView, _) => LeaseGate::Shut,
            (Cover::Over(_), _) if self.hold.until == 0 => LeaseGate::NotYet,
            (Cover::Over(since), OnExpiry::Stale { max }) if since < max => LeaseGate::Stale,
            (Cover::Over(_), OnExpiry::Stale { .. } | OnExpiry::Fail) => LeaseGate::Shut,
        }
    }

    /// The lease in a word, for `_rollout` TXT.
    pub(super) fn lease_word(&self, site: &Site) -> &'static str {
        match (site.bound, self.gate(site)) {
            (None, _) => "off",
            (Some(_), LeaseGate::Open) => "held",
            (Some(_), LeaseGate::Stale) => "stale",
            (Some(_), LeaseGate::Shut | LeaseGate::NotYet) => "over",
        }
    }
}

/// Whether what a name says moves with the traffic.
fn moves(what: &What<'_>) -> bool {
    let of_set = |set: &Select<'_>| match set {
        Select::Policy | Select::Arm(_) | Select::Active | Select::Preview | Select::Key(_) | Select::Mix => true,
        Select::Version(_) | Select::Instance(_) => false,
    };
    match what {
        What::Status => false,
        What::Set(set) | What::Port { set, .. } | What::Proto { set, .. } => of_set(set),
    }
}
