//! The seccomp profile of an app.
//!
//! The default profile is a constant, compiled from [`pod_abi::syscalls`] by the build script; an
//! app that may hold other capabilities than the default set gets the table compiled for it, by
//! the same code. Nothing here installs a filter: that is the launcher's last step before
//! `execve`.

mod compile;

use std::borrow::Cow;

use pod_abi::isolators::{Capabilities, Seccomp};
use pod_abi::syscalls as table;
use pod_sys::SockFilter;

include!(concat!(env!("OUT_DIR"), "/default_profile.rs"));

/// Returns the filter for an app with these wishes, or `None` if it wants none.
#[must_use]
pub fn filter(
    profile: &Seccomp,
    capabilities: &Capabilities,
) -> Option<Cow<'static, [SockFilter]>> {
    match profile {
        Seccomp::Unconfined => None,
        // Not built yet: nothing passes.
        Seccomp::Profile(_) => Some(Cow::Owned(Vec::new())),
        Seccomp::Default if unlocked(capabilities.bits()) == unlocked(BUILT_FOR) => {
            Some(Cow::Borrowed(&DEFAULT_PROFILE))
        }
        Seccomp::Default => {
            let program = compile::compile(capabilities.bits()).into_iter();
            Some(Cow::Owned(program.map(sock_filter).collect()))
        }
    }
}

/// The capabilities the constant was compiled for.
const BUILT_FOR: u64 = table::DEFAULT_CAPABILITIES;

/// Returns those of `capabilities` that some rule asks for; the others change no filter.
fn unlocked(capabilities: u64) -> u64 {
    let asked = table::TABLE.iter().fold(table::NET_RAW | table::SYS_ADMIN, |all, (_, _, rule)| {
        if let table::Rule::Needs(any) = rule { all | any } else { all }
    });
    capabilities & asked
}

const fn sock_filter(from: compile::Instruction) -> SockFilter {
    SockFilter { code: from.code, jt: from.jt, jf: from.jf, k: from.k }
}

#[cfg(test)]
mod tests {
    use super::compile::{
        ALLOW, ANY_BIT, ARCHITECTURE, AT_LEAST, EAFNOSUPPORT, ENOSYS, EPERM, EQUAL, FIRST, JUMP,
        LOAD, NUMBER, RETURN, SECOND, X86_64,
    };
    use super::table::{NEWEST, Rule, TABLE};
    use super::*;
    use pod_abi::isolators::Capability;

    struct Call {
        architecture: u32,
        number: u32,
        arguments: [u64; 2],
    }

    /// Runs a program as the kernel would; panics where the kernel's checker would refuse it.
    fn run(program: &[SockFilter], call: &Call) -> u32 {
        let low = |argument: u64| u32::try_from(argument & 0xffff_ffff).unwrap();
        let (mut at, mut word) = (0_usize, 0_u32);
        loop {
            let SockFilter { code, jt, jf, k } = program[at];
            at += 1;
            let mut decide = |holds: bool| at += usize::from(if holds { jt } else { jf });
            match code {
                LOAD => {
                    word = match k {
                        NUMBER => call.number,
                        ARCHITECTURE => call.architecture,
                        FIRST => low(call.arguments[0]),
                        SECOND => low(call.arguments[1]),
                        _ => panic!("offset {k}"),
                    }
                }
                EQUAL => decide(word == k),
                AT_LEAST => decide(word >= k),
                ANY_BIT => decide(word & k != 0),
                JUMP => at += k as usize,
                RETURN => return k,
                _ => panic!("code {code}"),
            }
        }
    }

    /// What the table says, read without the compiler.
    fn told(call: &Call, capabilities: u64) -> u32 {
        if call.architecture != X86_64 {
            return ENOSYS;
        }
        let Some((_, _, rule)) = TABLE.iter().find(|(number, ..)| *number == call.number) else {
            return ENOSYS;
        };
        let has = |capability: Capability| capabilities & capability.bit() != 0;
        let pick = |holds: bool, yes, no| if holds { yes } else { no };
        let admin = has(Capability::SysAdmin);
        let [first, second] = call.arguments.map(|argument| argument & 0xffff_ffff);
        match rule {
            Rule::Allow => ALLOW,
            Rule::Denied => EPERM,
            Rule::Absent => ENOSYS,
            Rule::Needs(any) => pick(capabilities & any != 0, ALLOW, EPERM),
            Rule::Cloning => pick(admin || first & 0x7e02_0000 == 0, ALLOW, EPERM),
            Rule::Unsharing => pick(admin || first & 0x7e02_0080 == 0, ALLOW, EPERM),
            Rule::Cloning3 => pick(admin, ALLOW, ENOSYS),
            Rule::Socket => match first {
                1 | 2 | 10 | 16 => ALLOW,
                17 => pick(has(Capability::NetRaw), ALLOW, EAFNOSUPPORT),
                _ => EAFNOSUPPORT,
            },
            Rule::Ioctl => pick([0x5412, 0x541c].contains(&second), EPERM, ALLOW),
            Rule::Personality => {
                pick([0, 8, 0x2_0000, 0x2_0008, 0xffff_ffff].contains(&first), ALLOW, EPERM)
            }
        }
    }

    const ARGUMENTS: [u64; 16] = [
        0,
        1,
        2,
        8,
        10,
        16,
        17,
        38,
        40,
        0x80,
        0x5412,
        0x541c,
        0x1_0000_5412,
        0x2_0008,
        0x1000_0011,
        0xffff_ffff,
    ];

    fn prove(program: &[SockFilter], capabilities: u64) {
        let numbers = (0..NEWEST + 200).chain([0x4000_0000, 0x4000_0029, u32::MAX]);
        for number in numbers {
            let pairs = ARGUMENTS.into_iter().flat_map(|one| [[one, 0], [0, one], [one, one]]);
            for arguments in pairs {
                for architecture in [X86_64, 0x4000_0003] {
                    let call = Call { architecture, number, arguments };
                    let (is, should) = (run(program, &call), told(&call, capabilities));
                    assert_eq!(is, should, "{number} {arguments:#x?}");
                }
            }
        }
    }

    #[test]
    fn the_compiled_profile_says_what_the_table_says() {
        prove(&DEFAULT_PROFILE, Capabilities::default_set().bits());
    }

    #[test]
    fn so_do_profiles_compiled_for_other_capabilities() {
        let single = Capability::ALL.iter().map(|capability| capability.bit());
        for bits in single.chain([0, (1 << 41) - 1]).filter(|bits| unlocked(*bits) != 0) {
            let set = Capability::ALL.iter().copied().filter(|each| bits & each.bit() != 0);
            let program = filter(&Seccomp::Default, &Capabilities(set.collect())).unwrap();
            assert!(program.len() <= 256, "{} instructions", program.len());
            prove(&program, bits);
        }
    }

    #[test]
    fn the_default_profile_is_small_and_for_the_contracts_default_set() {
        assert!(DEFAULT_PROFILE.len() <= 256, "{} instructions", DEFAULT_PROFILE.len());
        assert_eq!(BUILT_FOR, Capabilities::default_set().bits());
        let borrowed = filter(&Seccomp::Default, &Capabilities::default_set());
        assert!(matches!(borrowed, Some(Cow::Borrowed(_))));
    }

    #[test]
    fn the_table_is_in_order_and_its_last_row_is_the_newest() {
        assert!(TABLE.is_sorted_by(|a, b| a.0 < b.0));
        assert_eq!(TABLE.last().map(|row| row.0), Some(NEWEST));
    }

    #[test]
    fn what_made_holes_before_is_denied_by_default() {
        let number = |name: &str| TABLE.iter().find(|row| row.1 == name).unwrap().0;
        let default = Capabilities::default_set().bits();
        for name in [
            "mount",
            "umount2",
            "pivot_root",
            "setns",
            "bpf",
            "perf_event_open",
            "keyctl",
            "add_key",
            "userfaultfd",
            "io_uring_setup",
            "open_by_handle_at",
            "init_module",
            "kexec_load",
            "fsopen",
            "open_tree",
            "move_mount",
            "mount_setattr",
        ] {
            let call = Call { architecture: X86_64, number: number(name), arguments: [0, 0] };
            assert_eq!(run(&DEFAULT_PROFILE, &call), EPERM, "{name}");
            assert_eq!(told(&call, default), EPERM, "{name}");
        }
    }
}
