//! How long turns are, and that they differ.

use super::*;

#[test]
fn a_turn_is_doubled_with_each_term_that_nobody_won_up_to_a_limit() {
    let ms = Duration::from_millis;
    let turns: Vec<Duration> = (0..6).map(|failed| backed_off(ms(200), failed)).collect();
    assert_eq!(turns, [200, 400, 800, 1_600, 1_600, 1_600].map(ms));
    assert_eq!(backed_off(ms(1_000), 9), TURN_MAX.1);
}

#[test]
fn replicas_that_all_stand_first_do_not_do_so_at_the_same_time() {
    let turn = Duration::from_millis(800);
    let wait = |node, term| jitter(turn, node, Vote::new(term, 9));
    let apart = (1..=20).filter(|term| {
        let (a, b) = (wait(1, *term), wait(2, *term));
        assert!(a < turn && b < turn);
        a.abs_diff(b) > turn / 8
    });
    assert!(apart.count() >= 10);
}
