//! Which role each path needs. What is not here is refused to all but operators, the compiler keeps the rows
//! sorted, and a test has every method of every service have its row.

use model::cluster::access::Role;

/// What a path needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// Nothing: health, and what has a proof of its own.
    Open,
    /// The proof of nodes, which the service itself asks for.
    Peer,
    /// Any credential.
    Any,
    /// One of these roles.
    OneOf(&'static [Role]),
}

/// A path and what it needs.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    /// The path.
    pub path: &'static str,
    /// What it needs.
    pub need: Need,
    /// Whether nodes pass calls of it on to each other.
    pub forwarded: bool,
}

const READ: Need = Need::OneOf(&[Role::Reader]);
const WRITE: Need = Need::OneOf(&[Role::Writer]);
const GOVERN: Need = Need::OneOf(&[Role::TenantAdmin]);
const VIEW: Need = Need::OneOf(&[Role::Viewer]);
const OPERATE: Need = Need::OneOf(&[Role::Operator]);
/// Of a request's change depends which of them.
const DRILL: Need = Need::OneOf(&[Role::Operator, Role::DrillApprover]);

const fn row(path: &'static str, need: Need) -> Row {
    Row {
        path,
        need,
        forwarded: false,
    }
}

const fn passed(path: &'static str, need: Need) -> Row {
    Row {
        path,
        need,
        forwarded: true,
    }
}

/// All rows, sorted by path.
pub const ROWS: &[Row] = &[
    row("/firebreak.node.v1.Peer/CopySnapshot", Need::Peer),
    row("/firebreak.node.v1.Peer/InstallSnapshot", Need::Peer),
    row("/firebreak.node.v1.Peer/Link", Need::Peer),
    row("/firebreak.node.v1.Peer/WatchCluster", Need::Peer),
    row("/firebreak.node.v1.Peer/Who", Need::Peer),
    row("/firebreak.node.v1.Quotas/Take", Need::Peer),
    row("/firebreak.v1.Access/CreateKey", OPERATE),
    row("/firebreak.v1.Access/ListIssuers", OPERATE),
    row("/firebreak.v1.Access/ListKeys", OPERATE),
    passed("/firebreak.v1.Access/ReadAudit", OPERATE),
    row("/firebreak.v1.Access/RemoveIssuer", OPERATE),
    row("/firebreak.v1.Access/RevokeKey", OPERATE),
    row("/firebreak.v1.Access/SetIssuer", OPERATE),
    row("/firebreak.v1.Access/WhoAmI", Need::Any),
    row("/firebreak.v1.Admin/ChangeDrill", DRILL),
    row("/firebreak.v1.Admin/CreateJoinToken", OPERATE),
    row("/firebreak.v1.Admin/ForgetBoot", OPERATE),
    // Logs are among it.
    row("/firebreak.v1.Admin/GetDebug", OPERATE),
    row("/firebreak.v1.Admin/GetDrillKey", VIEW),
    row("/firebreak.v1.Admin/GetDrills", VIEW),
    passed("/firebreak.v1.Admin/GetEvents", VIEW),
    row("/firebreak.v1.Admin/GetJoinToken", OPERATE),
    row("/firebreak.v1.Admin/GetOutages", VIEW),
    row("/firebreak.v1.Admin/GetPolicies", VIEW),
    // Clients learn from it which nodes there are; without a role they hear that alone.
    passed("/firebreak.v1.Admin/GetStatus", Need::Any),
    // It names conversations.
    row("/firebreak.v1.Admin/HashReplica", OPERATE),
    // It has its token.
    row("/firebreak.v1.Admin/JoinNode", Need::Open),
    row("/firebreak.v1.Admin/ListJoinTokens", OPERATE),
    row("/firebreak.v1.Admin/MoveReplica", OPERATE),
    row("/firebreak.v1.Admin/PlanRetention", VIEW),
    row("/firebreak.v1.Admin/RelocateNode", OPERATE),
    row("/firebreak.v1.Admin/RemoveNode", OPERATE),
    row("/firebreak.v1.Admin/RevokeJoinToken", OPERATE),
    row("/firebreak.v1.Admin/RotateJoinToken", OPERATE),
    row("/firebreak.v1.Admin/SetDraining", OPERATE),
    row("/firebreak.v1.Admin/SetPolicy", OPERATE),
    row("/firebreak.v1.Admin/SignDrill", OPERATE),
    passed("/firebreak.v1.Changes/ReadChanges", READ),
    row("/firebreak.v1.Conversations/CreateConversation", WRITE),
    row("/firebreak.v1.Conversations/DeleteConversation", GOVERN),
    passed("/firebreak.v1.Conversations/GetConversation", READ),
    passed("/firebreak.v1.Conversations/ListConversations", READ),
    row("/firebreak.v1.Conversations/UpdateConversation", GOVERN),
    row("/firebreak.v1.Faults/EndFaults", OPERATE),
    row("/firebreak.v1.Faults/GetFaults", VIEW),
    row("/firebreak.v1.Faults/RenewFaults", OPERATE),
    row("/firebreak.v1.Faults/StartFaults", OPERATE),
    row("/firebreak.v1.Messages/AppendMessage", WRITE),
    // Clients keep one open to each node, whatever they do; each of its items needs the role writer.
    row("/firebreak.v1.Messages/AppendStream", Need::Any),
    row("/firebreak.v1.Messages/BatchAppendMessages", WRITE),
    row("/firebreak.v1.Messages/EditMessage", WRITE),
    passed("/firebreak.v1.Messages/Follow", READ),
    passed("/firebreak.v1.Messages/GetMessage", READ),
    passed("/firebreak.v1.Messages/ListMessages", READ),
    passed("/firebreak.v1.Messages/ListReactions", READ),
    row("/firebreak.v1.Messages/React", WRITE),
    row("/firebreak.v1.Messages/RedactMessage", WRITE),
    passed("/firebreak.v1.Messages/Tail", READ),
    row("/firebreak.v1.Tenants/CreateTenant", OPERATE),
    row("/firebreak.v1.Tenants/DeleteTenant", OPERATE),
    row("/firebreak.v1.Tenants/GetTenant", VIEW),
    row("/firebreak.v1.Tenants/ListTenants", VIEW),
    row("/firebreak.v1.Tenants/UpdateTenant", OPERATE),
    row("/grpc.health.v1.Health/Check", Need::Open),
    row("/grpc.health.v1.Health/Watch", Need::Open),
    row(
        "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
        Need::Any,
    ),
    row(
        "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
        Need::Any,
    ),
];

/// Rows are searched for by halves: one that stands elsewhere would hide others, and what they need with them.
const _: () = {
    let mut at = 1;
    while at < ROWS.len() {
        assert!(
            before(ROWS[at - 1].path.as_bytes(), ROWS[at].path.as_bytes()),
            "the rows are sorted by their paths"
        );
        at += 1;
    }
};

const fn before(a: &[u8], b: &[u8]) -> bool {
    let mut at = 0;
    while at < a.len() && at < b.len() {
        if a[at] != b[at] {
            return a[at] < b[at];
        }
        at += 1;
    }
    a.len() < b.len()
}

/// What has no row: there is no such method, or somebody forgot its row.
pub const UNKNOWN: Row = row("", OPERATE);
const API: Row = row("/api", VIEW);
const LEVER: Row = row("/api/drills/lever", OPERATE);
const METRICS: Row = row("/metrics", VIEW);
const HEALTH: Row = row("/healthz", Need::Open);
/// The console's pages have no data in them: they fetch it, with their caller's credential.
const PAGES: Row = row("/", Need::Open);

/// Whether a path is that of a gRPC method, whether there is one or not.
pub fn is_grpc(path: &str) -> bool {
    path.starts_with("/firebreak.") || path.starts_with("/grpc.")
}

/// The row of a path; none where there is none, as [`UNKNOWN`] says.
pub fn row_of_grpc(path: &str) -> Option<&'static Row> {
    let place = ROWS.binary_search_by(|row| row.path.cmp(path)).ok()?;
    ROWS.get(place)
}

/// The same, of the pages too.
pub fn of(path: &str) -> Option<&'static Row> {
    if is_grpc(path) {
        return row_of_grpc(path);
    }
    let below = |root: &str| {
        let rest = path.strip_prefix(root);
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    Some(match path {
        "/livez" | "/readyz" | "/healthz" => &HEALTH,
        "/api/drills/lever" => &LEVER,
        _ if below("/api") => &API,
        _ if below("/metrics") => &METRICS,
        _ => &PAGES,
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use prost::Message as _;
    use prost_types::FileDescriptorSet;

    use super::*;

    fn methods(encoded: &[u8]) -> BTreeSet<String> {
        let files = FileDescriptorSet::decode(encoded).unwrap().file;
        let mut paths = BTreeSet::new();
        for file in &files {
            for service in &file.service {
                let (package, name) = (file.package(), service.name());
                let methods = service.method.iter();
                paths.extend(methods.map(|one| format!("/{package}.{name}/{}", one.name())));
            }
        }
        paths
    }

    #[test]
    fn every_method_of_every_service_has_its_row() {
        let served = [
            proto::DESCRIPTORS,
            tonic_health::pb::FILE_DESCRIPTOR_SET,
            tonic_reflection::pb::v1::FILE_DESCRIPTOR_SET,
            tonic_reflection::pb::v1alpha::FILE_DESCRIPTOR_SET,
        ];
        let served: BTreeSet<String> = served.into_iter().flat_map(methods).collect();
        let rows: BTreeSet<String> = ROWS.iter().map(|row| row.path.to_owned()).collect();
        assert_eq!(served, rows);
        for row in ROWS {
            let found = of(row.path).map(|found| (found.path, found.need));
            assert_eq!(found, Some((row.path, row.need)), "{}", row.path);
        }
    }

    #[test]
    fn pages_are_open_and_what_they_show_is_not() {
        for (path, need) in [
            ("/", Need::Open),
            ("/app.js", Need::Open),
            ("/livez", Need::Open),
            ("/healthz", Need::Open),
            ("/metrics", VIEW),
            ("/metrics/shards", VIEW),
            ("/metricsx", Need::Open),
            ("/api", VIEW),
            ("/api/now", VIEW),
            ("/api/drills/lever", OPERATE),
            ("/api/../api/now", VIEW),
        ] {
            assert_eq!(of(path).map(|row| row.need), Some(need), "{path}");
        }
        assert!(of("/firebreak.v1.Messages/Nothing").is_none());
        assert!(of("/firebreak.v1.Messages/").is_none());
    }
}
