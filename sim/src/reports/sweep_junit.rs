//! JUnit XML of a sweep: a suite per scenario, a case per seed.

use std::collections::BTreeMap;
use std::fmt::{self, Write as _};

use super::words::escape;
use super::{Skipped, Sweep, SweptRun};
use crate::outcome::Verdict;

/// A sweep, as `sim sweep --junit` writes it: a `testsuite` per scenario with a `testcase` per run,
/// named after its seed. What a run failed on and the command that repeats it stand in its
/// `failure`; in an `error` when it stopped before its end. What was asked for and not run is a case of its
/// scenario that is `skipped`.
pub fn sweep_junit(sweep: &Sweep) -> String {
    let mut suites: BTreeMap<&str, Suite<'_>> = BTreeMap::new();
    for run in &sweep.runs {
        suites.entry(&run.scenario).or_default().runs.push(run);
    }
    for skipped in &sweep.skipped {
        suites.entry(&skipped.scenario).or_default().skipped = Some(skipped);
    }
    let mut xml = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites>\n");
    for (scenario, one) in &suites {
        // Writing to a String cannot fail.
        let _ = suite(&mut xml, scenario, one);
    }
    xml.push_str("</testsuites>\n");
    xml
}

/// A scenario's runs, and those that were not made.
#[derive(Default)]
struct Suite<'a> {
    runs: Vec<&'a SweptRun>,
    skipped: Option<&'a Skipped>,
}

fn suite(xml: &mut String, scenario: &str, suite: &Suite<'_>) -> fmt::Result {
    let runs = &suite.runs;
    let skipped = usize::from(suite.skipped.is_some());
    let failed = |run: &&&SweptRun| run.verdict != Verdict::Held;
    let errors = runs.iter().filter(failed);
    let errors = errors.filter(|run| run.stopped.is_some()).count();
    let seconds: f64 = runs.iter().map(|run| run.wall_seconds).sum();
    writeln!(
        xml,
        "  <testsuite name=\"{}\" tests=\"{}\" failures=\"{}\" errors=\"{errors}\" \
         skipped=\"{skipped}\" time=\"{seconds:.3}\">",
        escape(scenario),
        runs.len() + skipped,
        runs.iter().filter(failed).count() - errors,
    )?;
    for run in runs {
        case(xml, run)?;
    }
    if let Some(skipped) = suite.skipped {
        writeln!(
            xml,
            "    <testcase classname=\"sim.{}\" name=\"{}\" time=\"0.000\">\n      <skipped \
             message=\"{}\"/>\n    </testcase>",
            escape(scenario),
            match skipped.left {
                None => "any seed".to_owned(),
                Some(left) => format!("{left} more seeds"),
            },
            escape(&format!("{}: {}", skipped.what(), skipped.why))
        )?;
    }
    writeln!(xml, "  </testsuite>")
}

fn case(xml: &mut String, run: &SweptRun) -> fmt::Result {
    write!(
        xml,
        "    <testcase classname=\"sim.{}\" name=\"seed {}\" time=\"{:.3}\"",
        escape(&run.scenario),
        run.seed,
        run.wall_seconds
    )?;
    if run.verdict == Verdict::Held {
        return writeln!(xml, "/>");
    }
    let (element, kind) = match (&run.stopped, run.verdict) {
        (Some(_), _) => ("error", "stopped"),
        (None, Verdict::Broken) => ("failure", "promise"),
        (None, Verdict::GoalMissed | Verdict::Held) => ("failure", "goal"),
    };
    let lines = run.failures.iter().map(|failure| {
        let letter = failure.promise.map(|promise| promise.letter());
        let letter = letter.map_or(String::new(), |letter| format!("{letter} "));
        format!("{letter}{}: {}", failure.oracle, failure.evidence)
    });
    let lines: Vec<String> = lines.collect();
    let first = lines.first().map_or("for no reason told", String::as_str);
    let details = format!("{}\nagain: {}", lines.join("\n"), run.command);
    writeln!(
        xml,
        ">\n      <{element} message=\"{}\" type=\"{kind}\">{}</{element}>\n    </testcase>",
        escape(first),
        escape(&details)
    )
}
