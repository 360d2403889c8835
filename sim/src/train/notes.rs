//! What is seen of whoever is trained: looks at the cluster, changes that were asked for, and what became of
//! them.

use std::collections::BTreeSet;
use std::sync::Arc;

use parking_lot::Mutex;
use serde::Serialize;

use super::shown;
use crate::net::{Answered, Witness, now_us};

/// More is not kept.
const NOTES_MAX: usize = 20_000;
/// Calls that change a cluster, and what each is to people.
const CHANGES: [(&str, &str); 11] = [
    ("/firebreak.v1.Admin/SetDraining", "drain"),
    ("/firebreak.v1.Admin/SetPolicy", "policy"),
    ("/firebreak.v1.Admin/MoveReplica", "move of a replica"),
    ("/firebreak.v1.Admin/RemoveNode", "removal of a node"),
    ("/firebreak.v1.Admin/RelocateNode", "relocation of a node"),
    ("/firebreak.v1.Admin/JoinNode", "joining of a node"),
    ("/firebreak.v1.Admin/ForgetBoot", "forgetting of a boot"),
    ("/firebreak.v1.Admin/ChangeDrill", "change of a drill"),
    ("/firebreak.v1.Admin/RotateJoinToken", "new join token"),
    ("/firebreak.v1.Admin/CreateJoinToken", "new join token"),
    ("/firebreak.v1.Admin/RevokeJoinToken", "revoked join token"),
];
/// Calls that ask what a change would do.
const REHEARSALS: [(&str, &str); 2] = [
    ("/firebreak.v1.Admin/GetEvents", "rehearsal, or a recording"),
    ("/api/whatif?", "what if"),
];

/// Something that was seen.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum What {
    /// An answer told how the cluster is, and that these nodes are not reached.
    Looked {
        /// Their names.
        troubled: BTreeSet<String>,
    },
    /// A node owed an answer, and gave none.
    Silent {
        /// Its name.
        node: String,
        /// It was asked so much earlier, ms.
        asked_ms_before: u64,
    },
    /// Somebody looked into what a change would do.
    Rehearsed {
        /// What was asked.
        what: String,
    },
    /// A change was asked for.
    Asked {
        /// Which.
        what: String,
    },
    /// It was done.
    Applied {
        /// Which.
        what: String,
    },
    /// It was refused.
    Refused {
        /// Which.
        what: String,
    },
}

/// When something was seen.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Note {
    /// ms after the load began.
    pub at_ms: u64,
    /// It.
    #[serde(flatten)]
    pub what: What,
}

/// All notes of a run. Clones share them.
#[derive(Clone, Default)]
pub struct Notes(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    began_us: Option<u64>,
    ended: bool,
    all: Vec<Note>,
}

impl Notes {
    /// The load began at that moment of the run. Nothing is noted before.
    pub(crate) fn began_at(&self, us: u64) {
        self.0.lock().began_us.get_or_insert(us);
    }

    /// The load is over; nothing more is noted.
    pub(crate) fn end(&self) {
        self.0.lock().ended = true;
    }

    /// Those that there are.
    pub fn all(&self) -> Vec<Note> {
        self.0.lock().all.clone()
    }

    /// A node does not answer what it was asked at that moment of the run.
    pub(super) fn silent(&self, node: &str, asked_us: u64) {
        self.note(What::Silent {
            node: node.to_owned(),
            asked_ms_before: now_us().saturating_sub(asked_us) / 1_000,
        });
    }

    fn note(&self, what: What) {
        let mut state = self.0.lock();
        let Some(began_us) = state.began_us.filter(|_| !state.ended) else {
            return;
        };
        if state.all.len() < NOTES_MAX {
            state.all.push(Note {
                at_ms: now_us().saturating_sub(began_us) / 1_000,
                what,
            });
        }
    }
}

/// What a path is to people, if it is one of these.
fn named(paths: &[(&str, &'static str)], path: &str) -> Option<&'static str> {
    let mut paths = paths.iter();
    let (_, what) = paths.find(|(begin, _)| path.starts_with(begin))?;
    Some(*what)
}

impl Witness for Notes {
    fn asked(&self, node: &str, path: &str) {
        let at = |what: &str| format!("{what}, at {node}");
        if let Some(what) = named(&CHANGES, path) {
            self.note(What::Asked { what: at(what) });
        } else if let Some(what) = named(&REHEARSALS, path) {
            self.note(What::Rehearsed { what: at(what) });
        }
    }

    fn answered(&self, answered: Answered) {
        let Answered {
            node,
            path,
            ok,
            body,
        } = answered;
        if let Some(what) = named(&CHANGES, &path) {
            let what = format!("{what}, at {node}");
            self.note(match ok {
                true => What::Applied { what },
                false => What::Refused { what },
            });
        } else if let Some(troubled) = shown::troubled(&path, &body).filter(|_| ok) {
            self.note(What::Looked { troubled });
        }
    }
}
