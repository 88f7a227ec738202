//! Which devices an app may use: rules, and the program that enforces them on its cgroup.
//!
//! Whoever cannot make device nodes and finds only his own needs no rules: so it is behind a user
//! namespace. They are enforced where an app could make a node, mount one, or has one of which it
//! may do only a part. Pure: the program is made here and attached by `devices`.

use pod_abi::app::AppSpec;
use pod_abi::isolators::{Capability, DeviceAccess};
use pod_abi::manifest::Insecure;
use pod_abi::stage::{AppOrder, Order};
use pod_sys::BpfInstruction;

/// A kind of device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A stream of bytes.
    Character,
    /// Blocks.
    Block,
}

/// Something that is allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Rule {
    /// Of which kind.
    pub(crate) kind: Kind,
    /// The major number.
    pub(crate) major: u32,
    /// The minor number; all if not given.
    pub(crate) minor: Option<u32>,
    /// What may be done.
    pub(crate) access: DeviceAccess,
}

const ALL: DeviceAccess = DeviceAccess { read: true, write: true, make: true };
const USE: DeviceAccess = DeviceAccess { read: true, write: true, make: false };

const fn character(major: u32, minor: Option<u32>, access: DeviceAccess) -> Rule {
    Rule { kind: Kind::Character, major, minor, access }
}

/// What every app may use (`Documentation/admin-guide/devices.txt`): null, zero, full, random,
/// urandom, tty, console, the terminals' multiplexer, and terminals. A node of the first six can
/// be made anywhere, for nobody is served by denying that.
pub(crate) const OF_EVERY_APP: [Rule; 9] = [
    character(1, Some(3), ALL),
    character(1, Some(5), ALL),
    character(1, Some(7), ALL),
    character(1, Some(8), ALL),
    character(1, Some(9), ALL),
    character(5, Some(0), ALL),
    character(5, Some(1), USE),
    character(5, Some(2), USE),
    character(136, None, USE),
];

/// Tells whether the rules must be enforced for an app, or hold by themselves. An app that may
/// write `/sys` was given the host's hardware already, and is not kept from it.
pub(crate) fn are_needed(order: &Order, app: &AppOrder) -> bool {
    let AppSpec { devices, process, writable_sys, .. } = &app.spec;
    let powers = [Capability::Mknod, Capability::SysAdmin];
    let held = powers.iter().any(|power| process.capabilities.0.contains(power));
    let given_up = *writable_sys || order.pod.sandbox.insecure.contains(&Insecure::Paths);
    let partial = devices.iter().any(|one| !(one.access.read && one.access.write));
    partial || (order.ids.is_none() && held && !given_up)
}

// The words of eBPF (`Documentation/bpf/standardization/instruction-set.rst`).
const LOAD_WORD: u8 = 0x61;
const AND: u8 = 0x57;
const SHIFT_RIGHT: u8 = 0x77;
const MOVE: u8 = 0xb7;
const MOVE_REGISTER: u8 = 0xbf;
const JUMP_IF_NOT_EQUAL: u8 = 0x55;
const EXIT: u8 = 0x95;

/// The context: `struct bpf_cgroup_dev_ctx`, three words.
const CONTEXT: u8 = 1;
const ACCESS: u8 = 2;
const KIND: u8 = 3;
const MAJOR: u8 = 4;
const MINOR: u8 = 5;
const DENIED: u8 = 6;

const fn word(code: u8, to: u8, from: u8, offset: i16, immediate: i32) -> BpfInstruction {
    BpfInstruction { code, registers: to | from << 4, offset, immediate }
}

/// Makes the program: the first rule that fits allows, and where none does, it is denied.
pub(crate) fn program(rules: &[Rule]) -> Vec<BpfInstruction> {
    // The first word of the context: the kind in its low half, the access asked for in its high.
    let mut program = vec![
        word(LOAD_WORD, ACCESS, CONTEXT, 0, 0),
        word(MOVE_REGISTER, KIND, ACCESS, 0, 0),
        word(AND, KIND, 0, 0, 0xffff),
        word(SHIFT_RIGHT, ACCESS, 0, 0, 16),
        word(LOAD_WORD, MAJOR, CONTEXT, 4, 0),
        word(LOAD_WORD, MINOR, CONTEXT, 8, 0),
    ];
    for rule in rules {
        program.extend(one(rule));
    }
    program.extend([word(MOVE, 0, 0, 0, 0), word(EXIT, 0, 0, 0, 0)]);
    program
}

fn one(rule: &Rule) -> Vec<BpfInstruction> {
    let kind = match rule.kind {
        Kind::Block => 1,
        Kind::Character => 2,
    };
    let DeviceAccess { make, read, write } = rule.access;
    let denied = [(1, make), (2, read), (4, write)];
    let denied: i32 = denied.iter().filter(|(_, allowed)| !allowed).map(|(bit, _)| bit).sum();
    let mut tests = vec![(KIND, kind), (MAJOR, rule.major.cast_signed())];
    tests.extend(rule.minor.map(|minor| (MINOR, minor.cast_signed())));
    // Behind the tests: copy, mask, compare, allow, leave.
    let (mut made, mut left) = (Vec::new(), i16::try_from(tests.len()).unwrap_or_default() + 5);
    for (register, value) in tests {
        left -= 1;
        made.push(word(JUMP_IF_NOT_EQUAL, register, 0, left, value));
    }
    made.extend([
        word(MOVE_REGISTER, DENIED, ACCESS, 0, 0),
        word(AND, DENIED, 0, 0, denied),
        word(JUMP_IF_NOT_EQUAL, DENIED, 0, 2, 0),
        word(MOVE, 0, 0, 0, 1),
        word(EXIT, 0, 0, 0, 0),
    ]);
    made
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs a program as the kernel does; panics on what the verifier would refuse.
    fn run(program: &[BpfInstruction], context: [u32; 3]) -> u64 {
        let mut registers = [0_u64; 11];
        let mut at = 0;
        loop {
            let BpfInstruction { code, registers: both, offset, immediate } = program[at];
            let (to, from) = (usize::from(both & 0xf), usize::from(both >> 4));
            let operand = i64::from(immediate).cast_unsigned();
            at += 1;
            match code {
                LOAD_WORD => {
                    registers[to] = u64::from(context[usize::try_from(offset).unwrap() / 4]);
                }
                MOVE => registers[to] = operand,
                MOVE_REGISTER => registers[to] = registers[from],
                AND => registers[to] &= operand,
                SHIFT_RIGHT => registers[to] >>= operand,
                JUMP_IF_NOT_EQUAL if registers[to] != operand => {
                    at += usize::try_from(offset).unwrap();
                }
                JUMP_IF_NOT_EQUAL => {}
                EXIT => return registers[0],
                _ => panic!("{code:#x}"),
            }
        }
    }

    fn allows(rules: &[Rule], kind: u32, (major, minor): (u32, u32), access: u32) -> bool {
        run(&program(rules), [access << 16 | kind, major, minor]) == 1
    }

    const MAKE: u32 = 1;
    const READ: u32 = 2;
    const WRITE: u32 = 4;

    #[test]
    fn every_app_may_use_its_own_devices_and_no_others() {
        for access in [MAKE, READ, WRITE, READ | WRITE, MAKE | READ | WRITE] {
            let name = format!("{access}");
            assert!(allows(&OF_EVERY_APP, 2, (1, 3), access), "null {name}");
            let using = access & MAKE == 0;
            assert_eq!(allows(&OF_EVERY_APP, 2, (5, 2), access), using, "ptmx {name}");
            assert_eq!(allows(&OF_EVERY_APP, 2, (136, 77), access), using, "pts {name}");
            for (kind, numbers) in [(2, (1, 1)), (2, (10, 237)), (1, (1, 3)), (1, (8, 0))] {
                assert!(!allows(&OF_EVERY_APP, kind, numbers, access), "{kind} {numbers:?} {name}");
            }
        }
    }

    #[test]
    fn a_part_of_a_device_is_no_more_than_that() {
        let access = DeviceAccess { read: true, write: false, make: false };
        let rule = Rule { kind: Kind::Block, major: 254, minor: Some(16), access };
        let mut rules = OF_EVERY_APP.to_vec();
        rules.push(rule);
        assert!(allows(&rules, 1, (254, 16), READ));
        for access in [WRITE, READ | WRITE, MAKE, MAKE | READ] {
            assert!(!allows(&rules, 1, (254, 16), access), "{access}");
        }
        assert!(!allows(&rules, 2, (254, 16), READ));
        assert!(!allows(&rules, 1, (254, 17), READ));
    }

    #[test]
    fn numbers_beyond_the_sign_are_numbers() {
        let rule = Rule { kind: Kind::Character, major: 0xfff, minor: Some(0xf_ffff), access: ALL };
        assert!(allows(&[rule], 2, (0xfff, 0xf_ffff), READ));
    }
}
