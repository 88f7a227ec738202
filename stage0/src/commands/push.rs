//! `pod image push` and `sign`: an image of the store becomes one of a registry, and is vouched for
//! there.

use images::trust::SigningKey;
use images::{ErrorKind, Patience, PushOptions, Reference, Transport};
use pod_abi::Digest;

use super::Session;
use crate::cli::{PushArgs, SignArgs};
use crate::error::{CommandError, Result};
use crate::fetch as fetching;
use crate::ui::{self, Format, Telling};

/// Gives an image to a registry and prints its digest.
///
/// # Errors
///
/// `image.…`; the tag means what it meant. A usage error if the destination is no tag of a
/// registry.
pub(crate) fn push(session: &Session, args: &PushArgs) -> Result<u8> {
    let (reference, destination) = names(&args.image, args.destination.as_deref(), "push")?;
    let telling = if args.quiet { Telling::Quiet } else { Telling::People };
    let progress = ui::Progress::new(telling.in_form(session.context.format));
    let store = session.store()?;
    let lease = store.lease().map_err(|error| fetching::failed(&error))?;
    let options = options(args.insecure_http);
    let pushed = store.push(&reference, &destination, &lease, options, &progress);
    let image = pushed.map_err(|error| told(&error, &reference, &destination))?;
    show(session, &destination, &image.manifest)
}

/// Signs an image where it is in a registry and prints its digest.
///
/// # Errors
///
/// `image.…`, or `trust.key` for what is no key to sign with. A usage error as above.
pub(crate) fn sign(session: &Session, args: &SignArgs) -> Result<u8> {
    let (reference, destination) = names(&args.image, args.destination.as_deref(), "sign")?;
    let key = SigningKey::from_file(&args.key).map_err(|error| {
        CommandError::of("trust.key", &error).hint("`pod image sign --help` tells how one is made")
    })?;
    let store = session.store()?;
    let lease = store.lease().map_err(|error| fetching::failed(&error))?;
    let signed = store.sign(&reference, &destination, &key, &lease, options(args.insecure_http));
    let digest = signed.map_err(|error| match error.kind() {
        ErrorKind::NotFound if error.to_string().starts_with("cannot sign") => {
            let push = format!("`pod image push {} {destination}` gives it one", args.image);
            fetching::failed(&error).hint(push)
        }
        _ => told(&error, &reference, &destination),
    })?;
    show(session, &destination, &digest)
}

/// Reads which image is meant, and what it is to be at a registry.
fn names(image: &str, destination: Option<&str>, verb: &str) -> Result<(Reference, Reference)> {
    let reference = fetching::reference(image)?;
    let word = destination.unwrap_or(image);
    let destination = fetching::reference(word)?;
    if destination.is_nameable() {
        return Ok((reference, destination));
    }
    let message = format!("`{word}` is no tag of a registry");
    Err(CommandError::usage(message).hint(format!(
        "`pod image {verb} {image} REGISTRY/REPOSITORY:TAG`; files are written by `pod image export`"
    )))
}

fn options(insecure_http: bool) -> PushOptions {
    let transport = match insecure_http {
        true => Transport::InsecureHttp,
        false => Transport::default(),
    };
    PushOptions { transport, patience: Patience::default() }
}

fn show(session: &Session, destination: &Reference, manifest: &Digest) -> Result<u8> {
    match session.context.format {
        Format::Json => ui::json(&serde_json::json!({
            "reference": destination.to_string(), "manifest": manifest,
        })),
        Format::Table => ui::out(&format!("{manifest}\n")),
    }
    .map(|()| 0)
}

fn told(error: &images::Error, reference: &Reference, destination: &Reference) -> CommandError {
    let remote = error.to_string().starts_with("cannot ");
    match error.kind() {
        ErrorKind::NotFound if !remote => fetching::told(error, reference),
        ErrorKind::Refused => {
            fetching::failed(error).hint("`--insecure-http` speaks plain HTTP beyond loopback")
        }
        ErrorKind::NotFound => fetching::failed(error),
        _ => fetching::told(error, destination),
    }
}
