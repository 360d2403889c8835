//! At rest: every conversation as each node shows it, read through that node alone.

use std::time::Duration;

use client::{Client, ListOptions};
use futures::StreamExt as _;

use super::Env;
use super::calls;
use crate::dice::derive;
use crate::history::{Final, Level};

/// How long a page may take.
const DEADLINE: Duration = Duration::from_secs(10);
/// Conversations read at once.
const AT_ONCE: usize = 8;
/// Messages of a page.
const PAGE_SIZE: u32 = 40;

/// Reads rooms 0 to `rooms`, whole, through each of `nodes` (host's name, host:port), at the levels
/// LINEARIZABLE and LOCAL, in the order of nodes, levels and rooms. A room that is not found is
/// empty. Instead of what cannot be read there is the reason.
pub async fn finals(
    env: &Env,
    nodes: &[(String, String)],
    rooms: u32,
) -> Vec<Result<Final, String>> {
    let mut all = Vec::new();
    for (node, address) in nodes {
        let client = Client::builder()
            .endpoints([address.clone()])
            .dialer(env.dialer.clone())
            .discover(false)
            .deadline(DEADLINE)
            .seed(derive(env.plan.seed, &format!("finals {node}")))
            .build();
        let client = match client {
            Ok(client) => client,
            Err(error) => {
                all.push(Err(format!("{node}: {error}")));
                continue;
            }
        };
        for level in [Level::Linearizable, Level::Local] {
            let reads = (0..rooms).map(|room| whole(env, &client, node, level, room));
            let reads: Vec<_> = futures::stream::iter(reads)
                .buffered(AT_ONCE)
                .collect()
                .await;
            all.extend(reads);
        }
    }
    all
}

async fn whole(
    env: &Env,
    client: &Client,
    node: &str,
    level: Level,
    room: u32,
) -> Result<Final, String> {
    let options = ListOptions {
        page_size: PAGE_SIZE,
        level: calls::level(level, ""),
        ..ListOptions::default()
    };
    let name = env.recorder.room_name(room);
    let messages = match client.pages(name, options).collect().await {
        Ok(messages) => messages,
        // Then all that was acknowledged in it is lost, which is for an oracle to say.
        Err(error) if error.is_not_found() => Vec::new(),
        Err(error) => return Err(format!("{name} at {node}, {level:?}: {error}")),
    };
    Ok(Final {
        node: node.to_owned(),
        room,
        level,
        messages: messages.into_iter().map(calls::seen).collect(),
    })
}
