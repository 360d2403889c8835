//! What an operator is about to do to a cluster, as the simulator rehearses it.

use serde::{Deserialize, Serialize};

/// A dangerous verb.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "verb", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Verb {
    /// These nodes lead nothing any more, and take no clients.
    Drain {
        /// Their names.
        nodes: Vec<String>,
    },
    /// A node gives up all that it holds, and is removed.
    Remove {
        /// Its name.
        node: String,
    },
    /// A replica of a shard goes to another node.
    Move {
        /// Which shard.
        shard: u32,
        /// The node that gives its replica up.
        from: String,
        /// The node that gets it.
        to: String,
    },
    /// Leaders are to be elsewhere.
    Prefer {
        /// Data centers, best first.
        dcs: Vec<String>,
    },
}

impl Verb {
    /// As people say it.
    pub fn words(&self) -> String {
        match self {
            Verb::Drain { nodes } => format!("drain {}", nodes.join(", ")),
            Verb::Remove { node } => format!("remove {node}"),
            Verb::Move { shard, from, to } => {
                format!("move the replica of shard {shard} from {from} to {to}")
            }
            Verb::Prefer { dcs } => format!("leaders in {}", dcs.join(", then ")),
        }
    }
}
