//! JUnit XML of a drill: what CI shows of it.

use std::time::Duration;

use quick_junit::{NonSuccessKind, Report, TestCase, TestCaseStatus, TestSuite};
use server::drill::paper::{End, Paper};

use super::Facts;

/// A drill: a suite of its end, its goals and its promises.
///
/// # Errors
/// What cannot be written as XML.
pub(super) fn junit(paper: &Paper, facts: &Facts) -> Result<String, String> {
    let mut report = Report::new(format!("firebreak drill {}", paper.plan.id));
    let mut suite = TestSuite::new(format!("drill.{}", paper.plan.scenario));
    let took = Duration::from_millis(paper.ended_ms.saturating_sub(paper.began_ms));
    suite.set_time(took);
    let mut end = case(
        "end",
        paper.end == End::Passed,
        paper.end.word(),
        &paper.why,
    );
    if paper.end == End::Inconclusive {
        end.status = TestCaseStatus::skipped();
        end.status
            .set_message(format!("{}: {}", paper.end.word(), paper.why));
    }
    end.set_time(took);
    suite.add_test_case(end);
    for goal in &facts.goals {
        let said = format!("{} where {} was asked", goal.measured, goal.limit);
        suite.add_test_case(case(&goal.what, goal.held, "goal", &said));
    }
    for oracle in &paper.oracles {
        let name = format!("promise {}", oracle.promise);
        let mut told = case(&name, oracle.held.unwrap_or(true), "promise", &oracle.text);
        if oracle.held.is_none() {
            told.status = TestCaseStatus::skipped();
            told.status.set_message(oracle.text.clone());
        }
        suite.add_test_case(told);
    }
    let within = facts.warnings.join(" ");
    suite.add_test_case(case(
        "as rehearsed",
        within.is_empty(),
        "rehearsal",
        &within,
    ));
    report.add_test_suite(suite);
    report
        .to_string()
        .map_err(|error| format!("as JUnit XML: {error}"))
}

fn case(name: &str, held: bool, kind: &str, said: &str) -> TestCase {
    let status = match held {
        true => TestCaseStatus::success(),
        false => {
            let mut status = TestCaseStatus::non_success(NonSuccessKind::Failure);
            status.set_message(said).set_type(kind);
            status
        }
    };
    let mut case = TestCase::new(name, status);
    case.set_classname("drill").set_time(Duration::ZERO);
    case
}
