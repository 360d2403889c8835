//! Whether every shard serves (promise P): one append to each room, tried until it is acknowledged.

use std::time::Duration;

use futures::StreamExt as _;
use futures::stream::FuturesUnordered;
use tokio::time::{sleep, timeout};

use super::Env;
use super::calls::{self, Path, Who};
use super::clients::build;
use super::message::Draft;
use super::sessions::Sessions;
use crate::dice::dice;
use crate::history::AppendEnd;

/// The sender of probes.
pub const PROBER: &str = "probe";
/// How long one try of a probe may take, ms.
const DEADLINE_MS: u64 = 2_000;
/// Between two tries.
const AGAIN: Duration = Duration::from_millis(50);

/// Appends one message to every room at once, each again under the same id until it is
/// acknowledged, and records them. Gives the true time of the last acknowledgement, microseconds.
/// Rooms lie in every shard ([`super::Recorder::room_name`]), as long as there are as many. One
/// probe at a time.
///
/// # Errors
/// The rooms that were not acknowledged within `limit`.
pub async fn probe(env: &Env, limit: Duration) -> Result<u64, String> {
    let ordinal = env.recorder.next_probe();
    let name = format!("probe {ordinal}");
    let client = build(env, &name, DEADLINE_MS, 0)?;
    let sessions = Sessions::of(&env.plan.workload);
    let mut open: Vec<u32> = (0..env.plan.workload.rooms).collect();
    let mut tries: FuturesUnordered<_> = open
        .iter()
        .map(|&room| {
            let who = Who {
                session: sessions.prober(room),
                name: PROBER.to_owned(),
            };
            let mut dice = dice(env.plan.seed, &format!("{name} {room}"));
            let draft = Draft::new(&env.plan, (who.session, PROBER), ordinal, room, &mut dice);
            let path = Path::Call(client.clone());
            serve(env, path, who, draft)
        })
        .collect();
    let mut last = env.now();
    let all = async {
        while let Some((room, at)) = tries.next().await {
            open.retain(|one| *one != room);
            last = last.max(at);
        }
    };
    let in_time = timeout(limit, all).await.is_ok();
    drop(tries);
    if in_time {
        return Ok(last);
    }
    let names: Vec<&str> = open
        .iter()
        .map(|room| env.recorder.room_name(*room))
        .collect();
    Err(format!(
        "{} of {} rooms did not serve within {} ms: {}",
        open.len(),
        env.plan.workload.rooms,
        limit.as_millis(),
        names.join(", ")
    ))
}

/// Tries until it is acknowledged; gives the room and when.
async fn serve(env: &Env, path: Path, who: Who, mut draft: Draft) -> (u32, u64) {
    loop {
        if let AppendEnd::Acked { .. } = calls::append(env, &path, &who, &mut draft, None).await {
            return (draft.room, env.now());
        }
        sleep(AGAIN).await;
    }
}
