//! What the flight recorder has of a time, page by page.

use futures::stream::{self, BoxStream, StreamExt as _};
use proto::v1;
use tokio::time::timeout;
use tonic::Status;

use crate::error::Failure;
use crate::recorder::ring::{Found, Position};
use crate::recorder::{LAST_WRITE_MAX, Recorder};

/// What a caller is sent.
pub type Pages = BoxStream<'static, Result<v1::GetEventsResponse, Status>>;

/// Bytes of records in one page, about.
const PAGE_BYTES: u64 = 256 * 1024;
/// Bytes that one call gives; a caller goes on behind them with another.
const CALL_BYTES: u64 = 8 * 1024 * 1024;

/// Answers a call; `of` is this node.
pub async fn pages(
    recorder: Recorder,
    (node_id, node_name): (u64, String),
    request: v1::GetEventsRequest,
) -> Result<Pages, Failure> {
    let v1::GetEventsRequest {
        from_ms,
        to_ms,
        after,
        without_seconds,
    } = request;
    let to_ms = if to_ms == 0 { u64::MAX } else { to_ms };
    if from_ms > to_ms {
        let wrong = format!("{from_ms} is later than to_ms, {to_ms}: give the earlier one first");
        return Err(Failure::field("from_ms", wrong));
    }
    let after = match after.as_str() {
        "" => Position::default(),
        after => after
            .parse()
            .map_err(|why: String| Failure::field("after", why))?,
    };
    // A disk that hangs holds this up, and what is on it already is worth telling.
    let _ = timeout(LAST_WRITE_MAX, recorder.flush()).await;
    let found = recorder.read((from_ms, to_ms), after, CALL_BYTES);
    let mut found = found.await.map_err(Failure::Internal)?;
    let last = found
        .records
        .last()
        .map(|(position, _)| position.to_string());
    if without_seconds {
        let counts = |record: &v1::Record| {
            use v1::record::What;
            matches!(
                record.what,
                Some(What::Second(_) | What::Links(_) | What::Cluster(_))
            )
        };
        found.records.retain(|(_, record)| !counts(record));
    }
    if after != Position::default() {
        found.head.clear();
    }
    let (wall, ahead) = recorder.clocks();
    let base = v1::GetEventsResponse {
        next: after.to_string(),
        node_id,
        node_name,
        now_ms: wall,
        ahead_ms: ahead.unwrap_or(0),
        agreed: ahead.is_some(),
        dropped: recorder.dropped(),
        torn_bytes: found.torn_bytes,
        first_ms: found.first_ms,
        off: recorder.is_off(),
        head: Vec::new(),
        ..v1::GetEventsResponse::default()
    };
    let mut pages = split(found, &base);
    // A caller goes on behind what was left out, too.
    if let (Some(page), Some(last)) = (pages.last_mut(), last) {
        page.next = last;
    }
    Ok(stream::iter(pages).map(Ok).boxed())
}

/// Pages of what was found; one at least, so that a caller hears who answers.
fn split(found: Found, base: &v1::GetEventsResponse) -> Vec<v1::GetEventsResponse> {
    let mut pages = vec![v1::GetEventsResponse {
        head: found.head,
        ..base.clone()
    }];
    let mut bytes = 0;
    for (position, record) in found.records {
        let size = prost::Message::encoded_len(&record) as u64;
        if bytes > 0 && bytes + size > PAGE_BYTES {
            bytes = 0;
            pages.push(base.clone());
        }
        bytes += size;
        if let Some(page) = pages.last_mut() {
            page.records.push(record);
            page.next = position.to_string();
        }
    }
    if let Some(last) = pages.last_mut() {
        last.more = found.more;
    }
    pages
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_are_bounded_and_the_last_says_whether_there_is_more() {
        let record = v1::Record {
            what: Some(v1::record::What::Stop(v1::StopRecord {
                died: "x".repeat(100_000),
                done: true,
            })),
            ..v1::Record::default()
        };
        let position = |offset| Position { segment: 1, offset };
        let records = (1..=5).map(|n| (position(n), record.clone()));
        let found = Found {
            records: records.collect(),
            more: true,
            ..Found::default()
        };
        let pages = split(found, &v1::GetEventsResponse::default());
        let sizes: Vec<usize> = pages.iter().map(|page| page.records.len()).collect();
        assert_eq!(sizes, [2, 2, 1]);
        let more: Vec<bool> = pages.iter().map(|page| page.more).collect();
        assert_eq!(more, [false, false, true]);
        assert_eq!(pages[2].next, "1:5");
        assert_eq!(split(Found::default(), &pages[0]).len(), 1);
    }
}
