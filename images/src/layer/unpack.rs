//! The outer half of unpacking: starts the worker, feeds it, hears its report.

use std::io;
use std::os::fd::BorrowedFd;

use super::error::Error;
use super::facts::{LayerFacts, Limits, WorkerProgram};

/// A layer that is being unpacked. Write the compressed bytes to it, then call
/// [`finish`](Self::finish).
///
/// A write that fails with [`io::ErrorKind::BrokenPipe`] means that the worker gave up early;
/// `finish` then returns its reason. Dropping it kills the worker. It must be finished or dropped
/// by the thread that started it, for the worker dies with that thread (`PR_SET_PDEATHSIG`).
#[derive(Debug)]
pub(crate) struct Unpack {}

impl Unpack {
    /// Starts a worker that unpacks into the empty directory `staging`.
    ///
    /// # Errors
    ///
    /// [`Error::Start`]; nothing has been written.
    pub(crate) fn start(
        program: &WorkerProgram,
        staging: BorrowedFd<'_>,
        limits: &Limits,
    ) -> Result<Self, Error> {
        let (_, _) = (staging, limits);
        Err(Error::Start {
            program: program.exe.clone(),
            source: io::Error::from(io::ErrorKind::Unsupported),
        })
    }

    /// Tells the worker that the layer is complete, and waits for its report.
    ///
    /// The facts are the worker's claim: the caller compares `diff_id` with what the image's
    /// configuration demands.
    ///
    /// # Errors
    ///
    /// [`Error`] for whatever stopped the worker; the staging directory is partly filled.
    pub(crate) fn finish(self) -> Result<LayerFacts, Error> {
        Err(Error::Died { how: "never started".to_owned() })
    }
}

impl io::Write for Unpack {
    fn write(&mut self, _bytes: &[u8]) -> io::Result<usize> {
        Err(io::Error::from(io::ErrorKind::BrokenPipe))
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
