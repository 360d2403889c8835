//! Readers: each reads at its level, by turns the newest messages of a room and a page from
//! somewhere in it.

use std::collections::BTreeMap;
use std::sync::Arc;

use rand::Rng as _;

use super::Site;
use super::calls::{self, Ask};
use crate::dice::dice;
use crate::history::Level;

/// Messages of a page.
const LIMIT: std::ops::RangeInclusive<u32> = 1..=50;

/// Reader `k`, until the load ends.
pub(crate) async fn run(site: Arc<Site>, k: u32, level: Level) {
    let session = site.sessions().reader(k);
    let mut dice = dice(site.env.plan.seed, &format!("reader {k}"));
    let mut token = String::new();
    // The last seq of each room as this reader has seen it.
    let mut heads: BTreeMap<u32, u64> = BTreeMap::new();
    let mut newest = true;
    while site
        .pause(site.workload().readers.pause_ms, &mut dice)
        .await
    {
        let room = site.env.recorder.zipf().draw(&mut dice);
        let head = heads.get(&room).copied().unwrap_or(0);
        let from = if newest {
            0
        } else {
            dice.random_range(1..=head + 1)
        };
        newest = !newest;
        let ask = Ask {
            room,
            level,
            from,
            limit: dice.random_range(LIMIT),
        };
        let client = site.clients.of(session);
        if let Some(last_seq) = calls::read(&site.env, &client, session, ask, &mut token).await {
            heads.insert(room, last_seq.max(head));
        }
    }
}
