//! `pod run` and `pod prepare`: one path, `run` goes on where `prepare` stops.

use std::io::{self, IsTerminal as _};

use images::{Lease, Store};
use pod_abi::app::{AppSpec, ImagePin, Stdio as AppStdio, Verified};
use pod_abi::manifest::{PodManifest, PodSpec};
use pod_abi::phase::Home;
use pod_abi::stage::Output;
use pod_abi::{AppName, Digest, PodId, version};

use super::Session;
use super::reuse::{self, Earlier};
use super::start::{self, Manner};
use crate::client::Audience;
use crate::compose::{AppImage, compose, tell_hostname};
use crate::error::{CommandError, Result};
use crate::fetch;
use crate::host;
use crate::id_file::IdFile;
use crate::launch::{Background, Launch};
use crate::pods::{Draft, Durability, Pod, generated_name};
use crate::request::{FetchRequest, PodRequest, Request, Source, Stdio};
use crate::supervision::{Place, Wish};
use crate::{layers, specification, supervision, ui, volumes};

/// Runs a pod. Returns the exit status, or does not return: in the foreground this process
/// becomes the pod's supervisor.
///
/// # Errors
///
/// Whatever kept the pod from running.
pub(crate) fn run(session: &Session, request: &Request) -> Result<u8> {
    let store = session.store()?;
    let lease = store.lease().map_err(|error| fetch::failed(&error))?;
    let spec = resolve(session, &store, &lease, request)?;
    if request.dry_run {
        return ui::json(&spec).map(|()| 0);
    }
    layers::ready(&store, &spec, request.fetch.telling)?;
    let volumes = volumes::check(&spec.sandbox.volumes, &session.context.root)?;
    session.sweep_leftovers();
    let audience = audience(request, &spec.apps)?;
    let place = session.place(Wish {
        detached: request.stdio == Stdio::Detached,
        talks: audience.is_some(),
        in_place: request.in_place,
    })?;
    let earlier = match request.reuse {
        true => reuse::earlier(session, &spec)?,
        false => Earlier::None,
    };
    if let Earlier::Same(pod) = earlier {
        drop((lease, volumes)); // its pins and its manifest keep them
        let manner = match request.stdio {
            Stdio::Detached => Manner::Background,
            Stdio::Attached => Manner::Foreground(audience),
        };
        return start::again(session, &store, pod, place, manner);
    }
    if let (Place::Apart, Some(name)) = (place, &spec.name) {
        session.supervision().check_name(&session.pods, name)?;
    }
    let (draft, manifest, apps) = lay_out(session, spec, request)?;
    earlier.remove(session);
    let id_file = id_file(request, draft.id())?;
    drop((lease, volumes)); // the pod's pins and manifest keep them from here on
    let launcher = session.launcher(&store);
    if place == Place::Here {
        let (attempt, output, service) = (1, Output::Shown, supervision::service());
        let launch = Launch { manifest, apps, attempt, output, hold: false, service };
        let never = launcher.in_place(launch, || draft.into(Home::Run, Durability::Volatile))?;
        match never {}
    }
    let pod = reader(session, draft.id())?;
    let done = if request.stdio == Stdio::Detached {
        let background = launcher.in_background(&pod, Some(draft))?;
        super::announced(&session.context, &pod, background)?
    } else {
        launcher.attended(&pod, Some(draft), &audience.unwrap_or_else(Audience::of_all))?
    };
    if let Some(file) = id_file {
        file.keep();
    }
    Ok(done)
}

fn id_file(request: &Request, id: &PodId) -> Result<Option<IdFile>> {
    request.id_file.as_deref().map(|path| IdFile::write(path, id)).transpose()
}

/// Finds the app that the foreground belongs to.
fn audience(request: &Request, apps: &[AppSpec]) -> Result<Option<Audience>> {
    if request.stdio == Stdio::Detached {
        return Ok(None);
    }
    let fed = |at: usize, app: &AppSpec| match &request.source {
        Source::Line(pod) => pod.apps.get(at).is_some_and(|app| app.process.fed),
        // A specification does not tell; a terminal that cannot be typed at is of little use.
        Source::Spec(_) => app.stdio == AppStdio::Open || io::stdin().is_terminal(),
    };
    Audience::of(apps, fed, request.detach_keys.as_deref())
}

/// Opens a pod being laid out once more: a descriptor that does not hold its lock.
fn reader(session: &Session, id: &PodId) -> Result<Pod> {
    session
        .pods
        .open_in(Home::Prepare, id)?
        .ok_or_else(|| CommandError::new("pod.vanished", format!("pod `{id}` has just gone")))
}

/// Lays out a pod and prints its id.
///
/// # Errors
///
/// Whatever kept it from being laid out; nothing is left of it then.
pub(crate) fn prepare(session: &Session, request: &Request) -> Result<u8> {
    if request.stdio == Stdio::Detached {
        return Err(CommandError::usage("`pod prepare` starts nothing that could be detached")
            .hint("`pod start --detach` takes the flag"));
    }
    if request.reuse {
        return Err(CommandError::usage("`--reuse` is about a pod that is being started")
            .hint("`pod run` takes the flag"));
    }
    if request.in_place {
        return Err(CommandError::usage("`--in-place` is about a pod that is being started")
            .hint("`pod start` takes the flag"));
    }
    if let Some(keys) = &request.detach_keys {
        let message = format!("`--detach-keys {keys}` is typed at a pod that has been started");
        return Err(CommandError::usage(message).hint("`pod start` takes the flag"));
    }
    let store = session.store()?;
    let lease = store.lease().map_err(|error| fetch::failed(&error))?;
    let spec = resolve(session, &store, &lease, request)?;
    if request.dry_run {
        return ui::json(&spec).map(|()| 0);
    }
    layers::ready(&store, &spec, request.fetch.telling)?;
    let volumes = volumes::check(&spec.sandbox.volumes, &session.context.root)?;
    let (draft, ..) = lay_out(session, spec, request)?;
    let id_file = id_file(request, draft.id())?;
    let pod = draft.into(Home::Prepared, Durability::Durable)?;
    if let Some(file) = id_file {
        file.keep();
    }
    drop((lease, volumes)); // the pod's pins and manifest keep them from here on
    super::announced(&session.context, &pod, Background::Ready)
}

fn resolve(session: &Session, store: &Store, lease: &Lease, request: &Request) -> Result<PodSpec> {
    match &request.source {
        Source::Line(pod) => resolve_line(session, store, lease, request, pod),
        Source::Spec(path) => {
            let mut spec = specification::read(path)?;
            for app in &mut spec.apps {
                // What vouches for an image is for the store to say, not for a file.
                app.image.verified = obtain_pinned(store, lease, &app.image, &request.fetch)?;
            }
            if request.name.is_some() {
                spec.name.clone_from(&request.name);
            }
            Ok(spec)
        }
    }
}

fn resolve_line(
    session: &Session,
    store: &Store,
    lease: &Lease,
    request: &Request,
    pod: &PodRequest,
) -> Result<PodSpec> {
    let mut images = Vec::new();
    for app in &pod.apps {
        images.push(app_image(store, lease, &app.image, &request.fetch)?);
    }
    compose(request.name.as_ref(), pod, &images, &session.context.root)
        .map_err(|error| CommandError::of("pod.invalid", &error))
}

pub(super) fn app_image(
    store: &Store,
    lease: &Lease,
    word: &str,
    request: &FetchRequest,
) -> Result<AppImage> {
    let (reference, image) = fetch::obtain(store, lease, word, request)?;
    let accounts = fetch::accounts(store, &image.layers)?;
    Ok(AppImage {
        pin: ImagePin {
            reference: image.reference,
            manifest: image.manifest,
            config: image.config,
            layers: image.layers,
            verified: image.verified,
        },
        repository: reference.repository_name().to_owned(),
        settings: image.settings,
        accounts,
    })
}

/// Comes by exactly the image a specification pins.
fn obtain_pinned(
    store: &Store,
    lease: &Lease,
    pin: &ImagePin,
    request: &FetchRequest,
) -> Result<Verified> {
    let pinned = pinned_reference(&pin.reference, &pin.manifest);
    let (_, image) = fetch::obtain(store, lease, &pinned, request)?;
    if (&image.manifest, &image.config, &image.layers) == (&pin.manifest, &pin.config, &pin.layers)
    {
        return Ok(image.verified);
    }
    Err(CommandError::new(
        "image.invalid",
        format!("`{}` no longer is the image the specification pins", pin.reference),
    ))
}

/// A layout on disk has no names by digest; whatever it holds is compared afterwards.
fn pinned_reference(reference: &str, manifest: &Digest) -> String {
    if reference.starts_with("oci:") {
        return reference.to_owned();
    }
    let name = reference.split_once('@').map_or(reference, |(name, _)| name);
    format!("{name}@{manifest}")
}

fn lay_out<'s>(
    session: &'s Session,
    spec: PodSpec,
    request: &Request,
) -> Result<(Draft<'s>, PodManifest, Vec<AppSpec>)> {
    let draft = session.pods.draft()?;
    let PodSpec { name, sandbox, mut apps, .. } = spec;
    check_remove(&apps, request)?;
    let name = name.unwrap_or_else(|| generated_name(&stem(&apps), draft.id()));
    let manifest = PodManifest {
        version: version::MANIFEST,
        uuid: draft.id().clone(),
        name,
        created: host::now(),
        remove: request.remove,
        sandbox,
    };
    tell_hostname(&mut apps, &manifest.name, &manifest.sandbox);
    draft.lay_out(&manifest, &apps)?;
    Ok((draft, manifest, apps))
}

/// Returns what a pod without a name is called after.
fn stem(apps: &[AppSpec]) -> AppName {
    let empty = || AppName::parse("pod").expect("a label");
    apps.first().map_or_else(empty, |app| app.name.clone())
}

/// A specification may hold a restart policy that the line could not see.
fn check_remove(apps: &[AppSpec], request: &Request) -> Result<()> {
    let restarting = apps.iter().find(|app| app.restart != pod_abi::app::Restart::No);
    match restarting.filter(|_| request.remove) {
        Some(app) => Err(CommandError::usage(format!(
            "`--rm` contradicts the restart policy of app `{}`",
            app.name
        ))),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pinned_image_is_asked_for_by_its_digest() {
        let digest = Digest::parse(&format!("sha256:{}", "a".repeat(64))).unwrap();
        let table = [
            ("example.org/a:1", format!("example.org/a:1@{digest}")),
            ("example.org/a:1@sha256:0", format!("example.org/a:1@{digest}")),
            ("oci:/x:1", "oci:/x:1".to_owned()),
        ];
        for (reference, expected) in table {
            assert_eq!(pinned_reference(reference, &digest), expected);
        }
    }
}
