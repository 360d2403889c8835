//! What a node answers: its services, and whether each is healthy.

use std::sync::Arc;

use model::limits::FRAME_BYTES_MAX;
use proto::node::peer_server::{Peer, PeerServer};
use proto::node::quotas_server::QuotasServer;
use proto::v1::access_server::AccessServer;
use proto::v1::admin_server::AdminServer;
use proto::v1::changes_server::ChangesServer;
use proto::v1::conversations_server::ConversationsServer;
use proto::v1::messages_server::MessagesServer;
use proto::v1::tenants_server::TenantsServer;
use raft::Node;
use tokio::sync::watch;
use tonic::service::Routes;
use tonic_health::ServingStatus;
use tonic_health::server::HealthReporter;

use crate::access::Doors;
use crate::gateway::Gateway;
use crate::service::access::Access;
use crate::service::admin::Admin;
use crate::service::conversations::Conversations;
use crate::service::feed::Changes;
use crate::service::grpc;
use crate::service::history::Pages;
use crate::service::messages::Messages;
use crate::service::tenants::Tenants;
use crate::tenants::keep::Quotas;

/// Everything on one listener.
pub(super) fn services(
    gateway: &Arc<Gateway>,
    (admin, doors): (Arc<Admin>, Arc<Doors>),
    body_bytes_max: usize,
    peer: PeerServer<impl Peer>,
) -> Result<Routes, String> {
    let messages = Messages {
        gateway: gateway.clone(),
        body_bytes_max,
        pages: Pages::default(),
    };
    let conversations = Conversations {
        gateway: gateway.clone(),
    };
    let changes = Changes {
        gateway: gateway.clone(),
    };
    let reflection = || {
        tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(proto::DESCRIPTORS)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
    };
    let text = |error: tonic_reflection::server::Error| format!("reflection: {error}");
    let reflection_v1 = reflection().build_v1().map_err(text)?;
    // What older clients ask for.
    let reflection_v1alpha = reflection().build_v1alpha().map_err(text)?;
    let routes = Routes::new(
        MessagesServer::new(messages)
            .max_decoding_message_size(FRAME_BYTES_MAX)
            .max_encoding_message_size(FRAME_BYTES_MAX),
    )
    .add_service(ConversationsServer::new(conversations))
    .add_service(ChangesServer::new(changes).max_encoding_message_size(FRAME_BYTES_MAX))
    .add_service(TenantsServer::new(Tenants {
        gateway: gateway.clone(),
    }))
    .add_service(QuotasServer::new(Quotas {
        gateway: gateway.clone(),
    }))
    .add_service(AdminServer::from_arc(admin.clone()))
    .add_service(AccessServer::new(Access { admin, doors }))
    .add_service(
        peer.max_decoding_message_size(FRAME_BYTES_MAX)
            .max_encoding_message_size(FRAME_BYTES_MAX),
    )
    .add_service(reflection_v1)
    .add_service(reflection_v1alpha);
    grpc::with_rules(
        routes,
        &[
            proto::DESCRIPTORS,
            tonic_reflection::pb::v1::FILE_DESCRIPTOR_SET,
            tonic_reflection::pb::v1alpha::FILE_DESCRIPTOR_SET,
        ],
    )
}

/// Healthy as soon as the cluster's view is known, until the node drains and leaders have moved; then
/// its clients are sent elsewhere. Calls go on being answered: nobody has to hurry.
pub(super) async fn send_elsewhere(
    health: HealthReporter,
    raft: Arc<Node>,
    elsewhere: watch::Sender<bool>,
) {
    set_health(&health, ServingStatus::NotServing).await;
    if raft.view().wait_for(|view| view.epoch > 0).await.is_err() {
        return;
    }
    let mut aside = raft.aside();
    loop {
        let gone = *aside.borrow_and_update();
        let status = match gone {
            true => ServingStatus::NotServing,
            false => ServingStatus::Serving,
        };
        set_health(&health, status).await;
        elsewhere.send_replace(gone);
        if aside.changed().await.is_err() {
            return;
        }
    }
}

pub(super) async fn set_health(health: &HealthReporter, status: ServingStatus) {
    for service in [
        "",
        "firebreak.v1.Messages",
        "firebreak.v1.Conversations",
        "firebreak.v1.Tenants",
        "firebreak.v1.Admin",
        "firebreak.v1.Access",
    ] {
        health.set_service_status(service, status).await;
    }
}
