//! The certificate of a drill: what it showed and the digests of its files, signed by the cluster's key.
//! Whoever has the file can check it without the cluster; any changed byte of it, or of the files, shows.
//!
//! ```text
//!  {"body":{…},"digest":blake3 of body,"format":1,"kind":…,"public_key":…,"signature":…}\n
//! ```
//!
//! The JSON is canonical: keys sorted, nothing between, whole numbers only. So there is one text for one
//! certificate, and another text is no certificate.

use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::paper::{Approval, End, Kept, Paper};
use super::sign::{self, KEY_BYTES};

/// What the document calls itself.
pub const KIND: &str = "firebreak-drill-certificate";
/// Its format.
pub const FORMAT: u32 = 1;
/// The name of its file.
pub const FILE: &str = "certificate.json";
/// The largest that is read, bytes.
pub const BYTES_MAX: u64 = 1 << 20;
/// The files that it vouches for, where they are there.
pub const FILES: [&str; 5] = [
    "plan.toml",
    "paper.json",
    "rehearsal.json",
    "ledger.jsonl",
    "night.json",
];

/// What is certified.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Body {
    /// The drill's id.
    pub drill: String,
    /// The cluster's id.
    pub cluster_id: String,
    /// What was played.
    pub scenario: String,
    /// The data center that it was about; empty where it was about all.
    pub target: String,
    /// What was expected.
    pub hypothesis: String,
    /// How it ended.
    pub end: End,
    /// Why.
    pub why: String,
    /// Unix milliseconds.
    pub began_ms: u64,
    /// As above.
    pub ended_ms: u64,
    /// The map's digest, hex.
    pub layout_digest: String,
    /// Who allowed it.
    pub approvals: Vec<Approval>,
    /// The longest wait of a canary's append, ms.
    pub gap_ms: u64,
    /// Calls of the canaries, and those that failed.
    pub calls: u64,
    /// As above.
    pub failed: u64,
    /// Acknowledged messages that were lost.
    pub lost: u64,
    /// Messages that were there twice.
    pub duplicated: u64,
    /// Letters of the promises that held.
    pub held: Vec<String>,
    /// Of those that broke.
    pub broken: Vec<String>,
    /// The files beside it, by name, each with blake3 of it, hex.
    pub files: Vec<Kept>,
}

impl Body {
    /// Of a paper and the digests of the files beside it.
    pub fn of(paper: &Paper, mut files: Vec<Kept>) -> Body {
        files.sort_by(|a, b| a.file.cmp(&b.file));
        let of = |held: bool| {
            let those = paper.oracles.iter().filter(|one| one.held == Some(held));
            those.map(|one| one.promise.clone()).collect()
        };
        Body {
            drill: paper.plan.id.clone(),
            cluster_id: paper.cluster.cluster_id.clone(),
            scenario: paper.plan.scenario.clone(),
            target: paper.plan.target.clone(),
            hypothesis: paper.plan.hypothesis.clone(),
            end: paper.end,
            why: paper.why.clone(),
            began_ms: paper.began_ms,
            ended_ms: paper.ended_ms,
            layout_digest: paper.cluster.layout_digest.clone(),
            approvals: paper.approvals.clone(),
            gap_ms: paper.measured.gap_ms,
            calls: paper.measured.calls,
            failed: paper.measured.failed,
            lost: paper.measured.lost,
            duplicated: paper.measured.duplicated,
            held: of(true),
            broken: of(false),
            files,
        }
    }

    /// What is signed: blake3 of the canonical JSON.
    ///
    /// # Errors
    /// What canonical JSON cannot hold.
    pub fn digest(&self) -> Result<[u8; KEY_BYTES], String> {
        let text = canonical(&serde_json::to_value(self).map_err(|error| error.to_string())?)?;
        Ok(*blake3::hash(text.as_bytes()).as_bytes())
    }
}

/// A signed certificate.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Certificate {
    /// [`KIND`].
    pub kind: String,
    /// [`FORMAT`].
    pub format: u32,
    /// What is certified.
    pub body: Body,
    /// [`Body::digest`], hex.
    pub digest: String,
    /// Ed25519 of it, hex.
    pub signature: String,
    /// Whose, hex.
    pub public_key: String,
}

/// What is wrong with a certificate, or a file of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It is no certificate that this version reads.
    Unreadable(String),
    /// What it says was changed.
    Body,
    /// Its digest was changed.
    Digest,
    /// Its signature or its key was changed, or somebody else signed.
    Signature,
    /// It is signed by another key than the one that was asked for.
    OtherKey(String),
    /// A file was changed.
    File(String),
    /// A file is not there.
    Missing(String),
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Fault::Unreadable(why) => write!(f, "the certificate {why}"),
            Fault::Body => f.write_str(
                "the certificate's body was changed: the signature is of what its digest says, and the body \
                 has another digest",
            ),
            Fault::Digest => f.write_str(
                "the certificate's digest was changed: the signature is of the body as it stands",
            ),
            Fault::Signature => f.write_str(
                "the certificate's signature does not fit: the signature or the public key was changed",
            ),
            Fault::OtherKey(key) => write!(
                f,
                "the certificate is signed by another key than the one that was given: {key}"
            ),
            Fault::File(name) => write!(f, "{name} was changed: it has another digest"),
            Fault::Missing(name) => write!(f, "{name} is not there"),
        }
    }
}

impl Certificate {
    /// Of a body, and the signature of its digest.
    ///
    /// # Errors
    /// What canonical JSON cannot hold.
    pub fn of(body: Body, signature: &[u8], public_key: &[u8]) -> Result<Certificate, String> {
        Ok(Certificate {
            kind: KIND.to_owned(),
            format: FORMAT,
            digest: hex(&body.digest()?),
            signature: hex(signature),
            public_key: hex(public_key),
            body,
        })
    }

    /// The file.
    ///
    /// # Errors
    /// What canonical JSON cannot hold.
    pub fn text(&self) -> Result<String, String> {
        let value = serde_json::to_value(self).map_err(|error| error.to_string())?;
        Ok(canonical(&value)? + "\n")
    }

    /// Reads a file, and holds it to its own signature; to `key`, hex, if one is given.
    ///
    /// # Errors
    /// The first thing that is wrong with it.
    pub fn read(bytes: &[u8], key: Option<&str>) -> Result<Certificate, Fault> {
        let unreadable = |why: &str| Fault::Unreadable(why.to_owned());
        let text = std::str::from_utf8(bytes).map_err(|_| unreadable("is no text"))?;
        let value: Value = serde_json::from_str(text)
            .map_err(|error| Fault::Unreadable(format!("is not JSON: {error}")))?;
        if value.get("kind").and_then(Value::as_str) != Some(KIND) {
            return Err(Fault::Unreadable(format!(
                "is none: its kind is not {KIND:?}; `firebreak drill certify` writes one"
            )));
        }
        if value.get("format").and_then(Value::as_u64) != Some(u64::from(FORMAT)) {
            return Err(Fault::Unreadable(format!(
                "has another format than {FORMAT}: use the version that wrote it"
            )));
        }
        let read: Certificate = serde_json::from_value(value)
            .map_err(|error| Fault::Unreadable(format!("cannot be read: {error}")))?;
        if read.text().as_deref() != Ok(text) {
            return Err(unreadable(
                "was changed: it is not written as certificates are, byte by byte",
            ));
        }
        read.signed()?;
        match key {
            Some(key) if key != read.public_key => Err(Fault::OtherKey(read.public_key)),
            Some(_) | None => Ok(read),
        }
    }

    /// Whether its signature is that of its key for its body; else what was changed.
    fn signed(&self) -> Result<(), Fault> {
        let body = self.body.digest().map_err(Fault::Unreadable)?;
        let told = unhex(&self.digest).and_then(|bytes| bytes.try_into().ok());
        let told: Option<[u8; KEY_BYTES]> = told;
        let key = unhex(&self.public_key).unwrap_or_default();
        let signature = unhex(&self.signature).unwrap_or_default();
        let fits = |digest: &[u8; KEY_BYTES]| sign::verify(&key, digest, &signature);
        match (
            told == Some(body),
            told.is_some_and(|told| fits(&told)),
            fits(&body),
        ) {
            (true, _, true) => Ok(()),
            (true, _, false) => Err(Fault::Signature),
            (false, true, _) => Err(Fault::Body),
            (false, false, true) => Err(Fault::Digest),
            (false, false, false) => Err(Fault::Signature),
        }
    }

    /// Holds the files to their digests; `read` gives a file of that name, or none where it is not there.
    pub fn check(&self, read: impl Fn(&str) -> Option<Vec<u8>>) -> Vec<Fault> {
        let faults = self
            .body
            .files
            .iter()
            .filter_map(|kept| match read(&kept.file) {
                None => Some(Fault::Missing(kept.file.clone())),
                Some(bytes) if hex(blake3::hash(&bytes).as_bytes()) != kept.digest => {
                    Some(Fault::File(kept.file.clone()))
                }
                Some(_) => None,
            });
        faults.collect()
    }
}

/// JSON with sorted keys and nothing between, of whole numbers.
fn canonical(value: &Value) -> Result<String, String> {
    let text = |text: &str| serde_json::to_string(text).map_err(|error| error.to_string());
    Ok(match value {
        Value::Null => "null".to_owned(),
        Value::Bool(is) => is.to_string(),
        Value::Number(number) if number.is_f64() => {
            return Err(format!("{number} is no whole number"));
        }
        Value::Number(number) => number.to_string(),
        Value::String(string) => text(string)?,
        Value::Array(items) => {
            let items: Result<Vec<String>, String> = items.iter().map(canonical).collect();
            format!("[{}]", items?.join(","))
        }
        Value::Object(fields) => {
            let mut fields: Vec<(&String, &Value)> = fields.iter().collect();
            fields.sort_by_key(|(key, _)| *key);
            let fields = fields.into_iter();
            let fields =
                fields.map(|(key, value)| Ok(format!("{}:{}", text(key)?, canonical(value)?)));
            let fields: Result<Vec<String>, String> = fields.collect();
            format!("{{{}}}", fields?.join(","))
        }
    })
}

/// Small letters of bytes.
pub fn hex(bytes: &[u8]) -> String {
    use fmt::Write as _;
    let mut text = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
    }
    text
}

/// The bytes of [`hex`]; none for what it does not write.
pub fn unhex(text: &str) -> Option<Vec<u8>> {
    let digit = |c: u8| match c {
        b'0'..=b'9' => Some(c - b'0'),
        b'a'..=b'f' => Some(c - b'a' + 10),
        _ => None,
    };
    let (pairs, rest) = text.as_bytes().as_chunks::<2>();
    let bytes = pairs
        .iter()
        .map(|[high, low]| Some(digit(*high)? << 4 | digit(*low)?));
    rest.is_empty().then(|| bytes.collect()).flatten()
}

#[cfg(test)]
#[path = "certificate_tests.rs"]
mod tests;
