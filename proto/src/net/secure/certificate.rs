//! What a certificate says of who has it.

use std::fmt;
use std::io;

use rustls::pki_types::CertificateDer;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer as _, X509Certificate};

/// The scheme of the URI among a certificate's alternative names that says who has it:
/// `firebreak:node/NAME`, `firebreak:client/NAME`, `firebreak:operator/NAME`.
pub const SCHEME: &str = "firebreak:";

/// Who has a certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Certified {
    /// A node, by its name.
    Node(String),
    /// A client, by its name.
    Client(String),
    /// An operator, by name.
    Operator(String),
    /// Somebody without a certificate, or with one that does not say.
    Nobody,
}

impl Certified {
    const NOBODY: &'static str = "none";

    /// Whom the first of a connection's certificates names.
    ///
    /// # Errors
    /// `InvalidData` when it cannot be read, or names more than one.
    pub fn of(chain: Option<&[CertificateDer<'_>]>) -> io::Result<Certified> {
        match chain.and_then(|chain| chain.first()) {
            None => Ok(Certified::Nobody),
            Some(first) => Ok(Facts::of(first)?.who),
        }
    }

    /// Reads `node/NAME` and its like.
    pub fn parse(text: &str) -> Option<Certified> {
        if text == Certified::NOBODY {
            return Some(Certified::Nobody);
        }
        let (kind, name) = text.split_once('/')?;
        let plain = |c: char| c.is_ascii_graphic() && c != '/';
        if name.is_empty() || !name.chars().all(plain) {
            return None;
        }
        let name = name.to_owned();
        match kind {
            "node" => Some(Certified::Node(name)),
            "client" => Some(Certified::Client(name)),
            "operator" => Some(Certified::Operator(name)),
            _ => None,
        }
    }
}

impl fmt::Display for Certified {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Certified::Node(name) => write!(f, "node/{name}"),
            Certified::Client(name) => write!(f, "client/{name}"),
            Certified::Operator(name) => write!(f, "operator/{name}"),
            Certified::Nobody => f.write_str(Certified::NOBODY),
        }
    }
}

/// What is told of a certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    /// Who has it.
    pub who: Certified,
    /// From when on it holds, Unix seconds.
    pub from_s: i64,
    /// Until when it holds, Unix seconds.
    pub until_s: i64,
    /// The hosts it is for: names and IP addresses.
    pub hosts: Vec<String>,
}

impl Facts {
    /// Those of a certificate.
    ///
    /// # Errors
    /// `InvalidData` when it cannot be read, or names more than one who has it.
    pub fn of(certificate: &CertificateDer<'_>) -> io::Result<Facts> {
        let wrong = |why: String| io::Error::new(io::ErrorKind::InvalidData, why);
        let (_, certificate) = X509Certificate::from_der(certificate)
            .map_err(|error| wrong(format!("the certificate cannot be read: {error}")))?;
        let names = certificate
            .subject_alternative_name()
            .map_err(|error| wrong(format!("the certificate's names cannot be read: {error}")))?;
        let (mut who, mut hosts) = (Vec::new(), Vec::new());
        for name in names.iter().flat_map(|names| &names.value.general_names) {
            match name {
                GeneralName::URI(uri) => who.extend(uri.strip_prefix(SCHEME)),
                GeneralName::DNSName(host) => hosts.push((*host).to_owned()),
                GeneralName::IPAddress(bytes) => hosts.extend(ip(bytes)),
                _ => {}
            }
        }
        let who = match who[..] {
            [] => Certified::Nobody,
            [who] => Certified::parse(who).ok_or_else(|| {
                wrong(format!(
                    "the certificate is that of {SCHEME}{who}, which is none of node/NAME, \
                     client/NAME and operator/NAME"
                ))
            })?,
            _ => {
                return Err(wrong(
                    "the certificate names more than one owner".to_owned(),
                ));
            }
        };
        let validity = certificate.validity();
        Ok(Facts {
            who,
            from_s: validity.not_before.timestamp(),
            until_s: validity.not_after.timestamp(),
            hosts,
        })
    }
}

/// The SHA-256 of a certificate, in hex.
pub fn fingerprint(certificate: &CertificateDer<'_>) -> String {
    use std::fmt::Write as _;
    let provider = rustls::crypto::aws_lc_rs::default_provider();
    let suites = provider
        .cipher_suites
        .iter()
        .filter_map(|suite| suite.tls13());
    let mut hashes = suites.map(|suite| suite.common.hash_provider);
    let sha256 = hashes.find(|hash| hash.output_len() == 32);
    let hash = sha256.map(|sha256| sha256.hash(certificate));
    let bytes = hash.as_ref().map_or(&[][..], |hash| hash.as_ref());
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

fn ip(bytes: &[u8]) -> Option<String> {
    let v4 = <[u8; 4]>::try_from(bytes).map(std::net::IpAddr::from);
    let v6 = <[u8; 16]>::try_from(bytes).map(std::net::IpAddr::from);
    v4.or(v6).ok().map(|ip| ip.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_owners_are_read_as_they_are_written() {
        for text in ["node/seoul-1", "client/bot.7", "operator/ann", "none"] {
            let read = Certified::parse(text).unwrap();
            assert_eq!(read.to_string(), text);
        }
        for text in [
            "", "node", "node/", "node/a b", "node/a/b", "root/x", "plain", "node/é",
        ] {
            assert_eq!(Certified::parse(text), None, "{text:?}");
        }
    }
}
