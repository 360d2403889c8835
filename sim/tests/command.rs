//! The command: what it prints and how it ends.

use std::process::{Command, Output};

fn firebreak_sim(args: &[&str]) -> std::io::Result<Output> {
    Command::new(env!("CARGO_BIN_EXE_firebreak-sim"))
        .args(args)
        .output()
}

#[test]
fn a_run_that_holds_ends_with_0_and_says_how_to_repeat_it() {
    let run = firebreak_sim(&["run", "calm", "--seed", "5"]).unwrap();
    let text = String::from_utf8_lossy(&run.stdout);
    assert_eq!(run.status.code(), Some(0), "{text}");
    assert!(
        text.contains("again: firebreak-sim run calm --seed 5"),
        "{text}"
    );
    assert!(text.contains("messages acked"), "{text}");
}

#[test]
fn what_cannot_be_run_ends_with_2_and_says_what_could() {
    let run = firebreak_sim(&["run", "flood"]).unwrap();
    let text = String::from_utf8_lossy(&run.stderr);
    assert_eq!(run.status.code(), Some(2), "{text}");
    assert!(text.contains("calm") && text.contains("burn"), "{text}");
    for args in [&["run"][..], &[], &["run", "burn", "--seed", "many"]] {
        assert_eq!(
            firebreak_sim(args).unwrap().status.code(),
            Some(2),
            "{args:?}"
        );
    }
}
