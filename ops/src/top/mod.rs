//! `firebreak top`: the console's pages Now, Shards and Jobs on a terminal, with the same words and JSON.
//!
//! ```text
//!  every second: all nodes ─► Look ─► server::sight::api (Now, Shards, Jobs) ─► screen ─► terminal
//!                                                           keys ─► App ────────┘
//! ```
//!
//! It asks the nodes itself, so it needs no node in particular: whoever is left answers.

mod page;
mod screen;
mod table;

use std::collections::BTreeMap;
use std::io::{self, IsTerminal as _};
use std::process::ExitCode;
use std::time::{Duration, SystemTime};

use anyhow::Context as _;
use client::Client;
use client::v1::GetStatusRequest;
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use serde::Serialize;
use server::sight::api::jobs::Jobs;
use server::sight::api::now::Now;
use server::sight::api::shards::Shards;
use server::sight::api::{Look, whatif};
use server::sight::report::Report;
use server::sight::verdict::Judged;
use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior, interval};

use crate::cmd::target::{Target, colour};
use crate::cmd::{map, status};
use crate::exit::Usage;
use crate::stop::Stop;
use screen::{App, Page, Style};

const EXAMPLES: &str = "\
Examples:
  firebreak top
  firebreak top --target seoul-1:7001,busan-1:7001 --page shards
  firebreak top --json | jq .now.problems      one document, and no screen

Keys: 1 2 3 or Tab for the pages, s to sort, up and down to scroll, q to leave.
It asks all nodes each second, and goes on with those that are left.
Exit codes: 0 left with q; 1 failed; 2 wrong arguments, or standard output is no terminal (`firebreak status
--watch` is for that). With --json as `firebreak status`: 0 whole, 1 not serving, 3 degraded, but serving.";

/// Watch the cluster live: what is wrong, shards, and what is under way.
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// The page to begin with
    #[arg(long, value_enum, default_value_t = Page::Now)]
    page: Page,
    /// Print all pages as one JSON document, and end
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    target: Target,
}

/// Between two looks.
const EVERY: Duration = Duration::from_secs(1);
/// How long a node may take to say how it is.
const LIMIT: Duration = Duration::from_secs(1);
/// How long to look for a node that answers at all.
const DEADLINE: Duration = Duration::from_secs(5);
/// How often the keyboard's thread looks whether it is still wanted.
const KEYS_LOOK: Duration = Duration::from_millis(250);
/// Who says what is shown.
const ASKER: &str = "firebreak top";

/// What was seen at one moment.
#[derive(Serialize)]
pub struct PagesSeen {
    /// The page Now.
    pub now: Now,
    /// The page Shards.
    pub shards: Shards,
    /// The page Jobs.
    pub jobs: Jobs,
}

impl PagesSeen {
    /// Of what the nodes said.
    pub fn of(reports: Vec<Report>, at_ms: u64, taken: Instant) -> PagesSeen {
        let look = Look::of(reports, at_ms, taken);
        let losses = match look.reports.iter().any(|one| one.status.is_ok()) {
            true => whatif::losses_of(&look),
            false => BTreeMap::new(),
        };
        let by = || look.seen_by(ASKER);
        PagesSeen {
            now: Now::told(by(), env!("CARGO_PKG_VERSION"), &look, &losses),
            shards: Shards::told(by(), &look),
            jobs: Jobs::told(by(), &look),
        }
    }
}

/// What a look came to.
pub enum Looked {
    /// Some nodes answered.
    Seen(Box<PagesSeen>, Instant),
    /// None did.
    Silent,
}

impl Args {
    /// Runs the command.
    ///
    /// # Errors
    /// As exit codes tell.
    pub async fn run(self) -> anyhow::Result<ExitCode> {
        if !self.json && !io::stdout().is_terminal() {
            let instead = "standard output is no terminal: `firebreak status --watch` prints a line for \
                           each look, and `firebreak top --json` one document";
            return Err(Usage(instead.to_owned()).into());
        }
        let client = self.target.client(DEADLINE).await?;
        match self.json {
            true => self.print(&client).await,
            false => self.show(client).await,
        }
    }

    async fn print(&self, client: &Client) -> anyhow::Result<ExitCode> {
        let (at_ms, taken) = (unix_ms(), Instant::now());
        let reports = match status::settled(client).await {
            Ok(reports) => reports,
            Err(error @ client::Error::Refused(_)) => {
                return Err(anyhow::Error::new(error).context(self.target.asked()));
            }
            Err(_) => {
                let judged = Judged::silent(&self.target.asked());
                let document = serde_json::json!({
                    "verdict": judged.verdict, "sentence": judged.sentence,
                    "now": null, "shards": null, "jobs": null,
                });
                println!("{}", serde_json::to_string_pretty(&document)?);
                return Ok(ExitCode::from(judged.verdict.exit_code()));
            }
        };
        let seen = PagesSeen::of(reports, at_ms, taken);
        println!("{}", serde_json::to_string_pretty(&seen)?);
        Ok(ExitCode::from(seen.now.verdict.exit_code()))
    }

    async fn show(&self, client: Client) -> anyhow::Result<ExitCode> {
        let mut stop = Stop::listen().context("cannot listen for signals")?;
        let (looked, mut looks) = mpsc::channel(1);
        let looking = tokio::spawn(look(client, looked));
        let mut terminal = ratatui::try_init().context("the terminal cannot be drawn on")?;
        let mut keys = keyboard();
        let mut ticks = interval(EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut app = App::new(self.page, self.target.asked(), Style::of(colour()));
        let ended = loop {
            app.at = humantime::format_rfc3339_seconds(SystemTime::now()).to_string();
            if let Err(error) = terminal.draw(|frame| app.draw(frame)) {
                break Err(error).context("the terminal cannot be drawn on");
            }
            tokio::select! {
                biased;
                () = stop.asked() => break Ok(()),
                key = keys.recv() => match key {
                    Some(event) if !heed(&mut app, &event) => break Ok(()),
                    Some(_) => {}
                    None => break Err(anyhow::anyhow!("the keyboard cannot be read")),
                },
                Some(now) = looks.recv() => app.take(now),
                _ = ticks.tick() => {}
            }
        };
        ratatui::restore();
        looking.abort();
        ended.map(|()| ExitCode::SUCCESS)
    }
}

/// Asks all nodes, again and again.
async fn look(client: Client, looked: mpsc::Sender<Looked>) {
    let mut ticks = interval(EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let (at_ms, taken) = (unix_ms(), Instant::now());
        let asked = GetStatusRequest {
            with_heat: true,
            ..Default::default()
        };
        let now = match client.status_all_with(LIMIT, asked).await {
            Ok(reports) => {
                let reports = reports.into_iter().map(map::told).collect();
                let seen = PagesSeen::of(reports, at_ms, taken);
                Looked::Seen(Box::new(seen), taken)
            }
            Err(_) => Looked::Silent,
        };
        if looked.send(now).await.is_err() {
            return;
        }
    }
}

/// The keyboard, read on a thread of its own. It ends with who listens to it.
fn keyboard() -> mpsc::Receiver<Event> {
    let (pressed, keys) = mpsc::channel(16);
    std::thread::spawn(move || {
        while !pressed.is_closed() {
            let event = match event::poll(KEYS_LOOK) {
                Ok(false) => continue,
                Ok(true) => event::read(),
                Err(error) => Err(error),
            };
            let Ok(event) = event else { return };
            if pressed.blocking_send(event).is_err() {
                return;
            }
        }
    });
    keys
}

/// Does what a key says; false to leave.
fn heed(app: &mut App, event: &Event) -> bool {
    let Event::Key(KeyEvent {
        code,
        modifiers,
        kind: KeyEventKind::Press | KeyEventKind::Repeat,
        ..
    }) = event
    else {
        return true;
    };
    let control = modifiers.contains(KeyModifiers::CONTROL);
    match code {
        KeyCode::Char('c' | 'd') if control => return false,
        KeyCode::Char('q') | KeyCode::Esc => return false,
        KeyCode::Char('1') => app.turn(Page::Now),
        KeyCode::Char('2') => app.turn(Page::Shards),
        KeyCode::Char('3') => app.turn(Page::Jobs),
        KeyCode::Tab | KeyCode::Right => app.turn(app.page().next()),
        KeyCode::BackTab | KeyCode::Left => app.turn(app.page().next().next()),
        KeyCode::Char('s') => app.sort(),
        KeyCode::Up | KeyCode::Char('k') => app.scroll(-1),
        KeyCode::Down | KeyCode::Char('j') => app.scroll(1),
        KeyCode::PageUp => app.scroll(-i32::from(app.body_rows())),
        KeyCode::PageDown | KeyCode::Char(' ') => app.scroll(i32::from(app.body_rows())),
        KeyCode::Home | KeyCode::Char('g') => app.scroll(i32::MIN),
        KeyCode::End | KeyCode::Char('G') => app.scroll(i32::MAX),
        _ => {}
    }
    true
}

fn unix_ms() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    u64::try_from(since.unwrap_or_default().as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
