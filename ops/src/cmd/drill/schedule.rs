//! `firebreak drill schedule` and `due`: drills that come again, when none may begin, and what is due.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::anyhow;
use client::v1::change_drill_request::Change;
use client::v1::{ApproveDrill, DrillWindow, NamedOfDrills, StandDrill, StandingDrill};
use server::drill::plan::DrillPlan;

use super::Who;
use super::run::{carry_out, folder};
use crate::cmd::map::Map;
use crate::cmd::outage::when;
use crate::cmd::target::{Show, new_table, printable};
use crate::drill::book::{self, Planned};
use crate::drill::run::Options;
use crate::exit::Usage;

const DAY_MS: u64 = 24 * 60 * 60 * 1_000;

const EXAMPLES: &str = "\
Examples:
  firebreak drill schedule
  firebreak drill schedule add weekly-stall stall.toml --every weekly --first 2026-12-06T03:00:00Z --until 365d
  firebreak drill schedule add the-big-one dc-silent.toml --every half-yearly --first 2027-03-01T03:00:00Z
  firebreak drill schedule approve weekly-stall --as kim
  firebreak drill schedule block new-year --from 2026-12-28T00:00:00Z --to 2027-01-04T00:00:00Z --why \"the rush\"
  firebreak drill schedule unblock new-year

What is due is begun by `firebreak drill due`, from cron or a timer, and never without a standing approval.

Exit codes: 0 done, 1 no node answers, 2 refused, or wrong arguments.";

/// List, add and approve drills that come again, and block times for them.
#[derive(clap::Subcommand, Debug)]
#[command(after_help = EXAMPLES)]
pub enum Schedule {
    /// List what comes again, and the blocked windows.
    #[command(after_help = EXAMPLES)]
    List {
        #[command(flatten)]
        show: Show,
    },
    /// Have a plan come again.
    #[command(after_help = EXAMPLES)]
    Add(Add),
    /// Allow that one begins by itself when it is due.
    #[command(after_help = EXAMPLES)]
    Approve {
        /// Its name
        name: String,
        #[command(flatten)]
        who: Who,
        #[command(flatten)]
        show: Show,
    },
    /// Take one away.
    #[command(after_help = EXAMPLES)]
    Remove {
        /// Its name
        name: String,
        #[command(flatten)]
        show: Show,
    },
    /// Let no drill begin within a time.
    #[command(after_help = EXAMPLES)]
    Block(Block),
    /// Take a blocked window away.
    #[command(after_help = EXAMPLES)]
    Unblock {
        /// Its name
        name: String,
        #[command(flatten)]
        show: Show,
    },
}

/// What comes again.
#[derive(clap::Args, Debug)]
pub struct Add {
    /// Its name
    name: String,
    /// The plan's file
    plan: PathBuf,
    /// How often: weekly, half-yearly, or a time as 14d
    #[arg(long, value_parser = every_ms)]
    every: u64,
    /// When it is due first, UTC, as 2026-12-06T03:00:00Z
    #[arg(long, value_parser = at_ms)]
    first: u64,
    /// How long its approvals hold
    #[arg(long, value_name = "TIME", default_value = "365d", value_parser = every_ms)]
    until: u64,
    #[command(flatten)]
    show: Show,
}

/// A blocked window.
#[derive(clap::Args, Debug)]
pub struct Block {
    /// Its name
    name: String,
    /// From when, UTC, as 2026-12-28T00:00:00Z
    #[arg(long, value_parser = at_ms)]
    from: u64,
    /// Until when
    #[arg(long, value_parser = at_ms)]
    to: u64,
    /// And again each time so much later: weekly, or a time as 1d
    #[arg(long, value_parser = every_ms)]
    every: Option<u64>,
    /// Why, for people
    #[arg(long, default_value = "")]
    why: String,
    #[command(flatten)]
    show: Show,
}

fn every_ms(text: &str) -> Result<u64, String> {
    match text {
        "weekly" => Ok(7 * DAY_MS),
        "half-yearly" => Ok(182 * DAY_MS),
        other => {
            let time = humantime::parse_duration(other);
            let time = time.map_err(|_| "say weekly, half-yearly, or a time as 14d".to_owned())?;
            u64::try_from(time.as_millis()).map_err(|error| error.to_string())
        }
    }
}

fn at_ms(text: &str) -> Result<u64, String> {
    let at = humantime::parse_rfc3339_weak(text);
    let at = at.map_err(|_| "say a time in UTC, as 2026-12-06T03:00:00Z".to_owned())?;
    let since = at.duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).map_err(|error| error.to_string())
}

/// A plan without what differs from one time to the next.
fn recipe(plan: &DrillPlan) -> anyhow::Result<String> {
    let plain = DrillPlan {
        id: String::new(),
        map_epoch: 0,
        made_ms: 0,
        ..plan.clone()
    };
    Ok(toml::to_string(&plain)?)
}

impl Schedule {
    /// Runs the subcommand.
    ///
    /// # Errors
    /// As exit codes tell.
    pub async fn run(self) -> anyhow::Result<ExitCode> {
        match self {
            Schedule::List { show } => list(&show).await,
            Schedule::Add(args) => args.run().await,
            Schedule::Approve { name, who, show } => {
                let client = show.client().await?;
                let known = book::look(&client).await?;
                let held = standing(&book::drills(&known).standing, &name)?;
                let who = who.name();
                let approve = ApproveDrill {
                    id: name.clone(),
                    who: who.clone(),
                    digest: held.recipe_digest,
                };
                let of = Change::ApproveStanding;
                book::approve_once(&client, approve, of, "it is not done").await?;
                told(&show, &format!("{name}: approved by {who}"));
                Ok(ExitCode::SUCCESS)
            }
            Schedule::Remove { name, show } => {
                let text = format!("{name} comes no more");
                done(&show, Change::Unstand(NamedOfDrills { name }), &text).await
            }
            Schedule::Block(args) => {
                let window = DrillWindow {
                    name: args.name.clone(),
                    from_ms: args.from,
                    to_ms: args.to,
                    every_ms: args.every.unwrap_or(0),
                    why: args.why,
                };
                let text = format!("no drill begins within {}", args.name);
                done(&args.show, Change::Block(window), &text).await
            }
            Schedule::Unblock { name, show } => {
                let text = format!("{name} blocks no more");
                done(&show, Change::Unblock(NamedOfDrills { name }), &text).await
            }
        }
    }
}

async fn done(show: &Show, change: Change, text: &str) -> anyhow::Result<ExitCode> {
    let client = show.client().await?;
    book::change(&client, change, "it is not done").await?;
    told(show, text);
    Ok(ExitCode::SUCCESS)
}

fn told(show: &Show, text: &str) {
    match show.json {
        true => println!("{}", serde_json::json!({"done": text})),
        false => println!("{text}"),
    }
}

fn standing(all: &[StandingDrill], name: &str) -> anyhow::Result<StandingDrill> {
    let found = all.iter().find(|one| one.name == name).cloned();
    found.ok_or_else(|| {
        anyhow!(Usage(format!(
            "there is no standing drill {name:?}; `firebreak drill schedule list` names them"
        )))
    })
}

impl Add {
    async fn run(self) -> anyhow::Result<ExitCode> {
        let planned = book::read(&self.plan)?;
        let stand = StandDrill {
            name: self.name.clone(),
            recipe: recipe(&planned.plan)?,
            first_ms: self.first,
            every_ms: self.every,
            until_ms: when::now_ms().saturating_add(self.until),
        };
        let text = format!(
            "{} is due first at {}; it begins by itself once so many operators as are needed have approved it",
            self.name,
            when::rfc3339(self.first)
        );
        done(&self.show, Change::Stand(stand), &text).await
    }
}

async fn list(show: &Show) -> anyhow::Result<ExitCode> {
    let told = book::look(&show.client().await?).await?;
    let drills = book::drills(&told);
    if show.json {
        let standing: Vec<_> = drills
            .standing
            .iter()
            .map(|one| {
                let by: Vec<&String> = one.approvals.iter().map(|by| &by.who).collect();
                serde_json::json!({
                    "name": one.name, "next_ms": one.next_ms, "every_ms": one.every_ms,
                    "until_ms": one.until_ms, "last_ms": one.last_ms, "approved_by": by,
                })
            })
            .collect();
        let windows: Vec<_> = drills
            .windows
            .iter()
            .map(|one| {
                serde_json::json!({
                    "name": one.name, "from_ms": one.from_ms, "to_ms": one.to_ms,
                    "every_ms": one.every_ms, "why": one.why,
                })
            })
            .collect();
        let document = serde_json::json!({"standing": standing, "blocked": windows});
        println!("{}", serde_json::to_string_pretty(&document)?);
        return Ok(ExitCode::SUCCESS);
    }
    let mut table = new_table(&["comes again", "next (UTC)", "every", "approved by"]);
    for one in &drills.standing {
        let by: Vec<String> = one.approvals.iter().map(|by| printable(&by.who)).collect();
        let days = format!("{} d", one.every_ms / DAY_MS);
        table.add_row([
            printable(&one.name),
            when::rfc3339(one.next_ms),
            days,
            by.join(", "),
        ]);
    }
    let mut blocked = new_table(&["blocked", "from (UTC)", "to (UTC)", "every", "why"]);
    for one in &drills.windows {
        let every = match one.every_ms {
            0 => "once".to_owned(),
            ms => format!("{} d", ms / DAY_MS),
        };
        blocked.add_row([
            printable(&one.name),
            when::rfc3339(one.from_ms),
            when::rfc3339(one.to_ms),
            every,
            printable(&one.why),
        ]);
    }
    println!("{table}\n{blocked}");
    Ok(ExitCode::SUCCESS)
}

const DUE: &str = "\
Examples:
  firebreak drill due                       run what is due, if anything is: for cron or a timer
  firebreak drill due --dir /var/drills

Only what is scheduled, due and approved for good begins, outside of blocked windows. One drill at a time.

Exit codes: 0 nothing was due, or it passed; else as `firebreak drill run`.";

/// Run what is scheduled and due now.
#[derive(clap::Args, Debug)]
#[command(after_help = DUE)]
pub struct Due {
    /// Where drills' folders go; ./drills when not given
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    #[command(flatten)]
    show: Show,
}

impl Due {
    /// Runs it.
    ///
    /// # Errors
    /// As exit codes tell.
    pub async fn run(self) -> anyhow::Result<ExitCode> {
        let client = self.show.client().await?;
        let told = book::look(&client).await?;
        let drills = book::drills(&told);
        let now_ms = match told.now_ms {
            0 => when::now_ms(),
            now => now,
        };
        let due = drills.standing.iter().find(|one| one.next_ms <= now_ms);
        let Some(due) = due else {
            match self.show.json {
                true => println!("{}", serde_json::json!({"due": null})),
                false => println!("nothing is due"),
            }
            return Ok(ExitCode::SUCCESS);
        };
        let needed = usize::try_from(book::needed(&drills)).unwrap_or(usize::MAX);
        if due.approvals.len() < needed || due.until_ms <= now_ms {
            return Err(anyhow!(Usage(format!(
                "{} is due, and has no standing approval that holds: {} of {needed} have approved it; \
                 `firebreak drill schedule approve {}`",
                due.name,
                due.approvals.len(),
                due.name
            ))));
        }
        let map = Map::ask(&client, &self.show.target).await?;
        let mut plan: DrillPlan = toml::from_str(&due.recipe)
            .map_err(|error| anyhow!(Usage(format!("{}: {error}", due.name))))?;
        (plan.map_epoch, plan.made_ms) = (map.newest().map_epoch, when::now_ms());
        plan.id = super::plan::id(&plan);
        let planned = Planned::of(toml::to_string(&plan)?, &due.name)?;
        let mut store = planned.store(&format!("schedule {}", due.name));
        store.standing.clone_from(&due.name);
        store.recipe_digest = due.recipe_digest.clone();
        book::change(&client, Change::Store(store), "the plan is not stored").await?;
        let options = Options {
            dir: match &self.dir {
                Some(dir) => dir.join(&plan.id),
                None => folder(&planned),
            },
            resume: false,
            start_with: None,
            kits: Vec::new(),
            quiet: self.show.json,
        };
        carry_out(&client, &planned, &options, &self.show).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_as_people_write_them() {
        assert_eq!(every_ms("weekly"), Ok(7 * DAY_MS));
        assert_eq!(every_ms("14d"), Ok(14 * DAY_MS));
        assert!(every_ms("often").is_err());
        assert_eq!(at_ms("1970-01-02T00:00:00Z"), Ok(DAY_MS));
        assert!(at_ms("tomorrow").is_err());
    }

    #[test]
    fn a_recipe_is_the_same_whenever_it_was_planned() {
        let step = server::drill::plan::Step {
            at_ms: 0,
            for_ms: Some(1),
            action: server::drill::plan::Action::Silence,
            nodes: vec!["a".into()],
        };
        let plan = DrillPlan {
            steps: vec![step],
            ..crate::drill::run::tests_plan()
        };
        let later = DrillPlan {
            id: "other".into(),
            made_ms: 99,
            map_epoch: 9,
            ..plan.clone()
        };
        assert_eq!(recipe(&plan).unwrap(), recipe(&later).unwrap());
        let other = DrillPlan {
            before_ms: 77,
            ..plan.clone()
        };
        assert_ne!(recipe(&plan).unwrap(), recipe(&other).unwrap());
    }
}
