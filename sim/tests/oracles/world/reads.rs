//! Reads of every level and tails of a correct history.

use super::*;

impl World {
    pub(super) fn read_all(&mut self, size: Size, dice: &mut StdRng) {
        let ended = self.setting.history.ended_us;
        let acks = self.acks();
        let mut reads = Vec::new();
        for reader in 0..size.readers {
            // Some sessions send and read: their reads begin where nothing of theirs is running.
            let sends = reader < size.senders / 2;
            let session = if sends { reader } else { 1_000 + reader };
            let free = self.free(session);
            let mut floors: BTreeMap<u32, u64> = BTreeMap::new();
            let mut now = BEGAN_US;
            for _ in 0..dice.random_range(1..=size.reads) {
                now += dice.random_range(0..=(ended - BEGAN_US) / u64::from(size.reads));
                let took = dice.random_range(1..20_000);
                let Some(invoked) = free.iter().find_map(|(from, to)| {
                    let begin = now.max(*from);
                    (begin + took <= *to).then_some(begin)
                }) else {
                    break;
                };
                now = invoked + took;
                let room = dice.random_range(0..size.rooms);
                let own = acks.get(&(session, room)).into_iter().flatten();
                let own = own
                    .filter(|(at, _)| *at <= invoked)
                    .map(|(_, seq)| *seq)
                    .max();
                let floor = floors.entry(room).or_default();
                *floor = own.unwrap_or_default().max(*floor);
                let read = self.read((session, room), (invoked, now), floor, size, dice);
                reads.push(read);
                now += pause(dice);
            }
        }
        reads.sort_by_key(|read: &Read| read.invoked_us);
        self.setting.history.reads = reads;
    }

    /// When each session was acknowledged what in each room.
    fn acks(&self) -> BTreeMap<(u32, u32), Vec<(u64, u64)>> {
        let mut acks: BTreeMap<(u32, u32), Vec<(u64, u64)>> = BTreeMap::new();
        for append in &self.setting.history.appends {
            if let (AppendEnd::Acked { seq }, Some(at)) = (&append.end, append.returned_us) {
                acks.entry((append.session, append.room))
                    .or_default()
                    .push((at, *seq));
            }
        }
        acks
    }

    /// The times at which a session sends nothing.
    fn free(&self, session: u32) -> Vec<(u64, u64)> {
        let appends = self
            .setting
            .history
            .appends
            .iter()
            .filter(|one| one.session == session);
        let mut free = Vec::new();
        let mut from = BEGAN_US;
        for append in appends {
            free.push((from, append.invoked_us));
            from = append.returned_us.unwrap_or(u64::MAX);
        }
        free.push((from, u64::MAX));
        free
    }

    fn read(
        &self,
        (session, room): (u32, u32),
        (invoked, returned): (u64, u64),
        floor: &mut u64,
        size: Size,
        dice: &mut StdRng,
    ) -> Read {
        let least = *floor;
        let served = dice.random_range(invoked..=returned);
        let bound_ms = dice.random_range(1..60);
        // A slow clock measures less than went by.
        let slow = if self.setting.plan.events.is_empty() {
            100
        } else {
            80
        };
        let age = |since: u64| (served - since) * slow / 100 / 1_000;
        let (level, length, age_ms) = match dice.random_range(0..5) {
            0 | 1 => (
                Level::Linearizable,
                self.length(room, served, dice).max(least),
                None,
            ),
            2 => {
                let since = dice.random_range(BEGAN_US..=returned);
                (
                    Level::Session,
                    self.length(room, since, dice).max(least),
                    None,
                )
            }
            3 => {
                let most = (bound_ms * 1_000 * 100 / slow).min(served - BEGAN_US);
                let since = served - dice.random_range(0..=most);
                let age = dice.random::<bool>().then(|| age(since));
                (
                    Level::Bounded { bound_ms },
                    self.length(room, since, dice),
                    age,
                )
            }
            _ => {
                let since = dice.random_range(BEGAN_US..=served);
                let age = dice.random::<bool>().then(|| age(since));
                (Level::Local, self.length(room, since, dice), age)
            }
        };
        if matches!(level, Level::Linearizable | Level::Session) {
            *floor = length;
        }
        let from = dice.random_range(0..=length + 2);
        let limit = dice.random_range(1..=size.page);
        let none = Vec::new();
        let log = self.logs.get(&room).unwrap_or(&none);
        let fails = dice.random_range(0..20) == 0;
        Read {
            session,
            site: site(dice),
            room,
            level,
            invoked_us: invoked,
            returned_us: Some(returned),
            end: match fails {
                true => Err("UNAVAILABLE".to_owned()),
                false => Ok(page(log, length, from, limit, age_ms)),
            },
        }
    }

    pub(super) fn tail_all(&mut self, size: Size, dice: &mut StdRng) {
        for number in 0..dice.random_range(0..4) {
            let room = dice.random_range(0..size.rooms);
            let none = Vec::new();
            let log = self.logs.get(&room).unwrap_or(&none);
            let asked = dice.random_range(0..4_u64);
            let from = if asked == 0 {
                dice.random_range(1..4)
            } else {
                asked
            };
            let complete: bool = dice.random();
            let mut now = BEGAN_US;
            let mut events = Vec::new();
            for seen in log.iter().filter(|seen| seen.seq >= from) {
                let at = usize::try_from(seen.seq - 1).unwrap();
                now = now.max(self.times[&room][at]) + dice.random_range(0..20_000);
                events.push((now, seen.clone()));
                if !complete && dice.random_range(0..8) == 0 {
                    break;
                }
            }
            self.setting.history.tails.push(Tail {
                session: 2_000 + number,
                site: site(dice),
                room,
                from: asked,
                events,
                error: (!complete).then(|| "UNAVAILABLE".to_owned()),
                complete,
            });
        }
    }
}
