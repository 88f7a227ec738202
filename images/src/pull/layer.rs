//! One layer: from its blob to a tree that waits for its name.
//!
//! Bytes are counted, hashed and kept while the worker unpacks them; nothing is trusted until both
//! digests are right, and nothing has a name until then. Where a signature vouches for the image,
//! a layer is complete and its digest is right before the worker sees its first byte.

use std::io::{self, Read, Write};
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use pod_abi::Digest;

use super::source::{Source, read_error};
use crate::document::Blob;
use crate::error::{Error, ErrorKind, is_full};
use crate::hash::Hasher;
use crate::layer::{self, LayerFacts, Limits, Unpack, WorkerProgram};
use crate::progress::{Event, Progress};
use crate::store::{LayerMeta, LayerSize, Part, Staging, Store};

/// How much is read at once.
const CHUNK: usize = 256 << 10;
/// How often somebody else's download is looked at.
const WAIT: Duration = Duration::from_millis(20);

/// A layer that is to be had.
#[derive(Clone, Debug)]
pub(super) struct Job {
    pub(super) blob: Blob,
    pub(super) diff_id: Digest,
}

/// What all layers of a pull share.
pub(super) struct Context<'p> {
    pub(super) store: &'p Store,
    pub(super) source: &'p dyn Source,
    pub(super) worker: &'p WorkerProgram,
    pub(super) progress: &'p dyn Progress,
    /// When a layer may be parsed.
    pub(super) parsing: Parsing,
    /// Set when another layer failed.
    pub(super) cancelled: AtomicBool,
}

/// When a layer that is fetched may be parsed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Parsing {
    /// While it comes.
    Meanwhile,
    /// When it is complete and what was signed.
    Afterwards,
}

/// A layer whose digests are right, in memory of no crash yet.
pub(super) struct Ready<'p> {
    pub(super) job: Job,
    pub(super) staging: Staging<'p>,
    /// Absent if the blob was in the store already.
    pub(super) part: Option<Part>,
    pub(super) facts: LayerFacts,
}

/// Takes bytes, and tells whether it wants more.
type Taker<'t> = dyn FnMut(&[u8]) -> Result<ControlFlow<()>, Error> + 't;

/// Where a layer's bytes were.
enum Arrival {
    Stored,
    Fetched,
}

impl Ready<'_> {
    /// Tells whether the tree is right above any other layers.
    pub(super) fn is_self_contained(&self) -> bool {
        self.facts.implicit_dirs.is_empty() && self.facts.lower_links.is_empty()
    }

    /// Returns what is to be written down of the layer.
    pub(super) fn meta(&self) -> LayerMeta {
        let LayerFacts { bytes, entries, skipped_devices, .. } = self.facts;
        let size = LayerSize { bytes, entries, skipped_devices };
        LayerMeta::new(&self.job.diff_id, &self.job.blob.digest, size)
    }
}

impl<'p> Context<'p> {
    /// Gets a layer ready; `None` if somebody else has put it into the store meanwhile.
    pub(super) fn prepare(&self, job: &Job) -> Result<Option<Ready<'p>>, Error> {
        let digest = &job.blob.digest;
        let mut part = loop {
            self.check_cancelled()?;
            let part = self.store.part(digest)?;
            if self.store.has_self_contained(&job.diff_id)? {
                return part.map_or(Ok(None), |part| self.store.drop_part(&part).map(|()| None));
            }
            match part {
                Some(part) => break part,
                None => thread::sleep(WAIT),
            }
        };
        self.progress.event(Event::LayerStarted { digest: digest.clone(), size: job.blob.size });
        let unpacked = match self.unpack_stored(job) {
            Ok(Some(unpacked)) => Ok((unpacked, Arrival::Stored)),
            Ok(None) => self.unpack_fetched(job, &mut part).map(|done| (done, Arrival::Fetched)),
            Err(error) => Err(error),
        };
        let ((facts, staging), arrival) = match unpacked {
            Ok(unpacked) => unpacked,
            Err(error) => {
                let worthless = matches!(error.kind(), ErrorKind::Invalid | ErrorKind::NoSpace);
                if worthless || part.len().is_ok_and(|length| length == 0) {
                    self.store.drop_part(&part)?;
                }
                return Err(error);
            }
        };
        let part = match arrival {
            Arrival::Fetched => Some(part),
            Arrival::Stored => {
                self.store.drop_part(&part)?;
                None
            }
        };
        self.progress.event(Event::LayerDone { digest: digest.clone() });
        Ok(Some(Ready { job: job.clone(), staging, part, facts }))
    }

    /// Unpacks a blob the store has; a damaged one is thrown away.
    fn unpack_stored(&self, job: &Job) -> Result<Option<(LayerFacts, Staging<'p>)>, Error> {
        let Some(mut file) = self.store.open_blob(&job.blob.digest)? else { return Ok(None) };
        let mut feed = Feed::start(self, job)?;
        match feed.take_all(&mut file, &mut io::sink()).and_then(|()| feed.finish()) {
            Ok(done) => Ok(Some(done)),
            // A sound blob that another image describes wrongly stays where it is.
            Err(error)
                if error.kind() == ErrorKind::Invalid
                    && !self.store.is_sound(&job.blob.digest)? =>
            {
                self.store.drop_blob(&job.blob.digest)?;
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// Unpacks what comes from the source, after what an earlier attempt has left. If that does
    /// not end well, what was left may be to blame: everything comes anew, once.
    fn unpack_fetched(
        &self,
        job: &Job,
        part: &mut Part,
    ) -> Result<(LayerFacts, Staging<'p>), Error> {
        let length = part.len().map_err(|source| part_error(job, source))?;
        if length > 0 && length <= job.blob.size {
            match self.attempt(job, part) {
                Err(error) if error.kind() == ErrorKind::Invalid => {}
                other => return other,
            }
        }
        part.restart().map_err(|source| part_error(job, source))?;
        self.attempt(job, part)
    }

    fn attempt(&self, job: &Job, part: &mut Part) -> Result<(LayerFacts, Staging<'p>), Error> {
        if self.parsing == Parsing::Afterwards {
            self.complete(job, part)?;
        }
        let mut feed = Feed::start(self, job)?;
        let left = part.rewind().map_err(|source| part_error(job, source))?;
        feed.take_all(left, &mut io::sink())?;
        if feed.done < job.blob.size && !feed.gave_up {
            if feed.done > 0 {
                let (digest, at) = (job.blob.digest.clone(), feed.done);
                self.progress.event(Event::LayerResumed { digest, at });
            }
            let mut reader = self.source.blob(&job.blob, feed.done)?;
            feed.take_all(&mut reader, part)?;
        }
        feed.finish()
    }

    /// Fetches what is missing of a layer, and checks it.
    fn complete(&self, job: &Job, part: &mut Part) -> Result<(), Error> {
        let Blob { digest, size } = &job.blob;
        let (mut hasher, mut done) = (Hasher::new(digest.algorithm()), 0);
        let mut hash = |bytes: &[u8]| {
            hasher.update(bytes);
            Ok(ControlFlow::Continue(()))
        };
        let left = part.rewind().map_err(|source| part_error(job, source))?;
        self.pour(job, (left, &mut io::sink()), &mut done, &mut hash)?;
        if done < *size {
            if done > 0 {
                self.progress.event(Event::LayerResumed { digest: digest.clone(), at: done });
            }
            let mut reader = self.source.blob(&job.blob, done)?;
            self.pour(job, (&mut reader, part), &mut done, &mut hash)?;
        }
        check(job, done, hasher)
    }

    /// Takes everything `from` has, keeping a copy, until `take` wants no more. `done` counts.
    fn pour(
        &self,
        job: &Job,
        (from, copy): (&mut dyn Read, &mut dyn Write),
        done: &mut u64,
        take: &mut Taker<'_>,
    ) -> Result<(), Error> {
        let Blob { digest, size } = &job.blob;
        let mut buffer = vec![0; CHUNK];
        loop {
            self.check_cancelled()?;
            let length = match from.read(&mut buffer) {
                Ok(0) => return Ok(()),
                Ok(length) => length,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => {
                    return Err(read_error(format!("cannot read layer `{digest}`"), error));
                }
            };
            *done += u64::try_from(length).unwrap_or(u64::MAX);
            if *done > *size {
                let sentence = format!("layer `{digest}` is longer than {size} bytes");
                return Err(Error::invalid(sentence));
            }
            copy.write_all(&buffer[..length]).map_err(|source| part_error(job, source))?;
            let flow = take(&buffer[..length])?;
            self.progress.event(Event::LayerBytes { digest: digest.clone(), done: *done });
            if flow.is_break() {
                return Ok(());
            }
        }
    }

    fn check_cancelled(&self) -> Result<(), Error> {
        if self.cancelled.load(Ordering::Relaxed) {
            Err(Error::new(ErrorKind::Busy, "another layer failed"))
        } else {
            Ok(())
        }
    }
}

/// Bytes on their way through hash and worker.
struct Feed<'c, 'p> {
    context: &'c Context<'p>,
    job: &'c Job,
    /// Before the tree, so that the worker is dead by the time its tree is thrown away.
    unpack: Unpack,
    staging: Staging<'p>,
    hasher: Hasher,
    done: u64,
    /// The worker wants no more; its report tells why.
    gave_up: bool,
}

impl<'c, 'p> Feed<'c, 'p> {
    fn start(context: &'c Context<'p>, job: &'c Job) -> Result<Self, Error> {
        let staging = context.store.staging()?;
        let unpack = Unpack::start(context.worker, staging.tree(), &Limits::default())
            .map_err(|source| unpack_error(&layer_word(job), source))?;
        let hasher = Hasher::new(job.blob.digest.algorithm());
        Ok(Self { context, job, staging, unpack, hasher, done: 0, gave_up: false })
    }

    /// Takes everything `from` has, keeping a copy in `copy`.
    fn take_all(&mut self, from: &mut dyn Read, copy: &mut dyn Write) -> Result<(), Error> {
        if self.gave_up {
            return Ok(());
        }
        let Self { context, job, unpack, hasher, done, gave_up, .. } = self;
        context.pour(job, (from, copy), done, &mut |bytes| {
            hasher.update(bytes);
            match unpack.write_all(bytes) {
                Ok(()) => Ok(ControlFlow::Continue(())),
                Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {
                    *gave_up = true;
                    Ok(ControlFlow::Break(()))
                }
                Err(source) => {
                    let sentence = format!("cannot unpack layer `{}`", job.blob.digest);
                    Err(Error::storage(sentence, source))
                }
            }
        })
    }

    /// Hears the worker and checks size and both digests.
    fn finish(self) -> Result<(LayerFacts, Staging<'p>), Error> {
        let Job { blob, diff_id } = self.job;
        if !self.gave_up {
            check(self.job, self.done, self.hasher)?;
        }
        let facts =
            self.unpack.finish().map_err(|source| unpack_error(&layer_word(self.job), source))?;
        if self.gave_up {
            let sentence = format!("the worker stopped before the end of layer `{}`", blob.digest);
            return Err(Error::new(ErrorKind::Storage, sentence));
        }
        if facts.diff_id != *diff_id {
            let sentence = format!(
                "layer `{}` unpacks to `{}`, its configuration says `{diff_id}`",
                blob.digest, facts.diff_id
            );
            return Err(Error::invalid(sentence));
        }
        Ok((facts, self.staging))
    }
}

/// Checks the length and the digest of what came.
fn check(job: &Job, done: u64, hasher: Hasher) -> Result<(), Error> {
    let Blob { digest, size } = &job.blob;
    if done < *size {
        let sentence = format!("layer `{digest}` ended after {done} of {size} bytes");
        return Err(Error::invalid(sentence));
    }
    match hasher.finish() {
        found if found == *digest => Ok(()),
        found => Err(Error::invalid(format!("what came for layer `{digest}` is `{found}`"))),
    }
}

fn part_error(job: &Job, source: io::Error) -> Error {
    Error::storage(format!("cannot keep what came of layer `{}`", job.blob.digest), source)
}

fn layer_word(job: &Job) -> String {
    format!("layer `{}`", job.blob.digest)
}

/// Wraps what the worker says that unpacked `what`.
pub(crate) fn unpack_error(what: &str, source: layer::Error) -> Error {
    let full = source.os_error().map(io::Error::from_raw_os_error);
    let kind = match source.kind() {
        layer::ErrorKind::Layer | layer::ErrorKind::Limit => ErrorKind::Invalid,
        _ if full.is_some_and(|error| is_full(&error)) => ErrorKind::NoSpace,
        layer::ErrorKind::Storage | layer::ErrorKind::Worker => ErrorKind::Storage,
    };
    Error::caused(kind, format!("cannot unpack {what}"), source)
}
