//! The operators' API. Any node answers, from what it has itself and from the meta shard.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use futures::stream::{self, BoxStream, StreamExt as _};
use model::cluster::access::Role;
use model::cluster::audit::Actor;
use model::cluster::drills::{DrillBody, DrillChange};
use model::cluster::{
    Change, ChangeBody, Changed, ClusterState, ForgetBoot, Leave, Move, MoveStep, Node,
};
use model::command::{Answer, Command, Reason, Refusal};
use model::id::{NodeId, ShardId};
use model::placement;
use prost::Message as _;
use proto::net::Guard;
use proto::v1;
use proto::v1::admin_server::Admin as Service;
use raft::Room;
use store::state::{ConversationHash, ShardState};
use store::{Log, state::State};
use tokio::sync::{oneshot, watch};
use tokio::time::Instant;
use tokio_util::task::task_tracker::TaskTrackerToken;
use tonic::{Request, Response, Status};

use super::{debug, events, retention};
use crate::access::{self, book};
use crate::budget::Budget;
use crate::deadline::Call;
use crate::drill::faults::control::ToldOf;
use crate::error::Failure;
use crate::gateway::{Gateway, Target};
use crate::guesses::Guesses;
use crate::memory::Memory;
use crate::recorder::Recorder;
use crate::room::Seen;
use crate::sight::local::Local;
use crate::sight::metrics::{self, Metrics};
use crate::world::{Authority, Background, Entropy};

/// The state of a replica that leads, and of one that calls itself leader without a quorum.
const LEADER: &str = "leader";
const UNCONFIRMED: &str = "unconfirmed";

/// Conversations in one response of HashReplica.
const HASHES_MAX: usize = 1_000;

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
    pub disk: watch::Receiver<Seen>,
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
            label: String::new(),
            valid_ms: request.valid_ms,
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
    /// The cluster as this node sees it.
    pub fn status(&self, asked: v1::GetStatusRequest) -> v1::GetStatusResponse {
        let identity = self.gateway.raft.identity();
        let view = self.gateway.view();
        let replicas = self.replicas(&view);
        let mut status = v1::GetStatusResponse {
            cluster_id: identity.cluster_id.clone(),
            node_id: identity.node.0,
            node_name: identity.name.clone(),
            map_epoch: if view.shards.is_empty() {
                0
            } else {
                view.epoch
            },
            nodes: self.nodes(&view),
            shards: self.shards(&view, &replicas),
            replicas: replicas.into_iter().map(replica_status).collect(),
            nodes_expected: view.nodes_expected,
            moves: view.moves.iter().map(replica_move).collect(),
            unrestored: self.unrestored(&view),
            figures: Some(self.local.figures(self.log.syncs().1)),
            links: self.local.links(),
            health: Some(self.local.health()),
            version: self.local.version.to_owned(),
            http: self.local.http.clone().unwrap_or_default(),
            now_ms: self.local.now_ms(),
            // What cannot be read stops its replica elsewhere.
            erasures: match asked.with_erasures {
                true => self.state.erasures().ok().map(|count| count as u64),
                false => None,
            },
            heat: match asked.with_heat {
                true => self.local.heat(),
                false => Vec::new(),
            },
            stats: Some(self.stats(&view)),
            ..v1::GetStatusResponse::default()
        };
        if let Some(faults) = &self.faults {
            faults.tell(&mut status);
        }
        status
    }

    /// This node's replicas. One that calls itself leader without a majority is not confirmed.
    fn replicas(&self, view: &ClusterState) -> Vec<raft::ReplicaStatus> {
        let mut replicas = self.gateway.raft.replicas();
        for replica in &mut replicas {
            if replica.state == LEADER && !self.reaches_majority(view, replica.shard) {
                replica.state = UNCONFIRMED;
            }
        }
        replicas
    }

    /// The shards of the map, the meta shard first, with terms from this node's `own` replicas.
    fn shards(&self, view: &ClusterState, own: &[raft::ReplicaStatus]) -> Vec<v1::ShardStatus> {
        let terms = own.iter().map(|one| (one.shard.0, one.term));
        let terms: BTreeMap<u32, u64> = terms.collect();
        let status = |shard: u32, (slot_first, slot_last), replicas: &[u64]| {
            let leader = self.gateway.raft.leader(ShardId(shard));
            let degraded = placement::majority_in(view, replicas);
            v1::ShardStatus {
                shard,
                slot_first,
                slot_last,
                replicas: replicas.to_vec(),
                leader: leader.map_or(0, |node| node.0),
                term: terms.get(&shard).copied().unwrap_or(0),
                degraded_dc: degraded.unwrap_or_default().to_owned(),
            }
        };
        let mut shards = vec![status(ShardId::META.0, (0, 0), &view.meta_replicas)];
        shards.extend(view.shards.iter().map(|shard| {
            let slots = (shard.slot_first, shard.slot_last);
            status(shard.id, slots, &shard.replicas)
        }));
        shards
    }

    /// What this node's process and disk have done and hold.
    fn stats(&self, view: &ClusterState) -> v1::NodeStats {
        let disk = *self.disk.borrow();
        let (log, state) = (self.log.stats(), self.state.stats());
        let resources = self.resources().into_iter();
        v1::NodeStats {
            pid: u64::from(self.pid),
            fsyncs: log.syncs,
            log_bytes: log.bytes_written,
            state_bytes: state.bytes_written,
            appended_messages: self.state.appended_messages(),
            disk_free_bytes: disk.space.free,
            disk_total_bytes: disk.space.total,
            stored_bytes: log.stored_bytes + state.stored_bytes,
            disk_reserve_reached: disk.room > Room::Enough,
            disk_reserve_bytes: disk.reserve,
            uptime_ms: u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX),
            resources: resources.chain([self.series(view)]).collect(),
        }
    }

    /// What is bounded, and how much of it is used.
    pub fn resources(&self) -> Vec<v1::Resource> {
        let raft = &self.gateway.raft;
        let memory = self.memory.resources(raft, &self.log, &self.state);
        self.budget.resources(&self.guard, memory)
    }

    /// How many series a scraper gets, and how many it can get at most.
    fn series(&self, view: &ClusterState) -> v1::Resource {
        let count = |count: usize| u64::try_from(count).unwrap_or(u64::MAX);
        v1::Resource {
            name: "metric series".to_owned(),
            used: count(self.metrics.series()),
            max: count(metrics::budget(view.nodes.len().max(1))),
            setting: "http.enabled".to_owned(),
            ..v1::Resource::default()
        }
    }

    /// Whether this node reaches a majority of a shard's replicas, itself among them. A leader that has
    /// lost them calls itself leader for seconds, until none of them has acknowledged anything for long.
    fn reaches_majority(&self, view: &ClusterState, shard: ShardId) -> bool {
        let replicas = match shard.is_meta() {
            true => Some(&view.meta_replicas),
            false => view.shard(shard).map(|shard| &shard.replicas),
        };
        // Of a shard that the map does not have yet nothing is known.
        replicas.is_none_or(|replicas| {
            let reached = replicas
                .iter()
                .filter(|node| self.gateway.raft.reachable(NodeId(**node)));
            reached.count() * 2 > replicas.len()
        })
    }

    /// The nodes of the cluster as this one sees them.
    pub fn nodes(&self, view: &ClusterState) -> Vec<v1::NodeStatus> {
        let raft = &self.gateway.raft;
        let health = raft.health();
        let status = |node: &Node| {
            let locality = node.locality.clone().unwrap_or_default();
            v1::NodeStatus {
                node_id: node.id,
                name: node.name.clone(),
                address: self.address(node),
                region: locality.region,
                dc: locality.dc,
                rack: locality.rack,
                reachable: raft.reachable(NodeId(node.id)),
                draining: view.is_draining(NodeId(node.id)),
                leaving: view.leaving.contains(&node.id),
                gone_ms: health.gone_ms.get(&node.id).copied().unwrap_or(0),
                clock_off_ms: raft.clock_off_ms(NodeId(node.id)).unwrap_or(0),
            }
        };
        view.nodes.iter().map(status).collect()
    }

    /// Where a node is: where it is reached from here, else where the cluster knows it.
    pub(super) fn address(&self, node: &Node) -> String {
        let reached = self.gateway.raft.address(NodeId(node.id));
        reached.unwrap_or_else(|| node.address.clone())
    }

    /// What is not as it should be, as the meta shard's leader would see it from here.
    fn unrestored(&self, view: &ClusterState) -> Vec<v1::UnrestoredReplica> {
        let raft = &self.gateway.raft;
        if view.awaits_layout() {
            let nodes = view.nodes.iter();
            let lost = nodes.filter(|node| !raft.reachable(NodeId(node.id)));
            let lost = lost.map(|node| (node.id, format!("{} does not answer", node.name)));
            let why = placement::first_layout(view).err();
            let why = why.map(|error| (0, format!("the shards cannot be laid out: {error}")));
            return lost
                .chain(why)
                .map(|(node_id, why)| v1::UnrestoredReplica {
                    shard: 0,
                    node_id,
                    why,
                })
                .collect();
        }
        let plan = placement::plan(view, &raft.health(), &raft.placement_policy());
        let unrestored = plan.unrestored.into_iter();
        unrestored
            .map(|one| v1::UnrestoredReplica {
                shard: one.shard.0,
                node_id: one.node,
                why: one.to_string(),
            })
            .collect()
    }

    /// Has the meta shard decide a change; its epoch.
    pub(super) async fn change(&self, body: ChangeBody, call: &Call) -> Result<u64, Failure> {
        Ok(self.decide(body, call, change_refused).await?.epoch)
    }

    /// Has the meta shard decide a change; what it refuses is for `refused` to word.
    pub(super) async fn decide(
        &self,
        body: ChangeBody,
        call: &Call,
        refused: impl FnOnce(Refusal) -> Failure,
    ) -> Result<Changed, Failure> {
        let command = Command::meta(Change {
            actor: self.actor(&body, call),
            body: Some(body),
        });
        let command = Bytes::from(command.encode_to_vec());
        let target = Target::Shard(ShardId::META);
        let gateway = self.gateway.clone();
        let reply = gateway.propose(target, command, call.deadline).await?;
        match reply.answer {
            Some(Answer::Meta(changed)) => Ok(changed),
            Some(Answer::Refused(refusal)) => Err(refused(refusal)),
            Some(
                Answer::Appended(_)
                | Answer::Created(_)
                | Answer::Changed(_)
                | Answer::Configured(_)
                | Answer::Expired(_),
            )
            | None => Err(Failure::Internal(
                "the answer to a change is of another kind".into(),
            )),
        }
    }

    /// Who asks for a change, for the audit; none while a replica of the meta shard may be of a version that
    /// would not note it.
    fn actor(&self, body: &ChangeBody, call: &Call) -> Option<Actor> {
        if !book::all_know(&self.gateway) {
            return None;
        }
        let approves = |change: &DrillChange| {
            let approval = |body: &DrillBody| {
                matches!(body, DrillBody::Approve(_) | DrillBody::ApproveStanding(_))
            };
            change.body.as_ref().is_some_and(approval)
        };
        let role = match body {
            ChangeBody::Drill(change) if approves(change) => Role::DrillApprover,
            _ => Role::Operator,
        };
        Some(access::actor(&call.caller, role))
    }

    /// A replica of a version without keys and issuers would refuse what the others decide.
    pub(super) fn all_know_access(&self) -> Result<(), Failure> {
        let Some(id) = book::unknowing(&self.gateway) else {
            return Ok(());
        };
        let view = self.gateway.view();
        let name = view.node(id).map_or("", |node| &node.name);
        Err(Failure::ChangeRefused(format!(
            "node {name} ({id}) replicates the meta shard and is of a version without keys and issuers, or \
             has said nothing yet: bring all nodes to one version first"
        )))
    }

    /// The move that a request names.
    fn move_step(&self, request: &v1::MoveReplicaRequest) -> Result<MoveStep, Failure> {
        let view = self.gateway.view();
        let going = view.move_of(ShardId(request.shard));
        let named = |going: &&Move| (going.from, going.to) == (request.from, request.to);
        let v1::MoveReplicaRequest {
            shard, from, to, ..
        } = request;
        let step = going.filter(named).map(Move::step);
        step.ok_or_else(|| {
            Failure::ChangeRefused(format!(
                "no replica of s{shard} is on its way from n{from} to n{to}"
            ))
        })
    }

    /// What is asked, by whom and until when; a graceful stop waits while the token lives.
    fn begin<T>(&self, request: Request<T>) -> (T, Call, TaskTrackerToken) {
        let call = Call::of(&request);
        (request.into_inner(), call, self.gateway.calls.token())
    }
}

/// What a client needs of the cluster: which nodes there are, and who leads what.
fn of_clients(status: v1::GetStatusResponse) -> v1::GetStatusResponse {
    v1::GetStatusResponse {
        cluster_id: status.cluster_id,
        node_id: status.node_id,
        node_name: status.node_name,
        map_epoch: status.map_epoch,
        nodes: status.nodes,
        shards: status.shards,
        version: status.version,
        now_ms: status.now_ms,
        ..v1::GetStatusResponse::default()
    }
}

/// A change that the meta shard refuses.
fn change_refused(refusal: Refusal) -> Failure {
    match refusal.reason() == Reason::Invalid {
        true => Failure::ChangeRefused(refusal.message),
        false => Failure::Refused(refusal),
    }
}

/// Reads the whole replica back, in the background, since that takes as long as its disk does.
async fn hash_replica(
    background: &dyn Background,
    state: ShardState,
) -> Result<Vec<v1::HashReplicaResponse>, Failure> {
    let (done, result) = oneshot::channel();
    background.run(Box::new(move || {
        let mut hashes = Vec::new();
        let applied = state.hash(|hash| hashes.push(hash));
        // Nobody waits when the caller is gone.
        let _ = done.send(applied.map(|applied| (applied, hashes)));
    }));
    let gone = |_| Failure::Internal("the read of the replica ended without a result".into());
    let (applied, hashes) = result.await.map_err(gone)??;
    let response = |conversations| v1::HashReplicaResponse {
        applied_index: applied.position.map_or(0, |position| position.index),
        revision: applied.revision,
        conversations,
    };
    if hashes.is_empty() {
        return Ok(vec![response(Vec::new())]);
    }
    let pieces = hashes.chunks(HASHES_MAX);
    Ok(pieces
        .map(|piece| response(piece.iter().map(conversation_hash).collect()))
        .collect())
}

fn replica_move(going: &Move) -> v1::ReplicaMove {
    v1::ReplicaMove {
        shard: going.shard,
        from: going.from,
        to: going.to,
        changing: going.changing,
    }
}

fn conversation_hash(hash: &ConversationHash) -> v1::ConversationHash {
    v1::ConversationHash {
        name: hash.name.clone(),
        last_seq: hash.last_seq,
        messages: hash.messages,
        running_hash: hash.running_hash.clone(),
        disk_hash: hash.disk_hash.clone(),
        min_seq: hash.min_seq,
    }
}

fn replica_status(replica: raft::ReplicaStatus) -> v1::ReplicaStatus {
    let history = replica.leader_history.into_iter();
    v1::ReplicaStatus {
        shard: replica.shard.0,
        state: replica.state.to_owned(),
        leader: replica.leader.map_or(0, |node| node.0),
        term: replica.term,
        last_log_index: replica.last_log_index,
        committed_index: replica.committed_index,
        applied_index: replica.applied_index,
        purged_index: replica.purged_index,
        revision: replica.revision,
        broken_reason: replica.broken_reason.unwrap_or_default(),
        asleep: replica.asleep,
        scrubbed_ms: replica.scrubbed_ms,
        leader_history: history
            .map(|(term, leader)| v1::LeaderTerm {
                term,
                leader: leader.0,
            })
            .collect(),
    }
}
