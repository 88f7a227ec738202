//! Supervisors in sessions of their own, where no service manager looks after them.
//!
//! A supervisor is our child until we end. It says on a socket of ours that its pod is ready; the
//! lock of a pod being laid out passes to it unbroken.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::os::fd::{AsRawFd, OwnedFd};
use std::process::{Child, Command, Stdio};

use pod_abi::PodName;
use pod_abi::stage::HELD;
use rustix::fs::MemfdFlags;
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use super::{Begin, Start, Started, Stopping, Supervision};
use crate::error::{Context as _, Result};
use crate::notify::{Heard, NotifySocket, READY};
use crate::pods::{Draft, Pod, Pods};
use crate::ui;

/// Starts supervisors in sessions of their own.
#[derive(Debug)]
pub(crate) struct Sessions;

impl Supervision for Sessions {
    fn start<'s>(&'s self, start: Start<'s>) -> Result<Box<dyn Started + 's>> {
        let Start { context, pod, draft, begin, .. } = start;
        let tell = || format!("cannot start a supervisor for pod `{}`", pod.id);
        let notify = NotifySocket::bind(pod)?;
        let errors = rustix::fs::memfd_create("stderr", MemfdFlags::CLOEXEC)
            .context(|| "cannot make memory for messages".to_owned())?;
        let errors = File::from(errors);
        let mut command = Command::new("/proc/self/exe");
        command
            .arg("--root")
            .arg(&context.root)
            .arg("--run-root")
            .arg(&context.run_root)
            .args((context.format == ui::Format::Json).then_some("--json"))
            .args(["start", "--supervised"])
            .args((begin == Begin::WithClient).then_some("--hold"))
            .env_clear()
            .env("NOTIFY_SOCKET", &notify.name)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(errors.try_clone().context(tell)?);
        if let Some(draft) = &draft {
            // The lock belongs to the open file, so it is the child's as well as ours.
            let number = draft.dir().as_raw_fd();
            pod_sys::place(draft.dir(), number).context(tell)?;
            command.arg(format!("--locked={number}"));
        }
        let child = command.arg(pod.id.as_str()).spawn().context(tell)?;
        Ok(Box::new(Session { child, notify, errors, _draft: draft }))
    }

    fn check_name(&self, _: &Pods, _: &PodName) -> Result<()> {
        Ok(())
    }

    fn stop(&self, _: &Pod) -> Result<Option<Box<dyn Stopping + '_>>> {
        Ok(None)
    }

    fn restart(&self, _: &Pod) -> Result<bool> {
        Ok(false)
    }

    fn describe(&self) -> String {
        "none: pods are looked after by nobody but their supervisors".to_owned()
    }

    fn forget(&self, _: &Pod) -> Result<()> {
        Ok(())
    }
}

/// A supervisor that is our child.
#[derive(Debug)]
struct Session<'s> {
    child: Child,
    notify: NotifySocket,
    /// What it prints, which is nothing but errors.
    errors: File,
    /// Until the supervisor has moved the pod on, dropping this discards it.
    _draft: Option<Draft<'s>>,
}

impl Started for Session<'_> {
    fn await_ready(&mut self) -> Result<Heard> {
        self.notify.wait(&self.child, READY)
    }

    fn await_held(&mut self) -> Result<Heard> {
        self.notify.wait(&self.child, HELD)
    }

    fn ending(&self) -> Result<OwnedFd> {
        pidfd_open(Pid::from_child(&self.child), PidfdFlags::empty())
            .context(|| "cannot wait for the supervisor".to_owned())
    }

    fn end(&mut self) -> Result<Option<u8>> {
        let status = self.child.wait().context(|| "cannot wait for the supervisor".to_owned())?;
        Ok(status.code().and_then(|code| u8::try_from(code).ok()))
    }

    fn show_errors(&mut self) -> bool {
        let mut said = Vec::new();
        let read = self.errors.seek(SeekFrom::Start(0));
        let read = read.and_then(|_| self.errors.read_to_end(&mut said)).is_ok();
        if read && !said.is_empty() {
            ui::bytes_note(&said);
        }
        read && !said.is_empty()
    }

    fn abandon(&mut self) -> Result<()> {
        // A pod that is held for a client ends by itself if none comes.
        Ok(())
    }
}
