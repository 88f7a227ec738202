//! The outer half of unpacking: starts the worker, feeds it, hears its report.

use std::io::{self, Read, Write};
use std::os::fd::{AsRawFd, BorrowedFd};
use std::process::{Child, ChildStdin, Command, Stdio};

use pod_abi::frame;

use super::error::{Error, ErrorKind};
use super::facts::{LayerFacts, Limits, WorkerProgram};
use super::fault::Shown;
use super::tree::Root;
use super::wire::{MAX_REPORT, Orders, Report};

/// How much a pipe to the worker holds: what an unprivileged user may have, so it is always had.
const PIPE: usize = 1 << 20;

/// A layer that is being unpacked. Write the compressed bytes to it, then call
/// [`finish`](Self::finish).
///
/// A write that fails with [`io::ErrorKind::BrokenPipe`] means that the worker gave up early;
/// `finish` then returns its reason. Dropping it kills the worker. It must be finished or dropped
/// by the thread that started it, for the worker dies with that thread (`PR_SET_PDEATHSIG`).
#[derive(Debug)]
pub(crate) struct Unpack {
    worker: Child,
    /// `None` once the layer is complete.
    input: Option<ChildStdin>,
    staging: Root,
}

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
        let failed = |source| Error::Start { program: program.exe.clone(), source };
        let staging = staging.try_clone_to_owned().map_err(failed)?;
        let mut worker = Command::new(&program.exe)
            .args(&program.args)
            .env_clear()
            .current_dir(format!("/proc/self/fd/{}", staging.as_raw_fd()))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(failed)?;
        let input = worker.stdin.take();
        let mut unpack = Self { worker, input, staging: Root::new(staging) };
        let orders = frame::encode(&Orders { limits: *limits })
            .map_err(|error| failed(io::Error::other(error)))?;
        match unpack.write_all(&orders) {
            // It ended at once; `finish` tells why.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {}
            result => result.map_err(failed)?,
        }
        if let Some(input) = &unpack.input {
            let _ = rustix::pipe::fcntl_setpipe_size(input, PIPE); // only speed is lost
        }
        Ok(unpack)
    }

    /// Tells the worker that the layer is complete, and waits for its report.
    ///
    /// The facts are the worker's claim: the caller compares `diff_id` with what the image's
    /// configuration demands.
    ///
    /// # Errors
    ///
    /// [`Error`] for whatever stopped the worker; the staging directory is partly filled.
    pub(crate) fn finish(mut self) -> Result<LayerFacts, Error> {
        self.input = None;
        let mut said = Vec::new();
        if let Some(output) = self.worker.stdout.take() {
            let read = output.take(MAX_REPORT + 1).read_to_end(&mut said);
            read.map_err(|source| Error::Report { source })?;
        }
        if said.is_empty() {
            let how = self.worker.wait().map(|status| status.to_string());
            return Err(Error::Died { how: how.unwrap_or_else(|error| error.to_string()) });
        }
        if said.len() as u64 > MAX_REPORT {
            let source = io::Error::other("it is longer than 16 MiB");
            return Err(Error::Report { source });
        }
        let report: Report = serde_json::from_slice(&said)
            .map_err(|error| Error::Report { source: io::Error::from(error) })?;
        let (facts, opaque_dirs) = report.into_result()?;
        // What has said that all is well and then died was not well.
        match self.worker.wait() {
            Ok(status) if status.success() => {}
            Ok(status) => return Err(Error::Died { how: status.to_string() }),
            Err(error) => return Err(Error::Died { how: error.to_string() }),
        }
        for path in opaque_dirs {
            self.mark_opaque(&path)?;
        }
        Ok(facts)
    }

    fn mark_opaque(&self, path: &[u8]) -> Result<(), Error> {
        self.staging.mark_opaque(path).map_err(|errno| Error::Failed {
            kind: ErrorKind::Storage,
            message: format!("cannot mark `{}` opaque", Shown::of(path)),
            source: Some(errno.into()),
        })
    }
}

impl Write for Unpack {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match &mut self.input {
            Some(input) => input.write(bytes),
            None => Err(io::Error::from(io::ErrorKind::BrokenPipe)),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for Unpack {
    fn drop(&mut self) {
        let _ = self.worker.kill(); // it may have ended
        let _ = self.worker.wait(); // nothing to learn any more
    }
}
