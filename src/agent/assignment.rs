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
pub struct HeldPackage {
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
    pub hold: Vec<HeldPackage>,
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
        let hold = a.hold.iter().map(|h| Ok(HeldPackage { digest: Digest::new(&h.digest)?, size: h.size }));
        let hold: Result<Vec<HeldPackage>, crate::model::ModelError> = hold.collect();
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{SpecFormat, read_spec};

    const SPEC: &str = "service: shop\nenvironment: production\nrun: {command: [bin/shop]}\nports: {http: 8080}\n\
                        health: {http: /healthz}\n";

    /// One instance, its package, and another pair that is next.
    fn good() -> v1::Assignment {
        let spec = read_spec(SPEC, SpecFormat::Yaml).unwrap();
        let pair = v1::Pair { version: "1.0.0".into(), digest: "a".repeat(64), spec: 3 };
        v1::Assignment {
            deployment: "production/shop".into(),
            generation: 7,
            permit: "activate".into(),
            hold: vec![v1::Hold { digest: "a".repeat(64), size: 5, version: String::new() }],
            specs: vec![v1::SpecDoc { revision: 3, json: serde_json::to_string(&spec).unwrap() }],
            instances: vec![v1::Entry {
                id: "59-0".into(),
                pair: Some(pair.clone()),
                address: "127.1.1.1".into(),
                ports: [("http".to_string(), 65_535)].into(),
                replaces: "58-1".into(),
            }],
            next: Some(v1::Next { pair: Some(pair), address: "127.1.1.2".into() }),
            ..v1::Assignment::default()
        }
    }

    #[test]
    fn an_assignment_that_cannot_be_carried_out_is_refused_by_what_is_wrong_in_it() {
        let offer = Offer::try_from(&good()).unwrap();
        assert_eq!((offer.assigned.entries[0].ports["http"], offer.mark), (65_535, None));
        let with = |edit: &dyn Fn(&mut v1::Assignment)| {
            let mut bent = good();
            edit(&mut bent);
            bent
        };
        let instance = |edit: &dyn Fn(&mut v1::Entry)| with(&|a| edit(&mut a.instances[0]));
        let next = |edit: &dyn Fn(&mut v1::Next)| with(&|a| edit(a.next.as_mut().unwrap()));
        let spec_of = |p: &mut Option<v1::Pair>| p.as_mut().unwrap().spec = 4;
        for (bent, says) in [
            (with(&|a| a.deployment = "shop".into()), "shop"),
            (with(&|a| a.permit = "run".into()), "permit"),
            (with(&|a| a.hold[0].digest = "a".repeat(63)), "digest"),
            (with(&|a| a.hold = vec![a.hold[0].clone(); MAX_HOLD + 1]), "1 instances and 101 packages are too many"),
            (
                with(&|a| a.instances = vec![a.instances[0].clone(); MAX_ENTRIES + 1]),
                "1001 instances and 1 packages are too many",
            ),
            (with(&|a| a.specs.clear()), "instance 59-0 names spec 3, which was not sent"),
            (with(&|a| a.specs[0].json.truncate(9)), "spec 3 cannot be read"),
            (with(&|a| a.specs[0].json = a.specs[0].json.replace("8080", "0")), "spec 3: "),
            (instance(&|e| e.id = "59".into()), "59"),
            (instance(&|e| e.pair = None), "instance 59-0 has no pair"),
            (instance(&|e| spec_of(&mut e.pair)), "instance 59-0 names spec 4, which was not sent"),
            (instance(&|e| e.pair.as_mut().unwrap().digest = "b".into()), "digest"),
            (instance(&|e| e.address = "here".into()), "instance 59-0: \"here\" is not an IP address"),
            (instance(&|e| e.ports = [("admin".to_string(), 70_000)].into()), "instance 59-0: 70000 is not a port"),
            (instance(&|e| e.replaces = "x".into()), "x"),
            (next(&|n| n.pair = None), "what is to run next has no pair"),
            (next(&|n| spec_of(&mut n.pair)), "what is to run next names spec 4, which was not sent"),
            (next(&|n| n.address = "there".into()), "\"there\", where the next is to listen, is not an IP address"),
        ] {
            let said = Offer::try_from(&bent).unwrap_err();
            assert!(said.contains(says), "{says}: {said}");
        }
        let most = with(&|a| {
            (a.hold, a.instances) = (vec![a.hold[0].clone(); MAX_HOLD], vec![a.instances[0].clone(); MAX_ENTRIES]);
        });
        assert_eq!(Offer::try_from(&most).unwrap().assigned.entries.len(), MAX_ENTRIES);
    }
}
