//! One file per gRPC service.

pub mod admin;
pub mod conversations;
mod leading;
pub mod messages;
