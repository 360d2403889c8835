//! Lines of a file, one at a time, of bounded length.

use std::io::{self, BufRead};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Longest line, bytes: a thousand reactions, or the longest body with every character escaped.
pub const LINE_BYTES_MAX: usize = 16 << 20;

/// The lines of one file.
pub struct Lines<R> {
    input: R,
    number: u64,
    buffer: Vec<u8>,
    /// Bytes read so far, of all files together.
    read: Arc<AtomicU64>,
}

/// A line.
pub enum Line<'l> {
    /// Without its end.
    Whole(&'l [u8]),
    /// Longer than [`LINE_BYTES_MAX`].
    TooLong,
}

impl<R: BufRead> Lines<R> {
    /// Of an input; what is read is counted.
    pub fn new(input: R, read: Arc<AtomicU64>) -> Lines<R> {
        Lines {
            input,
            number: 0,
            buffer: Vec::new(),
            read,
        }
    }

    /// The number of the last line, from 1.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// The next one; none at the end.
    ///
    /// # Errors
    /// When the file cannot be read on.
    pub fn next_line(&mut self) -> io::Result<Option<Line<'_>>> {
        self.buffer.clear();
        let (mut any, mut whole) = (false, true);
        loop {
            let available = match self.input.fill_buf() {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                read => read?,
            };
            if available.is_empty() {
                break;
            }
            any = true;
            let end = available.iter().position(|byte| *byte == b'\n');
            let (piece, used) = match end {
                Some(end) => (&available[..end], end + 1),
                None => (available, available.len()),
            };
            whole &= self.buffer.len() + piece.len() <= LINE_BYTES_MAX;
            if whole {
                self.buffer.extend_from_slice(piece);
            }
            self.input.consume(used);
            self.read.fetch_add(used as u64, Ordering::Relaxed);
            if end.is_some() {
                break;
            }
        }
        if !any {
            return Ok(None);
        }
        self.number += 1;
        if !whole {
            return Ok(Some(Line::TooLong));
        }
        let mut line = self.buffer.as_slice();
        if self.number == 1 {
            line = line.strip_prefix(b"\xef\xbb\xbf").unwrap_or(line);
        }
        Ok(Some(Line::Whole(line.strip_suffix(b"\r").unwrap_or(line))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_end_with_either_end_and_a_long_one_is_passed_over() {
        let long = "x".repeat(LINE_BYTES_MAX + 1);
        let text = format!("\u{feff}one\r\n\n{long}\nlast");
        let read = Arc::new(AtomicU64::new(0));
        let mut lines = Lines::new(io::Cursor::new(text.clone()), Arc::clone(&read));
        let mut found = Vec::new();
        while let Some(line) = lines.next_line().unwrap() {
            found.push(match line {
                Line::Whole(line) => String::from_utf8(line.to_vec()).unwrap(),
                Line::TooLong => "too long".to_owned(),
            });
        }
        assert_eq!(found, ["one", "", "too long", "last"]);
        assert_eq!(read.load(Ordering::Relaxed), text.len() as u64);
    }
}
