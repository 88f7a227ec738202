//! The system calls of each thread, each with its reason. Whatever else is tried ends the process.

use confine::Call;

use crate::machine::Role;

/// `PROT_EXEC`: memory from which something can be executed.
const EXECUTABLE: u32 = 4;
/// `KVM_RUN`.
const RUN: u32 = 0xae80;
/// `TUNSETOFFLOAD`.
const OFFLOAD: u32 = 0x4004_54d0;
/// `F_GETFD`, `F_GETFL`.
const FLAGS: [u32; 2] = [1, 3];

/// What every thread may need: memory, locks, the time, an end, and to say what a bug was.
pub const COMMON: &[Call] = &[
    // An eventfd: an interrupt, a bell of another thread.
    Call::served("write"),
    // Memory of the allocator, from which nothing can be executed.
    Call::seldom("brk"),
    Call::seldom("mmap").without(2, EXECUTABLE),
    Call::seldom("mprotect").without(2, EXECUTABLE),
    Call::seldom("munmap"),
    Call::seldom("mremap"),
    Call::seldom("madvise"),
    // Locks and channels between threads, when somebody has to wait.
    Call::seldom("futex"),
    Call::seldom("sched_yield"),
    // Where the time cannot be read without the kernel.
    Call::seldom("clock_gettime"),
    // A build for debugging asks, before it closes a descriptor, whether it is open.
    Call::seldom("fcntl").with(1, &FLAGS),
    Call::seldom("close"),
    // The end of a thread, and of the process.
    Call::seldom("sigaltstack"),
    Call::seldom("rt_sigprocmask"),
    Call::seldom("rt_sigreturn"),
    Call::seldom("restart_syscall"),
    Call::seldom("exit"),
    Call::seldom("exit_group"),
    // A panic, which is a bug, says where and ends the process by a signal.
    Call::seldom("rt_sigaction"),
    Call::seldom("getpid"),
    Call::seldom("gettid"),
    Call::seldom("tgkill"),
];

/// A processor's: it runs, and rings bells.
pub const PROCESSOR: &[Call] = &[Call::served("ioctl").with(1, &[RUN])];

/// The disks': they wait, and read and write files that are open.
pub const DISKS: &[Call] = &[
    Call::served("epoll_pwait"),
    Call::seldom("epoll_ctl"),
    // Bells.
    Call::served("read"),
    Call::seldom("preadv"),
    Call::seldom("pwritev2"),
    Call::seldom("pread64"),
    Call::seldom("pwrite64"),
    // A driver's flush of the scratch disk.
    Call::seldom("fdatasync"),
    Call::seldom("fsync"),
];

/// The loop's: the helm, streams, packets of the network, servers of shares.
pub const LOOP: &[Call] = &[
    Call::served("epoll_pwait"),
    Call::seldom("epoll_ctl"),
    Call::served("read"),
    // The helm, with descriptors.
    Call::served("sendmsg"),
    Call::seldom("recvmsg"),
    // Streams: sockets, pipes, terminals, files.
    Call::seldom("recvfrom"),
    Call::seldom("sendto"),
    Call::seldom("preadv2"),
    Call::seldom("pwritev2"),
    Call::seldom("splice"),
    Call::seldom("pipe2"),
    Call::seldom("poll"),
    Call::seldom("ppoll"),
    Call::seldom("shutdown"),
    // What a descriptor is that was brought, and how long a file.
    Call::seldom("fstat"),
    Call::seldom("newfstatat").with(3, &[EMPTY_PATH]),
    Call::seldom("statx").with(2, &[EMPTY_PATH]),
    Call::seldom("lseek"),
    // What a driver can do with packets is told to the tap.
    Call::seldom("ioctl").with(1, &[OFFLOAD]),
];

/// `AT_EMPTY_PATH`: of an open file.
const EMPTY_PATH: u32 = 0x1000;

/// All calls of a role.
pub fn of(role: Role) -> impl Iterator<Item = &'static Call> {
    let own = match role {
        Role::Loop => LOOP,
        Role::Disks => DISKS,
        Role::Processor => PROCESSOR,
    };
    COMMON.iter().chain(own)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_call_is_known_and_stands_there_once() {
        for role in [Role::Loop, Role::Disks, Role::Processor] {
            let mut numbers: Vec<_> = of(role).map(Call::number).collect();
            let all = numbers.len();
            assert!(numbers.iter().all(Option::is_some));
            numbers.sort_unstable();
            numbers.dedup();
            assert_eq!(numbers.len(), all);
        }
    }
}
