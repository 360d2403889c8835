//! What must be true of every history of a load, whatever happened to the cluster.

use std::collections::{BTreeMap, BTreeSet};

use super::Ran;
use crate::history::{AppendEnd, History, Level, SeenMessage};
use crate::plan::Workload;

/// Every acknowledged id has one seq; gives how many ids there are.
pub(super) fn check_ids(history: &History) -> usize {
    let mut seqs: BTreeMap<(u32, &str, &str), u64> = BTreeMap::new();
    for append in &history.appends {
        if let AppendEnd::Acked { seq } = append.end {
            let id = (append.room, append.sender.as_str(), append.id.as_str());
            assert_eq!(seqs.insert(id, seq).unwrap_or(seq), seq, "{append:?}");
        }
    }
    seqs.len()
}

/// Whoever wants to hear of acknowledgements heard of each, by the marker of its message.
pub(super) fn check_told(ran: &Ran) {
    let appends = &ran.history.appends;
    let acked = appends
        .iter()
        .filter(|append| matches!(append.end, AppendEnd::Acked { .. }));
    assert_eq!(ran.told.len(), acked.count());
    let mut ids: BTreeMap<&str, &str> = BTreeMap::new();
    for (number, marker) in &ran.told {
        let id = appends[ran.places[*number]].id.as_str();
        assert_eq!(*ids.entry(marker).or_insert(id), id);
    }
}

/// Operations of a session follow one another, but for bursts, which begin at once; and movers are seen
/// at every site.
pub(super) fn check_sessions(history: &History) {
    let mut calls: BTreeMap<u32, Vec<(u64, u64)>> = BTreeMap::new();
    let mut bursts = 0;
    for append in &history.appends {
        let call = (append.invoked_us, append.returned_us.unwrap());
        let calls = calls.entry(append.session).or_default();
        match calls.last_mut().filter(|last| last.0 == call.0) {
            Some(last) => {
                last.1 = last.1.max(call.1);
                bursts += 1;
            }
            None => calls.push(call),
        }
    }
    assert!(bursts > 10, "{bursts}");
    for read in &history.reads {
        let call = (read.invoked_us, read.returned_us.unwrap());
        calls.entry(read.session).or_default().push(call);
    }
    for (session, calls) in &mut calls {
        calls.sort_unstable();
        let in_turn = calls.windows(2).all(|pair| pair[0].1 <= pair[1].0);
        assert!(in_turn, "session {session}: {calls:?}");
    }
    for mover in ["m0", "m1"] {
        let own = history
            .appends
            .iter()
            .filter(|append| append.sender == mover);
        let sites: BTreeSet<&str> = own.map(|append| append.site.as_str()).collect();
        assert_eq!(sites.len(), 2, "{mover}");
    }
}

pub(super) fn check_reads(history: &History, workload: &Workload) {
    let bound_ms = workload.readers.bound_ms;
    for level in [
        Level::Linearizable,
        Level::Session,
        Level::Bounded { bound_ms },
        Level::Local,
    ] {
        let of = history.reads.iter().filter(|read| read.level == level);
        let pages: Vec<_> = of.map(|read| read.end.as_ref().unwrap()).collect();
        assert!(pages.len() > 50, "{level:?}: {}", pages.len());
        assert!(pages.iter().any(|page| page.from > 1));
        assert!(
            pages
                .iter()
                .any(|page| page.from == 0 && page.messages.len() > 1)
        );
        for page in pages {
            let dense = page.messages.windows(2).all(|p| p[0].seq + 1 == p[1].seq);
            assert!(
                dense && page.messages.len() <= page.limit as usize,
                "{page:?}"
            );
        }
    }
}

/// All nodes show the same at both levels; gives it, by room.
pub(super) fn check_finals(
    history: &History,
    workload: &Workload,
) -> BTreeMap<u32, Vec<SeenMessage>> {
    assert_eq!(history.finals.len(), 3 * 2 * workload.rooms as usize);
    let mut rooms: BTreeMap<u32, Vec<SeenMessage>> = BTreeMap::new();
    for last in &history.finals {
        let first = rooms
            .entry(last.room)
            .or_insert_with(|| last.messages.clone());
        assert_eq!(*first, last.messages, "{} {:?}", last.node, last.level);
        assert!((1..).zip(&last.messages).all(|(seq, seen)| seq == seen.seq));
    }
    for append in &history.appends {
        let AppendEnd::Acked { seq } = append.end else {
            continue;
        };
        let seen = &rooms[&append.room][usize::try_from(seq).unwrap() - 1];
        let said = (&append.sender, &append.id, append.body);
        assert_eq!((&seen.sender, &seen.id, seen.body), said);
    }
    rooms
}

pub(super) fn check_tails(history: &History, rooms: &BTreeMap<u32, Vec<SeenMessage>>) {
    assert_eq!(history.tails.len(), 6);
    for tail in &history.tails {
        assert!(tail.complete && tail.error.is_none(), "{tail:?}");
        let given: Vec<&SeenMessage> = tail.events.iter().map(|(_, seen)| seen).collect();
        let expect = rooms[&tail.room]
            .iter()
            .filter(|seen| seen.seq >= tail.from);
        assert_eq!(given, expect.collect::<Vec<_>>());
    }
}
