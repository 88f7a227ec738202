//! `pod run --reuse`: the pod that bears the name already is started again, if it is the one the
//! specification describes; else it makes room. So a unit that runs a specification keeps what its
//! apps have written, and a specification that was changed counts.

use pod_abi::manifest::PodSpec;
use pod_abi::phase::Phase;

use super::Session;
use super::rm::take_away;
use crate::error::{CommandError, Result};
use crate::pods::Pod;
use crate::specification;

/// What bears the name of a pod that is to be run.
#[derive(Debug)]
pub(super) enum Earlier {
    /// Nothing that has ended.
    None,
    /// The very pod that is to be run.
    Same(Pod),
    /// Another one.
    Outdated(Pod),
}

/// Finds what bears the name in `spec`.
///
/// # Errors
///
/// Usage if there is no name; `storage`.
pub(super) fn earlier(session: &Session, spec: &PodSpec) -> Result<Earlier> {
    let Some(name) = &spec.name else {
        return Err(CommandError::usage("`--reuse` goes by the pod's name, and it has none")
            .hint("`--name NAME` gives it one"));
    };
    let Some(id) = session.pods.named(name)? else { return Ok(Earlier::None) };
    let Some(pod) = session.pods.open_id(&id)? else { return Ok(Earlier::None) };
    let phase = pod.phase();
    // A pod that goes when it ends was not meant to be kept.
    let same = !pod.manifest()?.remove && specification::describes(spec, &pod)?;
    Ok(match phase {
        Phase::Prepared | Phase::Exited if same => Earlier::Same(pod),
        Phase::Exited => Earlier::Outdated(pod),
        // One that lives, or has never run, keeps its name: that is refused where it is claimed.
        _ => Earlier::None,
    })
}

impl Earlier {
    /// Removes what had to make room. What cannot be removed now has no name any more, and is
    /// `pod gc`'s.
    pub(super) fn remove(self, session: &Session) {
        if let Self::Outdated(mut pod) = self {
            let word = pod.id.to_string();
            let _ = take_away(session, &mut pod, &word); // see above
        }
    }
}
