//! Spoils correct histories, one in each way that an oracle is there for. A spoiled history is
//! wrong for certain, so the oracle must say so every time.

mod content;
mod reads;
mod runs;
mod servers;

use std::collections::BTreeMap;

use firebreak_sim::dice::dice;
use firebreak_sim::history::{Append, AppendEnd, Faded, Level, Page, Read, SeenMessage, VoteSeen};
use firebreak_sim::oracle::NAMES;
use rand::Rng as _;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;

use crate::support::page;
use crate::world::{SMALL, World};

use content::*;
use reads::*;
use runs::*;
use servers::*;

/// Spoils a history, if there is anything in it to spoil.
type Spoil = fn(&mut World, &mut StdRng) -> Option<()>;

/// Oracle, what is done, and how.
const SPOILS: &[(&str, &str, Spoil)] = &[
    (
        "linearizable",
        "a LINEARIZABLE read misses what was acknowledged",
        miss_acked,
    ),
    (
        "linearizable",
        "a LINEARIZABLE read goes behind one before",
        go_back,
    ),
    (
        "linearizable",
        "two messages change places against time",
        swap_against_time,
    ),
    (
        "linearizable",
        "a read shows what is sent later",
        see_the_future,
    ),
    ("linearizable", "a seq is nobody's", leave_a_hole),
    (
        "seq-function",
        "one reader sees another body",
        change_one_body,
    ),
    (
        "seq-function",
        "two messages are acknowledged with one seq",
        ack_one_seq_twice,
    ),
    (
        "one-seq-per-id",
        "a repeat gets a new seq",
        renumber_a_repeat,
    ),
    ("one-seq-per-id", "a message is stored twice", store_twice),
    ("no-phantom", "a message comes from nowhere", invent),
    ("no-phantom", "a refused message appears", show_refused),
    ("no-phantom", "all see another body", change_all_bodies),
    (
        "no-phantom",
        "a message is sent after it was seen",
        send_late,
    ),
    (
        "gap-free",
        "a page lacks a message in its middle",
        drop_of_page,
    ),
    ("gap-free", "a page has a message twice", repeat_in_page),
    ("gap-free", "a page ends early", end_page_early),
    (
        "gap-free",
        "a conversation at rest lacks a message",
        drop_of_final,
    ),
    (
        "sender-order",
        "a sender's messages change places",
        swap_of_sender,
    ),
    ("create-time", "a message is stamped ahead", stamp_ahead),
    ("create-time", "time goes back", stamp_back),
    ("tail-suffix", "a tail lacks a message", drop_of_tail),
    (
        "tail-suffix",
        "a tail gives a message twice",
        repeat_in_tail,
    ),
    ("tail-suffix", "a tail stops before the end", stop_tail),
    (
        "acked-durable",
        "a node loses an acknowledged message",
        lose_acked,
    ),
    (
        "acked-durable",
        "a node has another message in its place",
        replace_acked,
    ),
    (
        "observed-durable",
        "all nodes lose a message that was seen",
        lose_seen,
    ),
    (
        "quorum-at-ack",
        "one host alone has an acknowledged message",
        cover_by_one,
    ),
    (
        "quorum-at-ack",
        "one data center alone has it",
        cover_by_one_dc,
    ),
    ("disk-never-regresses", "a disk forgets", regress),
    (
        "bounded-staleness",
        "a BOUNDED read is older than its bound",
        exceed_bound,
    ),
    (
        "bounded-staleness",
        "a BOUNDED read admits to more than its bound",
        admit_too_much,
    ),
    (
        "age-honest",
        "a read is older than it admits",
        lie_about_age,
    ),
    (
        "session",
        "a session does not read its own write",
        forget_own,
    ),
    ("session", "a session goes back", forget_read),
    ("one-leader", "two nodes win a term", elect_two),
    ("votes-never-regress", "a term falls", fall_back),
    ("votes-never-regress", "a vote is given twice", vote_twice),
    (
        "whole-before-it-votes",
        "an empty replica becomes a voter",
        name_the_empty,
    ),
    ("replicas-equal", "a hash differs", change_hash),
    ("replicas-equal", "a replica is behind at rest", fall_behind),
    (
        "replicas-equal",
        "a replica lacks a message that it counts",
        miscount,
    ),
    ("drill-ends", "a drill's fault goes on", go_on_drilling),
    (
        "changes-read",
        "an edit that is over is shown",
        show_old_edit,
    ),
    ("erased-is-gone", "what was erased is shown", show_erased),
    (
        "expires-in-time",
        "a message goes before its time",
        fade_early,
    ),
    ("expires-in-time", "what has expired is shown", fade_late),
    ("feed-whole", "the feed misses a change", miss_a_change),
    (
        "feed-whole",
        "the feed makes something up",
        make_up_a_change,
    ),
];

#[test]
fn every_oracle_notices_what_it_is_there_for() {
    for (oracle, what, spoil) in SPOILS {
        let mut spoiled = 0;
        for seed in 0..600 {
            let mut world = World::new(seed, SMALL);
            if spoil(&mut world, &mut dice(seed, what)).is_none() {
                continue;
            }
            spoiled += 1;
            let found = world.setting.of(oracle);
            assert!(
                !found.broken.is_empty() && found.looked_at > 0,
                "{oracle} does not notice that {what}, seed {seed}: {:#?}",
                world.setting.history
            );
        }
        println!("{oracle}: {spoiled} times {what}");
        assert!(spoiled >= 25, "{what}: only {spoiled} times");
    }
}

#[test]
fn every_oracle_has_something_to_notice() {
    let spoiled = |name: &str| SPOILS.iter().any(|(oracle, ..)| *oracle == name);
    let missing = NAMES.iter().find(|(name, ..)| !spoiled(name));
    assert_eq!(missing, None);
}

fn acked(append: &Append) -> Option<u64> {
    match append.end {
        AppendEnd::Acked { seq } => Some(seq),
        _ => None,
    }
}

/// Every acknowledged append, shuffled by the dice.
fn acks(world: &World, dice: &mut StdRng) -> Vec<(Append, u64)> {
    let appends = world.setting.history.appends.iter();
    let acks = appends.filter_map(|append| Some((append.clone(), acked(append)?)));
    let acks: Vec<_> = acks.collect();
    let many = acks.len();
    acks.choose_multiple(dice, many).cloned().collect()
}
