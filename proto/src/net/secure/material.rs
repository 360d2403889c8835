//! Certificates, keys and whom they are trusted by, as they are read from PEM.

use std::sync::Arc;

use rustls::crypto::aws_lc_rs::default_provider;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConfig, RootCertStore, ServerConfig};

use super::certificate::{Certified, Facts};
use super::pinned::Pinned;

/// What is wrong with a certificate, a key or an authority.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It is not what it should be.
    #[error("{what}: {why}")]
    Wrong {
        /// Which of them.
        what: &'static str,
        /// Why.
        why: String,
    },
}

fn wrong(what: &'static str, why: impl std::fmt::Display) -> Error {
    Error::Wrong {
        what,
        why: why.to_string(),
    }
}

const AUTHORITY: &str = "the certificate authority";
const CERTIFICATE: &str = "the certificate";
const KEY: &str = "the private key";

/// What a node speaks TLS with.
pub struct Material {
    pub(super) server: Arc<ServerConfig>,
    pub(super) client: Arc<ClientConfig>,
    /// Of the node's own certificate.
    pub own: Facts,
    /// Of the authorities, in the order of the file.
    pub authorities: Vec<Facts>,
}

impl Material {
    /// Reads PEM: one or more authorities (the old and the new one, while they are exchanged), the
    /// node's certificate with those between, and its key.
    ///
    /// # Errors
    /// What is wrong with one of them, or that they do not belong together.
    pub fn read(authorities: &[u8], certificate: &[u8], key: &[u8]) -> Result<Material, Error> {
        let (roots, known, sent) = roots(authorities)?;
        let (chain, own) = chain(certificate)?;
        if !matches!(own.who, Certified::Node(_)) {
            let why = format!("it is that of {}, not of a node", own.who);
            return Err(wrong(CERTIFICATE, why));
        }
        let key = private(key)?;
        let provider = Arc::new(default_provider());
        let roots = Arc::new(roots);
        let clients = WebPkiClientVerifier::builder_with_provider(roots.clone(), provider.clone())
            .allow_unauthenticated()
            .build()
            .map_err(|error| wrong(AUTHORITY, error))?;
        let mut server = ServerConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()
            .map_err(|error| wrong(CERTIFICATE, error))?
            .with_client_cert_verifier(clients)
            .with_single_cert([chain.clone(), sent].concat(), key.clone_key())
            .map_err(|error| wrong(KEY, error))?;
        server.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        let mut client = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| wrong(CERTIFICATE, error))?
            .with_root_certificates(roots)
            .with_client_auth_cert(chain, key)
            .map_err(|error| wrong(KEY, error))?;
        client.alpn_protocols = vec![b"h2".to_vec()];
        Ok(Material {
            server: Arc::new(server),
            client: Arc::new(client),
            own,
            authorities: known,
        })
    }
}

/// What a client speaks TLS with.
pub struct Trust {
    pub(super) client: Arc<ClientConfig>,
}

impl Trust {
    /// Reads PEM: one or more authorities whose nodes are trusted, and the client's own certificate
    /// and key, if it has one.
    ///
    /// # Errors
    /// What is wrong with one of them, or that they do not belong together.
    pub fn read(authorities: &[u8], own: Option<(&[u8], &[u8])>) -> Result<Trust, Error> {
        let (roots, ..) = roots(authorities)?;
        let client = ClientConfig::builder_with_provider(Arc::new(default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|error| wrong(AUTHORITY, error))?
            .with_root_certificates(roots);
        let mut client = match own {
            None => client.with_no_client_auth(),
            Some((certificate, key)) => {
                let (chain, _) = chain(certificate)?;
                let with = client.with_client_auth_cert(chain, private(key)?);
                with.map_err(|error| wrong(KEY, error))?
            }
        };
        client.alpn_protocols = vec![b"h2".to_vec()];
        Ok(Trust {
            client: Arc::new(client),
        })
    }

    /// Trusts one authority, known by its [`fingerprint`](super::fingerprint) alone: nodes send its certificate along with
    /// their own. For a node that joins and has no files yet.
    ///
    /// # Errors
    /// When the fingerprint is none.
    pub fn pinned(fingerprint: &str) -> Result<Trust, Error> {
        let provider = Arc::new(default_provider());
        let pinned = Pinned::new(fingerprint, provider.clone());
        let pinned = pinned.ok_or_else(|| {
            wrong(
                AUTHORITY,
                "its fingerprint is 64 hexadecimal digits, with or without colons",
            )
        })?;
        let mut client = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| wrong(AUTHORITY, error))?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(pinned))
            .with_no_client_auth();
        client.alpn_protocols = vec![b"h2".to_vec()];
        Ok(Trust {
            client: Arc::new(client),
        })
    }
}

/// What is trusted, what each says, and what is sent along with a node's certificate.
type Roots = (RootCertStore, Vec<Facts>, Vec<CertificateDer<'static>>);

fn roots(pem: &[u8]) -> Result<Roots, Error> {
    let (mut roots, mut known, mut sent) = (RootCertStore::empty(), Vec::new(), Vec::new());
    for certificate in CertificateDer::pem_slice_iter(pem) {
        let certificate = certificate.map_err(|error| wrong(AUTHORITY, error))?;
        known.push(Facts::of(&certificate).map_err(|error| wrong(AUTHORITY, error))?);
        sent.push(certificate.clone());
        roots
            .add(certificate)
            .map_err(|error| wrong(AUTHORITY, error))?;
    }
    match known.is_empty() {
        true => Err(wrong(AUTHORITY, "the file holds no certificate in PEM")),
        false => Ok((roots, known, sent)),
    }
}

fn chain(pem: &[u8]) -> Result<(Vec<CertificateDer<'static>>, Facts), Error> {
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    let chain = chain.map_err(|error| wrong(CERTIFICATE, error))?;
    let first = chain.first();
    let first = first.ok_or_else(|| wrong(CERTIFICATE, "the file holds no certificate in PEM"))?;
    let own = Facts::of(first).map_err(|error| wrong(CERTIFICATE, error))?;
    Ok((chain, own))
}

fn private(pem: &[u8]) -> Result<PrivateKeyDer<'static>, Error> {
    PrivateKeyDer::from_pem_slice(pem).map_err(|error| wrong(KEY, error))
}
