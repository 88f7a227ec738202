//! Coming by images: what is asked of the store, and how its errors reach the user.

use std::ffi::OsString;
use std::path::PathBuf;

use images::{
    ErrorKind, Image, Lease, Platform, PullOptions, PullPolicy, Reference, Store, Transport,
    WorkerProgram,
};
use pod_abi::{Digest, PodPath};

use crate::compose::Accounts;
use crate::error::{CommandError, Result};
use crate::request::{FetchRequest, Pull};
use crate::ui;

/// The most of an image's `passwd` or `group` read, in bytes; a directory service's whole dump
/// fits.
const MAX_ACCOUNTS: usize = 4 << 20;

/// Reads a reference.
///
/// # Errors
///
/// A usage error.
pub(crate) fn reference(word: &str) -> Result<Reference> {
    Reference::parse(word).map_err(|error| CommandError::usage(error.to_string()))
}

/// Comes by an image as `request` says, telling the user what happens.
///
/// # Errors
///
/// `image.…`, naming it.
pub(crate) fn obtain(
    store: &Store,
    lease: &Lease,
    reference: &Reference,
    request: &FetchRequest,
) -> Result<Image> {
    let platform = match &request.platform {
        Some(word) => word
            .parse()
            .map_err(|error: images::PlatformError| CommandError::usage(error.to_string()))?,
        None => Platform::host(),
    };
    if request.pull != Pull::Always
        && let Some(image) =
            store.resolve(reference, &platform, lease).map_err(|error| told(&error, reference))?
    {
        return Ok(image);
    }
    let mut options = PullOptions::new(WorkerProgram {
        exe: PathBuf::from("/proc/self/exe"),
        args: vec![OsString::from("internal-unpack")],
    });
    options.platform = platform;
    options.policy = match request.pull {
        Pull::Missing => PullPolicy::Missing,
        Pull::Always => PullPolicy::Always,
        Pull::Never => PullPolicy::Never,
    };
    if request.insecure_http {
        options.transport = Transport::InsecureHttp;
    }
    let progress = ui::Progress::new();
    store.pull(reference, &options, lease, &progress).map_err(|error| match request.pull {
        // Fetching it is what has just been tried.
        Pull::Missing | Pull::Always if error.kind() == ErrorKind::NotFound => failed(&error),
        _ => told(&error, reference),
    })
}

/// Gives an error of the store the hint that leads on.
pub(crate) fn told(error: &images::Error, reference: &Reference) -> CommandError {
    let made = failed(error);
    match error.kind() {
        ErrorKind::NotFound => made.hint(format!(
            "`pod image ls` lists what is in the store; `pod fetch {reference}` fetches it"
        )),
        ErrorKind::Refused => made.hint("plain HTTP beyond loopback takes `--insecure-http`"),
        ErrorKind::Platform => made.hint("`--platform OS/ARCH` chooses another"),
        ErrorKind::Denied => {
            made.hint("credentials are read from `$REGISTRY_AUTH_FILE` and `~/.docker/config.json`")
        }
        ErrorKind::Unreachable => {
            made.hint("is the name right, and the network up? the same command goes on where this one stopped")
        }
        _ => made,
    }
}

/// Turns an error of the store into one of ours.
pub(crate) fn failed(error: &images::Error) -> CommandError {
    let made = CommandError::of(error.code(), error);
    match error.kind() {
        ErrorKind::NoSpace => made.hint("`pod gc` and `pod image gc` make room"),
        _ => made,
    }
}

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
