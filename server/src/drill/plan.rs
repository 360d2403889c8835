//! What a drill is to do, as a file: `firebreak drill plan` writes it, and people may edit it.

use serde::{Deserialize, Serialize};

/// Format of the file.
pub const FORMAT: u32 = 1;
/// The longest that a fault lives without being renewed, milliseconds.
pub const TTL_MS_MAX: u64 = 60_000;

/// A drill to be done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DrillPlan {
    /// [`FORMAT`].
    pub format: u32,
    /// Its name in the cluster, as `2026-12-01-dc-silent-seoul-3f2a`.
    pub id: String,
    /// The simulator's scenario that it comes from.
    pub scenario: String,
    /// What that is about, one sentence.
    pub about: String,
    /// What is expected to hold, one sentence.
    pub hypothesis: String,
    /// The data center that it is about; empty where it is about all.
    pub target: String,
    /// The cluster that it was made for.
    pub cluster_id: String,
    /// The epoch of the map that it was made from.
    pub map_epoch: u64,
    /// When it was made, Unix milliseconds.
    pub made_ms: u64,
    /// How long the canaries run before the first step, milliseconds.
    pub before_ms: u64,
    /// How long they run after the last step has ended, milliseconds.
    pub after_ms: u64,
    /// What ends it at once.
    pub caps: Caps,
    /// What it is held against in the end.
    pub goals: Goals,
    /// What is done, in the order of time.
    #[serde(rename = "step")]
    pub steps: Vec<Step>,
}

/// A drill that passes one of these aborts itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Caps {
    /// Calls of the canaries that may fail.
    pub failed: Option<u64>,
    /// The longest that a canary's append may wait, milliseconds.
    pub gap_ms: Option<u64>,
    /// The weakest shard's replicas above a bare quorum may not fall below this.
    pub margin: Option<i64>,
}

/// A drill that misses one of these has missed its goal.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Goals {
    /// Failed calls of the canaries.
    pub failed: u64,
    /// The longest wait of any canary's append, milliseconds.
    pub gap_ms: Option<u64>,
}

/// One thing that is done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Written")]
pub struct Step {
    /// When, milliseconds after the canaries' calm time.
    pub at_ms: u64,
    /// For how long, milliseconds; none = it is done once, or until it is ended by a later step.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub for_ms: Option<u64>,
    /// What.
    #[serde(flatten)]
    pub action: Action,
    /// The names of the nodes that it is done to.
    pub nodes: Vec<String>,
}

/// A step as a file has it. serde cannot both flatten an action and refuse unknown fields, so all fields of all
/// actions stand here, and those that an action does not have are refused by [`Step`].
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    at_ms: u64,
    for_ms: Option<u64>,
    action: String,
    nodes: Vec<String>,
    peers: Option<Vec<String>>,
    sends: Option<bool>,
    hears: Option<bool>,
    delay_ms: Option<u64>,
    jitter_ms: Option<u64>,
    loss_ppm: Option<u32>,
    sync_ms: Option<u64>,
}

impl TryFrom<Written> for Step {
    type Error = String;

    fn try_from(written: Written) -> Result<Step, String> {
        let Written {
            at_ms,
            for_ms,
            action: name,
            nodes,
            mut peers,
            mut sends,
            mut hears,
            mut delay_ms,
            mut jitter_ms,
            mut loss_ppm,
            mut sync_ms,
        } = written;
        let lacks = |field: &str| format!("the action {name} needs {field}");
        let action = match name.as_str() {
            "silence" => Action::Silence,
            "cut" => Action::Cut {
                peers: peers.take().unwrap_or_default(),
                sends: sends.take().ok_or_else(|| lacks("sends"))?,
                hears: hears.take().ok_or_else(|| lacks("hears"))?,
            },
            "slow" => Action::Slow {
                peers: peers.take().unwrap_or_default(),
                delay_ms: delay_ms.take().ok_or_else(|| lacks("delay_ms"))?,
                jitter_ms: jitter_ms.take().unwrap_or_default(),
                loss_ppm: loss_ppm.take().unwrap_or_default(),
            },
            "refuse" => Action::Refuse,
            "reset" => Action::Reset,
            "slow-sync" => Action::SlowSync {
                sync_ms: sync_ms.take(),
            },
            "full-disk" => Action::FullDisk,
            "stand-still" => Action::StandStill,
            "sigstop" => Action::Sigstop,
            "sigkill" => Action::Sigkill,
            "restart" => Action::Restart,
            "drain" => Action::Drain,
            _ => {
                return Err(format!(
                    "there is no action {name:?}; there are silence, cut, slow, refuse, reset, slow-sync, \
                     full-disk, stand-still, sigstop, sigkill, restart and drain"
                ));
            }
        };
        let left = [
            ("peers", peers.is_some()),
            ("sends", sends.is_some()),
            ("hears", hears.is_some()),
            ("delay_ms", delay_ms.is_some()),
            ("jitter_ms", jitter_ms.is_some()),
            ("loss_ppm", loss_ppm.is_some()),
            ("sync_ms", sync_ms.is_some()),
        ];
        if let Some((field, _)) = left.into_iter().find(|(_, there)| *there) {
            return Err(format!("the action {name} has no {field}"));
        }
        Ok(Step {
            at_ms,
            for_ms,
            action,
            nodes,
        })
    }
}

/// What a step does to its nodes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "action", rename_all = "kebab-case")]
pub enum Action {
    /// Nothing arrives at them or leaves them; connections stay open.
    Silence,
    /// One way between them and others: what they send does not arrive there, or the other way round.
    Cut {
        /// The nodes at the other ends; empty = all that are not among the step's own, and clients.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        peers: Vec<String>,
        /// What the step's nodes send does not arrive.
        sends: bool,
        /// What is sent to the step's nodes does not arrive.
        hears: bool,
    },
    /// What comes from others is late, and some of it is lost and sent again.
    Slow {
        /// The nodes at the other ends; empty = all that are not among the step's own, and clients.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        peers: Vec<String>,
        /// One way, milliseconds.
        delay_ms: u64,
        /// Added to it, 0 to this, milliseconds.
        #[serde(default)]
        jitter_ms: u64,
        /// Of a million pieces.
        #[serde(default)]
        loss_ppm: u32,
    },
    /// New connections are refused.
    Refuse,
    /// All connections are reset, and new ones refused.
    Reset,
    /// Syncs of their disks take so much longer, or do not end.
    SlowSync {
        /// Milliseconds; none = they stall.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        sync_ms: Option<u64>,
    },
    /// Their disks count as full.
    FullDisk,
    /// Their processes stand still: nothing in them goes on.
    StandStill,
    /// SIGSTOP, and SIGCONT at the end; where the controller runs on their machine.
    Sigstop,
    /// SIGKILL, and a start at the end; where the controller runs on their machine.
    Sigkill,
    /// SIGTERM, and a start at the end; where the controller runs on their machine.
    Restart,
    /// They lead nothing and take no clients; taken back at the end.
    Drain,
}

impl Action {
    /// As in a file.
    pub fn name(&self) -> &'static str {
        match self {
            Action::Silence => "silence",
            Action::Cut { .. } => "cut",
            Action::Slow { .. } => "slow",
            Action::Refuse => "refuse",
            Action::Reset => "reset",
            Action::SlowSync { .. } => "slow-sync",
            Action::FullDisk => "full-disk",
            Action::StandStill => "stand-still",
            Action::Sigstop => "sigstop",
            Action::Sigkill => "sigkill",
            Action::Restart => "restart",
            Action::Drain => "drain",
        }
    }

    /// Whether only a controller on the nodes' own machine can do it.
    pub fn needs_their_machine(&self) -> bool {
        matches!(self, Action::Sigstop | Action::Sigkill | Action::Restart)
    }

    /// Whether its nodes are lost to the others for as long as it goes on.
    pub fn takes_away(&self) -> bool {
        match self {
            Action::Silence | Action::StandStill | Action::Reset => true,
            Action::Sigstop | Action::Sigkill | Action::Restart => true,
            Action::Cut { .. } | Action::Refuse => true,
            Action::Slow { .. } | Action::SlowSync { .. } | Action::FullDisk | Action::Drain => {
                false
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step(action: Action) -> Step {
        Step {
            at_ms: 5,
            for_ms: Some(7),
            action,
            nodes: vec!["seoul-1".to_owned()],
        }
    }

    /// As a file of plans has steps.
    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Steps {
        step: Vec<Step>,
    }

    #[test]
    fn every_action_is_read_back_from_toml_and_from_json() {
        let peers = || vec!["tokyo-1".to_owned()];
        let all = [
            Action::Silence,
            Action::Cut {
                peers: peers(),
                sends: true,
                hears: false,
            },
            Action::Slow {
                peers: Vec::new(),
                delay_ms: 1,
                jitter_ms: 2,
                loss_ppm: 3,
            },
            Action::Refuse,
            Action::Reset,
            Action::SlowSync { sync_ms: Some(4) },
            Action::SlowSync { sync_ms: None },
            Action::FullDisk,
            Action::StandStill,
            Action::Sigstop,
            Action::Sigkill,
            Action::Restart,
            Action::Drain,
        ];
        let steps = Steps {
            step: all.map(step).to_vec(),
        };
        let text = toml::to_string(&steps).unwrap();
        assert_eq!(toml::from_str::<Steps>(&text).unwrap(), steps, "{text}");
        let text = serde_json::to_string(&steps).unwrap();
        assert_eq!(
            serde_json::from_str::<Steps>(&text).unwrap(),
            steps,
            "{text}"
        );
    }

    #[test]
    fn what_an_action_does_not_have_is_refused_with_its_name() {
        let check = |lines: &str, part: &str| {
            let text = format!("[[step]]\nat_ms = 1\nnodes = [\"a\"]\n{lines}");
            let why = toml::from_str::<Steps>(&text).unwrap_err().to_string();
            assert!(why.contains(part), "{lines}: {why}");
        };
        check("action = \"burn\"", "no action \"burn\"");
        check(
            "action = \"silence\"\ndelay_ms = 4",
            "silence has no delay_ms",
        );
        check("action = \"slow\"", "slow needs delay_ms");
        check("action = \"cut\"\nsends = true", "cut needs hears");
        check("action = \"silence\"\nloud = true", "unknown field `loud`");
    }
}
