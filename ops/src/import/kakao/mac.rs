//! The CSV of macOS: `Date,User,Message`.

use std::io::BufRead;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use firebreak::corpus::parse_time;

use super::{Given, Maker, Spoken};
use crate::import::record::{At, Bad, Record, tame};

/// The records of one file.
pub struct Mac<R> {
    rows: csv::Reader<R>,
    file: Arc<str>,
    maker: Maker,
    title: Option<String>,
    over: bool,
    read: Arc<AtomicU64>,
}

impl<R: BufRead> Mac<R> {
    /// Of an input. The file does not name its chat: its own name does.
    pub fn new(
        input: R,
        file: Arc<str>,
        given: &Given,
        path: &Path,
        read: Arc<AtomicU64>,
    ) -> Mac<R> {
        let name = path.file_stem().unwrap_or_default().to_string_lossy();
        let title = tame(&name, 256);
        Mac {
            rows: csv::ReaderBuilder::new().flexible(true).from_reader(input),
            file,
            maker: Maker::new(given, &title),
            title: Some(title),
            over: false,
            read,
        }
    }
}

impl<R: BufRead> Iterator for Mac<R> {
    type Item = Result<Record, Bad>;

    fn next(&mut self) -> Option<Self::Item> {
        let at = |line| At {
            file: Arc::clone(&self.file),
            line,
        };
        if let Some(title) = self.title.take() {
            return Some(Ok(self.maker.begin(&title, at(1))));
        }
        if self.over {
            return None;
        }
        let mut row = csv::StringRecord::new();
        let read = self.rows.read_record(&mut row);
        let position = row.position().or(Some(self.rows.position()));
        let at = at(position.map_or(0, csv::Position::line));
        self.read
            .store(self.rows.position().byte(), Ordering::Relaxed);
        let reason = match read {
            Ok(false) => return None,
            Ok(true) if row.len() == 3 => {
                // As RFC 3339 has it, the chat's clock taken for UTC.
                match parse_time(&format!("{}Z", &row[0])) {
                    Ok(local_ms) => {
                        return Some(self.maker.said(Spoken {
                            local_ms,
                            sender: Some(row[1].to_owned()).filter(|sender| !sender.is_empty()),
                            text: row[2].to_owned(),
                            at,
                        }));
                    }
                    Err(_) => format!("{:?} is no time of the form 2022-10-14 14:01:22", &row[0]),
                }
            }
            Ok(true) => format!(
                "has {} columns; Date, User and Message are needed",
                row.len()
            ),
            Err(error) if error.is_io_error() => {
                self.over = true;
                format!("the file cannot be read on from here: {error}")
            }
            Err(error) => error.to_string(),
        };
        Some(Err(Bad { at, reason }))
    }
}
