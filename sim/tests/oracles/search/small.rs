//! Small histories: what happened on one copy, and changes that may make it impossible.

use super::*;

/// A small history of one conversation that really happened on one copy: each operation takes
/// effect at a drawn instant of its interval.
pub fn happened(dice: &mut StdRng) -> History {
    let mut history = History::default();
    let mut effects: Vec<(u64, u32, Happens)> = Vec::new();
    let many = dice.random_range(2..=7);
    for session in 0..many {
        let invoked = dice.random_range(0..10);
        let returned = invoked + dice.random_range(0..5);
        let effect = dice.random_range(invoked..=returned);
        let tie = dice.random_range(0..100);
        match dice.random_range(0..10) {
            0..5 => {
                let again = session > 0 && dice.random_range(0..6) == 0;
                let of = if again {
                    dice.random_range(0..session)
                } else {
                    session
                };
                let (end, effect) = match dice.random_range(0..10) {
                    0..6 => (AppendEnd::Acked { seq: 0 }, Some(effect)),
                    6..9 => {
                        let happens = dice.random_range(0..3) > 0;
                        let effect = happens.then(|| invoked + dice.random_range(0..12));
                        (AppendEnd::Unknown { why: String::new() }, effect)
                    }
                    _ => (AppendEnd::Refused { why: String::new() }, None),
                };
                if let Some(effect) = effect {
                    effects.push((effect, tie, Happens::Append(history.appends.len())));
                }
                history
                    .appends
                    .push(append(session, of, (invoked, returned), end));
            }
            5..9 => {
                let strong = dice.random_range(0..4) > 0;
                let level = if strong {
                    Level::Linearizable
                } else {
                    Level::Local
                };
                let effect = if strong {
                    effect
                } else {
                    dice.random_range(0..=returned)
                };
                effects.push((effect, tie, Happens::Read(history.reads.len())));
                history
                    .reads
                    .push(read(session, level, (invoked, returned), dice));
            }
            _ => effects.push((returned, tie, Happens::Tail)),
        }
    }
    if dice.random_range(0..4) == 0 {
        effects.push((u64::MAX, 0, Happens::Final));
    }
    effects.sort_by_key(|(effect, tie, _)| (*effect, *tie));
    answer(&mut history, &effects, dice);
    history
}

enum Happens {
    Append(usize),
    Read(usize),
    Tail,
    Final,
}

fn append(session: u32, of: u32, span: (u64, u64), end: AppendEnd) -> Append {
    Append {
        session,
        site: "client".to_owned(),
        room: 1,
        sender: format!("s{of}"),
        id: "m".to_owned(),
        body: of.into(),
        invoked_us: span.0,
        returned_us: Some(span.1),
        end,
        repeats: session != of,
        created_ms: None,
    }
}

fn read(session: u32, level: Level, span: (u64, u64), dice: &mut StdRng) -> Read {
    let (from, limit) = (dice.random_range(0..4), dice.random_range(1..4));
    Read {
        session,
        site: "client".to_owned(),
        room: 1,
        level,
        invoked_us: span.0,
        returned_us: Some(span.1),
        end: Ok(page(&[], 0, from, limit, None)),
    }
}

fn answer(history: &mut History, effects: &[(u64, u32, Happens)], dice: &mut StdRng) {
    let mut log: Vec<SeenMessage> = Vec::new();
    for (at, _, happens) in effects {
        match happens {
            Happens::Append(at) => {
                let append = &mut history.appends[*at];
                let known = log.iter().find(|seen| seen.sender == append.sender);
                let seq = known.map_or(log.len() as u64 + 1, |seen| seen.seq);
                if seq > log.len() as u64 {
                    let (sender, id) = (append.sender.clone(), append.id.clone());
                    log.push(SeenMessage {
                        seq,
                        sender,
                        id,
                        body: append.body,
                    });
                }
                if let AppendEnd::Acked { seq: answer } = &mut append.end {
                    *answer = seq;
                }
            }
            Happens::Read(at) => {
                let Ok(asked) = &history.reads[*at].end else {
                    continue;
                };
                let (from, limit) = (asked.from, asked.limit);
                history.reads[*at].end = Ok(page(&log, log.len() as u64, from, limit, None));
            }
            Happens::Tail if !log.is_empty() => {
                let seen = log[dice.random_range(0..log.len())].clone();
                history.tails.push(Tail {
                    session: 99,
                    site: "client".to_owned(),
                    room: 1,
                    from: seen.seq,
                    events: vec![(*at, seen)],
                    error: None,
                    complete: false,
                });
            }
            Happens::Tail => {}
            Happens::Final => history.finals.push(Final {
                node: "seoul-1".to_owned(),
                room: 1,
                level: Level::Linearizable,
                messages: log.clone(),
            }),
        }
    }
}

/// Changes something, which may or may not make the history impossible.
pub fn disturb(history: &mut History, dice: &mut StdRng) {
    let any = |many: usize, dice: &mut StdRng| (many > 0).then(|| dice.random_range(0..many));
    let append = any(history.appends.len(), dice);
    let read = any(history.reads.len(), dice);
    match (dice.random_range(0..9), append, read) {
        (0 | 1, Some(at), _) => {
            let append = &mut history.appends[at];
            append.invoked_us = dice.random_range(0..14);
            append.returned_us = Some(append.invoked_us + dice.random_range(0..4));
        }
        (2, Some(at), _) => {
            if let AppendEnd::Acked { seq } = &mut history.appends[at].end {
                *seq = dice.random_range(0..5);
            }
        }
        (3, Some(at), _) => {
            let other = dice.random_range(0..history.appends.len());
            let end = history.appends[other].end.clone();
            history.appends[other].end = std::mem::replace(&mut history.appends[at].end, end);
        }
        (4, Some(at), _) => {
            history.appends[at].end = AppendEnd::Unknown { why: String::new() };
        }
        (5 | 6, _, Some(at)) => {
            let read = &mut history.reads[at];
            read.invoked_us = dice.random_range(0..14);
            read.returned_us = Some(read.invoked_us + dice.random_range(0..4));
        }
        (7, _, Some(at)) => {
            let other = dice.random_range(0..history.reads.len());
            let end = history.reads[other].end.clone();
            history.reads[other].end = std::mem::replace(&mut history.reads[at].end, end);
        }
        (8, _, Some(at)) => {
            let Ok(page) = &mut history.reads[at].end else {
                return;
            };
            match dice.random_range(0..3) {
                0 => page.last_seq = dice.random_range(0..4),
                1 => drop(page.messages.pop()),
                _ => page.messages.iter_mut().for_each(|seen| seen.body ^= 1),
            }
        }
        _ => {}
    }
}
