//! The unary calls, one method each.
//!
//! Invariants: reads are repeated freely; a change has one request id for all its tries; lists are read to their last
//! page. Not here: which node is asked, and when a call is tried again (`client`).

use std::time::Duration;

use super::{Client, ClientError};
use crate::wire::v1::{
    self, catalog_client::CatalogClient, cluster_client::ClusterClient, maintenance_client::MaintenanceClient,
    rollouts_client::RolloutsClient, traffic_client::TrafficClient, workers_client::WorkersClient,
};

/// Joining waits for the log to be copied.
const JOIN_LIMIT: Duration = Duration::from_secs(120);
/// Most pages of one list.
const MAX_PAGES: usize = 200;

macro_rules! reads {
    ($($(#[$doc:meta])* $method:ident = $service:ident::$rpc:ident($request:ident) -> $reply:ident;)*) => {
        impl Client {
            $($(#[$doc])*
            pub async fn $method(&self, request: v1::$request) -> Result<v1::$reply, ClientError> {
                self.call(|channel| {
                    let request = self.reading(request.clone());
                    async move { $service::new(channel).$rpc(request).await }
                })
                .await
            })*
        }
    };
}

macro_rules! changes {
    ($($(#[$doc:meta])* $method:ident = $service:ident::$rpc:ident($request:ident) -> $reply:ident;)*) => {
        impl Client {
            $($(#[$doc])*
            pub async fn $method(&self, mut request: v1::$request) -> Result<v1::$reply, ClientError> {
                if request.request.is_none() {
                    request.request = Some(self.new_request().await?);
                }
                let send = |request: v1::$request| {
                    self.call(move |channel| {
                        let request = request.clone();
                        async move { $service::new(channel).$rpc(request).await }
                    })
                };
                let before = self.sent();
                let mut said: Result<v1::$reply, ClientError> = send(request.clone()).await;
                if let Err(refused) = &said
                    && let Some(again) = self.by_their_time(refused, before, request.request.as_ref()).await?
                {
                    request.request = Some(again);
                    said = send(request).await;
                }
                let reply = said?;
                self.learn(reply.receipt.map_or(0, |r| r.now_ms));
                Ok(reply)
            })*
        }
    };
}

macro_rules! lists {
    ($($(#[$doc:meta])* $method:ident = $service:ident::$rpc:ident($request:ident) -> $reply:ident;)*) => {
        impl Client {
            $($(#[$doc])*
            pub async fn $method(&self, mut request: v1::$request) -> Result<v1::$reply, ClientError> {
                let mut all = v1::$reply::default();
                for _ in 0..MAX_PAGES {
                    let page: v1::$reply = self.call(|channel| {
                        let request = self.reading(request.clone());
                        async move { $service::new(channel).$rpc(request).await }
                    })
                    .await?;
                    all.items.extend(page.items);
                    all.page = page.page;
                    let info = all.page.clone().unwrap_or_default();
                    // What a node knows alone may be minutes old.
                    if !self.inner.limits.stale {
                        self.learn(info.now_ms);
                    }
                    if info.next.is_empty() {
                        break;
                    }
                    let limit = request.page.as_ref().map_or(0, |p| p.limit);
                    request.page = Some(v1::Page { limit, after: info.next });
                }
                Ok(all)
            })*
        }
    };
}

reads! {
    /// What a rollout would do.
    plan_rollout = RolloutsClient::plan(StartRequest) -> PlanReply;
    /// One rollout.
    rollout = RolloutsClient::get(GetRolloutRequest) -> Rollout;
    /// Whether all nodes hold the same State; asks them now.
    digest = ClusterClient::digest(DigestRequest) -> DigestReply;
    /// Why a deployment is not moving.
    explain = RolloutsClient::explain(ExplainRequest) -> ExplainReply;
    /// A deployment's spec, defaults filled in.
    spec = CatalogClient::get_spec(GetSpecRequest) -> GetSpecReply;
    /// Who gets which version, and where to ask DNS.
    route = TrafficClient::get_route(GetRouteRequest) -> GetRouteReply;
    /// Settings of the cluster, or of a service's rollouts.
    settings = CatalogClient::get_settings(GetSettingsRequest) -> SettingsReply;
    /// Why a node answers a name as it does.
    trace = TrafficClient::trace(TraceRequest) -> TraceReply;
    /// A switch, at its end if that comes in time.
    switch = TrafficClient::get_switch(GetSwitchRequest) -> Switch;
    /// Settings of serving leases, and switches.
    lease = TrafficClient::get_lease(GetLeaseRequest) -> Lease;
}

changes! {
    /// Switches deployments together.
    switch_traffic = TrafficClient::switch(SwitchRequest) -> SwitchReply;
    /// Settings of serving leases.
    set_lease = TrafficClient::set_lease(SetLeaseRequest) -> SetLeaseReply;
    /// Creates or changes a deployment's spec.
    apply = CatalogClient::apply(ApplyRequest) -> ApplyReply;
    /// Registers a release whose package was pushed.
    register_release = CatalogClient::register_release(RegisterReleaseRequest) -> RegisterReleaseReply;
    /// Takes a release out of use.
    retire_release = CatalogClient::retire_release(ReleaseVerbRequest) -> Changed;
    /// Removes a release.
    remove_release = CatalogClient::remove_release(ReleaseVerbRequest) -> Changed;
    /// Removes old releases that nothing needs, some at a time.
    prune_releases = CatalogClient::prune_releases(PruneReleasesRequest) -> Changed;
    /// Takes a machine that does not come back out of the cluster.
    remove_worker = CatalogClient::remove_worker(RemoveWorkerRequest) -> Changed;
    /// Lets another machine take a lost worker's place.
    rekey_worker = CatalogClient::rekey_worker(RekeyWorkerRequest) -> Changed;
    /// Removes a deployment.
    remove_deployment = CatalogClient::remove_deployment(RemoveDeploymentRequest) -> Changed;
    /// Stops a deployment until it is started.
    stop_deployment = CatalogClient::stop_deployment(DeploymentRequest) -> Changed;
    /// Starts a deployment that was stopped.
    start_deployment = CatalogClient::start_deployment(DeploymentRequest) -> Changed;
    /// Removes a service without deployments and releases.
    remove_service = CatalogClient::remove_service(NamedRequest) -> Changed;
    /// Makes an environment.
    create_environment = CatalogClient::create_environment(EnvironmentRequest) -> Changed;
    /// Changes an environment.
    set_environment = CatalogClient::set_environment(EnvironmentRequest) -> Changed;
    /// Removes an environment without deployments.
    remove_environment = CatalogClient::remove_environment(NamedRequest) -> Changed;
    /// Changes settings of the cluster, or of a service's rollouts.
    set_settings = CatalogClient::set_settings(SetSettingsRequest) -> Changed;
    /// Raises the feature level by one, from `request.from`.
    finalize = ClusterClient::finalize(FinalizeRequest) -> FinalizeReply;
    /// Asks for another secret of DNS cookies.
    rotate_dns_cookie = ClusterClient::rotate_dns_cookie(RotateDnsCookieRequest) -> RotateDnsCookieReply;
    /// Starts a rollout.
    start_rollout = RolloutsClient::start(StartRequest) -> StartReply;
    /// Pauses a rollout.
    pause = RolloutsClient::pause(VerbRequest) -> VerbReply;
    /// Resumes a paused rollout.
    resume = RolloutsClient::resume(VerbRequest) -> VerbReply;
    /// Puts traffic on stable and stops.
    abort = RolloutsClient::abort(AbortRequest) -> VerbReply;
    /// Ends the present step, or skips to the end.
    promote = RolloutsClient::promote(PromoteRequest) -> VerbReply;
    /// Unwinds a live rollout, or returns from the last completed one.
    rollback = RolloutsClient::rollback(VerbRequest) -> VerbReply;
}

lists! {
    /// Environments.
    environments = CatalogClient::list_environments(ListRequest) -> ListEnvironmentsReply;
    /// Services.
    services = CatalogClient::list_services(ListRequest) -> ListServicesReply;
    /// Releases.
    releases = CatalogClient::list_releases(ListRequest) -> ListReleasesReply;
    /// Deployments.
    deployments = CatalogClient::list_deployments(ListRequest) -> ListDeploymentsReply;
    /// Workers.
    workers = CatalogClient::list_workers(ListRequest) -> ListWorkersReply;
    /// Instances.
    instances = CatalogClient::list_instances(ListRequest) -> ListInstancesReply;
    /// Rollouts of a deployment, newest first.
    history = RolloutsClient::history(HistoryRequest) -> HistoryReply;
}

impl Client {
    /// What the answering node knows of the cluster. Its members become nodes to go on at: a client that outlives nodes
    /// asks now and then.
    pub async fn status(&self) -> Result<v1::StatusReply, ClientError> {
        let reply: v1::StatusReply =
            self.call(|channel| async move { ClusterClient::new(channel).status(v1::StatusRequest {}).await }).await?;
        self.inner.nodes.learn(&reply.nodes);
        // A node that no majority has confirmed lately may be far behind, and a request with its time would be refused
        // as expired elsewhere. Without a time whoever takes the request chooses.
        if reply.quorum {
            self.learn(reply.now_ms);
        }
        Ok(reply)
    }

    /// Makes a new cluster of the first node named.
    pub async fn init(&self, request: v1::InitRequest) -> Result<v1::InitReply, ClientError> {
        self.call_this_node(JOIN_LIMIT, |channel| {
            let request = request.clone();
            async move { ClusterClient::new(channel).init(request).await }
        })
        .await
    }

    /// Makes the first node named join the cluster of `request.seed`.
    pub async fn join(&self, request: v1::JoinRequest) -> Result<v1::JoinReply, ClientError> {
        self.call_this_node(JOIN_LIMIT, |channel| {
            let request = request.clone();
            async move { ClusterClient::new(channel).join(request).await }
        })
        .await
    }

    /// Makes the first node named write a snapshot of its log.
    pub async fn make_snapshot(&self) -> Result<v1::MakeSnapshotReply, ClientError> {
        self.call_this_node(JOIN_LIMIT, |channel| async move {
            MaintenanceClient::new(channel).make_snapshot(v1::MakeSnapshotRequest {}).await
        })
        .await
    }

    /// A backup, as it comes. Not resumed: a new call is another backup.
    pub async fn backup(&self, request: v1::BackupRequest) -> Result<tonic::Streaming<v1::BackupChunk>, ClientError> {
        self.call(|channel| {
            let request = self.reading(request);
            async move { MaintenanceClient::new(channel).backup(request).await }
        })
        .await
    }

    /// The next piece of a backup; `None` at the end of the stream.
    pub async fn next_chunk(
        stream: &mut tonic::Streaming<v1::BackupChunk>,
    ) -> Result<Option<v1::BackupChunk>, ClientError> {
        next(stream).await
    }

    /// Hands leadership on. Harmless to repeat: the target is the same, and any voter will do for 0.
    pub async fn transfer_leader(
        &self,
        request: v1::TransferLeaderRequest,
    ) -> Result<v1::TransferLeaderReply, ClientError> {
        self.call(|channel| async move { ClusterClient::new(channel).transfer_leader(request).await }).await
    }

    /// Begins a node's removal; 0 is the first node named. Harmless to repeat.
    pub async fn leave(&self, request: v1::LeaveRequest) -> Result<v1::LeaveReply, ClientError> {
        self.about_a_node(request.node, |channel| async move { ClusterClient::new(channel).leave(request).await }).await
    }

    /// Takes a node out for maintenance, or back; 0 is the first node named. Harmless to repeat.
    pub async fn drain(&self, request: v1::DrainRequest) -> Result<v1::DrainReply, ClientError> {
        self.about_a_node(request.node, |channel| async move { ClusterClient::new(channel).drain(request).await }).await
    }

    async fn about_a_node<T, F, Fut>(&self, node: u64, send: F) -> Result<T, ClientError>
    where
        F: Fn(tonic::transport::Channel) -> Fut,
        Fut: Future<Output = Result<tonic::Response<T>, tonic::Status>>,
    {
        if node == 0 { self.call_this_node(JOIN_LIMIT, send).await } else { self.call(send).await }
    }

    /// Instances' logs: the sources, then their lines as they come. Not resumed: a new call begins at the last lines
    /// again.
    pub async fn logs(&self, request: v1::LogsRequest) -> Result<tonic::Streaming<v1::LogsItem>, ClientError> {
        self.call(|channel| {
            let request = request.clone();
            async move { WorkersClient::new(channel).logs(request).await }
        })
        .await
    }

    /// The next piece of an answer about logs; `None` at its end.
    pub async fn next_item(stream: &mut tonic::Streaming<v1::LogsItem>) -> Result<Option<v1::LogsItem>, ClientError> {
        next(stream).await
    }
}

/// The next message of a stream; `None` at its end.
async fn next<T>(stream: &mut tonic::Streaming<T>) -> Result<Option<T>, ClientError> {
    stream.message().await.or_else(|status| {
        let failure = super::error::judge(status)?;
        Err(super::error::give_up(vec![("the node".into(), failure)], Duration::ZERO))
    })
}
