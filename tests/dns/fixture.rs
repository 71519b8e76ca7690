//! A State made by hand, and a DNS server on real sockets that answers from it.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use hickory_proto::{
    op::{Edns, Message, MessageType, OpCode, Query},
    rr::{DNSClass, Name, RData, RecordType},
};
use slipway::{
    clock::Clock,
    dns::{Cookies, DnsLimits, DnsServer, DnsSettings, Rates, Responder, ReverseZones, ViewStore},
    model::{
        BasisPoints, ClusterId, DeploymentId, Digest, DnsPolicy, Health, InstanceId, Life, Millis, Name as Label,
        NodeId, OnNoData, Pair, Period, SpecFormat, StrategyName, WorkerName, read_spec,
    },
    state::{
        Arm, Arms, Cluster, Deployment, DrainState, Environment, FencePoint, Instance, Meta, NodeRole, NodeRow,
        Presence, Role, Route, RouteMode, Settings, State, Worker,
    },
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream, UdpSocket},
    time::timeout,
};

/// The service that most tests ask for.
pub const SHOP: &str = "shop.production.svc.slipway.internal.";
const PATIENCE: Duration = Duration::from_secs(5);

pub fn shop() -> DeploymentId {
    "production/shop".parse().unwrap()
}

pub fn pair(version: &str) -> Pair {
    // A digest that differs by version.
    let hash = version.bytes().fold(1_u128, |h, b| h.wrapping_mul(0x1_0000_01b3_0000_01b3).wrapping_add(b.into()));
    Pair { version: version.parse().unwrap(), digest: Digest::new(&format!("{hash:064x}")).unwrap(), spec: 1 }
}

/// State with a builder's methods; every change takes the next index.
#[derive(Clone)]
pub struct World(pub State);

/// The arm of a role becomes stable, and what was stable becomes previous.
pub fn switched(d: &mut Deployment, role: Role) {
    let to = d.arms.take(role).unwrap();
    let old = d.arms.put(Arm { role: Role::Stable, ..to }).unwrap();
    d.arms.put(Arm { role: Role::Previous, ..old });
}

impl World {
    /// A cluster of three nodes with `production` and nothing in it.
    pub fn new() -> Self {
        let mut state = State { incarnation: 1, now: Millis(1000), ..State::default() };
        state.applied.index = 10;
        state.cluster = Some(Arc::new(Cluster {
            meta: Meta::default(),
            id: ClusterId::new("c1").unwrap(),
            name: "test".into(),
            zone: "slipway.internal".into(),
            next_node_id: 4,
            settings: Settings::default(),
            parted: Default::default(),
        }));
        for id in 1..=3 {
            state.nodes.insert(id, node(id));
        }
        let name = Label::environment("production").unwrap();
        let environment = Environment {
            meta: Meta::default(),
            name: name.clone(),
            default_strategy: StrategyName::CANARY,
            order: 0,
            on_no_data: OnNoData::Hold,
        };
        state.environments.insert(name, environment);
        Self(state)
    }

    /// `production/shop`: a stable version on so many instances at 10.0.1.x, a candidate at 10.0.2.x, and weights.
    pub fn shop(stable: u32, candidate: u32, weights: (u32, u32)) -> Self {
        let mut w = Self::new();
        w.deploy();
        w.arm(Role::Stable, pair("1.0.0")).arm(Role::Candidate, pair("2.0.0"));
        for n in 0..stable {
            w.instance(100, n, "1.0.0", &format!("10.0.1.{}", n + 1));
        }
        for n in 0..candidate {
            w.instance(200, n, "2.0.0", &format!("10.0.2.{}", n + 1));
        }
        w.route(weights.0, weights.1);
        w
    }

    fn next(&mut self) -> u64 {
        self.0.applied.index += 1;
        self.0.applied.index
    }

    /// The deployment with its spec, without arms and route.
    pub fn deploy(&mut self) -> &mut Self {
        self.next();
        let text = "service: shop\nenvironment: production\nrun: {command: [bin/shop]}\naddress: pool\nports: {http: 8080, admin: 9000}\nhealth: {http: /healthz, port: http}\n";
        let spec = read_spec(text, SpecFormat::Yaml).unwrap();
        self.0.specs.insert((shop(), 1), Arc::new(spec));
        let (meta, arms) = (Meta::default(), Arms::default());
        let row = Deployment {
            meta,
            id: shop(),
            spec: 1,
            arms,
            route: None,
            desired: 0,
            live: None,
            last: None,
            as_is: None,
            removing: None,
            stop: None,
        };
        self.0.deployments.insert(shop(), row);
        self
    }

    /// Labels of the spec, as its fields write them.
    pub fn policy(&mut self, dns: DnsPolicy) -> &mut Self {
        let mut spec = self.0.specs.get(&(shop(), 1)).unwrap().clone();
        spec.dns = dns;
        spec.check().unwrap();
        self.0.specs.insert((shop(), 1), Arc::new(spec));
        self.deployment(|_| ())
    }

    pub fn deployment(&mut self, change: impl FnOnce(&mut Deployment)) -> &mut Self {
        let index = self.next();
        let mut row = self.0.deployments.get(&shop()).unwrap().clone();
        change(&mut row);
        row.meta.updated_index = index;
        self.0.deployments.insert(shop(), row);
        self
    }

    /// An arm with the weight that its role has.
    pub fn arm(&mut self, role: Role, pair: Pair) -> &mut Self {
        self.deployment(|d| {
            let weight = d.arms.weight(role);
            d.arms.put(Arm { want: 1, weight, ..Arm::new(role, pair) });
        })
    }

    /// A weighted route; a new generation.
    pub fn route(&mut self, stable: u32, candidate: u32) -> &mut Self {
        self.route_as(RouteMode::Weighted, 5, stable, candidate)
    }

    pub fn route_as(&mut self, mode: RouteMode, ttl: u64, stable: u32, candidate: u32) -> &mut Self {
        let generation = FencePoint { incarnation: 1, n: self.0.applied.index + 1 };
        let route = Route { generation, mode, ttl: Period::seconds(ttl), salt: 7 };
        self.deployment(|d| {
            d.route = Some(route);
            for arm in d.arms.iter_mut() {
                arm.weight = BasisPoints(match arm.role {
                    Role::Stable => stable,
                    Role::Candidate => candidate,
                    Role::Previous => 0,
                });
            }
        })
    }

    pub fn instance(&mut self, index: u64, ordinal: u32, version: &str, address: &str) -> InstanceId {
        let id = InstanceId { index, ordinal };
        let at = self.next();
        let row = Instance {
            meta: Meta { updated_index: at, ..Meta::default() },
            id,
            deployment: shop(),
            pair: pair(version),
            worker: worker_of(ordinal),
            address: address.into(),
            ports: BTreeMap::from([("http".to_string(), 8080), ("admin".to_string(), 9000)]).into(),
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
        };
        self.0.instances.insert(id, row);
        id
    }

    pub fn change(&mut self, id: InstanceId, change: impl FnOnce(&mut Instance)) -> &mut Self {
        self.next();
        let mut row = self.0.instances.get(&id).unwrap().clone();
        change(&mut row);
        self.0.instances.insert(id, row);
        self
    }

    pub fn fail(&mut self, id: InstanceId) -> &mut Self {
        self.change(id, |i| i.health = Health::Failing)
    }

    pub fn drain(&mut self, id: InstanceId) -> &mut Self {
        let (index, since) = (self.0.applied.index + 1, self.0.now);
        self.change(id, |i| {
            i.life = Life::Draining;
            i.drain = Some(DrainState { index, since, clear_at: None });
        })
    }

    /// A worker that the instances with this remainder of their ordinal run on.
    pub fn worker(&mut self, n: u32, lost_at: Option<u64>) -> &mut Self {
        self.next();
        let name = worker_of(n);
        let row = Worker {
            meta: Meta::default(),
            name: name.clone(),
            key: "00".repeat(32),
            capacity: 100,
            build: "test".into(),
            host: "127.0.0.1".into(),
            pool: Arc::default(),
            absent: Vec::new(),
            withdrawn: std::collections::BTreeSet::new(),
            keeping: String::new(),
            presence: if lost_at.is_some() { Presence::Lost } else { Presence::Ready },
            registered_at: Millis(0),
            lost_at: lost_at.map(Millis),
            set_generation: 1,
            staged: Vec::new(),
            report: (1, 1),
            rekey_until: None,
        };
        self.0.workers.insert(name, row);
        self
    }

    pub fn at(&mut self, now: u64) -> &mut Self {
        self.next();
        self.0.now = Millis(now);
        self
    }

    pub fn state(&self) -> Arc<State> {
        Arc::new(self.0.clone())
    }
}

fn worker_of(n: u32) -> WorkerName {
    WorkerName::new(&format!("w{}", n % 4)).unwrap()
}

fn node(id: NodeId) -> NodeRow {
    NodeRow {
        meta: Meta::default(),
        id,
        name: format!("n{id}"),
        peer_addr: format!("127.0.0.{id}:7000"),
        client_addr: format!("127.0.0.{id}:7001"),
        dns_addr: format!("127.0.0.{id}:8653"),
        level: 1,
        role: NodeRole::Voter,
        silent_since: None,
        served: 0,
        version: String::new(),
        min_level: 1,
        drained: false,
    }
}

/// A server on loopback, UDP and TCP on one port.
pub struct Serving {
    pub address: SocketAddr,
    pub store: Arc<ViewStore>,
    pub responder: Arc<Responder>,
    pub clock: Clock,
    server: DnsServer,
}

impl Serving {
    /// Serves a State, ready; its clock stands still until told.
    pub async fn start(world: &World) -> Self {
        let it = Self::start_unready(DnsLimits::default()).await;
        it.store.publish(&world.state());
        it.store.set_ready(true);
        it
    }

    /// The same with settings and limits of the server.
    pub async fn start_with(world: &World, limits: DnsLimits, settings: DnsSettings) -> Self {
        let it = Self::bound(limits, settings).await;
        it.store.publish(&world.state());
        it.store.set_ready(true);
        it
    }

    pub async fn start_unready(limits: DnsLimits) -> Self {
        Self::bound(limits, settings()).await
    }

    async fn bound(limits: DnsLimits, settings: DnsSettings) -> Self {
        let (udp, tcp) = loop {
            // A port that is free for UDP may be taken for TCP: try another.
            let udp = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
            if let Ok(tcp) = TcpListener::bind(udp.local_addr().unwrap()).await {
                break (udp, tcp);
            }
        };
        Self::with(udp, tcp, limits, settings)
    }

    /// Serves on these sockets, without a view.
    pub fn with(udp: UdpSocket, tcp: TcpListener, limits: DnsLimits, settings: DnsSettings) -> Self {
        let (store, clock) = (Arc::new(ViewStore::new()), Clock::manual(0));
        store.set_node(2);
        let responder = Arc::new(Responder::with(Arc::clone(&store), clock.clone(), settings));
        let address = udp.local_addr().unwrap();
        let server = DnsServer::start(vec![udp], vec![tcp], Arc::clone(&responder), &limits);
        Self { address, store, responder, clock, server }
    }

    pub fn publish(&self, world: &World) {
        self.store.publish(&world.state());
    }

    pub async fn stop(self) {
        self.server.stop().await;
    }

    pub async fn client(&self) -> Client {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        socket.connect(self.address).await.unwrap();
        Client { socket, address: self.address }
    }
}

/// Reverse zones and cookies, and no limits.
pub fn settings() -> DnsSettings {
    DnsSettings {
        reverse: ReverseZones::new(&["10.0.0.0/8", "172.16.0.0/12", "fc00::/7"].map(|p| p.parse().unwrap())),
        cookies: Cookies::new(vec![[7; 16]]),
        rates: Rates::NONE,
        nsid: "n2".into(),
    }
}

/// A UDP socket that asks one server; TCP on demand.
pub struct Client {
    socket: UdpSocket,
    address: SocketAddr,
}

/// A plain query.
pub fn query(name: &str, kind: RecordType) -> Message {
    let mut m = Message::new(rand::random(), MessageType::Query, OpCode::Query);
    m.add_query(Query::query(Name::from_ascii(name).unwrap(), kind));
    m.metadata.recursion_desired = true;
    m
}

/// A query below `SHOP` whose first label may be any octets.
pub fn odd(label: &[u8], kind: RecordType) -> Message {
    let rest = SHOP.trim_end_matches('.').split('.').map(str::as_bytes);
    let mut m = query(SHOP, kind);
    m.queries[0].set_name(Name::from_labels([label].into_iter().chain(rest)).unwrap());
    m
}

/// A query with EDNS of a size and version.
pub fn edns(mut m: Message, size: u16, version: u8) -> Message {
    let mut e = Edns::new();
    e.set_max_payload(size).set_version(version);
    m.edns = Some(e);
    m
}

pub fn class(mut m: Message, class: DNSClass) -> Message {
    m.queries[0].set_query_class(class);
    m
}

impl Client {
    pub async fn ask(&self, name: &str, kind: RecordType) -> Message {
        self.send(&query(name, kind)).await.1
    }

    /// Sends a query and returns the response with its size; checks what must hold for every response.
    pub async fn send(&self, m: &Message) -> (usize, Message) {
        self.socket.send(&m.to_vec().unwrap()).await.unwrap();
        let (n, r) = self.receive().await;
        assert_eq!(r.metadata.id, m.metadata.id);
        assert_eq!(r.metadata.message_type, MessageType::Response);
        assert!(!r.metadata.recursion_available);
        (n, r)
    }

    pub async fn send_bytes(&self, bytes: &[u8]) {
        self.socket.send(bytes).await.unwrap();
    }

    pub async fn receive(&self) -> (usize, Message) {
        let mut buffer = vec![0; 65_535];
        let n = timeout(PATIENCE, self.socket.recv(&mut buffer)).await.expect("no response in time").unwrap();
        (n, Message::from_vec(&buffer[..n]).unwrap())
    }

    pub async fn tcp(&self, m: &Message) -> Message {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        tcp_ask(&mut stream, m).await
    }

    /// The addresses of an A look-up.
    pub async fn a(&self, name: &str) -> Vec<Ipv4Addr> {
        addresses(&self.ask(name, RecordType::A).await)
    }
}

pub async fn tcp_ask(stream: &mut TcpStream, m: &Message) -> Message {
    let bytes = m.to_vec().unwrap();
    stream.write_all(&u16::try_from(bytes.len()).unwrap().to_be_bytes()).await.unwrap();
    stream.write_all(&bytes).await.unwrap();
    let n = timeout(PATIENCE, stream.read_u16()).await.expect("no response in time").unwrap();
    let mut buffer = vec![0; n.into()];
    timeout(PATIENCE, stream.read_exact(&mut buffer)).await.expect("no response in time").unwrap();
    Message::from_vec(&buffer).unwrap()
}

pub fn addresses(m: &Message) -> Vec<Ipv4Addr> {
    let v4 = m.answers.iter().filter_map(|r| match &r.data {
        RData::A(a) => Some(a.0),
        _ => None,
    });
    v4.collect()
}

/// Which version an answer of `World::shop` names; fails when it mixes them.
pub fn version(addresses: &[Ipv4Addr]) -> u8 {
    let third: std::collections::BTreeSet<u8> = addresses.iter().map(|a| a.octets()[2]).collect();
    assert_eq!(third.len(), 1, "one version a response: {addresses:?}");
    third.into_iter().next().unwrap()
}

pub fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}
