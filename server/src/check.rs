//! The rules for everything a caller gives. A check collects every violation of a request before
//! it refuses; what passes is handed on as types that are already valid.
//!
//! Output-only fields that a caller sets are ignored.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use model::cluster::access::Role;
use model::id::{self, ConversationName};
use model::limits;
use model::rules::{self, text};
use model::session::Token;
use prost_types::Timestamp;
use proto::v1;

use crate::access::Caller;
use crate::convert;
use crate::deadline::Call;
use crate::error::{Failure, Violation};

/// Collects violations; allocates only when there are any. What its caller may not touch is refused before
/// anything is said about the rest.
#[derive(Debug)]
pub struct Checker<'c> {
    caller: &'c Caller,
    violations: Vec<Violation>,
    forbidden: Option<Failure>,
    body_bytes_max: usize,
    imports: bool,
}

/// A request with one of the usual keys has a few hundred bytes.
const CERTIFICATE_REQUEST_BYTES_MAX: usize = 8 * 1024;
const IMPORT_IDS: &str = "must not begin with \"import:\": these ids are for imports, which send the \
                          metadata firebreak-import";
const TIMES: &str = "must lie in the years 1 to 9999 with nanos in [0, 999999999]";

/// Where a message stands in its request.
#[derive(Clone, Copy, Debug)]
pub struct At(pub &'static str, pub Option<usize>);

impl fmt::Display for At {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.1 {
            None => f.write_str(self.0),
            Some(index) => write!(f, "{}[{index}]", self.0),
        }
    }
}

/// How fresh a read must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// As one copy.
    Linearizable,
    /// At least what the session has seen.
    Session,
    /// Not older than this.
    Bounded(Duration),
    /// What the nearest replica has.
    Local,
}

impl Level {
    /// Its place among [`crate::sight::traffic::LEVELS`].
    pub fn place(self) -> usize {
        match self {
            Level::Linearizable => 0,
            Level::Session => 1,
            Level::Bounded(_) => 2,
            Level::Local => 3,
        }
    }

    /// Whether the token of the session counts.
    pub fn keeps_sessions(self) -> bool {
        match self {
            Level::Linearizable | Level::Session => true,
            Level::Bounded(_) | Level::Local => false,
        }
    }
}

/// What a read asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// How fresh.
    pub level: Level,
    /// What the session has seen.
    pub token: Token,
}

impl Wanted {
    /// Everything that was acknowledged.
    pub fn linearizable() -> Wanted {
        Wanted {
            level: Level::Linearizable,
            token: Token::default(),
        }
    }
}

impl<'c> Checker<'c> {
    /// Of a call, with the bound on bodies that the node is configured with, bytes.
    pub fn of(call: &'c Call, body_bytes_max: usize) -> Checker<'c> {
        Checker::new(&call.caller, body_bytes_max).imports(call.imports)
    }

    /// Of what a caller gives, with the same bound.
    pub fn new(caller: &'c Caller, body_bytes_max: usize) -> Checker<'c> {
        Checker {
            caller,
            violations: Vec::new(),
            forbidden: None,
            body_bytes_max,
            imports: false,
        }
    }

    /// Whether the call is part of an import, whose ids may say so.
    #[must_use]
    pub fn imports(self, imports: bool) -> Checker<'c> {
        Checker { imports, ..self }
    }

    /// Whether the caller may; the first thing that it may not is what is told.
    fn may(&mut self, may: Result<(), Failure>) -> bool {
        match may {
            Ok(()) => true,
            Err(failure) => {
                self.forbidden.get_or_insert(failure);
                false
            }
        }
    }

    /// Who sends, or reacts.
    fn sender(&mut self, sender: &str) {
        let may = self.caller.sends_as(sender);
        self.may(may);
    }

    /// Notes one.
    pub fn add(&mut self, field: impl fmt::Display, description: impl fmt::Display) {
        self.violations.push(Violation {
            field: field.to_string(),
            description: description.to_string(),
        });
    }

    /// Fails with all that were noted.
    ///
    /// # Errors
    /// [`Failure::Invalid`] when there are any, [`Failure::Forbidden`] before that.
    pub fn finish(self) -> Result<(), Failure> {
        if let Some(forbidden) = self.forbidden {
            return Err(forbidden);
        }
        if self.violations.is_empty() {
            return Ok(());
        }
        Err(Failure::Invalid(self.violations))
    }

    /// Fails with all that were noted, or gives what was checked.
    ///
    /// # Errors
    /// [`Failure::Invalid`] when there are any.
    pub fn or<T>(self, value: Option<T>) -> Result<T, Failure> {
        self.finish()?;
        value.ok_or_else(|| Failure::Internal("a value failed its check without a reason".into()))
    }

    /// `tenants/{t}/conversations/{c}`.
    pub fn conversation(&mut self, field: &str, text: &str) -> Option<ConversationName> {
        let name = ConversationName::parse(text)
            .map_err(|error| self.add(field, error))
            .ok()?;
        let may = self.caller.sees(name.tenant());
        self.may(may).then_some(name)
    }

    /// `tenants/{t}/conversations/{c}/messages/{seq}`.
    pub fn message_name(&mut self, field: &str, text: &str) -> Option<(ConversationName, u64)> {
        let Some((conversation, seq)) = text.split_once("/messages/") else {
            self.add(
                field,
                "must be of the form tenants/{tenant}/conversations/{conversation}/messages/{seq}",
            );
            return None;
        };
        let name = self.conversation(field, conversation);
        // Each message has one name.
        let plain = seq.bytes().all(|b| b.is_ascii_digit()) && !seq.starts_with('0');
        match seq.parse::<u64>().ok().filter(|_| plain) {
            Some(seq) => name.map(|name| (name, seq)),
            None => {
                self.add(field, "must end with the message's seq, 1 or more");
                None
            }
        }
    }

    /// What an edit sets.
    pub fn edit(&mut self, request: &v1::EditMessageRequest) {
        if request.body.is_none() && request.attributes.is_none() {
            self.add("body", "or attributes must be given");
        }
        let max = self.body_bytes_max;
        if let Some(body) = &request.body
            && !(1..=max).contains(&body.len())
        {
            let has = body.len();
            self.add(
                "body",
                format_args!("must be 1 to {max} bytes; it has {has}"),
            );
        }
        if let Some(attributes) = &request.attributes {
            self.attributes("attributes.values", &attributes.values);
        }
    }

    /// A reaction.
    pub fn reaction(&mut self, request: &v1::ReactRequest) {
        self.sender(&request.user);
        if let Some(wrong) = text(&request.user, 1, limits::SENDER_BYTES_MAX) {
            self.add("user", wrong);
        }
        if let Some(wrong) = text(&request.kind, 1, limits::REACTION_KIND_BYTES_MAX) {
            self.add("kind", wrong);
        }
    }

    /// The user whose reactions are told from others'.
    pub fn reader(&mut self, reader: &str) {
        if let Some(wrong) = text(reader, 0, limits::SENDER_BYTES_MAX) {
            self.add("reader", wrong);
        }
    }

    /// `tenants/{t}`.
    pub fn tenant(&mut self, field: &str, parent: &str) -> Option<String> {
        let Some(tenant) = parent.strip_prefix("tenants/") else {
            self.add(field, "must be of the form tenants/{tenant}");
            return None;
        };
        id::segment("tenant", tenant)
            .map_err(|error| self.add(field, error))
            .ok()?;
        let may = self.caller.sees(tenant);
        self.may(may).then(|| tenant.to_owned())
    }

    /// `tenants/{t}` and an id.
    pub fn conversation_id(&mut self, parent: &str, id: &str) -> Option<ConversationName> {
        let tenant = match parent.strip_prefix("tenants/") {
            Some(tenant) => id::segment("tenant", tenant)
                .map_err(|error| self.add("parent", error))
                .is_ok()
                .then_some(tenant),
            None => {
                self.add("parent", "must be of the form tenants/{tenant}");
                None
            }
        };
        let may = tenant.map_or(Ok(()), |tenant| self.caller.sees(tenant));
        self.may(may);
        let id_fits = id::segment("conversation", id)
            .map_err(|error| self.add("conversation_id", error))
            .is_ok();
        tenant
            .filter(|_| id_fits)
            .and_then(|tenant| ConversationName::new(tenant, id).ok())
    }

    /// A message to append.
    pub fn message(&mut self, at: At, message: Option<&v1::Message>) {
        let Some(message) = message else {
            self.add(at, "is required");
            return;
        };
        self.sender(&message.sender);
        let field = |name: &str| format!("{at}.{name}");
        let parts = rules::Parts {
            sender: message.sender.as_bytes(),
            client_message_id: message.client_message_id.as_bytes(),
            kind: message.r#type.as_bytes(),
            body_bytes: message.body.len(),
        };
        rules::message(parts, self.body_bytes_max, |name, wrong| match name {
            "" => self.add(at, wrong),
            name => self.add(field(name), wrong),
        });
        if !self.imports
            && message
                .client_message_id
                .as_bytes()
                .starts_with(limits::IMPORT_ID_PREFIX)
        {
            self.add(field("client_message_id"), IMPORT_IDS);
        }
        if !message.attributes.is_empty() {
            self.attributes(&field("attributes"), &message.attributes);
        }
        if let Some(time) = &message.original_time {
            self.time(field("original_time"), time);
        }
        if let Some(ttl) = &message.ttl {
            self.ttl(field("ttl"), ttl, false);
        }
    }

    /// What is asked of a conversation before messages are appended to it.
    pub fn precondition(&mut self, given: Option<&v1::Precondition>) {
        let Some(given) = given else { return };
        if let Some(wrong) = text(&given.key, 0, limits::KEY_BYTES_MAX) {
            self.add("precondition.key", wrong);
        }
        if given.key.is_empty() && given.expected_last_seq_of_key.is_some() {
            self.add(
                "precondition.key",
                "is required with expected_last_seq_of_key",
            );
        }
        self.fence_token("precondition.fence_token", &given.fence_token);
    }

    /// What says that its writer is the one.
    pub fn fence_token(&mut self, field: &str, token: &str) {
        if let Some(wrong) = text(token, 0, limits::FENCE_TOKEN_BYTES_MAX) {
            self.add(field, wrong);
        }
    }

    /// How long messages live; 0 s says that they live for ever, where that may be said.
    pub fn ttl(&mut self, field: impl fmt::Display, ttl: &prost_types::Duration, or_none: bool) {
        let ms = convert::millis_of(ttl);
        let none = or_none && ttl.seconds == 0 && ttl.nanos == 0;
        let whole = ttl.seconds >= 0 && (0..1_000_000_000).contains(&ttl.nanos);
        let fits = whole && (1_000..=limits::TTL_MS_MAX).contains(&ms);
        if !none && !fits {
            let or = if or_none { ", or 0 for ever" } else { "" };
            self.add(field, format_args!("must be 1 s to 100 years{or}"));
        }
    }

    /// A time.
    pub fn time(&mut self, field: impl fmt::Display, time: &Timestamp) {
        if !timestamp_fits(time) {
            self.add(field, TIMES);
        }
    }

    /// Messages in front of where a list begins.
    pub fn context(&mut self, field: &str, given: i32) -> u64 {
        let max = limits::PAGE_SIZE_MAX;
        match u64::try_from(given) {
            Ok(count) if count <= max as u64 => count,
            Ok(_) | Err(_) => {
                self.add(field, format_args!("must be 0 to {max}; it is {given}"));
                0
            }
        }
    }

    /// The messages of an atomic batch.
    pub fn batch(&mut self, messages: &[v1::Message]) {
        let count = messages.len();
        if count == 0 || count > limits::BATCH_MESSAGES_MAX {
            let max = limits::BATCH_MESSAGES_MAX;
            self.add(
                "messages",
                format_args!("must hold 1 to {max} messages; it has {count}"),
            );
        }
        let mut bytes = 0;
        for (index, message) in messages.iter().take(limits::BATCH_MESSAGES_MAX).enumerate() {
            self.message(At("messages", Some(index)), Some(message));
            bytes += size(message);
        }
        if bytes > limits::BATCH_BYTES_MAX {
            let max = limits::BATCH_BYTES_MAX;
            self.add(
                "messages",
                format_args!("must be at most {max} bytes together; they have {bytes}"),
            );
        }
    }

    /// Attributes of a message or a conversation.
    pub fn attributes(&mut self, field: &str, attributes: &BTreeMap<String, String>) {
        let pairs = attributes.iter().map(|(k, v)| (k.as_str(), v.as_str()));
        rules::attributes(pairs, |wrong| self.add(field, wrong));
    }

    /// The id that makes a retry of a creation safe.
    pub fn request_id(&mut self, text_given: &str) {
        if let Some(wrong) = text(text_given, 1, limits::CLIENT_MESSAGE_ID_BYTES_MAX) {
            self.add("request_id", wrong);
        }
        if !self.imports && text_given.as_bytes().starts_with(limits::IMPORT_ID_PREFIX) {
            self.add("request_id", IMPORT_IDS);
        }
    }

    /// When a change was made where it is imported from.
    pub fn original_time(&mut self, time: Option<&Timestamp>) {
        let Some(time) = time else { return };
        if !self.imports {
            let wrong = "is for imports, which send the metadata firebreak-import";
            self.add("original_time", wrong);
        }
        if !timestamp_fits(time) {
            self.add("original_time", TIMES);
        }
    }

    /// The size of a page; 0 gives the default.
    pub fn page_size(&mut self, given: i32) -> usize {
        match usize::try_from(given) {
            Ok(0) => limits::PAGE_SIZE_DEFAULT,
            Ok(size) if size <= limits::PAGE_SIZE_MAX => size,
            Ok(_) | Err(_) => {
                let max = limits::PAGE_SIZE_MAX;
                self.add(
                    "page_size",
                    format_args!("must be 0 (for the default) to {max}; it is {given}"),
                );
                limits::PAGE_SIZE_DEFAULT
            }
        }
    }

    /// How fresh a read must be.
    pub fn read(&mut self, options: Option<&v1::ReadOptions>) -> Wanted {
        use v1::read_options::Level as Wire;
        let mut wanted = Wanted::linearizable();
        let Some(options) = options else {
            return wanted;
        };
        match Token::decode(&options.session_token) {
            Ok(token) => wanted.token = token,
            Err(error) => self.add("read.session_token", error),
        }
        let bound = options.max_staleness.map(Duration::try_from);
        if let Some(Err(_)) = bound {
            self.add("read.max_staleness", "must not be negative");
        }
        match Wire::try_from(options.level) {
            Ok(Wire::Unspecified | Wire::Linearizable) => {}
            Ok(Wire::Session) => wanted.level = Level::Session,
            Ok(Wire::Bounded) => match bound {
                Some(Ok(bound)) => wanted.level = Level::Bounded(bound),
                Some(Err(_)) => {}
                None => self.add("read.max_staleness", "is required at the level BOUNDED"),
            },
            Ok(Wire::Local) => wanted.level = Level::Local,
            Err(_) => self.add(
                "read.level",
                format_args!("{} is not a level", options.level),
            ),
        }
        wanted
    }

    /// Names of roles: as the cluster keeps them.
    pub fn roles(&mut self, field: &str, names: &[String]) -> Vec<i32> {
        let mut roles = std::collections::BTreeSet::new();
        for name in names {
            match Role::parse(name) {
                Some(role) => drop(roles.insert(role as i32)),
                None => {
                    let all = Role::ALL.map(Role::name).join(", ");
                    self.add(field, format_args!("{name:?} is none of {all}"));
                }
            }
        }
        roles.into_iter().collect()
    }

    fn name(&mut self, field: &'static str, value: &str) {
        if let Err(error) = id::segment(field, value) {
            self.add(field, error);
        }
    }

    /// Where a node stands.
    pub fn place(&mut self, region: &str, dc: &str) {
        self.name("region", region);
        self.name("dc", dc);
    }

    /// A node that asks to join.
    pub fn join(&mut self, request: &v1::JoinNodeRequest) {
        if let Some(wrong) = text(&request.token, 1, 256) {
            self.add("token", wrong);
        }
        self.name("name", &request.name);
        self.place(&request.region, &request.dc);
        if !request.rack.is_empty() {
            self.name("rack", &request.rack);
        }
        if let Err(error) = proto::net::destination(&request.address) {
            self.add("address", error);
        }
        if request.cluster_id.len() > 64 {
            self.add("cluster_id", "must have at most 64 bytes");
        }
        if request.disk_id.len() != 16 {
            self.add("disk_id", "must be 16 random bytes");
        }
        if request.certificate_request.len() > CERTIFICATE_REQUEST_BYTES_MAX {
            self.add(
                "certificate_request",
                format!("must have at most {CERTIFICATE_REQUEST_BYTES_MAX} bytes"),
            );
        }
    }
}

/// The bytes that a message counts for in bounds on batches.
pub fn size(message: &v1::Message) -> usize {
    let attributes: usize = message
        .attributes
        .iter()
        .map(|(k, v)| k.len() + v.len() + 8)
        .sum();
    // The fixed part covers tags, lengths and numbers.
    message.sender.len()
        + message.client_message_id.len()
        + message.r#type.len()
        + message.body.len()
        + attributes
        + 48
}

fn timestamp_fits(time: &Timestamp) -> bool {
    limits::TIMESTAMP_SECONDS.contains(&time.seconds) && (0..1_000_000_000).contains(&time.nanos)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message() -> v1::Message {
        v1::Message {
            sender: "ann".into(),
            client_message_id: "1".into(),
            r#type: "text".into(),
            body: "hi".into(),
            ..v1::Message::default()
        }
    }

    fn violations<R>(check: impl FnOnce(&mut Checker<'_>) -> R) -> Vec<(String, String)> {
        let caller = Caller::unbounded();
        let mut checker = Checker::new(&caller, limits::BODY_BYTES_MAX);
        check(&mut checker);
        match checker.finish() {
            Err(Failure::Invalid(all)) => {
                all.into_iter().map(|v| (v.field, v.description)).collect()
            }
            _ => Vec::new(),
        }
    }

    fn check(change: impl FnOnce(&mut v1::Message), expect: &[(&str, &str)]) {
        let mut message = message();
        change(&mut message);
        let found = violations(|c| c.message(At("message", None), Some(&message)));
        assert_eq!(found.len(), expect.len(), "{found:?}");
        for ((field, text), (expect_field, expect_text)) in found.iter().zip(expect) {
            assert_eq!(field, expect_field);
            assert!(text.contains(expect_text), "{text}");
        }
    }

    #[test]
    fn a_message_is_checked_field_by_field() {
        check(|_| (), &[]);
        check(
            |m| m.sender.clear(),
            &[("message.sender", "1 to 256 bytes; it has 0")],
        );
        check(
            |m| m.sender = "x".repeat(257),
            &[("message.sender", "it has 257")],
        );
        check(
            |m| m.sender = "a\0b".into(),
            &[("message.sender", "control")],
        );
        check(
            |m| m.r#type = "t\u{9b}31m".into(),
            &[("message.type", "U+009B")],
        );
        check(
            |m| m.client_message_id = "a\u{202e}b".into(),
            &[("message.client_message_id", "direction")],
        );
        check(
            |m| m.client_message_id = "import:1".into(),
            &[("message.client_message_id", "firebreak-import")],
        );
        check(
            |m| m.client_message_id.clear(),
            &[("message.client_message_id", "1 to 128 bytes; it has 0")],
        );
        check(
            |m| m.r#type = "t".repeat(65),
            &[("message.type", "at most 64 bytes")],
        );
        check(
            |m| m.body = vec![0; 65_537].into(),
            &[("message.body", "at most 65536 bytes")],
        );
        check(|m| m.body = vec![0; 65_536].into(), &[]);
        check(
            |m| {
                m.original_time = Some(Timestamp {
                    seconds: 0,
                    nanos: -1,
                })
            },
            &[("message.original_time", "nanos")],
        );
        check(
            |m| {
                m.original_time = Some(Timestamp {
                    seconds: i64::MAX,
                    nanos: 0,
                })
            },
            &[("message.original_time", "years 1 to 9999")],
        );
    }

    #[test]
    fn a_message_needs_a_type_or_a_body_and_blank_ones_with_a_type_are_fine() {
        check(|m| m.body.clear(), &[]);
        check(|m| m.r#type.clear(), &[]);
        check(
            |m| {
                m.body.clear();
                m.r#type.clear();
            },
            &[("message", "needs a type or a body")],
        );
    }

    #[test]
    fn attributes_are_bounded_in_number_and_in_bytes() {
        let many = (0..17).map(|i| (format!("k{i}"), String::new())).collect();
        check(
            |m| m.attributes = many,
            &[("message.attributes", "at most 16; there are 17")],
        );
        let long = [("k".to_owned(), "v".repeat(4_096))].into();
        check(
            |m| m.attributes = long,
            &[("message.attributes", "they have 4097")],
        );
        let unnamed = [(String::new(), "v".to_owned())].into();
        check(
            |m| m.attributes = unnamed,
            &[("message.attributes", "empty key")],
        );
        for (key, value) in [("k\0", "v"), ("k", "\u{1b}[31m"), ("k", "a\u{85}b")] {
            let steering = [(key.to_owned(), value.to_owned())].into();
            check(
                |m| m.attributes = steering,
                &[("message.attributes", "control characters")],
            );
        }
    }

    #[test]
    fn all_violations_of_a_request_come_at_once() {
        let found = violations(|c| {
            c.conversation("parent", "rooms/1");
            c.message(At("message", None), Some(&v1::Message::default()));
            c.page_size(-1);
        });
        let fields: Vec<_> = found.iter().map(|(field, _)| field.as_str()).collect();
        assert_eq!(
            fields,
            [
                "parent",
                "message.sender",
                "message.client_message_id",
                "message",
                "page_size"
            ]
        );
    }

    #[test]
    fn a_batch_is_bounded_and_names_the_offending_message() {
        assert_eq!(violations(|c| c.batch(&[])).len(), 1);
        assert_eq!(violations(|c| c.batch(&vec![message(); 1_001])).len(), 1);
        let mut wrong = vec![message(); 3];
        wrong[2].sender.clear();
        assert_eq!(violations(|c| c.batch(&wrong))[0].0, "messages[2].sender");
        let mut large = message();
        large.body = vec![0; 65_000].into();
        let found = violations(|c| c.batch(&vec![large; 17]));
        assert!(found[0].1.contains("1048576 bytes together"), "{found:?}");
    }

    #[test]
    fn sizes_levels_and_parents_are_checked() {
        let caller = Caller::unbounded();
        let mut checker = Checker::new(&caller, 1);
        assert_eq!(checker.page_size(0), 50);
        assert_eq!(checker.page_size(1_000), 1_000);
        assert!(checker.finish().is_ok());
        assert_eq!(violations(|c| c.page_size(1_001)).len(), 1);

        let read = |level, bound| v1::ReadOptions {
            level,
            max_staleness: bound,
            ..v1::ReadOptions::default()
        };
        let caller = Caller::unbounded();
        let mut checker = Checker::new(&caller, 1);
        let bound = prost_types::Duration {
            seconds: 1,
            nanos: 5,
        };
        let second = Duration::new(1, 5);
        assert_eq!(checker.read(None), Wanted::linearizable());
        for (level, bound, expect) in [
            (1, None, Level::Linearizable),
            (2, None, Level::Session),
            (3, Some(bound), Level::Bounded(second)),
            (4, None, Level::Local),
        ] {
            assert_eq!(checker.read(Some(&read(level, bound))).level, expect);
        }
        assert!(checker.finish().is_ok());
        let negative = prost_types::Duration {
            seconds: -1,
            nanos: 0,
        };
        assert_eq!(
            violations(|c| c.read(Some(&read(3, Some(negative))))).len(),
            1
        );
        let token = v1::ReadOptions {
            session_token: "x".into(),
            ..read(2, None)
        };
        assert_eq!(violations(|c| c.read(Some(&token))).len(), 1);
        assert_eq!(violations(|c| c.read(Some(&read(3, None)))).len(), 1);
        assert_eq!(violations(|c| c.read(Some(&read(9, None)))).len(), 1);

        assert_eq!(
            violations(|c| c.conversation_id("tenants/", "a b")).len(),
            2
        );
        assert_eq!(violations(|c| c.conversation_id("acme", "a")).len(), 1);
        let caller = Caller::unbounded();
        let mut checker = Checker::new(&caller, 1);
        let name = checker.conversation_id("tenants/acme", "room");
        assert_eq!(
            name.map(|n| n.to_string()).as_deref(),
            Some("tenants/acme/conversations/room")
        );
    }

    #[test]
    fn a_joining_node_must_say_who_and_where_it_is() {
        let found = violations(|c| c.join(&v1::JoinNodeRequest::default()));
        let fields: Vec<_> = found.iter().map(|(field, _)| field.as_str()).collect();
        assert_eq!(
            fields,
            ["token", "name", "region", "dc", "address", "disk_id"]
        );
    }
}
