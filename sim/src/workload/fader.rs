//! Faders: each says things that expire, in a conversation of its own, and looks at them, LINEARIZABLE and
//! mostly through another gateway, until some time after they should be gone.

use std::sync::Arc;
use std::time::Duration;

use client::{Level, Message};
use rand::Rng as _;
use rand::rngs::StdRng;

use super::Site;
use super::rooms::TENANT;
use crate::dice::dice;
use crate::history::{Fade, Faded};

/// Messages of a fader that it looks at, most.
const LATEST: usize = 8;
/// Between the shortest and the longest time to live, seconds.
const TTL_S: std::ops::Range<u64> = 2..16;
/// For so long behind its end a message is looked at.
const LOOKED_AT_FOR: Duration = Duration::from_secs(12);

struct Fader {
    site: Arc<Site>,
    k: u32,
    room: String,
    dice: StdRng,
    said: Vec<Said>,
    made: u64,
}

#[derive(Clone, Copy)]
struct Said {
    seq: u64,
    ttl_ms: u64,
    said_us: (u64, u64),
}

/// Fader `k`, until the load ends.
pub(crate) async fn run(site: Arc<Site>, k: u32) {
    let mut fader = Fader {
        dice: dice(site.env.plan.seed, &format!("fader {k}")),
        room: format!("tenants/{TENANT}/conversations/fading-{k}"),
        site,
        k,
        said: Vec::new(),
        made: 0,
    };
    let pause_ms = fader.site.workload().pause_ms;
    while fader.site.clone().pause(pause_ms, &mut fader.dice).await {
        fader.step().await;
    }
}

impl Fader {
    async fn step(&mut self) {
        let now_us = self.site.env.now();
        let longest_us = u64::try_from(LOOKED_AT_FOR.as_micros()).unwrap_or(u64::MAX);
        self.said
            .retain(|one| now_us < one.said_us.1 + one.ttl_ms * 1_000 + longest_us);
        let say = self.said.len() < LATEST && self.dice.random_range(0..3) == 0;
        if say || self.said.is_empty() {
            self.say().await;
        } else {
            let at = self.dice.random_range(0..self.said.len());
            self.look(self.said[at]).await;
        }
    }

    async fn say(&mut self) {
        self.made += 1;
        let ttl = Duration::from_secs(self.dice.random_range(TTL_S));
        let (id, began_us) = (format!("f{}-{}", self.k, self.made), self.site.env.now());
        let message = Message::text(format!("f{}", self.k), format!("fading {id}"))
            .id(id)
            .ttl(ttl);
        let client = self.site.clients.of(self.k);
        if let Ok(appended) = client.append(&self.room, message).await {
            self.said.push(Said {
                seq: appended.seq,
                ttl_ms: u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX),
                said_us: (began_us, self.site.env.now()),
            });
        }
    }

    async fn look(&self, said: Said) {
        let invoked_us = self.site.env.now();
        let client = self.site.clients.other_than(self.k);
        let found = client
            .get_message(&self.room, said.seq, &Level::Linearizable)
            .await;
        let end = match found {
            Ok(message) => match message.redaction {
                Some(gone) if gone.expired && message.body.is_empty() => Faded::Gone,
                Some(_) => Faded::Otherwise,
                None if message.body.is_empty() => Faded::Otherwise,
                None => Faded::Shown,
            },
            Err(error) if error.reason() == Some("MESSAGE_NOT_FOUND") => Faded::Gone,
            Err(_) => return,
        };
        self.site.env.recorder.faded(Fade {
            room: self.k,
            seq: said.seq,
            ttl_ms: said.ttl_ms,
            said_us: said.said_us,
            looked_us: (invoked_us, self.site.env.now()),
            end,
        });
    }
}
