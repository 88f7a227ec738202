//! Pulling: from a name to an image that is whole in the store.
//!
//! ```text
//! reference ─▶ source ─▶ choose: index, manifest, configuration ─▶ trusted, by policy
//!           ─▶ layers: K at once, each  read ─▶ size, digest ─▶ part file ─▶ worker ─▶ tree
//!           ─▶ committer: one sync for a group, then names      ─▶ chain: what depends on others
//!           ─▶ the reference, last
//! ```
//!
//! A kill at any moment leaves whole layers, resumable downloads, and residue that gc sweeps;
//! never a name that means less than it says.

mod aci;
mod apart;
mod chain;
mod choose;
mod commit;
mod copy_up;
mod decide;
mod discover;
mod docker;
mod files;
mod flat;
mod import;
mod layer;
mod layers;
mod layout;
mod made;
mod mirrored;
mod remote;
mod signatures;
mod source;
mod trusted;

use std::error::Error as _;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::thread;

use pod_abi::Digest;
use pod_abi::app::Verified;

use crate::archive::Archive;
use crate::error::{Error, ErrorKind};
use crate::hash;
use crate::image::Image;
use crate::layer::WorkerProgram;
use crate::platform::Platform;
use crate::progress::{Event, Progress};
use crate::reference::{ArchiveKind, Place, Reference};
use crate::registry::{self, Patience, Transport};
use crate::store::{ImageParts, Lease, RefRecord, Store};
use choose::Chosen;
pub use commit::Commit;
pub use decide::{Decision, decide};
pub use discover::{Discovered, Discovery, SignatureWanted};
pub use import::{Import, Imported, ImportedFrom};
use layer::Parsing;
pub(crate) use layer::unpack_error;
pub(crate) use remote::{client_at, registries};
use source::Source;
pub(crate) use source::remote_error;
use trusted::Seen;

/// When the network is asked for an image.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PullPolicy {
    /// When the store does not have it. Layouts and archives on this host are looked at all the
    /// same: what lies there now is what is meant.
    #[default]
    Missing,
    /// When the store does not have it, or the source has another one by now. A source that cannot
    /// be reached has no other one.
    Newer,
    /// Every time, unless a digest was named: that cannot have moved, and is only judged anew.
    Always,
    /// Never.
    Never,
}

/// How a pull is made.
#[derive(Clone, Debug)]
pub struct PullOptions {
    /// When the network is asked.
    pub policy: PullPolicy,
    /// For which machine.
    pub platform: Platform,
    /// Whether plain HTTP was asked for.
    pub transport: Transport,
    /// How often to try again.
    pub patience: Patience,
    /// The program that unpacks a layer: `pod internal-unpack`.
    pub worker: WorkerProgram,
    /// How many layers are worked on at once; if unset, as many as there are processors, and few.
    pub jobs: Option<NonZeroUsize>,
    /// Where the policy may lie that says what is asked of images before anything of them is kept:
    /// the first of these that is there. If none is, or none is named, nothing is asked.
    pub policies: Vec<PathBuf>,
    /// What says where registries really are, and which are blocked: `containers-registries.conf(5)`,
    /// with what lies beside it in the directory of the same name and `.d`. If none is named, images
    /// lie where their names say.
    pub registries: Option<PathBuf>,
}

impl PullOptions {
    /// The most layers worked on at once by default; more only wait for the same disk.
    const MAX_JOBS: usize = 4;

    /// Returns the usual: what is missing, for this host, over TLS.
    #[must_use]
    pub fn new(worker: WorkerProgram) -> Self {
        Self {
            policy: PullPolicy::default(),
            platform: Platform::host(),
            transport: Transport::default(),
            patience: Patience::default(),
            worker,
            jobs: None,
            policies: Vec::new(),
            registries: None,
        }
    }

    /// Returns how many layers are worked on at once. Only asked when layers are missing: counting
    /// processors reads every mount of the host.
    fn jobs(&self) -> usize {
        let cores = || thread::available_parallelism().map_or(1, NonZeroUsize::get);
        self.jobs.map_or_else(|| cores().min(Self::MAX_JOBS), NonZeroUsize::get)
    }
}

impl Store {
    /// Makes the store have the image `reference` means, and keeps it from gc while `lease` lives.
    ///
    /// # Errors
    ///
    /// Whatever stopped it, by [`ErrorKind`]. The name means what it meant before. Layers that were
    /// complete stay for the next attempt, and so does what had arrived of others, except on a full
    /// disk.
    pub fn pull(
        &self,
        reference: &Reference,
        options: &PullOptions,
        lease: &Lease,
        progress: &dyn Progress,
    ) -> Result<Image, Error> {
        let here = self.resolve(reference, &options.platform, lease)?;
        let looks = match options.policy {
            PullPolicy::Never => false,
            PullPolicy::Missing => reference.is_local(),
            PullPolicy::Newer | PullPolicy::Always => true,
        };
        let judges =
            options.policy == PullPolicy::Always && trusted::asks(&options.policies, reference);
        let looks = judges || (looks && reference.digest().is_none());
        match (here, options.policy, reference.place()) {
            (Some(image), ..) if !looks => Ok(image),
            (None, PullPolicy::Never, _) => {
                let sentence = format!("image `{reference}` is not in the store");
                Err(Error::new(ErrorKind::NotFound, sentence))
            }
            (None, _, Place::Id { .. }) => {
                let sentence =
                    format!("image `{reference}` is not in the store, and an id tells no source");
                Err(Error::new(ErrorKind::NotFound, sentence))
            }
            (Some(image), _, Place::Id { .. }) => Ok(image),
            (here, ..) => self
                .fetch(reference, here, &Fetch { options, lease, progress })
                .map_err(|error| error.within(format!("cannot pull `{reference}`"))),
        }
    }

    /// Fetches an image, unless the source still has the one that is `here`: of that, its digest
    /// alone is asked for, which is one request.
    fn fetch(
        &self,
        reference: &Reference,
        here: Option<Image>,
        fetch: &Fetch<'_>,
    ) -> Result<Image, Error> {
        let options = fetch.options;
        let must = options.policy == PullPolicy::Always;
        let resolving = || {
            let reference = reference.to_string();
            fetch.progress.event(Event::Resolving { reference });
        };
        let known = here.is_some();
        if must || !known {
            resolving();
        }
        // What is asked of it may have changed since it came.
        let here = here.filter(|_| !must || !trusted::asks(&options.policies, reference));
        let (source, now) = match open(&reference.really(), options).and_then(|source| {
            let now = match here.as_ref().map(|_| source.digest()) {
                None => None,
                // What refuses to be asked in this way is asked for the document.
                Some(Err(error)) if must && !is_gone(&error) => None,
                Some(asked) => asked?,
            };
            Ok((source, now))
        }) {
            Ok(found) => found,
            Err(error) => return here.filter(|_| !must && is_gone(&error)).ok_or(error),
        };
        if let (Some(image), Some(now)) = (here, now)
            && (image.manifest == now || image.index.as_ref() == Some(&now))
        {
            if must {
                let digest = image.manifest.clone();
                fetch.progress.event(Event::Done { digest });
            }
            return Ok(image);
        }
        if known && !must {
            resolving();
        }
        self.take(reference, &[Seen::of(reference)], source.as_ref(), fetch)
    }

    /// Makes the store have what `source` offers, under the name `reference`, if the policy lets it
    /// in as all that is `seen` in it.
    fn take(
        &self,
        reference: &Reference,
        seen: &[Seen],
        source: &dyn Source,
        fetch: &Fetch<'_>,
    ) -> Result<Image, Error> {
        let Fetch { options, lease, progress } = *fetch;
        let chosen = choose::choose(source, reference, &options.platform)?;
        let mut verified = source.verified();
        if let Some((path, policy)) = trusted::policy(&options.policies)? {
            for seen in seen {
                verified = trusted::check((path, &policy), seen, source, &chosen)?;
            }
        }
        let digest = chosen.manifest_digest().clone();
        let count = chosen.manifest.layers.len();
        progress.event(Event::Manifest { digest: digest.clone(), layers: count });
        let chain = hash::chain(&chosen.config.layers);
        self.hold(lease, chosen.digests().chain(&chain))?;
        for document in &chosen.documents {
            self.write_blob(&document.digest, &document.bytes)?;
        }
        // What nobody has signed is not even parsed where signatures are asked for.
        let parsing = match verified {
            Verified::Signature => Parsing::Afterwards,
            _ => Parsing::Meanwhile,
        };
        layers::fetch(self, source, &chosen, (options, parsing), progress)?;
        let record = RefRecord::now(reference, &options.platform, &parts(chosen, verified));
        self.write_ref(&record)?;
        progress.event(Event::Done { digest });
        self.image(reference, record)
    }
}

/// What a fetch goes by.
#[derive(Clone, Copy)]
struct Fetch<'f> {
    options: &'f PullOptions,
    lease: &'f Lease,
    progress: &'f dyn Progress,
}

/// Tells whether a source cannot be asked just now, so that what the store has is the last word. A
/// registry that has forgotten a name is none of these.
fn is_gone(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::Unreachable | ErrorKind::Storage)
        || (error.kind() == ErrorKind::NotFound && !is_of_registry(error))
}

fn is_of_registry(error: &Error) -> bool {
    error.source().is_some_and(|source| source.is::<registry::Error>())
}

/// Opens the place a reference names.
fn open(reference: &Reference, options: &PullOptions) -> Result<Box<dyn Source>, Error> {
    match reference.place() {
        Place::Registry { host, repository, tag, digest } => {
            let (tag, digest) = (tag.as_deref(), digest.as_ref());
            remote::Remote::open(&remote::Wanted { host, repository, tag, digest }, options)
        }
        Place::Layout { directory, tag, digest } => {
            let files = files::Files::in_directory(directory)?;
            let layout = layout::Layout::open(files, tag.as_deref(), digest.as_ref())?;
            Ok(Box::new(layout))
        }
        Place::Directory { directory, digest } => {
            let files = files::Files::in_directory(directory)?;
            Ok(Box::new(flat::Flat::open(files, digest.as_ref())?))
        }
        Place::Archive { kind, file, name, digest } => {
            in_archive(Archive::open(file)?, *kind, name.as_deref(), digest.as_ref())
        }
        Place::Id { .. } => Err(Error::new(ErrorKind::NotFound, "an id tells no source")),
    }
}

/// Finds an image in an archive.
fn in_archive(
    archive: Archive,
    kind: ArchiveKind,
    name: Option<&str>,
    digest: Option<&Digest>,
) -> Result<Box<dyn Source>, Error> {
    match kind {
        ArchiveKind::Oci => {
            let files = files::Files::Archive(archive);
            Ok(Box::new(layout::Layout::open(files, name, digest)?))
        }
        ArchiveKind::Docker => Ok(Box::new(docker::DockerArchive::open(archive, name)?)),
    }
}

fn parts(chosen: Chosen, verified: Verified) -> ImageParts {
    ImageParts {
        manifest: chosen.manifest_digest().clone(),
        index: chosen.index_digest().cloned(),
        config: chosen.manifest.config.digest.clone(),
        size: chosen.manifest.size(),
        layers: chosen.config.layers,
        verified,
    }
}
