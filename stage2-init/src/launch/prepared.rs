//! A process as the kernel wants it: everything parsed and allocated before it exists.

use std::borrow::Cow;
use std::ffi::CString;
use std::io;

use nix::sys::resource::Resource;
use nix::unistd::{Gid, Uid};
use pod_abi::app::Process;
use pod_abi::isolators::RlimitKind;
use pod_abi::path::PodPath;
use pod_sys::SockFilter;
use rustix::thread::CapabilitySet;

use super::failure::{At, Failure, Phase};
use super::sockets::Sockets;
use crate::seccomp;

/// Where programs are looked up if the app's environment has no `PATH`.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The umask of a process that asks for none.
const DEFAULT_UMASK: u32 = 0o022;

/// A process, ready to be made.
#[derive(Debug)]
pub(super) struct Prepared<'spec> {
    /// What to try to execute, in this order; none if the program can be nowhere.
    pub(super) candidates: Vec<CString>,
    pub(super) program: &'spec str,
    /// Where it is looked up if its name has no slash.
    pub(super) path: &'spec str,
    pub(super) arguments: Vec<CString>,
    pub(super) environment: Vec<CString>,
    pub(super) cwd: &'spec PodPath,
    pub(super) uid: Uid,
    pub(super) gid: Gid,
    pub(super) groups: Vec<Gid>,
    pub(super) umask: u32,
    pub(super) capabilities: CapabilitySet,
    pub(super) no_new_privileges: bool,
    pub(super) filter: Option<Cow<'static, [SockFilter]>>,
    pub(super) limits: Vec<(Resource, u64, u64)>,
    pub(super) oom_score_adj: Option<i16>,
}

impl<'spec> Prepared<'spec> {
    /// Prepares a process.
    ///
    /// # Errors
    ///
    /// [`Phase::Prepare`] if there is no program or a string holds a NUL byte, [`Phase::Profile`]
    /// if its seccomp profile makes no filter.
    pub(super) fn new(process: &'spec Process, sockets: Sockets<'_>) -> Result<Self, Failure> {
        let text = |text: &str, what: &str| CString::new(text).at(Phase::Prepare, what);
        let Some(program) = process.args.first() else {
            let error = io::Error::from_raw_os_error(rustix::io::Errno::INVAL.raw_os_error());
            return Err(Failure::new(Phase::Prepare, &error, "an empty command"));
        };
        let path = process.env.iter().find(|var| var.name() == "PATH");
        let path = path.map_or(DEFAULT_PATH, |path| path.value());
        let candidates = candidates(program, path);
        let candidates = candidates.iter().map(|path| text(path, "the program's name"));
        let arguments = process.args.iter().map(|word| text(word, "the arguments"));
        let own = process.env.iter().filter(|var| !sockets.explain(var.name()));
        let own = own.map(|var| text(var.as_str(), "the environment"));
        let environment = own.chain(sockets.variables().map(|var| text(&var, "the environment")));
        let filter = seccomp::filter(&process.seccomp, &process.capabilities);
        let filter =
            filter.map_err(|error| Failure::without_cause(Phase::Profile, error.to_string()))?;
        let user = &process.user;
        Ok(Self {
            candidates: candidates.collect::<Result<_, _>>()?,
            program,
            path,
            arguments: arguments.collect::<Result<_, _>>()?,
            environment: environment.collect::<Result<_, _>>()?,
            cwd: &process.cwd,
            uid: Uid::from_raw(user.uid),
            gid: Gid::from_raw(user.gid),
            groups: user.additional_gids.iter().copied().map(Gid::from_raw).collect(),
            umask: user.umask.unwrap_or(DEFAULT_UMASK) & 0o777,
            capabilities: CapabilitySet::from_bits_retain(process.capabilities.bits()),
            no_new_privileges: process.no_new_privileges,
            filter,
            limits: process
                .rlimits
                .iter()
                .map(|limit| (resource(limit.kind), limit.soft, limit.hard))
                .collect(),
            oom_score_adj: process.oom_score_adj,
        })
    }
}

/// Returns the paths a program may be at.
///
/// Entries of `PATH` that are not absolute are left out: what they would mean changes with the
/// working directory, which an image can fill.
fn candidates(program: &str, path: &str) -> Vec<String> {
    if program.is_empty() {
        Vec::new()
    } else if program.contains('/') {
        vec![program.to_owned()]
    } else {
        let directories = path.split(':').filter(|directory| directory.starts_with('/'));
        directories.map(|directory| format!("{directory}/{program}")).collect()
    }
}

const fn resource(kind: RlimitKind) -> Resource {
    match kind {
        RlimitKind::As => Resource::RLIMIT_AS,
        RlimitKind::Core => Resource::RLIMIT_CORE,
        RlimitKind::Cpu => Resource::RLIMIT_CPU,
        RlimitKind::Data => Resource::RLIMIT_DATA,
        RlimitKind::Fsize => Resource::RLIMIT_FSIZE,
        RlimitKind::Locks => Resource::RLIMIT_LOCKS,
        RlimitKind::Memlock => Resource::RLIMIT_MEMLOCK,
        RlimitKind::Msgqueue => Resource::RLIMIT_MSGQUEUE,
        RlimitKind::Nice => Resource::RLIMIT_NICE,
        RlimitKind::Nofile => Resource::RLIMIT_NOFILE,
        RlimitKind::Nproc => Resource::RLIMIT_NPROC,
        RlimitKind::Rss => Resource::RLIMIT_RSS,
        RlimitKind::Rtprio => Resource::RLIMIT_RTPRIO,
        RlimitKind::Rttime => Resource::RLIMIT_RTTIME,
        RlimitKind::Sigpending => Resource::RLIMIT_SIGPENDING,
        RlimitKind::Stack => Resource::RLIMIT_STACK,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_with_a_slash_is_not_looked_up() {
        assert_eq!(candidates("./a", "/bin"), ["./a"]);
        assert_eq!(candidates("/a", "/bin"), ["/a"]);
        assert_eq!(candidates("a", "/bin::.:lib:/usr/bin"), ["/bin/a", "/usr/bin/a"]);
        assert!(candidates("", "/bin").is_empty());
    }
}
