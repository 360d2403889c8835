//! The section `tls`: with whom the node speaks TLS, and with which certificate.

use std::path::{Path, PathBuf};

use super::table::{Reader, Section};

/// Which connections have TLS.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TlsMode {
    /// None.
    #[default]
    Off,
    /// Those whose other end speaks it: on the way from off to strict.
    Optional,
    /// All.
    Strict,
}

/// TLS of a node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tls {
    /// Which connections have it.
    pub mode: TlsMode,
    /// PEM: the authorities that are trusted.
    pub ca: PathBuf,
    /// PEM: the node's certificate.
    pub cert: PathBuf,
    /// PEM: its key.
    pub key: PathBuf,
    /// PEM: the key of the first authority of `ca`, on a node that signs certificates of those that join.
    pub authority_key: Option<PathBuf>,
}

impl Tls {
    /// Makes relative paths those of a folder.
    pub(super) fn resolve(&mut self, folder: &Path) {
        let own = [&mut self.ca, &mut self.cert, &mut self.key];
        for path in own.into_iter().chain(&mut self.authority_key) {
            if !path.as_os_str().is_empty() {
                *path = folder.join(&path);
            }
        }
    }
}

/// Reads it.
pub(super) fn read(reader: &mut Reader<'_>, top: &Section<'_>) -> Tls {
    let section = reader.section(top, "tls");
    let files = ["ca", "cert", "key"];
    reader.known(&section, &["mode", "ca", "cert", "key", "authority_key"]);
    let mode = match reader.string(&section, "mode", Some("off")).as_str() {
        "off" => TlsMode::Off,
        "optional" => TlsMode::Optional,
        "strict" => TlsMode::Strict,
        _ => {
            let right = "must be \"off\", \"optional\" or \"strict\"";
            reader.add(&section, "mode", right);
            TlsMode::Off
        }
    };
    let [ca, cert, key] = files.map(|file| {
        let path = reader.string(&section, file, Some(""));
        if path.is_empty() && mode != TlsMode::Off {
            reader.add(
                &section,
                file,
                "is missing: `firebreak cert` makes the files that TLS needs",
            );
        }
        PathBuf::from(path)
    });
    let authority_key = reader.string(&section, "authority_key", Some(""));
    Tls {
        mode,
        ca,
        cert,
        key,
        authority_key: (!authority_key.is_empty()).then(|| authority_key.into()),
    }
}
