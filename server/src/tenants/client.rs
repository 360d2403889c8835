//! What a client says of itself, in the metadata `firebreak-client`: its kind and its version.

use model::cluster::tenants::{CLIENT_BYTES_MAX, Tenant, Version};

use crate::error::Failure;

/// A client's kind and version, such as `rust/0.1.0`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClientName {
    kind: [u8; CLIENT_BYTES_MAX],
    version: Version,
}

impl ClientName {
    /// Reads it; none when it is not of that form. What follows behind a space is for people.
    pub fn parse(text: &str) -> Option<ClientName> {
        let first = text.split(' ').next()?;
        let (name, version) = first.split_once('/')?;
        let mut kind = [0; CLIENT_BYTES_MAX];
        kind.get_mut(..name.len())?.copy_from_slice(name.as_bytes());
        (!name.is_empty()).then_some(())?;
        Some(ClientName {
            kind,
            version: Version::parse(version)?,
        })
    }

    fn is(&self, kind: &str) -> bool {
        let held = self.kind.iter().position(|byte| *byte == 0);
        &self.kind[..held.unwrap_or(CLIENT_BYTES_MAX)] == kind.as_bytes()
    }
}

/// Whether a tenant takes this client. One that does not say what it is is taken.
///
/// # Errors
/// [`Failure::ClientBlocked`].
pub fn check(tenant: &Tenant, client: Option<ClientName>) -> Result<(), Failure> {
    let Some(client) = client else {
        return Ok(());
    };
    let min = tenant.min_clients.iter().find(|min| client.is(&min.client));
    let Some(min) = min else { return Ok(()) };
    match Version::parse(&min.version) {
        Some(version) if client.version < version => Err(Failure::ClientBlocked {
            client: format!("{} {}", min.client, client.version),
            min: version.to_string(),
            url: tenant.upgrade_url.clone(),
        }),
        Some(_) | None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use model::cluster::tenants::MinClient;

    use super::*;

    #[test]
    fn a_client_that_is_too_old_is_refused_and_one_that_says_nothing_is_not() {
        let tenant = Tenant {
            min_clients: vec![MinClient {
                client: "rust".into(),
                version: "0.10".into(),
            }],
            upgrade_url: "https://example.org/new".into(),
            ..Tenant::default()
        };
        for (said, taken) in [
            ("rust/0.9.9", false),
            ("rust/0.9.9 (linux)", false),
            ("rust/0.10.0", true),
            ("rust/1", true),
            ("rusty/0.1", true),
            ("python/0.1.0", true),
            ("rust", true),
            ("rust/x", true),
            ("", true),
            ("a-kind-of-more-than-16-bytes/0.1", true),
        ] {
            let checked = check(&tenant, ClientName::parse(said));
            assert_eq!(checked.is_ok(), taken, "{said:?}");
            if let Err(Failure::ClientBlocked { client, min, url }) = checked {
                assert_eq!((client.as_str(), min.as_str()), ("rust 0.9.9", "0.10.0"));
                assert_eq!(url, "https://example.org/new");
            }
        }
    }
}
