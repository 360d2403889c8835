//! Which change of the tenants is made how. Each may be repeated under its id: it is answered as the first
//! time.

use bytes::Bytes;
use prost::Message as _;

use super::check::{check, named, sorted};
use super::{
    ASKED_MAX, Asked, Delete, Quotas, REQUEST_ID_BYTES_MAX, Removal, Swept, TENANTS_MAX, Tenant,
    TenantBody, TenantChange, Tenants, Update,
};
use crate::cluster::ClusterState;
use crate::cluster::decide::refused;
use crate::command::{Reason, Refusal};
use crate::hash;
use crate::limits::DEDUP_WINDOW_MS;

/// What a change came to.
#[derive(Debug, PartialEq)]
pub(crate) struct Decided {
    /// The tenant after it.
    pub(crate) tenant: Tenant,
    /// The same request had made it before.
    pub(crate) deduplicated: bool,
}

/// Makes a change at a command time, or refuses it and leaves `state` as it was.
pub(crate) fn decide(
    state: &mut ClusterState,
    change: &TenantChange,
    now_ms: u64,
) -> Result<Decided, Refusal> {
    let mut tenants = state.tenants.clone().unwrap_or_default();
    let body = change.body.as_ref();
    let body = body.ok_or_else(|| refused("a change of tenants of no known kind"))?;
    let next = At {
        now_ms,
        epoch: state.epoch + 1,
    };
    if let TenantBody::Swept(swept) = body {
        let tenant = sweep(state, &mut tenants, swept)?;
        return Ok(settle(state, tenants, tenant));
    }
    let id = &change.request_id;
    if id.is_empty() || id.len() > REQUEST_ID_BYTES_MAX {
        return Err(refused(format!(
            "a change of a tenant needs a request_id of 1 to {REQUEST_ID_BYTES_MAX} bytes"
        )));
    }
    let asks = TenantChange {
        request_id: Bytes::new(),
        ..change.clone()
    };
    let content = hash::salted_hash(&[], &asks.encode_to_vec());
    let old = |asked: &Asked| now_ms > asked.time_ms.saturating_add(DEDUP_WINDOW_MS);
    tenants.asked.retain(|asked| !old(asked));
    if let Some(before) = tenants.asked.iter().find(|asked| asked.request_id == *id) {
        if before.content != content {
            let text = "the request_id was used for another change of a tenant";
            return Err(Refusal::new(Reason::RequestIdReused, text));
        }
        return Ok(Decided {
            tenant: before.tenant.clone().unwrap_or_default(),
            deduplicated: true,
        });
    }
    if tenants.asked.len() >= ASKED_MAX {
        return Err(full(format!(
            "tenants were changed {ASKED_MAX} times in seven days, which is as often as may be"
        )));
    }
    let tenant = match body {
        TenantBody::Create(wanted) => create(&mut tenants, wanted, next)?,
        TenantBody::Update(update) => self::update(&mut tenants, update, next)?,
        TenantBody::Delete(delete) => self::delete(&mut tenants, delete, next)?,
        TenantBody::Swept(_) => Tenant::default(),
    };
    tenants.asked.push(Asked {
        request_id: change.request_id.clone(),
        content,
        time_ms: now_ms,
        tenant: Some(tenant.clone()),
    });
    Ok(settle(state, tenants, tenant))
}

/// When a change is decided.
#[derive(Clone, Copy)]
struct At {
    now_ms: u64,
    /// The cluster's epoch behind it.
    epoch: u64,
}

fn settle(state: &mut ClusterState, tenants: Tenants, tenant: Tenant) -> Decided {
    if state.tenants.as_ref() != Some(&tenants) {
        state.tenants = Some(tenants);
        state.epoch += 1;
    }
    Decided {
        tenant,
        deduplicated: false,
    }
}

fn create(tenants: &mut Tenants, wanted: &Tenant, at: At) -> Result<Tenant, Refusal> {
    named(&wanted.id)?;
    check(wanted)?;
    let place = match tenants.place(&wanted.id) {
        Err(place) => place,
        Ok(place) if tenants.all.get(place).is_some_and(Tenant::is_deleting) => {
            return Err(deleting(&wanted.id));
        }
        Ok(_) => {
            let text = format!("tenant {} exists, created by another request", wanted.id);
            return Err(Refusal::new(Reason::TenantExists, text));
        }
    };
    has_room(tenants)?;
    let tenant = Tenant {
        create_ms: at.now_ms,
        update_ms: at.now_ms,
        revision: at.epoch,
        removal: None,
        min_clients: sorted(&wanted.min_clients),
        ..wanted.clone()
    };
    tenants.all.insert(place, tenant.clone());
    Ok(tenant)
}

fn update(tenants: &mut Tenants, update: &Update, at: At) -> Result<Tenant, Refusal> {
    let wanted = update.tenant.clone().unwrap_or_default();
    let held = find(tenants, &wanted.id)?;
    if held.is_deleting() {
        return Err(deleting(&wanted.id));
    }
    expected(held, update.expected_revision)?;
    let mut changed = held.clone();
    if update.paths.is_empty() {
        return Err(refused("a change of a tenant that changes nothing"));
    }
    for path in &update.paths {
        set(&mut changed, path, &wanted)?;
    }
    check(&changed)?;
    changed.min_clients = sorted(&changed.min_clients);
    changed.update_ms = at.now_ms.max(changed.create_ms);
    changed.revision = at.epoch;
    *held = changed.clone();
    Ok(changed)
}

/// Sets one field, by the name that it has on the wire.
fn set(tenant: &mut Tenant, path: &str, wanted: &Tenant) -> Result<(), Refusal> {
    let given = wanted.limits();
    let mut quotas = tenant.limits();
    match path {
        "display_name" => tenant.display_name.clone_from(&wanted.display_name),
        "ttl" => tenant.ttl_ms = wanted.ttl_ms,
        "min_client_versions" => tenant.min_clients.clone_from(&wanted.min_clients),
        "upgrade_url" => tenant.upgrade_url.clone_from(&wanted.upgrade_url),
        "quotas" => quotas = given,
        "quotas.messages_per_second" => quotas.messages_per_s = given.messages_per_s,
        "quotas.bytes_per_second" => quotas.bytes_per_s = given.bytes_per_s,
        "quotas.conversations" => quotas.conversations = given.conversations,
        "quotas.user_messages_per_second" => {
            quotas.user_messages_per_s = given.user_messages_per_s;
        }
        "quotas.conversation_messages_per_second" => {
            quotas.conversation_messages_per_s = given.conversation_messages_per_s;
        }
        other => {
            let text = format!("a tenant has no field {other:?} that can be set");
            return Err(refused(text));
        }
    }
    tenant.quotas = (quotas != Quotas::default()).then_some(quotas);
    Ok(())
}

fn delete(tenants: &mut Tenants, delete: &Delete, at: At) -> Result<Tenant, Refusal> {
    named(&delete.id)?;
    if delete.allow_missing
        && let Err(place) = tenants.place(&delete.id)
    {
        has_room(tenants)?;
        let implicit = Tenant {
            id: delete.id.clone(),
            create_ms: at.now_ms,
            ..Tenant::default()
        };
        tenants.all.insert(place, implicit);
    }
    let held = find(tenants, &delete.id)?;
    if held.is_deleting() {
        return Ok(held.clone());
    }
    expected(held, delete.expected_revision)?;
    held.update_ms = at.now_ms.max(held.create_ms);
    held.revision = at.epoch;
    held.removal = Some(Removal {
        since_ms: at.now_ms,
        epoch: at.epoch,
        swept: Vec::new(),
        removed: 0,
    });
    Ok(held.clone())
}

/// Notes what leaders have removed; the tenant goes with the last shard.
fn sweep(state: &ClusterState, tenants: &mut Tenants, swept: &Swept) -> Result<Tenant, Refusal> {
    let Ok(place) = tenants.place(&swept.id) else {
        // It was the last one, told again.
        return Ok(Tenant::default());
    };
    let Some(tenant) = tenants.all.get_mut(place) else {
        return Ok(Tenant::default());
    };
    let Some(removal) = &mut tenant.removal else {
        return Ok(tenant.clone());
    };
    if removal.epoch != swept.epoch {
        return Ok(tenant.clone());
    }
    removal.removed = removal.removed.saturating_add(swept.removed);
    for shard in &swept.shards {
        if let Err(at) = removal.swept.binary_search(shard)
            && state.shards.iter().any(|one| one.id == *shard)
        {
            removal.swept.insert(at, *shard);
        }
    }
    let is_swept = |id: &u32| removal.swept.binary_search(id).is_ok();
    let all = !state.shards.is_empty() && state.shards.iter().all(|one| is_swept(&one.id));
    let told = tenant.clone();
    if all {
        tenants.all.remove(place);
    }
    Ok(told)
}

fn find<'t>(tenants: &'t mut Tenants, id: &str) -> Result<&'t mut Tenant, Refusal> {
    let place = tenants.place(id).ok();
    let found = place.and_then(|place| tenants.all.get_mut(place));
    found.ok_or_else(|| {
        let text = format!("there is no tenant {id:?}");
        Refusal::new(Reason::TenantUnknown, text)
    })
}

fn has_room(tenants: &Tenants) -> Result<(), Refusal> {
    match tenants.all.len() < TENANTS_MAX {
        true => Ok(()),
        false => Err(full(format!("the cluster has its {TENANTS_MAX} tenants"))),
    }
}

fn full(text: String) -> Refusal {
    Refusal::new(Reason::TenantsFull, text)
}

fn deleting(id: &str) -> Refusal {
    let text = format!("tenant {id} is being deleted; its name is free once everything is gone");
    Refusal::new(Reason::TenantDeleting, text)
}

fn expected(tenant: &Tenant, expected: Option<u64>) -> Result<(), Refusal> {
    let revision = tenant.revision;
    match expected {
        Some(wanted) if wanted != revision => Err(Refusal {
            revision,
            ..Refusal::new(
                Reason::RevisionMismatch,
                format!("the tenant's revision is {revision}"),
            )
        }),
        Some(_) | None => Ok(()),
    }
}
