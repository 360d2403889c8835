//! What a controller tells of a running drill on the way: one of its notes in the meta shard, as JSON.

use serde::{Deserialize, Serialize};

/// What a running drill's figures are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Figures {
    /// The longest gap, ms; none = not known.
    pub gap_ms: Option<u64>,
    /// Failed calls.
    pub failed: Option<u64>,
    /// Replicas that moved.
    pub moves: Option<u64>,
}

/// What is known of a running drill.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Live {
    /// What `whatif` said.
    pub predicted: Figures,
    /// What half of the seeds do not pass.
    pub simulated_p50: Figures,
    /// What 99 of 100 seeds do not pass.
    pub simulated_p99: Figures,
    /// What the canaries have seen until now.
    pub measured: Figures,
    /// Calls of the canaries until now.
    pub calls: u64,
}

impl Live {
    /// As a note; far below `model::cluster::drills::TEXT_BYTES_MAX`.
    pub fn note(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }

    /// Of a note; none of one that is for people.
    pub fn of(note: &str) -> Option<Live> {
        note.starts_with('{')
            .then(|| serde_json::from_str(note).ok())?
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_note_says_what_it_was_told_and_words_for_people_are_none() {
        let figures = |n| Figures {
            gap_ms: Some(n),
            failed: Some(u64::MAX),
            moves: None,
        };
        let live = Live {
            predicted: figures(1),
            simulated_p50: figures(2),
            simulated_p99: figures(3),
            measured: figures(u64::MAX),
            calls: u64::MAX,
        };
        assert_eq!(Live::of(&live.note()), Some(live));
        assert!(live.note().len() < model::cluster::drills::TEXT_BYTES_MAX);
        assert_eq!(Live::of("silence on seoul-1"), None);
        assert_eq!(Live::of("{"), None);
        assert_eq!(Live::of("{\"later\":1}"), Some(Live::default()));
    }
}
