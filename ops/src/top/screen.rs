//! The screen: what is the same on every page, around the page.
//!
//! ```text
//!  firebreak top   [1 Now]  2 Shards  3 Jobs               the time
//!  the sentence
//!  who told it, and how old that is
//!  ───────────────
//!  the page, scrolled
//!  the keys
//! ```

use std::cell::Cell as Shared;
use std::time::Duration;

use ratatui::Frame;
use ratatui::style::{Color, Modifier};
use ratatui::text::{Line, Span, Text};
use server::sight::api::SeenBy;
use server::sight::verdict::{Verdict, span};
use tokio::time::Instant;

use super::page;
use super::table::{cut, width, wrap};
use super::{Looked, PagesSeen};

/// From this age on, what is shown is told to be old.
const OLD: Duration = Duration::from_secs(4);
/// Lines of the sentence that are shown, and where the page below says all of it at length.
const SENTENCE_ROWS: usize = 4;
const SENTENCE_ROWS_AGAIN: usize = 2;
/// A narrower terminal shows a part of what is drawn for this width.
const ROOM_MIN: usize = 20;

/// A page.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Page {
    /// What is wrong, data centers, nodes.
    Now,
    /// Every shard.
    Shards,
    /// What is under way.
    Jobs,
}

impl Page {
    const ALL: [(Page, &str); 3] = [
        (Page::Now, "1 Now"),
        (Page::Shards, "2 Shards"),
        (Page::Jobs, "3 Jobs"),
    ];

    /// The one to the right; behind the last comes the first.
    pub fn next(self) -> Page {
        match self {
            Page::Now => Page::Shards,
            Page::Shards => Page::Jobs,
            Page::Jobs => Page::Now,
        }
    }
}

/// How things look; without colours they are told by words and marks alone.
#[derive(Clone, Copy)]
pub struct Style {
    colour: bool,
}

impl Style {
    /// With colours or without.
    pub fn of(colour: bool) -> Style {
        Style { colour }
    }

    fn in_colour(self, colour: Color) -> ratatui::style::Style {
        match self.colour {
            true => ratatui::style::Style::new().fg(colour),
            false => ratatui::style::Style::new(),
        }
    }

    /// Something stands still.
    pub fn bad(self) -> ratatui::style::Style {
        self.in_colour(Color::Red).add_modifier(Modifier::BOLD)
    }

    /// Something is lost.
    pub fn warn(self) -> ratatui::style::Style {
        self.in_colour(Color::Yellow)
    }

    /// All is well.
    pub fn good(self) -> ratatui::style::Style {
        self.in_colour(Color::Green)
    }

    /// One of several, by number.
    pub fn of_many(self, number: usize) -> ratatui::style::Style {
        let colours = [
            Color::Cyan,
            Color::Magenta,
            Color::Blue,
            Color::Green,
            Color::Yellow,
        ];
        self.in_colour(colours[number % colours.len()])
    }

    /// A heading.
    pub fn head(self) -> ratatui::style::Style {
        ratatui::style::Style::new().add_modifier(Modifier::BOLD)
    }

    /// What only explains.
    pub fn dim(self) -> ratatui::style::Style {
        ratatui::style::Style::new().add_modifier(Modifier::DIM)
    }

    fn of_verdict(self, verdict: Verdict) -> ratatui::style::Style {
        match verdict {
            Verdict::Whole => self.good(),
            Verdict::Degraded => self.warn().add_modifier(Modifier::BOLD),
            Verdict::NotServing => self.bad(),
        }
    }
}

/// What is shown, and how.
pub struct App {
    /// The time, for people.
    pub at: String,
    page: Page,
    asked: String,
    pub(super) style: Style,
    seen: Option<(PagesSeen, Instant)>,
    /// Nobody answered at the last look.
    silent: bool,
    sorts: [usize; 3],
    scrolls: [usize; 3],
    /// As the last drawing had it.
    rows: Shared<(u16, usize)>,
}

impl App {
    /// Of nothing seen yet; `asked` says who is asked.
    pub fn new(page: Page, asked: String, style: Style) -> App {
        App {
            at: String::new(),
            page,
            asked,
            style,
            seen: None,
            silent: false,
            sorts: [0; 3],
            scrolls: [0; 3],
            rows: Shared::new((0, 0)),
        }
    }

    /// Takes in a look; what was seen before stays when nobody answers.
    pub fn take(&mut self, looked: Looked) {
        match looked {
            Looked::Seen(seen, at) => {
                self.seen = Some((*seen, at));
                self.silent = false;
            }
            Looked::Silent => self.silent = true,
        }
    }

    /// The page that is shown.
    pub fn page(&self) -> Page {
        self.page
    }

    /// Shows a page.
    pub fn turn(&mut self, page: Page) {
        self.page = page;
    }

    /// Sorts the page in the next way there is.
    pub fn sort(&mut self) {
        let sorts = page::sorts(self.page).len();
        let sort = &mut self.sorts[self.page as usize];
        *sort = (*sort + 1) % sorts.max(1);
    }

    /// Lines of the page that fit on the screen.
    pub fn body_rows(&self) -> u16 {
        self.rows.get().0
    }

    /// Scrolls the page by so many lines.
    pub fn scroll(&mut self, lines: i32) {
        let (rows, all) = self.rows.get();
        let most = all.saturating_sub(usize::from(rows));
        let scroll = &mut self.scrolls[self.page as usize];
        let by = usize::try_from(lines.unsigned_abs()).unwrap_or(usize::MAX);
        *scroll = match lines < 0 {
            true => scroll.saturating_sub(by),
            false => scroll.saturating_add(by).min(most),
        };
    }

    /// Draws all of it.
    pub fn draw(&self, frame: &mut Frame<'_>) {
        let area = frame.area();
        let room = usize::from(area.width).saturating_sub(1).max(ROOM_MIN);
        let mut top = self.top(room);
        let body = self.body(room);
        let height = usize::from(area.height);
        let rows = height.saturating_sub(top.len() + 1);
        let most = body.len().saturating_sub(rows);
        let scroll = self.scrolls[self.page as usize].min(most);
        self.rows
            .set((u16::try_from(rows).unwrap_or(u16::MAX), body.len()));
        let range = (scroll, (scroll + rows).min(body.len()), body.len());
        top.extend(body.into_iter().skip(scroll).take(rows));
        top.resize(height.saturating_sub(1), Line::default());
        top.push(self.keys(range, room));
        frame.render_widget(Text::from(top), area);
    }

    fn top(&self, room: usize) -> Vec<Line<'static>> {
        let mut lines = vec![self.pages(room)];
        let Some((seen, at)) = &self.seen else {
            let words = match self.silent {
                true => format!("NOT SERVING: no node answers; {}", self.asked),
                false => format!("asking the nodes; {}", self.asked),
            };
            let style = if self.silent {
                self.style.bad()
            } else {
                self.style.dim()
            };
            let words = wrap(&words, room - 1, 0);
            lines.extend(
                words
                    .into_iter()
                    .map(|line| Line::styled(format!(" {line}"), style)),
            );
            return lines;
        };
        let age = at.elapsed();
        if self.silent {
            let since = span(u64::try_from(age.as_millis()).unwrap_or(u64::MAX));
            let words = format!(
                "NO NODE ANSWERS; {}. What is below was seen {since} ago.",
                self.asked
            );
            let words = wrap(&words, room - 1, 0);
            let styled = |line| Line::styled(format!(" {line}"), self.style.bad());
            lines.extend(words.into_iter().map(styled));
        }
        let style = self.style.of_verdict(seen.now.verdict);
        let mut sentence = wrap(&seen.now.sentence, room - 1, 0);
        // Of a cluster that serves, its end says what must not be lost now.
        let again = self.page == Page::Now && seen.now.verdict == Verdict::NotServing;
        let rows = match again {
            true => SENTENCE_ROWS_AGAIN,
            false => SENTENCE_ROWS,
        };
        if sentence.len() > rows {
            sentence.truncate(rows);
            if let Some(last) = sentence.last_mut() {
                *last = cut(&format!("{last} …"), room - 1);
            }
        }
        lines.extend(
            sentence
                .into_iter()
                .map(|line| Line::styled(format!(" {line}"), style)),
        );
        lines.push(self.told(&seen.now.seen_by, seen.now.map_epoch, age, room));
        lines.push(Line::styled("─".repeat(room + 1), self.style.dim()));
        lines
    }

    fn pages(&self, room: usize) -> Line<'static> {
        let mut spans = vec![Span::styled(" firebreak top ", self.style.head())];
        for (page, name) in Page::ALL {
            spans.push(match page == self.page {
                true => Span::styled(format!(" [{name}]"), self.style.head()),
                false => Span::raw(format!("  {name} ")),
            });
        }
        let line = Line::from(spans);
        let time = self.at.replace('T', " ").replace('Z', " UTC");
        let blanks = room.saturating_sub(line.width() + width(&time));
        match blanks {
            0 => line,
            blanks => {
                let mut line = line;
                line.push_span(Span::styled(" ".repeat(blanks) + &time, self.style.dim()));
                line
            }
        }
    }

    /// Whose view it is, and how old.
    fn told(&self, by: &SeenBy, epoch: u64, age: Duration, room: usize) -> Line<'static> {
        let old = age > OLD;
        let age = match old {
            true => span(u64::try_from(age.as_millis()).unwrap_or(u64::MAX)),
            false => format!("{} ms", by.age_ms),
        };
        let words = format!(
            "told by {} of {} nodes, at most {age} old; map epoch {epoch}",
            by.answered, by.nodes
        );
        let style = if old {
            self.style.bad()
        } else {
            self.style.dim()
        };
        Line::styled(format!(" {}", cut(&words, room - 1)), style)
    }

    fn body(&self, room: usize) -> Vec<Line<'static>> {
        let Some((seen, _)) = &self.seen else {
            return Vec::new();
        };
        let sort = self.sorts[self.page as usize];
        match self.page {
            Page::Now => page::now(&seen.now, sort, room, self.style),
            Page::Shards => page::shards(&seen.shards, sort, room, self.style),
            Page::Jobs => page::jobs(&seen.jobs, room, self.style),
        }
    }

    fn keys(&self, (from, to, all): (usize, usize, usize), room: usize) -> Line<'static> {
        let mut words = String::from(" q quit  1-3 pages");
        if let Some(sort) = page::sorts(self.page).get(self.sorts[self.page as usize]) {
            words.push_str(&format!("  s sort: {sort}"));
        }
        if to - from < all {
            words.push_str(&format!("  ↑↓ lines {}-{to} of {all}", from + 1));
        }
        let words = cut(&words, room);
        let style = ratatui::style::Style::new().add_modifier(Modifier::REVERSED);
        Line::styled(format!("{words:<width$}", width = room + 1), style)
    }
}
