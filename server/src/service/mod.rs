//! One file per gRPC service.

pub mod access;
pub mod admin;
pub mod changes;
pub mod conversations;
pub mod debug;
mod decided;
mod drills;
pub mod events;
pub mod feed;
pub mod grpc;
pub mod history;
mod leading;
pub mod messages;
mod nodes;
pub mod reactions;
pub mod retention;
pub mod settings;
pub mod tenant;
pub mod tenants;
