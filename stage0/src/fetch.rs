//! Coming by images: what is asked of the store, and how its errors reach the user.

use std::error::Error as _;
use std::ffi::OsString;
use std::path::PathBuf;

use images::registries::Blocked;
use images::{
    ErrorKind, Image, Lease, PullOptions, PullPolicy, Reference, Store, Transport, WorkerProgram,
};
use pod_abi::{Digest, PodPath};

use crate::compose::Accounts;
use crate::error::{CommandError, Result};
use crate::pulling;
use crate::request::{FetchRequest, Pull};
use crate::short_names;

/// The most of an image's `passwd` or `group` read, in bytes; a directory service's whole dump
/// fits.
const MAX_ACCOUNTS: usize = 4 << 20;

/// Returns the image of the store that a word means, or the name it would have there.
///
/// # Errors
///
/// Those of [`short_names::read`]; `image.not-found` for a short name that may mean several, none of
/// which is there.
pub(crate) fn stored(store: &Store, word: &str) -> Result<Reference> {
    short_names::read(word)?.stored(store)
}

/// Returns the name that an image is given by a word.
///
/// # Errors
///
/// Those of [`short_names::read`].
pub(crate) fn given(word: &str) -> Result<Reference> {
    short_names::read(word)?.given().cloned()
}

/// Comes by the image a word means as `request` says, telling the user what happens. A short name
/// that may mean several is the one the store has, or the first that is to be had.
///
/// # Errors
///
/// `image.…`, naming it.
pub(crate) fn obtain(
    store: &Store,
    lease: &Lease,
    word: &str,
    request: &FetchRequest,
) -> Result<(Reference, Image)> {
    let options = options_of(request)?;
    let names = short_names::read(word)?;
    let references = match request.pull {
        Pull::Never => vec![names.stored(store)?],
        _ => names.to_fetch(store)?,
    };
    let progress = pulling::Progress::new(request.telling);
    let deed = |reference: &Reference| {
        let image = store.pull(reference, &options, lease, &progress)?;
        Ok((reference.clone(), image))
    };
    names.first_of(&references, deed, |error, reference| {
        // Where fetching it is what has just been tried, it is no hint.
        match (request.pull, error.kind()) {
            (Pull::Never, _) => told(error, reference),
            (_, ErrorKind::NotFound) => failed(error),
            _ => told(error, reference),
        }
    })
}

/// Returns how images come in that are fetched as `request` says.
///
/// # Errors
///
/// A usage error for what is no platform.
pub(crate) fn options_of(request: &FetchRequest) -> Result<PullOptions> {
    let mut options = options(request.platform.as_deref())?;
    options.policy = match request.pull {
        Pull::Missing => PullPolicy::Missing,
        Pull::Newer => PullPolicy::Newer,
        Pull::Always => PullPolicy::Always,
        Pull::Never => PullPolicy::Never,
    };
    options.policies.clone_from(&request.policies);
    if request.insecure_http {
        options.transport = Transport::InsecureHttp;
    }
    Ok(options)
}

/// Returns how images come in: unpacked by this program, for `platform` or for this host.
///
/// # Errors
///
/// A usage error for what is no platform.
pub(crate) fn options(platform: Option<&str>) -> Result<PullOptions> {
    let mut options = PullOptions::new(worker());
    options.registries = Some(short_names::registries_conf());
    if let Some(word) = platform {
        options.platform = word
            .parse()
            .map_err(|error: images::PlatformError| CommandError::usage(error.to_string()))?;
    }
    Ok(options)
}

/// Returns what unpacks layers: this program.
pub(crate) fn worker() -> WorkerProgram {
    WorkerProgram {
        exe: PathBuf::from("/proc/self/exe"),
        args: vec![OsString::from("internal-unpack")],
    }
}

/// Shows an image that has come in to programs.
pub(crate) fn as_json(image: &Image) -> serde_json::Value {
    serde_json::json!({
        "reference": image.reference,
        "manifest": image.manifest,
        "config": image.config,
        "layers": image.layers,
        "verified": image.verified,
        "size": image.size,
    })
}

/// Gives an error of the store the hint that leads on.
pub(crate) fn told(error: &images::Error, reference: &Reference) -> CommandError {
    let made = failed(error);
    match error.kind() {
        ErrorKind::NotFound => made.hint(format!(
            "`pod image ls` lists what is in the store; `pod fetch {reference}` fetches it"
        )),
        ErrorKind::Ambiguous => made.hint("`pod image ls --digests` shows ids in full"),
        ErrorKind::Untrusted => made.hint(
            "`--signature-policy FILE` names another policy; `--insecure-options image` does without",
        ),
        ErrorKind::Refused if is_blocked(error) => {
            made.hint(BLOCKED)
        }
        ErrorKind::Refused if error.to_string().starts_with("cannot pull") => made.hint("plain HTTP beyond loopback takes `--insecure-options http`"),
        ErrorKind::Platform => made.hint("`--platform OS/ARCH` chooses another"),
        ErrorKind::Denied => {
            let host = reference.registry().unwrap_or("REGISTRY");
            made.hint(format!("`pod login {host}` keeps credentials; those of podman and Docker count too"))
        }
        ErrorKind::Unreachable => {
            made.hint("is the name right, and the network up? the same command goes on where this one stopped")
        }
        _ => made,
    }
}

/// Tells whether the administrator has blocked where an image lies.
pub(crate) fn is_blocked(error: &images::Error) -> bool {
    let mut next = error.source();
    while let Some(cause) = next {
        if cause.is::<Blocked>() {
            return true;
        }
        next = cause.source();
    }
    false
}

/// Turns an error of the store into one of ours.
pub(crate) fn failed(error: &images::Error) -> CommandError {
    let made = CommandError::of(error.code(), error);
    match error.kind() {
        ErrorKind::NoSpace => made.hint("`pod gc` and `pod image gc` make room"),
        ErrorKind::Unsupported => made.hint(
            "Btrfs and f2fs can, and ext4 can after `tune2fs -O verity DEVICE`; `--layers checked` compares at each start instead",
        ),
        ErrorKind::Damaged => made.hint(
            "`pod image fsck` tells all of it; damaged layers go with `pod image rm IMAGE` and `pod image gc`, and come back with `pod fetch IMAGE`",
        ),
        _ => made,
    }
}

/// Who has blocked a registry.
pub(crate) const BLOCKED: &str =
    "`/etc/containers/registries.conf`, or what lies in its `.d`, says so";

/// Reads `passwd` and `group` of an image.
///
/// # Errors
///
/// Those of the store.
pub(crate) fn accounts(store: &Store, layers: &[Digest]) -> Result<Accounts> {
    let read = |path: &str| -> Result<String> {
        let path = PodPath::parse(path).expect("a constant");
        let bytes = store.read_file(layers, &path, MAX_ACCOUNTS).map_err(|error| failed(&error))?;
        Ok(String::from_utf8_lossy(&bytes.unwrap_or_default()).into_owned())
    };
    Ok(Accounts { passwd: read("/etc/passwd")?, group: read("/etc/group")? })
}
