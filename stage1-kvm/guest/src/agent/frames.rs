//! Passing frames from INNER to stage2-init, with the descriptors their tokens stand for.

use std::os::fd::OwnedFd;
use std::time::Instant;

use pod_abi::AppName;
use pod_abi::app::User;
use pod_abi::exit::{Ended, OURS};
use pod_abi::guest::{Carried, ExecStreams};
use pod_abi::inner::{FromInit, ToInit};
use rustix::fs::{Gid, OFlags, Uid, fchown, fcntl_setfl};
use rustix::pipe::{PipeFlags, pipe_with};
use supervisor::{During, Failure, Terminal, Wall};

use super::Agent;
use crate::machine::Machine;
use crate::stream::Way;
use crate::streams::too_many;

/// The most streams of one process.
const OF_A_PROCESS: usize = 3;

impl<M: Machine> Agent<'_, M> {
    /// Passes on what the host has sent, as far as stage2-init takes it.
    pub(super) fn pass_inward(&mut self) -> Result<(), Failure> {
        let mut more = true;
        loop {
            let Some(inner) = &mut self.inner else { return Ok(()) };
            inner.init.flush()?;
            if !inner.init.is_free() {
                // It takes more later, and that is told.
                return Ok(());
            }
            if let Some(carried) = inner.host.take::<Carried>()? {
                // What was told to terminals before this frame was sent holds before it.
                self.streams.heed_controls();
                self.forward(carried)?;
            } else if more {
                more = inner.host.read()?;
            } else {
                return Ok(());
            }
        }
    }

    fn forward(&mut self, carried: Carried) -> Result<(), Failure> {
        let Carried { message, streams } = carried;
        let descriptors = match &message {
            ToInit::AddApp { spec, fds } => {
                let unknown = || Failure::new(format!("app `{}` is not laid out", spec.name));
                let app = self.apps.get_mut(&spec.name).ok_or_else(unknown)?;
                if *fds != app.fds {
                    return Err(Failure::new("the host tells of descriptors there are not"));
                }
                Ok(std::mem::take(&mut app.descriptors))
            }
            ToInit::Exec { id, app, process, .. } => {
                self.connect_process(*id, app, &process.user, streams)
            }
            ToInit::Copy { id, app, .. } => self.connect_process(*id, app, &ROOT, streams),
            _ => Ok(Vec::new()),
        };
        match (descriptors, &message) {
            (Ok(descriptors), _) => {
                let Some(inner) = &mut self.inner else { return Ok(()) };
                inner.init.send(&message, descriptors)
            }
            (Err(failure), ToInit::Exec { id, .. } | ToInit::Copy { id, .. }) => {
                // Nobody else will ever tell of this process.
                let error = Some(Box::new(failure.report()));
                let ended =
                    FromInit::ExecEnded { id: *id, exit: Ended::NotStarted { code: OURS }, error };
                let streams = self.execs.remove(id).unwrap_or_default();
                self.words.push(ended, streams, Instant::now());
                Ok(())
            }
            (Err(failure), _) => Err(failure),
        }
    }

    /// Makes the standard streams of a process in an app, and connects them to the host.
    fn connect_process(
        &mut self,
        id: u32,
        app: &AppName,
        user: &User,
        streams: Option<ExecStreams>,
    ) -> Result<Vec<OwnedFd>, Failure> {
        if !self.streams.have_room(OF_A_PROCESS) {
            return Err(too_many());
        }
        let (its, numbers) = match streams {
            None => return Err(Failure::new("a process came without streams")),
            Some(ExecStreams::Terminal(streams)) => {
                let made = self.namespaces.terminal(app, user.uid, streams.size)?;
                let Terminal { master, slave } = made;
                (slave, vec![self.connect_terminal(master, streams)?])
            }
            Some(ExecStreams::Pipes([input, stdout, stderr])) => {
                let (stdin, fed) = pipe(user)?;
                let (out, its_out) = pipe(user)?;
                let (err, its_err) = pipe(user)?;
                let numbers = vec![
                    self.connect_pipe(not_blocking(fed)?, input, Way::In)?,
                    self.connect_pipe(not_blocking(out)?, stdout, Way::Out)?,
                    self.connect_pipe(not_blocking(err)?, stderr, Way::Out)?,
                ];
                (vec![stdin, its_out, its_err], numbers)
            }
        };
        self.execs.insert(id, numbers);
        Ok(its)
    }
}

/// Whose the pipes of a copy are.
const ROOT: User = User { uid: 0, gid: 0, additional_gids: Vec::new(), umask: None };

/// Makes a pipe: the end to read, and the end to write. It belongs to the process's user, so that
/// `/dev/stdout` and its like open.
fn pipe(user: &User) -> Result<(OwnedFd, OwnedFd), Failure> {
    let making = || "cannot make a pipe";
    let (read, write) = pipe_with(PipeFlags::CLOEXEC).during(making)?;
    let owner = (Some(Uid::from_raw(user.uid)), Some(Gid::from_raw(user.gid)));
    fchown(&write, owner.0, owner.1).during(making)?;
    Ok((read, write))
}

/// Our end alone: the other must block as programs expect.
fn not_blocking(pipe: OwnedFd) -> Result<OwnedFd, Failure> {
    fcntl_setfl(&pipe, OFlags::NONBLOCK).during(|| "cannot set up a pipe, fcntl(F_SETFL)")?;
    Ok(pipe)
}
