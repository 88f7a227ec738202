//! `pod image push` and `sign`: an image of the store becomes one of a registry, and is vouched for
//! there.

use images::trust::SigningKey;
use images::{ErrorKind, Patience, PushOptions, Reference, Store, Transport};
use pod_abi::Digest;

use super::Session;
use crate::cli::{PushArgs, SignArgs};
use crate::error::{CommandError, Result};
use crate::fetch as fetching;
use crate::short_names;
use crate::ui::{self, Format, Telling};

/// Gives an image to a registry and prints its digest.
///
/// # Errors
///
/// `image.…`; the tag means what it meant. A usage error if the destination is no tag of a
/// registry.
pub(crate) fn push(session: &Session, args: &PushArgs) -> Result<u8> {
    let names = Names::read(&args.image, args.destination.as_deref(), "push")?;
    let telling = if args.quiet { Telling::Quiet } else { Telling::People };
    let progress = ui::Progress::new(telling.in_form(session.context.format));
    let store = session.store()?;
    let (reference, destination) = names.whole(&store)?;
    let lease = store.lease().map_err(|error| fetching::failed(&error))?;
    let options = options(args.insecure_http);
    let pushed = store.push(&reference, &destination, &lease, &options, &progress);
    let image = pushed.map_err(|error| told(&error, &reference, &destination))?;
    show(session, &destination, &image.manifest)
}

/// Signs an image where it is in a registry and prints its digest.
///
/// # Errors
///
/// `image.…`, or `trust.key` for what is no key to sign with. A usage error as above.
pub(crate) fn sign(session: &Session, args: &SignArgs) -> Result<u8> {
    let names = Names::read(&args.image, args.destination.as_deref(), "sign")?;
    let key = SigningKey::from_file(&args.key).map_err(|error| {
        CommandError::of("trust.key", &error).hint("`pod image sign --help` tells how one is made")
    })?;
    let store = session.store()?;
    let (reference, destination) = names.whole(&store)?;
    let lease = store.lease().map_err(|error| fetching::failed(&error))?;
    let signed = store.sign(&reference, &destination, &key, &lease, &options(args.insecure_http));
    let digest = signed.map_err(|error| match error.kind() {
        ErrorKind::NotFound if error.to_string().starts_with("cannot sign") => {
            let push = format!("`pod image push {} {destination}` gives it one", args.image);
            fetching::failed(&error).hint(push)
        }
        _ => told(&error, &reference, &destination),
    })?;
    show(session, &destination, &digest)
}

/// Which image is meant, and what it is to be at a registry: what the store calls it if nothing else
/// is said.
struct Names {
    image: short_names::Names,
    destination: Option<Reference>,
}

impl Names {
    fn read(image: &str, destination: Option<&str>, verb: &str) -> Result<Self> {
        let no_place = |message: String| {
            CommandError::usage(message).hint(format!(
                "`pod image {verb} {image} REGISTRY/REPOSITORY:TAG`; files are written by `pod image export`"
            ))
        };
        let named = |word: &str, name: &Reference| match name.is_nameable() {
            true => Ok(()),
            false => Err(no_place(format!("`{word}` is no tag of a registry"))),
        };
        let read = short_names::read(image)?;
        let Some(word) = destination else {
            named(image, read.given()?)?;
            return Ok(Self { image: read, destination: None });
        };
        let names = short_names::read(word)?;
        // What leaves must not go where somebody else's list has put it first.
        let Some(only) = names.only() else {
            return Err(no_place(format!("the short name `{word}` may mean several registries")));
        };
        named(word, only)?;
        Ok(Self { image: read, destination: Some(only.clone()) })
    }

    fn whole(self, store: &Store) -> Result<(Reference, Reference)> {
        let reference = self.image.stored(store)?;
        let destination = match self.destination {
            Some(destination) => destination,
            None if reference.is_nameable() => reference.clone(),
            // Found by its id.
            None => self.image.given()?.clone(),
        };
        Ok((reference, destination))
    }
}

fn options(insecure_http: bool) -> PushOptions {
    let transport = match insecure_http {
        true => Transport::InsecureHttp,
        false => Transport::default(),
    };
    let registries = Some(short_names::registries_conf());
    PushOptions { transport, patience: Patience::default(), registries }
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
        ErrorKind::Refused if fetching::is_blocked(error) => {
            fetching::failed(error).hint(fetching::BLOCKED)
        }
        ErrorKind::Refused => {
            fetching::failed(error).hint("`--insecure-http` speaks plain HTTP beyond loopback")
        }
        ErrorKind::NotFound => fetching::failed(error),
        _ => fetching::told(error, destination),
    }
}
