//! Trust in an authority that is known by its fingerprint alone.

use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{DigitallySignedStruct, Error, RootCertStore, SignatureScheme};

use super::certificate::fingerprint;

/// Verifies as ever, but with the one authority that the other end sends and whose fingerprint is right.
#[derive(Debug)]
pub(super) struct Pinned {
    /// Without colons, in small letters.
    digits: String,
    provider: Arc<CryptoProvider>,
}

impl Pinned {
    /// None for what is no SHA-256 in hexadecimal digits.
    pub(super) fn new(fingerprint: &str, provider: Arc<CryptoProvider>) -> Option<Pinned> {
        let digits = digits(fingerprint);
        let whole = digits.len() == 64 && digits.bytes().all(|digit| digit.is_ascii_hexdigit());
        whole.then_some(Pinned { digits, provider })
    }
}

fn digits(fingerprint: &str) -> String {
    fingerprint.replace(':', "").to_ascii_lowercase()
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let meant = |sent: &&CertificateDer<'_>| digits(&fingerprint(sent)) == self.digits;
        let Some(authority) = intermediates.iter().find(meant) else {
            let why = "no authority with the fingerprint that was given signed it";
            return Err(Error::General(format!(
                "the other end's certificate is not trusted: {why}"
            )));
        };
        let mut roots = RootCertStore::empty();
        roots.add(authority.clone().into_owned())?;
        let verifier =
            WebPkiServerVerifier::builder_with_provider(Arc::new(roots), self.provider.clone());
        let verifier = verifier
            .build()
            .map_err(|error| Error::General(error.to_string()))?;
        verifier.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, cert, signed, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, cert, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        let algorithms = &self.provider.signature_verification_algorithms;
        algorithms.supported_schemes()
    }
}
