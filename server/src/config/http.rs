//! The section `http`: what operators see.

use super::table::{Reader, Section};
use super::{Config, address, anywhere};

/// The console, metrics and health of a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Http {
    /// Whether they are served.
    pub enabled: bool,
    /// host:port of their own; none = that of the node.
    pub listen: Option<String>,
    /// Whether it is tried again and again if a client can append.
    pub canary: bool,
}

impl Http {
    /// host:port where others reach the console: with a port of its own, on the host where the node
    /// is reached. `None` when it is not served.
    pub fn address(&self, config: &Config) -> Option<String> {
        if !self.enabled {
            return None;
        }
        let Some(own) = &self.listen else {
            return Some(config.advertise.clone());
        };
        if anywhere(own).is_ok() {
            return Some(own.clone());
        }
        let port = own.rsplit_once(':').map_or("", |(_, port)| port);
        let host = config
            .advertise
            .rsplit_once(':')
            .map_or("", |(host, _)| host);
        Some(format!("{host}:{port}"))
    }
}

/// Reads it; `listen` is where the node itself listens.
pub(super) fn read(reader: &mut Reader<'_>, top: &Section<'_>, listen: &str) -> Http {
    let section = reader.section(top, "http");
    reader.known(&section, &["enabled", "listen", "canary"]);
    let own = reader.string(&section, "listen", Some(""));
    if !own.is_empty() {
        reader.verify(&section, "listen", address(&own));
        if own == listen {
            let wrong = "is where the node listens already; leave it out to have both there";
            reader.add(&section, "listen", wrong);
        }
    }
    Http {
        enabled: reader.boolean(&section, "enabled", true),
        listen: (!own.is_empty()).then_some(own),
        canary: reader.boolean(&section, "canary", true),
    }
}
