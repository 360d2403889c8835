//! Follows what is changed in the tenant, through one gateway and then another, from the first message to
//! the last: the messages of changers are noted.

use std::sync::Arc;
use std::time::Duration;

use client::v1::change::What;
use client::{Error, Level, v1};
use rand::Rng as _;
use tokio::sync::watch;
use tokio::time::sleep;

use super::Site;
use super::message::body_hash;
use super::rooms::TENANT;
use super::tail::Heads;
use crate::dice::dice;
use crate::history::FeedChange;

/// Between two questions while nothing is changed, or no node answers.
const FEED_ASK_EVERY: Duration = Duration::from_millis(300);
/// How old what is read may be, until all is at rest.
const STALENESS: Duration = Duration::from_secs(2);

/// Follows until everything was told at rest, or something ended it.
pub(super) async fn run(site: Arc<Site>, at_rest: watch::Receiver<Heads>) {
    let recorder = &site.env.recorder;
    let mut dice = dice(site.env.plan.seed, "feeder");
    let mut cursor = String::new();
    recorder.fed(|_| {});
    loop {
        let rests = at_rest.borrow().is_some();
        let level = match rests {
            true => Level::Linearizable,
            false => Level::Bounded(STALENESS),
        };
        let client = site.clients.of(dice.random_range(0..8));
        let mut changes = client.changes(TENANT, &cursor);
        drop(client);
        match changes.poll(&level).await {
            Ok(told) => {
                let at_us = site.env.now();
                let told = told.into_iter().filter_map(|one| living(one, at_us));
                recorder.fed(|feed| feed.told.extend(told));
                cursor = changes.cursor().to_owned();
                if !changes.caught_up() {
                    continue;
                }
                if rests {
                    return recorder.fed(|feed| feed.complete = true);
                }
            }
            Err(Error::Deadline { .. }) => {}
            Err(error) => return recorder.fed(|feed| feed.error = Some(error.to_string())),
        }
        sleep(FEED_ASK_EVERY).await;
    }
}

/// A message of a changer.
fn living(change: v1::Change, at_us: u64) -> Option<FeedChange> {
    let (_, room) = change.conversation.split_once("/conversations/living-")?;
    let Some(What::Message(message)) = change.what else {
        return None;
    };
    Some(FeedChange {
        room: room.parse().ok()?,
        seq: message.seq,
        revision: change.revision,
        body: body_hash(&message.body),
        redacted: message.redaction.is_some(),
        at_us,
    })
}
