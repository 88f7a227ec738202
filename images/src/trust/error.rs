//! Why a policy, a key or a signature is none.

use std::path::PathBuf;

/// Why something that is to do with trust cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TrustError {
    /// The policy breaks the rules of its format.
    #[error("the policy is none: {0}")]
    Policy(String),
    /// A key cannot be read.
    #[error("key `{path}` cannot be read: {why}")]
    Key {
        /// Which.
        path: PathBuf,
        /// Why.
        why: String,
    },
    /// A key is none, or of a kind we do not know.
    #[error("{of} is no public key: {why}")]
    NoKey {
        /// Where it is from.
        of: String,
        /// Why.
        why: &'static str,
    },
    /// A private key is none, or of a kind we do not sign with.
    #[error("`{path}` holds no private key to sign with: {why}")]
    NoPrivateKey {
        /// Where it was looked for.
        path: PathBuf,
        /// Why.
        why: &'static str,
    },
    /// Nothing can be signed.
    #[error("the system has no random numbers to sign with")]
    Unsigned,
    /// What was signed is not what a signature of an image signs.
    #[error("what was signed is no claim about an image: {0}")]
    Claim(String),
    /// A signature of OpenPGP is none, or of nobody who may sign.
    #[error("the OpenPGP signature does not count: {0}")]
    Signature(&'static str),
    /// A document that carries signatures breaks the rules of its format.
    #[error("the signatures are none: {0}")]
    Document(String),
    /// A name is none that a signature could be for.
    #[error("`{0}` names no image of a registry")]
    Name(String),
}
