//! `firebreak changes`: prints what is changed in a tenant, a line each.

use std::io::{self, BufWriter, Write as _};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::anyhow;
use client::{Level, v1};
use model::id::{ConversationName, segment};
use serde_json::{Value, json};

use super::target::{Target, as_json, quiet};
use crate::exit::Usage;
use crate::stop::Stop;

const EXAMPLES: &str = "\
Examples:
  firebreak changes --tenant acme                         all that there is, then each change as it comes
  firebreak changes --tenant acme --from CURSOR           what came behind a cursor
  firebreak changes --tenant acme --once                  what there is now, and no more

Each line is a JSON object: a change with \"id\", \"conversation\", \"incarnation\", \"revision\" and \"message\",
\"settings\", \"deleted\" or \"trimmed\"; or {\"cursor\":…}, which stands behind all that it covers. Begin again with the last cursor
that was dealt with: nothing is missing then, and what comes again has the same id.

Exit codes: 0 printed, 1 the cluster could not be asked, 2 wrong arguments.";

/// Print what is changed in a tenant.
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// The tenant
    #[arg(long, env = "FIREBREAK_TENANT", default_value = "demo")]
    tenant: String,
    /// Go on behind this cursor [default: from the first message on]
    #[arg(
        long,
        value_name = "CURSOR",
        default_value = "",
        hide_default_value = true
    )]
    from: String,
    /// End when there is nothing else
    #[arg(long)]
    once: bool,
    #[command(flatten)]
    target: Target,
}

const DEADLINE: Duration = Duration::from_secs(30);

impl Args {
    /// Runs the command.
    ///
    /// # Errors
    /// Wrong arguments, or the cluster could not be asked.
    pub async fn run(self) -> anyhow::Result<ExitCode> {
        quiet(self.print().await)
    }

    async fn print(&self) -> anyhow::Result<ExitCode> {
        segment("tenant", &self.tenant)
            .map_err(|error| anyhow!(Usage(format!("--tenant: {error}"))))?;
        let client = self.target.client(DEADLINE).await?;
        let mut changes = client.changes(&self.tenant, &self.from);
        let mut stop = Stop::listen()?;
        let mut out = BufWriter::new(io::stdout());
        loop {
            let next = async {
                match self.once {
                    true => changes.poll(&Level::Linearizable).await,
                    false => changes.next().await,
                }
            };
            let next = tokio::select! {
                biased;
                () = stop.asked() => return Ok(ExitCode::SUCCESS),
                next = next => next,
            };
            let next = next.map_err(|error| self.explain(error))?;
            for change in &next {
                serde_json::to_writer(&mut out, &line(change)).map_err(io::Error::from)?;
                out.write_all(b"\n")?;
            }
            let end = self.once && changes.caught_up();
            if !next.is_empty() || end {
                let cursor = json!({ "cursor": changes.cursor() });
                writeln!(out, "{cursor}")?;
            }
            out.flush()?;
            if end {
                return Ok(ExitCode::SUCCESS);
            }
        }
    }

    fn explain(&self, error: client::Error) -> anyhow::Error {
        match error.reason() {
            Some("INVALID_FIELDS") => anyhow!(Usage(format!("--from: {error}"))),
            _ => anyhow::Error::new(error).context(self.target.asked()),
        }
    }
}

fn line(change: &v1::Change) -> Value {
    use v1::change::What;
    let mut line = json!({
        "id": change.id,
        "conversation": change.conversation,
        "incarnation": change.incarnation,
        "revision": change.revision,
    });
    let name = ConversationName::parse(&change.conversation);
    let id = name.as_ref().map_or("", ConversationName::conversation);
    match &change.what {
        Some(What::Message(message)) => {
            let mut told = as_json(id, message);
            if let Some(time) = message.edit_time {
                told["edit_time"] = time.to_string().into();
            }
            if let Some(redaction) = &message.redaction {
                let time = redaction.redact_time.map(|time| time.to_string());
                told["redact_time"] = time.into();
            }
            let counts = message.reactions.iter();
            let counts: serde_json::Map<String, Value> = counts
                .map(|one| (one.kind.clone(), one.count.into()))
                .collect();
            if !counts.is_empty() {
                told["reactions"] = counts.into();
            }
            line["message"] = told;
        }
        Some(What::Settings(head)) => line["settings"] = json!({ "attributes": head.attributes }),
        Some(What::Deleted(head)) => {
            let time = head.delete_time.map(|time| time.to_string());
            line["deleted"] = json!({ "delete_time": time });
        }
        Some(What::Trimmed(min_seq)) => line["trimmed"] = json!({ "min_seq": min_seq }),
        None => {}
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_is_one_line_with_what_it_is() {
        let message = v1::Message {
            seq: 3,
            sender: "ann".into(),
            body: "안녕".into(),
            reactions: vec![v1::ReactionCount {
                kind: "x".into(),
                count: 2,
                mine: false,
            }],
            ..v1::Message::default()
        };
        let change = v1::Change {
            id: "i".into(),
            conversation: "tenants/acme/conversations/room".into(),
            incarnation: 1,
            revision: 9,
            what: Some(v1::change::What::Message(message)),
        };
        let line = line(&change);
        assert_eq!(line["message"]["text"], "안녕");
        assert_eq!(line["message"]["conversation"], "room");
        assert_eq!(line["message"]["reactions"]["x"], 2);
        assert_eq!(line["revision"], 9);
    }
}
