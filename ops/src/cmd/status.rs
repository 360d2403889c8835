//! `firebreak status`: how the cluster stands, from every node's own mouth.
//!
//! Leaders and lag are what the replicas themselves report: a leader counts only when its own node
//! answers and says that it leads, in the highest term that any replica has seen. A node notices within
//! a second that it has lost others; so where a leader's majority does not answer, it is asked again
//! then, and only that answer counts.

mod print;

use std::io::{self, IsTerminal as _, Write as _};
use std::process::ExitCode;
use std::time::{Duration, SystemTime};

use anyhow::Context as _;
use client::Client;
use serde::Serialize;
use server::sight::report::Report;
use server::sight::verdict::Judged;
use server::sight::view::{Shard, View};
use tokio::time::{Instant, sleep, sleep_until};

use super::map;
use super::target::{Target, printable};
use crate::exit::tell;
use crate::stop::Stop;

const EXAMPLES: &str = "\
Examples:
  firebreak status
  firebreak status --target seoul-1:7001,busan-1:7001 --json
  firebreak status --watch            again every 2 s, until Ctrl-C
  firebreak status --watch 10 | tee -a status.log    where that is no terminal: a line for each look

The first line is how it stands and why; the second says who told so and how old that is at most.
Exit codes: 0 whole, 1 not serving (a shard has no leader, every append is refused, no node answers, or the
cluster is forming), 2 wrong arguments, 3 degraded, but serving (a node does not answer, a replica is not
in its place). --watch ends with the code of its last look.";

/// Show how the cluster stands: in a sentence, and by nodes and shards.
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// Print as JSON; with --watch, a line for each look
    #[arg(long)]
    json: bool,
    /// Look again every so many seconds, until Ctrl-C
    #[arg(long, value_name = "SECONDS", num_args = 0..=1, default_missing_value = "2",
          value_parser = clap::value_parser!(u64).range(1..=86_400))]
    watch: Option<u64>,
    #[command(flatten)]
    target: Target,
}

/// How long a node may take to say how it is.
const LIMIT: Duration = Duration::from_secs(1);
/// Within this a node notices that it has lost others; see `raft/src/rtt.rs`.
const NOTICED_WITHIN: Duration = Duration::from_millis(1_500);
/// Clears the terminal and begins at its top.
const CLEARED: &str = "\x1b[2J\x1b[H";
/// How long to look for a node that answers at all.
const DEADLINE: Duration = Duration::from_secs(5);

/// What a look came to.
struct Look {
    /// None: no node answers.
    view: Option<View>,
    judged: Judged,
    /// When it was made, UTC.
    at: String,
    /// How old what it says was then, at most.
    age: Duration,
}

/// A look, as JSON has it.
#[derive(Serialize)]
struct Document<'a> {
    #[serde(flatten)]
    judged: &'a Judged,
    exit_code: u8,
    looked_at: &'a str,
    age_ms: u128,
    #[serde(flatten)]
    view: Option<&'a View>,
}

impl Args {
    /// Runs the command.
    ///
    /// # Errors
    /// Wrong arguments.
    pub async fn run(self) -> anyhow::Result<ExitCode> {
        let client = self.target.client(DEADLINE).await?;
        let Some(every) = self.watch else {
            let look = look(&client, &self.target).await?;
            self.show(&look)?;
            return Ok(look.exit_code());
        };
        let mut stop = Stop::listen().context("cannot listen for signals")?;
        let mut last = ExitCode::FAILURE;
        loop {
            let looked = async {
                match look(&client, &self.target).await {
                    Ok(look) => {
                        self.show_again(&look)?;
                        last = look.exit_code();
                    }
                    // It may be let in again, as while keys or certificates are exchanged.
                    Err(refused) => {
                        tell(format_args!("error: {refused:#}"));
                        last = ExitCode::FAILURE;
                    }
                }
                sleep(Duration::from_secs(every)).await;
                anyhow::Ok(())
            };
            tokio::select! {
                biased;
                () = stop.asked() => return Ok(last),
                ended = looked => ended?,
            }
        }
    }

    fn show(&self, look: &Look) -> anyhow::Result<()> {
        if self.json {
            println!("{}", serde_json::to_string_pretty(&look.document())?);
            return Ok(());
        }
        look.print();
        Ok(())
    }

    /// One look of many: the whole screen, or a line where there is none.
    fn show_again(&self, look: &Look) -> anyhow::Result<()> {
        if self.json {
            println!("{}", serde_json::to_string(&look.document())?);
        } else if io::stdout().is_terminal() {
            print!("{CLEARED}");
            look.print();
        } else {
            println!("{} {}", look.at, look.judged.sentence);
        }
        io::stdout().flush()?;
        Ok(())
    }
}

impl Look {
    fn exit_code(&self) -> ExitCode {
        ExitCode::from(self.judged.verdict.exit_code())
    }

    fn document(&self) -> Document<'_> {
        Document {
            judged: &self.judged,
            exit_code: self.judged.verdict.exit_code(),
            looked_at: &self.at,
            age_ms: self.age.as_millis(),
            view: self.view.as_ref(),
        }
    }

    fn print(&self) {
        print::sentence(&self.judged);
        let Some(view) = &self.view else { return };
        println!(
            "cluster {}, told by {} of its {} nodes, at {}, at most {} ms old",
            printable(&view.cluster_id),
            view.nodes.iter().filter(|node| node.reachable).count(),
            view.nodes.len(),
            self.at,
            self.age.as_millis().max(1)
        );
        print::tables(view);
        print::problems(&self.judged);
    }
}

/// Asks all nodes.
async fn look(client: &Client, target: &Target) -> anyhow::Result<Look> {
    let at = humantime::format_rfc3339_seconds(SystemTime::now()).to_string();
    let reports = match settled(client).await {
        Ok(reports) => reports,
        // Somebody answers, and says why not: whether the cluster serves is not known.
        Err(error @ client::Error::Refused(_)) => {
            return Err(anyhow::Error::new(error).context(target.asked()));
        }
        Err(_) => {
            return Ok(Look {
                view: None,
                judged: Judged::silent(&target.asked()),
                at,
                age: Duration::ZERO,
            });
        }
    };
    let view = View::of(&reports);
    Ok(Look {
        judged: Judged::view(&view),
        view: Some(view),
        at,
        // All were asked at once, so that nothing is older than the slowest took.
        age: reports
            .iter()
            .map(|report| report.took)
            .max()
            .unwrap_or_default(),
    })
}

/// What each node says of itself, asked again where leaders call themselves so whose majority does not
/// answer.
///
/// # Errors
/// [`client::Error::Refused`] when those that answer refuse, [`client::Error::Deadline`] when none does.
pub async fn settled(client: &Client) -> Result<Vec<Report>, client::Error> {
    let begun = Instant::now();
    let first = ask(client).await?;
    if !View::of(&first).shards.iter().any(Shard::is_doubtful) {
        return Ok(first);
    }
    sleep_until(begun + NOTICED_WITHIN).await;
    ask(client).await
}

/// What each node says of itself.
async fn ask(client: &Client) -> Result<Vec<Report>, client::Error> {
    let reports = client.status_all(LIMIT).await?;
    Ok(reports.into_iter().map(map::told).collect())
}
