//! The system calls that are left, each with its reason. Whatever else is tried ends the process.

use confine::Call;
use pod_abi::share::fd::OWN;

/// `PROT_EXEC`: memory from which something can be executed.
const EXECUTABLE: u32 = 4;
/// `F_GETFD`.
const GET_FLAGS: u32 = 1;

/// All that are let through.
pub const CALLS: &[Call] = &[
    // The stream of frames: there is no call of sockets, it is read and written like a file.
    Call::served("read"),
    Call::served("write"),
    // Nodes: found by name, described, let go.
    Call::served("openat2"),
    Call::served("statx"),
    Call::served("close"),
    // A node opened for use, by its number in `/proc/self/fd`. A path from there could lead on into
    // that proc, which has nothing but processes of a namespace of the server's own.
    Call::served("openat").with(0, &[OWN.unsigned_abs()]),
    // Names.
    Call::served("mkdirat"),
    Call::served("mknodat"),
    Call::served("symlinkat"),
    Call::served("linkat"),
    Call::served("unlinkat"),
    Call::served("renameat2"),
    Call::served("readlinkat"),
    Call::served("umask"),
    // Attributes.
    Call::served("fchmodat"),
    Call::served("fchownat"),
    Call::served("utimensat"),
    Call::served("ftruncate"),
    Call::served("fstatfs"),
    Call::served("fsetxattr"),
    Call::served("fgetxattr"),
    Call::served("flistxattr"),
    Call::served("fremovexattr"),
    // Contents.
    Call::served("pread64"),
    Call::served("pwrite64"),
    Call::served("pwritev2"),
    Call::served("lseek"),
    Call::served("getdents64"),
    Call::served("fallocate"),
    Call::served("fsync"),
    Call::served("fdatasync"),
    // In whose name.
    Call::served("setfsuid"),
    Call::served("setfsgid"),
    Call::served("capget"),
    Call::served("capset"),
    // Memory of the allocator, from which nothing can be executed.
    Call::seldom("brk"),
    Call::seldom("mmap").without(2, EXECUTABLE),
    Call::seldom("mprotect").without(2, EXECUTABLE),
    Call::seldom("munmap"),
    Call::seldom("mremap"),
    Call::seldom("madvise"),
    // A build for debugging asks, before it closes a descriptor, whether it is open.
    Call::seldom("fcntl").with(1, &[GET_FLAGS]),
    // The end: an error is written, the stack for signals is given back.
    Call::seldom("writev"),
    Call::seldom("sigaltstack"),
    Call::seldom("rt_sigreturn"),
    Call::seldom("rt_sigprocmask"),
    Call::seldom("exit_group"),
    // A panic, which is a bug, says where and ends the process by a signal.
    Call::seldom("futex"),
    Call::seldom("rt_sigaction"),
    Call::seldom("getpid"),
    Call::seldom("gettid"),
    Call::seldom("tgkill"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_call_is_known_and_stands_there_once() {
        let mut numbers: Vec<_> = CALLS.iter().map(Call::number).collect();
        assert!(numbers.iter().all(Option::is_some));
        numbers.sort_unstable();
        numbers.dedup();
        assert_eq!(numbers.len(), CALLS.len());
    }
}
