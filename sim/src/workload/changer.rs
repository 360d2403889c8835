//! Changers: each has a conversation of its own, says things there, and changes what it said: edits,
//! erasures, reactions. After each step it looks, LINEARIZABLE and mostly through another gateway. Some
//! edits that were acknowledged are sent again later under the same id: they must change nothing.

use std::sync::Arc;

use client::{Changed, Edit, Error, Level, Message};
use rand::Rng as _;
use rand::rngs::StdRng;

use super::Site;
use super::message::body_hash;
use super::rooms::TENANT;
use crate::dice::dice;
use crate::history::{Change, ChangeEnd, Look, Shown, What};

/// Messages of a changer that it changes at a time; older ones it leaves alone.
const LATEST: usize = 6;

struct Changer {
    site: Arc<Site>,
    k: u32,
    room: String,
    dice: StdRng,
    /// The latest of what it said.
    said: Vec<u64>,
    /// Edits that were acknowledged: seq, id, text.
    edits: Vec<(u64, String, String)>,
    made: u64,
}

/// Changer `k`, until the load ends.
pub(crate) async fn run(site: Arc<Site>, k: u32) {
    let mut changer = Changer {
        dice: dice(site.env.plan.seed, &format!("changer {k}")),
        room: format!("tenants/{TENANT}/conversations/living-{k}"),
        site,
        k,
        said: Vec::new(),
        edits: Vec::new(),
        made: 0,
    };
    let pause_ms = changer.site.workload().pause_ms;
    while changer
        .site
        .clone()
        .pause(pause_ms, &mut changer.dice)
        .await
    {
        changer.step().await;
    }
}

impl Changer {
    async fn step(&mut self) {
        self.made += 1;
        let id = format!("c{}-{}", self.k, self.made);
        let draw = self.dice.random_range(0..100);
        let seq = match self.said.len() {
            0 => None,
            count => Some(self.said[self.dice.random_range(0..count)]),
        };
        let seq = match (seq, draw) {
            (None, _) | (_, 0..20) => self.say(&id).await,
            (Some(seq), 20..50) => self.edit(seq, id).await,
            (Some(_), 50..65) if !self.edits.is_empty() => self.edit_again().await,
            (Some(seq), 65..73) => self.redact(seq, &id).await,
            (Some(seq), _) => self.react(seq, &id).await,
        };
        if let Some(seq) = seq {
            self.look(seq).await;
        }
    }

    async fn say(&mut self, id: &str) -> Option<u64> {
        let text = format!("said {id}");
        let began_us = self.site.env.now();
        let message = Message::text(format!("c{}", self.k), text.clone()).id(id);
        let client = self.site.clients.of(self.k);
        let appended = client.append(&self.room, message).await.ok()?;
        let what = What::Said {
            body: body_hash(text.as_bytes()),
        };
        let end = ChangeEnd::Done {
            revision: appended.revision,
        };
        self.note(appended.seq, what, false, began_us, end);
        self.said.push(appended.seq);
        if self.said.len() > LATEST {
            self.said.remove(0);
        }
        Some(appended.seq)
    }

    async fn edit(&mut self, seq: u64, id: String) -> Option<u64> {
        let text = format!("edited {id}");
        if self.send(seq, &id, &text, false).await {
            self.edits.push((seq, id, text));
        }
        Some(seq)
    }

    async fn edit_again(&mut self) -> Option<u64> {
        let at = self.dice.random_range(0..self.edits.len());
        let (seq, id, text) = self.edits.remove(at);
        self.send(seq, &id, &text, true).await;
        Some(seq)
    }

    async fn send(&self, seq: u64, id: &str, text: &str, again: bool) -> bool {
        let began_us = self.site.env.now();
        let client = match again {
            true => self.site.clients.other_than(self.k),
            false => self.site.clients.of(self.k),
        };
        let edit = Edit::text(text).id(id);
        let end = end_of(client.edit(&self.room, seq, edit).await);
        let done = matches!(end, ChangeEnd::Done { .. });
        let what = What::Edited {
            body: body_hash(text.as_bytes()),
        };
        self.note(seq, what, again, began_us, end);
        done
    }

    async fn redact(&mut self, seq: u64, id: &str) -> Option<u64> {
        let began_us = self.site.env.now();
        let client = self.site.clients.of(self.k);
        let end = end_of(client.redact(&self.room, seq, id).await);
        self.note(seq, What::Redacted, false, began_us, end);
        Some(seq)
    }

    async fn react(&mut self, seq: u64, id: &str) -> Option<u64> {
        let user = format!("u{}", self.dice.random_range(0..3));
        let kind = format!("k{}", self.dice.random_range(0..2));
        let remove = self.dice.random_range(0..3) == 0;
        let began_us = self.site.env.now();
        let client = self.site.clients.of(self.k);
        let how = (user.as_str(), kind.as_str(), remove);
        let end = end_of(client.react(&self.room, seq, how, id).await);
        let what = What::Reacted { user, kind, remove };
        self.note(seq, what, false, began_us, end);
        Some(seq)
    }

    async fn look(&self, seq: u64) {
        let invoked_us = self.site.env.now();
        let client = self.site.clients.other_than(self.k);
        let found = client
            .get_message(&self.room, seq, &Level::Linearizable)
            .await;
        let end = match found {
            Ok(message) => Ok(Shown {
                body: body_hash(&message.body),
                revision: message.revision,
                redacted: message.redaction.is_some(),
                bare: message.body.is_empty() && message.sender.is_empty(),
                counts: message
                    .reactions
                    .into_iter()
                    .map(|one| (one.kind, one.count))
                    .collect(),
            }),
            Err(error) => Err(error.reason().unwrap_or("-").to_owned()),
        };
        self.site.env.recorder.looked(Look {
            room: self.k,
            seq,
            invoked_us,
            returned_us: self.site.env.now(),
            end,
        });
    }

    fn note(&self, seq: u64, what: What, again: bool, invoked_us: u64, end: ChangeEnd) {
        self.site.env.recorder.changed(Change {
            room: self.k,
            seq,
            what,
            again,
            invoked_us,
            returned_us: self.site.env.now(),
            end,
        });
    }
}

fn end_of(outcome: Result<Changed, Error>) -> ChangeEnd {
    match outcome {
        Ok(changed) => ChangeEnd::Done {
            revision: changed.revision,
        },
        Err(error) if error.outcome_unknown() => ChangeEnd::Unknown,
        Err(error) => ChangeEnd::Refused {
            why: error.reason().unwrap_or("-").to_owned(),
        },
    }
}
