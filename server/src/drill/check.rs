//! What a plan must be, wherever it is read: a person may have edited it.

use super::plan::{Action, DrillPlan, FORMAT, Step};

/// Steps of a plan.
const STEPS_MAX: usize = 200;
/// The longest that a drill takes, milliseconds.
pub const DRILL_MS_MAX: u64 = 2 * 60 * 60 * 1_000;

/// Reads a plan.
///
/// # Errors
/// Where and why it is none.
pub fn read(text: &str) -> Result<DrillPlan, String> {
    let plan: DrillPlan = toml::from_str(text).map_err(|error| error.to_string())?;
    check(&plan)?;
    Ok(plan)
}

/// Whether a plan can be carried out at all, whatever the cluster.
///
/// # Errors
/// What is wrong, in a sentence.
pub fn check(plan: &DrillPlan) -> Result<(), String> {
    if plan.format != FORMAT {
        return Err(format!(
            "format is {}; this version reads {FORMAT}",
            plan.format
        ));
    }
    if plan.steps.is_empty() || plan.steps.len() > STEPS_MAX {
        let has = plan.steps.len();
        return Err(format!(
            "a plan has 1 to {STEPS_MAX} steps; this one has {has}"
        ));
    }
    if plan.before_ms == 0 {
        return Err("before_ms must be above 0: what is calm shows before the first step".into());
    }
    let mut last = 0;
    for (at, step) in plan.steps.iter().enumerate() {
        if step.at_ms < last {
            return Err(format!(
                "step {} is at {} ms, before the one above it: steps go by time",
                at + 1,
                step.at_ms
            ));
        }
        last = step.at_ms;
        self::step(step).map_err(|why| format!("step {}: {why}", at + 1))?;
    }
    let total = total_ms(plan);
    if total > DRILL_MS_MAX {
        return Err(format!(
            "it takes {total} ms; a drill takes at most {DRILL_MS_MAX}"
        ));
    }
    Ok(())
}

fn step(step: &Step) -> Result<(), String> {
    if step.nodes.is_empty() {
        return Err("names no node".into());
    }
    if step.for_ms.is_none() {
        return Err("needs for_ms: every fault has an end".into());
    }
    match &step.action {
        Action::Cut { sends, hears, .. } if !sends && !hears => {
            Err("cuts nothing: sends or hears must be true".into())
        }
        Action::Slow { loss_ppm, .. } if *loss_ppm > 1_000_000 => {
            Err("loss_ppm is of a million".into())
        }
        Action::Cut { .. }
        | Action::Slow { .. }
        | Action::Silence
        | Action::Refuse
        | Action::Reset
        | Action::SlowSync { .. }
        | Action::FullDisk
        | Action::StandStill
        | Action::Sigstop
        | Action::Sigkill
        | Action::Restart
        | Action::Drain => Ok(()),
    }
}

/// When the last step has ended, milliseconds after the calm time.
pub fn steps_end_ms(plan: &DrillPlan) -> u64 {
    let ends = plan.steps.iter();
    let ends = ends.map(|step| step.at_ms.saturating_add(step.for_ms.unwrap_or(0)));
    ends.max().unwrap_or(0)
}

/// How long the canaries run, milliseconds.
pub fn total_ms(plan: &DrillPlan) -> u64 {
    let around = plan.before_ms.saturating_add(plan.after_ms);
    around.saturating_add(steps_end_ms(plan))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAN: &str = r#"
format = 1
id = "d"
scenario = "dc-silent"
about = "a"
hypothesis = "h"
target = "seoul"
cluster_id = "c"
map_epoch = 1
made_ms = 1
before_ms = 5000
after_ms = 5000
[caps]
failed = 0
[goals]
failed = 0
[[step]]
at_ms = 0
for_ms = 12000
action = "silence"
nodes = ["seoul-1"]
[[step]]
at_ms = 5
for_ms = 5
action = "slow-sync"
sync_ms = 40
nodes = ["seoul-2"]
"#;

    #[test]
    fn a_plan_is_read_as_it_was_written() {
        let plan = read(PLAN).unwrap();
        assert_eq!(plan.steps[1].action, Action::SlowSync { sync_ms: Some(40) });
        assert_eq!((steps_end_ms(&plan), total_ms(&plan)), (12_000, 22_000));
        let written = toml::to_string(&plan).unwrap();
        assert_eq!(read(&written).unwrap(), plan);
    }

    #[test]
    fn what_a_person_got_wrong_is_told() {
        for (from, to, says) in [
            ("format = 1", "format = 2", "this version reads 1"),
            ("for_ms = 12000", "", "every fault has an end"),
            ("for_ms = 12000", "form_ms = 12000", "form_ms"),
            ("at_ms = 0", "at_ms = 6", "steps go by time"),
            ("before_ms = 5000", "before_ms = 0", "before_ms"),
            (
                "for_ms = 12000",
                "for_ms = 7200001",
                "a drill takes at most",
            ),
            ("[\"seoul-1\"]", "[]", "names no node"),
            ("failed = 0\n[goals]", "fialed = 0\n[goals]", "fialed"),
            ("\"silence\"", "\"flood\"", "flood"),
        ] {
            assert!(PLAN.contains(from), "{from}");
            let why = read(&PLAN.replacen(from, to, 1)).unwrap_err();
            assert!(why.contains(says), "{says}: {why}");
        }
    }
}
