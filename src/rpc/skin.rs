//! The services for operators: each method takes its caller and calls its operation.
//!
//! Invariant: no rule stands here, so that another skin need not repeat one. Not here: workers' sessions (`workers`),
//! other nodes (`peer`).

use futures_util::{StreamExt as _, stream::BoxStream};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming, async_trait, metadata::MetadataValue};

use super::door::{HOP, caller};
use crate::{
    api::{Answer, Api, ApiError, Flow, Many},
    wire::{APPLIED, v1},
};

/// Metadata key of a warning on an answer that is not as fresh as it could be.
const WARNING: &str = "slipway-warning";

/// What a method that answers in many messages gives.
pub(super) type Sent<T> = BoxStream<'static, Result<T, Status>>;

/// One answer.
fn one<T>(answer: Answer<T>) -> Response<T> {
    let mut response = Response::new(answer.body);
    if let Some(index) = answer.applied {
        response.metadata_mut().insert(APPLIED, MetadataValue::from(index));
    }
    if let Some(Ok(text)) = answer.warning.map(MetadataValue::try_from) {
        response.metadata_mut().insert(WARNING, text);
    }
    response
}

/// Many of them.
pub(super) fn many<T: Send + 'static>(answers: Many<T>) -> Response<Sent<T>> {
    Response::new(ReceiverStream::new(answers).map(|message| message.map_err(Status::from)).boxed())
}

/// What a client sends in many messages.
pub(super) fn sent<T: Send + 'static>(stream: Streaming<T>) -> Flow<T> {
    stream.map(|message| message.map_err(ApiError::from)).boxed()
}

/// A service, one line a method: its name, the operation, what it takes and gives; then the one that answers in many
/// messages, and what does not fit into a line.
macro_rules! service {
    (
        $module:ident::$service:ident {
            $($method:ident = $operation:ident($ask:ident) -> $reply:ident;)*
        }
        $(many { $stream:ident: $from:ident = $source:ident($asked:ident) -> $message:ident; })?
        $(own { $($own:tt)* })?
    ) => {
        #[async_trait]
        impl v1::$module::$service for Api {
            $(async fn $method(&self, request: Request<v1::$ask>) -> Result<Response<v1::$reply>, Status> {
                let by = caller(&request)?;
                Ok(one(Api::$operation(self, &by, request.into_inner()).await?))
            })*

            $(
                type $stream = Sent<v1::$message>;

                async fn $from(&self, request: Request<v1::$asked>) -> Result<Response<Self::$stream>, Status> {
                    let by = caller(&request)?;
                    Ok(many(Api::$source(self, &by, request.into_inner()).await?))
                }
            )?

            $($($own)*)?
        }
    };
}

service! {
    cluster_server::Cluster {
        init = init(InitRequest) -> InitReply;
        join = join(JoinRequest) -> JoinReply;
        digest = digest(DigestRequest) -> DigestReply;
        transfer_leader = transfer_leader(TransferLeaderRequest) -> TransferLeaderReply;
        leave = leave(LeaveRequest) -> LeaveReply;
        drain = drain(DrainRequest) -> DrainReply;
        finalize = finalize(FinalizeRequest) -> FinalizeReply;
        rotate_dns_cookie = rotate_dns_cookie(RotateDnsCookieRequest) -> RotateDnsCookieReply;
    }
    own {
        async fn status(&self, request: Request<v1::StatusRequest>) -> Result<Response<v1::StatusReply>, Status> {
            let hop = request.metadata().contains_key(HOP);
            Ok(one(Api::status(self, &caller(&request)?, hop).await?))
        }
    }
}

service! {
    catalog_server::Catalog {
        apply = apply(ApplyRequest) -> ApplyReply;
        register_release = register_release(RegisterReleaseRequest) -> RegisterReleaseReply;
        retire_release = retire_release(ReleaseVerbRequest) -> Changed;
        remove_release = remove_release(ReleaseVerbRequest) -> Changed;
        prune_releases = prune_releases(PruneReleasesRequest) -> Changed;
        remove_worker = remove_worker(RemoveWorkerRequest) -> Changed;
        rekey_worker = rekey_worker(RekeyWorkerRequest) -> Changed;
        remove_deployment = remove_deployment(RemoveDeploymentRequest) -> Changed;
        stop_deployment = stop_deployment(DeploymentRequest) -> Changed;
        start_deployment = start_deployment(DeploymentRequest) -> Changed;
        remove_service = remove_service(NamedRequest) -> Changed;
        create_environment = create_environment(EnvironmentRequest) -> Changed;
        set_environment = set_environment(EnvironmentRequest) -> Changed;
        remove_environment = remove_environment(NamedRequest) -> Changed;
        set_settings = set_settings(SetSettingsRequest) -> Changed;
        get_settings = get_settings(GetSettingsRequest) -> SettingsReply;
        list_environments = list_environments(ListRequest) -> ListEnvironmentsReply;
        list_services = list_services(ListRequest) -> ListServicesReply;
        list_releases = list_releases(ListRequest) -> ListReleasesReply;
        list_deployments = list_deployments(ListRequest) -> ListDeploymentsReply;
        list_workers = list_workers(ListRequest) -> ListWorkersReply;
        list_instances = list_instances(ListRequest) -> ListInstancesReply;
        get_spec = get_spec(GetSpecRequest) -> GetSpecReply;
    }
}

service! {
    rollouts_server::Rollouts {
        start = start_rollout(StartRequest) -> StartReply;
        plan = plan_rollout(StartRequest) -> PlanReply;
        get = get_rollout(GetRolloutRequest) -> Rollout;
        history = history(HistoryRequest) -> HistoryReply;
        pause = pause(VerbRequest) -> VerbReply;
        resume = resume(VerbRequest) -> VerbReply;
        abort = abort(AbortRequest) -> VerbReply;
        promote = promote(PromoteRequest) -> VerbReply;
        rollback = rollback(VerbRequest) -> VerbReply;
        explain = explain(ExplainRequest) -> ExplainReply;
    }
}

service! {
    traffic_server::Traffic {
        get_route = get_route(GetRouteRequest) -> GetRouteReply;
        trace = trace(TraceRequest) -> TraceReply;
        switch = switch(SwitchRequest) -> SwitchReply;
        get_switch = get_switch(GetSwitchRequest) -> Switch;
        set_lease = set_lease(SetLeaseRequest) -> SetLeaseReply;
        get_lease = get_lease(GetLeaseRequest) -> Lease;
    }
}

service! {
    events_server::Events {}
    many { WatchStream: watch = watch(WatchRequest) -> Event; }
}

service! {
    maintenance_server::Maintenance {
        make_snapshot = make_snapshot(MakeSnapshotRequest) -> MakeSnapshotReply;
    }
    many { BackupStream: backup = backup(BackupRequest) -> BackupChunk; }
}

service! {
    artifacts_server::Artifacts {
        stat = stat(StatRequest) -> StatReply;
    }
    many { FetchStream: fetch = fetch(FetchRequest) -> FetchChunk; }
    own {
        async fn push(&self, request: Request<Streaming<v1::PushChunk>>) -> Result<Response<v1::PushReply>, Status> {
            let by = caller(&request)?;
            Ok(one(Api::push(self, &by, sent(request.into_inner())).await?))
        }
    }
}
