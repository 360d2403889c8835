//! What can be set of a tenant, and within which bounds.

use super::{
    CLIENT_BYTES_MAX, CLIENTS_MAX, MinClient, QUOTA_MAX, Quotas, RESERVED, TEXT_BYTES_MAX, Tenant,
    Version,
};
use crate::cluster::decide::refused;
use crate::command::Refusal;
use crate::id;
use crate::limits::TTL_MS_MAX;
use crate::text::forbidden;

/// Whether a tenant may be called so by a caller.
pub(super) fn named(id: &str) -> Result<(), Refusal> {
    id::segment("tenant", id).map_err(|error| refused(error.to_string()))?;
    match id.starts_with(RESERVED) {
        true => Err(refused(format!(
            "names of tenants that begin with {RESERVED:?} are the cluster's own"
        ))),
        false => Ok(()),
    }
}

/// By kind.
pub(super) fn sorted(clients: &[MinClient]) -> Vec<MinClient> {
    let mut clients = clients.to_vec();
    clients.sort_by(|one, other| one.client.cmp(&other.client));
    clients
}

/// Whether what can be set of a tenant is as it must be.
pub(super) fn check(tenant: &Tenant) -> Result<(), Refusal> {
    for text in [&tenant.display_name, &tenant.upgrade_url] {
        if text.len() > TEXT_BYTES_MAX || forbidden(text).is_some() {
            return Err(refused(format!(
                "a text of a tenant has at most {TEXT_BYTES_MAX} bytes, all of them printable"
            )));
        }
    }
    let Quotas {
        messages_per_s,
        bytes_per_s,
        conversations,
        user_messages_per_s,
        conversation_messages_per_s,
    } = tenant.limits();
    let quotas = [
        messages_per_s,
        bytes_per_s,
        conversations,
        user_messages_per_s,
        conversation_messages_per_s,
    ];
    if quotas.into_iter().any(|quota| quota > QUOTA_MAX) {
        return Err(refused(format!("a quota is at most {QUOTA_MAX}")));
    }
    if tenant.ttl_ms > TTL_MS_MAX {
        return Err(refused("a time to live of more than a hundred years"));
    }
    check_clients(&tenant.min_clients)
}

fn check_clients(clients: &[MinClient]) -> Result<(), Refusal> {
    if clients.len() > CLIENTS_MAX {
        return Err(refused(format!(
            "a tenant names at most {CLIENTS_MAX} kinds of clients"
        )));
    }
    let clients = sorted(clients);
    if clients
        .windows(2)
        .any(|pair| pair[0].client == pair[1].client)
    {
        return Err(refused("a kind of client is named twice"));
    }
    for MinClient { client, version } in &clients {
        let short = (1..=CLIENT_BYTES_MAX).contains(&client.len());
        let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        if !short || !client.bytes().all(plain) {
            return Err(refused(format!(
                "a kind of client has 1 to {CLIENT_BYTES_MAX} characters of a-z, 0-9 and -"
            )));
        }
        if Version::parse(version).is_none() || version.len() > TEXT_BYTES_MAX / 4 {
            return Err(refused(format!(
                "the version {version:?} of {client} is not of the form 1.2.3"
            )));
        }
    }
    Ok(())
}
