//! A node that has one of everything and changes nothing: what each verb prints of it is held by golden texts.

mod logs;

use std::pin::Pin;

use futures_util::Stream;
use tokio::net::TcpListener;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Request, Response, Status, transport::Server};

use crate::model::Named;
use crate::wire::{
    unanswered,
    v1::{
        self,
        catalog_server::{Catalog, CatalogServer},
        cluster_server::{Cluster, ClusterServer},
        events_server::{Events, EventsServer},
        rollouts_server::{Rollouts, RolloutsServer},
        traffic_server::{Traffic, TrafficServer},
        workers_server::{Workers, WorkersServer},
    },
};

#[derive(Clone)]
pub struct Fake {
    /// Its own client address.
    pub address: String,
}

type Boxed<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// Calls that are answered at once, with a value.
macro_rules! answers {
    ($($call:ident($ask:ident) -> $reply:ty = |$me:ident, $asked:ident| $value:expr;)+) => {$(
        fn $call<'s, 'a>(
            &'s self,
            asked: Request<v1::$ask>,
        ) -> futures_util::future::BoxFuture<'a, Result<Response<$reply>, Status>>
        where
            's: 'a,
            Self: 'a,
        {
            let ($me, $asked) = (self, asked.into_inner());
            let _ = (&$me, &$asked);
            let said: Result<$reply, Status> = $value;
            Box::pin(async { said.map(Response::new) })
        }
    )+};
}

fn refused(code: tonic::Code, reason: &'static str, text: &str) -> Status {
    let mut status = Status::new(code, text);
    status.metadata_mut().insert(crate::wire::REASON, reason.parse().unwrap());
    status
}

fn missing(kind: Named, name: &str) -> Status {
    refused(tonic::Code::NotFound, "not_found", &kind.missing(name, ["production/shop"]))
}

fn page() -> Option<v1::PageInfo> {
    Some(v1::PageInfo { index: 520, now_ms: 60_000, ..Default::default() })
}

fn receipt() -> Option<v1::Receipt> {
    Some(v1::Receipt { index: 521, now_ms: 60_000, repeated: false })
}

fn pair(version: &str) -> Option<v1::Pair> {
    Some(v1::Pair { version: version.into(), digest: "ab".repeat(32), spec: 3 })
}

fn map(pairs: &[(&str, &str)]) -> std::collections::BTreeMap<String, String> {
    pairs.iter().map(|(k, v)| ((*k).into(), (*v).into())).collect()
}

fn node(id: u64, address: &str) -> v1::Node {
    v1::Node {
        node_id: id,
        name: format!("n{id}"),
        peer_addr: format!("10.0.0.{id}:7651"),
        client_addr: if id == 1 { address.into() } else { String::new() },
        dns_addr: format!("10.0.0.{id}:8653"),
        role: "voter".into(),
        leader: id == 1,
        drained: id == 2,
        served_index: 520,
        version: "0.1.0".into(),
        min_level: 1,
        max_level: 1,
        matched: 520,
        reachable: Some(id != 3),
        ..Default::default()
    }
}

fn rollout(id: &str) -> Option<v1::Rollout> {
    let live = match id {
        "r-52" => true,
        "r-40" => false,
        _ => return None,
    };
    let step = |detail: &str, status: &str| v1::Step {
        group: "25 %".into(),
        kind: detail.split(' ').next().unwrap_or_default().into(),
        detail: detail.into(),
        status: status.into(),
        started_at_ms: 50_000,
        ..Default::default()
    };
    Some(v1::Rollout {
        id: id.into(),
        deployment: "production/shop".into(),
        kind: "forward".into(),
        from: pair(if live { "1.0.0" } else { "0.9.0" }),
        to: pair(if live { "1.1.0" } else { "1.0.0" }),
        strategy: "canary".into(),
        status: if live { "active" } else { "completed" }.into(),
        desired: 4,
        steps: vec![step("install 25 %", "passed"), step("bake 5m", if live { "running" } else { "passed" })],
        waits: if live { vec!["3 of 20 requests seen by 1.1.0".into()] } else { Vec::new() },
        ways_out: if live { vec!["slipway rollout promote r-52".into()] } else { Vec::new() },
        terminal: !live,
        started_at_ms: 40_000,
        now_ms: 60_000,
        applied_index: 520,
        ..Default::default()
    })
}

fn deployment() -> v1::Deployment {
    let arm = |role: &str, version: &str, weight_bp: u32, serving: u32| v1::Arm {
        role: role.into(),
        pair: pair(version),
        want: serving.max(1),
        serving,
        live: serving,
        weight_bp,
        ..Default::default()
    };
    v1::Deployment {
        id: "production/shop".into(),
        spec: 3,
        arms: vec![arm("stable", "1.0.0", 7500, 3), arm("candidate", "1.1.0", 2500, 0)],
        route: Some(v1::Route { incarnation: 1, generation: 7, mode: "weighted".into(), ttl_s: 1 }),
        desired: 4,
        live_rollout: "r-52".into(),
        last_rollout: "r-40".into(),
        dns_name: "shop.production.svc.slipway.internal".into(),
        ..Default::default()
    }
}

/// One that serves, one on trial that has failed, one that was kept, one that nothing ran, and one that was fled from.
fn releases() -> Vec<v1::Release> {
    let serving = |role: &str, weight_bp: u32| {
        vec![v1::ReleaseUse { deployment: "production/shop".into(), role: role.into(), weight_bp }]
    };
    let fled = |release: v1::Release, reason: &str, reason_label: &str| v1::Release {
        failed_in: "r-52".into(),
        reason: reason.into(),
        reason_label: reason_label.into(),
        ..release
    };
    vec![
        release("0.9.0", "deprecated"),
        v1::Release { runs_in: serving("stable", 7500), ..release("1.0.0", "active") },
        fled(
            v1::Release { runs_in: serving("candidate", 2500), ..release("1.1.0", "canary") },
            "instance 51-1: on w1 exited with status 3; its last words: no DB_URL",
            "health_check",
        ),
        fled(release("1.1.1", "deprecated"), "by operator:ann", "manual"),
        release("1.2.0", "ready"),
    ]
}

fn release(version: &str, status: &str) -> v1::Release {
    v1::Release {
        registered_at_ms: 20_000,
        service: "shop".into(),
        version: version.into(),
        digest: "ab".repeat(32),
        size: 123_456,
        status: status.into(),
        build: Some(v1::BuildInfo { commit: "b7e4c27".into(), ..Default::default() }),
        holders: 3,
        voters: 3,
        // What turns a line around and colours a terminal.
        meta: Some(v1::Meta { labels: map(&[("team", "\u{202e}pohs\u{1b}[31m")]), ..Default::default() }),
        ..Default::default()
    }
}

fn instance(n: u32, version: &str, life: &str) -> v1::Instance {
    v1::Instance {
        id: format!("51-{n}"),
        deployment: "production/shop".into(),
        pair: pair(version),
        role: if version == "1.0.0" { "stable" } else { "candidate" }.into(),
        worker: "w1".into(),
        address: format!("10.1.0.{n}"),
        ports: [("http".to_string(), 8080)].into(),
        status: life.into(),
        health: if life == "running" { "passing" } else { "unknown" }.into(),
        exit: if life == "failed" { "exited with status 3; its last words: no DB_URL" } else { "" }.into(),
        serves: life == "running",
        ..Default::default()
    }
}

fn switch(id: &str) -> v1::Switch {
    v1::Switch {
        id: id.into(),
        targets: vec![v1::SwitchTarget {
            deployment: "production/shop".into(),
            from_version: "1.0.0".into(),
            to_version: "1.1.0".into(),
        }],
        wait: "fenced".into(),
        phase: "ended".into(),
        index: 308,
        moved_at_ms: 30_000,
        ended: true,
        ended_at_ms: 30_040,
        fenced: true,
        fenced_at_ms: 30_040,
        clear_at_ms: 31_040,
        servers: vec![v1::SwitchServer { node_id: 1, node: "n1".into(), status: "served".into(), at_ms: 30_012 }],
        ..Default::default()
    }
}

fn lease() -> v1::Lease {
    v1::Lease {
        mode: "armed".into(),
        duration_ms: 3000,
        drift_ppm: 200,
        margin_ms: 50,
        bound_ms: 3060,
        switches: vec![switch("s-308")],
        now_ms: 60_000,
        ..Default::default()
    }
}

#[tonic::async_trait]
impl Cluster for Fake {
    answers! {
        status(StatusRequest) -> v1::StatusReply = |me, _asked| Ok(v1::StatusReply {
            cluster_id: "c-1".into(),
            name: "shop".into(),
            zone: "slipway.internal".into(),
            node_id: 1,
            leader_id: 1,
            term: 4,
            applied_index: 520,
            now_ms: 60_000,
            quorum: true,
            nodes: (1..=3).map(|id| node(id, &me.address)).collect(),
            version: "0.1.0".into(),
            level: 1,
            dns_cookie_index: 4,
            ..Default::default()
        });
        init(InitRequest) -> v1::InitReply = |_me, _asked| Err(refused(tonic::Code::AlreadyExists, "conflict",
            "this node belongs to cluster c-1 already"));
        join(JoinRequest) -> v1::JoinReply = |_me, _asked| Ok(v1::JoinReply {
            cluster_id: "c-1".into(), node_id: 1, node: "n1".into(), role: "voter".into() });
        digest(DigestRequest) -> v1::DigestReply = |_me, _asked| Ok(v1::DigestReply {
            index: 521, agreed: true, nodes: vec![v1::NodeDigest {
                node_id: 1, node: "n1".into(), reported: true, digest: "abcd".into(), ..Default::default() }],
            ..Default::default() });
        transfer_leader(TransferLeaderRequest) -> v1::TransferLeaderReply = |_me, asked| Ok(v1::TransferLeaderReply {
            leader_id: asked.to.max(1), term: 5 });
        leave(LeaveRequest) -> v1::LeaveReply = |_me, asked| Ok(v1::LeaveReply {
            node_id: asked.node, node: format!("n{}", asked.node), role: "removed".into() });
        drain(DrainRequest) -> v1::DrainReply = |_me, asked| Ok(v1::DrainReply {
            node_id: asked.node.max(1), node: format!("n{}", asked.node.max(1)), drained: !asked.undo });
        rotate_dns_cookie(RotateDnsCookieRequest) -> v1::RotateDnsCookieReply =
            |_me, _asked| Ok(v1::RotateDnsCookieReply { receipt: receipt() });
        finalize(FinalizeRequest) -> v1::FinalizeReply = |_me, asked| Ok(v1::FinalizeReply {
            from_level: asked.from, level: asked.from + 1, receipt: receipt() });
    }
}

#[tonic::async_trait]
impl Catalog for Fake {
    answers! {
        apply(ApplyRequest) -> v1::ApplyReply = |_me, _asked| Ok(v1::ApplyReply {
            receipt: receipt(), deployment: "production/shop".into(), spec: 4, changed: true,
            changes: vec!["rollout.bake: 5m -> 10m".into()], ..Default::default() });
        retire_release(ReleaseVerbRequest) -> v1::Changed =
            |_me, _asked| Ok(v1::Changed { receipt: receipt(), ..Default::default() });
        remove_release(ReleaseVerbRequest) -> v1::Changed =
            |_me, _asked| Ok(v1::Changed { receipt: receipt(), ..Default::default() });
        prune_releases(PruneReleasesRequest) -> v1::Changed =
            |_me, _asked| Ok(v1::Changed { receipt: receipt(), removed_versions: vec!["0.9.0".into()], ..Default::default() });
        remove_worker(RemoveWorkerRequest) -> v1::Changed =
            |_me, _asked| Ok(v1::Changed { receipt: receipt(), lines: vec!["worker w1 was removed".into()], ..Default::default() });
        rekey_worker(RekeyWorkerRequest) -> v1::Changed =
            |_me, _asked| Ok(v1::Changed { receipt: receipt(), lines: vec!["worker w1 may come with another key".into()], ..Default::default() });
        remove_deployment(RemoveDeploymentRequest) -> v1::Changed =
            |_me, _asked| Ok(v1::Changed { receipt: receipt(), lines: vec!["production/shop: removed".into()], ..Default::default() });
        stop_deployment(DeploymentRequest) -> v1::Changed = |_me, asked| {
            let lines = vec![format!("{}: is being stopped: it leaves DNS, drains and stops", asked.deployment)];
            Ok(v1::Changed { receipt: receipt(), lines, ..Default::default() })
        };
        start_deployment(DeploymentRequest) -> v1::Changed =
            |_me, _asked| Ok(v1::Changed { receipt: receipt(), ..Default::default() });
        remove_service(NamedRequest) -> v1::Changed =
            |_me, _asked| Ok(v1::Changed { receipt: receipt(), lines: vec!["service shop was removed".into()], ..Default::default() });
        create_environment(EnvironmentRequest) -> v1::Changed =
            |_me, _asked| Ok(v1::Changed { receipt: receipt(), lines: vec!["environment beta was made".into()], ..Default::default() });
        set_environment(EnvironmentRequest) -> v1::Changed =
            |_me, _asked| Ok(v1::Changed { receipt: receipt(), ..Default::default() });
        remove_environment(NamedRequest) -> v1::Changed =
            |_me, _asked| Ok(v1::Changed { receipt: receipt(), lines: vec!["environment beta was removed".into()], ..Default::default() });
        set_settings(SetSettingsRequest) -> v1::Changed =
            |_me, _asked| Ok(v1::Changed { receipt: receipt(), lines: vec!["settings: limits.history_per_deployment 50 -> 20".into()], ..Default::default() });
        get_settings(GetSettingsRequest) -> v1::SettingsReply = |_me, _asked| Ok(v1::SettingsReply {
            settings: vec![v1::Setting {
                name: "limits.history_per_deployment".into(), value: "20".into(), default: "50".into(),
                range: "from 0 to 1000".into(), about: "Ended rollouts kept of each deployment".into() }] });
        list_environments(ListRequest) -> v1::ListEnvironmentsReply = |_me, _asked| Ok(v1::ListEnvironmentsReply {
            page: page(), items: ["production", "staging"].map(|name| v1::Environment {
                name: name.into(), default_strategy: "canary".into(), on_no_data: "hold".into(), ..Default::default()
            }).to_vec() });
        list_services(ListRequest) -> v1::ListServicesReply = |_me, _asked| Ok(v1::ListServicesReply {
            page: page(), items: vec![v1::Service {
                name: "shop".into(), release_count: 3, deployment_ids: vec!["production/shop".into()], ..Default::default() }] });
        list_releases(ListRequest) -> v1::ListReleasesReply = |_me, asked| Ok(v1::ListReleasesReply {
            page: page(), items: if ["", "shop"].contains(&asked.service.as_str()) {
                releases()
            } else { Vec::new() } });
        list_deployments(ListRequest) -> v1::ListDeploymentsReply = |_me, asked| Ok(v1::ListDeploymentsReply {
            page: page(), items: if asked.environment == "staging" { Vec::new() } else { vec![deployment()] } });
        list_workers(ListRequest) -> v1::ListWorkersReply = |_me, _asked| Ok(v1::ListWorkersReply {
            page: page(), items: ["w1", "w2", &"w".repeat(63)].map(|name| v1::Worker {
                name: name.into(), status: if name == "w2" { "lost" } else { "ready" }.into(), capacity: 100,
                host: "10.1.0.1".into(), pool_free: 6, pool_size: 8, instance_count: 2, ..Default::default() }).to_vec() });
        list_instances(ListRequest) -> v1::ListInstancesReply = |_me, asked| Ok(v1::ListInstancesReply {
            page: page(), items: [(0, "1.0.0", "running"), (1, "1.1.0", "failed"), (2, "0.9.0", "gone")].into_iter()
                .filter(|(_, _, life)| asked.all || *life == "running")
                .map(|(n, version, life)| instance(n, version, life)).collect() });
    }
    unanswered! {
        register_release(RegisterReleaseRequest) -> v1::RegisterReleaseReply;
        get_spec(GetSpecRequest) -> v1::GetSpecReply;
    }
}

#[tonic::async_trait]
impl Rollouts for Fake {
    answers! {
        start(StartRequest) -> v1::StartReply = |_me, asked| match asked.deployment.as_str() {
            "production/shop" => Ok(v1::StartReply { receipt: receipt(), rollout: "r-40".into(), notes: vec![
                "batches of 1 instead of 2, as there is room for no more".into()] }),
            other => Err(missing(Named::Deployment, other)),
        };
        plan(StartRequest) -> v1::PlanReply = |_me, asked| Ok(v1::PlanReply {
            strategy: "canary".into(), desired: 4, from_version: "1.0.0".into(), to_version: asked.version,
            steps: rollout("r-40").unwrap().steps, notes: vec!["going back: at once".into()], revision: 17 });
        get(GetRolloutRequest) -> v1::Rollout = |_me, asked| {
            let name = if asked.deployment == "production/shop" { "r-52" } else { asked.rollout.as_str() };
            let none = "production/cart has no rollout yet: `slipway rollout start production/cart --to 1.0.0` starts one";
            match asked.deployment.as_str() {
                "production/cart" => Err(refused(tonic::Code::FailedPrecondition, "no_rollout", none)),
                "" | "production/shop" => rollout(name).ok_or_else(|| missing(Named::Rollout, &asked.rollout)),
                other => Err(missing(Named::Deployment, other)),
            }
        };
        history(HistoryRequest) -> v1::HistoryReply = |_me, _asked| Ok(v1::HistoryReply {
            page: page(), items: ["r-52", "r-40"].iter().filter_map(|id| rollout(id)).collect() });
        pause(VerbRequest) -> v1::VerbReply = |_me, asked| if asked.rollout == "r-40" {
            Err(refused(tonic::Code::FailedPrecondition, "lifecycle", "r-40 is completed: it cannot be paused; \
                `slipway rollout rollback r-40` takes it back, `slipway rollout start production/shop --to VERSION` starts another"))
        } else { Ok(v1::VerbReply { receipt: receipt(), rollout: "r-52".into() }) };
        resume(VerbRequest) -> v1::VerbReply = |_me, _asked| Err(refused(tonic::Code::FailedPrecondition, "lifecycle",
            "r-52 is active: it cannot be resumed; \
                `slipway rollout explain r-52` says what it waits for and what ends it"));
        abort(AbortRequest) -> v1::VerbReply = |_me, _asked| Ok(v1::VerbReply { receipt: receipt(), rollout: "r-52".into() });
        promote(PromoteRequest) -> v1::VerbReply = |_me, asked| if asked.rollout == "r-40" {
            Err(refused(tonic::Code::FailedPrecondition, "lifecycle", "r-40 is completed: it cannot be promoted; it has ended"))
        } else { Ok(v1::VerbReply { receipt: receipt(), rollout: "r-40".into() }) };
        rollback(VerbRequest) -> v1::VerbReply = |_me, _asked| Ok(v1::VerbReply { receipt: receipt(), rollout: "r-40".into() });
        explain(ExplainRequest) -> v1::ExplainReply = |_me, asked| match asked.deployment.as_str() {
            "production/shop" => Ok(v1::ExplainReply {
                deployment: asked.deployment, rollout: "r-52".into(), status: "active".into(),
                summary: "r-52 to 1.1.0 is active, 25 %: bake".into(),
                waits: vec!["3 of 20 requests seen by 1.1.0".into()], leader_id: 1, now_ms: 60_000,
                ways_out: vec!["slipway rollout promote r-52".into()], ..Default::default() }),
            "production/cart" => Ok(v1::ExplainReply {
                deployment: asked.deployment, leader_id: 1, now_ms: 60_000,
                status: "no rollout yet: `slipway rollout start production/cart --to 1.0.0` starts one".into(),
                ..Default::default() }),
            other => Err(missing(Named::Deployment, other)),
        };
    }
}

#[tonic::async_trait]
impl Traffic for Fake {
    answers! {
        get_route(GetRouteRequest) -> v1::GetRouteReply = |_me, asked| Ok(v1::GetRouteReply {
            deployment: asked.deployment, dns_name: "shop.production.svc.slipway.internal".into(), generation: 7,
            mode: "weighted".into(), ttl_s: 1, dns_servers: vec!["10.0.0.1:8653".into()],
            ports: [("http".to_string(), 8080)].into(), applied_index: 520, now_ms: 60_000,
            shares: vec![v1::VersionShare { role: "stable".into(), version: "1.0.0".into(), weight_bp: 10_000, serving: 1,
                addresses: vec!["10.1.0.0".into()], answer_count: 40, ..Default::default() }], ..Default::default() });
        trace(TraceRequest) -> v1::TraceReply = |_me, asked| Ok(v1::TraceReply {
            node_id: 1, node: "n1".into(), dns_name: asked.name, outcome: "answer".into(), because: "it is served".into(),
            applied_index: 520, ..Default::default() });
        switch(SwitchRequest) -> v1::SwitchReply =
            |_me, _asked| Ok(v1::SwitchReply { receipt: receipt(), switch: Some(switch("s-521")) });
        get_switch(GetSwitchRequest) -> v1::Switch = |_me, asked| Ok(switch(&asked.switch));
        set_lease(SetLeaseRequest) -> v1::SetLeaseReply =
            |_me, _asked| Ok(v1::SetLeaseReply { receipt: receipt(), lease: Some(lease()) });
        get_lease(GetLeaseRequest) -> v1::Lease = |_me, _asked| Ok(lease());
    }
}

#[tonic::async_trait]
impl Events for Fake {
    type WatchStream = Boxed<v1::Event>;
    async fn watch(&self, r: Request<v1::WatchRequest>) -> Result<Response<Self::WatchStream>, Status> {
        let event = |index: u64, status: &str| v1::Event {
            index,
            kind: "rollout_changed".into(),
            rollout: "r-40".into(),
            deployment: "production/shop".into(),
            text: format!("production/shop: r-40 is {status}"),
            fields: map(&[("status", status)]),
            ..Default::default()
        };
        let held = [event(500, "active"), event(518, "completed")];
        let after = r.into_inner().after_index;
        let held: Vec<_> = held.into_iter().filter(|e| e.index > after).map(Ok).collect();
        Ok(Response::new(Box::pin(tokio_stream::iter(held))))
    }
}

#[tonic::async_trait]
impl Workers for Fake {
    type SessionStream = Boxed<v1::ToAgent>;
    type LogsStream = Boxed<v1::LogsItem>;
    async fn session(
        &self,
        _: Request<tonic::Streaming<v1::FromAgent>>,
    ) -> Result<Response<Self::SessionStream>, Status> {
        Err(Status::unimplemented("not in this test"))
    }
    async fn push_logs(
        &self,
        _: Request<tonic::Streaming<v1::LogChunk>>,
    ) -> Result<Response<v1::PushLogsReply>, Status> {
        Err(Status::unimplemented("not in this test"))
    }
    async fn logs(&self, asked: Request<v1::LogsRequest>) -> Result<Response<Self::LogsStream>, Status> {
        let all =
            logs::answer(asked.into_inner().previous).into_iter().map(|body| Ok(v1::LogsItem { body: Some(body) }));
        Ok(Response::new(Box::pin(tokio_stream::iter(all.collect::<Vec<_>>()))))
    }
}

/// Its address.
pub async fn serve() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let fake = Fake { address: address.clone() };
    let server = Server::builder()
        .add_service(ClusterServer::new(fake.clone()))
        .add_service(CatalogServer::new(fake.clone()))
        .add_service(RolloutsServer::new(fake.clone()))
        .add_service(TrafficServer::new(fake.clone()))
        .add_service(EventsServer::new(fake.clone()))
        .add_service(WorkersServer::new(fake));
    tokio::spawn(server.serve_with_incoming(TcpListenerStream::new(listener)));
    address
}
