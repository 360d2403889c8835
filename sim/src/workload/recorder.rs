//! What all clients of a run saw, gathered while it goes on. An operation is noted when it begins,
//! so that what a lost host had under way is known too.

use std::sync::Arc;

use parking_lot::Mutex;

use super::mover::Slot;
use super::rooms::{self, Zipf};
use crate::history::{
    Append, AppendEnd, Change, Fade, Feed, History, Look, Page, Read, SeenMessage, Tail, Witnessed,
};
use crate::plan::Plan;

/// What is noted of a call while it has not been answered.
const UNANSWERED: &str = "not answered by the end of the run";

/// The history of a run in the making, shared by all of its client sites. Cheap to clone.
#[derive(Clone)]
pub struct Recorder(Arc<Shared>);

struct Shared {
    rooms: Vec<String>,
    zipf: Zipf,
    /// Each mover, wherever it is.
    movers: Vec<Slot>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    began_us: Option<u64>,
    ended_us: u64,
    appends: Vec<Append>,
    reads: Vec<Read>,
    /// By the tail's number; none before it was opened.
    tails: Vec<Option<Tail>>,
    witnessed: Vec<Witnessed>,
    changes: Vec<Change>,
    looks: Vec<Look>,
    fades: Vec<Fade>,
    feed: Option<Feed>,
    probes: u64,
    retries: u64,
}

impl Recorder {
    /// Of a run of `plan`.
    pub fn new(plan: &Plan) -> Recorder {
        let workload = &plan.workload;
        let state = State {
            tails: (0..workload.tails).map(|_| None).collect(),
            ..State::default()
        };
        Recorder(Arc::new(Shared {
            rooms: rooms::names(workload.rooms.max(1)),
            zipf: Zipf::new(workload.rooms, workload.zipf_milli),
            movers: (0..workload.movers).map(|k| Slot::new(plan, k)).collect(),
            state: Mutex::new(state),
        }))
    }

    /// The full name of a room.
    pub fn room_name(&self, room: u32) -> &str {
        self.0.rooms.get(room as usize).map_or("", String::as_str)
    }

    /// Takes what was recorded: the history, its appends and reads in the order of their beginning,
    /// and for each number that [`super::Env::acked`] was called with the append's place in it.
    /// The finals are empty.
    pub fn finish(&self) -> (History, Vec<usize>) {
        let state = std::mem::take(&mut *self.0.state.lock());
        let mut appends: Vec<(usize, Append)> = state.appends.into_iter().enumerate().collect();
        appends.sort_by_key(|(_, append)| (append.invoked_us, append.session));
        let mut places = vec![0; appends.len()];
        for (place, (noted, _)) in appends.iter().enumerate() {
            places[*noted] = place;
        }
        let mut reads = state.reads;
        reads.sort_by_key(|read| (read.invoked_us, read.session));
        let history = History {
            began_us: state.began_us.unwrap_or(0),
            ended_us: state.ended_us,
            appends: appends.into_iter().map(|(_, append)| append).collect(),
            reads,
            tails: state.tails.into_iter().flatten().collect(),
            finals: Vec::new(),
            witnessed: state.witnessed,
            changes: state.changes,
            looks: state.looks,
            fades: state.fades,
            feed: state.feed,
        };
        (history, places)
    }

    /// Times that clients tried again, in the load of the sites whose load has ended. Asked before
    /// [`Recorder::finish`].
    pub fn retries(&self) -> u64 {
        self.0.state.lock().retries
    }

    /// When the load began, true time, microseconds; none before it did.
    pub fn begun(&self) -> Option<u64> {
        self.0.state.lock().began_us
    }

    pub(crate) fn zipf(&self) -> &Zipf {
        &self.0.zipf
    }

    pub(crate) fn movers(&self) -> &[Slot] {
        &self.0.movers
    }

    /// The load begins, unless another site began it before; gives when.
    pub(crate) fn begin(&self, now_us: u64) -> u64 {
        *self.0.state.lock().began_us.get_or_insert(now_us)
    }

    /// The load of a site has ended; its clients tried again so many times.
    pub(crate) fn end(&self, now_us: u64, retries: u64) {
        let mut state = self.0.state.lock();
        state.ended_us = state.ended_us.max(now_us);
        state.retries += retries;
    }

    /// A witness was answered, or not.
    pub(crate) fn witnessed(&self, witnessed: Witnessed) {
        self.0.state.lock().witnessed.push(witnessed);
    }

    /// A message was changed, or not.
    pub(crate) fn changed(&self, change: Change) {
        self.0.state.lock().changes.push(change);
    }

    /// A message that changes was looked at.
    pub(crate) fn looked(&self, look: Look) {
        self.0.state.lock().looks.push(look);
    }

    /// A message that expires was looked at.
    pub(crate) fn faded(&self, fade: Fade) {
        self.0.state.lock().fades.push(fade);
    }

    /// The change feed told something, or ended.
    pub(crate) fn fed(&self, note: impl FnOnce(&mut Feed)) {
        note(self.0.state.lock().feed.get_or_insert_default());
    }

    /// A number for a probe.
    pub(crate) fn next_probe(&self) -> u64 {
        let mut state = self.0.state.lock();
        state.probes += 1;
        state.probes
    }

    /// An append begins; gives its number.
    pub(crate) fn append_begins(&self, append: Append) -> usize {
        let mut state = self.0.state.lock();
        state.appends.push(Append {
            returned_us: None,
            end: AppendEnd::Unknown {
                why: UNANSWERED.to_owned(),
            },
            ..append
        });
        state.appends.len() - 1
    }

    pub(crate) fn append_ends(
        &self,
        number: usize,
        now_us: u64,
        end: AppendEnd,
        created_ms: Option<i64>,
    ) {
        if let Some(append) = self.0.state.lock().appends.get_mut(number) {
            append.returned_us = Some(now_us);
            append.end = end;
            append.created_ms = created_ms;
        }
    }

    /// A read begins; gives its number.
    pub(crate) fn read_begins(&self, read: Read) -> usize {
        let mut state = self.0.state.lock();
        state.reads.push(Read {
            returned_us: None,
            end: Err(UNANSWERED.to_owned()),
            ..read
        });
        state.reads.len() - 1
    }

    pub(crate) fn read_ends(&self, number: usize, now_us: u64, end: Result<Page, String>) {
        if let Some(read) = self.0.state.lock().reads.get_mut(number) {
            read.returned_us = Some(now_us);
            read.end = end;
        }
    }

    /// Tail `k` is about to be opened.
    pub(crate) fn tail_begins(&self, k: u32, tail: Tail) {
        if let Some(slot) = self.0.state.lock().tails.get_mut(k as usize) {
            *slot = Some(tail);
        }
    }

    pub(crate) fn tail_given(&self, k: u32, now_us: u64, seen: SeenMessage) {
        self.tail(k, |tail| tail.events.push((now_us, seen)));
    }

    /// Changes what is noted of tail `k`; none when it was not opened.
    pub(crate) fn tail<T>(&self, k: u32, change: impl FnOnce(&mut Tail) -> T) -> Option<T> {
        let mut state = self.0.state.lock();
        state.tails.get_mut(k as usize)?.as_mut().map(change)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workload::tests::plan;

    fn append(sender: &str, session: u32, invoked_us: u64) -> Append {
        Append {
            session,
            site: "client-seoul".to_owned(),
            room: 0,
            sender: sender.to_owned(),
            id: format!("{sender}-1"),
            body: 1,
            invoked_us,
            returned_us: None,
            end: AppendEnd::Acked { seq: 1 },
            repeats: false,
            created_ms: None,
        }
    }

    #[test]
    fn appends_are_told_in_the_order_of_their_beginning_and_found_again_by_number() {
        let recorder = Recorder::new(&plan(1));
        let numbers = [(3, 20), (1, 10), (2, 10)]
            .map(|(session, us)| recorder.append_begins(append("s", session, us)));
        recorder.append_ends(numbers[0], 35, AppendEnd::Acked { seq: 7 }, Some(30));
        let (history, places) = recorder.finish();
        let sessions: Vec<u32> = history
            .appends
            .iter()
            .map(|append| append.session)
            .collect();
        assert_eq!(sessions, [1, 2, 3]);
        let acked = &history.appends[places[numbers[0]]];
        assert_eq!((acked.session, acked.returned_us), (3, Some(35)));
        assert_eq!(acked.end, AppendEnd::Acked { seq: 7 });
        let lost = &history.appends[places[numbers[1]]];
        assert_eq!(lost.returned_us, None);
        assert!(matches!(lost.end, AppendEnd::Unknown { .. }));
    }

    #[test]
    fn the_load_begins_once_and_ends_with_the_last_site() {
        let recorder = Recorder::new(&plan(1));
        assert_eq!([recorder.begin(5), recorder.begin(3)], [5, 5]);
        recorder.end(90, 2);
        recorder.end(80, 1);
        assert_eq!(recorder.retries(), 3);
        let (history, _) = recorder.finish();
        assert_eq!((history.began_us, history.ended_us), (5, 90));
    }
}
