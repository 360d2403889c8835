//! What happened when, put together from the flight recorders of all nodes that answer.
//!
//! Nodes' clocks differ; each record says by how much most clocks were ahead of its node's, so that all lie
//! on one axis: agreed time.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use futures::StreamExt as _;
use model::id::NodeId;
use proto::v1;
use proto::v1::admin_client::AdminClient;
use proto::v1::record::What;
use serde::Serialize;
use tokio::sync::Mutex;
use tokio::time::{Instant, timeout};

use super::{ASK_LOST_MAX, Api, Look, SeenBy};
use crate::deadline::forward;
use crate::recorder::record;
use crate::service::events;

/// How long a node may take to tell what it has recorded.
const ASK_MAX: Duration = Duration::from_secs(2);
/// The longest range that is shown at once.
const RANGE_MS_MAX: u64 = 24 * 3_600_000;
/// What is shown where nothing is asked.
const RANGE_MS: u64 = 30 * 60_000;
/// Events of one lane that are shown; the last ones.
const EVENTS_MAX: usize = 2_000;
/// A node is asked for what is new at most this often.
const RECENT_EVERY: Duration = Duration::from_secs(2);
/// Events of the first page.
const RECENT_MAX: usize = 500;
/// Columns of the load: more than anybody's screen has.
const COLUMNS_MAX: u64 = 600;
/// Pauses between acknowledgements that are marked, ms.
const GAP_MS_MIN: u32 = 250;

/// What happened when.
#[derive(Serialize)]
pub struct Timeline {
    seen_by: SeenBy,
    from_ms: u64,
    to_ms: u64,
    missing: Vec<String>,
    lanes: Vec<Lane>,
    load: Load,
    gaps: Vec<Gap>,
}

#[derive(Serialize)]
struct Lane {
    node: String,
    dc: String,
    spans: Vec<Span>,
    events: Vec<Happening>,
    /// Events that are not shown.
    more: usize,
}

#[derive(Clone, Serialize)]
struct Span {
    from_ms: u64,
    to_ms: u64,
    kind: &'static str,
}

/// Something that happened.
#[derive(Clone, Serialize)]
pub struct Happening {
    at_ms: u64,
    node: String,
    kind: &'static str,
    shard: Option<u32>,
    text: String,
}

#[derive(Default, Serialize)]
struct Load {
    at_ms: Vec<u64>,
    acks_per_s: Vec<f64>,
    failed_per_s: Vec<f64>,
    p99_ms: Vec<Option<f64>>,
}

#[derive(Serialize)]
struct Gap {
    from_ms: u64,
    to_ms: u64,
    node: String,
    shard: u32,
    ms: u32,
}

/// A range of time, Unix milliseconds, agreed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Range {
    /// Its begin.
    pub from_ms: u64,
    /// Its end.
    pub to_ms: u64,
}

impl Range {
    /// Reads what was asked; `now_ms` is where it ends when nothing is said.
    ///
    /// # Errors
    /// What is wrong, for people.
    pub fn parse(asked: &BTreeMap<String, String>, now_ms: u64) -> Result<Range, String> {
        let known = ["from_ms", "to_ms"];
        if let Some(other) = asked.keys().find(|key| !known.contains(&key.as_str())) {
            return Err(format!("{other:?} is not known: say from_ms and to_ms"));
        }
        let number = |key: &str| match asked.get(key) {
            None => Ok(None),
            Some(text) => text
                .parse::<u64>()
                .map(Some)
                .map_err(|_| format!("{key}={text} is no Unix time in milliseconds")),
        };
        let to_ms = number("to_ms")?.unwrap_or(now_ms);
        let from_ms = number("from_ms")?.unwrap_or(to_ms.saturating_sub(RANGE_MS));
        if from_ms >= to_ms {
            return Err(format!(
                "from_ms, {from_ms}, must be earlier than to_ms, {to_ms}"
            ));
        }
        if to_ms - from_ms > RANGE_MS_MAX {
            return Err("ask for 24 hours at most: the pages show no more at once".to_owned());
        }
        Ok(Range { from_ms, to_ms })
    }

    /// The half hour before `now_ms`.
    pub fn recent(now_ms: u64) -> Range {
        Range {
            from_ms: now_ms.saturating_sub(RANGE_MS),
            to_ms: now_ms,
        }
    }
}

/// What one node has recorded of a time.
struct Tape {
    node: String,
    dc: String,
    /// None: it did not answer.
    records: Option<Vec<v1::Record>>,
}

impl Timeline {
    /// Asks all nodes.
    pub async fn of(api: &Api, look: &Look, range: Range) -> Timeline {
        let tapes = ask(api, look, range).await;
        let names = names(look);
        let missing = tapes.iter().filter(|tape| tape.records.is_none());
        Timeline {
            seen_by: api.seen_by(look),
            from_ms: range.from_ms,
            to_ms: range.to_ms,
            missing: missing.map(|tape| tape.node.clone()).collect(),
            lanes: tapes.iter().map(|tape| lane(tape, &names, range)).collect(),
            load: load(&tapes, range),
            gaps: gaps(&tapes, range),
        }
    }
}

/// What has been heard from the recorders of all nodes: each is asked for what is new.
#[derive(Default)]
pub struct Recent(Mutex<BTreeMap<u64, Heard>>);

/// What has been heard from one node.
#[derive(Default)]
struct Heard {
    /// Behind which record it goes on.
    next: String,
    events: VecDeque<Happening>,
    asked: Option<Instant>,
}

impl Recent {
    /// What happened lately in the whole cluster, oldest first.
    pub async fn of(&self, api: &Api, look: &Look) -> Vec<Happening> {
        let range = Range::recent(look.at_ms);
        let names = names(look);
        let mut heard = self.0.lock().await;
        let asked = look.reports.iter().filter_map(|report| {
            let node = report.listed.as_ref()?;
            let known = heard.get(&node.node_id);
            let lately = known.and_then(|known| known.asked);
            if lately.is_some_and(|at| at.elapsed() < RECENT_EVERY) {
                return None;
            }
            let request = v1::GetEventsRequest {
                from_ms: range.from_ms,
                after: known.map(|known| known.next.clone()).unwrap_or_default(),
                without_seconds: true,
                ..v1::GetEventsRequest::default()
            };
            let answers = report.status.is_ok();
            Some(async move {
                let told = ask_one(api, node.node_id, answers, request).await;
                let tape = Tape {
                    node: node.name.clone(),
                    dc: node.dc.clone(),
                    records: told.as_ref().map(|told| told.records.clone()),
                };
                (node.node_id, told.map(|told| told.next), tape)
            })
        });
        for (node, next, tape) in futures::future::join_all(asked).await {
            let known = heard.entry(node).or_default();
            known.asked = Some(Instant::now());
            known.events.extend(happenings(&tape, &names));
            if let Some(next) = next {
                known.next = next;
            }
            while known.events.len() > RECENT_MAX
                || known
                    .events
                    .front()
                    .is_some_and(|one| one.at_ms < range.from_ms)
            {
                known.events.pop_front();
            }
        }
        let all = heard.values().flat_map(|known| &known.events);
        let mut all: Vec<Happening> = all.cloned().collect();
        all.sort_by_key(|one| one.at_ms);
        let excess = all.len().saturating_sub(RECENT_MAX);
        all.split_off(excess)
    }
}

fn names(look: &Look) -> BTreeMap<u64, String> {
    let listed = look
        .reports
        .iter()
        .filter_map(|report| report.listed.as_ref());
    listed
        .map(|node| (node.node_id, node.name.clone()))
        .collect()
}

async fn ask(api: &Api, look: &Look, range: Range) -> Vec<Tape> {
    let request = || v1::GetEventsRequest {
        from_ms: range.from_ms,
        to_ms: range.to_ms,
        ..v1::GetEventsRequest::default()
    };
    let listed = look.reports.iter().filter_map(|report| {
        let answers = report.status.is_ok();
        report.listed.as_ref().map(|node| (node, answers))
    });
    let asked = listed.map(|(node, answers)| async move {
        let told = ask_one(api, node.node_id, answers, request()).await;
        Tape {
            node: node.name.clone(),
            dc: node.dc.clone(),
            records: told.map(|told| told.records),
        }
    });
    futures::future::join_all(asked).await
}

/// What a node told.
struct NodeRecords {
    records: Vec<v1::Record>,
    /// Behind which record it goes on.
    next: String,
}

async fn ask_one(
    api: &Api,
    node: u64,
    answers: bool,
    request: v1::GetEventsRequest,
) -> Option<NodeRecords> {
    let gateway = &api.local().gateway;
    let mut told = NodeRecords {
        records: Vec::new(),
        next: String::new(),
    };
    let mut take = |page: v1::GetEventsResponse| {
        told.records.extend(page.records);
        told.next = page.next;
    };
    if node == gateway.me().0 {
        let recorder = api.admin.recorder.clone();
        let of = (node, String::new());
        let mut pages = events::pages(recorder, of, request).await.ok()?;
        while let Some(Ok(page)) = pages.next().await {
            take(page);
        }
        return Some(told);
    }
    let channel = gateway.raft.channel(NodeId(node))?;
    let limit = if answers { ASK_MAX } else { ASK_LOST_MAX };
    let mut client =
        AdminClient::new(channel).max_decoding_message_size(model::limits::FRAME_BYTES_MAX);
    let asked = timeout(limit, async {
        let request = forward(request, Some(limit));
        let mut pages = client.get_events(request).await.ok()?.into_inner();
        while let Some(page) = pages.message().await.ok()? {
            take(page);
        }
        Some(())
    });
    asked.await.ok().flatten()?;
    Some(told)
}

/// When a record was made, as most clocks said.
fn at_ms(record: &v1::Record) -> u64 {
    record.unix_ms.saturating_add_signed(record.ahead_ms)
}

fn shard_of(what: &What) -> Option<u32> {
    match what {
        What::Replica(one) => Some(one.shard),
        What::Vote(one) => Some(one.shard),
        What::Led(one) => Some(one.shard),
        What::Election(one) => Some(one.shard),
        What::HandOver(one) => Some(one.shard),
        What::Move(one) => Some(one.shard),
        What::Snapshot(one) => Some(one.shard),
        What::Quorum(one) => Some(one.shard),
        What::Started(_)
        | What::Stop(_)
        | What::Cluster(_)
        | What::Second(_)
        | What::Links(_)
        | What::Stood(_)
        | What::Refusal(_)
        | What::Room(_)
        | What::Verdict(_)
        | What::Stall(_)
        | What::Clock(_)
        | What::Drain(_)
        | What::Fault(_) => None,
    }
}

/// How the pages draw it.
fn kind(what: &What) -> &'static str {
    match what {
        What::Started(_) => "start",
        What::Stop(_) => "stop",
        What::Led(led) if led.own => "leads",
        What::Led(led) if led.leader == 0 => "steps_down",
        What::Led(_) => "follows",
        What::Refusal(_) | What::Room(_) => "refusal",
        What::Stood(_) => "stall",
        other => record::kind(other),
    }
}

fn happenings<'a>(
    tape: &'a Tape,
    names: &'a BTreeMap<u64, String>,
) -> impl Iterator<Item = Happening> + 'a {
    let records = tape.records.iter().flatten();
    records.filter_map(|record| {
        let what = record.what.as_ref()?;
        // Each follower hears of each leader; the leader says it once.
        if matches!(what, What::Led(led) if !led.own && led.leader != 0) {
            return None;
        }
        Some(Happening {
            at_ms: at_ms(record),
            node: tape.node.clone(),
            kind: kind(what),
            shard: shard_of(what),
            text: record::words(what, names)?,
        })
    })
}

fn lane(tape: &Tape, names: &BTreeMap<u64, String>, range: Range) -> Lane {
    let mut events: Vec<Happening> = happenings(tape, names).collect();
    let more = events.len().saturating_sub(EVENTS_MAX);
    events.drain(..more);
    Lane {
        node: tape.node.clone(),
        dc: tape.dc.clone(),
        spans: spans(tape, range),
        events,
        more,
    }
}

/// When the node was up, drained, or stood still, as its recorder shows. Of the time before its first
/// word nothing is known.
fn spans(tape: &Tape, range: Range) -> Vec<Span> {
    let Some(records) = &tape.records else {
        return Vec::new();
    };
    let mut records: Vec<&v1::Record> = records.iter().collect();
    records.sort_by_key(|record| (record.boot, at_ms(record)));
    let mut spans = Vec::new();
    let mut drawing = Drawing::default();
    for record in records {
        let at_ms = at_ms(record).clamp(range.from_ms, range.to_ms);
        drawing.take(record, at_ms, &mut spans);
    }
    drawing.end(range.to_ms, &mut spans);
    spans
}

/// How far a lane is drawn.
#[derive(Default)]
struct Drawing {
    boot: Option<u64>,
    /// When it was heard of last.
    last_ms: u64,
    up_since: Option<u64>,
    drains_since: Option<u64>,
}

impl Drawing {
    fn take(&mut self, record: &v1::Record, at_ms: u64, spans: &mut Vec<Span>) {
        let mut span = |from_ms: u64, to_ms: u64, kind| {
            if from_ms < to_ms {
                spans.push(Span {
                    from_ms,
                    to_ms,
                    kind,
                });
            }
        };
        if self.boot != Some(record.boot) {
            // What ran before ended without a word, or with one.
            if let Some(since) = self.up_since {
                span(since, self.last_ms, "up");
            }
            if self.boot.is_some() {
                span(self.last_ms, at_ms, "down");
            }
            self.boot = Some(record.boot);
            self.up_since = Some(at_ms);
        }
        self.last_ms = at_ms;
        match record.what.as_ref() {
            Some(What::Stop(stop)) if stop.done => {
                if let Some(since) = self.up_since.take() {
                    span(since, at_ms, "up");
                }
            }
            Some(What::Stood(stood)) => {
                span(at_ms.saturating_sub(stood.lasted_ms), at_ms, "stalled");
            }
            Some(What::Drain(drain)) if drain.step == "begun" => self.drains_since = Some(at_ms),
            Some(What::Drain(drain)) if drain.step == "ended" => {
                if let Some(since) = self.drains_since.take() {
                    span(since, at_ms, "draining");
                }
            }
            Some(_) | None => {}
        }
    }

    /// It answers, so that what it was last it is still.
    fn end(self, to_ms: u64, spans: &mut Vec<Span>) {
        let open = [(self.up_since, "up"), (self.drains_since, "draining")];
        let open = open
            .into_iter()
            .filter_map(|(since, kind)| Some((since?, kind)));
        spans.extend(open.map(|(from_ms, kind)| Span {
            from_ms,
            to_ms,
            kind,
        }));
    }
}

/// What clients asked of all nodes, in columns of some seconds each.
fn load(tapes: &[Tape], range: Range) -> Load {
    let step_ms = (range.to_ms - range.from_ms)
        .div_ceil(COLUMNS_MAX)
        .max(1_000);
    let count = usize::try_from((range.to_ms - range.from_ms).div_ceil(step_ms)).unwrap_or(0);
    let mut columns = vec![(0_u64, 0_u64, 0_u64); count];
    for record in tapes.iter().flat_map(|tape| tape.records.iter().flatten()) {
        let Some(What::Second(second)) = &record.what else {
            continue;
        };
        let place = at_ms(record).saturating_sub(range.from_ms) / step_ms;
        let column = usize::try_from(place)
            .ok()
            .and_then(|place| columns.get_mut(place));
        let Some((answered, failed, p99_us)) = column else {
            continue;
        };
        for asked in &second.asked {
            *answered += asked.answered;
            *failed += asked.failed;
            *p99_us = (*p99_us).max(asked.p99_us);
        }
    }
    let mut load = Load::default();
    #[allow(clippy::cast_precision_loss, reason = "rates for people")]
    for (place, (answered, failed, p99_us)) in columns.into_iter().enumerate() {
        let seconds = step_ms as f64 / 1_000.0;
        load.at_ms.push(range.from_ms + place as u64 * step_ms);
        load.acks_per_s.push(answered as f64 / seconds);
        load.failed_per_s.push(failed as f64 / seconds);
        load.p99_ms
            .push((p99_us > 0).then_some(p99_us as f64 / 1_000.0));
    }
    load
}

/// The longest pauses between acknowledgements of a shard that was used.
fn gaps(tapes: &[Tape], range: Range) -> Vec<Gap> {
    let mut gaps = Vec::new();
    for tape in tapes {
        for record in tape.records.iter().flatten() {
            let Some(What::Second(second)) = &record.what else {
                continue;
            };
            let from_ms = at_ms(record);
            if !(range.from_ms..range.to_ms).contains(&from_ms) {
                continue;
            }
            let waits = second.asked.iter().filter_map(|asked| {
                let ms = u32::try_from(asked.max_us / 1_000).unwrap_or(u32::MAX);
                (ms >= GAP_MS_MIN).then_some((asked.shard, ms))
            });
            gaps.extend(waits.map(|(shard, ms)| Gap {
                from_ms: (from_ms + 1_000).saturating_sub(u64::from(ms)),
                to_ms: from_ms + 1_000,
                node: tape.node.clone(),
                shard,
                ms,
            }));
        }
    }
    gaps.sort_by_key(|gap| std::cmp::Reverse(gap.ms));
    gaps.truncate(50);
    gaps
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        let owned = pairs
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
        owned.collect()
    }

    fn record(unix_ms: u64, ahead_ms: i64, what: What) -> v1::Record {
        v1::Record {
            unix_ms,
            ahead_ms,
            what: Some(what),
            ..v1::Record::default()
        }
    }

    #[test]
    fn a_range_is_the_last_half_hour_unless_it_is_said_and_nonsense_is_named() {
        let now = 10_000_000;
        let half_hour = Range::recent(now);
        assert_eq!(Range::parse(&asked(&[]), now), Ok(half_hour));
        let said = asked(&[("from_ms", "5"), ("to_ms", "9")]);
        let range = Range {
            from_ms: 5,
            to_ms: 9,
        };
        assert_eq!(Range::parse(&said, now), Ok(range));
        for (wrong, says) in [
            (&[("from_ms", "9"), ("to_ms", "5")][..], "must be earlier"),
            (&[("from_ms", "x")], "from_ms=x is no Unix time"),
            (&[("since", "1")], "\"since\" is not known"),
            (
                &[("from_ms", "0"), ("to_ms", "86400001")],
                "24 hours at most",
            ),
        ] {
            let error = Range::parse(&asked(wrong), now).unwrap_err();
            assert!(error.contains(says), "{error}");
        }
    }

    #[test]
    fn a_node_that_was_killed_shows_a_gap_and_its_clock_does_not_matter() {
        let second = |boot, unix_ms, ahead_ms| v1::Record {
            boot,
            ..record(unix_ms, ahead_ms, What::Second(v1::SecondRecord::default()))
        };
        let tape = Tape {
            node: "seoul-1".to_owned(),
            dc: "seoul".to_owned(),
            // It comes back with a clock that is a second behind.
            records: Some(vec![
                second(3, 1_500, 0),
                second(3, 2_500, 0),
                second(4, 6_000, 1_000),
            ]),
        };
        let range = Range {
            from_ms: 1_000,
            to_ms: 10_000,
        };
        let spans: Vec<_> = spans(&tape, range)
            .into_iter()
            .map(|span| (span.from_ms, span.to_ms, span.kind))
            .collect();
        let expected = [
            (1_500, 2_500, "up"),
            (2_500, 7_000, "down"),
            (7_000, 10_000, "up"),
        ];
        assert_eq!(spans, expected);
    }
}
