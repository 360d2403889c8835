//! What a node has only so much of, as `firebreak status` tells it.

use model::text::printable;
use proto::v1::NodeStats;
use serde::Serialize;

/// From this share of a bound on, percent, it is told to people.
const TOLD_PERCENT: u64 = 80;

/// Something bounded.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Resource {
    /// What people call it.
    pub name: String,
    /// How much of it is in use.
    pub used: u64,
    /// Its bound.
    pub max: u64,
    /// How often it was short since the node's start.
    pub refused: u64,
    /// The key of `node.toml` that sets the bound.
    pub setting: String,
    /// The bound that would be right, where this one is too small; else 0.
    pub wanted: u64,
}

/// Those of a node.
pub fn of(stats: Option<&NodeStats>) -> Vec<Resource> {
    let resources = stats.into_iter().flat_map(|stats| &stats.resources);
    resources
        .map(|one| Resource {
            name: printable(&one.name),
            used: one.used,
            max: one.max,
            refused: one.refused,
            setting: printable(&one.setting),
            wanted: one.wanted,
        })
        .collect()
}

/// A line for each that is short now, or was since the node's start.
pub fn lines(node: &str, resources: &[Resource]) -> Vec<String> {
    let short = |one: &&Resource| {
        let (used, max) = (u128::from(one.used), u128::from(one.max));
        one.refused > 0 || one.wanted > 0 || used * 100 >= max * u128::from(TOLD_PERCENT)
    };
    let line = |one: &Resource| {
        let Resource {
            name,
            used,
            max,
            refused,
            setting,
            wanted,
        } = one;
        let refused = match refused {
            0 => String::new(),
            refused => format!(", refused or given up {refused} times since its start"),
        };
        let wanted = match wanted {
            0 => String::new(),
            wanted => format!(
                ", too small for the shards of this node: {} MiB would be right",
                wanted / 1_048_576
            ),
        };
        format!("{node}: {name}: {used} of {max} in use{refused}{wanted} ({setting})")
    };
    resources.iter().filter(short).map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_short_is_told_to_people() {
        let resource = |name: &str, used, refused| proto::v1::Resource {
            name: name.to_owned(),
            used,
            max: 100,
            refused,
            setting: "limits.x".to_owned(),
            ..proto::v1::Resource::default()
        };
        let small = proto::v1::Resource {
            wanted: 512 * 1_048_576,
            ..resource("memory", 70, 0)
        };
        let stats = NodeStats {
            resources: vec![
                resource("fine", 79, 0),
                resource("calls", 80, 0),
                resource("connections", 1, 7),
                small,
            ],
            ..NodeStats::default()
        };
        assert_eq!(
            lines("seoul-1", &of(Some(&stats))),
            [
                "seoul-1: calls: 80 of 100 in use (limits.x)",
                "seoul-1: connections: 1 of 100 in use, refused or given up 7 times since its start \
                 (limits.x)",
                "seoul-1: memory: 70 of 100 in use, too small for the shards of this node: 512 MiB \
                 would be right (limits.x)",
            ]
        );
        assert!(of(None).is_empty());
    }
}
