//! The system calls that are left, each with its reason. Whatever else is tried ends the process.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::RawFd;

use pod_abi::syscalls::TABLE;
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, TargetArch, apply_filter,
};

use super::{During, Fault};

/// What a violation does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnViolation {
    /// Ends the process.
    Kill,
    /// Sends it `SIGSYS`, which ends it unless it is handled.
    Trap,
}

/// When a call is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Use {
    /// By some request.
    Served,
    /// By the language's runtime or the allocator, when they see fit.
    Runtime,
}

/// Which arguments are let through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Only {
    /// All.
    Any,
    /// A first argument that is the descriptor of `/proc/self/fd`.
    Own,
    /// A second argument that asks for the flags of a descriptor.
    Flags,
    /// A protection, the third argument, that lets nothing be executed.
    NotExecutable,
}

/// A call that is let through.
#[derive(Clone, Copy, Debug)]
pub struct Call {
    /// Its name.
    pub name: &'static str,
    /// When it is made.
    pub made: Use,
    only: Only,
}

const fn served(name: &'static str) -> Call {
    Call { name, made: Use::Served, only: Only::Any }
}

const fn runtime(name: &'static str) -> Call {
    Call { name, made: Use::Runtime, only: Only::Any }
}

/// All that are let through.
#[rustfmt::skip]
pub const CALLS: &[Call] = &[
    // The stream of frames: there is no socket call, for the stream is read and written like a file.
    served("read"),
    served("write"),
    // Nodes: found by name, described, let go.
    served("openat2"),
    served("statx"),
    served("close"),
    // A node opened for use, by its number in `/proc/self/fd`, and by no other way.
    Call { name: "openat", made: Use::Served, only: Only::Own },
    // Names.
    served("mkdirat"),
    served("mknodat"),
    served("symlinkat"),
    served("linkat"),
    served("unlinkat"),
    served("renameat2"),
    served("readlinkat"),
    served("umask"),
    // Attributes.
    served("fchmodat"),
    served("fchownat"),
    served("utimensat"),
    served("ftruncate"),
    served("fstatfs"),
    served("fsetxattr"),
    served("fgetxattr"),
    served("flistxattr"),
    served("fremovexattr"),
    // Contents.
    served("pread64"),
    served("pwrite64"),
    served("pwritev2"),
    served("lseek"),
    served("getdents64"),
    served("fallocate"),
    served("fsync"),
    served("fdatasync"),
    // In whose name.
    served("setfsuid"),
    served("setfsgid"),
    served("capget"),
    served("capset"),
    // Memory of the allocator, from which nothing can be executed.
    runtime("brk"),
    Call { name: "mmap", made: Use::Runtime, only: Only::NotExecutable },
    Call { name: "mprotect", made: Use::Runtime, only: Only::NotExecutable },
    runtime("munmap"),
    runtime("mremap"),
    runtime("madvise"),
    // A build for debugging asks, before it closes a descriptor, whether it is open.
    Call { name: "fcntl", made: Use::Runtime, only: Only::Flags },
    // The end: an error is written, the stack for signals is given back.
    runtime("writev"),
    runtime("sigaltstack"),
    runtime("rt_sigreturn"),
    runtime("rt_sigprocmask"),
    runtime("exit_group"),
    // A panic, which is a bug, says where and ends the process by a signal.
    runtime("futex"),
    runtime("rt_sigaction"),
    runtime("getpid"),
    runtime("gettid"),
    runtime("tgkill"),
];

/// Installs the filter, of those calls that are `wanted`. `own` is the number of the descriptor of
/// `/proc/self/fd`.
pub(super) fn filter(
    own: RawFd,
    on: OnViolation,
    wanted: impl Fn(&str) -> bool,
) -> Result<(), Fault> {
    let calls = CALLS.iter().filter(|call| wanted(call.name));
    let program = compile(calls, own, on).map_err(io::Error::other).during("compile(seccomp)")?;
    apply_filter(&program).map_err(io::Error::other).during("seccomp(SECCOMP_SET_MODE_FILTER)")
}

fn compile<'a>(
    calls: impl Iterator<Item = &'a Call>,
    own: RawFd,
    on: OnViolation,
) -> Result<BpfProgram, seccompiler::BackendError> {
    let mut rules = BTreeMap::new();
    for call in calls {
        if let Some(number) = number(call.name) {
            rules.insert(number, conditions(call.only, own)?);
        }
    }
    let violation = match on {
        OnViolation::Kill => SeccompAction::KillProcess,
        OnViolation::Trap => SeccompAction::Trap,
    };
    SeccompFilter::new(rules, violation, SeccompAction::Allow, TargetArch::x86_64)?.try_into()
}

/// A call's number. Without one it stays forbidden.
fn number(name: &str) -> Option<i64> {
    TABLE.iter().find(|(_, known, _)| *known == name).map(|(number, ..)| i64::from(*number))
}

fn conditions(only: Only, own: RawFd) -> Result<Vec<SeccompRule>, seccompiler::BackendError> {
    /// `PROT_EXEC`.
    const EXECUTABLE: u64 = 4;
    /// `F_GETFD`.
    const GET_FLAGS: u64 = 1;
    let condition = match only {
        Only::Any => return Ok(Vec::new()),
        Only::Own => SeccompCondition::new(
            0,
            SeccompCmpArgLen::Dword,
            SeccompCmpOp::Eq,
            u64::from(own.cast_unsigned()),
        )?,
        Only::Flags => {
            SeccompCondition::new(1, SeccompCmpArgLen::Dword, SeccompCmpOp::Eq, GET_FLAGS)?
        }
        Only::NotExecutable => SeccompCondition::new(
            2,
            SeccompCmpArgLen::Dword,
            SeccompCmpOp::MaskedEq(EXECUTABLE),
            0,
        )?,
    };
    Ok(vec![SeccompRule::new(vec![condition])?])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_call_is_known_and_stands_there_once() {
        let mut names: Vec<&str> = CALLS.iter().map(|call| call.name).collect();
        assert!(names.iter().all(|name| number(name).is_some()));
        names.sort_unstable();
        let all = names.len();
        names.dedup();
        assert_eq!(names.len(), all);
    }
}
