//! How a call shows that a node of this cluster makes it, and an answer that one gives it, where
//! connections show nothing themselves: a MAC with a secret that was drawn at the founding, and that
//! each node gets when it joins.
//!
//! The MAC covers who calls, in which start, and whom: a proof that another node was given is of no
//! use elsewhere. It says nothing of when: whoever reads a connection without TLS may call again in
//! its name, until that node starts anew. Only TLS keeps readers away.

use bytes::Bytes;
use model::id::NodeId;

/// The metadata that carries it: node, boot, nonce and destination in digits, and the MAC in hex,
/// with points between.
pub(crate) const PROOF: &str = "firebreak-proof";

const CONTEXT: &str = "firebreak 2026-12-01 proof of a node to nodes";

/// What a proof says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Claim {
    /// Who calls, or answers.
    pub node: NodeId,
    /// Which start of it.
    pub boot: u64,
    /// What that start is told by.
    pub nonce: u64,
    /// Who is called; 0 = whoever is there.
    pub to: NodeId,
}

/// What nodes prove themselves with: 32 random bytes, or none where the cluster was founded without.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Secret {
    bytes: Bytes,
    /// Of the MAC.
    key: [u8; 32],
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(if self.is_none() { "none" } else { "Secret" })
    }
}

impl From<Bytes> for Secret {
    fn from(bytes: Bytes) -> Secret {
        match bytes.is_empty() {
            true => Secret::default(),
            false => Secret {
                key: blake3::derive_key(CONTEXT, &bytes),
                bytes,
            },
        }
    }
}

impl Secret {
    /// Whether there is none.
    pub fn is_none(&self) -> bool {
        self.bytes.is_empty()
    }

    /// The bytes, for a node that joins.
    pub fn bytes(&self) -> Bytes {
        self.bytes.clone()
    }

    /// The proof of a claim.
    fn prove(&self, cluster: &str, claim: Claim) -> String {
        let Claim {
            node,
            boot,
            nonce,
            to,
        } = claim;
        let mac = self.mac(cluster, claim).to_hex();
        format!("{}.{boot}.{nonce}.{}.{mac}", node.0, to.0)
    }

    /// What a proof claims, if it holds.
    pub(crate) fn check(&self, cluster: &str, proof: &str) -> Option<Claim> {
        let mut parts = proof.splitn(5, '.');
        let mut number = || parts.next()?.parse::<u64>().ok();
        let claim = Claim {
            node: NodeId(number()?),
            boot: number()?,
            nonce: number()?,
            to: NodeId(number()?),
        };
        let given = blake3::Hash::from_hex(parts.next()?).ok()?;
        // Compared in constant time.
        (!self.is_none() && self.mac(cluster, claim) == given).then_some(claim)
    }

    fn mac(&self, cluster: &str, claim: Claim) -> blake3::Hash {
        let mut mac = blake3::Hasher::new_keyed(&self.key);
        for number in [claim.node.0, claim.boot, claim.nonce, claim.to.0] {
            mac.update(&number.to_le_bytes());
        }
        mac.update(cluster.as_bytes());
        mac.finalize()
    }
}

/// The proof that a start of a node (its number, boot and nonce) calls `to`; none without a secret.
pub fn prove(
    secret: &Secret,
    cluster: &str,
    (node, boot, nonce): (NodeId, u64, u64),
    to: NodeId,
) -> Option<String> {
    let claim = Claim {
        node,
        boot,
        nonce,
        to,
    };
    (!secret.is_none()).then(|| secret.prove(cluster, claim))
}

/// The node that a proof is of, if it holds.
pub fn proven(secret: &Secret, cluster: &str, proof: &str) -> Option<NodeId> {
    secret.check(cluster, proof).map(|claim| claim.node)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_proof_holds_for_its_claim_alone(
            numbers in any::<[u64; 4]>(),
            flip in any::<prop::sample::Index>(),
        ) {
            let secret = Secret::from(Bytes::from_static(&[7; 32]));
            let [node, boot, nonce, to] = numbers;
            let claim = Claim { node: NodeId(node), boot, nonce, to: NodeId(to) };
            let proof = secret.prove("c1", claim);
            prop_assert_eq!(secret.check("c1", &proof), Some(claim));
            prop_assert_eq!(secret.check("c2", &proof), None);
            let other = Secret::from(Bytes::from_static(&[8; 32]));
            prop_assert_eq!(other.check("c1", &proof), None);
            let mut forged = proof.clone().into_bytes();
            let at = flip.index(forged.len());
            forged[at] = if forged[at] == b'1' { b'2' } else { b'1' };
            let forged = String::from_utf8(forged).unwrap();
            prop_assert_eq!(secret.check("c1", &forged), None);
        }

        #[test]
        fn nothing_that_comes_is_more_than_refused(proof in "\\PC{0,80}") {
            prop_assert_eq!(Secret::from(Bytes::from_static(&[7; 32])).check("c1", &proof), None);
            prop_assert_eq!(Secret::default().check("c1", &proof), None);
        }
    }
}
