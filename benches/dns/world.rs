//! A State of so many services, made by hand: what is measured reads it, and does not care how it came about.

use std::{collections::BTreeMap, sync::Arc};

use slipway::{
    model::{
        BasisPoints, ClusterId, DeploymentId, Digest, Health, InstanceId, Life, Millis, Name, OnNoData, Overrides,
        Pair, Period, SpecFormat, StrategyName, WorkerName, read_spec,
    },
    state::{
        Arm, Cluster, Deployment, Environment, FencePoint, Instance, Meta, NodeRole, NodeRow, Presence, Role, Route,
        RouteMode, Service, Settings, State, Worker,
    },
};

use super::names::{ENDPOINTS, ZONE, network};

const WORKERS: u32 = 20;

/// The deployment of service `n`.
pub fn id(n: u32) -> DeploymentId {
    format!("production/s{n}").parse().expect("an id")
}

/// What runs as a version.
pub fn pair(version: &str) -> Pair {
    Pair {
        version: version.parse().expect("a version"),
        digest: Digest::new(&"ab".repeat(32)).expect("a digest"),
        spec: 1,
    }
}

fn worker(n: u32) -> WorkerName {
    WorkerName::new(&format!("w{}", n % WORKERS)).expect("a name")
}

/// State of so many services.
pub struct World {
    pub state: Arc<State>,
    services: u32,
    weighted: bool,
}

impl World {
    /// So many services, each with a stable version on five instances; weighted ones have a candidate on five more,
    /// with a tenth of the traffic.
    pub fn new(services: u32, weighted: bool) -> Self {
        let mut state = State { incarnation: 1, now: Millis(1000), ..State::default() };
        state.applied.index = 10;
        state.cluster = Some(Arc::new(Cluster {
            meta: Meta::default(),
            id: ClusterId::new("c1").expect("an id"),
            name: "bench".into(),
            zone: ZONE.into(),
            next_node_id: 2,
            settings: Settings::default(),
            parted: Default::default(),
        }));
        state.nodes.insert(1, node());
        let name = Name::environment("production").expect("a name");
        let environment = Environment {
            meta: Meta::default(),
            name: name.clone(),
            default_strategy: StrategyName::CANARY,
            order: 0,
            on_no_data: OnNoData::Hold,
        };
        state.environments.insert(name, environment);
        for n in 0..WORKERS {
            state.workers.insert(worker(n), worker_row(n));
        }
        let mut this = Self { state: Arc::new(state), services, weighted };
        for n in 1..=services {
            this.service(n);
        }
        this
    }

    fn service(&mut self, n: u32) {
        let (meta, name) = (Meta::default(), id(n).service);
        let row = Service { meta, name: name.clone(), defaults: Overrides::default() };
        Arc::make_mut(&mut self.state).services.insert(name, row);
        let weighted = self.weighted;
        let state = Arc::make_mut(&mut self.state);
        state.applied.index += 1;
        let text = format!(
            "service: s{n}\nenvironment: production\nrun: {{command: [bin/shop]}}\naddress: pool\nports: {{http: 8080}}\nhealth: {{http: /healthz}}\n"
        );
        state.specs.insert((id(n), 1), Arc::new(read_spec(&text, SpecFormat::Yaml).expect("a spec")));
        let desired = u32::from(ENDPOINTS);
        let candidate = if weighted { 1000 } else { 0 };
        let arm =
            |role, version, weight| Arm { want: desired, weight: BasisPoints(weight), ..Arm::new(role, pair(version)) };
        let arms = [arm(Role::Stable, "1.0.0", 10_000 - candidate), arm(Role::Candidate, "2.0.0", candidate)];
        let arms = arms.into_iter().take(1 + usize::from(weighted)).collect();
        let generation = FencePoint { incarnation: 1, n: state.applied.index };
        let route = Some(Route { generation, mode: RouteMode::Weighted, ttl: Period::seconds(5), salt: 7 });
        state.deployments.insert(
            id(n),
            Deployment {
                meta: Meta::default(),
                id: id(n),
                spec: 1,
                arms,
                route,
                desired,
                live: None,
                last: None,
                as_is: None,
                removing: None,
                stop: None,
            },
        );
        for (arm, version) in [(0, "1.0.0"), (1, "2.0.0")].into_iter().take(1 + usize::from(weighted)) {
            let [a, b, c] = network(n, arm);
            for e in 1..=ENDPOINTS {
                let id = InstanceId { index: 1000 + u64::from(n), ordinal: u32::from(arm * ENDPOINTS + e) };
                state.instances.insert(id, instance(id, n, version, format!("{a}.{b}.{c}.{e}")));
            }
        }
    }

    /// How many services there are.
    pub fn services(&self) -> u32 {
        self.services
    }
}

fn instance(id_: InstanceId, n: u32, version: &str, address: String) -> Instance {
    Instance {
        meta: Meta::default(),
        id: id_,
        deployment: id(n),
        pair: pair(version),
        worker: worker(id_.ordinal),
        address,
        ports: BTreeMap::from([("http".to_string(), 8080)]).into(),
        made_by: None,
        replaces: None,
        drain: None,
        failed_at: None,
        restarts: 0,
        exit: None,
        life: Life::Running,
        health: Health::Passing,
        failures: 0,
        passed_once: true,
        counted_out: None,
    }
}

fn worker_row(n: u32) -> Worker {
    Worker {
        meta: Meta::default(),
        name: worker(n),
        key: "00".repeat(32),
        capacity: 1_000_000,
        build: "bench".into(),
        host: "127.0.0.1".into(),
        pool: Arc::default(),
        absent: Vec::new(),
        withdrawn: std::collections::BTreeSet::new(),
        keeping: String::new(),
        presence: Presence::Ready,
        registered_at: Millis(0),
        lost_at: None,
        set_generation: 1,
        staged: Vec::new(),
        report: (1, 1),
        rekey_until: None,
    }
}

fn node() -> NodeRow {
    NodeRow {
        meta: Meta::default(),
        id: 1,
        name: "n1".into(),
        peer_addr: "127.0.0.1:7000".into(),
        client_addr: "127.0.0.1:7001".into(),
        dns_addr: "127.0.0.1:8653".into(),
        level: 1,
        role: NodeRole::Voter,
        silent_since: None,
        served: 0,
        version: String::new(),
        min_level: 1,
        drained: false,
    }
}
