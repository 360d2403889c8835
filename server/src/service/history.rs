//! Pages of a conversation: where a list begins, and how it goes on and back.
//!
//! ```text
//!             context_before          anchor: a seq, a time, or the first unread message
//!                 ┌───────┐           │
//!   … ○ ○ ○ ○ ○ ○ ● ● ● ● ● ● ● ● ● ● ● ○ ○ ○ …          in the list's order
//!               │ └─────── a page ──────┘ │
//!    prev_page_token                next_page_token
//! ```
//!
//! Numbers are dense and create times never decrease, so that any of them is found in a few reads, however
//! long the conversation is.

use model::id::ConversationName;
use model::limits;
use model::mutant;
use model::state::Conversation;
use proto::v1;
use store::engine::Order;
use store::state::{self, ShardState};

use super::messages::reader;
use crate::check::{Checker, Level, Wanted};
use crate::coalesce::Coalescer;
use crate::convert::{self, Moment};
use crate::deadline::Call;
use crate::error::Failure;
use crate::read::Found;
use crate::token::{Kind, Token};

/// Reads of the same page share one.
pub type Pages = Coalescer<PageKey, v1::ListMessagesResponse>;

/// What makes two reads of pages the same.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct PageKey {
    name: String,
    level: Level,
    size: usize,
    descending: bool,
    begin: Begin,
    context: u64,
    reader: String,
    life: Option<u64>,
    forwarded: bool,
}

/// Where a page begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Begin {
    /// At a seq; 0 = at the first, or at the last when descending.
    Seq(u64),
    /// At the first message of this create time or later, descending at the last of it or earlier, Unix
    /// milliseconds.
    Time(i64),
    /// Behind the last that was read.
    Unread(u64),
    /// Where a page token says: the next page begins with this seq, in this life of the conversation.
    Next(u64, u64),
    /// The page ends with this seq, in this life of the conversation.
    Back(u64, u64),
}

/// A list request, checked.
#[derive(Clone, Debug)]
pub struct HistoryQuery {
    /// How fresh.
    pub wanted: Wanted,
    size: usize,
    order: Order,
    begin: Begin,
    /// Messages before the anchor.
    context: u64,
    /// Whose reactions are told from others'; empty for nobody's.
    reader: String,
    /// The life of the conversation that is asked for; none = any.
    life: Option<u64>,
}

impl HistoryQuery {
    /// What makes another read the same.
    pub fn key(&self, name: &ConversationName, forwarded: bool) -> PageKey {
        PageKey {
            name: name.to_string(),
            level: self.wanted.level,
            size: self.size,
            descending: self.order == Order::Descending,
            begin: self.begin,
            context: self.context,
            reader: self.reader.clone(),
            life: self.life,
            forwarded,
        }
    }

    /// Checks a request.
    ///
    /// # Errors
    /// [`Failure::Invalid`] with all that is wrong with it.
    pub fn of(
        request: &v1::ListMessagesRequest,
        call: &Call,
    ) -> Result<(ConversationName, HistoryQuery), Failure> {
        let mut check = Checker::of(call, 0);
        let name = check.conversation("parent", &request.parent);
        let size = check.page_size(request.page_size);
        let wanted = check.read(request.read.as_ref());
        check.reader(&request.reader);
        let begin = begin(&mut check, name.as_ref(), request);
        let context = check.context("context_before", request.context_before);
        let order = match request.descending {
            true => Order::Descending,
            false => Order::Ascending,
        };
        let name = check.or(name)?;
        let plan = HistoryQuery {
            wanted,
            size,
            order,
            begin,
            context,
            reader: request.reader.clone(),
            life: (request.incarnation > 0).then_some(request.incarnation),
        };
        Ok((name, plan))
    }

    /// How it is read of a conversation.
    fn at(&self, state: &ShardState, name: &ConversationName) -> Result<At, Failure> {
        let forward = |start, anchor| At {
            start,
            anchor,
            order: self.order,
            size: self
                .size
                .saturating_add(usize::try_from(self.context).unwrap_or(0)),
        };
        let descending = self.order == Order::Descending;
        let back = |anchor: u64| match descending {
            true => anchor.saturating_add(self.context),
            false => anchor.saturating_sub(self.context).max(1),
        };
        Ok(match self.begin {
            Begin::Seq(0) => forward(0, None),
            Begin::Seq(seq) => forward(back(seq), Some(seq)),
            Begin::Unread(seq) => forward(back(seq.saturating_add(1)), Some(seq.saturating_add(1))),
            Begin::Time(ms) => {
                // A message of the very millisecond is the last of it.
                let from_ms = ms.saturating_add(i64::from(descending));
                let Some(first) = state.first_since(name, from_ms)? else {
                    return Err(Failure::ConversationNotFound(name.to_string()));
                };
                match (descending, first) {
                    // Nothing is as old.
                    (true, 0 | 1) => At {
                        size: 0,
                        ..forward(1, None)
                    },
                    (true, first) => forward(back(first - 1), Some(first - 1)),
                    (false, first) => forward(back(first), Some(first)),
                }
            }
            Begin::Next(seq, _) => At {
                size: self.size,
                ..forward(seq, None)
            },
            Begin::Back(seq, _) => At {
                start: seq,
                anchor: None,
                order: opposite(self.order),
                size: self.size,
            },
        })
    }

    /// The life of the conversation that a token is of, or that is asked for.
    fn incarnation(&self) -> Option<u64> {
        match self.begin {
            Begin::Next(_, incarnation) | Begin::Back(_, incarnation) => Some(incarnation),
            Begin::Seq(_) | Begin::Time(_) | Begin::Unread(_) => self.life,
        }
    }

    /// Whether what has expired at its beginning is an error: who asks for a place must be told that it
    /// is gone, and who asks for a time is not.
    fn is_of_a_place(&self) -> bool {
        match self.begin {
            Begin::Seq(seq) | Begin::Next(seq, _) => seq > 0,
            Begin::Time(_) | Begin::Unread(_) | Begin::Back(..) => false,
        }
    }
}

/// What is read for a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct At {
    start: u64,
    anchor: Option<u64>,
    order: Order,
    size: usize,
}

fn begin(
    check: &mut Checker<'_>,
    name: Option<&ConversationName>,
    request: &v1::ListMessagesRequest,
) -> Begin {
    let given = [
        request.start_seq != 0,
        request.start_time.is_some(),
        request.unread_after.is_some(),
    ];
    if given.iter().filter(|given| **given).count() > 1 {
        check.add(
            "start_seq",
            "only one of start_seq, start_time and unread_after may be given",
        );
    }
    if request.unread_after.is_some() && request.descending {
        check.add(
            "unread_after",
            "is for ascending lists: from the first unread message on",
        );
    }
    if let Some(time) = &request.start_time {
        check.time("start_time", time);
    }
    if request.page_token.is_empty() {
        return match (&request.start_time, request.unread_after) {
            (Some(time), _) => Begin::Time(convert::millis(time)),
            (None, Some(seq)) => Begin::Unread(seq),
            (None, None) => Begin::Seq(request.start_seq),
        };
    }
    let Some(name) = name else {
        return Begin::Seq(0);
    };
    match Token::decode(&request.page_token, false, name.key()) {
        Ok(token) => match token.kind {
            Kind::Page { descending, back } if descending == request.descending => match back {
                true => return Begin::Back(token.next_seq, token.incarnation),
                false => return Begin::Next(token.next_seq, token.incarnation),
            },
            _ => check.add("page_token", "belongs to a list in the other direction"),
        },
        Err(error) => check.add("page_token", error),
    }
    Begin::Seq(0)
}

fn opposite(order: Order) -> Order {
    match order {
        Order::Ascending => Order::Descending,
        Order::Descending => Order::Ascending,
    }
}

/// A page of this node's replica, and its revision, as it is at a time in Unix milliseconds.
///
/// # Errors
/// When there is no such conversation, or not any more; when the page begins before what is kept.
pub fn page(
    state: &ShardState,
    name: &ConversationName,
    plan: &HistoryQuery,
    moment: Moment,
) -> Result<Found<v1::ListMessagesResponse>, Failure> {
    let at = plan.at(state, name)?;
    let wanted = state::Wanted {
        start_seq: at.start,
        order: at.order,
        limit: at.size.min(limits::PAGE_SIZE_MAX),
        bytes_max: limits::PAGE_BYTES_MAX,
        reader: reader(&plan.reader),
        changed_after: None,
    };
    let Some(found) = state.page(name, &wanted)? else {
        return Err(Failure::ConversationNotFound(name.to_string()));
    };
    let (head, mut stored) = (found.head, found.messages);
    if plan
        .incarnation()
        .is_some_and(|one| one != head.incarnation)
    {
        return Err(Failure::OtherIncarnation);
    }
    let min_seq = head.min_seq.max(1);
    let trimmed = at.start > 0 && at.start < min_seq && at.anchor.is_none_or(|one| one < min_seq);
    if at.order == Order::Ascending && plan.is_of_a_place() && trimmed {
        return Err(Failure::CursorTrimmed { min_seq });
    }
    if at.order != plan.order {
        stored.reverse();
    }
    let seqs = (stored.first(), stored.last());
    let ends = seqs
        .0
        .zip(seqs.1)
        .map(|(a, b)| (a.stored.seq, b.stored.seq));
    let (prev, next) = around(&head, plan.order, ends);
    let token = |back, next_seq: Option<u64>| {
        let descending = plan.order == Order::Descending;
        let token = next_seq.map(|next_seq| Token {
            kind: Kind::Page { descending, back },
            key: name.key(),
            incarnation: head.incarnation,
            next_seq,
            revision: None,
        });
        token.map_or_else(String::new, |token| token.encode())
    };
    let (next_page_token, prev_page_token) = (token(false, next), token(true, prev));
    let messages = stored
        .into_iter()
        .map(|shown| convert::shown(name, &head, shown, moment))
        .collect::<Result<_, _>>()
        .map_err(Failure::Corrupt)?;
    let revision = head.revision;
    let page = v1::ListMessagesResponse {
        messages,
        next_page_token,
        prev_page_token,
        min_seq,
        last_seq: head.last_seq,
        info: None,
        anchor_seq: at.anchor.map_or(0, |anchor| anchor.max(min_seq)),
    };
    Ok((page, revision))
}

/// Where the pages before and after one begin that goes from one of these seqs to the other; none at an end.
fn around(
    head: &Conversation,
    order: Order,
    ends: Option<(u64, u64)>,
) -> (Option<u64>, Option<u64>) {
    let Some((first, last)) = ends else {
        return (None, None);
    };
    let skipped = u64::from(mutant!("page-boundary-skips-one"));
    let above = |seq: u64| (seq < head.last_seq).then_some(seq + 1);
    let below = |seq: u64| (seq > head.min_seq.max(1)).then_some(seq - 1);
    match order {
        Order::Ascending => (below(first), above(last).map(|next| next + skipped)),
        Order::Descending => (above(first), below(last)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_end_at_the_first_and_at_the_last_message() {
        let head = Conversation {
            min_seq: 3,
            last_seq: 9,
            ..Conversation::default()
        };
        use Order::{Ascending, Descending};
        for (order, ends, expect) in [
            (Ascending, Some((3, 8)), (None, Some(9))),
            (Ascending, Some((5, 9)), (Some(4), None)),
            (Ascending, None, (None, None)),
            (Descending, Some((9, 4)), (None, Some(3))),
            (Descending, Some((8, 3)), (Some(9), None)),
            (Descending, None, (None, None)),
        ] {
            assert_eq!(around(&head, order, ends), expect, "{order:?} {ends:?}");
        }
    }

    #[test]
    fn a_page_token_goes_on_in_its_own_direction_only() {
        let name = ConversationName::new("acme", "room").expect("valid");
        let token = |back| Token {
            kind: Kind::Page {
                descending: true,
                back,
            },
            key: name.key(),
            incarnation: 4,
            next_seq: 17,
            revision: None,
        };
        let mut request = v1::ListMessagesRequest {
            parent: name.to_string(),
            page_token: token(false).encode(),
            descending: true,
            start_seq: 99,
            ..v1::ListMessagesRequest::default()
        };
        let (_, plan) = HistoryQuery::of(&request, &Call::unbounded()).expect("valid");
        assert_eq!((plan.begin, plan.size), (Begin::Next(17, 4), 50));
        request.page_token = token(true).encode();
        let (_, plan) = HistoryQuery::of(&request, &Call::unbounded()).expect("valid");
        assert_eq!(plan.begin, Begin::Back(17, 4));
        request.descending = false;
        assert!(
            matches!(HistoryQuery::of(&request, &Call::unbounded()), Err(Failure::Invalid(v)) if v.len() == 1)
        );
        request.page_token = "x".into();
        request.page_size = -1;
        assert!(
            matches!(HistoryQuery::of(&request, &Call::unbounded()), Err(Failure::Invalid(v)) if v.len() == 2)
        );
    }

    #[test]
    fn a_list_has_one_beginning() {
        let request = v1::ListMessagesRequest {
            parent: "tenants/acme/conversations/room".into(),
            start_seq: 7,
            unread_after: Some(3),
            descending: true,
            context_before: -1,
            ..v1::ListMessagesRequest::default()
        };
        let fields = |violations: Vec<crate::error::Violation>| -> Vec<String> {
            violations.into_iter().map(|one| one.field).collect()
        };
        match HistoryQuery::of(&request, &Call::unbounded()) {
            Err(Failure::Invalid(wrong)) => {
                assert_eq!(
                    fields(wrong),
                    ["start_seq", "unread_after", "context_before"]
                );
            }
            other => panic!("{other:?}"),
        }
    }
}
