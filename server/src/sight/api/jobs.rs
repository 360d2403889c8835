//! What is under way, and how this node is set.

use serde::Serialize;

use super::shards::moves;
use super::{Api, Look, SeenBy};
use crate::config::{Config, REFERENCE};
use crate::secrets;
use crate::sight::report::newest;

/// What is under way in the cluster.
#[derive(Serialize)]
pub struct Jobs {
    /// Who says it.
    pub seen_by: SeenBy,
    /// What is under way.
    pub jobs: Vec<Job>,
}

/// Something under way.
#[derive(Serialize)]
pub struct Job {
    /// move, leave, drain, rebuild.
    pub kind: &'static str,
    /// Of what.
    pub what: String,
    /// How far it is.
    pub state: String,
    /// What it waits for.
    pub waits_for: String,
    /// How much is done.
    pub done_pct: Option<f64>,
    /// Since when, Unix milliseconds.
    pub since_ms: Option<u64>,
}

impl Jobs {
    /// Of what this node saw.
    pub(super) fn of(api: &Api, look: &Look) -> Jobs {
        Jobs::told(api.seen_by(look), look)
    }

    /// Of what was seen.
    pub fn told(seen_by: SeenBy, look: &Look) -> Jobs {
        let mut jobs: Vec<Job> = moves(look)
            .into_iter()
            .map(|going| Job {
                kind: "move",
                what: format!("{} from {} to {}", shard(going.shard), going.from, going.to),
                state: match going.changing {
                    true => "changing the voters".to_owned(),
                    false => "learning".to_owned(),
                },
                waits_for: going.waits_for,
                done_pct: None,
                since_ms: None,
            })
            .collect();
        let Some(status) = newest(&look.reports) else {
            return Jobs { seen_by, jobs };
        };
        for node in &status.nodes {
            let held = status
                .shards
                .iter()
                .filter(|one| one.replicas.contains(&node.node_id));
            let (held, led) = (
                held.count(),
                status
                    .shards
                    .iter()
                    .filter(|one| one.leader == node.node_id)
                    .count(),
            );
            if node.leaving {
                jobs.push(Job {
                    kind: "leave",
                    what: format!("{} gives up all it holds", node.name),
                    state: format!("{held} replicas are left"),
                    waits_for: "its replicas to be elsewhere".to_owned(),
                    done_pct: None,
                    since_ms: None,
                });
            }
            if node.draining {
                jobs.push(Job {
                    kind: "drain",
                    what: format!("{} gives away what it leads", node.name),
                    state: match led {
                        0 => "drained: it leads nothing".to_owned(),
                        led => format!("{led} shards are still led there"),
                    },
                    waits_for: match led {
                        0 => String::new(),
                        _ => "another replica of each to take over".to_owned(),
                    },
                    done_pct: None,
                    since_ms: None,
                });
            }
        }
        let moving = |number: u32, node: u64| {
            let mut moves = status.moves.iter();
            moves.any(|going| going.shard == number && going.from == node)
        };
        let unrestored = status.unrestored.iter();
        for one in unrestored.filter(|one| !moving(one.shard, one.node_id)) {
            let node = status.nodes.iter().find(|node| node.node_id == one.node_id);
            let node = node.map_or_else(|| format!("n{}", one.node_id), |node| node.name.clone());
            jobs.push(Job {
                kind: "rebuild",
                what: format!("{} on {node}", shard(one.shard)),
                state: "waiting".to_owned(),
                waits_for: one.why.clone(),
                done_pct: None,
                since_ms: None,
            });
        }
        Jobs { seen_by, jobs }
    }
}

fn shard(number: u32) -> String {
    match number {
        0 => "the meta shard".to_owned(),
        number => format!("shard {number}"),
    }
}

/// How this node is set.
#[derive(Serialize)]
pub struct Settings {
    seen_by: SeenBy,
    node: String,
    version: &'static str,
    file: Option<String>,
    values: Vec<Setting>,
}

/// A key of `node.toml`.
#[derive(Serialize)]
pub struct Setting {
    key: String,
    value: Option<String>,
    default: String,
    set: bool,
    about: String,
}

/// Every key, and what `config` sets of them; values of secrets are not told.
pub fn settings(config: &Config) -> Vec<Setting> {
    let rows = REFERENCE.lines().skip(2).filter_map(|row| {
        let mut cells = row.trim_matches('|').split('|').map(str::trim);
        let key = cells.next()?.trim_matches('`').to_owned();
        let about = cells.next()?.to_owned();
        let default = cells.next()?.replace('`', "");
        let value = config.given.values.get(&key);
        let value = value.map(|value| secrets::shown(&key, value));
        Some(Setting {
            set: value.is_some(),
            value,
            default,
            about,
            key,
        })
    });
    rows.collect()
}

impl Settings {
    /// Of this node.
    pub(super) fn of(api: &Api, look: &Look) -> Settings {
        Settings {
            seen_by: api.seen_by(look),
            node: api.config.name.clone(),
            version: api.local().version,
            file: api.config.given.file.clone(),
            values: settings(&api.config),
        }
    }
}
