//! `firebreak tail`: follows a conversation until Ctrl-C or SIGTERM, whatever fails meanwhile.

use std::io;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use client::{Event, From, Level};

use super::target::{Printer, Target, Tenant, colour, explain, quiet};
use crate::stop::Stop;

const EXAMPLES: &str = "\
Examples:
  firebreak tail room-1               the last ten messages, then each new one
  firebreak tail room-1 --from 1      all of it, then each new one
  firebreak tail room-1 --json        one JSON object a line

A tail goes on elsewhere when its node is lost, without a gap or a repeat. Ctrl-c ends it and
prints how to resume.
Exit codes: 0 ended with ctrl-c, 1 no such conversation or the cluster could not be asked,
2 wrong arguments.";

/// Follow a conversation.
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// Conversation id, or a whole name tenants/{t}/conversations/{c}
    conversation: String,
    /// Begin with this seq [default: the last ten]
    #[arg(long, value_name = "SEQ")]
    from: Option<u64>,
    /// One JSON object a line
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    tenant: Tenant,
    #[command(flatten)]
    target: Target,
}

/// Messages shown of what was there before.
const SHOWN_BEFORE: u64 = 10;
const DEADLINE: Duration = Duration::from_secs(10);

impl Args {
    /// Runs the command.
    ///
    /// # Errors
    /// No such conversation, wrong arguments, or the cluster could not be asked.
    pub async fn run(self) -> anyhow::Result<ExitCode> {
        quiet(self.follow().await)
    }

    async fn follow(&self) -> anyhow::Result<ExitCode> {
        let name = self.tenant.conversation(&self.conversation)?;
        let client = self.target.client(DEADLINE).await?;
        let head = client
            .get_conversation(name.as_str(), &Level::Linearizable)
            .await
            .map_err(|error| explain(error, &name, &self.target))?;
        let first = (head.last_seq + 1)
            .saturating_sub(SHOWN_BEFORE)
            .max(head.min_seq)
            .max(1);
        let from = self.from.unwrap_or(first).max(1);
        let mut tail = client.tail(name.as_str(), From::Seq(from));
        let mut printer = Printer::new(
            io::stdout(),
            name.conversation(),
            head.last_seq,
            self.json,
            colour(),
        );
        let mut stop = Stop::listen().context("cannot listen for signals")?;
        loop {
            let event = tokio::select! {
                biased;
                () = stop.asked() => break,
                event = tail.next() => event,
            };
            match event {
                Some(Ok(Event::Message(message) | Event::Changed(message))) => {
                    printer.print(&message)?;
                    printer.flush()?;
                }
                Some(Ok(Event::CaughtUp { .. })) => {}
                Some(Err(error)) => return Err(explain(error, &name, &self.target)),
                None => break,
            }
        }
        let next = tail.next_seq().unwrap_or(from);
        eprintln!(
            "\nto go on from here: firebreak tail {} --from {next}",
            self.again()
        );
        Ok(ExitCode::SUCCESS)
    }

    /// The arguments that name the same conversation of the same cluster.
    fn again(&self) -> String {
        let mut text = self.conversation.clone();
        if !text.contains('/') && self.tenant.tenant != "demo" {
            text += &format!(" --tenant {}", self.tenant.tenant);
        }
        let target = self.target.target.join(",");
        if target != "127.0.0.1:7001" && std::env::var_os("FIREBREAK_TARGET").is_none() {
            text += &format!(" --target {target}");
        }
        text
    }
}
