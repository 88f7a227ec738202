//! Asking the policy, before anything of an image is kept.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use pod_abi::app::Verified;

use super::choose::Chosen;
use super::source::Source;
use crate::error::{Error, ErrorKind};
use crate::reference::Reference;
use crate::registries::Lookasides;
use crate::trust::{
    self, Evidence, FileKind, MAX_POLICY, Named, Policy, Refusal, Requirement, Subject, judge,
};

/// The directory that says where signatures lie.
const REGISTRIES_D: &str = "registries.d";
/// Where signatures are looked for of which no file says anything.
const STORE: &str = "file:///var/lib/containers/sigstore";

/// Reads the policy, if there is one; returns where it lies, too, for people.
///
/// # Errors
///
/// [`ErrorKind::Untrusted`]: one that cannot be read, or is none, lets nothing pass.
pub(super) fn policy(candidates: &[PathBuf]) -> Result<Option<(&Path, Policy)>, Error> {
    for path in candidates {
        let unusable = || format!("policy `{}` cannot be used", path.display());
        let file = match File::open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(Error::caused(ErrorKind::Untrusted, unusable(), error)),
        };
        let mut bytes = Vec::new();
        let most = u64::try_from(MAX_POLICY).unwrap_or(u64::MAX);
        file.take(most.saturating_add(1))
            .read_to_end(&mut bytes)
            .map_err(|error| Error::caused(ErrorKind::Untrusted, unusable(), error))?;
        return Policy::parse(&bytes)
            .map(|policy| Some((path.as_path(), policy)))
            .map_err(|error| Error::caused(ErrorKind::Untrusted, unusable(), error));
    }
    Ok(None)
}

/// Returns beneath which URL the signatures of an image of a registry lie.
fn apart<'l>(lookasides: &'l Lookasides, named: Option<&Named>) -> Option<&'l str> {
    let named = named?;
    if lookasides.is_silent_of(&named.repository, named.tag.as_deref()) {
        return Some(STORE);
    }
    lookasides.lookaside(&named.repository, named.tag.as_deref())
}

/// Reads where signatures lie: beside the policy, or else where the host's other tools look.
fn lookasides(policy: &Path) -> Result<Lookasides, Error> {
    let beside = policy.parent().map(|directory| directory.join(REGISTRIES_D));
    let directory = beside.filter(|directory| directory.is_dir());
    let directory = directory.unwrap_or_else(|| Path::new("/etc/containers").join(REGISTRIES_D));
    Lookasides::load(&directory).map_err(|source| {
        Error::caused(ErrorKind::Untrusted, "it cannot be known where signatures lie", source)
    })
}

/// An image as a policy sees it.
#[derive(Debug)]
pub(super) struct Seen {
    /// The scopes it is in; none for what the store has, which was judged when it came.
    subject: Option<Subject>,
    /// The name a signature must be for.
    named: Option<Named>,
}

impl Seen {
    /// Sees what a name means, where it really lies.
    pub(super) fn of(reference: &Reference) -> Self {
        let real = reference.really();
        Self { subject: Subject::of(&real), named: Named::of(&real) }
    }

    /// Returns the scopes it is in.
    pub(super) fn subject(&self) -> Option<&Subject> {
        self.subject.as_ref()
    }

    /// Sees what is in a file, whatever it calls itself.
    pub(super) fn of_file(kind: FileKind, file: &Path) -> Self {
        let real = file.canonicalize();
        let file = real.as_deref().unwrap_or(file);
        Self { subject: Some(Subject::of_file(kind, file)), named: None }
    }
}

/// Refuses what came without anybody who could vouch for it, or with a signature of a keyring
/// that was named, where the policy asks for more.
///
/// # Errors
///
/// [`ErrorKind::Untrusted`] says what is asked for and where it stands.
pub(super) fn let_in(candidates: &[PathBuf], seen: &Seen, verified: Verified) -> Result<(), Error> {
    let Some((path, policy)) = policy(candidates)? else { return Ok(()) };
    let Some(subject) = &seen.subject else { return Ok(()) };
    let (place, requirements) = policy.of(subject);
    let Some(asked) = unmet(requirements, verified) else { return Ok(()) };
    let sentence =
        format!("policy `{}` does not let it in: {place} asks for {asked}", path.display());
    Err(Error::new(ErrorKind::Untrusted, sentence))
}

/// Returns the first requirement that does not hold of what came as `verified`: a keyring that was
/// named is believed in place of the policy's.
pub(super) fn unmet(requirements: &[Requirement], verified: Verified) -> Option<&Requirement> {
    requirements.iter().find(|asked| match asked {
        Requirement::InsecureAcceptAnything {} => false,
        Requirement::SignedBy(_) => verified != Verified::Signature,
        _ => true,
    })
}

/// Tells whether anything is asked of the image that `reference` means; so it is of a policy that
/// cannot be used.
pub(super) fn asks(candidates: &[PathBuf], reference: &Reference) -> bool {
    let Ok(found) = policy(candidates) else { return true };
    let Some(((_, policy), subject)) = found.zip(Seen::of(reference).subject) else {
        return false;
    };
    let (_, requirements) = policy.of(&subject);
    requirements.iter().any(|one| !matches!(one, Requirement::InsecureAcceptAnything {}))
}

/// Returns what vouches for an image that the policy lets pass. Of an image of several platforms
/// the index or the manifest may be signed: the index names the manifest by its digest.
///
/// # Errors
///
/// [`ErrorKind::Untrusted`] says which requirement does not hold and where it stands; those of
/// fetching signatures.
pub(super) fn check(
    (path, policy): (&Path, &Policy),
    Seen { subject, named }: &Seen,
    source: &dyn Source,
    chosen: &Chosen,
) -> Result<Verified, Error> {
    let Some(subject) = subject else { return Ok(source.verified()) };
    let (place, requirements) = policy.of(subject);
    let asks = |test: fn(&Requirement) -> bool| requirements.iter().any(test);
    let sigstore = asks(|one| matches!(one, Requirement::SigstoreSigned(_)));
    let lookasides = match asks(|one| matches!(one, Requirement::SignedBy(_))) {
        true => Some(lookasides(path)?),
        false => None,
    };
    let mut refused: Option<Refusal> = None;
    for digest in chosen.index_digest().into_iter().chain([chosen.manifest_digest()]) {
        let mut evidence = Evidence::default();
        if sigstore {
            source.signatures(digest, &mut evidence)?;
        }
        if let Some(lookasides) = &lookasides {
            evidence.openpgp = source.messages(digest, apart(lookasides, named.as_ref()))?;
        }
        match judge((&place, requirements), named.as_ref(), digest, &evidence) {
            Ok(verified) => {
                let is_signed =
                    verified.iter().any(|one| matches!(one, trust::Verified::Signed { .. }));
                return Ok(if is_signed { Verified::Signature } else { source.verified() });
            }
            // What is wrong with one that is there tells more than that none is there.
            Err(refusal) if refused.as_ref().is_none_or(|one| one.causes.is_empty()) => {
                refused = Some(refusal);
            }
            Err(_) => {}
        }
    }
    let why = refused.map_or_else(String::new, |refusal| refusal.to_string());
    let sentence = format!("policy `{}` does not let it run: {why}", path.display());
    Err(Error::new(ErrorKind::Untrusted, sentence))
}
