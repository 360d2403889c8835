//! Evidence: the smallest few cases, and the words for operations in them. Times are milliseconds
//! after the load began, as in the report's timeline.

use super::Case;
use super::facts::Witness;
use crate::history::{Append, AppendEnd, Level};
use crate::outcome::{Broken, Finding, Promise};

/// The most evidence that a [`Finding`] holds.
pub const BROKEN_MAX: usize = 5;

/// A finding in the making. Keeps the smallest evidence: fewest operations first, then earliest.
pub(super) struct Found {
    oracle: &'static str,
    promise: Promise,
    looked_at: u64,
    /// Operations, time, text; sorted, at most [`BROKEN_MAX`].
    kept: Vec<(usize, u64, String)>,
}

impl Found {
    pub(super) fn of(oracle: &'static str, promise: Promise) -> Found {
        Found {
            oracle,
            promise,
            looked_at: 0,
            kept: Vec::new(),
        }
    }

    /// That `cases` more were looked at.
    pub(super) fn looked_at(&mut self, cases: usize) {
        self.looked_at += cases as u64;
    }

    /// Evidence of so many operations, complete at `at_us`. The text is made only if it is kept.
    pub(super) fn add(&mut self, operations: usize, at_us: u64, text: impl FnOnce() -> String) {
        let place = self
            .kept
            .partition_point(|one| (one.0, one.1) <= (operations, at_us));
        if place < BROKEN_MAX {
            self.kept.insert(place, (operations, at_us, text()));
            self.kept.truncate(BROKEN_MAX);
        }
    }

    pub(super) fn finding(self) -> Finding {
        let (promise, oracle) = (self.promise, self.oracle.to_owned());
        let broken = self.kept.into_iter().map(|(_, _, evidence)| Broken {
            promise,
            oracle: oracle.clone(),
            evidence,
        });
        Finding {
            looked_at: self.looked_at,
            broken: broken.collect(),
            oracle,
        }
    }
}

/// A level's name.
pub(super) fn level(level: Level) -> String {
    match level {
        Level::Linearizable => "LINEARIZABLE".to_owned(),
        Level::Session => "SESSION".to_owned(),
        Level::Bounded { bound_ms } => format!("BOUNDED {bound_ms} ms"),
        Level::Local => "LOCAL".to_owned(),
    }
}

impl Case<'_> {
    /// A time, as `1250.125 ms` after the load began.
    pub(super) fn ms(&self, at_us: u64) -> String {
        let began = self.history.began_us;
        let (sign, us) = match at_us.checked_sub(began) {
            Some(us) => ("", us),
            None => ("-", began - at_us),
        };
        format!("{sign}{}.{:03} ms", us / 1_000, us % 1_000)
    }

    /// As `1200.000 ms to 1250.125 ms`.
    fn span(&self, from_us: u64, to_us: Option<u64>) -> String {
        let to = to_us.map_or_else(|| "never".to_owned(), |to| self.ms(to));
        format!("{} to {to}", self.ms(from_us))
    }

    /// An append, by its place in the history.
    pub(super) fn append(&self, at: usize) -> String {
        let Some(append) = self.history.appends.get(at) else {
            return format!("append number {at}");
        };
        let Append {
            sender,
            id,
            session,
            site,
            ..
        } = append;
        let span = self.span(append.invoked_us, append.returned_us);
        let end = match &append.end {
            AppendEnd::Acked { seq } => format!("acknowledged as {seq}"),
            AppendEnd::Refused { why } => format!("refused: {why}"),
            AppendEnd::Unknown { why } => format!("unknown: {why}"),
        };
        format!("append of {sender}/{id} by session {session} at {site}, {span}, {end}")
    }

    /// A read, by its place in the history.
    pub(super) fn read(&self, at: usize) -> String {
        let Some(read) = self.history.reads.get(at) else {
            return format!("read number {at}");
        };
        let span = self.span(read.invoked_us, read.returned_us);
        let (level, session, site) = (level(read.level), read.session, &read.site);
        let end = match &read.end {
            Ok(page) => format!("last_seq {} from {}", page.last_seq, page.served_by),
            Err(why) => why.clone(),
        };
        format!("{level} read by session {session} at {site}, {span}, {end}")
    }

    /// A tail, by its place in the history.
    pub(super) fn tail(&self, at: usize) -> String {
        match self.history.tails.get(at) {
            Some(tail) => format!(
                "tail of session {} at {} from {}",
                tail.session, tail.site, tail.from
            ),
            None => format!("tail number {at}"),
        }
    }

    /// A final, by its place in the history.
    pub(super) fn at_rest(&self, at: usize) -> String {
        match self.history.finals.get(at) {
            Some(found) => format!("{} at the end, {}", found.node, level(found.level)),
            None => format!("final number {at}"),
        }
    }

    /// Who saw a message.
    pub(super) fn witness(&self, at_us: u64, witness: Witness) -> String {
        match witness {
            Witness::Ack(at) => self.append(at),
            Witness::Read(at) => self.read(at),
            Witness::Tail(at) => format!("{}, {}", self.tail(at), self.ms(at_us)),
            Witness::Final(at) => self.at_rest(at),
        }
    }
}
