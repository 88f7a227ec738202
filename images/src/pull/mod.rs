//! Pulling: from a name to an image that is whole in the store.
//!
//! ```text
//! reference ─▶ source ─▶ choose: index, manifest, configuration
//!           ─▶ layers: K at once, each  read ─▶ size, digest ─▶ part file ─▶ worker ─▶ tree
//!           ─▶ committer: one sync for a group, then names      ─▶ chain: what depends on others
//!           ─▶ the reference, last
//! ```
//!
//! A kill at any moment leaves whole layers, resumable downloads, and residue that gc sweeps;
//! never a name that means less than it says.

mod chain;
mod choose;
mod copy_up;
mod layer;
mod layers;
mod layout;
mod remote;
mod source;

use std::num::NonZeroUsize;

use crate::error::{Error, ErrorKind};
use crate::hash;
use crate::image::Image;
use crate::layer::WorkerProgram;
use crate::platform::Platform;
use crate::progress::{Event, Progress};
use crate::reference::{Place, Reference};
use crate::registry::{Patience, Transport};
use crate::store::{ImageParts, Lease, RefRecord, Store};
use choose::Chosen;
use source::Source;

/// When the network is asked for an image.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PullPolicy {
    /// When the store does not have it.
    #[default]
    Missing,
    /// Every time, unless a digest was named: that cannot have moved.
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
    /// How many layers are worked on at once.
    pub jobs: NonZeroUsize,
}

impl PullOptions {
    /// The most layers worked on at once by default; more only wait for the same disk.
    const MAX_JOBS: usize = 4;

    /// Returns the usual: what is missing, for this host, over TLS.
    #[must_use]
    pub fn new(worker: WorkerProgram) -> Self {
        let cores = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
        let jobs = NonZeroUsize::new(cores.min(Self::MAX_JOBS)).unwrap_or(NonZeroUsize::MIN);
        Self {
            policy: PullPolicy::default(),
            platform: Platform::host(),
            transport: Transport::default(),
            patience: Patience::default(),
            worker,
            jobs,
        }
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
        let may_have_moved = options.policy == PullPolicy::Always && reference.digest().is_none();
        if !may_have_moved && let Some(image) = self.resolve(reference, &options.platform, lease)? {
            return Ok(image);
        }
        if options.policy == PullPolicy::Never {
            let sentence = format!("image `{reference}` is not in the store");
            return Err(Error::new(ErrorKind::NotFound, sentence));
        }
        self.fetch(reference, options, lease, progress)
            .map_err(|error| error.within(format!("cannot pull `{reference}`")))
    }

    fn fetch(
        &self,
        reference: &Reference,
        options: &PullOptions,
        lease: &Lease,
        progress: &dyn Progress,
    ) -> Result<Image, Error> {
        progress.event(Event::Resolving { reference: reference.to_string() });
        let source = open(reference, options)?;
        let chosen = choose::choose(source.as_ref(), reference, &options.platform)?;
        let digest = chosen.manifest_digest().clone();
        let count = chosen.manifest.layers.len();
        progress.event(Event::Manifest { digest: digest.clone(), layers: count });
        let chain = hash::chain(&chosen.config.layers);
        self.hold(lease, chosen.digests().chain(&chain))?;
        for document in &chosen.documents {
            self.write_blob(&document.digest, &document.bytes)?;
        }
        layers::fetch(self, source.as_ref(), &chosen, options, progress)?;
        let record = RefRecord::now(reference, &options.platform, &parts(chosen, source.as_ref()));
        self.write_ref(&record)?;
        progress.event(Event::Done { digest });
        self.image(reference, record)
    }
}

/// Opens the place a reference names.
fn open(reference: &Reference, options: &PullOptions) -> Result<Box<dyn Source>, Error> {
    match reference.place() {
        Place::Registry { host, repository, tag, digest } => {
            let remote = remote::Remote::open(host, repository, tag.as_deref(), digest, options)?;
            Ok(Box::new(remote))
        }
        Place::Layout { directory, tag, digest } => {
            let layout = layout::Layout::open(directory, tag.as_deref(), digest.as_ref())?;
            Ok(Box::new(layout))
        }
    }
}

fn parts(chosen: Chosen, source: &dyn Source) -> ImageParts {
    ImageParts {
        manifest: chosen.manifest_digest().clone(),
        index: chosen.index_digest().cloned(),
        config: chosen.manifest.config.digest.clone(),
        size: chosen.manifest.size(),
        layers: chosen.config.layers,
        verified: source.verified(),
    }
}
