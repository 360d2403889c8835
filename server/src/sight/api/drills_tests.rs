use model::cluster::drills as state;
use tokio::time::Instant;

use super::*;

const NOW: u64 = 1_796_000_000_000;
const DAY: u64 = 24 * 3_600_000;

fn told(known: &State) -> Drills {
    let look = Look::of(Vec::new(), NOW, Instant::now());
    Drills::told(look.seen_by("busan-1"), known, &look, Some(1), NOW)
}

fn window(from_ms: u64, to_ms: u64, every_ms: u64) -> Window {
    Window {
        name: "payday".to_owned(),
        from_ms,
        to_ms,
        every_ms,
        why: "load".to_owned(),
    }
}

#[tokio::test(start_paused = true)]
async fn a_running_drill_is_told_with_its_clock_its_caps_and_the_last_figures() {
    let live = Live {
        calls: 12,
        ..Live::default()
    };
    let note = |text: String| state::Note { at_ms: NOW, text };
    let plan = "format = 1\nid = \"d\"\nscenario = \"dc-silent\"\nabout = \"\"\nhypothesis = \"it holds\"\n\
                target = \"seoul\"\ncluster_id = \"c\"\nmap_epoch = 1\nmade_ms = 1\nbefore_ms = 1\nafter_ms = 1\n\
                [caps]\nfailed = 0\ngap_ms = 3000\n[goals]\nfailed = 0\n\
                [[step]]\nat_ms = 0\naction = \"silence\"\nnodes = [\"seoul-1\"]\n";
    let known = State {
        drills: vec![Drill {
            id: "d".to_owned(),
            state: Stage::Running as i32,
            plan: plan.to_owned(),
            began_ms: NOW - 20_000,
            controller: Some(state::Controller {
                who: "ops-1".to_owned(),
                heard_ms: NOW - 5_000,
                ..state::Controller::default()
            }),
            notes: vec![
                note(Live::default().note()),
                note("silence on seoul-1".to_owned()),
                note(live.note()),
            ],
            ..Drill::default()
        }],
        ..State::default()
    };
    let running = told(&known).running.unwrap();
    assert_eq!(running.hypothesis, "it holds");
    assert_eq!(
        (running.cap_failed, running.cap_gap_ms),
        (Some(0), Some(3_000))
    );
    assert_eq!(running.ends_unheard_ms, 40_000);
    assert_eq!(running.live, Some(live));
    let notes: Vec<&str> = running
        .notes
        .iter()
        .map(|note| note.text.as_str())
        .collect();
    assert_eq!(notes, ["silence on seoul-1"]);
    assert_eq!(running.abort, "firebreak drill abort d");
}

#[tokio::test(start_paused = true)]
async fn blocked_times_are_told_ahead_and_what_is_over_is_not() {
    let known = State {
        windows: vec![
            window(NOW - 70 * DAY, NOW - 70 * DAY + 3_600_000, 7 * DAY),
            window(NOW - 2 * DAY, NOW - DAY, 0),
            window(NOW - 1_000, NOW + 1_000, 0),
        ],
        ..State::default()
    };
    let blocked = told(&known).blocked;
    let from: Vec<u64> = blocked.iter().map(|one| one.from_ms).collect();
    let weeks = (0..=6).map(|week| NOW + week * 7 * DAY);
    let expect: Vec<u64> = std::iter::once(NOW - 1_000).chain(weeks).collect();
    assert_eq!(from, expect);
}

#[tokio::test(start_paused = true)]
async fn a_window_of_a_moment_in_short_turns_is_bounded() {
    let known = State {
        windows: vec![window(0, 1, 2)],
        ..State::default()
    };
    assert!(told(&known).blocked.len() <= 60);
}

#[tokio::test(start_paused = true)]
async fn a_standing_drill_needs_its_operators_and_says_what_is_in_its_way() {
    let by = |who: &str| state::Approval {
        who: who.to_owned(),
        at_ms: NOW,
    };
    let standing = |approvals: Vec<state::Approval>| State {
        standing: vec![state::Standing {
            name: "weekly".to_owned(),
            next_ms: NOW + 500,
            until_ms: NOW + DAY,
            approvals,
            ..state::Standing::default()
        }],
        windows: vec![window(NOW, NOW + 1_000, 0)],
        ..State::default()
    };
    let one = &told(&standing(vec![by("a")])).standing[0];
    assert!(!one.allowed);
    let two = &told(&standing(vec![by("a"), by("b")])).standing[0];
    assert!(two.allowed);
    assert_eq!(two.blocked_by.as_deref(), Some("payday"));
}

#[tokio::test(start_paused = true)]
async fn what_was_is_told_the_newest_first() {
    let ended = |id: &str, end: End, began_ms| Drill {
        id: id.to_owned(),
        state: Stage::Ended as i32,
        end: end as i32,
        began_ms,
        summary: "{\"gap_ms\":412}".to_owned(),
        ..Drill::default()
    };
    let known = State {
        drills: vec![
            ended("a", End::Passed, 1),
            ended("b", End::Aborted, 0),
            ended("c", End::Broken, 1),
        ],
        ..State::default()
    };
    let history = told(&known).history;
    let ends: Vec<(&str, &str)> = history
        .iter()
        .map(|one| (one.id.as_str(), one.end))
        .collect();
    assert_eq!(ends, [("c", "broken"), ("b", "withdrawn"), ("a", "passed")]);
    assert_eq!(history[0].summary.as_ref().unwrap()["gap_ms"], 412);
}
