//! The key that signs certificates: Ed25519, of a seed that the meta shard keeps. Signing draws nothing
//! at random, so that all nodes sign alike.

use ed25519_dalek::{Signature, Signer as _, SigningKey, VerifyingKey};

/// What is put before a digest, so that the key signs nothing else than certificates of drills.
const PURPOSE: &[u8] = b"firebreak-drill-1\0";

/// Bytes of a seed, a public key and a digest.
pub const KEY_BYTES: usize = 32;

/// The key.
pub struct Key(SigningKey);

impl Key {
    /// Of its seed; `None` when that does not have [`KEY_BYTES`].
    pub fn of(seed: &[u8]) -> Option<Key> {
        let seed: [u8; KEY_BYTES] = seed.try_into().ok()?;
        Some(Key(SigningKey::from_bytes(&seed)))
    }

    /// Its public part.
    pub fn public(&self) -> Vec<u8> {
        self.0.verifying_key().to_bytes().to_vec()
    }

    /// Signs the digest of a certificate; 64 bytes.
    pub fn sign(&self, digest: &[u8; KEY_BYTES]) -> Vec<u8> {
        self.0.sign(&message(digest)).to_bytes().to_vec()
    }
}

fn message(digest: &[u8; KEY_BYTES]) -> Vec<u8> {
    [PURPOSE, digest].concat()
}

/// Whether a signature is that of a key's owner for the digest of a certificate. Needs no cluster.
pub fn verify(public: &[u8], digest: &[u8; KEY_BYTES], signature: &[u8]) -> bool {
    let public = public.try_into().ok();
    let public = public.and_then(|bytes: [u8; KEY_BYTES]| VerifyingKey::from_bytes(&bytes).ok());
    let signature = Signature::from_slice(signature).ok();
    match (public, signature) {
        (Some(public), Some(signature)) => {
            public.verify_strict(&message(digest), &signature).is_ok()
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_changed_bit_of_anything_shows() {
        let key = Key::of(&[7; KEY_BYTES]).unwrap();
        let digest = [9; KEY_BYTES];
        let (public, signature) = (key.public(), key.sign(&digest));
        assert!(verify(&public, &digest, &signature));
        let flipped = |bytes: &[u8], at: usize| {
            let mut bytes = bytes.to_vec();
            bytes[at] ^= 1;
            bytes
        };
        for at in 0..KEY_BYTES {
            assert!(!verify(&flipped(&public, at), &digest, &signature));
            let other: [u8; KEY_BYTES] = flipped(&digest, at).try_into().unwrap();
            assert!(!verify(&public, &other, &signature));
        }
        for at in 0..signature.len() {
            assert!(!verify(&public, &digest, &flipped(&signature, at)));
        }
        assert!(!verify(&public[1..], &digest, &signature));
        assert!(!verify(&public, &digest, &signature[1..]));
        assert!(Key::of(&[7; 31]).is_none());
    }
}
