//! Pushing: an image of the store becomes one of a registry.
//!
//! ```text
//! image ─▶ its configuration and layers, each unless it is there ─▶ its manifest, under the tag
//! ```
//!
//! What goes is what came, byte for byte: the digest stays, and so does what others have signed.
//! Only the image of one platform goes; the index it may have come in names others that are not
//! here. A push that ends early leaves blobs nobody names, which the registry sweeps, and the tag
//! means what it meant.
//!
//! A signature goes the same way: its claim, a configuration, and a manifest under the tag that
//! cosign looks for.
//!
//! Where a registry really is, and whether it is blocked, is for the administrator to say
//! (`registries.conf`), as it is for a pull. A mirror is never given anything.
//!
//! Never: a policy asked. What leaves is the caller's own word.

use std::io::{self, Read};
use std::path::PathBuf;

use pod_abi::Digest;

use crate::document::Blob;
use crate::error::{Error, ErrorKind};
use crate::hash;
use crate::image::ImageRecord;
use crate::progress::{Event, Progress};
use crate::pull::{client_at, registries, remote_error};
use crate::reference::{Place, Reference};
use crate::registries::{self, Blocked, By, Registries};
use crate::registry::{self, Client, Given, NotGiven, Patience, TagOrDigest, Transport, Upload};
use crate::store::{Lease, Outgoing, Store, unsent};
use crate::trust::{SigningKey, signed, tag_of};

/// How a push is made.
#[derive(Clone, Debug, Default)]
pub struct PushOptions {
    /// Whether plain HTTP was asked for.
    pub transport: Transport,
    /// How often to try again.
    pub patience: Patience,
    /// What says where registries really are, and which are blocked, as for a pull.
    pub registries: Option<PathBuf>,
}

impl Store {
    /// Signs the image `reference` means with a key, for the name `destination`, and puts the
    /// signature beside the image in that registry, which must have it. Signatures that are there
    /// stay. Returns the image's digest.
    ///
    /// What is signed is what the store has: not what the registry says the name means now.
    ///
    /// # Errors
    ///
    /// Those of [`Store::push`]; [`ErrorKind::NotFound`] if the registry does not have this image,
    /// [`ErrorKind::Invalid`] for signatures there that are none.
    pub fn sign(
        &self,
        reference: &Reference,
        destination: &Reference,
        key: &SigningKey,
        lease: &Lease,
        options: &PushOptions,
    ) -> Result<Digest, Error> {
        let within = |error: Error| error.within(format!("cannot sign `{destination}`"));
        let to = Destination::open(destination, options).map_err(within)?;
        let image = self.outgoing(reference, lease)?;
        to.put_beside(image.digest(), &destination.to_string(), key).map_err(within)?;
        Ok(image.digest().clone())
    }

    /// Gives the image `reference` means to the registry `destination` names, under its tag, and
    /// keeps it from gc while `lease` lives. Returns what the store says of it.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Refused`] if the destination is no tag of a registry, is blocked, or what the
    /// registry says of a manifest that goes under its digest; [`ErrorKind::NotFound`] without such an
    /// image, or without the compressed layers it came as; [`ErrorKind::Denied`] where the
    /// registry does not take it from this caller. The tag means what it meant.
    pub fn push(
        &self,
        reference: &Reference,
        destination: &Reference,
        lease: &Lease,
        options: &PushOptions,
        progress: &dyn Progress,
    ) -> Result<ImageRecord, Error> {
        let within = |error: Error| {
            error.within(match reference == destination {
                true => format!("cannot push `{reference}`"),
                false => format!("cannot push `{reference}` to `{destination}`"),
            })
        };
        let to = Destination::open(destination, options).map_err(within)?;
        let image = self.outgoing(reference, lease)?;
        progress.event(Event::Sending { reference: destination.to_string() });
        let mount_from = to.sibling(&image);
        for blob in image.manifest.layers.iter().chain([&image.manifest.config]) {
            self.send(&to, blob, mount_from.as_deref(), progress).map_err(within)?;
        }
        to.client
            .give_manifest(&to.repository, &to.tag, &image.media_type, &image.bytes)
            .map_err(|source| remote_error("the registry did not take the manifest", source))
            .map_err(within)?;
        progress.event(Event::Done { digest: image.digest().clone() });
        Ok(image.line)
    }

    fn send(
        &self,
        to: &Destination,
        blob: &Blob,
        mount_from: Option<&str>,
        progress: &dyn Progress,
    ) -> Result<(), Error> {
        let digest = &blob.digest;
        // It is looked for before anything is asked: a registry need not hear of what cannot go.
        drop(self.outgoing_blob(blob)?);
        let mut open = || -> io::Result<Box<dyn Read + '_>> {
            progress.event(Event::SendStarted { digest: digest.clone(), size: blob.size });
            let from = self.outgoing_blob(blob).map_err(io::Error::other)?;
            Ok(Box::new(Told { from, done: 0, blob, progress }))
        };
        let mut upload = Upload { digest, size: blob.size, mount_from, open: &mut open };
        match to.client.give_blob(&to.repository, &mut upload) {
            Ok(Given::Sent) => progress.event(Event::SendDone { digest: digest.clone() }),
            Ok(Given::WasThere | Given::Mounted) => {
                progress.event(Event::SendSpared { digest: digest.clone() });
            }
            Err(NotGiven::Remote(source)) => {
                return Err(remote_error(
                    format!("the registry did not take blob `{digest}`"),
                    source,
                ));
            }
            Err(NotGiven::Local(error)) => return Err(unsent(digest, error)),
        }
        Ok(())
    }
}

/// Where an image goes.
struct Destination {
    client: Client,
    /// Where that is: the registry with its port, and the repository in it.
    host: String,
    repository: String,
    tag: TagOrDigest,
    registries: Registries,
}

impl Destination {
    /// Prepares to ask; nothing is sent yet.
    fn open(reference: &Reference, options: &PushOptions) -> Result<Self, Error> {
        let Place::Registry { host, repository, tag: Some(tag), digest: None } = reference.place()
        else {
            let sentence = format!("`{reference}` is no `REGISTRY/REPOSITORY:TAG`");
            return Err(Error::new(ErrorKind::Refused, sentence));
        };
        let registries = registries(options.registries.as_deref())?;
        let place = own_place(&registries, host, repository).map_err(|source| {
            Error::caused(ErrorKind::Refused, "it may not be given to anybody", source)
        })?;
        let (client, repository) = client_at(&place, options.transport, options.patience)?;
        let host = host_of(&place).to_owned();
        Ok(Self { client, host, repository, tag: TagOrDigest::Tag(tag.clone()), registries })
    }

    /// Returns the repository the image came from, if the registry it goes to has that one, too: it
    /// need not be sent what it has.
    fn sibling(&self, image: &Outgoing) -> Option<String> {
        let from = Reference::parse(&image.line.reference).ok()?;
        let Place::Registry { host, repository, .. } = from.place() else { return None };
        let place = own_place(&self.registries, host, repository).ok()?;
        let repository = place.repository.strip_prefix(self.host.as_str())?.strip_prefix('/')?;
        (repository != self.repository).then(|| repository.to_owned())
    }
}

/// Returns where a repository really lies. Mirrors come before it.
fn own_place(
    registries: &Registries,
    host: &str,
    repository: &str,
) -> Result<registries::Place, Blocked> {
    let name = format!("{host}/{repository}");
    let mut places = registries.places(&name, By::Tag)?;
    places.retain(|place| !place.is_mirror);
    let as_named = registries::Place { repository: name, insecure: false, is_mirror: false };
    Ok(places.pop().unwrap_or(as_named))
}

fn host_of(place: &registries::Place) -> &str {
    place.repository.split('/').next().unwrap_or_default()
}

impl Destination {
    /// Signs an image of this repository under its name, wherever it lies, and adds the signature to those it has.
    fn put_beside(&self, image: &Digest, name: &str, key: &SigningKey) -> Result<(), Error> {
        let asked = |source| remote_error("cannot ask for what is there", source);
        let there = TagOrDigest::Digest(image.clone());
        match self.client.digest_of(&self.repository, &there) {
            Ok(_) => {}
            Err(error) if error.kind() == registry::Kind::NotFound => {
                let sentence = format!("the registry does not have image `{image}` there");
                return Err(Error::new(ErrorKind::NotFound, sentence));
            }
            Err(error) => return Err(asked(error)),
        }
        let beside = TagOrDigest::Tag(tag_of(image));
        let before = match self.client.manifest(&self.repository, &beside) {
            Ok(fetched) => Some(fetched.bytes),
            Err(error) if error.kind() == registry::Kind::NotFound => None,
            Err(error) => return Err(asked(error)),
        };
        let documents = signed(key, (image, name), before.as_deref()).map_err(|source| {
            Error::caused(ErrorKind::Invalid, "the signature cannot be made", source)
        })?;
        for bytes in [&documents.claim, &documents.config] {
            self.give(bytes, &hash::of(image.algorithm(), bytes))?;
        }
        self.client
            .give_manifest(&self.repository, &beside, documents.media_type, &documents.manifest)
            .map_err(|source| remote_error("the registry did not take the signature", source))
    }

    /// Gives a small blob.
    fn give(&self, bytes: &[u8], digest: &Digest) -> Result<(), Error> {
        let mut open = || Ok(Box::new(bytes) as Box<dyn Read + '_>);
        let size = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        let mut upload = Upload { digest, size, mount_from: None, open: &mut open };
        match self.client.give_blob(&self.repository, &mut upload) {
            Ok(_) => Ok(()),
            Err(NotGiven::Remote(source)) => {
                Err(remote_error(format!("the registry did not take blob `{digest}`"), source))
            }
            Err(NotGiven::Local(error)) => Err(unsent(digest, error)),
        }
    }
}

/// A blob whose going out is told.
struct Told<'t, R> {
    from: R,
    done: u64,
    blob: &'t Blob,
    progress: &'t dyn Progress,
}

impl<R: Read> Read for Told<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.from.read(buffer)?;
        self.done += length as u64;
        let digest = self.blob.digest.clone();
        self.progress.event(Event::SendBytes { digest, done: self.done });
        Ok(length)
    }
}
