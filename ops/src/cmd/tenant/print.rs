//! How tenants are shown.

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::time::Duration;

use client::v1;
use serde::Serialize;

use crate::cmd::target::{new_table, printable};

/// Seconds of a day: months and years are of no one length.
const DAY_S: u64 = 86_400;

/// One tenant, as JSON has it.
#[derive(Debug, PartialEq, Serialize)]
pub(super) struct Shown {
    name: String,
    display_name: String,
    state: &'static str,
    create_time: String,
    update_time: String,
    revision: u64,
    quotas: Quotas,
    /// Seconds; none = they do not expire by it.
    ttl_s: Option<i64>,
    min_client_versions: BTreeMap<String, String>,
    upgrade_url: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    removal: Option<Removal>,
}

/// 0 = as much as it likes.
#[derive(Debug, Default, PartialEq, Serialize)]
struct Quotas {
    messages_per_second: u64,
    bytes_per_second: u64,
    conversations: u64,
    user_messages_per_second: u64,
    conversation_messages_per_second: u64,
}

#[derive(Debug, PartialEq, Serialize)]
struct Removal {
    shards: u32,
    shards_done: u32,
    conversations_removed: u64,
}

impl Shown {
    /// Of what a node tells.
    pub(super) fn of(tenant: &v1::Tenant) -> Shown {
        let quotas = tenant.quotas.unwrap_or_default();
        let removal = tenant.removal.as_ref().map(|removal| Removal {
            shards: removal.shards,
            shards_done: removal.shards_done,
            conversations_removed: removal.conversations_removed,
        });
        Shown {
            name: tenant.name.trim_start_matches("tenants/").to_owned(),
            display_name: tenant.display_name.clone(),
            state: match removal {
                Some(_) => "deleting",
                None => "active",
            },
            create_time: time(tenant.create_time),
            update_time: time(tenant.update_time),
            revision: tenant.revision,
            quotas: Quotas {
                messages_per_second: quotas.messages_per_second,
                bytes_per_second: quotas.bytes_per_second,
                conversations: quotas.conversations,
                user_messages_per_second: quotas.user_messages_per_second,
                conversation_messages_per_second: quotas.conversation_messages_per_second,
            },
            ttl_s: tenant.ttl.map(|ttl| ttl.seconds),
            min_client_versions: tenant.min_client_versions.clone(),
            upgrade_url: tenant.upgrade_url.clone(),
            removal,
        }
    }
}

/// Shows one tenant.
pub(super) fn one(tenant: &v1::Tenant, json: bool) -> anyhow::Result<ExitCode> {
    let shown = Shown::of(tenant);
    if json {
        println!("{}", serde_json::to_string_pretty(&shown)?);
        return Ok(ExitCode::SUCCESS);
    }
    let mut table = new_table(&["tenant", &printable(&shown.name)]);
    let mut row = |what: &str, value: String| {
        table.add_row([what.to_owned(), printable(&value)]);
    };
    row("display name", dash(&shown.display_name));
    row("state", shown.state.to_owned());
    if let Some(removal) = &shown.removal {
        let Removal {
            shards,
            shards_done,
            conversations_removed,
        } = removal;
        row("shards done", format!("{shards_done} of {shards}"));
        row("conversations removed", conversations_removed.to_string());
    }
    row("created", shown.create_time.clone());
    row("changed", shown.update_time.clone());
    row("revision", shown.revision.to_string());
    row("messages/s", quota(shown.quotas.messages_per_second));
    row("bytes/s", quota(shown.quotas.bytes_per_second));
    row("conversations", quota(shown.quotas.conversations));
    row(
        "messages/s of a user",
        quota(shown.quotas.user_messages_per_second),
    );
    let of_room = shown.quotas.conversation_messages_per_second;
    row("messages/s of a conversation", quota(of_room));
    row("ttl", ttl(shown.ttl_s));
    let versions = shown.min_client_versions.iter();
    let versions: Vec<String> = versions
        .map(|(kind, least)| format!("{kind} {least}"))
        .collect();
    row("oldest clients", dash(&versions.join(", ")));
    row("upgrade url", dash(&shown.upgrade_url));
    println!("{table}");
    Ok(ExitCode::SUCCESS)
}

/// Shows all tenants.
pub(super) fn list_all(tenants: &[v1::Tenant], json: bool) -> anyhow::Result<ExitCode> {
    let shown: Vec<Shown> = tenants.iter().map(Shown::of).collect();
    if json {
        let said = serde_json::json!({ "tenants": shown });
        println!("{}", serde_json::to_string_pretty(&said)?);
        return Ok(ExitCode::SUCCESS);
    }
    if shown.is_empty() {
        println!("No tenant was created.");
        return Ok(ExitCode::SUCCESS);
    }
    let mut table = new_table(&[
        "tenant",
        "display name",
        "state",
        "messages/s",
        "bytes/s",
        "conversations",
        "ttl",
    ]);
    for one in &shown {
        table.add_row([
            printable(&one.name),
            printable(&dash(&one.display_name)),
            one.state.to_owned(),
            quota(one.quotas.messages_per_second),
            quota(one.quotas.bytes_per_second),
            quota(one.quotas.conversations),
            ttl(one.ttl_s),
        ]);
    }
    println!("{table}");
    Ok(ExitCode::SUCCESS)
}

fn quota(limit: u64) -> String {
    match limit {
        0 => "any".to_owned(),
        limit => limit.to_string(),
    }
}

fn ttl(seconds: Option<i64>) -> String {
    let seconds = seconds.and_then(|seconds| u64::try_from(seconds).ok());
    seconds.map_or_else(
        || "for ever".to_owned(),
        |seconds| match seconds % DAY_S {
            0 => format!("{}d", seconds / DAY_S),
            _ => humantime::format_duration(Duration::from_secs(seconds)).to_string(),
        },
    )
}

fn dash(text: &str) -> String {
    match text {
        "" => "–".to_owned(),
        text => text.to_owned(),
    }
}

fn time(time: Option<prost_types::Timestamp>) -> String {
    let seconds = time.and_then(|time| u64::try_from(time.seconds).ok());
    let at = std::time::UNIX_EPOCH + Duration::from_secs(seconds.unwrap_or(0));
    humantime::format_rfc3339_seconds(at).to_string()
}
