//! `pod app add`: one more app for a running pod.
//!
//! Everything is there before the supervisor is asked: the image in the store, the pod's pins on
//! it, the volumes. The supervisor writes the app's records; should it refuse, all that is left is
//! a pin, and the next change takes it back.

use std::iter;
use std::os::fd::{AsFd, OwnedFd};
use std::slice;

use pod_abi::app::AppSpec;
use pod_abi::control::Request;
use pod_abi::credential::MAX_ADDED_CREDENTIALS;

use super::{PATIENCE, settle};
use crate::caller::Caller;
use crate::commands::Session;
use crate::commands::run::app_image;
use crate::commands::subject::{connect, running};
use crate::compose::compose_added;
use crate::error::{CommandError, Result};
use crate::grammar::AddLine;
use crate::pods::Pod;
use crate::{credentials, fetch, layers, request, stage1, ui, volumes};

/// Adds an app to a running pod, starts it if asked to, and prints its name.
///
/// # Errors
///
/// Whatever kept it from being added; the pod is as it was before.
pub(crate) fn add(session: &Session, line: AddLine) -> Result<u8> {
    let AddLine { pod: word, flags, app } = line;
    let pod = running(session, &word)?;
    let _changes = pod.lock_changes()?;
    let manifest = pod.manifest()?;
    let there = pod.apps(&manifest)?;
    let request = request::read_added(app, &manifest.sandbox, &Caller::of_this_process())?;
    let mut fetching = request::read_fetch(&flags.fetch)?;
    fetching.telling = fetching.telling.in_form(session.context.format);
    let store = session.store()?;
    let lease = store.lease().map_err(|error| fetch::failed(&error))?;
    let image = app_image(&store, &lease, &request.image, &fetching)?;
    let spec = compose_added(&request, &image, (&manifest, &there), &session.context.root)
        .map_err(|error| CommandError::of("app.invalid", &error))?;
    // Until the app is in the pod's list, which keeps them then.
    let _volumes = volumes::check(&spec.volumes, &session.context.root)?;
    let stage1 = stage1::find(&manifest.sandbox.stage1)?;
    let form = manifest.sandbox.layers;
    let order = layers::order(&store, &stage1, form, spec, fetching.telling)?;
    let spec = &order.spec;
    let directory = store.layers_dir().map_err(|error| fetch::failed(&error))?;
    pin(&pod, there, spec)?;
    drop(lease); // the pod's pins keep the image from here on
    let secrets = secrets(spec)?;
    let mut connection = connect(session, &pod, &word)?;
    let name = spec.name.clone();
    let order = Box::new(order);
    let descriptors: Vec<_> = iter::once(&directory).chain(&secrets).map(AsFd::as_fd).collect();
    connection.request(&Request::AddApp { app: order }, &descriptors)?;
    settle(&mut connection, PATIENCE)?;
    if flags.start {
        connection.request(&Request::Start { app: name.clone() }, &[])?;
        settle(&mut connection, PATIENCE)?;
    }
    pod.sweep_removed()?;
    ui::out(&format!("{name}\n")).map(|()| 0)
}

/// Reads the app's credentials, in its order.
fn secrets(spec: &AppSpec) -> Result<Vec<OwnedFd>> {
    let count = spec.credentials.len();
    if count > MAX_ADDED_CREDENTIALS {
        let name = &spec.name;
        let sentence = format!(
            "app `{name}` has {count} credentials; at most {MAX_ADDED_CREDENTIALS} can come with an app that is added"
        );
        return Err(CommandError::new("credential.too-many", sentence));
    }
    let secrets = credentials::gather(slice::from_ref(spec))?;
    Ok(secrets.into_iter().map(|(_, secret)| secret).collect())
}

fn pin(pod: &Pod, there: Vec<AppSpec>, spec: &AppSpec) -> Result<()> {
    let all: Vec<AppSpec> = there.into_iter().chain([spec.clone()]).collect();
    pod.replace_pins(&all)
}
