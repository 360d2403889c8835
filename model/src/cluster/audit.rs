//! What was done to the cluster and what was refused, and by whom: a chain of records in the meta shard.
//! Disk and wire formats: tags are permanent.
//!
//! ```text
//!   Change { body, actor } ──► decide ──► reply
//!                                └──► Record { …, before: hash of the last one } ──► the shard's own records
//!   ClusterState.trail: the hash of the last record, its number, the first one that is kept
//! ```
//!
//! A record is made by the very command that it tells of, so that the same quorum has both. The records are
//! beside the state of the cluster, which every node gets whole; of them it has only the chain's end.

use bytes::Bytes;
use prost::Message;

use super::decide::refused;
use super::drills::DrillBody;
use super::tenants::TenantBody;
use super::{Change, ChangeBody, ClusterState};
use crate::command::{Answer, Refusal, Reply};
use crate::limits::{AUDIT_DAYS_MAX, AUDIT_NOTES_MAX, AUDIT_RECORDS_MAX, AUDIT_TEXT_BYTES_MAX};

/// What the first record has in front of it.
pub const BEGINNING: [u8; 32] = [0; 32];

const DAY_MS: u64 = 24 * 60 * 60 * 1_000;

/// The outcome of a change that was made.
pub const DONE: &str = "done";
/// The outcome of a change that was made before, or that changes nothing.
pub const NO_CHANGE: &str = "no change";

/// Who asks for a change.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct Actor {
    /// A key's id and label, a token's subject, or how else the caller came in.
    #[prost(string, tag = "1")]
    pub who: String,
    /// What let it.
    #[prost(string, tag = "2")]
    pub role: String,
    /// The address that it called from.
    #[prost(string, tag = "3")]
    pub from: String,
}

/// Something for the audit that is no change of the cluster: a login, a refusal, an erasure.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct Note {
    /// Who did it, or tried.
    #[prost(message, optional, tag = "1")]
    pub actor: Option<Actor>,
    /// What.
    #[prost(string, tag = "2")]
    pub what: String,
    /// To what.
    #[prost(string, tag = "3")]
    pub target: String,
    /// What became of it.
    #[prost(string, tag = "4")]
    pub outcome: String,
    /// How often, since the note before; 0 = once.
    #[prost(uint64, tag = "5")]
    pub count: u64,
}

/// Notes of one node.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct Notes {
    /// In order, [`AUDIT_NOTES_MAX`] at most.
    #[prost(message, repeated, tag = "1")]
    pub notes: Vec<Note>,
    /// The node that tells them.
    #[prost(uint64, tag = "2")]
    pub node: u64,
}

/// One record.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct Record {
    /// Format of the record, 1.
    #[prost(uint32, tag = "1")]
    pub format: u32,
    /// From 1, without a gap.
    #[prost(uint64, tag = "2")]
    pub number: u64,
    /// Command time, Unix milliseconds.
    #[prost(uint64, tag = "3")]
    pub time_ms: u64,
    /// As [`Actor::who`].
    #[prost(string, tag = "4")]
    pub who: String,
    /// As [`Actor::role`].
    #[prost(string, tag = "5")]
    pub role: String,
    /// What was done, or tried.
    #[prost(string, tag = "6")]
    pub what: String,
    /// To what.
    #[prost(string, tag = "7")]
    pub target: String,
    /// As [`Actor::from`].
    #[prost(string, tag = "8")]
    pub from: String,
    /// What became of it.
    #[prost(string, tag = "9")]
    pub outcome: String,
    /// How often.
    #[prost(uint64, tag = "10")]
    pub count: u64,
    /// The node that told it; 0 for a change of the cluster.
    #[prost(uint64, tag = "11")]
    pub node: u64,
    /// BLAKE3 of the record before it, as encoded, 32 bytes; of the first one [`BEGINNING`].
    #[prost(bytes = "bytes", tag = "12")]
    pub before: Bytes,
}

/// The chain's end, and how far back it goes.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct Trail {
    /// BLAKE3 of the last record, 32 bytes.
    #[prost(bytes = "bytes", tag = "1")]
    pub head: Bytes,
    /// The number of the last record.
    #[prost(uint64, tag = "2")]
    pub last: u64,
    /// The first one that is kept.
    #[prost(uint64, tag = "3")]
    pub first: u64,
    /// The first record of each day that has any, the oldest first.
    #[prost(message, repeated, tag = "4")]
    pub days: Vec<Day>,
}

/// A day with records.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub struct Day {
    /// Days since 1970.
    #[prost(uint64, tag = "1")]
    pub day: u64,
    /// Its first record.
    #[prost(uint64, tag = "2")]
    pub first: u64,
}

/// What an apply adds to the chain, and which records are kept no longer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Added {
    /// Numbers and encoded records.
    pub records: Vec<(u64, Vec<u8>)>,
    /// From which number to which, inclusive; none when all are kept.
    pub dropped: Option<(u64, u64)>,
}

/// BLAKE3 of an encoded record.
pub fn hash_of(encoded: &[u8]) -> Bytes {
    Bytes::copy_from_slice(blake3::hash(encoded).as_bytes())
}

/// Checks notes; they are taken by [`record`].
pub(super) fn take(notes: &Notes) -> Result<u64, Refusal> {
    match notes.notes.len() {
        0 => Err(refused("notes without a note")),
        len if len > AUDIT_NOTES_MAX => Err(refused(format!(
            "one change carries {AUDIT_NOTES_MAX} notes at most; it has {len}"
        ))),
        _ => Ok(0),
    }
}

/// What a change that was decided adds to the chain. Changes that nobody asked for add nothing.
pub(crate) fn record(
    state: &mut ClusterState,
    change: &Change,
    (epoch_before, reply): (u64, &Reply),
    now_ms: u64,
) -> Added {
    let mut added = Added::default();
    if state.epoch == 0 {
        return added;
    }
    let was_refused = matches!(reply.answer, Some(Answer::Refused(_)));
    if let Some(ChangeBody::Notes(notes)) = &change.body {
        if !was_refused {
            for note in &notes.notes {
                let record = of_note(note, notes.node);
                append(state, record, now_ms, &mut added);
            }
        }
    } else if let (Some(actor), Some(body)) = (&change.actor, &change.body)
        && let Some((what, target)) = described(body)
    {
        let outcome = match &reply.answer {
            Some(Answer::Refused(refusal)) => format!("refused: {}", refusal.message),
            _ if state.epoch > epoch_before => DONE.to_owned(),
            _ => NO_CHANGE.to_owned(),
        };
        let record = Record {
            who: cut(&actor.who),
            role: cut(&actor.role),
            from: cut(&actor.from),
            what: what.to_owned(),
            target: cut(&target),
            outcome: cut(&outcome),
            count: 1,
            ..Record::default()
        };
        append(state, record, now_ms, &mut added);
    }
    if !added.records.is_empty() {
        added.dropped = forget(state, now_ms);
    }
    added
}

fn of_note(note: &Note, node: u64) -> Record {
    let actor = note.actor.clone().unwrap_or_default();
    Record {
        who: cut(&actor.who),
        role: cut(&actor.role),
        from: cut(&actor.from),
        what: cut(&note.what),
        target: cut(&note.target),
        outcome: cut(&note.outcome),
        count: note.count.max(1),
        node,
        ..Record::default()
    }
}

fn append(state: &mut ClusterState, mut record: Record, now_ms: u64, added: &mut Added) {
    let trail = state.trail.get_or_insert_with(|| Trail {
        head: Bytes::from_static(&BEGINNING),
        last: 0,
        first: 1,
        days: Vec::new(),
    });
    record.format = 1;
    record.number = trail.last + 1;
    record.time_ms = now_ms;
    record.before.clone_from(&trail.head);
    let encoded = record.encode_to_vec();
    trail.head = hash_of(&encoded);
    trail.last = record.number;
    let day = now_ms / DAY_MS;
    if trail.days.last().is_none_or(|last| last.day < day) {
        trail.days.push(Day {
            day,
            first: record.number,
        });
    }
    added.records.push((record.number, encoded));
}

/// Drops the records of days that are over for long, and the oldest ones where there are too many.
fn forget(state: &mut ClusterState, now_ms: u64) -> Option<(u64, u64)> {
    let trail = state.trail.as_mut()?;
    let kept_from = (now_ms / DAY_MS).saturating_sub(AUDIT_DAYS_MAX);
    let old = trail
        .days
        .iter()
        .take_while(|day| day.day < kept_from)
        .count();
    trail.days.drain(..old);
    let by_days = trail.days.first().map_or(trail.last + 1, |day| day.first);
    let by_count = (trail.last + 1).saturating_sub(AUDIT_RECORDS_MAX);
    let first = match old {
        0 => trail.first.max(by_count),
        _ => trail.first.max(by_count).max(by_days),
    };
    // Days of which nothing is left.
    while trail.days.get(1).is_some_and(|next| next.first <= first) {
        trail.days.remove(0);
    }
    let dropped = (first > trail.first).then(|| (trail.first, first - 1));
    trail.first = first;
    dropped
}

fn cut(text: &str) -> String {
    let clean = crate::text::printable(text);
    let mut end = clean.len().min(AUDIT_TEXT_BYTES_MAX);
    while !clean.is_char_boundary(end) {
        end -= 1;
    }
    clean[..end].to_owned()
}

fn tenant(body: &TenantBody) -> Option<(&'static str, String)> {
    Some(match body {
        TenantBody::Create(tenant) => ("create tenant", tenant.id.clone()),
        TenantBody::Update(update) => {
            let tenant = update.tenant.as_ref();
            (
                "set tenant",
                tenant.map_or_else(String::new, |one| one.id.clone()),
            )
        }
        TenantBody::Delete(delete) => ("delete tenant", delete.id.clone()),
        TenantBody::Swept(_) => return None,
    })
}

/// What an operator's change does, and to what; none for what the cluster does by itself.
fn described(body: &ChangeBody) -> Option<(&'static str, String)> {
    let node = |id: u64| format!("n{id}");
    Some(match body {
        ChangeBody::Policy(set) => {
            let target = set
                .shard
                .map_or_else(|| "default".to_owned(), |s| format!("s{s}"));
            match set.policy {
                Some(_) => ("policy set", target),
                None => ("policy unset", target),
            }
        }
        ChangeBody::Draining(set) => {
            let what = if set.draining { "drain" } else { "undrain" };
            let target = match set.node.is_empty() {
                true => format!("dc {}", set.dc),
                false => set.node.clone(),
            };
            (what, target)
        }
        ChangeBody::BeginMove(going) => (
            "move replica",
            format!("s{} from n{} to n{}", going.shard, going.from, going.to),
        ),
        ChangeBody::DropMove(step) => ("take move back", format!("s{}", step.shard)),
        ChangeBody::Leave(leave) if leave.stays => ("keep node", node(leave.node)),
        ChangeBody::Leave(leave) => ("remove node", node(leave.node)),
        ChangeBody::Relocate(wanted) => {
            let place = wanted.locality.as_ref().map(ToString::to_string);
            let place = place.unwrap_or_default();
            ("relocate node", format!("n{} to {place}", wanted.node))
        }
        ChangeBody::Join(join) => {
            let name = join.node.as_ref().map(|node| node.name.clone());
            ("join node", name.unwrap_or_default())
        }
        // The token itself is nobody's to read here.
        ChangeBody::JoinToken(_) => ("rotate join token", String::new()),
        ChangeBody::CreateToken(new) => {
            let token = new.token.clone().unwrap_or_default();
            let what = match new.alone {
                true => "rotate join token",
                false => "create join token",
            };
            let label = match token.label.as_str() {
                "" => String::new(),
                label => format!(" ({label})"),
            };
            (what, format!("{}{label}", token.id()))
        }
        ChangeBody::RevokeToken(named) => ("revoke join token", named.name.clone()),
        ChangeBody::ForgetBoot(wanted) => (
            "forget starts",
            format!("n{} above start {}", wanted.node, wanted.boot),
        ),
        ChangeBody::Drill(change) => drill(change.body.as_ref()?)?,
        ChangeBody::CreateKey(key) => {
            let of = match key.tenant.is_empty() {
                true => "operators".to_owned(),
                false => format!("tenant {}", key.tenant),
            };
            ("create key", format!("{} ({}) of {of}", key.id, key.label))
        }
        ChangeBody::RevokeKey(named) => ("revoke key", named.name.clone()),
        ChangeBody::Issuer(issuer) => ("set issuer", issuer.name.clone()),
        ChangeBody::RemoveIssuer(named) => ("remove issuer", named.name.clone()),
        ChangeBody::Tenant(change) => tenant(change.body.as_ref()?)?,
        ChangeBody::Found(_)
        | ChangeBody::Layout(_)
        | ChangeBody::MetaReplicas(_)
        | ChangeBody::ChangeVoters(_)
        | ChangeBody::FinishMove(_)
        | ChangeBody::Remove(_)
        | ChangeBody::Announce(_)
        | ChangeBody::Notes(_) => return None,
    })
}

fn drill(body: &DrillBody) -> Option<(&'static str, String)> {
    Some(match body {
        DrillBody::Store(store) => ("plan drill", store.id.clone()),
        DrillBody::Approve(approve) => (
            "approve drill",
            format!("{} as {}", approve.id, approve.who),
        ),
        DrillBody::Begin(begin) => ("begin drill", begin.id.clone()),
        DrillBody::Claim(claim) => ("take drill over", claim.id.clone()),
        DrillBody::Conclude(conclude) => ("conclude drill", conclude.id.clone()),
        DrillBody::Abort(abort) => ("abort drill", abort.id.clone()),
        DrillBody::Pull(_) => ("pull lever", String::new()),
        DrillBody::Release(_) => ("release lever", String::new()),
        DrillBody::Block(window) => ("block drills", window.name.clone()),
        DrillBody::Unblock(named) => ("unblock drills", named.name.clone()),
        DrillBody::Stand(_) => ("set standing drill", String::new()),
        DrillBody::ApproveStanding(approve) => ("approve standing drill", approve.id.clone()),
        DrillBody::Unstand(named) => ("remove standing drill", named.name.clone()),
        DrillBody::Operators(operators) => ("set approvals needed", operators.needed.to_string()),
        DrillBody::Prove(prove) => ("note proof", prove.promise.clone()),
        // Many a minute, and what the cluster does by itself.
        DrillBody::Beat(_) | DrillBody::Lost(_) | DrillBody::Seed(_) => return None,
    })
}

/// Follows a chain from its first kept record: each must name the hash of the one before, and the last must
/// be the end that the cluster knows.
#[derive(Clone, Debug, Default)]
pub struct Verifier {
    last: Option<(u64, Bytes)>,
    records: u64,
}

impl Verifier {
    /// Takes the next record, as encoded.
    ///
    /// # Errors
    /// Why the chain is broken there, for people.
    pub fn take(&mut self, encoded: &[u8]) -> Result<Record, String> {
        let record = Record::decode(encoded).map_err(|error| {
            let after = self.last.as_ref().map_or(0, |(number, _)| *number);
            format!("what comes behind record {after} is no record: {error}")
        })?;
        match &self.last {
            None if record.number == 1 && record.before != BEGINNING[..] => {
                return Err("record 1 does not begin the chain".to_owned());
            }
            Some((number, _)) if record.number != number + 1 => {
                return Err(format!("behind record {number} comes {}", record.number));
            }
            Some((number, hash)) if record.before != *hash => {
                return Err(format!(
                    "record {} does not continue record {number}: one of them was changed",
                    record.number
                ));
            }
            None | Some(_) => {}
        }
        self.last = Some((record.number, hash_of(encoded)));
        self.records += 1;
        Ok(record)
    }

    /// Compares the end with what the cluster knows; gives how many records there were.
    ///
    /// # Errors
    /// Why it is not the end.
    pub fn end(&self, trail: &Trail) -> Result<u64, String> {
        match &self.last {
            None if trail.last < trail.first => Ok(0),
            None => Err(format!("records up to {} are missing", trail.last)),
            Some((number, _)) if *number != trail.last => Err(format!(
                "the records end with {number}, and the chain with {}",
                trail.last
            )),
            Some((number, hash)) if *hash != trail.head => {
                Err(format!("record {number} was changed"))
            }
            Some(_) => Ok(self.records),
        }
    }
}

#[cfg(test)]
#[path = "audit_tests.rs"]
mod tests;
