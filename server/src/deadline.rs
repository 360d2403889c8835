//! How long a call has left, and whether another node forwarded it.

use std::time::Duration;

use model::id::NodeId;
use model::trace::Context;
use proto::{CLASS, CLIENT, FORWARDED, IMPORT, TRACE};
use tokio::time::Instant;
use tonic::metadata::{MetadataMap, MetadataValue};

use crate::tenants::class::Class;
use crate::tenants::client::ClientName;

use crate::access::Caller;

/// What a call without a `grpc-timeout` gets.
pub const DEFAULT: Duration = Duration::from_secs(10);
/// The longest that is honoured; longer ones count as this.
pub const MAX: Duration = Duration::from_secs(3_600);

/// When a call must have been answered.
#[derive(Clone, Copy, Debug)]
pub struct Deadline(Instant);

impl Deadline {
    /// That of a call with this metadata, a little before the caller's own (5 %, at least 2 and at
    /// most 50 ms), so that the answer says what is known instead of the transport's "cancelled".
    pub fn of(metadata: &MetadataMap) -> Deadline {
        let header = metadata.get("grpc-timeout").and_then(|v| v.to_str().ok());
        let given = header
            .and_then(parse)
            .map_or(DEFAULT, |timeout| timeout.min(MAX));
        let margin = (given / 20).clamp(Duration::from_millis(2), Duration::from_millis(50));
        Deadline::after(given.saturating_sub(margin))
    }

    /// The moment this long from now.
    pub fn after(timeout: Duration) -> Deadline {
        Deadline(Instant::now() + timeout)
    }

    /// What is left; zero when it has passed.
    pub fn remaining(self) -> Duration {
        self.0.saturating_duration_since(Instant::now())
    }

    /// The later of two.
    #[must_use]
    pub fn max(self, other: Deadline) -> Deadline {
        Deadline(self.0.max(other.0))
    }
}

/// What a call brings besides its request.
#[derive(Clone, Debug)]
pub struct Call {
    /// Who calls.
    pub caller: Caller,
    /// When it must have been answered.
    pub deadline: Deadline,
    /// Whether another node forwarded it here.
    pub forwarded: bool,
    /// Whether it is part of an import.
    pub imports: bool,
    /// The trace that it belongs to.
    pub trace: Option<Context>,
    /// The class that it says it is of.
    pub class: Class,
    /// What its client says of itself.
    pub client: Option<ClientName>,
}

impl Call {
    /// One that the node makes itself.
    pub fn within(deadline: Deadline) -> Call {
        Call {
            caller: Caller::unbounded(),
            deadline,
            forwarded: false,
            imports: false,
            trace: None,
            class: Class::Live,
            client: None,
        }
    }

    /// Read from a request: its metadata, and whom the doors have let in with it.
    pub fn of<T>(request: &tonic::Request<T>) -> Call {
        let caller = request.extensions().get::<Caller>().cloned();
        Call::by(caller.unwrap_or_default(), request.metadata())
    }

    /// Of somebody who may do everything.
    #[cfg(test)]
    pub fn unbounded() -> Call {
        Call::by(Caller::unbounded(), &MetadataMap::new())
    }

    /// Of this caller.
    pub fn by(caller: Caller, metadata: &MetadataMap) -> Call {
        let text = |key| metadata.get(key).and_then(|value| value.to_str().ok());
        Call {
            caller,
            deadline: Deadline::of(metadata),
            forwarded: metadata.contains_key(FORWARDED),
            imports: metadata.contains_key(IMPORT),
            trace: metadata
                .get(TRACE)
                .and_then(|header| Context::parse(header.to_str().ok()?)),
            class: text(CLASS).and_then(Class::of).unwrap_or_default(),
            client: text(CLIENT).and_then(ClientName::parse),
        }
    }
}

/// A request to forward to another node, with the time that is left for it; `None` for a stream.
pub fn forward<T>(message: T, timeout: Option<Duration>) -> tonic::Request<T> {
    let mut request = tonic::Request::new(message);
    request
        .metadata_mut()
        .insert(FORWARDED, MetadataValue::from_static("1"));
    if let Some(timeout) = timeout {
        request.set_timeout(timeout);
    }
    request
}

/// The same, as a part of a call's trace, and of the class that it says.
pub fn forward_traced<T>(message: T, timeout: Option<Duration>, call: &Call) -> tonic::Request<T> {
    let mut request = forward(message, timeout);
    let class = MetadataValue::from_static(call.class.name());
    request.metadata_mut().insert(CLASS, class);
    if let Some(trace) = call.trace
        && let Ok(header) = trace.header().parse()
    {
        request.metadata_mut().insert(TRACE, header);
    }
    request
}

/// For messages to people.
pub fn name_of(leader: Option<NodeId>) -> String {
    leader.map_or_else(|| "nobody known".to_owned(), |node| node.to_string())
}

/// Reads a `grpc-timeout`: up to eight digits and a unit.
fn parse(header: &str) -> Option<Duration> {
    let (digits, unit) = header.split_at_checked(header.len().checked_sub(1)?)?;
    if digits.is_empty() || digits.len() > 8 || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let n: u64 = digits.parse().ok()?;
    Some(match unit {
        "H" => Duration::from_secs(n * 3_600),
        "M" => Duration::from_secs(n * 60),
        "S" => Duration::from_secs(n),
        "m" => Duration::from_millis(n),
        "u" => Duration::from_micros(n),
        "n" => Duration::from_nanos(n),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timeout_header_is_read_in_every_unit_and_nonsense_is_not() {
        for (header, expect) in [
            ("1H", Some(Duration::from_secs(3_600))),
            ("2M", Some(Duration::from_secs(120))),
            ("3S", Some(Duration::from_secs(3))),
            ("450m", Some(Duration::from_millis(450))),
            ("7u", Some(Duration::from_micros(7))),
            ("9n", Some(Duration::from_nanos(9))),
            ("99999999H", Some(Duration::from_secs(99_999_999 * 3_600))),
            ("", None),
            ("S", None),
            ("-1S", None),
            ("1.5S", None),
            ("123456789S", None),
            ("5x", None),
            ("5é", None),
        ] {
            assert_eq!(parse(header), expect, "{header:?}");
        }
    }

    /// A deadline was set at most a moment ago.
    fn is_about(deadline: Deadline, ms: u64) -> bool {
        let remaining = deadline.remaining();
        let set = Duration::from_millis(ms);
        remaining <= set && remaining + Duration::from_secs(1) > set
    }

    #[test]
    fn the_answer_is_due_a_little_before_the_caller_gives_up() {
        let mut metadata = MetadataMap::new();
        assert!(is_about(Deadline::of(&metadata), 9_950));
        metadata.insert("grpc-timeout", "100S".parse().expect("ascii"));
        assert!(is_about(Deadline::of(&metadata), 99_950));
        metadata.insert("grpc-timeout", "100m".parse().expect("ascii"));
        assert!(is_about(Deadline::of(&metadata), 95));
        metadata.insert("grpc-timeout", "1m".parse().expect("ascii"));
        assert_eq!(Deadline::of(&metadata).remaining(), Duration::ZERO);
        metadata.insert("grpc-timeout", "99999999H".parse().expect("ascii"));
        assert!(is_about(Deadline::of(&metadata), 3_599_950));
    }

    #[test]
    fn a_forwarded_call_says_so() {
        assert!(!Call::of(&tonic::Request::new(())).forwarded);
        let request = forward((), Some(Duration::from_secs(1)));
        let call = Call::of(&request);
        assert!(call.forwarded && is_about(call.deadline, 950));
    }
}
