//! What a node sends, checked and turned into nouns: nothing later in the agent looks at the wire's texts again.
//!
//! Not here: whether it is obeyed (`ledger`), what is done about it (`reconcile`).

use std::{collections::BTreeMap, net::IpAddr};

use serde::{Deserialize, Serialize};

use crate::{
    model::{DeploymentId, Digest, InstanceId, Pair, Permit, Spec},
    wire::{convert_worker::read_pair, v1},
};

/// Instances of one deployment on one worker at most.
const MAX_ENTRIES: usize = 1000;
/// Packages of one deployment at most.
const MAX_HOLD: usize = 100;

/// A package to have unpacked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hold {
    pub digest: Digest,
    /// Its size; 0: not known.
    pub size: u64,
}

/// An instance to run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    pub id: InstanceId,
    /// What it runs.
    pub pair: Pair,
    /// Where it listens.
    pub address: IpAddr,
    /// On which ports, by name.
    pub ports: BTreeMap<String, u16>,
    /// Whose place it takes.
    pub replaces: Option<InstanceId>,
}

/// What is to run here next, as far as it is known before there is an instance of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Next {
    /// What it runs.
    pub pair: Pair,
    /// Where it will listen, if the machine has one address for it.
    pub address: Option<IpAddr>,
}

/// An assignment's content.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Assigned {
    /// Rises with every change of the content.
    pub generation: u64,
    /// The content's checksum as State computed it.
    pub content_digest: u32,
    /// How far to go.
    pub permit: Permit,
    /// What to have on disk.
    pub hold: Vec<Hold>,
    /// What to run.
    pub entries: Vec<Entry>,
    /// For people: what `current` names.
    pub current: Option<Pair>,
    /// For people: what `previous` names.
    pub previous: Option<Pair>,
    /// What to look at before it is started.
    pub next: Option<Next>,
}

/// An assignment as it arrives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Offer {
    pub deployment: DeploymentId,
    /// The content.
    pub assigned: Assigned,
    /// The specs that its entries and the next pair name.
    pub specs: BTreeMap<u64, Spec>,
    /// The running step whose counts are wanted.
    pub mark: Option<u64>,
}

fn pair(p: &v1::Pair) -> Result<Pair, String> {
    read_pair(p).map_err(|e| e.to_string())
}

fn entry(e: &v1::Entry, specs: &BTreeMap<u64, Spec>) -> Result<Entry, String> {
    let id: InstanceId = e.id.parse().map_err(|e| format!("{e}"))?;
    let pair = pair(e.pair.as_ref().ok_or_else(|| format!("instance {id} has no pair"))?)?;
    if !specs.contains_key(&pair.spec) {
        return Err(format!("instance {id} names spec {}, which was not sent", pair.spec));
    }
    let address = e.address.parse().map_err(|_| format!("instance {id}: {:?} is not an IP address", e.address))?;
    let mut ports = BTreeMap::new();
    for (name, port) in &e.ports {
        let port = u16::try_from(*port).map_err(|_| format!("instance {id}: {port} is not a port"))?;
        ports.insert(name.clone(), port);
    }
    let replaces = match e.replaces.as_str() {
        "" => None,
        other => Some(other.parse().map_err(|e| format!("{e}"))?),
    };
    Ok(Entry { id, pair, address, ports, replaces })
}

fn next(n: &v1::Next, specs: &BTreeMap<u64, Spec>) -> Result<Next, String> {
    let pair = pair(n.pair.as_ref().ok_or("what is to run next has no pair")?)?;
    if !specs.contains_key(&pair.spec) {
        return Err(format!("what is to run next names spec {}, which was not sent", pair.spec));
    }
    let address = match n.address.as_str() {
        "" => None,
        text => Some(text.parse().map_err(|_| format!("{text:?}, where the next is to listen, is not an IP address"))?),
    };
    Ok(Next { pair, address })
}

impl TryFrom<&v1::Assignment> for Offer {
    type Error = String;

    fn try_from(a: &v1::Assignment) -> Result<Self, String> {
        let deployment: DeploymentId = a.deployment.parse().map_err(|e| format!("{e}"))?;
        let permit = a.permit.parse().map_err(|e: String| format!("permit {e}"))?;
        if a.instances.len() > MAX_ENTRIES || a.hold.len() > MAX_HOLD {
            return Err(format!("{} instances and {} packages are too many", a.instances.len(), a.hold.len()));
        }
        let mut specs = BTreeMap::new();
        for doc in &a.specs {
            let spec: Spec =
                serde_json::from_str(&doc.json).map_err(|e| format!("spec {} cannot be read: {e}", doc.revision))?;
            spec.check().map_err(|e| format!("spec {}: {e}", doc.revision))?;
            specs.insert(doc.revision, spec);
        }
        let hold = a.hold.iter().map(|h| Ok(Hold { digest: Digest::new(&h.digest)?, size: h.size }));
        let hold: Result<Vec<Hold>, crate::model::ModelError> = hold.collect();
        let entries: Result<Vec<Entry>, String> = a.instances.iter().map(|e| entry(e, &specs)).collect();
        let assigned = Assigned {
            generation: a.generation,
            content_digest: a.content_digest,
            permit,
            hold: hold.map_err(|e| e.to_string())?,
            entries: entries?,
            current: a.current.as_ref().map(pair).transpose()?,
            previous: a.previous.as_ref().map(pair).transpose()?,
            next: a.next.as_ref().map(|n| next(n, &specs)).transpose()?,
        };
        Ok(Self { deployment, assigned, specs, mark: Some(a.mark).filter(|m| *m != 0) })
    }
}
