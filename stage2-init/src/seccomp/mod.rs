//! The seccomp profile of an app.
//!
//! The default profile is a constant, compiled from [`pod_abi::syscalls`] by the build script; an
//! app that may hold other capabilities than the default set gets the table compiled for it, by
//! the same code; a profile of its own is compiled when the app is started. Nothing here installs a filter: that is the launcher's last step before
//! `execve`.

mod assembly;
mod compile;
#[cfg(test)]
mod interpreter;
mod profile;

use std::borrow::Cow;

use pod_abi::isolators::{Capabilities, Seccomp};
use pod_abi::syscalls as table;
use pod_sys::SockFilter;

pub use self::profile::ProfileError;

include!(concat!(env!("OUT_DIR"), "/default_profile.rs"));

/// Returns the filter for an app with these wishes, or `None` if it wants none.
///
/// # Errors
///
/// [`ProfileError`] if its own profile makes no filter.
pub fn filter(
    profile: &Seccomp,
    capabilities: &Capabilities,
) -> Result<Option<Cow<'static, [SockFilter]>>, ProfileError> {
    let program = match profile {
        Seccomp::Unconfined => return Ok(None),
        Seccomp::Default if unlocked(capabilities.bits()) == unlocked(BUILT_FOR) => {
            return Ok(Some(Cow::Borrowed(&DEFAULT_PROFILE)));
        }
        Seccomp::Default => compile::compile(capabilities.bits()),
        Seccomp::Profile(profile) => profile::compile(profile)?,
    };
    Ok(Some(Cow::Owned(program.into_iter().map(sock_filter).collect())))
}

/// Returns the filter for a process that needs nothing beyond the default profile.
#[must_use]
pub fn default_filter() -> &'static [SockFilter] {
    &DEFAULT_PROFILE
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

const fn sock_filter(from: assembly::Instruction) -> SockFilter {
    SockFilter { code: from.code, jt: from.jt, jf: from.jf, k: from.k }
}

#[cfg(test)]
mod tests {
    use super::assembly::{ALLOW, EAFNOSUPPORT, ENOSYS, EPERM, X86_64};
    use super::interpreter::{Call, run};
    use super::table::{NEWEST, Rule, TABLE};
    use super::*;
    use pod_abi::isolators::Capability;
    use pod_abi::seccomp::default_profile;

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
        let [first, second, ..] = call.arguments.map(|argument| argument & 0xffff_ffff);
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
            for [first, second] in pairs {
                let arguments = [first, second, 0, 0, 0, 0];
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
            let program = filter(&Seccomp::Default, &Capabilities(set.collect()));
            let program = program.unwrap().unwrap();
            assert!(program.len() <= 256, "{} instructions", program.len());
            prove(&program, bits);
        }
    }

    #[test]
    fn so_does_the_default_profile_in_the_words_of_the_runtime_spec() {
        for set in [Capabilities::default(), Capabilities::default_set()] {
            let written = Seccomp::Profile(Box::new(default_profile(&set)));
            prove(&filter(&written, &set).unwrap().unwrap(), set.bits());
        }
    }

    #[test]
    fn the_default_profile_is_small_and_for_the_contracts_default_set() {
        assert!(DEFAULT_PROFILE.len() <= 256, "{} instructions", DEFAULT_PROFILE.len());
        assert_eq!(BUILT_FOR, Capabilities::default_set().bits());
        let borrowed = filter(&Seccomp::Default, &Capabilities::default_set());
        assert!(matches!(borrowed, Ok(Some(Cow::Borrowed(_)))));
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
            let call = Call { architecture: X86_64, number: number(name), arguments: [0; 6] };
            assert_eq!(run(&DEFAULT_PROFILE, &call), EPERM, "{name}");
            assert_eq!(told(&call, default), EPERM, "{name}");
        }
    }
}
