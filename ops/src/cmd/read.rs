//! `firebreak read`: prints a conversation.

use std::io::{self, BufWriter};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::anyhow;
use client::{Level, ListOptions};
use model::id::ConversationName;
use model::session::{Floor, Token};

use super::target::{Printer, Target, Tenant, colour, explain, quiet};
use crate::exit::Usage;

const EXAMPLES: &str = "\
Examples:
  firebreak read room-1                          all of it, oldest first
  firebreak read room-1 --desc --limit 10        the last ten
  firebreak read room-1 --from 100 --limit 50    a part of it
  firebreak read tenants/acme/conversations/x    by its whole name
  firebreak read room-1 --json | jq .text        one JSON object a line, as `import` takes them
  firebreak read room-1 --level bounded --max-staleness 2000
                                                 from any replica that is at most 2 s behind

Exit codes: 0 printed, 1 no such conversation or the cluster could not be asked,
2 wrong arguments.";

/// Print the messages of a conversation.
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// Conversation id, or a whole name tenants/{t}/conversations/{c}
    conversation: String,
    /// Begin with this seq [default: the first, or with --desc the last]
    #[arg(
        long,
        value_name = "SEQ",
        default_value_t = 0,
        hide_default_value = true
    )]
    from: u64,
    /// Print at most this many [default: all]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    limit: Option<u64>,
    /// Newest first
    #[arg(long)]
    desc: bool,
    /// One JSON object a line
    #[arg(long)]
    json: bool,
    /// How fresh: everything acknowledged so far, at least what --session has seen, at most
    /// --max-staleness old, or what the nearest replica has
    #[arg(long, value_enum, default_value_t = Freshness::Linearizable)]
    level: Freshness,
    /// With --level bounded: how old the answer may be, milliseconds
    #[arg(
        long,
        value_name = "MS",
        required_if_eq("level", "bounded"),
        value_parser = clap::value_parser!(u64).range(..=STALENESS_MS_MAX)
    )]
    max_staleness: Option<u64>,
    /// With --level session: a token that an earlier read of the conversation printed
    #[arg(long, value_name = "TOKEN")]
    session: Option<String>,
    #[command(flatten)]
    tenant: Tenant,
    #[command(flatten)]
    target: Target,
}

#[derive(Clone, Copy, PartialEq, clap::ValueEnum)]
enum Freshness {
    Linearizable,
    Session,
    Bounded,
    Local,
}

/// Who answered, and how old the answer is.
fn origin(page: &client::Page) -> String {
    let by = match page.served_by.as_str() {
        "" => String::new(),
        node => format!(", read from {node}"),
    };
    match page.staleness {
        Some(age) => format!("{by}, at most {} ms old", age.as_micros().div_ceil(1_000)),
        None => by,
    }
}

/// The longest bound that a read may have: a day.
const STALENESS_MS_MAX: u64 = 86_400_000;
const PAGE: u64 = 500;
const DEADLINE: Duration = Duration::from_secs(10);

impl Args {
    /// Runs the command.
    ///
    /// # Errors
    /// No such conversation, wrong arguments, or the cluster could not be asked.
    pub async fn run(self) -> anyhow::Result<ExitCode> {
        quiet(self.print().await)
    }

    /// How fresh, where what was given fits together.
    fn level(&self, name: &ConversationName) -> anyhow::Result<Level> {
        let usage = |why: String| Err(anyhow!(Usage(why)));
        if self.max_staleness.is_some() && self.level != Freshness::Bounded {
            return usage("--max-staleness is a bound of --level bounded; give that, too".into());
        }
        if self.session.is_some() && self.level != Freshness::Session {
            return usage("--session is a token for --level session; give that, too".into());
        }
        Ok(match self.level {
            Freshness::Linearizable => Level::Linearizable,
            Freshness::Session => {
                let text = self.session.clone().unwrap_or_default();
                let token = match Token::decode(&text) {
                    Ok(token) => token,
                    Err(error) => return usage(format!("--session {error}")),
                };
                if !token.is_empty() && token.floor(name.key().slot()) == Floor::Revision(0) {
                    return usage(format!(
                        "--session is the token of another conversation: it says nothing of {name}"
                    ));
                }
                Level::Session(text)
            }
            Freshness::Bounded => {
                Level::Bounded(Duration::from_millis(self.max_staleness.unwrap_or(0)))
            }
            Freshness::Local => Level::Local,
        })
    }

    async fn print(&self) -> anyhow::Result<ExitCode> {
        let name = self.tenant.conversation(&self.conversation)?;
        let level = self.level(&name)?;
        let client = self.target.client(DEADLINE).await?;
        let mut left = self.limit.unwrap_or(u64::MAX);
        let options = ListOptions {
            page_size: u32::try_from(left.clamp(1, PAGE)).unwrap_or(0),
            descending: self.desc,
            start_seq: self.from,
            level,
            ..ListOptions::default()
        };
        let mut pages = client.pages(name.as_str(), options);
        let mut printer = None;
        let (mut printed, mut last_seq, mut by) = (0_u64, 0, String::new());
        let mut token = String::new();
        while left > 0 {
            let page = pages
                .next()
                .await
                .map_err(|error| explain(error, &name, &self.target))?;
            let Some(page) = page else { break };
            (last_seq, by) = (page.last_seq, origin(&page));
            token.clone_from(&page.session_token);
            let printer = printer.get_or_insert_with(|| {
                let out = BufWriter::new(io::stdout());
                Printer::new(out, name.conversation(), last_seq, self.json, colour())
            });
            for message in page
                .messages
                .iter()
                .take(usize::try_from(left).unwrap_or(usize::MAX))
            {
                printer.print(message)?;
                printed += 1;
                left -= 1;
            }
            printer.flush()?;
        }
        if !self.json {
            eprintln!("{printed} of {last_seq} messages{by}");
            if !token.is_empty() && self.level == Freshness::Session {
                eprintln!("session token: {token}");
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}
