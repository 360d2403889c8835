//! Text in columns and paragraphs that fit a width, for any width.

use ratatui::style::Style;
use ratatui::text::{Line, Span};

/// Between two columns.
const GAP: usize = 2;

/// A column.
pub struct Column {
    /// What stands above it.
    pub head: &'static str,
    /// Numbers stand at the right.
    pub right: bool,
    /// Where there is too little room, columns of the highest rank go first; those of 0 stay.
    pub rank: u8,
}

/// A cell.
#[derive(Clone, Default)]
pub struct Cell {
    /// What it says.
    pub text: String,
    /// How it looks.
    pub style: Style,
}

impl Cell {
    /// Of a text.
    pub fn of(text: impl Into<String>) -> Cell {
        Cell {
            text: text.into(),
            style: Style::new(),
        }
    }

    /// Of a text that looks so.
    pub fn styled(text: impl Into<String>, style: Style) -> Cell {
        Cell {
            text: text.into(),
            style,
        }
    }
}

/// How many columns of a terminal a text takes.
pub fn width(text: &str) -> usize {
    Span::raw(text).width()
}

/// A text that takes `max` columns at most.
pub fn cut(text: &str, max: usize) -> String {
    if width(text) <= max {
        return text.to_owned();
    }
    let mut kept = String::new();
    for c in text.chars() {
        kept.push(c);
        if width(&kept) + 1 > max {
            kept.pop();
            break;
        }
    }
    kept.push('…');
    kept
}

/// A table as lines, `room` columns wide at most.
pub fn table(
    columns: &[Column],
    rows: &[Vec<Cell>],
    room: usize,
    head: Style,
) -> Vec<Line<'static>> {
    let mut widths: Vec<usize> = columns.iter().map(|column| width(column.head)).collect();
    for row in rows {
        for (known, cell) in widths.iter_mut().zip(row) {
            *known = (*known).max(width(&cell.text));
        }
    }
    let mut shown: Vec<usize> = (0..columns.len()).collect();
    let takes = |shown: &[usize], widths: &[usize]| {
        let sum: usize = shown.iter().map(|at| widths[*at]).sum();
        sum + GAP * shown.len().saturating_sub(1)
    };
    while takes(&shown, &widths) > room {
        let last = shown
            .iter()
            .copied()
            .max_by_key(|at| (columns[*at].rank, *at));
        match last.filter(|at| columns[*at].rank > 0) {
            Some(at) => shown.retain(|one| *one != at),
            None => break,
        }
    }
    // What is still too wide is cut where it is widest.
    while takes(&shown, &widths) > room {
        // Of two, words rather than numbers.
        let widest = shown.iter().copied();
        let widest = widest.max_by_key(|at| (widths[*at], !columns[*at].right));
        match widest.filter(|at| widths[*at] > 1) {
            Some(at) => widths[at] -= 1,
            None => break,
        }
    }
    let line = |cells: Vec<(String, Style)>| {
        let mut spans = Vec::new();
        for (n, at) in shown.iter().enumerate() {
            let (text, style) = &cells[*at];
            let text = cut(text, widths[*at]);
            let pad = " ".repeat(widths[*at].saturating_sub(width(&text)));
            let last = n + 1 == shown.len();
            let gap = if n > 0 {
                " ".repeat(GAP)
            } else {
                String::new()
            };
            match columns[*at].right {
                true => spans.push(Span::raw(gap + &pad)),
                false => spans.push(Span::raw(gap)),
            }
            spans.push(Span::styled(text, *style));
            if !columns[*at].right && !last {
                spans.push(Span::raw(pad));
            }
        }
        Line::from(spans)
    };
    let heads = columns.iter().map(|column| (column.head.to_owned(), head));
    let mut lines = vec![line(heads.collect())];
    lines.extend(rows.iter().map(|row| {
        let cells = row.iter().map(|cell| (cell.text.clone(), cell.style));
        line(cells.collect())
    }));
    lines
}

/// A text over as many lines as it takes; those behind the first begin with `indent` blanks.
pub fn wrap(text: &str, room: usize, indent: usize) -> Vec<String> {
    let room = room.max(indent + 8);
    let mut lines: Vec<String> = Vec::new();
    let mut line = String::new();
    let mut empty = true;
    for word in text.split_whitespace() {
        let fits = width(&line) + usize::from(!empty) + width(word) <= room;
        if !fits && !empty {
            lines.push(std::mem::replace(&mut line, " ".repeat(indent)));
            empty = true;
        }
        if !empty {
            line.push(' ');
        }
        line.push_str(&cut(word, room - indent));
        empty = false;
    }
    lines.push(line);
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(lines: &[Line<'_>]) -> Vec<String> {
        lines.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn columns_are_aligned_and_the_least_needed_go_first() {
        let column = |head, right, rank| Column { head, right, rank };
        let columns = [
            column("node", false, 0),
            column("leads", true, 0),
            column("rack", false, 2),
            column("dc", false, 1),
        ];
        let row = |texts: [&str; 4]| texts.iter().map(|text| Cell::of(*text)).collect::<Vec<_>>();
        let rows = [
            row(["서울-1", "5", "r1", "seoul"]),
            row(["b", "12", "r2", "busan"]),
        ];
        let at = |room| text(&table(&columns, &rows, room, Style::new()));
        assert_eq!(
            at(80),
            [
                "node    leads  rack  dc",
                "서울-1      5  r1    seoul",
                "b          12  r2    busan"
            ]
        );
        assert_eq!(at(22)[1], "서울-1      5  seoul");
        assert_eq!(at(14)[1], "서울-1      5");
        assert_eq!(at(11), ["node  leads", "서…       5", "b        12"]);
    }

    #[test]
    fn a_long_text_goes_on_below_with_its_indent() {
        assert_eq!(
            wrap("one two three four", 13, 2),
            ["one two three", "  four"]
        );
        assert_eq!(wrap("", 9, 2), [""]);
        assert_eq!(wrap("abcdefghijklmnop q", 10, 2), ["abcdefg… q"]);
    }
}
