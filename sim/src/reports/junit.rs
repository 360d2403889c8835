//! The CI's report: JUnit XML in the subset that Jenkins, GitLab, GitHub actions and Buildkite
//! read alike. A suite per run, a case per promise and goal, and one for the run itself, which
//! carries the time.

use std::fmt::{self, Write as _};

use super::standing::{Standing, evidence, goal_standing, headline, standing};
use super::words::escape;
use crate::outcome::{Broken, Goal, Outcome, Promise, Verdict};

/// Runs as one JUnit document.
///
/// A promise or goal that failed is a `failure` with its evidence; one that is pending, not judged,
/// or not kept where the scenario does not ask for it, is `skipped` and says why. A run that
/// stopped before its end is an `error`.
pub fn junit(outcomes: &[&Outcome]) -> String {
    let suites: Vec<Suite> = outcomes.iter().map(|outcome| Suite::of(outcome)).collect();
    let mut xml = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n");
    // Writing to a String cannot fail.
    let _ = document(&mut xml, &suites);
    xml
}

/// What became of a case.
enum Came {
    Passed,
    Skipped(String),
    Failed { message: String, details: String },
    Error(String),
}

struct Case {
    class: String,
    name: String,
    seconds: f64,
    came: Came,
}

struct Suite<'a> {
    outcome: &'a Outcome,
    cases: Vec<Case>,
}

impl Suite<'_> {
    fn of(outcome: &Outcome) -> Suite<'_> {
        let class = |part: &str| {
            let scenario = &outcome.plan.scenario;
            format!("firebreak.sim.{scenario}.{part}")
        };
        let mut cases = vec![Case {
            class: class("run"),
            name: "comes to its end".to_owned(),
            seconds: outcome.wall_seconds,
            came: match &outcome.stopped {
                Some(why) => Came::Error(why.clone()),
                None => Came::Passed,
            },
        }];
        cases.extend(Promise::ALL.into_iter().map(|promise| Case {
            class: class("promises"),
            name: format!("{} {}", promise.letter(), promise.word()),
            seconds: 0.0,
            came: promise_came(outcome, promise),
        }));
        cases.extend(outcome.goals.iter().map(|goal| Case {
            class: class("goals"),
            name: format!("{} {}", goal.name, goal.limit),
            seconds: 0.0,
            came: goal_came(goal),
        }));
        Suite { outcome, cases }
    }

    fn count(&self, counted: impl Fn(&Came) -> bool) -> usize {
        self.cases.iter().filter(|case| counted(&case.came)).count()
    }
}

fn promise_came(outcome: &Outcome, promise: Promise) -> Came {
    let judged = outcome.promises.get(&promise);
    let pending = judged.and_then(|j| j.pending.as_deref()).unwrap_or("");
    let details = details(evidence(outcome, promise));
    let label = standing(outcome, promise).label(promise);
    let message = format!("{} {} {label}", promise.letter(), promise.word());
    match standing(outcome, promise) {
        Standing::Held => Came::Passed,
        Standing::Failed => Came::Failed { message, details },
        Standing::Tolerated => Came::Skipped(join(&message, &details)),
        Standing::Pending => Came::Skipped(join(&format!("pending: {pending}"), &details)),
        Standing::NotJudged => Came::Skipped("not judged in this run".to_owned()),
    }
}

fn goal_came(goal: &Goal) -> Came {
    let message = format!(
        "{} is {}, {} asked for",
        goal.name, goal.measured, goal.limit
    );
    match (goal_standing(goal), &goal.pending) {
        (Standing::Held, _) => Came::Passed,
        (_, Some(why)) => Came::Skipped(format!("pending: {why}; {message}")),
        (_, None) => Came::Failed {
            details: message.clone(),
            message,
        },
    }
}

fn details(broken: &[Broken]) -> String {
    let lines = broken
        .iter()
        .map(|b| format!("{}: {}", b.oracle, b.evidence));
    lines.collect::<Vec<_>>().join("\n")
}

fn join(message: &str, details: &str) -> String {
    match details.is_empty() {
        true => message.to_owned(),
        false => format!("{message}; {details}"),
    }
}

fn document(xml: &mut String, suites: &[Suite]) -> fmt::Result {
    let sum = |count: &dyn Fn(&Suite) -> usize| suites.iter().map(count).sum::<usize>();
    let seconds: f64 = suites.iter().map(|suite| suite.outcome.wall_seconds).sum();
    writeln!(
        xml,
        "<testsuites name=\"firebreak sim\" tests=\"{}\" failures=\"{}\" errors=\"{}\" \
         skipped=\"{}\" time=\"{seconds:.3}\">",
        sum(&|suite| suite.cases.len()),
        sum(&|suite| suite.count(|came| matches!(came, Came::Failed { .. }))),
        sum(&|suite| suite.count(|came| matches!(came, Came::Error(_)))),
        sum(&|suite| suite.count(|came| matches!(came, Came::Skipped(_)))),
    )?;
    for suite in suites {
        write_suite(xml, suite)?;
    }
    writeln!(xml, "</testsuites>")
}

fn write_suite(xml: &mut String, suite: &Suite) -> fmt::Result {
    let outcome = suite.outcome;
    writeln!(
        xml,
        "  <testsuite name=\"{} seed {}\" tests=\"{}\" failures=\"{}\" errors=\"{}\" \
         skipped=\"{}\" time=\"{:.3}\">",
        escape(&outcome.plan.scenario),
        outcome.plan.seed,
        suite.cases.len(),
        suite.count(|came| matches!(came, Came::Failed { .. })),
        suite.count(|came| matches!(came, Came::Error(_))),
        suite.count(|came| matches!(came, Came::Skipped(_))),
        outcome.wall_seconds,
    )?;
    let verdict = match outcome.verdict {
        Verdict::Held => "held",
        Verdict::GoalMissed => "goal-missed",
        Verdict::Broken => "broken",
    };
    writeln!(xml, "    <properties>")?;
    for (name, value) in [
        ("scenario", outcome.plan.scenario.clone()),
        ("seed", outcome.plan.seed.to_string()),
        ("command", outcome.command()),
        ("verdict", verdict.to_owned()),
        ("trace_hash", outcome.trace_hash.clone()),
        ("sim_seconds", format!("{:.3}", outcome.sim_seconds)),
        ("longest_gap_ms", outcome.longest_gap_ms.to_string()),
        ("failed_calls", outcome.failed_calls.to_string()),
        ("lost", outcome.lost.to_string()),
    ] {
        let value = escape(&value);
        writeln!(xml, "      <property name=\"{name}\" value=\"{value}\"/>")?;
    }
    writeln!(xml, "    </properties>")?;
    for case in &suite.cases {
        write_case(xml, case, &outcome.command())?;
    }
    let out = format!("{}\nagain: {}", headline(outcome), outcome.command());
    writeln!(xml, "    <system-out>{}</system-out>", escape(&out))?;
    writeln!(xml, "  </testsuite>")
}

fn write_case(xml: &mut String, case: &Case, command: &str) -> fmt::Result {
    let (class, name) = (escape(&case.class), escape(&case.name));
    let seconds = case.seconds;
    write!(
        xml,
        "    <testcase classname=\"{class}\" name=\"{name}\" time=\"{seconds:.3}\""
    )?;
    let again = |details: &str| escape(&format!("{details}\nagain: {command}"));
    match &case.came {
        Came::Passed => return writeln!(xml, "/>"),
        Came::Skipped(why) => write!(xml, ">\n      <skipped message=\"{}\"/>", escape(why))?,
        Came::Failed { message, details } => write!(
            xml,
            ">\n      <failure message=\"{}\" type=\"promise\">{}</failure>",
            escape(message),
            again(details)
        )?,
        Came::Error(why) => write!(
            xml,
            ">\n      <error message=\"{}\" type=\"stopped\">{}</error>",
            escape(why),
            again(why)
        )?,
    }
    writeln!(xml, "\n    </testcase>")
}
