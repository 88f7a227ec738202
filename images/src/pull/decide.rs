//! What the policy says of an image, asked as a fetch would, with nothing kept.

use std::path::{Path, PathBuf};

use pod_abi::Digest;
use pod_abi::app::Verified;

use super::trusted::{self, Seen};
use super::{PullOptions, choose, open};
use crate::error::{Error, ErrorKind};
use crate::reference::Reference;

/// A decision about an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    /// What is meant by its name now: the manifest.
    pub manifest: Digest,
    /// Whose index it was chosen from, if it is of several platforms.
    pub index: Option<Digest>,
    /// The policy that was asked; none if there is none, so that nothing is asked.
    pub policy: Option<PathBuf>,
    /// Where in it stands what is asked of this image, for people.
    pub place: Option<String>,
    /// What is asked, one sentence each; all must hold.
    pub asked: Vec<String>,
    /// What vouches for it, or why it may not come in.
    pub verdict: Result<Verified, String>,
}

/// Asks the policy about an image, fetching its documents and its signatures.
///
/// # Errors
///
/// Those of fetching; [`ErrorKind::Untrusted`] for a policy that cannot be used. That the policy does
/// not let the image in is a decision.
pub fn decide(reference: &Reference, options: &PullOptions) -> Result<Decision, Error> {
    let inner = || {
        let policy = trusted::policy(&options.policies)?;
        let source = open(&reference.really(), options)?;
        let chosen = choose::choose(source.as_ref(), reference, &options.platform)?;
        let mut decision = Decision {
            manifest: chosen.manifest_digest().clone(),
            index: chosen.index_digest().cloned(),
            policy: policy.as_ref().map(|(path, _)| Path::to_owned(path)),
            place: None,
            asked: Vec::new(),
            verdict: Ok(source.verified()),
        };
        let Some((path, policy)) = policy else { return Ok(decision) };
        let seen = Seen::of(reference);
        if let Some(subject) = seen.subject() {
            let (place, requirements) = policy.of(subject);
            decision.place = Some(place.to_string());
            decision.asked = requirements.iter().map(ToString::to_string).collect();
        }
        decision.verdict = match trusted::check((path, &policy), &seen, &*source, &chosen) {
            Ok(verified) => Ok(verified),
            Err(error) if error.kind() == ErrorKind::Untrusted => Err(error.to_string()),
            Err(error) => return Err(error),
        };
        Ok(decision)
    };
    inner().map_err(|error: Error| error.within(format!("cannot look at `{reference}`")))
}
