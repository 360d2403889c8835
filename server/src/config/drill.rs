//! The section `drill`: whether the node lets drills put faults on it, and where it is told to.

use super::auth::is_loopback;
use super::table::{Reader, Section};
use super::{address, anywhere};

/// Drills on a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Drill {
    /// Whether drills may put faults on this node.
    pub allowed: bool,
    /// host:port of the service that does it; port 0 = a free one.
    pub listen: String,
    /// Whether the node listens on the loopback, which only its own machine reaches.
    pub local: bool,
}

impl Drill {
    /// host:port where others reach what listens on `bound`: on the host where the node is reached, if it
    /// listens on all of them.
    pub fn reached(bound: &str, advertise: &str) -> String {
        if anywhere(bound).is_ok() {
            return bound.to_owned();
        }
        let port = bound.rsplit_once(':').map_or("", |(_, port)| port);
        let host = advertise.rsplit_once(':').map_or("", |(host, _)| host);
        format!("{host}:{port}")
    }
}

/// Reads it; `listen` is where the node itself listens, `pages` where its console does.
pub(super) fn read(
    reader: &mut Reader<'_>,
    top: &Section<'_>,
    listen: &str,
    pages: Option<&str>,
) -> Drill {
    let section = reader.section(top, "drill");
    reader.known(&section, &["allowed", "listen"]);
    let host = listen.rsplit_once(':').map_or("", |(host, _)| host);
    let local = is_loopback(host);
    let allowed = reader.boolean(&section, "allowed", local);
    let own = reader.string(&section, "listen", Some(""));
    if !own.is_empty() {
        reader.verify(&section, "listen", address(&own));
        if own == listen || Some(own.as_str()) == pages {
            let wrong = "is where the node listens already; faults must not reach it: give it a port of its own";
            reader.add(&section, "listen", wrong);
        }
        if !allowed {
            let wrong = "is of no use while drills are not allowed here: set drill.allowed, or leave it out";
            reader.add(&section, "listen", wrong);
        }
    }
    let listen = match own.is_empty() {
        true => format!("{host}:0"),
        false => own,
    };
    Drill {
        allowed,
        listen,
        local,
    }
}
