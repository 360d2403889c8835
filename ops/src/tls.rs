//! The files that TLS needs: read when a node starts, and again whenever they change.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::Context as _;
use proto::net::Connects;
use proto::net::secure::{Keys, Material, Mode, Secure, Trust};
use server::config::{Config, Tls, TlsMode};
use server::world::Authority;

use crate::authority::Signer;
use crate::exit::Usage;

/// How often the files are looked at.
const LOOK: Duration = Duration::from_secs(10);
/// How long before its end a certificate is told of.
pub const SOON: Duration = Duration::from_secs(30 * 24 * 3_600);
/// How often that is repeated.
const REPEAT: Duration = Duration::from_secs(24 * 3_600);

/// The certificates of a node, none where TLS is off.
///
/// # Errors
/// Usage: what is wrong with a file.
pub fn load(config: &Config) -> anyhow::Result<Option<Keys>> {
    if config.tls.mode == TlsMode::Off {
        return Ok(None);
    }
    let files = Files::read(&config.tls).map_err(|error| Usage(format!("tls: {error:#}")))?;
    let material = files.material();
    let material = material.map_err(|error| Usage(format!("tls: {error:#}")))?;
    let is = material.own.who.to_string();
    if is != format!("node/{}", config.name) {
        return Err(Usage(format!(
            "tls.cert: {} is the certificate of {is}, and this node is {}",
            config.tls.cert.display(),
            config.name
        ))
        .into());
    }
    Ok(Some(Keys::new(material)))
}

/// What a node speaks TLS with.
pub enum Own {
    /// Its certificate, none where TLS is off.
    Keys(Option<Keys>),
    /// Nothing yet: it joins, and trusts whom it is told to.
    Joining(Trust),
}

/// `below`, with the TLS that the configuration wants.
pub fn network<N: Connects>(config: &Config, own: Own, below: N) -> Secure<N> {
    match (config.tls.mode, own) {
        (TlsMode::Optional, Own::Keys(Some(keys))) => Secure::new(below, Mode::Optional, keys),
        (TlsMode::Strict, Own::Keys(Some(keys))) => Secure::new(below, Mode::Strict, keys),
        (_, Own::Joining(trust)) => Secure::joining(below, trust),
        (_, Own::Keys(_)) => Secure::off(below),
    }
}

/// Who signs the certificates of nodes that join, where this node may.
///
/// # Errors
/// Usage: what is wrong with its files.
pub fn authority(config: &Config) -> anyhow::Result<Option<Arc<dyn Authority>>> {
    let Some(key) = &config.tls.authority_key else {
        return Ok(None);
    };
    let signer = Signer::new(config.tls.ca.clone(), key.clone());
    let signer = signer.map_err(|error| Usage(format!("tls.authority_key: {error:#}")))?;
    Ok(Some(Arc::new(signer)))
}

/// For how long the certificate of `keys` holds from now on, seconds; 0 once it has expired.
pub fn remaining_s(keys: &Keys) -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let now = now.map_or(0, |since| since.as_secs());
    let until = u64::try_from(keys.now().own.until_s).unwrap_or(0);
    until.saturating_sub(now)
}

/// Exchanges the certificates whenever the files change, or SIGHUP asks to look. Never ends.
pub async fn follow(tls: Tls, keys: Keys) {
    let hangup = tokio::signal::unix::SignalKind::hangup();
    let mut hangup = match tokio::signal::unix::signal(hangup) {
        Ok(hangup) => Some(hangup),
        Err(error) => {
            tracing::warn!(%error, "SIGHUP cannot be heard: files are looked at now and then only");
            None
        }
    };
    let mut before = Files::read(&tls).ok();
    let mut wrong = None;
    let mut told: Option<tokio::time::Instant> = None;
    loop {
        let left = Duration::from_secs(remaining_s(&keys));
        if left < SOON && told.is_none_or(|at| at.elapsed() >= REPEAT) {
            told = Some(tokio::time::Instant::now());
            tracing::warn!(
                file = %tls.cert.display(),
                days = left.as_secs() / (24 * 3_600),
                "the node's certificate expires soon: `firebreak cert rotate` makes another; so does `firebreak \
                 node join` with --ca-fingerprint, while the node is stopped"
            );
        }
        let asked = async {
            match &mut hangup {
                Some(hangup) => drop(hangup.recv().await),
                None => std::future::pending().await,
            }
        };
        // Whichever comes first.
        let _ = tokio::time::timeout(LOOK, asked).await;
        let files = Files::read(&tls);
        if files
            .as_ref()
            .is_ok_and(|files| before.as_ref() == Some(files))
        {
            continue;
        }
        match files.and_then(|files| Ok((files.material()?, files))) {
            Ok((material, files)) => {
                tracing::info!(who = %material.own.who, until_unix_s = material.own.until_s,
                    authorities = material.authorities.len(), "certificates were exchanged");
                keys.exchange(material);
                before = Some(files);
                (wrong, told) = (None, None);
            }
            Err(error) => {
                let why = format!("{error:#}");
                if wrong.as_ref() != Some(&why) {
                    tracing::error!(why, "the files of TLS are of no use; those before are kept");
                    wrong = Some(why);
                }
            }
        }
    }
}

/// What the files hold.
#[derive(PartialEq, Eq)]
struct Files {
    ca: Vec<u8>,
    cert: Vec<u8>,
    key: Vec<u8>,
}

impl Files {
    fn read(tls: &Tls) -> anyhow::Result<Files> {
        Ok(Files {
            ca: read(&tls.ca)?,
            cert: read(&tls.cert)?,
            key: read(&tls.key)?,
        })
    }

    fn material(&self) -> anyhow::Result<Material> {
        Ok(Material::read(&self.ca, &self.cert, &self.key)?)
    }
}

/// Reads a file of a few KiB.
///
/// # Errors
/// With its name.
pub fn read(path: &Path) -> anyhow::Result<Vec<u8>> {
    fs::read(path).with_context(|| format!("cannot read {}", path.display()))
}
