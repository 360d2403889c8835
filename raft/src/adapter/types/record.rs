//! How entries and memberships are written to the log. Tags are permanent.

use std::collections::{BTreeMap, BTreeSet};

use bytes::{BufMut, Bytes, BytesMut};
use openraft::{EntryPayload, Membership};
use prost::Message;
use proto::node as wire;
use store::Record;

use super::wire::{log_id_from_wire, log_id_to_wire};
use super::{Entry, Malformed, Payload, StoredMembership, Traces, log_id, position};
use crate::adapter::incarnation::Member;

const TAG_BLANK: u8 = 0;
pub(super) const TAG_COMMANDS: u8 = 1;
const TAG_MEMBERSHIP: u8 = 2;

#[derive(Clone, PartialEq, Message)]
struct MembershipRecord {
    #[prost(message, repeated, tag = "1")]
    configs: Vec<ConfigRecord>,
    #[prost(uint64, repeated, tag = "2")]
    nodes: Vec<u64>,
    /// Set where the membership is stored with the log id it came from.
    #[prost(message, optional, tag = "3")]
    log_id: Option<wire::LogId>,
    /// Those of `nodes` whose incarnation is not 0.
    #[prost(message, repeated, tag = "4")]
    incarnations: Vec<IncarnationRecord>,
}

#[derive(Clone, PartialEq, Message)]
struct IncarnationRecord {
    #[prost(uint64, tag = "1")]
    node: u64,
    #[prost(uint64, tag = "2")]
    incarnation: u64,
}

#[derive(Clone, PartialEq, Message)]
struct ConfigRecord {
    #[prost(uint64, repeated, tag = "1")]
    voters: Vec<u64>,
}

fn membership_record(membership: &Membership<u64, Member>) -> MembershipRecord {
    MembershipRecord {
        configs: membership
            .get_joint_config()
            .iter()
            .map(|c| ConfigRecord {
                voters: c.iter().copied().collect(),
            })
            .collect(),
        nodes: membership.nodes().map(|(id, _)| *id).collect(),
        log_id: None,
        incarnations: membership
            .nodes()
            .filter(|(_, member)| member.incarnation > 0)
            .map(|(id, member)| IncarnationRecord {
                node: *id,
                incarnation: member.incarnation,
            })
            .collect(),
    }
}

fn membership_from(record: MembershipRecord) -> Result<Membership<u64, Member>, Malformed> {
    let configs: Vec<BTreeSet<u64>> = record
        .configs
        .into_iter()
        .map(|c| c.voters.into_iter().collect())
        .collect();
    let mut nodes: BTreeMap<u64, Member> = record
        .nodes
        .into_iter()
        .map(|id| (id, Member::default()))
        .collect();
    for named in record.incarnations {
        let incarnation = named.incarnation;
        nodes.insert(named.node, Member { incarnation });
    }
    Membership::new(configs, nodes).map_err(|e| Malformed(format!("membership: {e}")))
}

/// A membership with the log id it came from, as the state machine stores it.
pub(crate) fn encode_membership(stored: &StoredMembership) -> Bytes {
    let mut record = membership_record(stored.membership());
    record.log_id = stored.log_id().as_ref().map(log_id_to_wire);
    record.encode_to_vec().into()
}

/// Reads what [`encode_membership`] wrote; empty bytes are the empty membership.
pub(crate) fn decode_membership(bytes: &Bytes) -> Result<StoredMembership, Malformed> {
    if bytes.is_empty() {
        return Ok(StoredMembership::default());
    }
    let record = MembershipRecord::decode(bytes.clone())
        .map_err(|e| Malformed(format!("membership: {e}")))?;
    let log_id = record.log_id.map(|id| log_id_from_wire(&id));
    Ok(StoredMembership::new(log_id, membership_from(record)?))
}

/// An entry as a log record, and as the wire carries it.
pub(crate) fn encode_entry(entry: &Entry) -> Record {
    let data = match &entry.payload {
        EntryPayload::Blank => Bytes::from_static(&[TAG_BLANK]),
        EntryPayload::Normal(payload) => payload.record.clone(),
        EntryPayload::Membership(membership) => {
            let record = membership_record(membership);
            let mut data = BytesMut::with_capacity(1 + record.encoded_len());
            data.put_u8(TAG_MEMBERSHIP);
            record.encode_raw(&mut data);
            data.freeze()
        }
    };
    Record {
        position: position(&entry.log_id),
        data,
    }
}

/// Reads what [`encode_entry`] wrote.
pub(crate) fn decode_entry(record: Record) -> Result<Entry, Malformed> {
    let payload = match record.data.first() {
        Some(&TAG_BLANK) => EntryPayload::Blank,
        Some(&TAG_COMMANDS) => EntryPayload::Normal(Payload {
            record: record.data,
            traces: Traces::new(),
        }),
        Some(&TAG_MEMBERSHIP) => {
            let membership = MembershipRecord::decode(record.data.slice(1..)).map_err(|e| {
                Malformed(format!("membership entry {}: {e}", record.position.index))
            })?;
            EntryPayload::Membership(membership_from(membership)?)
        }
        tag => {
            return Err(Malformed(format!(
                "entry {} has the unknown tag {tag:?}",
                record.position.index
            )));
        }
    };
    Ok(Entry {
        log_id: log_id(record.position),
        payload,
    })
}
