//! An authority and what it signs: into a folder of its own, or for nodes that join.

use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, anyhow};
use proto::net::secure::{Certified, Facts, SCHEME};
use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, DistinguishedName,
    DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, PublicKeyData as _,
    SanType,
};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;
use server::world::Certificates;
use x509_parser::prelude::{FromDer as _, X509Certificate};

use crate::exit::Usage;
use crate::tls::read;

/// A clock that is a little behind takes a new certificate all the same.
const BEFORE: Duration = Duration::from_secs(3_600);
const DAY_S: u64 = 24 * 3_600;
/// How long the certificate of a node that joins is valid, days.
const NODE_DAYS: u32 = 365;

/// Whose a certificate is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A node's: it is called, and calls.
    Node,
    /// A client's.
    Client,
    /// An operator's.
    Operator,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Kind::Node => "node",
            Kind::Client => "client",
            Kind::Operator => "operator",
        }
    }
}

/// An authority that can sign.
pub struct Authority {
    dir: PathBuf,
    /// Those that are trusted, PEM, the one that signs first.
    trusted: Vec<u8>,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    /// Makes one in a folder that has none.
    ///
    /// # Errors
    /// When there is one, or a file cannot be written.
    pub fn found(dir: &Path, days: u32) -> anyhow::Result<PathBuf> {
        let file = dir.join("ca.pem");
        if file.exists() {
            let what = "holds an authority already: --next makes another beside it";
            return Err(Usage(format!("{} {what}", dir.display())).into());
        }
        fs::create_dir_all(dir).with_context(|| format!("cannot make {}", dir.display()))?;
        let (certificate, key) = new_authority(days)?;
        write(&dir.join("ca.key"), key.as_bytes(), true)?;
        write(&file, certificate.as_bytes(), false)?;
        Ok(file)
    }

    /// The one of a folder.
    ///
    /// # Errors
    /// When there is none, or it is not whole.
    pub fn open(dir: &Path) -> anyhow::Result<Authority> {
        let (file, key_file) = (dir.join("ca.pem"), dir.join("ca.key"));
        if !file.exists() {
            let what = "holds no authority: `firebreak cert ca` makes one";
            return Err(Usage(format!("{} {what}", dir.display())).into());
        }
        let (trusted, issuer) = issuer(&file, &key_file)?;
        Ok(Authority {
            dir: dir.to_owned(),
            trusted,
            issuer,
        })
    }

    /// Makes another one, which signs from now on; those before stay trusted.
    ///
    /// # Errors
    /// When a file cannot be written.
    pub fn next(self, days: u32) -> anyhow::Result<PathBuf> {
        let (certificate, key) = new_authority(days)?;
        let file = self.dir.join("ca.pem");
        let all = [certificate.as_bytes(), &self.trusted].concat();
        // The key first: a certificate alone signs nothing, and the old pair would be lost with it.
        let old = self.dir.join("ca.key.old");
        fs::copy(self.dir.join("ca.key"), &old).context("the old key cannot be kept")?;
        write(&self.dir.join("ca.key"), key.as_bytes(), true)?;
        write(&file, &all, false)?;
        fs::remove_file(old).context("the old key cannot be removed")?;
        Ok(file)
    }

    /// Trusts the one that signs, and no other.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn drop_old(self) -> anyhow::Result<PathBuf> {
        let file = self.dir.join("ca.pem");
        let text = String::from_utf8(self.trusted).context("ca.pem is no PEM")?;
        let end = "-----END CERTIFICATE-----\n";
        let first = text.split_inclusive(end).next().unwrap_or(&text);
        write(&file, first.as_bytes(), false)?;
        Ok(file)
    }

    /// Signs a certificate with a new key.
    ///
    /// # Errors
    /// When a host is none, or a file cannot be written.
    pub fn sign(
        &self,
        kind: Kind,
        name: &str,
        hosts: &[String],
        days: u32,
    ) -> anyhow::Result<PathBuf> {
        let key = KeyPair::generate().context("no new key")?;
        let params = params(kind, name, hosts, days)?;
        let signed = params.signed_by(&key, &self.issuer);
        let signed = signed.context("the certificate cannot be signed")?;
        let stem = self.dir.join(format!("{}-{name}", kind.name()));
        let file = with(&stem, "pem");
        write(&with(&stem, "key"), key.serialize_pem().as_bytes(), true)?;
        write(&file, signed.pem().as_bytes(), false)?;
        Ok(file)
    }

    /// What was signed, by the names of its files, without `.pem`.
    ///
    /// # Errors
    /// When the folder or a file cannot be read.
    pub fn signed(&self) -> anyhow::Result<Vec<(String, Signed)>> {
        let mut signed = Vec::new();
        let cannot = || format!("cannot read {}", self.dir.display());
        for entry in fs::read_dir(&self.dir).with_context(cannot)? {
            let path = entry.with_context(cannot)?.path();
            let stem = path.file_stem().and_then(|stem| stem.to_str());
            let Some(stem) = stem.filter(|stem| *stem != "ca") else {
                continue;
            };
            if path.extension().is_some_and(|end| end == "pem")
                && let Some(first) = facts(&path)?.into_iter().next()
            {
                signed.push((stem.to_owned(), first));
            }
        }
        signed.sort_by(|(a, _), (b, _)| a.cmp(b));
        Ok(signed)
    }

    /// Signs the same again.
    ///
    /// # Errors
    /// When it says not whose it is, or a file cannot be written.
    pub fn again(&self, before: &Signed, days: u32) -> anyhow::Result<PathBuf> {
        let (kind, name) = match &before.facts.who {
            Certified::Node(name) => (Kind::Node, name),
            Certified::Client(name) => (Kind::Client, name),
            Certified::Operator(name) => (Kind::Operator, name),
            Certified::Nobody => {
                let file = before.file.display();
                return Err(anyhow!(
                    "{file} does not say whose it is; it was not made here"
                ));
            }
        };
        self.sign(kind, name, &before.facts.hosts, days)
    }
}

/// The authorities of a file, and the first of them with its key, which signs.
fn issuer(file: &Path, key_file: &Path) -> anyhow::Result<(Vec<u8>, Issuer<'static, KeyPair>)> {
    let trusted = read(file)?;
    let named = key_file.display();
    let key = String::from_utf8(read(key_file)?).with_context(|| format!("{named} is no PEM"))?;
    let key = KeyPair::from_pem(&key).with_context(|| format!("{named} is no private key"))?;
    let first = CertificateDer::pem_slice_iter(&trusted).next();
    let first = first.ok_or_else(|| anyhow!("{} holds no certificate", file.display()))??;
    let spki = X509Certificate::from_der(&first).map(|(_, first)| first.public_key().raw.to_vec());
    if spki.ok() != Some(key.subject_public_key_info()) {
        return Err(anyhow!(
            "{named} is not the key of the first authority in {}",
            file.display()
        ));
    }
    let issuer = Issuer::from_ca_cert_der(&first, key);
    let issuer = issuer.with_context(|| format!("{} cannot sign", file.display()))?;
    Ok((trusted, issuer))
}

/// What a certificate says.
fn params(
    kind: Kind,
    name: &str,
    hosts: &[String],
    days: u32,
) -> anyhow::Result<CertificateParams> {
    let wrong = |error: rcgen::Error| Usage(format!("the host: {error}"));
    let mut params = CertificateParams::new(hosts.to_vec()).map_err(wrong)?;
    params.distinguished_name = titled(name);
    let uri = format!("{SCHEME}{}/{name}", kind.name());
    params.subject_alt_names.push(SanType::URI(uri.try_into()?));
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    if kind == Kind::Node {
        params
            .extended_key_usages
            .push(ExtendedKeyUsagePurpose::ServerAuth);
    }
    valid(&mut params, days);
    Ok(params)
}

/// Signs certificates of nodes that join, with the files of a node that may.
pub struct Signer {
    ca: PathBuf,
    key: PathBuf,
}

impl Signer {
    /// With the key of the first authority in `ca`. The files are read for each signature, so that new ones
    /// count at once.
    ///
    /// # Errors
    /// When they are of no use now.
    pub fn new(ca: PathBuf, key: PathBuf) -> anyhow::Result<Signer> {
        issuer(&ca, &key)?;
        Ok(Signer { ca, key })
    }

    fn signed(&self, name: &str, host: &str, request: &[u8]) -> anyhow::Result<Certificates> {
        let (trusted, issuer) = issuer(&self.ca, &self.key)?;
        let request = CertificateSigningRequestParams::from_der(&request.into());
        let request = request.context("certificate_request is no request that is signed itself")?;
        // Of what is asked for only the key counts: who it is for, the cluster decides.
        let params = params(Kind::Node, name, &[host.to_owned()], NODE_DAYS)?;
        let signed = params.signed_by(&request.public_key, &issuer);
        Ok(Certificates {
            own: signed.context("the certificate cannot be signed")?.pem(),
            authorities: String::from_utf8(trusted).context("tls.ca is no PEM")?,
        })
    }
}

impl server::world::Authority for Signer {
    fn sign(&self, name: &str, host: &str, request: &[u8]) -> Result<Certificates, String> {
        let signed = self.signed(name, host, request);
        signed.map_err(|error| format!("{error:#}"))
    }
}

/// A key in a file of its own, made where there is none, and a request for its certificate, DER.
///
/// # Errors
/// When the file cannot be read or written, or holds no key.
pub fn request(name: &str, key_file: &Path) -> anyhow::Result<Vec<u8>> {
    let named = || key_file.display().to_string();
    let key = match key_file.exists() {
        // Of a join before, whose answer may have been lost.
        true => {
            let key = String::from_utf8(read(key_file)?).with_context(named)?;
            KeyPair::from_pem(&key).with_context(named)?
        }
        false => {
            if let Some(folder) = key_file.parent() {
                fs::create_dir_all(folder).with_context(named)?;
            }
            let key = KeyPair::generate().context("no new key")?;
            write(key_file, key.serialize_pem().as_bytes(), true)?;
            key
        }
    };
    let mut params = CertificateParams::new(Vec::new())?;
    params.distinguished_name = titled(name);
    let request = params.serialize_request(&key);
    Ok(request
        .context("no request for a certificate")?
        .der()
        .to_vec())
}

fn with(stem: &Path, end: &str) -> PathBuf {
    // A name may have dots in it.
    let mut name = stem.as_os_str().to_owned();
    name.push(".");
    name.push(end);
    name.into()
}

fn titled(name: &str) -> DistinguishedName {
    let mut title = DistinguishedName::new();
    title.push(DnType::CommonName, name);
    title
}

fn valid(params: &mut CertificateParams, days: u32) {
    let now = SystemTime::now();
    params.not_before = (now - BEFORE).into();
    params.not_after = (now + Duration::from_secs(u64::from(days) * DAY_S)).into();
}

fn new_authority(days: u32) -> anyhow::Result<(String, String)> {
    let key = KeyPair::generate().context("no new key")?;
    let mut params = CertificateParams::new(Vec::new())?;
    params.distinguished_name = titled("Firebreak authority");
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    valid(&mut params, days);
    let signed = params.self_signed(&key);
    let signed = signed.context("the authority cannot be signed")?;
    Ok((signed.pem(), key.serialize_pem()))
}

/// Writes a file whole, or not at all; a secret one for its owner alone.
///
/// # Errors
/// As the disk has.
pub fn write(path: &Path, bytes: &[u8], secret: bool) -> anyhow::Result<()> {
    let cannot = || format!("cannot write {}", path.display());
    let mut name = path.as_os_str().to_owned();
    name.push(".new");
    let new = PathBuf::from(name);
    let mode = if secret { 0o600 } else { 0o644 };
    let mut options = OpenOptions::new();
    let options = options.write(true).create(true).truncate(true).mode(mode);
    let mut file = options.open(&new).with_context(cannot)?;
    file.write_all(bytes).with_context(cannot)?;
    file.sync_all().with_context(cannot)?;
    fs::rename(&new, path).with_context(cannot)
}

/// Whether a certificate is over within this time, or has been for long; not when it cannot be read.
pub fn ends_within(file: &Path, time: Duration) -> bool {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let limit = now.map_or(0, |now| (now + time).as_secs());
    let own = facts(file).ok().and_then(|all| all.into_iter().next());
    own.is_some_and(|own| u64::try_from(own.facts.until_s).unwrap_or(0) < limit)
}

/// A certificate in a file.
#[derive(Clone, Debug)]
pub struct Signed {
    file: PathBuf,
    facts: Facts,
    fingerprint: String,
}

/// The certificates of a file.
///
/// # Errors
/// When it cannot be read.
pub fn facts(file: &Path) -> anyhow::Result<Vec<Signed>> {
    let pem = read(file)?;
    let certificates = CertificateDer::pem_slice_iter(&pem).map(|certificate| {
        let certificate = certificate.with_context(|| format!("{} is no PEM", file.display()))?;
        let facts = Facts::of(&certificate).with_context(|| file.display().to_string())?;
        Ok(Signed {
            file: file.to_owned(),
            facts,
            fingerprint: proto::net::secure::fingerprint(&certificate),
        })
    });
    let certificates: Vec<Signed> = certificates.collect::<anyhow::Result<_>>()?;
    match certificates.is_empty() {
        true => Err(anyhow!("{} holds no certificate in PEM", file.display())),
        false => Ok(certificates),
    }
}

impl Signed {
    fn until(&self) -> String {
        let seconds = u64::try_from(self.facts.until_s).unwrap_or(0);
        humantime::format_rfc3339_seconds(UNIX_EPOCH + Duration::from_secs(seconds)).to_string()
    }

    fn whose(&self) -> String {
        match &self.facts.who {
            Certified::Nobody => "an authority".to_owned(),
            who => who.to_string(),
        }
    }

    /// For a table.
    pub fn row(&self) -> [String; 5] {
        [
            self.file.display().to_string(),
            self.whose(),
            self.facts.hosts.join(", "),
            self.until(),
            self.fingerprint.clone(),
        ]
    }

    /// For programs.
    pub fn json(&self) -> serde_json::Value {
        serde_json::json!({
            "file": self.file,
            "who": self.facts.who.to_string(),
            "hosts": self.facts.hosts,
            "until": self.until(),
            "sha256": self.fingerprint,
        })
    }
}

#[cfg(test)]
mod tests {
    use proto::net::secure::{Material, Trust};

    use super::*;

    fn bytes(dir: &Path, file: &str) -> Vec<u8> {
        fs::read(dir.join(file)).unwrap()
    }

    #[test]
    fn what_an_authority_signs_is_of_use_and_is_signed_again_by_the_next() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path();
        assert!(Authority::open(dir).is_err());
        Authority::found(dir, 30).unwrap();
        assert!(Authority::found(dir, 30).is_err());
        let authority = Authority::open(dir).unwrap();
        let hosts = ["127.0.0.1".to_owned(), "seoul-1.example".to_owned()];
        authority.sign(Kind::Node, "seoul-1", &hosts, 1).unwrap();
        authority.sign(Kind::Operator, "ann", &[], 1).unwrap();
        let useful = || {
            let ca = bytes(dir, "ca.pem");
            let node = (
                bytes(dir, "node-seoul-1.pem"),
                bytes(dir, "node-seoul-1.key"),
            );
            let material = Material::read(&ca, &node.0, &node.1).unwrap();
            assert_eq!(material.own.who.to_string(), "node/seoul-1");
            let mut own = material.own.hosts;
            own.sort_unstable();
            assert_eq!(own, hosts);
            let ann = (
                bytes(dir, "operator-ann.pem"),
                bytes(dir, "operator-ann.key"),
            );
            Trust::read(&ca, Some((&ann.0, &ann.1))).unwrap();
            material.authorities.len()
        };
        assert_eq!(useful(), 1);
        let before = facts(&dir.join("ca.pem")).unwrap()[0].fingerprint.clone();
        Authority::open(dir).unwrap().next(30).unwrap();
        assert_eq!(useful(), 2);
        let next = Authority::open(dir).unwrap();
        let signed = next.signed().unwrap();
        assert_eq!(signed.len(), 2);
        for (_, one) in &signed {
            next.again(one, 2).unwrap();
        }
        Authority::open(dir).unwrap().drop_old().unwrap();
        assert_eq!(useful(), 1);
        assert_ne!(facts(&dir.join("ca.pem")).unwrap()[0].fingerprint, before);
        use std::os::unix::fs::PermissionsExt as _;
        let mode = |file: &str| fs::metadata(dir.join(file)).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode("ca.key"), 0o600);
        assert_eq!(mode("node-seoul-1.key"), 0o600);
        assert!(!dir.join("ca.key.old").exists());
    }
}
