//! What a call can end with, and what a node's answer means for the next attempt.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use proto::v1;
use thiserror::Error;
use tonic::{Code, ConnectError, Status};
use tonic_types::StatusExt;

/// Why a call did not succeed.
#[derive(Clone, Debug, Error)]
pub enum Error {
    /// A node refused the call, and sending the same again would change nothing.
    #[error("{0}")]
    Refused(Refusal),
    /// The deadline passed.
    #[error("{}", deadline_text(.outcome_unknown, .attempts, .last))]
    Deadline {
        /// It may have been done all the same: repeating it is safe and tells, with the same id
        /// where it has one.
        outcome_unknown: bool,
        /// How often it was sent.
        attempts: u32,
        /// What the last attempt ended with.
        last: Option<Box<Refusal>>,
    },
    /// A tail was given messages with one left out, by several nodes in a row.
    #[error("message {expected} is missing: {found} came instead")]
    Gap {
        /// The next seq by the order of the conversation.
        expected: u64,
        /// What came.
        found: u64,
    },
    /// The client was not set up rightly: an address that is none, no address.
    #[error("{0}")]
    Config(String),
    /// The stream was closed before this message was answered.
    #[error("the stream was closed")]
    Closed,
}

fn deadline_text(outcome_unknown: &bool, attempts: &u32, last: &Option<Box<Refusal>>) -> String {
    let mut text = format!("the deadline passed after {attempts} attempts");
    if *outcome_unknown {
        text.push_str("; whether it was done is not known, and asking the same again is safe");
    }
    if let Some(last) = last {
        text.push_str(&format!("; the last answer was: {last}"));
    }
    text
}

impl Error {
    /// Whether the same call, with the same id, may succeed later.
    pub fn retryable(&self) -> bool {
        match self {
            Error::Deadline { .. } | Error::Closed => true,
            Error::Refused(refusal) => refusal.retryable(),
            Error::Gap { .. } | Error::Config(_) => false,
        }
    }

    /// Whether it may have been done although this error came back.
    pub fn outcome_unknown(&self) -> bool {
        match self {
            Error::Deadline {
                outcome_unknown, ..
            } => *outcome_unknown,
            Error::Refused(refusal) => refusal.outcome_unknown,
            Error::Closed => true,
            Error::Gap { .. } | Error::Config(_) => false,
        }
    }

    /// The reason of the answer's ErrorInfo, such as `SEQ_MISMATCH`; of the last answer when the
    /// deadline passed. None when no node gave one.
    pub fn reason(&self) -> Option<&str> {
        let refusal = match self {
            Error::Refused(refusal) => refusal,
            Error::Deadline { last, .. } => last.as_deref()?,
            Error::Gap { .. } | Error::Config(_) | Error::Closed => return None,
        };
        Some(refusal.reason.as_str()).filter(|reason| !reason.is_empty())
    }

    /// The gRPC code that says this.
    pub fn code(&self) -> Code {
        match self {
            Error::Refused(refusal) => refusal.code,
            Error::Deadline { .. } => Code::DeadlineExceeded,
            Error::Gap { .. } => Code::DataLoss,
            Error::Config(_) => Code::InvalidArgument,
            Error::Closed => Code::Cancelled,
        }
    }

    /// Whether the named thing does not exist.
    pub fn is_not_found(&self) -> bool {
        self.code() == Code::NotFound
    }
}

/// A node's refusal, as it came over the wire.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The gRPC code.
    pub code: Code,
    /// The ErrorInfo's reason; empty when there was none.
    pub reason: String,
    /// For people.
    pub message: String,
    /// Every field that was wrong.
    pub violations: Vec<Violation>,
    /// The ErrorInfo's metadata, such as the last seq.
    pub metadata: BTreeMap<String, String>,
    /// When the node says that trying again is worth it.
    pub retry_after: Option<Duration>,
    /// An earlier attempt may have been carried out.
    pub outcome_unknown: bool,
}

/// One field that was wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Its path in the request.
    pub field: String,
    /// What is wrong with it and what would be right.
    pub description: String,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        if !self.reason.is_empty() {
            write!(f, " ({})", self.reason)?;
        } else if self.message.is_empty() {
            write!(f, "{}", self.code)?;
        }
        for violation in &self.violations {
            // A message that names one of them has it in these words.
            let text = format!("{}: {}", violation.field, violation.description);
            if !self.message.contains(&text) {
                write!(f, "; {text}")?;
            }
        }
        if self.outcome_unknown {
            f.write_str("; an earlier attempt may have been carried out")?;
        }
        Ok(())
    }
}

impl Refusal {
    /// Whether another attempt, here or elsewhere, may be answered otherwise.
    pub(crate) fn retryable(&self) -> bool {
        if self.retry_after.is_some() {
            return true;
        }
        match self.code {
            // DATA_LOSS is one replica's: another holds the same records whole.
            Code::Unavailable
            | Code::DeadlineExceeded
            | Code::Cancelled
            | Code::Unknown
            | Code::DataLoss => true,
            // Without a reason these come from the transport: a reset stream, a refused frame.
            Code::Internal | Code::ResourceExhausted => self.reason.is_empty(),
            Code::Ok
            | Code::InvalidArgument
            | Code::NotFound
            | Code::AlreadyExists
            | Code::PermissionDenied
            | Code::FailedPrecondition
            | Code::Aborted
            | Code::OutOfRange
            | Code::Unimplemented
            | Code::Unauthenticated => false,
        }
    }

    /// Whether this refusal also says that no earlier attempt under the same id was carried out:
    /// dedup is looked up before every rule that depends on state, so these are the same for ever.
    pub(crate) fn settles(&self) -> bool {
        matches!(
            self.code,
            Code::InvalidArgument
                | Code::NotFound
                | Code::AlreadyExists
                | Code::Aborted
                | Code::OutOfRange
        )
    }

    pub(crate) fn from_item(error: v1::ItemError) -> Refusal {
        Refusal {
            code: Code::from(error.code),
            reason: error.reason,
            message: error.message,
            violations: Vec::new(),
            metadata: BTreeMap::new(),
            retry_after: (error.retry_after_ms > 0)
                .then(|| Duration::from_millis(u64::from(error.retry_after_ms))),
            outcome_unknown: false,
        }
    }

    pub(crate) fn from_status(status: &Status) -> Refusal {
        let details = status.get_error_details();
        let (reason, metadata) = details
            .error_info()
            .map(|info| {
                let metadata: BTreeMap<_, _> = info
                    .metadata
                    .iter()
                    .map(|(key, value)| (key.clone(), value.clone()))
                    .collect();
                (info.reason.clone(), metadata)
            })
            .unwrap_or_default();
        let violations = details
            .bad_request()
            .map(|bad| {
                bad.field_violations
                    .iter()
                    .map(|one| Violation {
                        field: one.field.clone(),
                        description: one.description.clone(),
                    })
                    .collect()
            })
            .unwrap_or_default();
        Refusal {
            code: status.code(),
            reason,
            message: status.message().to_owned(),
            violations,
            metadata,
            retry_after: details.retry_info().and_then(|info| info.retry_delay),
            outcome_unknown: false,
        }
    }

    /// What a streamed message gets when the outcome of one before it in its conversation stays
    /// unknown.
    pub(crate) fn predecessor(outcome_unknown: bool) -> Refusal {
        Refusal {
            code: Code::Aborted,
            reason: "PREDECESSOR_FAILED".to_owned(),
            message: "an earlier message of this conversation failed".to_owned(),
            violations: Vec::new(),
            metadata: BTreeMap::new(),
            retry_after: Some(Duration::ZERO),
            outcome_unknown,
        }
    }

    /// A node that did not answer in time.
    pub(crate) fn silent(after: Duration) -> Refusal {
        Refusal {
            code: Code::DeadlineExceeded,
            reason: String::new(),
            message: format!("no answer for {} ms", after.as_millis()),
            violations: Vec::new(),
            metadata: BTreeMap::new(),
            retry_after: None,
            outcome_unknown: false,
        }
    }

    /// Another node than the one that was meant answers at its address.
    pub(crate) fn other_node(address: &str, answered: &str) -> Refusal {
        Refusal {
            code: Code::FailedPrecondition,
            reason: "OTHER_NODE".to_owned(),
            message: format!("{answered} answers at {address}"),
            violations: Vec::new(),
            metadata: BTreeMap::new(),
            retry_after: None,
            outcome_unknown: false,
        }
    }
}

/// The reasons of a node that stops or drains, and of one that has just joined and has not heard of
/// the shards.
const LEAVING: [&str; 2] = ["NODE_STOPPING", "CLUSTER_NOT_READY"];

/// What a failed attempt says about the node that was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// The node does not answer: it is left until a probe succeeds.
    Node,
    /// The node answers, and cannot serve this now: another is asked.
    Refused,
    /// The node answers, and wants its clients to go elsewhere for a while.
    Leaving,
    /// Nothing.
    None,
}

/// A failed attempt.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) refusal: Refusal,
    pub(crate) fault: Fault,
    /// The request may have reached a node.
    pub(crate) sent: bool,
    /// There was no answer at all in the attempt's time.
    pub(crate) silent: bool,
}

impl Failure {
    pub(crate) fn from_status(status: &Status) -> Failure {
        let refusal = Refusal::from_status(status);
        let sent = !never_connected(status);
        let fault = match refusal.code {
            Code::DataLoss => Fault::Refused,
            Code::Unavailable if LEAVING.contains(&refusal.reason.as_str()) => Fault::Leaving,
            Code::Unavailable | Code::DeadlineExceeded if !refusal.reason.is_empty() => {
                Fault::Refused
            }
            Code::Unavailable
            | Code::DeadlineExceeded
            | Code::Cancelled
            | Code::Unknown
            | Code::Internal
                if refusal.reason.is_empty() =>
            {
                Fault::Node
            }
            _ => Fault::None,
        };
        Failure {
            refusal,
            fault,
            sent,
            silent: false,
        }
    }

    pub(crate) fn silent(after: Duration) -> Failure {
        Failure {
            refusal: Refusal::silent(after),
            fault: Fault::Node,
            sent: true,
            silent: true,
        }
    }
}

/// Whether the connection was never made, so that the request cannot have been sent.
fn never_connected(status: &Status) -> bool {
    let mut source = std::error::Error::source(status);
    while let Some(error) = source {
        if error.is::<ConnectError>() {
            return true;
        }
        source = error.source();
    }
    false
}

#[cfg(test)]
mod tests {
    use tonic_types::ErrorDetails;

    use super::*;

    const NO_METADATA: [(String, String); 0] = [];

    fn status(code: Code, reason: &str) -> Status {
        let details = ErrorDetails::with_error_info(reason, "firebreak", NO_METADATA);
        Status::with_error_details(code, "text", details)
    }

    #[test]
    fn a_bare_unavailable_blames_the_node_and_one_with_a_reason_does_not() {
        let bare = Failure::from_status(&Status::unavailable("gone"));
        assert_eq!(bare.fault, Fault::Node);
        assert!(bare.refusal.retryable());
        let told = Failure::from_status(&status(Code::Unavailable, "NO_QUORUM"));
        assert_eq!(told.fault, Fault::Refused);
        assert!(told.refusal.retryable());
        assert_eq!(told.refusal.reason, "NO_QUORUM");
    }

    #[test]
    fn a_broken_rule_is_final_and_settles_the_outcome() {
        let refusal = Refusal::from_status(&status(Code::Aborted, "SEQ_MISMATCH"));
        assert!(!refusal.retryable());
        assert!(refusal.settles());
    }

    #[test]
    fn a_hint_to_retry_makes_any_code_retryable() {
        let mut details = ErrorDetails::new();
        details.set_error_info("OVERLOADED", "firebreak", NO_METADATA);
        details.set_retry_info(Some(Duration::from_millis(20)));
        let overloaded = Status::with_error_details(Code::ResourceExhausted, "busy", details);
        let refusal = Refusal::from_status(&overloaded);
        assert!(refusal.retryable());
        assert_eq!(refusal.retry_after, Some(Duration::from_millis(20)));
        assert!(!Refusal::from_status(&status(Code::ResourceExhausted, "QUOTA")).retryable());
    }

    #[test]
    fn a_passed_deadline_says_whether_the_outcome_is_known() {
        let error = Error::Deadline {
            outcome_unknown: true,
            attempts: 3,
            last: None,
        };
        assert!(error.retryable() && error.outcome_unknown());
        let text = error.to_string();
        assert!(text.contains("whether it was done is not known"), "{text}");
        assert!(!text.contains("id"), "operators' calls have none: {text}");
    }
}
