//! `pod image push`: an image of the store becomes one of a registry.

use images::{ErrorKind, Patience, PushOptions, Reference, Transport};

use super::Session;
use crate::cli::PushArgs;
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
    let reference = fetching::reference(&args.image)?;
    let word = args.destination.as_deref().unwrap_or(&args.image);
    let destination = fetching::reference(word)?;
    if !destination.is_nameable() {
        let message = format!("`{word}` is no tag of a registry");
        return Err(CommandError::usage(message).hint(format!(
            "`pod image push {} REGISTRY/REPOSITORY:TAG`; files are written by `pod image export`",
            args.image
        )));
    }
    let telling = if args.quiet { Telling::Quiet } else { Telling::People };
    let progress = ui::Progress::new(telling.in_form(session.context.format));
    let transport = match args.insecure_http {
        true => Transport::InsecureHttp,
        false => Transport::default(),
    };
    let options = PushOptions { transport, patience: Patience::default() };
    let store = session.store()?;
    let lease = store.lease().map_err(|error| fetching::failed(&error))?;
    let pushed = store.push(&reference, &destination, &lease, options, &progress);
    let image = pushed.map_err(|error| told(&error, &reference, &destination))?;
    match session.context.format {
        Format::Json => ui::json(&serde_json::json!({
            "reference": destination.to_string(), "manifest": image.manifest,
        })),
        Format::Table => ui::out(&format!("{}\n", image.manifest)),
    }
    .map(|()| 0)
}

fn told(error: &images::Error, reference: &Reference, destination: &Reference) -> CommandError {
    let remote = error.to_string().starts_with("cannot push");
    match error.kind() {
        ErrorKind::NotFound if !remote => fetching::told(error, reference),
        ErrorKind::Refused => {
            fetching::failed(error).hint("`--insecure-http` speaks plain HTTP beyond loopback")
        }
        ErrorKind::NotFound => fetching::failed(error),
        _ => fetching::told(error, destination),
    }
}
