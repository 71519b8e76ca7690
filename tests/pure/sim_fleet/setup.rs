//! The fleet before the first rollout: three nodes, workers w1 to w4, `production/shop`, releases 1.0.0 to 5.0.0.

use std::collections::BTreeMap;

use slipway::model::{
    BasisPoints, BuildInfo, Ceiling, ClusterId, DeploymentId, Digest, Name, Period, RolloutId, RolloutParams, Spec,
    SpecFormat, StrategyName, Version, WorkerName, read_spec,
};
use slipway::state::{
    Command, NewNode, NodeRole, Observations, RolloutStatus, StartRollout, State, codec,
    command::{BlobHeld, ClusterInit, NodeAdmitted, NodeRoleSet, ReleaseRegistered, SpecApplied, WorkerRegistered},
};
use slipway::traffic::lease::Left;

use super::{Agent, Behaviour, Faults, Fleet, Node, Truth, Walked};

/// How the deployment is laid out.
#[derive(Clone)]
pub struct Shape {
    pub host: bool,
    pub workers: u32,
    pub metrics: bool,
    /// Whether the spec declares a histogram of latencies too.
    pub latency: bool,
    pub per_worker: u32,
    /// Seconds of the largest TTL and of a drain.
    pub ttl: u32,
    /// Addresses of each worker's pool.
    pub pool: u32,
    pub capacity: u32,
    /// Workers that are not like the others: addresses and capacity.
    pub uneven: BTreeMap<u32, (u32, u32)>,
}

impl Default for Shape {
    fn default() -> Self {
        Self {
            host: false,
            workers: 4,
            metrics: true,
            latency: false,
            per_worker: 2,
            ttl: 5,
            pool: 6,
            capacity: 20,
            uneven: BTreeMap::new(),
        }
    }
}

pub fn shop() -> DeploymentId {
    "production/shop".parse().expect("an id")
}

/// The second deployment, where a test adds it.
pub fn cart() -> DeploymentId {
    "production/cart".parse().expect("an id")
}

pub fn version(text: &str) -> Version {
    text.parse().expect("a version")
}

/// A rollout of this version, which neither restarts nor replaces another.
pub fn starting(deployment: DeploymentId, to: &str, params: RolloutParams) -> StartRollout {
    StartRollout {
        deployment,
        version: version(to),
        overrides: params.into(),
        restart: false,
        replace: false,
        expected: None,
    }
}

/// Short times, small numbers.
pub fn params(strategy: StrategyName) -> RolloutParams {
    RolloutParams {
        strategy: Some(strategy),
        bake: Period::seconds(10),
        min_requests: 50,
        warm_up: Period::seconds(3),
        smoke: Some("/smoke".into()),
        monitor: Period::seconds(6),
        grace: Period::minutes(10),
        max_error_rate: Ceiling(Some(BasisPoints::percent(5))),
        ..RolloutParams::default()
    }
}

fn spec(shape: &Shape) -> Spec {
    let (address, per_worker) = if shape.host { ("host", 1) } else { ("pool", shape.per_worker) };
    let (ttl, drain) = (shape.ttl, shape.ttl.min(2));
    let weighted = if ttl < 5 { format!(", ttl: {ttl}s") } else { String::new() };
    let series = if shape.latency { ", series: {latency: request_seconds}" } else { "" };
    let metrics = if shape.metrics { format!("metrics: {{requests: r, errors: e{series}}}") } else { String::new() };
    let text = format!(
        "
service: shop
environment: production
run: {{command: [bin/shop]}}
address: {address}
ports: {{http: 8080}}
placement: {{per_worker: {per_worker}}}
health: {{http: /healthz, start_within: 10s}}
{metrics}
drain: {drain}s
dns: {{pin_ttl: {ttl}s{weighted}}}
"
    );
    read_spec(&text, SpecFormat::Yaml).expect("a spec")
}

/// A node of that number.
pub fn node(n: u64) -> NewNode {
    NewNode {
        name: format!("n{n}"),
        peer_addr: format!("127.0.0.{n}:7001"),
        client_addr: format!("127.0.0.{n}:7000"),
        dns_addr: format!("127.0.0.{n}:8653"),
        level: codec::LEVEL.into(),
    }
}

fn digest(n: u32) -> Digest {
    Digest::new(&format!("{n:064x}")).expect("a digest")
}

impl Fleet {
    /// A fleet with nothing running.
    pub fn new(shape: &Shape) -> Self {
        let mut f = Self {
            state: State::default(),
            seen: Observations { leases: Some(Left::default()), ..Observations::default() },
            agents: BTreeMap::new(),
            nodes: (1..=3).map(|n| (n, Node::new())).collect(),
            behaviour: BTreeMap::<String, Behaviour>::new(),
            transcript: Vec::new(),
            walked: Walked::default(),
            rate: 200,
            skew: 0,
            index: 0,
            term: 1,
            real: 0,
            anchor: (0, 0),
            leading: true,
            last_tick: 0,
            waits: BTreeMap::new(),
            deliveries: Default::default(),
            calls: Vec::new(),
            faults: Faults::default(),
            truth: Truth::default(),
            post: BTreeMap::new(),
        };
        f.must(Command::ClusterInit(ClusterInit {
            id: ClusterId::new("c-1").expect("an id"),
            name: "test".into(),
            zone: "slipway.internal".into(),
            node: node(1),
        }));
        for n in 2..=3 {
            f.must(Command::NodeAdmitted(NodeAdmitted { node: node(n) }));
            f.must(Command::NodeRoleSet(NodeRoleSet {
                node: n,
                role: NodeRole::Learner,
                seen: NodeRole::Joining,
                lose_packages: false,
            }));
            f.must(Command::NodeRoleSet(NodeRoleSet {
                node: n,
                role: NodeRole::Voter,
                seen: NodeRole::Learner,
                lose_packages: false,
            }));
        }
        for n in 1..=shape.workers {
            let (pool, capacity) = shape.uneven.get(&n).copied().unwrap_or((shape.pool, shape.capacity));
            let name = f.register_with(n, pool, capacity);
            f.agents.insert(name, Agent::new());
        }
        f.must(Command::SpecApplied(SpecApplied { spec: spec(shape), expected: None }));
        for n in 1..=5 {
            f.release("shop", n);
        }
        f.run(1);
        f.transcript.clear();
        f
    }

    /// A fleet with 1.0.0 stable everywhere; the transcript begins after that.
    pub fn with_stable(shape: &Shape) -> Self {
        let mut f = Self::new(shape);
        let id = f.start("1.0.0", params(StrategyName::DIRECT));
        f.until_status(120, id, RolloutStatus::Completed);
        f.run(2);
        f.transcript.clear();
        f
    }

    /// A service's release of that number.
    fn release(&mut self, service: &str, n: u32) {
        for node in 1..=2 {
            self.must(Command::BlobHeld(BlobHeld { digest: digest(n), size: 10, node }));
        }
        self.must(Command::ReleaseRegistered(ReleaseRegistered {
            service: Name::service(service).expect("a name"),
            version: version(&format!("{n}.0.0")),
            digest: digest(n),
            build: BuildInfo::default(),
            labels: BTreeMap::new(),
        }));
    }

    /// A second deployment beside the first, on the same workers and pools; nothing of it runs yet.
    pub fn add_cart(&mut self, shape: &Shape) {
        let mut spec = spec(shape);
        let name = Name::service("cart").expect("a name");
        spec.deployment.service = name;
        self.must(Command::SpecApplied(SpecApplied { spec, expected: None }));
        for n in 1..=3 {
            self.release("cart", n);
        }
    }

    pub fn add_worker(&mut self, n: u32) {
        let name = self.register(n, 20);
        self.agents.insert(name, Agent::new());
    }

    pub fn register(&mut self, n: u32, capacity: u32) -> WorkerName {
        self.register_with(n, 6, capacity)
    }

    /// A worker registers, or registers anew, with so many addresses.
    pub fn register_with(&mut self, n: u32, pool: u32, capacity: u32) -> WorkerName {
        let name = WorkerName::new(&format!("w{n}")).expect("a name");
        self.must(Command::WorkerRegistered(WorkerRegistered {
            name: name.clone(),
            key: format!("{n:064x}"),
            labels: BTreeMap::new(),
            capacity,
            build: "0.1.0".into(),
            // Its own address is one of its pool, as where a machine has just one range.
            host: format!("10.1.{n}.1"),
            pool: (1..=pool).map(|a| format!("10.1.{n}.{a}")).collect(),
            absent: Vec::new(),
            keeping: String::new(),
        }));
        name
    }

    pub fn must(&mut self, body: Command) -> u64 {
        let name = body.name();
        self.commit(body).unwrap_or_else(|e| panic!("{name}: {e}"))
    }

    pub fn start(&mut self, to: &str, params: RolloutParams) -> RolloutId {
        self.start_of(shop(), to, params)
    }

    pub fn start_of(&mut self, deployment: DeploymentId, to: &str, params: RolloutParams) -> RolloutId {
        let id = RolloutId(self.must(starting(deployment, to, params).into()));
        self.step();
        id
    }
}
