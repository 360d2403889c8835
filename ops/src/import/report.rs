//! What became of an import, for people and for the report file.

use std::sync::Arc;

use comfy_table::{CellAlignment, Table};
use parking_lot::Mutex;
use serde::Serialize;

use super::record::{At, Bad};
use crate::cmd::target::new_table;

/// Records named in the report, of each sort.
const REPORTED_MAX: usize = 100_000;
/// Records named on the terminal.
const NAMED_MAX: usize = 20;

/// A record that is not imported, or not wholly.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Left {
    /// Its file.
    pub file: String,
    /// Its line, from 1; 0 = the file as a whole.
    pub line: u64,
    /// What is wrong with it.
    pub reason: String,
}

/// What became of an import.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Report {
    /// What was given.
    pub file: String,
    /// Into which tenant.
    pub tenant: String,
    /// Conversations that were in it.
    pub conversations: u64,
    /// Messages appended.
    pub imported: u64,
    /// Messages that an import before had appended.
    pub already_there: u64,
    /// Edits noted.
    pub edited: u64,
    /// Messages erased as they were there.
    pub erased: u64,
    /// Reactions set, or set already.
    pub reactions: u64,
    /// Records that are wrong.
    pub bad: u64,
    /// Records that the cluster refused, or did not take in time.
    pub failed: u64,
    /// Records of which something was left out.
    pub notes: u64,
    /// How long it took.
    pub seconds: f64,
    /// Messages a second.
    pub msgs_per_s: f64,
    /// It ended before its end.
    pub interrupted: bool,
    /// The bad ones; of very many the first.
    pub bad_records: Vec<Left>,
    /// The failed ones; of very many the first.
    pub failed_records: Vec<Left>,
    /// What was left out; of very much the first.
    pub noted_records: Vec<Left>,
}

/// A report that is written by many.
#[derive(Clone, Default)]
pub struct Book(Arc<Mutex<Report>>);

impl Left {
    fn new(at: &At, reason: String) -> Left {
        Left {
            file: at.file.to_string(),
            line: at.line,
            reason,
        }
    }
}

fn keep(list: &mut Vec<Left>, at: &At, reason: String) {
    if list.len() < REPORTED_MAX {
        list.push(Left::new(at, reason));
    }
}

impl Book {
    /// Changes it.
    pub fn note(&self, change: impl FnOnce(&mut Report)) {
        change(&mut self.0.lock());
    }

    /// A record that is wrong.
    pub fn bad(&self, bad: Bad) {
        let mut report = self.0.lock();
        report.bad += 1;
        keep(&mut report.bad_records, &bad.at, bad.reason);
    }

    /// A record that the cluster did not take.
    pub fn failed(&self, at: &At, reason: String) {
        let mut report = self.0.lock();
        report.failed += 1;
        keep(&mut report.failed_records, at, reason);
    }

    /// Something of a record that was left out.
    pub fn left_out(&self, at: &At, what: String) {
        let mut report = self.0.lock();
        report.notes += 1;
        keep(&mut report.noted_records, at, what);
    }

    /// As it is now, without what is long.
    pub fn counts(&self) -> (u64, u64) {
        let report = self.0.lock();
        (report.imported + report.already_there, report.conversations)
    }

    /// All of it.
    pub fn close(&self) -> Report {
        std::mem::take(&mut self.0.lock())
    }
}

impl Report {
    /// For people: the counts, then what is not in and why.
    pub fn table(&self) -> Table {
        let mut table = new_table(&[
            "conversations",
            "imported",
            "already there",
            "edited",
            "erased",
            "reactions",
            "bad",
            "failed",
            "msgs/s",
        ]);
        table.add_row([
            self.conversations.to_string(),
            self.imported.to_string(),
            self.already_there.to_string(),
            self.edited.to_string(),
            self.erased.to_string(),
            self.reactions.to_string(),
            self.bad.to_string(),
            self.failed.to_string(),
            format!("{:.0}", self.msgs_per_s),
        ]);
        for column in table.column_iter_mut() {
            column.set_cell_alignment(CellAlignment::Right);
        }
        table
    }

    /// The first records that are not in, one a line.
    pub fn named(&self) -> Vec<String> {
        let sorts = [
            ("not imported: ", &self.bad_records),
            ("not imported: ", &self.failed_records),
            ("", &self.noted_records),
        ];
        let all = sorts.iter().flat_map(|(what, list)| {
            list.iter().map(move |left| {
                let reason = model::text::printable(&left.reason);
                format!("{}:{}: {what}{reason}", left.file, left.line)
            })
        });
        let mut named: Vec<String> = all.take(NAMED_MAX + 1).collect();
        if named.len() > NAMED_MAX {
            named[NAMED_MAX] = "… and more; --report FILE.json names them all".to_owned();
        }
        named
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_is_named_by_file_line_and_reason_and_not_without_bound() {
        let book = Book::default();
        let at = |line| At {
            file: Arc::from("chat.txt"),
            line,
        };
        book.bad(Bad {
            at: at(7),
            reason: "is wrong".into(),
        });
        for line in 0..99 {
            book.left_out(&at(line), "no reply".into());
        }
        let report = book.close();
        assert_eq!((report.bad, report.notes), (1, 99));
        let named = report.named();
        assert_eq!(named[0], "chat.txt:7: not imported: is wrong");
        assert_eq!(named.len(), NAMED_MAX + 1);
    }
}
