//! Whether an image has what is asked of it.

use std::fmt;
use std::time::SystemTime;

use pod_abi::Digest;

use super::claim::{Claim, Kind};
use super::error::TrustError;
use super::identity::Identity;
use super::named::Named;
use super::policy::{Requirement, SignedBy, Sigstore, Where};

/// A signature and what it says, neither of which is believed yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signed {
    /// What it says.
    pub claim: Claim,
    /// The bytes that were signed.
    pub message: Vec<u8>,
    /// The signature.
    pub signature: Vec<u8>,
}

/// All there is to judge an image by; none of it is believed yet.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Evidence {
    /// Signatures as cosign makes them.
    pub sigstore: Vec<Signed>,
    /// Messages of OpenPGP, each of which has its claim in it.
    pub openpgp: Vec<Vec<u8>>,
    /// Why what lies where signatures of cosign do is none: told where none vouches.
    pub unusable: Vec<String>,
}

impl Evidence {
    /// Takes what could be read, or remembers why it could not.
    pub fn usable<T>(&mut self, read: Result<T, TrustError>) -> Option<T> {
        read.map_err(|error| self.unusable.push(error.to_string())).ok()
    }
}

/// What has verified an image: one line for each requirement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verified {
    /// Nothing was asked for.
    Unasked,
    /// A signature.
    Signed {
        /// By which key, for people.
        key: String,
        /// Under which name, if the signature has one.
        name: Option<Named>,
    },
}

/// Why an image may not run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Where what is asked for stands.
    pub place: Where,
    /// Why it does not hold, in a sentence.
    pub why: String,
    /// What is wrong with each signature there is.
    pub causes: Vec<String>,
}

/// Judges an image: `digest` is what was fetched, `intended` the name it was asked for by. All
/// requirements must hold, each by any of the signatures.
///
/// # Errors
///
/// The first requirement that does not hold, and why.
pub fn judge(
    (place, requirements): (&Where, &[Requirement]),
    intended: Option<&Named>,
    digest: &Digest,
    evidence: &Evidence,
) -> Result<Vec<Verified>, Refusal> {
    let refused = |why: &str, causes: Vec<String>| Refusal {
        place: place.clone(),
        why: why.to_owned(),
        causes,
    };
    let one = |requirement: &Requirement| match requirement {
        Requirement::InsecureAcceptAnything {} => Ok(Verified::Unasked),
        Requirement::Reject {} => Err(refused("it is rejected", Vec::new())),
        Requirement::SignedBy(asked) => signed_by(asked, intended, digest, &evidence.openpgp)
            .map_err(|(why, causes)| refused(&why, causes)),
        Requirement::SignedBaseLayer { .. } => {
            Err(refused("its base layer must be signed, which nothing verifies", Vec::new()))
        }
        Requirement::SigstoreSigned(sigstore) => {
            sigstore_signed(sigstore, intended, digest, &evidence.sigstore)
                .map_err(|(why, causes)| refused(&why, [&causes[..], &evidence.unusable].concat()))
        }
    };
    requirements.iter().map(one).collect()
}

/// Takes the first message that is signed by one of the keys and says what it must.
fn signed_by(
    asked: &SignedBy,
    intended: Option<&Named>,
    digest: &Digest,
    messages: &[Vec<u8>],
) -> Result<Verified, (String, Vec<String>)> {
    let keyring = asked.keys.keyring().map_err(|error| (error.to_string(), Vec::new()))?;
    let now = SystemTime::now();
    let mut causes = Vec::new();
    for message in messages {
        // Nothing a message says is looked at before it is known whose it is.
        let claimed = keyring
            .open(message, now)
            .and_then(|opened| Ok((Claim::simple(&opened.content)?, opened.fingerprint)));
        let (claim, fingerprint) = match claimed {
            Ok(claimed) => claimed,
            Err(error) => {
                causes.push(error.to_string());
                continue;
            }
        };
        match says(&claim, digest, intended, &asked.identity) {
            Ok(name) => {
                return Ok(Verified::Signed {
                    key: format!("key {fingerprint}"),
                    name: Some(name),
                });
            }
            Err(cause) => causes.push(cause),
        }
    }
    Err(("it has no OpenPGP signature the policy asks for".to_owned(), causes))
}

/// Checks that a claim of simple signing is about this image, and returns its name.
fn says(
    claim: &Claim,
    digest: &Digest,
    intended: Option<&Named>,
    identity: &Identity,
) -> Result<Named, String> {
    let Claim { digest: of, name, kind } = claim;
    match name {
        _ if *kind != Kind::Atomic => Err("a signature is of no claim of OpenPGP".to_owned()),
        _ if of != digest => Err(format!("a signature is of other content, {}", of.short())),
        Some(name) if identity.accepts(intended, name) => Ok(name.clone()),
        Some(name) => Err(format!("a signature is for `{name}`")),
        None => Err("a signature has no name".to_owned()),
    }
}

fn sigstore_signed(
    sigstore: &Sigstore,
    intended: Option<&Named>,
    digest: &Digest,
    signed: &[Signed],
) -> Result<Verified, (String, Vec<String>)> {
    if let Some(beyond) = sigstore.beyond {
        return Err((format!("it must have {beyond}, which is not verified yet"), Vec::new()));
    }
    let keys = sigstore.keys.as_ref().map(|keys| keys.public_keys()).transpose();
    let keys =
        keys.map_err(|error: TrustError| (error.to_string(), Vec::new()))?.unwrap_or_default();
    let mut causes = Vec::new();
    for one in signed.iter().filter(|one| one.claim.kind != Kind::Atomic) {
        // Nothing a signature says is looked at before it is known to be one.
        let Some(key) = keys.iter().find(|key| key.verifies(&one.message, &one.signature)) else {
            causes.push("a signature is of none of the keys".to_owned());
            continue;
        };
        let Claim { digest: of, name, .. } = &one.claim;
        if of != digest {
            causes.push(format!("a signature is of other content, {}", of.short()));
            continue;
        }
        let fits = match (name, &sigstore.identity) {
            (Some(name), identity) => identity
                .as_ref()
                .map_or_else(Default::default, Clone::clone)
                .accepts(intended, name),
            // A bundle says which content and not under which name; that is enough unless the
            // administrator has said what the name must be.
            (None, identity) => identity.is_none(),
        };
        if fits {
            return Ok(Verified::Signed { key: key.origin().to_owned(), name: name.clone() });
        }
        causes.push(match name {
            Some(name) => format!("a signature is for `{name}`"),
            None => "a signature has no name, and the policy asks for one".to_owned(),
        });
    }
    Err(("it has no signature the policy asks for".to_owned(), causes))
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.why, self.place)?;
        self.causes.iter().try_for_each(|cause| write!(f, "; {cause}"))
    }
}

impl fmt::Display for Verified {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unasked => f.write_str("nothing is asked for"),
            Self::Signed { key, name: Some(name) } => write!(f, "signed by {key} as `{name}`"),
            Self::Signed { key, name: None } => write!(f, "signed by {key}"),
        }
    }
}
