//! Every way a public call can end without its answer, and the only place where that becomes a
//! `google.rpc.Status`. Each carries an ErrorInfo (domain `firebreak`); RetryInfo where trying
//! again as it is can help. The reasons are published in `proto/proto/firebreak/v1/errors.md`.

use std::time::Duration;

use model::command::{Reason, Refusal};
use model::limits;
use proto::net::guard::{Refused, setting};
use proto::v1;
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, FieldViolation, StatusExt};

/// The domain of every ErrorInfo.
pub const DOMAIN: &str = "firebreak";

/// What somebody can do who is told that there is no quorum.
const NO_QUORUM_HINT: &str = "call through another data center; reads at LOCAL, and at BOUNDED within their bound, go on here";

/// One field that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Its path in the request.
    pub field: String,
    /// What would be right.
    pub description: String,
}

/// Why a call failed.
#[derive(Clone, Debug)]
pub enum Failure {
    /// The request's fields are wrong: all of them.
    Invalid(Vec<Violation>),
    /// A call that takes one message was sent a second.
    SecondMessage,
    /// The connection has no TLS, and the node serves no such one.
    TlsRequired,
    /// No such conversation.
    ConversationNotFound(String),
    /// No such message, or not any more.
    MessageNotFound(String),
    /// This node has no working replica of the shard.
    ReplicaNotFound(String),
    /// A rule of the state machine refused it; nothing was done.
    Refused(Refusal),
    /// The position asked for has expired; what is left begins at `min_seq`.
    CursorTrimmed {
        /// The first seq that can still be read.
        min_seq: u64,
    },
    /// The position asked for lies ahead of the conversation.
    AheadOfHead {
        /// The last seq there is.
        last_seq: u64,
    },
    /// The conversation was deleted and created again since the token was given.
    OtherIncarnation,
    /// The cluster has not laid out its shards yet, or this node does not know how.
    NotReady,
    /// No leader could be found, or leadership is moving; nothing was done.
    LeaderChanging(String),
    /// The leader could not reach a quorum, or none could be reached; nothing was done.
    NoQuorum(String),
    /// No replica is within the bound that the read asked for, and no leader can be asked.
    StalenessUnmet {
        /// How old this node's replica is at most, when it has one that knows.
        age: Option<Duration>,
        /// What was asked for.
        bound: Duration,
        /// Why no leader can be asked.
        why: String,
    },
    /// No replica of the shard can be reached from here.
    NoReplica(String),
    /// This node is going away.
    Stopping,
    /// The leader's queue is full; nothing was done.
    Overload,
    /// This node has no room for the call, or the call for its message.
    NoRoom(Refused),
    /// The leader's disk is below its reserve; nothing was done.
    DiskFull,
    /// The time is up and the outcome is not known: retrying with the same id is safe.
    DeadlineExceeded(String),
    /// The time is up and nothing was done.
    TimeUp(String),
    /// A session token names a revision that its shard never had.
    SessionAhead {
        /// The revision that the token names.
        revision: u64,
    },
    /// An earlier item of the same conversation failed; nothing was done.
    PredecessorFailed,
    /// The caller does not say who it is, or not so that it is believed.
    Credentials(Unknown),
    /// It is known who the caller is, and it may not.
    Forbidden(Forbidden),
    /// The join token or the node's name was refused.
    JoinRefused(String),
    /// Somebody at the caller's address guessed at the join token a moment ago.
    JoinLimited,
    /// The cluster refused a change of itself: a policy, a drain, a move, a node's leaving.
    ChangeRefused(String),
    /// The cluster refused a change of its drills.
    DrillRefused(String),
    /// A tenant has used up a quota for now.
    QuotaExceeded {
        /// Which.
        quota: &'static str,
        /// How much of it there is a second.
        limit: u64,
        /// When there is enough of it.
        wait: Duration,
    },
    /// A tenant has as many conversations as it may have.
    ConversationsFull {
        /// How many.
        limit: u64,
    },
    /// Too many calls of a class that can wait do.
    ClassBusy(&'static str),
    /// The tenant takes no client of this version.
    ClientBlocked {
        /// Kind and version.
        client: String,
        /// The oldest version that is taken.
        min: String,
        /// Where newer ones are.
        url: String,
    },
    /// What was read back from the disk is not what was written.
    Corrupt(String),
    /// Something that should not happen.
    Internal(String),
    /// As another node answered.
    Passed(Status),
}

/// Why a credential is not believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unknown {
    /// There is none.
    Missing,
    /// It is none of this cluster, or was changed; why, for people.
    Invalid(&'static str),
    /// It was one, and its time is over.
    Expired,
    /// It was one, and somebody took it back.
    Revoked,
}

/// What a caller may not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Forbidden {
    /// Touch the data of this tenant.
    Tenant(String),
    /// Do what one of these roles is needed for.
    Role(String),
    /// Send as this user.
    Sender(String),
}

/// How a failure looks on the wire.
struct Row {
    code: Code,
    reason: &'static str,
    message: String,
    retry_after: Option<Duration>,
    metadata: Option<(&'static str, String)>,
}

impl Failure {
    /// One wrong field.
    pub fn field(field: impl Into<String>, description: impl Into<String>) -> Failure {
        Failure::Invalid(vec![Violation {
            field: field.into(),
            description: description.into(),
        }])
    }

    fn row(&self) -> Row {
        let row = |code, reason, message: String| Row {
            code,
            reason,
            message,
            retry_after: None,
            metadata: None,
        };
        let soon = |reason, message: String, ms| Row {
            retry_after: Some(Duration::from_millis(ms)),
            ..row(Code::Unavailable, reason, message)
        };
        match self {
            Failure::Invalid(violations) => {
                let first = violations.first();
                let more = violations.len().saturating_sub(1);
                let mut message = first.map_or_else(
                    || "the request is not valid".to_owned(),
                    |v| format!("{}: {}", short(&v.field), short(&v.description)),
                );
                let listed = limits::VIOLATIONS_MAX;
                if more >= listed {
                    message.push_str(&format!(
                        " (and {more} more; the first {listed} are listed)"
                    ));
                } else if more > 0 {
                    message.push_str(&format!(" (and {more} more)"));
                }
                Row {
                    metadata: Some(("violations", violations.len().to_string())),
                    ..row(Code::InvalidArgument, "INVALID_FIELDS", message)
                }
            }
            Failure::SecondMessage => row(
                Code::InvalidArgument,
                "SECOND_MESSAGE",
                "the method takes one message and was sent a second; nothing was done".to_owned(),
            ),
            Failure::TlsRequired => row(
                Code::Unauthenticated,
                "TLS_REQUIRED",
                "this node takes TLS only; nothing was done".to_owned(),
            ),
            Failure::ConversationNotFound(name) => row(
                Code::NotFound,
                "CONVERSATION_NOT_FOUND",
                format!("there is no {name}"),
            ),
            Failure::MessageNotFound(name) => row(
                Code::NotFound,
                "MESSAGE_NOT_FOUND",
                format!("there is no {name}"),
            ),
            Failure::ReplicaNotFound(what) => {
                row(Code::NotFound, "REPLICA_NOT_FOUND", what.clone())
            }
            Failure::Refused(refusal) => refused(refusal),
            Failure::CursorTrimmed { min_seq } => Row {
                metadata: Some(("min_seq", min_seq.to_string())),
                ..row(
                    Code::OutOfRange,
                    "CURSOR_TRIMMED",
                    format!("messages before {min_seq} have expired"),
                )
            },
            Failure::AheadOfHead { last_seq } => Row {
                metadata: Some(("last_seq", last_seq.to_string())),
                ..row(
                    Code::OutOfRange,
                    "AHEAD_OF_HEAD",
                    format!(
                        "the last message is {last_seq}; a tail can start, and a cursor go on, at most one after it"
                    ),
                )
            },
            Failure::OtherIncarnation => row(
                Code::FailedPrecondition,
                "OTHER_INCARNATION",
                "the position is of another life of the conversation: it was deleted and created again, or \
                 the cluster was restored"
                    .to_owned(),
            ),
            Failure::NotReady => soon(
                "CLUSTER_NOT_READY",
                "the cluster's shards are not laid out yet, or this node has not heard how"
                    .to_owned(),
                250,
            ),
            Failure::LeaderChanging(why) => soon("LEADER_CHANGING", why.clone(), 100),
            Failure::NoQuorum(why) => Row {
                metadata: Some(("hint", NO_QUORUM_HINT.to_owned())),
                ..soon("NO_QUORUM", why.clone(), 500)
            },
            Failure::StalenessUnmet { age, bound, why } => {
                let age =
                    age.map_or_else(|| "unknown".to_owned(), |age| age.as_millis().to_string());
                let message = format!(
                    "the replica here is {age} ms old at most where {} ms were asked for: {why}",
                    bound.as_millis()
                );
                Row {
                    metadata: Some(("staleness_ms", age)),
                    ..soon("STALENESS_BOUND_UNMET", message, 500)
                }
            }
            Failure::NoReplica(why) => soon("NO_REPLICA", why.clone(), 500),
            Failure::Stopping => soon("NODE_STOPPING", "this node is going away".to_owned(), 0),
            Failure::Overload => Row {
                retry_after: Some(Duration::from_millis(200)),
                ..row(
                    Code::ResourceExhausted,
                    "OVERLOAD",
                    "the leader of the shard has too much waiting".to_owned(),
                )
            },
            Failure::NoRoom(refused) => no_room(*refused),
            Failure::DiskFull => Row {
                retry_after: Some(Duration::from_secs(5)),
                ..row(
                    Code::ResourceExhausted,
                    "DISK_FULL",
                    "the disk of the shard's leader is below its reserve".to_owned(),
                )
            },
            Failure::DeadlineExceeded(why) => row(
                Code::DeadlineExceeded,
                "OUTCOME_UNKNOWN",
                format!("the time is up: {why}; asking the very same again is safe"),
            ),
            Failure::TimeUp(when) => row(
                Code::DeadlineExceeded,
                "TIME_UP",
                format!("the time was up {when}; nothing was done"),
            ),
            Failure::SessionAhead { revision } => Row {
                metadata: Some(("revision", revision.to_string())),
                ..row(
                    Code::FailedPrecondition,
                    "SESSION_AHEAD",
                    format!(
                        "the session token names revision {revision}, which the conversation's shard never \
                         had: the token is of another cluster, or this one was restored to a moment before it"
                    ),
                )
            },
            Failure::PredecessorFailed => Row {
                retry_after: Some(Duration::ZERO),
                ..row(
                    Code::Aborted,
                    "PREDECESSOR_FAILED",
                    "an earlier item of this conversation failed; this one was not tried"
                        .to_owned(),
                )
            },
            Failure::Credentials(unknown) => not_believed(*unknown),
            Failure::Forbidden(forbidden) => not_allowed(forbidden),
            Failure::JoinRefused(why) => row(Code::PermissionDenied, "JOIN_REFUSED", why.clone()),
            Failure::JoinLimited => Row {
                retry_after: Some(crate::guesses::PAUSE),
                ..row(
                    Code::ResourceExhausted,
                    "JOIN_LIMITED",
                    "a wrong join token came from this address a moment ago: one is looked at each \
                     second"
                        .to_owned(),
                )
            },
            Failure::ChangeRefused(why) => {
                row(Code::FailedPrecondition, "CHANGE_REFUSED", why.clone())
            }
            Failure::DrillRefused(why) => {
                row(Code::FailedPrecondition, "DRILL_REFUSED", why.clone())
            }
            Failure::QuotaExceeded { .. }
            | Failure::ConversationsFull { .. }
            | Failure::ClassBusy(_)
            | Failure::ClientBlocked { .. } => of_tenant(self),
            Failure::Corrupt(what) => row(Code::DataLoss, "REPLICA_CORRUPT", what.clone()),
            Failure::Internal(what) => row(Code::Internal, "INTERNAL", what.clone()),
            Failure::Passed(status) => row(status.code(), "", status.message().to_owned()),
        }
    }

    /// The code of gRPC that it is answered with.
    pub fn code(&self) -> Code {
        self.row().code
    }

    /// Its published reason; that of an answer which another node gave is not known here.
    pub fn reason(&self) -> &'static str {
        match self.row().reason {
            "" => "PASSED_ON",
            reason => reason,
        }
    }

    /// Whether the same call would fail in the same way however often it is tried.
    pub fn is_final(&self) -> bool {
        match self {
            // Another replica may have it whole.
            Failure::Passed(_) | Failure::Corrupt(_) => false,
            other => {
                let row = other.row();
                row.retry_after.is_none() && row.code != Code::DeadlineExceeded
            }
        }
    }

    /// The failure of one item of a stream.
    pub fn to_item(&self) -> v1::ItemError {
        let row = self.row();
        let retry_after_ms = row.retry_after.map_or(0, |after| {
            // 0 says "not worth retrying", so at once is 1.
            u32::try_from(after.as_millis()).unwrap_or(u32::MAX).max(1)
        });
        v1::ItemError {
            code: i32::from(row.code),
            reason: row.reason.to_owned(),
            message: row.message,
            retry_after_ms,
        }
    }
}

/// What a tenant may not do, or not now.
fn of_tenant(failure: &Failure) -> Row {
    let row = |code, reason, message: String, metadata: (&'static str, String)| Row {
        code,
        reason,
        message,
        retry_after: None,
        metadata: Some(metadata),
    };
    let exhausted = Code::ResourceExhausted;
    match failure {
        Failure::QuotaExceeded { quota, limit, wait } => Row {
            retry_after: Some(*wait),
            ..row(
                exhausted,
                "QUOTA_EXCEEDED",
                format!("the quota {quota} is {limit}, and it is used up for now"),
                ("quota", (*quota).to_owned()),
            )
        },
        Failure::ConversationsFull { limit } => row(
            exhausted,
            "QUOTA_EXCEEDED",
            format!("the quota conversations is {limit}, and there are as many; delete some first"),
            ("quota", "conversations".to_owned()),
        ),
        Failure::ClassBusy(class) => Row {
            retry_after: Some(Duration::from_millis(200)),
            ..row(
                exhausted,
                "CLASS_BUSY",
                format!("this node has too many calls of class {class}"),
                ("class", (*class).to_owned()),
            )
        },
        Failure::ClientBlocked { client, min, url } => {
            let from = match url.as_str() {
                "" => String::new(),
                url => format!("; it is at {url}"),
            };
            row(
                Code::FailedPrecondition,
                "CLIENT_VERSION_BLOCKED",
                format!("the tenant does not take {client}: at least {min} is needed{from}"),
                ("upgrade_url", url.clone()),
            )
        }
        _ => row(
            Code::Internal,
            "INTERNAL",
            String::new(),
            ("", String::new()),
        ),
    }
}

fn not_believed(unknown: Unknown) -> Row {
    let (reason, message) = match unknown {
        Unknown::Missing => (
            "CREDENTIALS_MISSING",
            "this node lets in nobody without a credential: send `authorization: Bearer` with an API key \
             or a token",
        ),
        Unknown::Invalid(why) => ("CREDENTIALS_INVALID", why),
        Unknown::Expired => ("CREDENTIALS_EXPIRED", "the credential has expired"),
        Unknown::Revoked => ("CREDENTIALS_REVOKED", "the credential was revoked"),
    };
    Row {
        code: Code::Unauthenticated,
        reason,
        message: message.to_owned(),
        retry_after: None,
        metadata: None,
    }
}

fn not_allowed(forbidden: &Forbidden) -> Row {
    let (reason, message, metadata) = match forbidden {
        Forbidden::Tenant(tenant) => (
            "TENANT_FORBIDDEN",
            format!(
                "the caller's credential is not for tenant {}",
                short(tenant)
            ),
            None,
        ),
        Forbidden::Role(needed) => (
            "ROLE_MISSING",
            format!("the caller's credential has not the role {needed}"),
            Some(("needed", needed.clone())),
        ),
        Forbidden::Sender(sender) => (
            "SENDER_FORBIDDEN",
            format!("the caller's token is not that of {}", short(sender)),
            None,
        ),
    };
    Row {
        code: Code::PermissionDenied,
        reason,
        message,
        retry_after: None,
        metadata,
    }
}

/// Why this node takes no more.
fn no_room(refused: Refused) -> Row {
    let row = |code, reason, message: String, after_ms: Option<u64>| Row {
        code,
        reason,
        message,
        retry_after: after_ms.map(Duration::from_millis),
        metadata: Some(("setting", setting(refused).to_owned())),
    };
    let busy = |what: String| {
        let message = format!("this node takes no more now: {what}");
        row(
            Code::ResourceExhausted,
            "NODE_OVERLOADED",
            message,
            Some(500),
        )
    };
    match refused {
        Refused::Calls(max) => row(
            Code::ResourceExhausted,
            "TOO_MANY_CALLS",
            format!(
                "this connection has {max} calls open, which is all that one may have: open another"
            ),
            Some(100),
        ),
        Refused::Connections(max) => busy(format!("it has {max} connections")),
        Refused::CallsOfAddress(max) => busy(format!("{max} calls of your address are open")),
        Refused::CallsOfNode(max) => busy(format!("{max} calls are open")),
        Refused::BytesOfConnection(max) => {
            busy(format!("{max} bytes of this connection are under way"))
        }
        Refused::BytesOfAddress(max) => busy(format!("{max} bytes of your address are under way")),
        Refused::Bytes(max) => busy(format!("{max} bytes are under way")),
        Refused::TooLarge { max, has } => row(
            Code::InvalidArgument,
            "REQUEST_TOO_LARGE",
            format!("a message of this method must be at most {max} bytes; it has {has}"),
            None,
        ),
        Refused::Unfinished(limit) => row(
            Code::DeadlineExceeded,
            "REQUEST_UNFINISHED",
            format!("a message was not whole within {} ms", limit.as_millis()),
            None,
        ),
        Refused::NotTaken(limit) => row(
            Code::Unavailable,
            "ANSWER_NOT_TAKEN",
            format!(
                "nothing of the answer was taken for {} ms, or for less where memory is short",
                limit.as_millis()
            ),
            Some(0),
        ),
    }
}

/// A text from outside, cut to what an answer has room for.
fn short(text: &str) -> String {
    let max = limits::VIOLATION_BYTES_MAX;
    if text.len() <= max {
        return text.to_owned();
    }
    let end = (0..=max - '…'.len_utf8())
        .rev()
        .find(|end| text.is_char_boundary(*end));
    format!("{}…", &text[..end.unwrap_or(0)])
}

fn refused(refusal: &Refusal) -> Row {
    let (code, reason) = match refusal.reason() {
        Reason::ClientMessageIdReused => (Code::InvalidArgument, "CLIENT_MESSAGE_ID_REUSED"),
        Reason::SeqMismatch => (Code::Aborted, "SEQ_MISMATCH"),
        Reason::AheadOfHead => (Code::OutOfRange, "AHEAD_OF_HEAD"),
        Reason::MixedBatch => (Code::InvalidArgument, "MIXED_BATCH"),
        Reason::AlreadyExists => (Code::AlreadyExists, "CONVERSATION_EXISTS"),
        Reason::RepeatedInBatch => (Code::InvalidArgument, "REPEATED_IN_BATCH"),
        Reason::KeyCollision => (Code::FailedPrecondition, "KEY_COLLISION"),
        Reason::WrongShard => (Code::Unavailable, "LEADER_CHANGING"),
        Reason::RequestIdReused => (Code::InvalidArgument, "REQUEST_ID_REUSED"),
        Reason::RevisionMismatch => (Code::Aborted, "REVISION_MISMATCH"),
        Reason::MessageNotFound => (Code::NotFound, "MESSAGE_NOT_FOUND"),
        Reason::MessageRedacted => (Code::FailedPrecondition, "MESSAGE_REDACTED"),
        Reason::ReactionsFull => (Code::FailedPrecondition, "REACTIONS_FULL"),
        Reason::NodesOlder => (Code::Unavailable, "NODES_OLDER"),
        Reason::ConversationNotFound => (Code::NotFound, "CONVERSATION_NOT_FOUND"),
        Reason::KeySeqMismatch => (Code::Aborted, "KEY_SEQ_MISMATCH"),
        Reason::Fenced => (Code::FailedPrecondition, "FENCED"),
        Reason::KeysFull => (Code::FailedPrecondition, "KEYS_FULL"),
        Reason::TenantExists => (Code::AlreadyExists, "TENANT_EXISTS"),
        Reason::TenantUnknown => (Code::NotFound, "TENANT_UNKNOWN"),
        Reason::TenantDeleting => (Code::FailedPrecondition, "TENANT_DELETING"),
        Reason::TenantsFull => (Code::FailedPrecondition, "TENANTS_FULL"),
        Reason::Unspecified | Reason::Invalid => (Code::Internal, "REFUSED"),
    };
    let retry_ms = match refusal.reason() {
        Reason::WrongShard => Some(100),
        Reason::NodesOlder => Some(1_000),
        _ => None,
    };
    Row {
        code,
        reason,
        message: refusal.message.clone(),
        retry_after: retry_ms.map(Duration::from_millis),
        metadata: match refusal.reason() {
            Reason::RevisionMismatch => Some(("revision", refusal.revision.to_string())),
            Reason::SeqMismatch | Reason::AheadOfHead | Reason::KeySeqMismatch => {
                Some(("last_seq", refusal.last_seq.to_string()))
            }
            _ => None,
        },
    }
}

impl From<Failure> for Status {
    fn from(failure: Failure) -> Status {
        if let Failure::Passed(status) = failure {
            return status;
        }
        let row = failure.row();
        let mut details = ErrorDetails::new();
        #[allow(
            clippy::disallowed_types,
            reason = "what tonic-types takes; it holds one pair"
        )]
        let metadata: std::collections::HashMap<String, String> = row
            .metadata
            .into_iter()
            .map(|(key, value)| (key.to_owned(), value))
            .collect();
        details.set_error_info(row.reason, DOMAIN, metadata);
        if let Some(after) = row.retry_after {
            details.set_retry_info(Some(after));
        }
        if let Failure::Invalid(violations) = failure {
            let fields: Vec<FieldViolation> = violations
                .into_iter()
                .take(limits::VIOLATIONS_MAX)
                .map(|v| FieldViolation::new(short(&v.field), short(&v.description)))
                .collect();
            details.set_bad_request(fields);
        }
        Status::with_error_details(row.code, row.message, details)
    }
}

impl From<store::Error> for Failure {
    fn from(error: store::Error) -> Failure {
        Failure::Corrupt(error.to_string())
    }
}

/// A status of another node, to be given on as it is: its code, text and details, but not the
/// transport's metadata.
pub fn passed(status: &Status) -> Failure {
    Failure::Passed(Status::with_details(
        status.code(),
        status.message(),
        bytes::Bytes::copy_from_slice(status.details()),
    ))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn check(failure: Failure, code: Code, reason: &str, retried: bool) {
        let item = failure.to_item();
        let status = Status::from(failure);
        let details = status.get_error_details();
        let info = details.error_info().expect("every error carries ErrorInfo");
        assert_eq!(
            (status.code(), info.reason.as_str(), info.domain.as_str()),
            (code, reason, DOMAIN)
        );
        assert_eq!(details.retry_info().is_some(), retried, "{reason}");
        assert_eq!((item.code, item.reason.as_str()), (i32::from(code), reason));
        assert_eq!(item.retry_after_ms > 0, retried, "{reason}");
    }

    #[test]
    fn each_failure_has_its_code_reason_and_retry_advice() {
        let why = || "why".to_owned();
        check(
            Failure::ConversationNotFound(why()),
            Code::NotFound,
            "CONVERSATION_NOT_FOUND",
            false,
        );
        check(
            Failure::LeaderChanging(why()),
            Code::Unavailable,
            "LEADER_CHANGING",
            true,
        );
        check(
            Failure::NoQuorum(why()),
            Code::Unavailable,
            "NO_QUORUM",
            true,
        );
        check(Failure::Stopping, Code::Unavailable, "NODE_STOPPING", true);
        check(Failure::Overload, Code::ResourceExhausted, "OVERLOAD", true);
        check(
            Failure::DiskFull,
            Code::ResourceExhausted,
            "DISK_FULL",
            true,
        );
        check(
            Failure::DeadlineExceeded(why()),
            Code::DeadlineExceeded,
            "OUTCOME_UNKNOWN",
            false,
        );
        check(
            Failure::PredecessorFailed,
            Code::Aborted,
            "PREDECESSOR_FAILED",
            true,
        );
        let refusal = |reason| Failure::Refused(Refusal::new(reason, "no"));
        check(
            refusal(Reason::SeqMismatch),
            Code::Aborted,
            "SEQ_MISMATCH",
            false,
        );
        check(
            refusal(Reason::ClientMessageIdReused),
            Code::InvalidArgument,
            "CLIENT_MESSAGE_ID_REUSED",
            false,
        );
    }

    /// One of each kind that has a reason of its own.
    fn each() -> Vec<Failure> {
        let why = || "why".to_owned();
        let mut failures = vec![
            Failure::field("parent", "wrong"),
            Failure::SecondMessage,
            Failure::TlsRequired,
            Failure::ConversationNotFound(why()),
            Failure::MessageNotFound(why()),
            Failure::ReplicaNotFound(why()),
            Failure::CursorTrimmed { min_seq: 1 },
            Failure::AheadOfHead { last_seq: 1 },
            Failure::SessionAhead { revision: 1 },
            Failure::TimeUp(why()),
            Failure::OtherIncarnation,
            Failure::NotReady,
            Failure::LeaderChanging(why()),
            Failure::NoQuorum(why()),
            Failure::StalenessUnmet {
                age: None,
                bound: Duration::from_secs(1),
                why: why(),
            },
            Failure::NoReplica(why()),
            Failure::Stopping,
            Failure::Overload,
            Failure::NoRoom(Refused::Calls(1)),
            Failure::NoRoom(Refused::Bytes(1)),
            Failure::NoRoom(Refused::TooLarge { max: 1, has: 2 }),
            Failure::NoRoom(Refused::Unfinished(Duration::ZERO)),
            Failure::NoRoom(Refused::NotTaken(Duration::ZERO)),
            Failure::DiskFull,
            Failure::DeadlineExceeded(why()),
            Failure::PredecessorFailed,
            Failure::Credentials(Unknown::Missing),
            Failure::Credentials(Unknown::Invalid("why")),
            Failure::Credentials(Unknown::Expired),
            Failure::Credentials(Unknown::Revoked),
            Failure::Forbidden(Forbidden::Tenant(why())),
            Failure::Forbidden(Forbidden::Role(why())),
            Failure::Forbidden(Forbidden::Sender(why())),
            Failure::JoinRefused(why()),
            Failure::JoinLimited,
            Failure::ChangeRefused(why()),
            Failure::DrillRefused(why()),
            Failure::QuotaExceeded {
                quota: "messages_per_second",
                limit: 1,
                wait: Duration::from_secs(1),
            },
            Failure::ConversationsFull { limit: 1 },
            Failure::ClassBusy("history"),
            Failure::ClientBlocked {
                client: why(),
                min: why(),
                url: why(),
            },
            Failure::Corrupt(why()),
            Failure::Internal(why()),
        ];
        let reasons = (0..100).filter_map(|tag| Reason::try_from(tag).ok());
        failures.extend(reasons.map(|reason| Failure::Refused(Refusal::new(reason, "no"))));
        failures
    }

    #[test]
    fn the_published_table_lists_exactly_the_reasons_there_are() {
        let table = include_str!("../../proto/proto/firebreak/v1/errors.md");
        let listed: BTreeSet<[String; 4]> = table
            .lines()
            .filter(|line| line.starts_with("| `"))
            .map(|line| {
                let cells: Vec<_> = line.split('|').map(str::trim).collect();
                let metadata = cells[6].split('`').nth(1).unwrap_or_default();
                let bare = |cell: &str| cell.trim_matches('`').to_owned();
                [
                    bare(cells[1]),
                    bare(cells[2]),
                    bare(cells[5]),
                    metadata.to_owned(),
                ]
            })
            .collect();
        let given: BTreeSet<[String; 4]> = each()
            .iter()
            .map(|failure| {
                let row = failure.row();
                let code = format!("{:?}", row.code)
                    .chars()
                    .fold(String::new(), |name, c| {
                        let gap = if c.is_uppercase() && !name.is_empty() {
                            "_"
                        } else {
                            ""
                        };
                        name + gap + &c.to_uppercase().to_string()
                    });
                let retry = match row.retry_after.map(|after| after.as_millis()) {
                    // How long depends on what was used.
                    Some(_) if row.reason == "QUOTA_EXCEEDED" => "until there is enough".to_owned(),
                    None => "–".to_owned(),
                    Some(ms) if ms % 1_000 == 0 => format!("{} s", ms / 1_000),
                    Some(ms) => format!("{ms} ms"),
                };
                let metadata = row.metadata.map_or("", |(key, _)| key).to_owned();
                [row.reason.to_owned(), code, retry, metadata]
            })
            .collect();
        assert_eq!(listed, given);
    }

    #[test]
    fn every_wrong_field_is_in_the_answer() {
        let status = Status::from(Failure::Invalid(vec![
            Violation {
                field: "parent".into(),
                description: "a".into(),
            },
            Violation {
                field: "message.sender".into(),
                description: "b".into(),
            },
        ]));
        let details = status.get_error_details();
        let fields: Vec<_> = details
            .bad_request()
            .map(|b| b.field_violations.iter().map(|v| v.field.clone()).collect())
            .unwrap_or_default();
        assert_eq!(fields, ["parent", "message.sender"]);
        assert_eq!(status.message(), "parent: a (and 1 more)");
    }

    #[test]
    fn however_much_is_wrong_the_answer_is_short_and_says_how_much_more() {
        let long = "é".repeat(500_000);
        let wrong = (0..1_000).map(|index| Violation {
            field: format!("messages[{index}].{long}"),
            description: long.clone(),
        });
        let status = Status::from(Failure::Invalid(wrong.collect()));
        let mut headers = tonic::codegen::http::HeaderMap::new();
        status.add_header(&mut headers).expect("headers");
        let bytes: usize = headers.values().map(|value| value.len()).sum();
        assert!(bytes < 8 * 1024, "{bytes}");
        let details = status.get_error_details();
        let listed = details.bad_request().map(|bad| bad.field_violations.len());
        assert_eq!(listed, Some(limits::VIOLATIONS_MAX));
        assert!(
            status
                .message()
                .ends_with("(and 999 more; the first 20 are listed)")
        );
        let info = details
            .error_info()
            .map(|info| info.metadata["violations"].clone());
        assert_eq!(info.as_deref(), Some("1000"));
    }

    #[test]
    fn the_last_seq_of_a_mismatch_is_in_the_metadata() {
        let mut refusal = Refusal::new(Reason::SeqMismatch, "no");
        refusal.last_seq = 41;
        let details = Status::from(Failure::Refused(refusal)).get_error_details();
        let metadata = details
            .error_info()
            .map(|i| i.metadata.clone())
            .unwrap_or_default();
        assert_eq!(metadata.get("last_seq").map(String::as_str), Some("41"));
    }
}
