//! What nodes hold at the end of a correct history, and what was on their disks meanwhile.

use super::*;

impl World {
    /// What nodes hold at the end, unless the run was stopped.
    pub(super) fn rest(&mut self, dice: &mut StdRng) {
        if dice.random_range(0..8) == 0 {
            return;
        }
        let behind = (dice.random_range(0..4) == 0).then(|| dice.random_range(0..DCS.len()));
        let observed = &mut self.setting.observed;
        observed.unsettled = behind.map(|_| "shard 1 differs after 30 s".to_owned());
        for (dc, node) in DCS.iter().enumerate() {
            for (&room, log) in &self.logs {
                for level in [Level::Linearizable, Level::Local] {
                    let least = if behind == Some(dc) && level == Level::Local {
                        0
                    } else {
                        log.len()
                    };
                    let many = dice.random_range(least..=log.len());
                    self.setting.history.finals.push(Final {
                        node: format!("{node}-1"),
                        room,
                        level,
                        messages: log[..many].to_vec(),
                    });
                }
            }
            for shard in 1..=SHARDS {
                let rooms = self
                    .logs
                    .iter()
                    .filter(|(room, _)| *room % SHARDS + 1 == shard);
                let rooms = rooms.map(|(room, log)| {
                    let many = log.len() as u64;
                    (
                        format!("tenants/sim/conversations/room-{room}"),
                        many,
                        many,
                        "cafe".to_owned(),
                    )
                });
                let late = u64::from(behind == Some(dc));
                observed.replicas.push(ReplicaSeen {
                    node: format!("{node}-1"),
                    shard,
                    revision: 100 - late,
                    rooms: rooms.filter(|_| late == 0).collect(),
                });
            }
        }
    }

    /// A drill's fault, which a controller let live for a while.
    pub(super) fn drill(&mut self, dice: &mut StdRng) {
        let began_us = BEGAN_US + dice.random_range(0..1_000_000);
        let until_us = began_us + dice.random_range(1_000..60_000_000);
        let ended_us = dice.random_range(began_us..=until_us + 50_000);
        self.setting.observed.drills.push(DrillSeen {
            host: "tokyo-1".to_owned(),
            began_us,
            until_us,
            ended_us: Some(ended_us),
        });
    }

    /// Two messages that live: one is edited now and then, the other is erased, and each is looked at then.
    pub(super) fn live(&mut self, dice: &mut StdRng) {
        let mut now_us = BEGAN_US;
        let mut last = 0;
        for at in 0..dice.random_range(2..5_u64) {
            let body = dice.random::<u64>();
            let what = match at {
                0 => What::Said { body },
                _ => What::Edited { body },
            };
            now_us = self.change(1, what, now_us, dice);
            last = body;
        }
        self.look(1, last, false, now_us);
        let body = dice.random::<u64>();
        now_us = self.change(2, What::Said { body }, now_us, dice);
        now_us = self.change(2, What::Redacted, now_us, dice);
        self.look(2, 0, true, now_us);
        let ttl_ms = dice.random_range(4_000..9_000);
        let fade = |looked_us: u64, end| Fade {
            room: 0,
            seq: 1,
            ttl_ms,
            said_us: (now_us, now_us + 5_000),
            looked_us: (looked_us, looked_us + 5_000),
            end,
        };
        let gone_us = now_us + ttl_ms * 1_000 + dice.random_range(2_000_000..9_000_000);
        self.setting.history.fades = vec![
            fade(now_us + dice.random_range(10_000..1_000_000), Faded::Shown),
            fade(gone_us, Faded::Gone),
        ];
        self.tell(now_us, dice);
    }

    /// The feed tells each change, or only the last of a message.
    fn tell(&mut self, now_us: u64, dice: &mut StdRng) {
        let changes = self.setting.history.changes.iter();
        let told = changes.map(|one| {
            let ChangeEnd::Done { revision } = one.end else {
                unreachable!("all are done here")
            };
            let (body, redacted) = match one.what {
                What::Said { body } | What::Edited { body } => (body, false),
                What::Redacted | What::Reacted { .. } => (0, true),
            };
            FeedChange {
                room: one.room,
                seq: one.seq,
                revision,
                body,
                redacted,
                at_us: now_us,
            }
        });
        let all: Vec<FeedChange> = told.collect();
        let last = |one: &FeedChange| {
            let later = all.iter().filter(|other| other.seq == one.seq);
            later.map(|other| other.revision).max() == Some(one.revision)
        };
        let every = dice.random::<bool>();
        self.setting.history.feed = Some(Feed {
            told: all
                .iter()
                .filter(|one| every || last(one))
                .cloned()
                .collect(),
            complete: true,
            error: None,
        });
    }

    /// Notes a change behind `now_us`; when it was answered.
    fn change(&mut self, seq: u64, what: What, now_us: u64, dice: &mut StdRng) -> u64 {
        let invoked_us = now_us + dice.random_range(1..1_000);
        let returned_us = invoked_us + dice.random_range(1..1_000);
        self.setting.history.changes.push(Change {
            room: 0,
            seq,
            what,
            again: false,
            invoked_us,
            returned_us,
            end: ChangeEnd::Done { revision: now_us },
        });
        returned_us
    }

    fn look(&mut self, seq: u64, body: u64, erased: bool, now_us: u64) {
        self.setting.history.looks.push(Look {
            room: 0,
            seq,
            invoked_us: now_us + 1,
            returned_us: now_us + 10,
            end: Ok(Shown {
                body,
                revision: now_us,
                redacted: erased,
                bare: erased,
                counts: BTreeMap::new(),
            }),
        });
    }

    /// What was on the disks meanwhile.
    pub(super) fn vote(&mut self, dice: &mut StdRng) {
        let host = |dc: usize| format!("{}-1", DCS[dc]);
        for (at, append) in self.setting.history.appends.iter().enumerate() {
            if !matches!(append.end, AppendEnd::Acked { .. }) {
                continue;
            }
            let first = dice.random_range(0..2);
            let some = if dice.random() {
                0..3
            } else {
                first..first + 2
            };
            self.setting.observed.covers.push(Cover {
                append: at,
                hosts: some.clone().map(host).collect(),
                dcs: some.map(|dc| DCS[dc].to_owned()).collect(),
                quorum: 2,
            });
        }
        let wiped = (dice.random_range(0..3) == 0).then(|| dice.random_range(0..DCS.len()));
        for shard in 0..=SHARDS {
            let mut term = 0_u64;
            for round in 0..dice.random_range(1..5_u64) {
                term += dice.random_range(1..3);
                let leader = dice.random_range(0..DCS.len());
                let mut at_us = round * 1_000_000 + u64::from(shard);
                for committed in [false, true] {
                    let voters = (0..DCS.len()).filter(|_| dice.random_range(0..4) > 0);
                    for dc in voters.collect::<Vec<_>>() {
                        at_us += 1_000;
                        let gone = wiped == Some(dc) && round >= 2;
                        // A new disk knows nothing of the terms of the old one.
                        let term = if gone { term.saturating_sub(2) } else { term };
                        let committed = committed && !gone;
                        // Who voted for a loser notes the winner all the same.
                        let won = if committed {
                            leader
                        } else {
                            dice.random_range(0..DCS.len())
                        };
                        let node = if gone { 9 } else { won as u64 };
                        let host = host(dc);
                        let vote = VoteSeen {
                            at_us,
                            host,
                            shard,
                            term,
                            node,
                            committed,
                        };
                        self.setting.observed.votes.push(vote);
                    }
                }
            }
        }
        self.setting.observed.votes.sort_by_key(|vote| vote.at_us);
        let needed = dice.random_range(0..200_u64);
        self.setting.observed.voters.push(VoterSeen {
            at_us: dice.random_range(0..1_000_000),
            host: host(dice.random_range(0..DCS.len())),
            shard: 1,
            voted: dice.random_bool(0.5),
            last: needed.saturating_sub(dice.random_range(0..30)),
            needed,
        });
        if let Some(dc) = wiped {
            let hosts = vec![host(dc)];
            // As the load begins: the rounds of votes from the second on are behind it.
            self.setting
                .plan
                .events
                .push(event(0, Fault::Burn { hosts }));
        }
    }
}
