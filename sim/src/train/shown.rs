//! What an answer shows of the cluster: which nodes are not reached by whoever answers.

use std::collections::BTreeSet;

use bytes::Bytes;
use client::v1::GetStatusResponse;
use prost::Message as _;
use serde::Deserialize;

/// Bytes before a message of gRPC: a flag, and how long it is.
const PREFIX_BYTES: usize = 5;

/// The part of `/api/now` that is looked at.
#[derive(Deserialize)]
struct Now {
    nodes: Vec<Node>,
}

#[derive(Deserialize)]
struct Node {
    name: String,
    reachable: bool,
}

/// The nodes that an answer says are not reached; none when it does not say how the cluster is.
pub(super) fn troubled(path: &str, body: &Bytes) -> Option<BTreeSet<String>> {
    match path {
        "/firebreak.v1.Admin/GetStatus" => of_status(body),
        "/api/now" => of_page(body),
        _ => None,
    }
}

fn of_status(body: &Bytes) -> Option<BTreeSet<String>> {
    let message = body.get(PREFIX_BYTES..)?;
    let status = GetStatusResponse::decode(message).ok()?;
    let down = |id: u64| {
        let mut links = status.links.iter();
        links.any(|link| link.node_id == id && matches!(link.state.as_str(), "silent" | "reset"))
    };
    let nodes = status.nodes.iter();
    let troubled = nodes.filter(|node| !node.reachable || down(node.node_id));
    Some(troubled.map(|node| node.name.clone()).collect())
}

fn of_page(body: &Bytes) -> Option<BTreeSet<String>> {
    let now: Now = serde_json::from_slice(body).ok()?;
    let troubled = now.nodes.into_iter().filter(|node| !node.reachable);
    Some(troubled.map(|node| node.name).collect())
}

#[cfg(test)]
mod tests {
    use client::v1::{LinkStatus, NodeStatus};

    use super::*;

    #[test]
    fn both_kinds_of_answers_name_the_nodes_that_are_not_reached() {
        let node = |node_id, name: &str, reachable| NodeStatus {
            node_id,
            name: name.to_owned(),
            reachable,
            ..NodeStatus::default()
        };
        let status = GetStatusResponse {
            nodes: vec![node(1, "a", true), node(2, "b", false), node(3, "c", true)],
            links: vec![LinkStatus {
                node_id: 3,
                state: "silent".to_owned(),
                ..LinkStatus::default()
            }],
            ..GetStatusResponse::default()
        };
        let mut body = vec![0; PREFIX_BYTES];
        body.extend(status.encode_to_vec());
        let names = |found: Option<BTreeSet<String>>| found.map(Vec::from_iter).unwrap();
        let found = troubled("/firebreak.v1.Admin/GetStatus", &body.into());
        assert_eq!(names(found), ["b", "c"]);
        let page = br#"{"nodes":[{"name":"a","reachable":false},{"name":"b","reachable":true}]}"#;
        let found = troubled("/api/now", &Bytes::from_static(page));
        assert_eq!(names(found), ["a"]);
        assert_eq!(troubled("/api/jobs", &Bytes::from_static(page)), None);
        assert_eq!(troubled("/api/now", &Bytes::from_static(b"no")), None);
    }
}
