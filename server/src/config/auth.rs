//! The section `auth`: whether callers must say who they are.

use std::net::IpAddr;

use super::table::{Reader, Section};

/// Whether callers must say who they are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Auth {
    /// Whoever reaches the port may do everything.
    #[default]
    Open,
    /// Nobody is let in without a credential, and it may do what its roles say.
    Required,
}

/// Reads it.
pub(super) fn read(reader: &mut Reader<'_>, top: &Section<'_>) -> Auth {
    let section = reader.section(top, "auth");
    reader.known(&section, &["mode"]);
    match reader.string(&section, "mode", Some("open")).as_str() {
        "open" => Auth::Open,
        "required" => Auth::Required,
        _ => {
            reader.add(&section, "mode", "must be \"open\" or \"required\"");
            Auth::Open
        }
    }
}

/// Whether only its own machine reaches what listens on this host.
pub(super) fn is_loopback(host: &str) -> bool {
    let ip = host.trim_matches(['[', ']']).parse::<IpAddr>();
    ip.map_or(host == "localhost", |ip| ip.to_canonical().is_loopback())
}
