//! A fleet in State: services with ten workers and a hundred instances each, every one rolled out as the planner would.
//!
//! The planner is asked about a cut of State that holds one deployment, as it looks at each by itself; its commands are
//! applied to the whole.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use slipway::{
    engine::plan,
    model::{
        BuildInfo, ClusterId, DeploymentId, Digest, Health, InstanceId, Life, Millis, Name, Period, Permit, Principal,
        RequestId, RolloutId, RolloutParams, Spec, SpecFormat, StrategyName, Version, WorkerName, read_spec,
    },
    state::{
        Applied, Command, EventBody, Fence, Fit, InstanceFact, LogId, NewNode, NodeSeen, Observations, Reached,
        ReachedFact, Rejection, Seen, Stamped, StartRollout, State, WorkerFacts, apply, codec,
        command::{BlobHeld, ClusterInit, FactsRecorded, ReleaseRegistered, SpecApplied, WorkerRegistered},
    },
};

pub const GROUP: u32 = 10;
const PER_WORKER: u32 = 10;

/// State, and what makes the next entry.
pub struct World {
    pub state: Arc<State>,
    pub services: u32,
    now: u64,
    requests: u64,
    /// Instances of each deployment, as events told of them.
    members: BTreeMap<DeploymentId, BTreeSet<InstanceId>>,
}

pub fn deployment(n: u32) -> DeploymentId {
    format!("production/s{n}").parse().expect("an id")
}

pub fn worker(service: u32, n: u32) -> WorkerName {
    WorkerName::new(&format!("w{service}-{n}")).expect("a name")
}

pub fn digest(n: u32) -> Digest {
    Digest::new(&format!("{n:064x}")).expect("a digest")
}

/// The spec of one service; `label` tells revisions apart.
pub fn spec(service: u32, label: &str) -> Spec {
    read_spec(&spec_text(service, label), SpecFormat::Yaml).expect("a spec")
}

/// The same as a person writes it.
pub fn spec_text(service: u32, label: &str) -> String {
    format!(
        "
service: s{service}
environment: production
labels: {{rev: \"{label}\"}}
run: {{command: [bin/shop]}}
address: pool
ports: {{http: 8080}}
placement: {{per_worker: {PER_WORKER}, workers: \"group=g{service}\"}}
health: {{http: /healthz, start_within: 10s}}
drain: 2s
"
    )
}

fn version() -> Version {
    "1.0.0".parse().expect("a version")
}

impl World {
    /// All of it, everything stable.
    pub fn new(services: u32) -> Self {
        let mut w = Self { state: Arc::default(), services, now: 0, requests: 0, members: BTreeMap::new() };
        let node = NewNode {
            name: "n1".into(),
            peer_addr: "127.0.0.1:7001".into(),
            client_addr: "127.0.0.1:7000".into(),
            dns_addr: "127.0.0.1:8653".into(),
            level: 1,
        };
        let id = ClusterId::new("c-1").expect("an id");
        w.must(Command::ClusterInit(ClusterInit { id, name: "bench".into(), zone: "slipway.internal".into(), node }));
        for s in 1..=services {
            w.workers(s);
            w.service(s);
        }
        w
    }

    pub fn index(&self) -> u64 {
        self.state.applied.index
    }

    /// The next entry, encoded as the log holds it. Cluster time goes on by `ms`.
    pub fn entry(&mut self, body: Command, fenced: bool, ms: u64) -> Vec<u8> {
        self.requests += 1;
        let request = fenced.then(|| Fence {
            id: RequestId::new(&format!("q{}", self.requests)).expect("an id"),
            not_after: Millis(self.now + 60_000),
        });
        self.now += ms;
        let principal = if fenced { Principal::local_operator() } else { Principal::leader() };
        let stamped = Stamped { at: Millis(self.now), wall: 1_000_000 + self.now, term: 1, principal, request, body };
        codec::encode_command(&stamped).expect("it encodes")
    }

    /// What a node does with a committed entry: decode, apply.
    pub fn commit(&mut self, entry: &[u8]) -> Result<Applied, Rejection> {
        let at = LogId { term: 1, index: self.index() + 1 };
        let stamped = codec::decode_command(entry).expect("it decodes");
        apply(Arc::make_mut(&mut self.state), at, &stamped)
    }

    /// Remembers whose an instance is.
    pub fn note(&mut self, applied: &Applied) {
        for event in &applied.events {
            if let EventBody::InstanceChanged { instance, deployment, .. } = &event.body {
                self.members.entry(deployment.clone()).or_default().insert(*instance);
            }
        }
    }

    pub fn must(&mut self, body: Command) {
        let name = body.name();
        let entry = self.entry(body, false, 1);
        let applied = self.commit(&entry).unwrap_or_else(|e| panic!("{name}: {e}"));
        self.note(&applied);
    }

    fn workers(&mut self, s: u32) {
        for n in 0..GROUP {
            let pool = (1..=2 * PER_WORKER).map(|a| format!("10.{}.{}.{}", s / 250, s % 250, n * 2 * PER_WORKER + a));
            self.must(Command::WorkerRegistered(WorkerRegistered {
                name: worker(s, n),
                key: format!("{:064x}", s * GROUP + n),
                labels: BTreeMap::from([("group".into(), format!("g{s}"))]),
                capacity: 2 * PER_WORKER,
                build: "0.1.0".into(),
                host: format!("10.200.{}.{}", s / 250, s % 250),
                pool: pool.collect(),
                absent: Vec::new(),
                keeping: String::new(),
            }));
        }
    }

    fn service(&mut self, s: u32) {
        self.must(Command::SpecApplied(SpecApplied { spec: spec(s, "0"), expected: None }));
        self.must(Command::BlobHeld(BlobHeld { digest: digest(s), size: 10, node: 1 }));
        self.must(Command::ReleaseRegistered(ReleaseRegistered {
            service: Name::service(&format!("s{s}")).expect("a name"),
            version: version(),
            digest: digest(s),
            build: BuildInfo::default(),
            labels: BTreeMap::new(),
        }));
        self.start(s, false);
        while let Some(command) = self.next(s) {
            self.must(command);
        }
    }

    /// Asks for a rollout of the service.
    pub fn start(&mut self, s: u32, restart: bool) {
        let params = RolloutParams {
            strategy: Some(StrategyName::DIRECT),
            bake: Period::seconds(1),
            ..RolloutParams::default()
        };
        let ask = StartRollout {
            deployment: deployment(s),
            version: version(),
            overrides: params.into(),
            restart,
            replace: false,
            expected: None,
        };
        self.must(Command::StartRollout(ask));
    }

    pub fn live(&self, s: u32) -> Option<RolloutId> {
        self.state.deployments.get(&deployment(s))?.live
    }

    /// The planner's next command for this service, or what its workers report meanwhile; `None` once nothing is under
    /// way.
    pub fn next(&mut self, s: u32) -> Option<Command> {
        for _ in 0..1000 {
            let (cut, seen) = self.cut(s);
            if let Some(command) = plan(&cut, &seen, Millis(self.now)).commands.into_iter().next() {
                return Some(command);
            }
            let draining = cut.instances.values().any(|i| matches!(i.life, Life::Draining | Life::Stopping));
            if let Some(report) = self.reports(s, &cut) {
                return Some(report);
            }
            if self.live(s).is_none() && !draining {
                return None;
            }
            self.now += 500;
        }
        panic!("service {s} makes no progress");
    }

    /// State with one deployment and its workers alone.
    fn cut(&self, s: u32) -> (State, Observations) {
        let all = &self.state;
        let id = deployment(s);
        let mut cut = State {
            now: all.now,
            applied: all.applied,
            cluster: all.cluster.clone(),
            nodes: all.nodes.clone(),
            environments: all.environments.clone(),
            releases: all.releases.clone(),
            blobs: all.blobs.clone(),
            events: all.events.clone(),
            ..State::default()
        };
        cut.deployments.insert(id.clone(), all.deployments[&id].clone());
        cut.specs =
            all.specs.range((id.clone(), 0)..=(id.clone(), u64::MAX)).map(|(k, v)| (k.clone(), v.clone())).collect();
        let known = all.deployments[&id].live.into_iter().chain(all.deployments[&id].last);
        cut.rollouts = known.filter_map(|r| Some((r, all.rollouts.get(&r)?.clone()))).collect();
        let mut seen = Observations::default();
        for w in (0..GROUP).map(|n| worker(s, n)) {
            let row = all.workers[&w].clone();
            let none = WorkerFacts {
                worker: w.clone(),
                epoch: 1,
                seq: row.report.1,
                instances: vec![],
                reached: vec![],
                staged: None,
            };
            seen.workers.insert(w.clone(), Seen::Known { at: Millis(self.now), value: none });
            if let Some(a) = all.assignments.get(&(w.clone(), id.clone())) {
                cut.assignments.insert((w.clone(), id.clone()), a.clone());
            }
            cut.workers.insert(w, row);
        }
        for i in self.members.get(&id).into_iter().flatten() {
            if let Some(row) = all.instances.get(i) {
                cut.instances.insert(*i, row.clone());
            }
        }
        let ttls = BTreeMap::from([(id, 5000)]);
        let value = NodeSeen { served_index: self.index(), ttls, serving_since: Millis(0), unready_since: None };
        seen.nodes.insert(1, Seen::Known { at: Millis(self.now), value });
        (cut, seen)
    }

    /// What every worker of the service would report now, as one command, if any of it is new.
    fn reports(&self, s: u32, cut: &State) -> Option<Command> {
        let workers: Vec<WorkerFacts> = (0..GROUP).filter_map(|n| report(cut, &worker(s, n), &deployment(s))).collect();
        (!workers.is_empty()).then_some(Command::FactsRecorded(FactsRecorded { workers }))
    }
}

fn report(s: &State, name: &WorkerName, id: &DeploymentId) -> Option<WorkerFacts> {
    let w = s.workers.get(name)?;
    let a = s.assignments.get(&(name.clone(), id.clone()));
    let hold: Vec<Digest> = a.map(|a| a.content.hold.clone()).unwrap_or_default();
    let told = |i: InstanceId| {
        a.is_some_and(|a| a.permit >= Permit::Activate && a.content.instances.iter().any(|e| e.id == i))
    };
    let mut instances = Vec::new();
    for i in s.instances.values().filter(|i| &i.worker == name) {
        let (life, health) = match i.life {
            Life::Starting if told(i.id) => (Life::Running, Health::Passing),
            Life::Stopping => (Life::Gone, Health::Unknown),
            Life::Starting | Life::Running | Life::Draining | Life::Gone | Life::Failed => continue,
        };
        instances.push(InstanceFact { id: i.id, life, health, failures: 0, restarts: 0, exit: None });
    }
    let said = a.and_then(|a| {
        let word = match (a.permit, a.content.instances.is_empty()) {
            (Permit::Stage, _) | (_, true) => Reached::Staged,
            (Permit::Activate, false) => Reached::Active,
            (Permit::Commit, false) => Reached::Committed,
        };
        let (fact, fit) = ((a.generation, word), a.content.next.as_ref().map(|_| Fit::Fits));
        (a.reached.as_ref() != Some(&fact) || !a.fits()).then(|| ReachedFact {
            deployment: id.clone(),
            generation: fact.0,
            reached: fact.1,
            fit,
        })
    });
    let staged = (w.staged != hold).then_some(hold);
    if instances.is_empty() && said.is_none() && staged.is_none() {
        return None;
    }
    let reached = said.into_iter().collect();
    Some(WorkerFacts { worker: name.clone(), epoch: 1, seq: w.report.1 + 1, instances, reached, staged })
}

/// One instance's health changes, as its worker reports it.
pub fn transition(w: &World, s: u32, n: u32, instance: InstanceId) -> Command {
    let name = worker(s, n);
    let health = match w.state.instances[&instance].health {
        Health::Passing => Health::Failing,
        Health::Failing | Health::Unknown => Health::Passing,
    };
    let fact = InstanceFact { id: instance, life: Life::Running, health, failures: 0, restarts: 0, exit: None };
    let seq = w.state.workers[&name].report.1 + 1;
    let facts = WorkerFacts { worker: name, epoch: 1, seq, instances: vec![fact], reached: vec![], staged: None };
    Command::FactsRecorded(FactsRecorded { workers: vec![facts] })
}
