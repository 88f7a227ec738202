//! All layers of an image: several at once, made durable in groups, named last.
//!
//! Threads get layers ready; the thread that called is the one committer. It never waits for a
//! download, so two pulls that wait for each other's layers always get on.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError, mpsc};
use std::thread;

use pod_abi::Digest;

use super::PullOptions;
use super::chain::{self, ChainError};
use super::choose::Chosen;
use super::layer::{Context, Job, Parsing, Ready};
use super::source::Source;
use crate::error::{Error, ErrorKind, is_full};
use crate::hash;
use crate::progress::{Event, Progress};
use crate::store::Store;

/// Layers that depend on those below, by diffID, until those are there.
type Waiting<'p> = BTreeMap<Digest, Ready<'p>>;

/// Makes the store have all layers of `chosen`.
pub(super) fn fetch(
    store: &Store,
    source: &dyn Source,
    chosen: &Chosen,
    (options, parsing): (&PullOptions, Parsing),
    progress: &dyn Progress,
) -> Result<(), Error> {
    let cancelled = AtomicBool::new(false);
    let worker = &options.worker;
    let context = Context { store, source, worker, progress, parsing, cancelled };
    let jobs = missing(store, chosen, progress)?;
    let mut waiting = Waiting::new();
    if !jobs.is_empty() {
        store.sweep_abandoned_trees();
        run(&context, jobs, options.jobs(), &mut waiting)?;
    }
    finish_chain(&context, chosen, waiting)
}

/// Lists the layers that are not there, each once, the largest first.
fn missing(
    store: &Store,
    chosen: &Chosen,
    progress: &dyn Progress,
) -> Result<VecDeque<Job>, Error> {
    let found = store.find_layers(&chosen.config.layers)?;
    let mut jobs: BTreeMap<&Digest, Job> = BTreeMap::new();
    let layers = chosen.manifest.layers.iter().zip(&chosen.config.layers);
    for ((blob, diff_id), found) in layers.zip(found) {
        if found.is_some() {
            progress.event(Event::LayerExists { digest: blob.digest.clone() });
        } else {
            let job = Job { blob: blob.clone(), diff_id: diff_id.clone() };
            jobs.entry(diff_id).or_insert(job);
        }
    }
    let mut jobs: Vec<Job> = jobs.into_values().collect();
    jobs.sort_by_key(|job| std::cmp::Reverse(job.blob.size));
    Ok(jobs.into())
}

/// Gets `jobs` ready on threads and commits what is ready, until all are done or one has failed.
fn run<'p>(
    context: &Context<'p>,
    jobs: VecDeque<Job>,
    threads: usize,
    waiting: &mut Waiting<'p>,
) -> Result<(), Error> {
    let threads = threads.min(jobs.len());
    let queue = Mutex::new(jobs);
    let next = || queue.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
    let (send, receive) = mpsc::channel();
    thread::scope(|scope| {
        for _ in 0..threads {
            let (send, next) = (send.clone(), &next);
            scope.spawn(move || {
                while let Some(job) = next() {
                    // The committer hears everything until the last sender is gone.
                    let _ = send.send((job.blob.digest.clone(), context.prepare(&job)));
                }
            });
        }
        drop(send);
        let mut failure = None;
        while let Ok(first) = receive.recv() {
            let mut group = Vec::new();
            for (digest, outcome) in std::iter::once(first).chain(receive.try_iter()) {
                match outcome {
                    Ok(Some(ready)) => group.push(ready),
                    Ok(None) => context.progress.event(Event::LayerExists { digest }),
                    Err(error) => fail(context, &mut failure, error),
                }
            }
            if let Err(error) = commit(context.store, context.progress, group, waiting) {
                fail(context, &mut failure, error);
            }
        }
        failure.map_or(Ok(()), Err)
    })
}

/// Remembers the first failure and calls the others off.
fn fail(context: &Context<'_>, failure: &mut Option<Error>, error: Error) {
    context.cancelled.store(true, Ordering::Relaxed);
    failure.get_or_insert(error);
}

/// Makes the one layer of an image durable and gives it its name.
pub(super) fn settle(
    store: &Store,
    progress: &dyn Progress,
    ready: Ready<'_>,
) -> Result<(), Error> {
    let chain = ready.job.diff_id.clone();
    let mut waiting = Waiting::new();
    commit(store, progress, vec![ready], &mut waiting)?;
    waiting.into_values().try_for_each(|ready| join(store, ready, &[], &chain))
}

/// Makes a group of layers durable, then gives them their names.
fn commit<'p>(
    store: &Store,
    progress: &dyn Progress,
    group: Vec<Ready<'p>>,
    waiting: &mut Waiting<'p>,
) -> Result<(), Error> {
    if group.is_empty() {
        return Ok(());
    }
    progress.event(Event::Committing { layers: group.len() });
    for ready in group.iter().filter(|ready| ready.is_self_contained()) {
        ready.staging.describe(&ready.meta())?;
    }
    store.sync_all()?;
    for mut ready in group {
        if let Some(part) = ready.part.take() {
            store.keep_part(&part)?;
        }
        if ready.is_self_contained() {
            let name = ready.meta().name();
            ready.staging.commit(&name)?;
        } else {
            waiting.insert(ready.job.diff_id.clone(), ready);
        }
    }
    store.sync_blobs()?;
    store.sync_layers()
}

/// Finishes the layers that depend on those below, from the lowest up.
fn finish_chain<'p>(
    context: &Context<'p>,
    chosen: &Chosen,
    mut waiting: Waiting<'p>,
) -> Result<(), Error> {
    let layers = &chosen.config.layers;
    for (at, chain) in hash::chain(layers).iter().enumerate() {
        if context.store.find_layers(&layers[..=at])?[at].is_some() {
            continue;
        }
        let ready = match waiting.remove(&layers[at]) {
            Some(ready) => Some(ready),
            // The same layer may stand in an image twice, above different others.
            None => {
                let blob = chosen.manifest.layers[at].clone();
                context.prepare(&Job { blob, diff_id: layers[at].clone() })?
            }
        };
        if let Some(ready) = ready {
            join(context.store, ready, &layers[..at], chain)?;
        }
    }
    Ok(())
}

/// Joins a layer to those `below` it, makes it durable and gives it its name.
fn join(store: &Store, ready: Ready<'_>, below: &[Digest], chain: &Digest) -> Result<(), Error> {
    let lower = store.merged(below)?;
    chain::complete(ready.staging.tree(), &ready.facts, lower).map_err(|source| {
        let kind = match &source {
            ChainError::Io { source, .. } if is_full(source) => ErrorKind::NoSpace,
            ChainError::Io { .. } => ErrorKind::Storage,
            ChainError::NoTarget { .. } | ChainError::NoFile { .. } => ErrorKind::Invalid,
        };
        let sentence = format!("cannot join layer `{}` to those below", ready.job.blob.digest);
        Error::caused(kind, sentence, source)
    })?;
    let meta = ready.meta().in_chain(chain);
    ready.staging.describe(&meta)?;
    store.sync_all()?;
    if let Some(part) = &ready.part {
        store.keep_part(part)?;
        store.sync_blobs()?;
    }
    ready.staging.commit(&meta.name())?;
    store.sync_layers()
}
