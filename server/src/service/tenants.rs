//! Tenants: creating, looking at, changing and deleting them. They live in the meta shard, so that every node
//! knows them and any node takes the calls.
//!
//! A change is answered once all nodes that are reached from here have heard of it: so who has created a
//! tenant can use it through any of them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use model::cluster::access::Role;
use model::cluster::tenants::{self as held, Delete, MinClient, TenantBody, TenantChange, Update};
use model::cluster::{Change, Changed, ClusterState};
use model::command::{Answer, Command, Reason, Refusal};
use model::id::{NodeId, ShardId};
use model::rules::text;
use prost::Message as _;
use proto::v1;
use proto::v1::tenants_server::Tenants as Service;
use tokio::time::{Instant, sleep};
use tonic::{Request, Response, Status};

use super::decided::checked;
use crate::access::{self, book};
use crate::check::Checker;
use crate::convert;
use crate::deadline::Call;
use crate::error::Failure;
use crate::gateway::{Gateway, Target};
use crate::sealed::{open, seal};

/// How long a change waits until the nodes that are reached have heard of it.
const HEARD_MAX: Duration = Duration::from_secs(2);
/// Between two looks at that.
const HEARD_LOOK: Duration = Duration::from_millis(20);
/// Of page tokens.
const VERSION: u8 = 1;

/// The service.
pub struct Tenants {
    /// What all services share.
    pub gateway: Arc<Gateway>,
}

#[tonic::async_trait]
impl Service for Tenants {
    async fn create_tenant(
        &self,
        request: Request<v1::CreateTenantRequest>,
    ) -> Result<Response<v1::TenantResponse>, Status> {
        let _call = self.gateway.calls.token();
        let call = Call::of(&request);
        let request = request.into_inner();
        let mut check = Checker::of(&call, 0);
        let id = check.tenant("tenant_id", &format!("tenants/{}", request.tenant_id));
        check.request_id(&request.request_id);
        let given = request.tenant.unwrap_or_default();
        settings(&mut check, &given);
        let id = checked(&self.gateway, check.or(id))?;
        let body = TenantBody::Create(from_wire(id, given));
        let response = self.decide(&request.request_id, body, &call).await?;
        Ok(self.gateway.answer(response))
    }

    async fn get_tenant(
        &self,
        request: Request<v1::GetTenantRequest>,
    ) -> Result<Response<v1::Tenant>, Status> {
        let _call = self.gateway.calls.token();
        let call = Call::of(&request);
        let mut check = Checker::of(&call, 0);
        let id = check.tenant("name", &request.get_ref().name);
        let id = checked(&self.gateway, check.or(id))?;
        let view = self.gateway.view();
        let found = view.tenant(&id).map(|tenant| to_wire(tenant, &view));
        let unknown = || {
            let text = format!("there is no tenant {id}");
            Failure::Refused(Refusal::new(Reason::TenantUnknown, text))
        };
        Ok(self.gateway.answer(found.ok_or_else(unknown)?))
    }

    async fn list_tenants(
        &self,
        request: Request<v1::ListTenantsRequest>,
    ) -> Result<Response<v1::ListTenantsResponse>, Status> {
        let _call = self.gateway.calls.token();
        let call = Call::of(&request);
        let page = page(&self.gateway.view(), request.get_ref(), &call);
        let page = checked(&self.gateway, page)?;
        Ok(self.gateway.answer(page))
    }

    async fn update_tenant(
        &self,
        request: Request<v1::UpdateTenantRequest>,
    ) -> Result<Response<v1::TenantResponse>, Status> {
        let _call = self.gateway.calls.token();
        let call = Call::of(&request);
        let request = request.into_inner();
        let mut check = Checker::of(&call, 0);
        let given = request.tenant.unwrap_or_default();
        let id = check.tenant("tenant.name", &given.name);
        check.request_id(&request.request_id);
        settings(&mut check, &given);
        let paths = request.update_mask.unwrap_or_default().paths;
        if paths.is_empty() {
            check.add("update_mask", "must name what is to be set");
        }
        let id = checked(&self.gateway, check.or(id))?;
        let body = TenantBody::Update(Update {
            tenant: Some(from_wire(id, given)),
            paths,
            expected_revision: request.expected_revision,
        });
        let response = self.decide(&request.request_id, body, &call).await?;
        Ok(self.gateway.answer(response))
    }

    async fn delete_tenant(
        &self,
        request: Request<v1::DeleteTenantRequest>,
    ) -> Result<Response<v1::TenantResponse>, Status> {
        let _call = self.gateway.calls.token();
        let call = Call::of(&request);
        let request = request.into_inner();
        let mut check = Checker::of(&call, 0);
        let id = check.tenant("name", &request.name);
        check.request_id(&request.request_id);
        let id = checked(&self.gateway, check.or(id))?;
        let body = TenantBody::Delete(Delete {
            id,
            expected_revision: request.expected_revision,
            allow_missing: request.allow_missing,
        });
        let response = self.decide(&request.request_id, body, &call).await?;
        Ok(self.gateway.answer(response))
    }
}

impl Tenants {
    /// Has the meta shard decide a change, and all nodes hear of it.
    async fn decide(
        &self,
        request_id: &str,
        body: TenantBody,
        call: &Call,
    ) -> Result<v1::TenantResponse, Failure> {
        let decided = self.ask(request_id, body, call).await;
        let changed = checked(&self.gateway, decided)?;
        self.heard(changed.epoch, call).await;
        let tenant = changed.tenant.unwrap_or_default();
        Ok(v1::TenantResponse {
            tenant: Some(to_wire(&tenant, &self.gateway.view())),
            deduplicated: changed.deduplicated,
        })
    }

    async fn ask(
        &self,
        request_id: &str,
        body: TenantBody,
        call: &Call,
    ) -> Result<Changed, Failure> {
        self.all_know_tenants()?;
        let change = TenantChange {
            request_id: Bytes::from(request_id.to_owned()),
            body: Some(body),
        };
        let actor =
            book::all_know(&self.gateway).then(|| access::actor(&call.caller, Role::Operator));
        let command = Command::meta(Change {
            actor,
            ..change.into_change()
        });
        let command = Bytes::from(command.encode_to_vec());
        let target = Target::Shard(ShardId::META);
        let gateway = self.gateway.clone();
        let reply = gateway.propose(target, command, call.deadline).await?;
        match reply.answer {
            Some(Answer::Meta(changed)) => Ok(changed),
            Some(Answer::Refused(refusal)) => Err(match refusal.reason() {
                Reason::Invalid => Failure::field("tenant", refusal.message),
                _ => Failure::Refused(refusal),
            }),
            _ => Err(Failure::Internal(
                "the answer to a change of a tenant is of another kind".into(),
            )),
        }
    }

    /// A node of a version without tenants would drop them from the state, and serve what is not to be served.
    /// Once there was a tenant, all of them know.
    fn all_know_tenants(&self) -> Result<(), Failure> {
        let view = self.gateway.view();
        if view.tenants.is_some() {
            return Ok(());
        }
        let knows = |id| self.gateway.raft.knows_tenants(NodeId(id));
        match view.nodes.iter().find(|node| !knows(node.id)) {
            Some(node) => {
                let text = format!(
                    "node {} (n{}) is of a version without tenants, or has said nothing yet: the first \
                     tenant needs all nodes up and of one version",
                    node.name, node.id
                );
                Err(Failure::Refused(Refusal::new(Reason::NodesOlder, text)))
            }
            None => Ok(()),
        }
    }

    /// Waits until the nodes that are reached have heard of a change; what is not reached hears of it later.
    async fn heard(&self, epoch: u64, call: &Call) {
        let until = Instant::now() + call.deadline.remaining().min(HEARD_MAX);
        while !self.gateway.raft.heard_by_reachable(epoch) && Instant::now() < until {
            sleep(HEARD_LOOK).await;
        }
    }
}

/// Whether what can be set is of the form it must have; the rest the meta shard looks at.
fn settings(check: &mut Checker, given: &v1::Tenant) {
    for (field, value) in [
        ("tenant.display_name", &given.display_name),
        ("tenant.upgrade_url", &given.upgrade_url),
    ] {
        if let Some(wrong) = text(value, 0, held::TEXT_BYTES_MAX) {
            check.add(field, wrong);
        }
    }
    if let Some(ttl) = &given.ttl {
        check.ttl("tenant.ttl", ttl, true);
    }
}

/// A page of the tenants in the order of their names.
fn page(
    view: &ClusterState,
    request: &v1::ListTenantsRequest,
    call: &Call,
) -> Result<v1::ListTenantsResponse, Failure> {
    let mut check = Checker::of(call, 0);
    let size = check.page_size(request.page_size);
    let mut from = String::new();
    if !request.page_token.is_empty() {
        match decode(&request.page_token) {
            Some(id) => from = id,
            None => check.add("page_token", "is not a token this cluster gave"),
        }
    }
    check.finish()?;
    let all = view
        .tenants
        .as_ref()
        .map_or(&[][..], |tenants| &tenants.all);
    let begin = all.partition_point(|tenant| tenant.id < from);
    let rest = &all[begin..];
    let next = rest.get(size).map(|tenant| tenant.id.as_str());
    let shown = rest.iter().take(size);
    Ok(v1::ListTenantsResponse {
        tenants: shown.map(|tenant| to_wire(tenant, view)).collect(),
        next_page_token: next.map_or_else(String::new, encode),
    })
}

fn encode(id: &str) -> String {
    seal([&[VERSION], id.as_bytes()].concat())
}

fn decode(token: &str) -> Option<String> {
    let said = open(token, 1 + model::limits::NAME_SEGMENT_BYTES_MAX)?;
    let (version, id) = said.split_first()?;
    (*version == VERSION).then(|| String::from_utf8(id.to_vec()).ok())?
}

fn from_wire(id: String, given: v1::Tenant) -> held::Tenant {
    let quotas = given.quotas.map(|quotas| held::Quotas {
        messages_per_s: quotas.messages_per_second,
        bytes_per_s: quotas.bytes_per_second,
        conversations: quotas.conversations,
        user_messages_per_s: quotas.user_messages_per_second,
        conversation_messages_per_s: quotas.conversation_messages_per_second,
    });
    let versions = given.min_client_versions.into_iter();
    held::Tenant {
        id,
        display_name: given.display_name,
        quotas: quotas.filter(|quotas| *quotas != held::Quotas::default()),
        ttl_ms: given.ttl.as_ref().map_or(0, convert::millis_of),
        min_clients: versions
            .map(|(client, version)| MinClient { client, version })
            .collect(),
        upgrade_url: given.upgrade_url,
        ..held::Tenant::default()
    }
}

fn to_wire(tenant: &held::Tenant, view: &ClusterState) -> v1::Tenant {
    let count = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
    let quotas = tenant.quotas.map(|quotas| v1::Quotas {
        messages_per_second: quotas.messages_per_s,
        bytes_per_second: quotas.bytes_per_s,
        conversations: quotas.conversations,
        user_messages_per_second: quotas.user_messages_per_s,
        conversation_messages_per_second: quotas.conversation_messages_per_s,
    });
    let removal = tenant.removal.as_ref().map(|removal| v1::Removal {
        delete_time: Some(convert::timestamp_unsigned(removal.since_ms)),
        shards: count(view.shards.len()),
        shards_done: count(removal.swept.len()),
        conversations_removed: removal.removed,
    });
    let versions = tenant.min_clients.iter();
    let versions = versions.map(|min| (min.client.clone(), min.version.clone()));
    v1::Tenant {
        name: format!("tenants/{}", tenant.id),
        display_name: tenant.display_name.clone(),
        create_time: Some(convert::timestamp_unsigned(tenant.create_ms)),
        update_time: Some(convert::timestamp_unsigned(tenant.update_ms)),
        revision: tenant.revision,
        quotas,
        ttl: convert::ttl(tenant.ttl_ms),
        min_client_versions: versions.collect::<BTreeMap<_, _>>(),
        upgrade_url: tenant.upgrade_url.clone(),
        removal,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn view(ids: &[&str]) -> ClusterState {
        let tenant = |id: &&str| held::Tenant {
            id: (*id).to_owned(),
            ..held::Tenant::default()
        };
        ClusterState {
            tenants: Some(held::Tenants {
                all: ids.iter().map(tenant).collect(),
                ..held::Tenants::default()
            }),
            ..ClusterState::default()
        }
    }

    #[test]
    fn pages_go_through_all_tenants_in_the_order_of_names() {
        let view = view(&["a", "b", "c", "d", "e"]);
        let mut request = v1::ListTenantsRequest {
            page_size: 2,
            page_token: String::new(),
        };
        let mut seen = Vec::new();
        loop {
            let page = page(&view, &request, &Call::unbounded()).unwrap();
            seen.extend(page.tenants.into_iter().map(|tenant| tenant.name));
            request.page_token = page.next_page_token;
            if request.page_token.is_empty() {
                break;
            }
        }
        let all = ["a", "b", "c", "d", "e"].map(|id| format!("tenants/{id}"));
        assert_eq!(seen, all);
        request.page_token = "nonsense".to_owned();
        assert!(page(&view, &request, &Call::unbounded()).is_err());
        request.page_token = "A".repeat(1 << 16);
        assert!(page(&view, &request, &Call::unbounded()).is_err());
    }

    #[test]
    fn what_is_set_of_a_tenant_comes_back() {
        let given = v1::Tenant {
            display_name: "Acme".into(),
            quotas: Some(v1::Quotas {
                messages_per_second: 1,
                bytes_per_second: 2,
                conversations: 3,
                user_messages_per_second: 4,
                conversation_messages_per_second: 5,
            }),
            ttl: Some(prost_types::Duration {
                seconds: 86_400,
                nanos: 0,
            }),
            min_client_versions: [("rust".to_owned(), "0.2.0".to_owned())].into(),
            upgrade_url: "https://example.org".into(),
            ..v1::Tenant::default()
        };
        let back = to_wire(&from_wire("acme".into(), given.clone()), &view(&[]));
        let expected = v1::Tenant {
            name: "tenants/acme".into(),
            create_time: back.create_time,
            update_time: back.update_time,
            ..given
        };
        assert_eq!(back, expected);
    }
}
