//! The two gRPC listeners: clients (operators and agents) and peers.

use std::{io, time::Duration};

use futures_util::Stream;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_util::sync::CancellationToken;
use tonic::{
    service::Routes,
    transport::{Server, server::Connected},
};
use tonic_health::server::{HealthReporter, HealthService};

use super::door;
use crate::{
    api::{Api, MESSAGE},
    raft::PEER_MESSAGE_LIMIT,
    wire::v1::{
        DESCRIPTOR, artifacts_server::ArtifactsServer, catalog_server::CatalogServer, cluster_server::ClusterServer,
        events_server::EventsServer, maintenance_server::MaintenanceServer, peer_server::PeerServer,
        rollouts_server::RolloutsServer, traffic_server::TrafficServer, workers_server::WorkersServer,
    },
};

const KEEP_ALIVE: Duration = Duration::from_secs(5);
/// Streams of one connection.
const STREAMS: u32 = 1024;

/// Services of the client listener, with health and reflection.
pub fn client_routes(api: &Api, health: &HealthReporter) -> Routes {
    let mut routes = Routes::new(tonic_health::pb::health_server::HealthServer::new(
        HealthService::from_health_reporter(health.clone()),
    ))
    .add_service(ClusterServer::new(api.clone()).max_decoding_message_size(MESSAGE))
    .add_service(CatalogServer::new(api.clone()).max_decoding_message_size(MESSAGE))
    .add_service(RolloutsServer::new(api.clone()).max_decoding_message_size(MESSAGE))
    .add_service(TrafficServer::new(api.clone()).max_decoding_message_size(MESSAGE))
    .add_service(EventsServer::new(api.clone()).max_decoding_message_size(MESSAGE))
    .add_service(MaintenanceServer::new(api.clone()).max_decoding_message_size(MESSAGE))
    .add_service(ArtifactsServer::new(api.clone()).max_decoding_message_size(MESSAGE))
    .add_service(WorkersServer::new(api.clone()).max_decoding_message_size(MESSAGE));
    let described = tonic_reflection::server::Builder::configure().register_encoded_file_descriptor_set(DESCRIPTOR);
    match described.build_v1() {
        Ok(reflection) => routes = routes.add_service(reflection),
        Err(error) => tracing::warn!(%error, "no reflection"),
    }
    let around = axum::middleware::from_fn_with_state(api.clone(), door::around);
    routes.into_axum_router().layer(around).into()
}

/// The service of the peer listener.
pub fn peer_routes(api: &Api) -> Routes {
    Routes::new(
        PeerServer::new(api.clone())
            .max_decoding_message_size(PEER_MESSAGE_LIMIT)
            .max_encoding_message_size(PEER_MESSAGE_LIMIT),
    )
}

/// Serves these connections until `stop`; limits on how many are the caller's.
pub async fn serve<C>(
    connections: impl Stream<Item = io::Result<C>>,
    routes: Routes,
    stop: CancellationToken,
) -> Result<(), tonic::transport::Error>
where
    C: AsyncRead + AsyncWrite + Connected + Unpin + Send + 'static,
{
    Server::builder()
        .http2_keepalive_interval(Some(KEEP_ALIVE))
        .http2_keepalive_timeout(Some(KEEP_ALIVE))
        .max_concurrent_streams(STREAMS)
        .add_routes(routes)
        .serve_with_incoming_shutdown(connections, stop.cancelled_owned())
        .await
}
