//! A State with rows in it: a node, a worker, a release, a spec and a live rollout.

use slipway::{
    model::{BuildInfo, Digest, Millis, Name, Overrides, Principal, SpecFormat, WorkerName, read_spec},
    raft::Consensus,
    state::{
        Command, StartRollout,
        command::{BlobHeld, ClusterInit, ReleaseRegistered, SpecApplied, WorkerRegistered},
    },
};

use super::cluster::CLUSTER;

/// The cluster's first entry, as node 1 asks for it.
pub fn init(name: &str) -> Command {
    Command::ClusterInit(ClusterInit {
        id: slipway::model::ClusterId::new(CLUSTER).unwrap(),
        name: name.into(),
        zone: "slipway.internal".into(),
        node: slipway::state::NewNode {
            name: "n1".into(),
            peer_addr: "127.0.0.1:7001".into(),
            client_addr: "127.0.0.1:7002".into(),
            dns_addr: "127.0.0.1:7003".into(),
            level: 1,
        },
    })
}

/// A cluster with a worker, a release and a rollout that has begun, asked for under request ids.
pub async fn furnish(at: &Consensus) {
    let digest = Digest::new(&"ab".repeat(32)).unwrap();
    let spec = "service: shop\nenvironment: production\naddress: pool\nrun: {command: [bin/shop]}\nports: {http: 8080}\n\
                placement: {per_worker: 2}\nhealth: {http: /healthz}\nrollout: {strategy: direct}\n";
    let bodies = [
        init("shop"),
        Command::WorkerRegistered(WorkerRegistered {
            name: WorkerName::new("w1").unwrap(),
            key: "cd".repeat(32),
            labels: [("zone".to_string(), "a".to_string())].into(),
            capacity: 8,
            build: "1.0.0".into(),
            host: "10.0.0.1".into(),
            pool: vec!["10.0.1.1".into(), "10.0.1.2".into()],
            absent: vec![],
            keeping: "cgroup".into(),
        }),
        Command::BlobHeld(BlobHeld { digest: digest.clone(), size: 5, node: 1 }),
        Command::ReleaseRegistered(ReleaseRegistered {
            service: Name::service("shop").unwrap(),
            version: "1.0.0".parse().unwrap(),
            digest,
            build: BuildInfo::default(),
            labels: [].into(),
        }),
        Command::SpecApplied(SpecApplied { spec: read_spec(spec, SpecFormat::Yaml).unwrap(), expected: None }),
        Command::StartRollout(StartRollout {
            deployment: "production/shop".parse().unwrap(),
            version: "1.0.0".parse().unwrap(),
            overrides: Overrides::default(),
            restart: false,
            replace: false,
            expected: None,
        }),
    ];
    for (n, body) in bodies.into_iter().enumerate() {
        let request = slipway::state::Fence {
            id: slipway::model::RequestId::new(&format!("furnish-{n}")).unwrap(),
            not_after: Millis(60_000),
        };
        let said = at.submit(Principal::local_operator(), Some(request), body.clone()).await.unwrap();
        said.result.unwrap_or_else(|e| panic!("{body:?}: {e}"));
    }
}
