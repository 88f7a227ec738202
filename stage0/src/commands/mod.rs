//! The commands: arguments → request → calls → what is shown. One file each; what they share with
//! one another is [`Session`], the opened surroundings.

mod bundle;
mod doctor;
mod exec;
mod gc;
mod image;
mod inspect;
mod logs;
mod ps;
mod reap;
mod run;
mod start;
mod stop;
mod volume;

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use images::Store;

use crate::context::{Context, require_root};
use crate::error::{CommandError, Result};
use crate::fetch;
use crate::launch::Launcher;
use crate::leftovers;
use crate::pods::Pods;

pub(crate) use bundle::bundle;
pub(crate) use doctor::doctor;
pub(crate) use exec::exec;
pub(crate) use gc::gc;
pub(crate) use image::{fetch as fetch_images, image};
pub(crate) use inspect::{inspect, status};
pub(crate) use logs::logs;
pub(crate) use ps::ps;
pub(crate) use reap::reap;
pub(crate) use run::{prepare, run};
pub(crate) use start::start;
pub(crate) use stop::{rm, stop};
pub(crate) use volume::volume;

/// The surroundings of a command, opened.
#[derive(Debug)]
pub(crate) struct Session {
    /// Where and how.
    pub(crate) context: Context,
    /// The pods.
    pub(crate) pods: Pods,
    run_root: OwnedFd,
}

impl Session {
    /// Opens what `verb` works on.
    ///
    /// # Errors
    ///
    /// `not-root`, or `storage`.
    pub(crate) fn open(context: Context, verb: &str) -> Result<Self> {
        require_root(verb)?;
        let pods = Pods::open(context.open_root()?)?;
        let run_root = context.open_run_root()?;
        Ok(Self { context, pods, run_root })
    }

    /// Returns the run root.
    pub(crate) fn run_root(&self) -> BorrowedFd<'_> {
        self.run_root.as_fd()
    }

    /// Opens the image store.
    ///
    /// # Errors
    ///
    /// `image.storage`.
    pub(crate) fn store(&self) -> Result<Store> {
        Store::open(&self.context.root).map_err(|error| fetch::failed(&error))
    }

    /// Takes back what dead pods have left. That something cannot be taken back now keeps no
    /// other pod from running; `pod gc` tells.
    pub(crate) fn sweep_leftovers(&self) {
        let _ = leftovers::sweep(&self.pods, self.run_root()); // see above
    }

    /// Returns what starts pods.
    pub(crate) fn launcher<'l>(&'l self, store: &'l Store) -> Launcher<'l> {
        Launcher { context: &self.context, pods: &self.pods, run_root: &self.run_root, store }
    }
}

/// Does something to each of several pods or images: all are tried, and the first error is the
/// command's. Earlier errors are printed as they come.
///
/// # Errors
///
/// The last one.
pub(crate) fn each<T>(
    context: &Context,
    words: &[T],
    mut deed: impl FnMut(&T) -> Result<()>,
) -> Result<()> {
    let mut failed: Option<CommandError> = None;
    for word in words {
        if let Err(error) = deed(word)
            && let Some(earlier) = failed.replace(error)
        {
            crate::ui::error(&earlier, context.format);
        }
    }
    failed.map_or(Ok(()), Err)
}
