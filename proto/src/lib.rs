//! The wire: generated types, and the network they cross.

/// The public API.
#[allow(
    missing_docs,
    clippy::all,
    clippy::allow_attributes_without_reason,
    clippy::pedantic,
    reason = "generated from proto/firebreak/v1"
)]
pub mod v1 {
    tonic::include_proto!("firebreak.v1");
}

/// Node to node.
#[allow(
    missing_docs,
    clippy::all,
    clippy::allow_attributes_without_reason,
    clippy::pedantic,
    reason = "generated from proto/firebreak/node"
)]
pub mod node {
    tonic::include_proto!("firebreak.node.v1");

    pub use crate::frames::{FRAMES_MAX, Frames};
}

mod frames;

pub mod net;

/// Metadata of a call that a node forwards: whoever gets it answers or refuses, and never forwards on.
pub const FORWARDED: &str = "firebreak-forwarded";

/// Header of a request that came over TLS: who its other end is, by its certificate (`node/NAME`,
/// `client/NAME`, `operator/NAME`, or `none` without one). The connection sets it, or takes it away.
pub const CERTIFIED: &str = "firebreak-certified";

/// What [`CERTIFIED`] says of a connection without TLS that is served nothing.
pub const PLAIN: &str = "plain";

/// Metadata of a call that belongs to a trace: `traceparent` of W3C Trace Context.
pub const TRACE: &str = "traceparent";

/// Metadata of appends that belong to an import: only these may use ids that begin with `import:`,
/// which are remembered for ever.
pub const IMPORT: &str = "firebreak-import";

/// Metadata of calls: what the client is and which version of it, such as `rust/0.1.0`.
pub const CLIENT: &str = "firebreak-client";

/// Metadata of calls that can wait longer than their method says: `live`, `sync`, `history` or `export`.
pub const CLASS: &str = "firebreak-class";

/// Metadata of answers to calls: this node drains or stops, and further calls should go elsewhere.
pub const GOING_AWAY: &str = "firebreak-going-away";

/// Whether a document can leave a value out.
fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// Descriptors of every service, for reflection.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/firebreak.bin"));
