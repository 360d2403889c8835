//! The keeper of a tenant's quotas: the leader of the shard that the tenant's name falls into. It is asked for
//! what a node's own share lacks, and told what nodes gave out of their shares.

use std::sync::Arc;
use std::time::Duration;

use model::cluster::tenants::Tenant;
use model::hash;
use model::id::ShardId;
use proto::node as wire;
use proto::node::quotas_client::QuotasClient;
use proto::node::quotas_server::Quotas as Service;
use tokio::time::{Instant, timeout};
use tonic::{Request, Response, Status};

use super::admit::Said;
use super::quota::{Quota, Take};
use super::shares::{ShareReport, Short};
use crate::deadline::Deadline;
use crate::gateway::Gateway;

/// How long the keeper is waited for.
const ASK_MAX: Duration = Duration::from_millis(500);
/// How long it is not asked again when it did not answer.
const SILENT: Duration = Duration::from_secs(1);
/// From so much a second on, a node asks for some of it ahead.
const AHEAD_FROM: u64 = 500;
/// The part of a second's worth that it asks for.
const AHEAD_PART: u64 = 50;

/// The service between nodes.
pub struct Quotas {
    /// What all services share.
    pub gateway: Arc<Gateway>,
}

#[tonic::async_trait]
impl Service for Quotas {
    async fn take(
        &self,
        request: Request<wire::TakeRequest>,
    ) -> Result<Response<wire::TakeResponse>, Status> {
        let gateway = &self.gateway;
        if gateway.raft.vouches(request.metadata().as_ref()).is_none() {
            return Err(Status::unauthenticated("quotas are for nodes"));
        }
        let request = request.into_inner();
        let keeper = gateway.keeper_of(&request.tenant);
        let leads = |shard| gateway.raft.leader(shard) == Some(gateway.me());
        if !keeper.is_some_and(leads) {
            return Err(Status::failed_precondition(
                "another node keeps these quotas",
            ));
        }
        Ok(Response::new(gateway.kept(&request)))
    }
}

impl Gateway {
    /// The shard whose leader keeps the quotas of a tenant.
    fn keeper_of(&self, tenant: &str) -> Option<ShardId> {
        self.shard_of(hash::conversation_key(tenant, "quotas").slot())
    }

    /// Asks for what this node's share lacks.
    pub(super) async fn ask_keeper(
        &self,
        tenant: &Tenant,
        takes: &[Take],
        deadline: Deadline,
    ) -> Said {
        let ahead: Vec<Take> = takes.iter().filter_map(ahead).collect();
        let told = self.tenancy.shares.untold(&tenant.id);
        let request = wire::TakeRequest {
            tenant: tenant.id.clone(),
            takes: takes.iter().map(to_wire).collect(),
            ahead: ahead.iter().map(to_wire).collect(),
            used: told.used.iter().map(to_wire).collect(),
            returned: told.returned.iter().map(to_wire).collect(),
            counts: Vec::new(),
        };
        let Some(answer) = self.tell_keeper(request, deadline).await else {
            self.tenancy.shares.tell_again(&tenant.id, &told);
            return Said::Silent;
        };
        if answer.ahead {
            self.tenancy.shares.ahead(&tenant.id, &ahead);
        }
        let quota = Quota::of(answer.quota).or(takes.first().map(|take| take.quota));
        match (answer.granted, quota) {
            (true, _) | (false, None) => Said::Granted,
            (false, Some(quota)) => Said::Short(Short {
                quota,
                wait_us: answer.wait_us,
            }),
        }
    }

    /// Has the keeper of a tenant's quotas look at a request; none when it does not answer.
    pub(super) async fn tell_keeper(
        &self,
        request: wire::TakeRequest,
        deadline: Deadline,
    ) -> Option<wire::TakeResponse> {
        let shard = self.keeper_of(&request.tenant)?;
        let leader = self.raft.leader(shard)?;
        let tenant = request.tenant.clone();
        let answer = if leader == self.me() {
            self.kept(&request)
        } else {
            let silent = self.tenancy.silent.lock().get(&shard.0).copied();
            if silent.is_some_and(|at| at.elapsed() < SILENT) {
                return None;
            }
            let mut client = QuotasClient::new(self.raft.channel(leader)?);
            let limit = deadline.remaining().min(ASK_MAX);
            let mut request = Request::new(request);
            request.set_timeout(limit);
            match timeout(limit, client.take(request)).await {
                Ok(Ok(answer)) => answer.into_inner(),
                Ok(Err(status)) => {
                    tracing::debug!(%shard, %leader, %status, "the quotas' keeper refuses");
                    self.tenancy.silent.lock().insert(shard.0, Instant::now());
                    return None;
                }
                Err(_) => {
                    self.tenancy.silent.lock().insert(shard.0, Instant::now());
                    return None;
                }
            }
        };
        self.tenancy
            .shares
            .set_full(&tenant, answer.conversations_full);
        Some(answer)
    }

    /// What this node, as the keeper, says to a request.
    fn kept(&self, request: &wire::TakeRequest) -> wire::TakeResponse {
        let view = self.view();
        let Some(tenant) = view.tenant(&request.tenant) else {
            // This node has not heard of its quotas yet.
            return wire::TakeResponse {
                granted: true,
                ..wire::TakeResponse::default()
            };
        };
        let read = |takes: &[wire::Take]| -> Vec<Take> {
            takes
                .iter()
                .filter_map(|take| from_wire(take, tenant))
                .collect()
        };
        let told = ShareReport {
            used: read(&request.used),
            returned: read(&request.returned),
        };
        let counts = request.counts.iter();
        let counts: Vec<_> = counts.map(|one| (one.shard, one.conversations)).collect();
        let (keeper, now) = (&self.tenancy.keeper, Instant::now());
        keeper.told(&tenant.id, &told, &counts, now);
        let granted = keeper.take(&tenant.id, &read(&request.takes), now);
        let ahead = read(&request.ahead);
        let ahead =
            granted.is_ok() && !ahead.is_empty() && keeper.take(&tenant.id, &ahead, now).is_ok();
        let limit = Quota::Conversations.limit(tenant);
        let is_shard = |shard| view.shard(ShardId(shard)).is_some();
        let short = granted.err();
        wire::TakeResponse {
            granted: short.is_none(),
            quota: short.map_or(0, |short| short.quota as u32),
            wait_us: short.map_or(0, |short| short.wait_us),
            conversations_full: limit > 0 && keeper.conversations(&tenant.id, is_shard) >= limit,
            ahead,
        }
    }
}

/// What is asked for ahead beside a take; only of what a tenant has much of.
fn ahead(take: &Take) -> Option<Take> {
    let much = take.of.is_empty() && take.limit >= AHEAD_FROM;
    much.then(|| Take {
        amount: take.limit / AHEAD_PART,
        ..take.clone()
    })
}

/// As nodes say it to each other.
pub(super) fn to_wire(take: &Take) -> wire::Take {
    wire::Take {
        quota: take.quota as u32,
        of: take.of.clone(),
        amount: take.amount,
    }
}

/// What a node says, with the limit as this node knows it; none where there is no such limit any more.
fn from_wire(take: &wire::Take, tenant: &Tenant) -> Option<Take> {
    let quota = Quota::of(take.quota)?;
    let limit = quota.limit(tenant);
    (limit > 0).then(|| Take {
        quota,
        of: take.of.clone(),
        amount: take.amount,
        limit,
    })
}
