//! The operators' API. Any node answers, from what it has itself and from the meta shard.

mod change;
mod hash;
mod status;

use std::sync::Arc;

use futures::stream::{self, BoxStream, StreamExt as _};
use model::cluster::access::Role;
use model::cluster::{ChangeBody, ForgetBoot, Leave, Move};
use model::id::ShardId;
use proto::net::Guard;
use proto::v1;
use proto::v1::admin_server::Admin as Service;
use store::Log;
use store::state::State;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::task::task_tracker::TaskTrackerToken;
use tonic::{Request, Response, Status};

use self::change::change_refused;
use self::hash::hash_replica;
use self::status::of_clients;
use super::{debug, events, retention};
use crate::budget::Budget;
use crate::deadline::Call;
use crate::drill::faults::control::ToldOf;
use crate::error::Failure;
use crate::gateway::Gateway;
use crate::guesses::Guesses;
use crate::memory::Memory;
use crate::recorder::Recorder;
use crate::room::DiskRoom;
use crate::sight::local::Local;
use crate::sight::metrics::Metrics;
use crate::world::{Authority, Background, Entropy};

/// The service.
pub struct Admin {
    /// What all services share.
    pub gateway: Arc<Gateway>,
    /// For its counters.
    pub log: Log,
    /// For its counters.
    pub state: State,
    /// Where long reads of the disk run.
    pub background: Arc<dyn Background>,
    /// The disk as last looked at, and whether its reserve is reached.
    pub disk: watch::Receiver<DiskRoom>,
    /// When the node started.
    pub started: Instant,
    /// What the node divides among its parts.
    pub budget: Budget,
    /// What it keeps in memory.
    pub memory: Memory,
    /// What comes over its network.
    pub guard: Guard,
    /// The process's id.
    pub pid: u32,
    /// Where tokens come from.
    pub entropy: Arc<dyn Entropy>,
    /// What tokens expire by.
    pub clock: Arc<dyn raft::Clock>,
    /// Who guesses at the join token.
    pub guesses: Guesses,
    /// Who signs certificates of nodes that join.
    pub authority: Option<Arc<dyn Authority>>,
    /// What scrapers read.
    pub metrics: Metrics,
    /// What the node knows of itself.
    pub local: Local,
    /// What happened here.
    pub recorder: Recorder,
    /// What is given to `firebreak debug bundle`.
    pub files: Arc<debug::Files>,
    /// What drills do to this node, where they may.
    pub faults: Option<ToldOf>,
}

#[tonic::async_trait]
impl Service for Admin {
    async fn get_status(
        &self,
        request: Request<v1::GetStatusRequest>,
    ) -> Result<Response<v1::GetStatusResponse>, Status> {
        let sees = Call::of(&request).caller.has(Role::Viewer);
        let status = self.status(request.into_inner());
        Ok(Response::new(match sees {
            true => status,
            false => of_clients(status),
        }))
    }

    async fn get_outages(
        &self,
        _: Request<v1::GetOutagesRequest>,
    ) -> Result<Response<v1::GetOutagesResponse>, Status> {
        Ok(Response::new(v1::GetOutagesResponse {
            outages: self.local.outages.pending(&self.local),
            lost: self.local.outages.lost(),
        }))
    }

    async fn plan_retention(
        &self,
        request: Request<v1::PlanRetentionRequest>,
    ) -> Result<Response<v1::PlanRetentionResponse>, Status> {
        let (request, call, _token) = self.begin(request);
        let planned = retention::plan(&self.gateway, &*self.background, request, &call).await?;
        Ok(Response::new(planned))
    }

    type GetEventsStream = events::Pages;

    async fn get_events(
        &self,
        request: Request<v1::GetEventsRequest>,
    ) -> Result<Response<Self::GetEventsStream>, Status> {
        let (request, _, _token) = self.begin(request);
        let identity = self.gateway.raft.identity();
        let of = (identity.node.0, identity.name.clone());
        let pages = events::pages(self.recorder.clone(), of, request).await?;
        Ok(Response::new(pages))
    }

    type GetDebugStream = debug::Parts;

    async fn get_debug(
        &self,
        request: Request<v1::GetDebugRequest>,
    ) -> Result<Response<Self::GetDebugStream>, Status> {
        let (request, _, _token) = self.begin(request);
        Ok(Response::new(debug::parts(self.files.clone(), request)?))
    }

    async fn join_node(
        &self,
        request: Request<v1::JoinNodeRequest>,
    ) -> Result<Response<v1::JoinNodeResponse>, Status> {
        let from = request.remote_addr().map(|address| address.ip());
        let (request, call, _token) = self.begin(request);
        Ok(Response::new(self.join(request, from, call).await?))
    }

    async fn forget_boot(
        &self,
        request: Request<v1::ForgetBootRequest>,
    ) -> Result<Response<v1::ForgetBootResponse>, Status> {
        let (request, call, _token) = self.begin(request);
        let v1::ForgetBootRequest {
            node_id,
            boot,
            operator,
        } = request;
        let operator = call.caller.person(operator);
        tracing::warn!(node = node_id, boot, %operator, "an operator has starts forgotten");
        let body = ChangeBody::ForgetBoot(ForgetBoot {
            node: node_id,
            boot,
            operator,
        });
        let changed = self.decide(body, &call, change_refused).await?;
        Ok(Response::new(v1::ForgetBootResponse {
            epoch: changed.epoch,
            holds: changed.node_id > 0,
        }))
    }

    async fn move_replica(
        &self,
        request: Request<v1::MoveReplicaRequest>,
    ) -> Result<Response<v1::MoveReplicaResponse>, Status> {
        let (request, call, _token) = self.begin(request);
        let body = match request.back {
            true => ChangeBody::DropMove(self.move_step(&request)?),
            false => ChangeBody::BeginMove(Move {
                shard: request.shard,
                from: request.from,
                to: request.to,
                ..Move::default()
            }),
        };
        let epoch = self.change(body, &call).await?;
        Ok(Response::new(v1::MoveReplicaResponse { epoch }))
    }

    async fn remove_node(
        &self,
        request: Request<v1::RemoveNodeRequest>,
    ) -> Result<Response<v1::RemoveNodeResponse>, Status> {
        let (request, call, _token) = self.begin(request);
        let body = ChangeBody::Leave(Leave {
            node: request.node_id,
            stays: request.stays,
        });
        let epoch = self.change(body, &call).await?;
        Ok(Response::new(v1::RemoveNodeResponse { epoch }))
    }

    type HashReplicaStream = BoxStream<'static, Result<v1::HashReplicaResponse, Status>>;

    async fn hash_replica(
        &self,
        request: Request<v1::HashReplicaRequest>,
    ) -> Result<Response<Self::HashReplicaStream>, Status> {
        let _call = self.gateway.calls.token();
        let shard = ShardId(request.into_inner().shard);
        let Some(state) = self.gateway.raft.state(shard) else {
            let what = format!(
                "{} has no working replica of {}",
                self.gateway.served_by(),
                shard.told()
            );
            return Err(Failure::ReplicaNotFound(what).into());
        };
        let responses = hash_replica(&*self.background, state).await?;
        Ok(Response::new(stream::iter(responses).map(Ok).boxed()))
    }

    async fn get_policies(
        &self,
        _: Request<v1::GetPoliciesRequest>,
    ) -> Result<Response<v1::GetPoliciesResponse>, Status> {
        Ok(Response::new(self.policies()))
    }

    async fn set_policy(
        &self,
        request: Request<v1::SetPolicyRequest>,
    ) -> Result<Response<v1::SetPolicyResponse>, Status> {
        let (request, call, _token) = self.begin(request);
        Ok(Response::new(Admin::set_policy(self, request, call).await?))
    }

    async fn relocate_node(
        &self,
        request: Request<v1::RelocateNodeRequest>,
    ) -> Result<Response<v1::RelocateNodeResponse>, Status> {
        let (request, call, _token) = self.begin(request);
        let epoch = self.relocate(request, &call).await?;
        Ok(Response::new(v1::RelocateNodeResponse { epoch }))
    }

    async fn get_join_token(
        &self,
        _: Request<v1::GetJoinTokenRequest>,
    ) -> Result<Response<v1::JoinToken>, Status> {
        Ok(Response::new(self.join_token()?))
    }

    async fn rotate_join_token(
        &self,
        request: Request<v1::RotateJoinTokenRequest>,
    ) -> Result<Response<v1::JoinToken>, Status> {
        let (request, call, _token) = self.begin(request);
        let wanted = v1::CreateJoinTokenRequest {
            valid_ms: request.valid_ms,
            ..v1::CreateJoinTokenRequest::default()
        };
        Ok(Response::new(self.new_token(wanted, true, &call).await?))
    }

    async fn create_join_token(
        &self,
        request: Request<v1::CreateJoinTokenRequest>,
    ) -> Result<Response<v1::JoinToken>, Status> {
        let (request, call, _token) = self.begin(request);
        Ok(Response::new(self.new_token(request, false, &call).await?))
    }

    async fn list_join_tokens(
        &self,
        _: Request<v1::ListJoinTokensRequest>,
    ) -> Result<Response<v1::ListJoinTokensResponse>, Status> {
        Ok(Response::new(self.join_tokens()))
    }

    async fn revoke_join_token(
        &self,
        request: Request<v1::RevokeJoinTokenRequest>,
    ) -> Result<Response<v1::RevokeJoinTokenResponse>, Status> {
        let (request, call, _token) = self.begin(request);
        let epoch = self.revoke_token(request.id, &call).await?;
        Ok(Response::new(v1::RevokeJoinTokenResponse { epoch }))
    }

    async fn get_drills(
        &self,
        _: Request<v1::GetDrillsRequest>,
    ) -> Result<Response<v1::GetDrillsResponse>, Status> {
        Ok(Response::new(self.drills()?))
    }

    async fn change_drill(
        &self,
        request: Request<v1::ChangeDrillRequest>,
    ) -> Result<Response<v1::ChangeDrillResponse>, Status> {
        let (request, call, _token) = self.begin(request);
        Ok(Response::new(
            Admin::change_drill(self, &request, &call).await?,
        ))
    }

    async fn sign_drill(
        &self,
        request: Request<v1::SignDrillRequest>,
    ) -> Result<Response<v1::SignDrillResponse>, Status> {
        let (request, call, _token) = self.begin(request);
        Ok(Response::new(self.sign(&request, &call).await?))
    }

    async fn get_drill_key(
        &self,
        request: Request<v1::GetDrillKeyRequest>,
    ) -> Result<Response<v1::GetDrillKeyResponse>, Status> {
        let (_, call, _token) = self.begin(request);
        let public_key = self.signing_key(&call).await?.public().into();
        Ok(Response::new(v1::GetDrillKeyResponse { public_key }))
    }

    async fn set_draining(
        &self,
        request: Request<v1::SetDrainingRequest>,
    ) -> Result<Response<v1::SetDrainingResponse>, Status> {
        let (request, call, _token) = self.begin(request);
        Ok(Response::new(
            Admin::set_draining(self, request, call).await?,
        ))
    }
}

impl Admin {
    /// What is asked, by whom and until when; a graceful stop waits while the token lives.
    fn begin<T>(&self, request: Request<T>) -> (T, Call, TaskTrackerToken) {
        let call = Call::of(&request);
        (request.into_inner(), call, self.gateway.calls.token())
    }
}
