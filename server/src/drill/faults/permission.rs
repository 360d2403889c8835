//! Whether a drill may put faults on a node, by what the meta shard says as this node knows it.

use model::cluster::ClusterState;
use model::cluster::drills::State;

/// Why a drill may not; none where it may.
pub fn bar(view: &ClusterState, drill: &str) -> Option<String> {
    let held = view.drills.as_ref().and_then(|all| all.get(drill));
    match held {
        None => Some(format!("the cluster has no drill {drill:?}")),
        Some(one) if one.is(State::Running) => None,
        Some(one) if one.is(State::Ended) => Some(format!("the drill {drill} has ended")),
        Some(_) => Some(format!("the drill {drill} does not run")),
    }
}

/// Why none may at all; empty where one may.
pub fn lever(view: &ClusterState) -> String {
    let pulled = view.drills.as_ref().and_then(|all| all.lever.as_ref());
    pulled.map_or_else(String::new, |lever| {
        format!("{} pulled the lever: {}", lever.who, lever.why)
    })
}

#[cfg(test)]
mod tests {
    use model::cluster::drills::{Drill, Drills, Lever};

    use super::*;

    #[test]
    fn a_drill_may_while_it_runs_and_nobody_has_pulled_the_lever() {
        let view = |state: State, lever| ClusterState {
            drills: Some(Drills {
                drills: vec![Drill {
                    id: "d".into(),
                    state: state as i32,
                    ..Drill::default()
                }],
                lever,
                ..Drills::default()
            }),
            ..ClusterState::default()
        };
        assert_eq!(bar(&view(State::Running, None), "d"), None);
        for state in [State::Planned, State::Approved, State::Ended] {
            assert!(bar(&view(state, None), "d").is_some());
        }
        assert!(bar(&view(State::Running, None), "other").is_some());
        assert!(bar(&ClusterState::default(), "d").is_some());
        assert_eq!(lever(&ClusterState::default()), "");
        let pulled = Lever {
            who: "ann".into(),
            ..Lever::default()
        };
        assert!(lever(&view(State::Running, Some(pulled))).contains("ann"));
    }
}
