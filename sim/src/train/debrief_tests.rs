use super::*;
use crate::catalogue::{self, Variant};
use crate::plan::Tier;

fn names(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

fn event(at_ms: u64, shows: Shows, nodes: &[&str]) -> Event {
    Event {
        at_ms,
        what: "fire".to_owned(),
        nodes: names(nodes),
        shows,
    }
}

fn looked(at_ms: u64, troubled: &[&str]) -> Note {
    let troubled = names(troubled);
    Note {
        at_ms,
        what: What::Looked { troubled },
    }
}

fn note(at_ms: u64, of: fn(String) -> What) -> Note {
    Note {
        at_ms,
        what: of("drain".to_owned()),
    }
}

fn times(step: &Step) -> [Option<u64>; 3] {
    [step.to_see_ms(), step.to_decide_ms(), step.to_act_ms()]
}

#[test]
fn to_see_to_decide_and_to_act_each_count_from_the_one_before() {
    let asked = |what| What::Asked { what };
    let applied = |what| What::Applied { what };
    let rehearsed = |what| What::Rehearsed { what };
    let notes = [
        looked(900, &["a"]),
        looked(1_200, &[]),
        looked(1_500, &["a"]),
        note(4_000, rehearsed),
        note(6_000, asked),
        note(6_700, applied),
    ];
    let fire = event(1_000, Shows::Gone, &["a"]);
    let [step] = &steps(&[fire], &notes)[..] else {
        panic!("one event, one step");
    };
    assert_eq!(times(step), [Some(500), Some(2_500), Some(2_700)]);
}

#[test]
fn what_is_asked_for_before_anything_was_seen_is_no_decision() {
    let asked = |what| What::Asked { what };
    let notes = [note(1_100, asked), looked(1_500, &["a"])];
    let fire = event(1_000, Shows::Gone, &["a"]);
    let step = &steps(&[fire], &notes)[0];
    assert_eq!(times(step), [Some(500), None, None]);
}

#[test]
fn a_refused_change_is_a_decision_and_no_act() {
    let asked = |what| What::Asked { what };
    let refused = |what| What::Refused { what };
    let notes = [
        looked(1_500, &["a"]),
        note(2_000, asked),
        note(2_100, refused),
    ];
    let step = &steps(&[event(1_000, Shows::Gone, &["a"])], &notes)[0];
    assert_eq!(times(step), [Some(500), Some(500), None]);
}

#[test]
fn a_nodes_silence_shows_it_when_it_was_asked_behind_the_event() {
    let silent = |at_ms, asked_ms_before| Note {
        at_ms,
        what: What::Silent {
            node: "a".to_owned(),
            asked_ms_before,
        },
    };
    let fire = [event(1_000, Shows::Gone, &["a"])];
    assert_eq!(steps(&fire, &[silent(1_900, 1_000)])[0].saw_at_ms, None);
    assert_eq!(
        steps(&fire, &[silent(2_100, 1_000)])[0].saw_at_ms,
        Some(2_100)
    );
}

#[test]
fn the_next_event_is_seen_by_what_it_adds() {
    let events = [
        event(1_000, Shows::Gone, &["a"]),
        event(5_000, Shows::Gone, &["b"]),
        event(9_000, Shows::Back, &["a", "b"]),
    ];
    let notes = [
        looked(2_000, &["a"]),
        looked(5_100, &["a"]),
        looked(6_000, &["a", "b"]),
        looked(9_500, &["b"]),
        looked(9_900, &[]),
    ];
    let seen: Vec<_> = steps(&events, &notes).iter().map(Step::to_see_ms).collect();
    assert_eq!(seen, [Some(1_000), Some(1_000), Some(900)]);
}

#[test]
fn the_fire_of_kakao_is_told_as_its_story_goes() {
    let file = catalogue::load("kakao-2022").unwrap();
    let plan = file.plan(7, Variant::Ours, Tier::Grpc);
    let events = events(&plan);
    let story: Vec<Shows> = events.iter().map(|event| event.shows).collect();
    assert!(events[0].what.contains("15:19 fire"), "{}", events[0].what);
    assert_eq!(story[0], Shows::Gone);
    assert_eq!(story.last(), Some(&Shows::Back));
    let gone: BTreeSet<String> = events
        .iter()
        .filter(|event| event.shows == Shows::Gone)
        .flat_map(|event| event.nodes.clone())
        .collect();
    assert!(
        gone.iter().all(|node| node.starts_with("pangyo")),
        "{gone:?}"
    );
    assert_eq!(events.last().map(|event| event.nodes.clone()), Some(gone));
}

#[test]
fn the_best_run_keeps_its_promises_first_and_lets_clients_wait_least_last() {
    let felt = |run: &str, verdict, failed_calls, gap_ms| Felt {
        run: run.to_owned(),
        verdict,
        stopped: None,
        gap_ms,
        failed_calls,
        acked: 1,
        lost: 0,
    };
    let runs = [
        felt("broken", Verdict::Broken, 0, 1),
        felt("slow", Verdict::Held, 0, 900),
        felt("quick", Verdict::Held, 0, 300),
        felt("failed", Verdict::Held, 2, 100),
    ];
    assert_eq!(least(&runs).map(|run| run.run.as_str()), Some("quick"));
    assert_eq!(least(&[]), None);
}
