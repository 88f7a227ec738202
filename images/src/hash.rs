//! Computing digests while bytes go by.

use pod_abi::Digest;
use pod_abi::digest::Algorithm;
use sha2::{Digest as _, Sha256, Sha512};

/// A digest under construction.
#[derive(Clone, Debug)]
pub(crate) enum Hasher {
    Sha256(Sha256),
    Sha512(Sha512),
}

impl Hasher {
    pub(crate) fn new(algorithm: Algorithm) -> Self {
        match algorithm {
            Algorithm::Sha256 => Self::Sha256(Sha256::new()),
            Algorithm::Sha512 => Self::Sha512(Sha512::new()),
        }
    }

    pub(crate) fn update(&mut self, bytes: &[u8]) {
        match self {
            Self::Sha256(hash) => hash.update(bytes),
            Self::Sha512(hash) => hash.update(bytes),
        }
    }

    pub(crate) fn finish(self) -> Digest {
        let digest = match self {
            Self::Sha256(hash) => Digest::from_hash(&hash.finalize()),
            Self::Sha512(hash) => Digest::from_hash(&hash.finalize()),
        };
        digest.expect("these functions yield 32 and 64 bytes, which are digests")
    }
}

/// Returns the digest of `bytes`.
pub(crate) fn of(algorithm: Algorithm, bytes: &[u8]) -> Digest {
    let mut hasher = Hasher::new(algorithm);
    hasher.update(bytes);
    hasher.finish()
}

/// Returns the chain id of each prefix of `layers`, the shortest first: what names a layer whose
/// tree depends on the layers below it. Source: image-spec `config.md`, "Layer ChainID".
pub(crate) fn chain(layers: &[Digest]) -> Vec<Digest> {
    let mut chain: Vec<Digest> = Vec::with_capacity(layers.len());
    for layer in layers {
        let next = match chain.last() {
            None => layer.clone(),
            Some(below) => of(Algorithm::Sha256, format!("{below} {layer}").as_bytes()),
        };
        chain.push(next);
    }
    chain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digests_are_those_of_the_standard() {
        let empty = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        assert_eq!(of(Algorithm::Sha256, b"").to_string(), empty);
        assert_eq!(of(Algorithm::Sha512, b"").hex().len(), 128);
    }

    #[test]
    fn a_chain_begins_with_its_lowest_layer_and_depends_on_order() {
        let [a, b] = [b"a", b"b"].map(|bytes| of(Algorithm::Sha256, bytes));
        let up = chain(&[a.clone(), b.clone()]);
        let down = chain(&[b, a.clone()]);
        assert_eq!(up[0], a);
        assert_ne!(up[1], down[1]);
    }
}
