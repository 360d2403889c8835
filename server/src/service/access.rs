//! Keys, issuers and the audit. They live in the meta shard, so that every node knows who may call, and any
//! node takes these calls.

use std::sync::Arc;

use model::cluster::access::{self, Role};
use model::cluster::{ChangeBody, Named};
use model::command::Refusal;
use model::id::{NodeId, ShardId};
use model::limits;
use proto::v1;
use proto::v1::access_client::AccessClient;
use proto::v1::access_server::Access as Service;
use tonic::{Request, Response, Status};

use super::admin::Admin;
use crate::access::{Doors, check_key};
use crate::check::Checker;
use crate::deadline::{Call, forward};
use crate::error::{Failure, passed};
use crate::found;

/// Records of one page of the audit, and their bytes.
const PAGE_RECORDS_MAX: usize = 1_000;

/// The service.
pub struct Access {
    /// Where changes are decided.
    pub admin: Arc<Admin>,
    /// Who is let in.
    pub doors: Arc<Doors>,
}

#[tonic::async_trait]
impl Service for Access {
    async fn who_am_i(
        &self,
        request: Request<v1::WhoAmIRequest>,
    ) -> Result<Response<v1::WhoAmIResponse>, Status> {
        let who = Call::of(&request).caller.who;
        Ok(Response::new(v1::WhoAmIResponse {
            who: who.name.clone(),
            tenant: who.tenant.clone(),
            roles: who.roles.names().into_iter().map(str::to_owned).collect(),
            sender: who.sender.clone().unwrap_or_default(),
            expires_ms: who.expires_ms,
            auth_required: self.doors.required(),
        }))
    }

    async fn create_key(
        &self,
        request: Request<v1::CreateKeyRequest>,
    ) -> Result<Response<v1::CreateKeyResponse>, Status> {
        let (request, call) = begin(request);
        Ok(Response::new(self.create(request, &call).await?))
    }

    async fn list_keys(
        &self,
        _: Request<v1::ListKeysRequest>,
    ) -> Result<Response<v1::ListKeysResponse>, Status> {
        let view = self.admin.gateway.view();
        let keys = view.access.iter().flat_map(|access| &access.keys);
        Ok(Response::new(v1::ListKeysResponse {
            keys: keys.map(told).collect(),
        }))
    }

    async fn revoke_key(
        &self,
        request: Request<v1::RevokeKeyRequest>,
    ) -> Result<Response<v1::RevokeKeyResponse>, Status> {
        let (request, call) = begin(request);
        let body = ChangeBody::RevokeKey(Named { name: request.id });
        let epoch = self.change(body, &call).await?;
        Ok(Response::new(v1::RevokeKeyResponse { epoch }))
    }

    async fn set_issuer(
        &self,
        request: Request<v1::SetIssuerRequest>,
    ) -> Result<Response<v1::SetIssuerResponse>, Status> {
        let (request, call) = begin(request);
        let body = ChangeBody::Issuer(issuer(request.issuer, &call)?);
        let epoch = self.change(body, &call).await?;
        Ok(Response::new(v1::SetIssuerResponse { epoch }))
    }

    async fn list_issuers(
        &self,
        _: Request<v1::ListIssuersRequest>,
    ) -> Result<Response<v1::ListIssuersResponse>, Status> {
        let view = self.admin.gateway.view();
        let issuers = view.access.iter().flat_map(|access| &access.issuers);
        Ok(Response::new(v1::ListIssuersResponse {
            issuers: issuers.map(told_issuer).collect(),
        }))
    }

    async fn remove_issuer(
        &self,
        request: Request<v1::RemoveIssuerRequest>,
    ) -> Result<Response<v1::RemoveIssuerResponse>, Status> {
        let (request, call) = begin(request);
        let body = ChangeBody::RemoveIssuer(Named { name: request.name });
        let epoch = self.change(body, &call).await?;
        Ok(Response::new(v1::RemoveIssuerResponse { epoch }))
    }

    async fn read_audit(
        &self,
        request: Request<v1::ReadAuditRequest>,
    ) -> Result<Response<v1::ReadAuditResponse>, Status> {
        let (request, call) = begin(request);
        Ok(Response::new(self.audit(request, &call).await?))
    }
}

fn begin<T>(request: Request<T>) -> (T, Call) {
    let call = Call::of(&request);
    (request.into_inner(), call)
}

impl Access {
    async fn change(&self, body: ChangeBody, call: &Call) -> Result<u64, Failure> {
        self.admin.all_know_access()?;
        let refused = |refusal: Refusal| Failure::ChangeRefused(refusal.message);
        Ok(self.admin.decide(body, call, refused).await?.epoch)
    }

    async fn create(
        &self,
        request: v1::CreateKeyRequest,
        call: &Call,
    ) -> Result<v1::CreateKeyResponse, Failure> {
        let mut check = Checker::of(call, 0);
        let roles = check.roles("roles", &request.roles);
        if !request.tenant.is_empty() {
            check.tenant("tenant", &format!("tenants/{}", request.tenant));
        }
        check.finish()?;
        let none = |error| Failure::Internal(format!("no random bytes: {error}"));
        let (text, id) = found::new_key(&*self.admin.entropy).map_err(none)?;
        let cluster_id = &self.admin.gateway.raft.identity().cluster_id;
        let key = access::Key {
            hash: access::key_hash(cluster_id, &text),
            id,
            label: request.label,
            tenant: request.tenant,
            roles,
            expires_ms: found::expires_ms(&*self.admin.clock, request.valid_ms),
            created_ms: self.admin.clock.unix_ms(),
            revoked_ms: 0,
        };
        let about = told(&key);
        let epoch = self.change(ChangeBody::CreateKey(key), call).await?;
        // Whoever has the key may use it here at once.
        let mut view = self.admin.gateway.raft.view();
        let seen = view.wait_for(|view| view.epoch >= epoch);
        let _ = tokio::time::timeout(call.deadline.remaining(), seen).await;
        Ok(v1::CreateKeyResponse {
            key: text,
            about: Some(about),
        })
    }

    async fn audit(
        &self,
        request: v1::ReadAuditRequest,
        call: &Call,
    ) -> Result<v1::ReadAuditResponse, Failure> {
        let gateway = &self.admin.gateway;
        if let Some(state) = gateway.raft.state(ShardId::META) {
            return page(&state, &request);
        }
        if call.forwarded {
            return Err(Failure::NoReplica(
                "this node has no working replica of the meta shard".to_owned(),
            ));
        }
        let view = gateway.view();
        let replicas = view.meta_replicas.iter().map(|id| NodeId(*id));
        for node in replicas.filter(|node| gateway.raft.reachable(*node)) {
            let Some(channel) = gateway.raft.channel(node) else {
                continue;
            };
            let asked = forward(request, Some(call.deadline.remaining()));
            let mut client =
                AccessClient::new(channel).max_decoding_message_size(limits::FRAME_BYTES_MAX);
            return match client.read_audit(asked).await {
                Ok(page) => Ok(page.into_inner()),
                Err(status) => Err(passed(&status)),
            };
        }
        Err(Failure::NoReplica(
            "no replica of the meta shard can be reached".to_owned(),
        ))
    }
}

/// A page of what this node's replica has. The records are read before the chain's end, so that a page which
/// is the last one ends with it.
fn page(
    state: &store::state::ShardState,
    request: &v1::ReadAuditRequest,
) -> Result<v1::ReadAuditResponse, Failure> {
    let size = match usize::try_from(request.page_size) {
        Ok(size @ 1..=PAGE_RECORDS_MAX) => size,
        Ok(_) | Err(_) => PAGE_RECORDS_MAX,
    };
    let found = state.audit(request.from, size, limits::PAGE_BYTES_MAX)?;
    let trail = state.cluster().trail.clone().unwrap_or_default();
    let reached = found.last().map(|(number, _)| *number);
    let next = match reached {
        Some(reached) if reached < trail.last => reached + 1,
        Some(_) | None => 0,
    };
    Ok(v1::ReadAuditResponse {
        records: found.into_iter().map(|(_, record)| record).collect(),
        next,
        first: trail.first,
        last: trail.last,
        head: trail.head,
    })
}

fn names(roles: &[i32]) -> Vec<String> {
    let roles = roles.iter().filter_map(|role| Role::try_from(*role).ok());
    roles.map(|role| role.name().to_owned()).collect()
}

/// What is told of a key: never its hash.
fn told(key: &access::Key) -> v1::ApiKey {
    v1::ApiKey {
        id: key.id.clone(),
        label: key.label.clone(),
        tenant: key.tenant.clone(),
        roles: names(&key.roles),
        created_ms: key.created_ms,
        expires_ms: key.expires_ms,
        revoked_ms: key.revoked_ms,
    }
}

fn told_issuer(issuer: &access::Issuer) -> v1::Issuer {
    let keys = issuer.keys.iter().map(|one| v1::IssuerKey {
        kid: one.kid.clone(),
        key: one.key.clone(),
    });
    v1::Issuer {
        name: issuer.name.clone(),
        audience: issuer.audience.clone(),
        keys: keys.collect(),
        tenant: issuer.tenant.clone(),
        roles: names(&issuer.roles),
        enforce_sender: issuer.enforce_sender,
    }
}

fn issuer(given: Option<v1::Issuer>, call: &Call) -> Result<access::Issuer, Failure> {
    let Some(given) = given else {
        return Err(Failure::field("issuer", "must be given"));
    };
    let mut check = Checker::of(call, 0);
    let roles = check.roles("issuer.roles", &given.roles);
    for (at, key) in given.keys.iter().enumerate() {
        if let Err(why) = check_key(&key.key) {
            check.add(format_args!("issuer.keys[{at}].key"), why);
        }
    }
    check.finish()?;
    let keys = given.keys.into_iter().map(|one| access::IssuerKey {
        kid: one.kid,
        key: one.key,
    });
    Ok(access::Issuer {
        name: given.name,
        audience: given.audience,
        keys: keys.collect(),
        tenant: given.tenant,
        roles,
        enforce_sender: given.enforce_sender,
    })
}
