//! From the table to a program: a balanced tree over ranges of numbers.
//!
//! The kernel runs a new filter once for every system call to learn which are always allowed, so
//! the program's depth is what a start pays: a list of the same policy costs five times as much.
//! Shared with the build script,
//! so it uses nothing of this crate but the assembly.

use super::assembly::{
    ALLOW, ANY_BIT, Assembly, EAFNOSUPPORT, ENOSYS, EPERM, EQUAL, FIRST, Instruction, Label, SECOND,
};
use super::table::{
    AF_PACKET, CLONE_NAMESPACES, FAMILIES, IOCTLS, NET_RAW, NEWEST, PERSONALITIES, Rule, SYS_ADMIN,
    TABLE, UNSHARE_NAMESPACES,
};

/// Where a number leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Leaf {
    /// This answer.
    Answer(u32),
    /// A look at the arguments.
    Look(Rule),
}

/// Returns where a rule leads for an app that may hold `capabilities`.
pub(crate) fn leaf(rule: Rule, capabilities: u64) -> Leaf {
    let admin = capabilities & SYS_ADMIN != 0;
    match rule {
        Rule::Allow => Leaf::Answer(ALLOW),
        Rule::Denied => Leaf::Answer(EPERM),
        Rule::Absent => Leaf::Answer(ENOSYS),
        Rule::Needs(any) if capabilities & any != 0 => Leaf::Answer(ALLOW),
        Rule::Needs(_) => Leaf::Answer(EPERM),
        Rule::Cloning | Rule::Cloning3 | Rule::Unsharing if admin => Leaf::Answer(ALLOW),
        Rule::Cloning3 => Leaf::Answer(ENOSYS),
        look => Leaf::Look(look),
    }
}

/// Compiles the table for an app that may hold `capabilities`.
pub(crate) fn compile(capabilities: u64) -> Vec<Instruction> {
    let ranges = ranges(capabilities);
    Assembly::default()
        .by_number(&ranges, &mut |assembly, leaf| look(assembly, *leaf, capabilities))
}

/// Cuts all numbers into ranges with the same leaf: first numbers, ascending from 0.
fn ranges(capabilities: u64) -> Vec<(u32, Leaf)> {
    let absent = Leaf::Answer(ENOSYS);
    let mut ranges: Vec<(u32, Leaf)> = Vec::new();
    let mut push = |first: u32, leaf: Leaf| {
        if ranges.last().is_none_or(|(_, last)| *last != leaf) {
            ranges.push((first, leaf));
        }
    };
    let mut next = 0;
    for (number, _, rule) in TABLE {
        if *number > next {
            push(next, absent);
        }
        push(*number, leaf(*rule, capabilities));
        next = number + 1;
    }
    push(NEWEST + 1, absent);
    ranges
}

/// Builds where a range leads.
fn look(assembly: &mut Assembly, leaf: Leaf, capabilities: u64) -> Label {
    match leaf {
        Leaf::Answer(answer) => assembly.answer(answer),
        Leaf::Look(Rule::Cloning) => unless_any_bit(assembly, CLONE_NAMESPACES),
        Leaf::Look(Rule::Unsharing) => unless_any_bit(assembly, UNSHARE_NAMESPACES),
        Leaf::Look(Rule::Socket) => {
            let packet = (capabilities & NET_RAW != 0).then_some(AF_PACKET);
            let families: Vec<u32> = FAMILIES.into_iter().chain(packet).collect();
            one_of(assembly, FIRST, &families, ALLOW, EAFNOSUPPORT)
        }
        Leaf::Look(Rule::Ioctl) => one_of(assembly, SECOND, &IOCTLS, EPERM, ALLOW),
        Leaf::Look(Rule::Personality) => one_of(assembly, FIRST, &PERSONALITIES, ALLOW, EPERM),
        // A rule that looks at nothing would be a mistake in `leaf`: answer as for unknown.
        Leaf::Look(_) => assembly.answer(ENOSYS),
    }
}

/// Denies if the first argument has a bit of `mask`.
fn unless_any_bit(assembly: &mut Assembly, mask: u32) -> Label {
    let denied = assembly.answer(EPERM);
    let allowed = assembly.answer(ALLOW);
    let test = assembly.branch(ANY_BIT, mask, denied, allowed);
    assembly.load(FIRST, test)
}

/// Answers `then` if the argument is one of `values`, else `otherwise`.
fn one_of(
    assembly: &mut Assembly,
    argument: u32,
    values: &[u32],
    then: u32,
    otherwise: u32,
) -> Label {
    let mut next = assembly.answer(otherwise);
    let then = assembly.answer(then);
    for value in values {
        next = assembly.branch(EQUAL, *value, then, next);
    }
    assembly.load(argument, next)
}
