//! Tenants in the meta shard's state: which there are, what they may do, and which are being removed.
//! Disk and wire formats: tags are permanent.
//!
//! ```text
//!  Create ─► active ─ Update ─► active ─ Delete ─► deleting ─ Swept by the leaders of all shards ─► gone
//! ```
//!
//! A tenant that is being deleted keeps its name until the last of its conversations is gone, so that what
//! is created under the name afterwards meets nothing of it.

use bytes::Bytes;
use prost::{Message, Oneof};

use super::{Change, ChangeBody, ClusterState};

mod check;
mod decide;
#[cfg(test)]
mod tests;
mod version;

pub(super) use decide::decide;
pub use version::Version;

/// Tenants of a cluster, at most: every node holds all of them.
pub const TENANTS_MAX: usize = 1_000;
/// Requests that are remembered, at most; more changes than that in seven days are refused.
pub const ASKED_MAX: usize = 2_000;
/// Bytes of a tenant's name for people, and of the address where newer clients are.
pub const TEXT_BYTES_MAX: usize = 256;
/// Kinds of clients that one tenant sets a version for.
pub const CLIENTS_MAX: usize = 8;
/// Bytes of a kind of client.
pub const CLIENT_BYTES_MAX: usize = 16;
/// Bytes of a request's id.
pub const REQUEST_ID_BYTES_MAX: usize = 128;
/// Largest quota, of whatever kind.
pub const QUOTA_MAX: u64 = 1 << 40;
/// What names of the cluster's own tenants begin with: nobody else creates or deletes them.
pub const RESERVED: &str = "firebreak-";

/// All of the cluster's tenants.
#[derive(Clone, PartialEq, Message)]
pub struct Tenants {
    /// Sorted by id.
    #[prost(message, repeated, tag = "1")]
    pub all: Vec<Tenant>,
    /// Requests that were carried out, the oldest first: each is answered again as the first time.
    #[prost(message, repeated, tag = "2")]
    pub asked: Vec<Asked>,
}

/// One tenant.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct Tenant {
    /// What names of its conversations begin with.
    #[prost(string, tag = "1")]
    pub id: String,
    /// For people.
    #[prost(string, tag = "2")]
    pub display_name: String,
    /// Command time of its creation, Unix milliseconds.
    #[prost(uint64, tag = "3")]
    pub create_ms: u64,
    /// Command time of its last change, Unix milliseconds.
    #[prost(uint64, tag = "4")]
    pub update_ms: u64,
    /// The cluster's epoch at its last change.
    #[prost(uint64, tag = "5")]
    pub revision: u64,
    /// What it may use; none = whatever it likes.
    #[prost(message, optional, tag = "6")]
    pub quotas: Option<Quotas>,
    /// Messages that have no time to live of their own, nor of their conversation, expire so long after
    /// their append, milliseconds; 0 = never.
    #[prost(uint64, tag = "7")]
    pub ttl_ms: u64,
    /// Clients that are refused when they are older. Sorted by client.
    #[prost(message, repeated, tag = "8")]
    pub min_clients: Vec<MinClient>,
    /// Where newer clients are.
    #[prost(string, tag = "9")]
    pub upgrade_url: String,
    /// Set while it is being deleted.
    #[prost(message, optional, tag = "10")]
    pub removal: Option<Removal>,
}

/// What a tenant may use; 0 = as much as it likes.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub struct Quotas {
    /// Messages a second, of all its users together.
    #[prost(uint64, tag = "1")]
    pub messages_per_s: u64,
    /// Bytes of them a second.
    #[prost(uint64, tag = "2")]
    pub bytes_per_s: u64,
    /// Conversations that there are at a time.
    #[prost(uint64, tag = "3")]
    pub conversations: u64,
    /// Messages a second of each of its users.
    #[prost(uint64, tag = "4")]
    pub user_messages_per_s: u64,
    /// Messages a second in each of its conversations.
    #[prost(uint64, tag = "5")]
    pub conversation_messages_per_s: u64,
}

/// The oldest version of a client that is served.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct MinClient {
    /// What the client calls itself, such as `rust`.
    #[prost(string, tag = "1")]
    pub client: String,
    /// Such as `0.2.0`.
    #[prost(string, tag = "2")]
    pub version: String,
}

/// How far a removal is.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct Removal {
    /// Command time of the deletion, Unix milliseconds.
    #[prost(uint64, tag = "1")]
    pub since_ms: u64,
    /// The cluster's epoch at the deletion: no two removals share it.
    #[prost(uint64, tag = "2")]
    pub epoch: u64,
    /// Shards that hold nothing of it any more. Sorted.
    #[prost(uint32, repeated, tag = "3")]
    pub swept: Vec<u32>,
    /// Conversations that were removed, as far as was told.
    #[prost(uint64, tag = "4")]
    pub removed: u64,
}

/// A request that was carried out.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct Asked {
    /// Its id (UTF-8).
    #[prost(bytes = "bytes", tag = "1")]
    pub request_id: Bytes,
    /// Hash of what it asked for, 16 bytes.
    #[prost(bytes = "bytes", tag = "2")]
    pub content: Bytes,
    /// Command time, Unix milliseconds.
    #[prost(uint64, tag = "3")]
    pub time_ms: u64,
    /// What was answered.
    #[prost(message, optional, tag = "4")]
    pub tenant: Option<Tenant>,
}

/// A change of the [`Tenants`].
#[derive(Clone, PartialEq, Message)]
pub struct TenantChange {
    /// Makes retries safe (UTF-8); empty for what the cluster does itself.
    #[prost(bytes = "bytes", tag = "1")]
    pub request_id: Bytes,
    /// What changes.
    #[prost(oneof = "TenantBody", tags = "2, 3, 4, 5")]
    pub body: Option<TenantBody>,
}

/// The kinds of changes.
#[derive(Clone, PartialEq, Oneof)]
pub enum TenantBody {
    /// Adds one. Of the tenant its times, revision and removal do not count.
    #[prost(message, tag = "2")]
    Create(Tenant),
    /// Sets what is named of one.
    #[prost(message, tag = "3")]
    Update(Update),
    /// Begins the removal of one, with all that is in it.
    #[prost(message, tag = "4")]
    Delete(Delete),
    /// Leaders of shards have removed what they held of one.
    #[prost(message, tag = "5")]
    Swept(Swept),
}

/// Sets what is named of a tenant.
#[derive(Clone, PartialEq, Message)]
pub struct Update {
    /// With its id, and what is to be set.
    #[prost(message, optional, tag = "1")]
    pub tenant: Option<Tenant>,
    /// What is to be set: names of fields as the wire has them.
    #[prost(string, repeated, tag = "2")]
    pub paths: Vec<String>,
    /// Refuse unless the tenant's revision is this one. Looked at after dedup.
    #[prost(uint64, optional, tag = "3")]
    pub expected_revision: Option<u64>,
}

/// Begins a removal.
#[derive(Clone, PartialEq, Message)]
pub struct Delete {
    /// Of which tenant.
    #[prost(string, tag = "1")]
    pub id: String,
    /// Refuse unless the tenant's revision is this one. Looked at after dedup.
    #[prost(uint64, optional, tag = "2")]
    pub expected_revision: Option<u64>,
    /// Also where no such tenant was created: what may be there under its name goes.
    #[prost(bool, tag = "3")]
    pub allow_missing: bool,
}

/// What leaders have removed.
#[derive(Clone, PartialEq, Message)]
pub struct Swept {
    /// Of which tenant.
    #[prost(string, tag = "1")]
    pub id: String,
    /// The epoch of the removal: what comes late must not count for another.
    #[prost(uint64, tag = "2")]
    pub epoch: u64,
    /// Shards that hold nothing of it any more.
    #[prost(uint32, repeated, tag = "3")]
    pub shards: Vec<u32>,
    /// Conversations that were removed since this was told last.
    #[prost(uint64, tag = "4")]
    pub removed: u64,
}

impl Tenants {
    /// The tenant of this id.
    pub fn get(&self, id: &str) -> Option<&Tenant> {
        let at = self.place(id).ok()?;
        self.all.get(at)
    }

    /// Where the tenant of this id is, or would be.
    fn place(&self, id: &str) -> Result<usize, usize> {
        self.all.binary_search_by(|one| one.id.as_str().cmp(id))
    }

    /// Those that are being deleted.
    pub fn deleting(&self) -> impl Iterator<Item = (&Tenant, &Removal)> {
        let removals = self.all.iter();
        removals.filter_map(|one| Some((one, one.removal.as_ref()?)))
    }
}

impl Tenant {
    /// Whether it is being deleted.
    pub fn is_deleting(&self) -> bool {
        self.removal.is_some()
    }

    /// What it may use.
    pub fn limits(&self) -> Quotas {
        self.quotas.unwrap_or_default()
    }
}

impl TenantChange {
    /// As a change of the cluster's state.
    pub fn into_change(self) -> Change {
        ChangeBody::Tenant(Box::new(self)).into()
    }
}

impl ClusterState {
    /// The tenant of this id.
    pub fn tenant(&self, id: &str) -> Option<&Tenant> {
        self.tenants.as_ref()?.get(id)
    }

    /// How long messages of a tenant live that have no time of their own, nor of their conversation,
    /// milliseconds; 0 = for ever.
    pub fn tenant_ttl_ms(&self, id: &str) -> u64 {
        self.tenant(id).map_or(0, |tenant| tenant.ttl_ms)
    }
}
