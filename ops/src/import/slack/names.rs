//! Whose conversations and users the ids of an export are.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use model::id::segment;
use serde::Deserialize;

use super::{Archive, Channel, text};
use crate::import::record::{At, Bad, id_of, tame};

/// Where conversations are listed.
const LISTS: [&str; 4] = ["channels.json", "groups.json", "dms.json", "mpims.json"];
/// Longest value of an attribute that is made here, bytes.
const VALUE_BYTES_MAX: usize = 512;

/// Conversations by their folders, and users by their ids.
#[derive(Debug, Default)]
pub(super) struct Names {
    channels: BTreeMap<String, Channel>,
    users: BTreeMap<String, String>,
}

#[derive(Deserialize)]
struct RawChannel {
    id: String,
    /// None for a direct message.
    name: Option<String>,
    #[serde(default)]
    members: Vec<String>,
    topic: Option<ChannelText>,
    purpose: Option<ChannelText>,
}

#[derive(Deserialize)]
struct ChannelText {
    #[serde(default)]
    value: String,
}

#[derive(Deserialize)]
struct RawUser {
    id: String,
    name: Option<String>,
    #[serde(default)]
    profile: Profile,
}

#[derive(Default, Deserialize)]
struct Profile {
    display_name: Option<String>,
    real_name: Option<String>,
}

impl Names {
    /// Reads the lists of an export. A list that there is not is no error; one that cannot be read is.
    pub(super) fn read(archive: &mut Archive, bad: &mut Vec<Bad>) -> Names {
        let mut names = Names::default();
        for file in LISTS {
            for channel in list::<RawChannel>(archive, file, bad) {
                names.add_channel(channel);
            }
        }
        for user in list::<RawUser>(archive, "users.json", bad) {
            let profile = user.profile;
            let names_of = [profile.display_name, profile.real_name, user.name];
            let mut given = names_of
                .into_iter()
                .flatten()
                .filter(|name| !name.is_empty());
            if let Some(name) = given.next() {
                names.users.insert(user.id, tame(&name, VALUE_BYTES_MAX));
            }
        }
        names
    }

    /// Whether nothing is listed.
    pub(super) fn is_empty(&self) -> bool {
        self.channels.is_empty()
    }

    fn add_channel(&mut self, raw: RawChannel) {
        let mut attributes = BTreeMap::new();
        let mut add = |key: &str, value: &str| {
            let value = tame(value, VALUE_BYTES_MAX);
            if !value.is_empty() {
                attributes.insert(key.to_owned(), value);
            }
        };
        add("title", raw.name.as_deref().unwrap_or(""));
        add("topic", raw.topic.as_ref().map_or("", |told| &told.value));
        add(
            "purpose",
            raw.purpose.as_ref().map_or("", |told| &told.value),
        );
        if raw.name.is_none() {
            add("members", &raw.members.join(","));
        }
        let channel = Channel {
            id: id(&raw.id),
            attributes,
        };
        // A direct message's folder is its id.
        self.channels.insert(raw.id, channel.clone());
        if let Some(name) = raw.name {
            self.channels.insert(name, channel);
        }
    }

    /// The conversation of a folder.
    pub(super) fn channel(&self, folder: &str) -> Channel {
        // Some exports have one folder around all.
        let last = folder.rsplit('/').next().unwrap_or(folder);
        let unknown = || Channel {
            id: id(last),
            attributes: [("title".to_owned(), tame(last, VALUE_BYTES_MAX))].into(),
        };
        self.channels.get(last).cloned().unwrap_or_else(unknown)
    }

    /// The name of a user.
    pub(super) fn user(&self, id: &str) -> Option<&str> {
        self.users.get(id).map(String::as_str)
    }
}

/// A valid id of a conversation: this one, or one made of it.
fn id(given: &str) -> String {
    match segment("conversation", given) {
        Ok(()) => given.to_owned(),
        Err(_) => id_of("slack", &[given.as_bytes()])
            .replace("import:", "")
            .replace(':', "-"),
    }
}

/// The entries of a list; those that cannot be read are told.
fn list<T: for<'d> Deserialize<'d>>(
    archive: &mut Archive,
    file: &str,
    bad: &mut Vec<Bad>,
) -> Vec<T> {
    if archive.index_for_name(file).is_none() {
        return Vec::new();
    }
    let mut wrong = |line: u64, reason: String| {
        let file = Arc::from(file);
        bad.push(Bad {
            at: At { file, line },
            reason,
        });
    };
    let read = text(archive, file, &AtomicU64::new(0));
    let entries = read.and_then(|text| {
        serde_json::from_slice::<Vec<serde_json::Value>>(&text)
            .map_err(|error| format!("is no list of JSON objects: {error}"))
    });
    let mut all = Vec::new();
    match entries {
        Ok(entries) => {
            for (at, entry) in (1..).zip(entries) {
                match serde_json::from_value(entry) {
                    Ok(one) => all.push(one),
                    Err(error) => wrong(at, error.to_string()),
                }
            }
        }
        Err(reason) => wrong(0, reason),
    }
    all
}
