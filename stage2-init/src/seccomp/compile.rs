//! From the table to a program: a balanced tree over ranges of numbers.
//!
//! The kernel runs a new filter once for every system call to learn which are always allowed, so
//! the program's depth is what a start pays: a list of the same policy costs five times as much.
//! Assembled from its end, because classic BPF jumps forward only. Shared with the build script,
//! so it uses nothing of this crate but the table.

use super::table::{
    AF_PACKET, CLONE_NAMESPACES, FAMILIES, IOCTLS, NET_RAW, NEWEST, PERSONALITIES, Rule, SYS_ADMIN,
    TABLE, UNSHARE_NAMESPACES,
};

/// One instruction of classic BPF.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Instruction {
    pub(crate) code: u16,
    pub(crate) jt: u8,
    pub(crate) jf: u8,
    pub(crate) k: u32,
}

/// `BPF_LD | BPF_W | BPF_ABS`: loads a word of `struct seccomp_data`.
pub(crate) const LOAD: u16 = 0x20;
/// `BPF_JMP | BPF_JEQ | BPF_K`.
pub(crate) const EQUAL: u16 = 0x15;
/// `BPF_JMP | BPF_JGE | BPF_K`.
pub(crate) const AT_LEAST: u16 = 0x35;
/// `BPF_JMP | BPF_JSET | BPF_K`.
pub(crate) const ANY_BIT: u16 = 0x45;
/// `BPF_JMP | BPF_JA`.
pub(crate) const JUMP: u16 = 0x05;
/// `BPF_RET | BPF_K`.
pub(crate) const RETURN: u16 = 0x06;

/// `SECCOMP_RET_ALLOW`.
pub(crate) const ALLOW: u32 = 0x7fff_0000;
/// `SECCOMP_RET_ERRNO` with `EPERM`.
pub(crate) const EPERM: u32 = 0x0005_0001;
/// `SECCOMP_RET_ERRNO` with `ENOSYS`.
pub(crate) const ENOSYS: u32 = 0x0005_0026;
/// `SECCOMP_RET_ERRNO` with `EAFNOSUPPORT`.
pub(crate) const EAFNOSUPPORT: u32 = 0x0005_0061;

/// `AUDIT_ARCH_X86_64`.
pub(crate) const X86_64: u32 = 0xc000_003e;

/// Offsets in `struct seccomp_data`: number, architecture, low halves of the first two arguments.
pub(crate) const NUMBER: u32 = 0;
pub(crate) const ARCHITECTURE: u32 = 4;
pub(crate) const FIRST: u32 = 16;
pub(crate) const SECOND: u32 = 24;

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
    let mut assembly = Assembly::default();
    let ranges = ranges(capabilities);
    let tree = assembly.tree(&ranges, capabilities);
    let entry = assembly.load(NUMBER, tree);
    let foreign = assembly.answer(ENOSYS);
    let check = assembly.branch(EQUAL, X86_64, entry, foreign);
    let start = assembly.load(ARCHITECTURE, check);
    assembly.finish(start)
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

/// A program under construction, last instruction first.
#[derive(Default)]
struct Assembly {
    reversed: Vec<Instruction>,
}

/// A place in a program: how many instructions stand at or behind it.
#[derive(Clone, Copy)]
struct Label(usize);

impl Assembly {
    fn push(&mut self, instruction: Instruction) -> Label {
        self.reversed.push(instruction);
        Label(self.reversed.len())
    }

    /// Returns how far a jump from the next instruction to `label` is.
    fn distance(&self, label: Label) -> usize {
        self.reversed.len() - label.0
    }

    /// Returns a label in reach of a short jump that leads to `label`.
    ///
    /// `room` is how many instructions may still come between.
    fn near(&mut self, label: Label, room: usize) -> Label {
        let distance = self.distance(label);
        if distance + room <= usize::from(u8::MAX) {
            return label;
        }
        let target = self.reversed[label.0 - 1];
        if target.code == RETURN {
            return self.push(target);
        }
        let k = u32::try_from(distance).unwrap_or(u32::MAX);
        self.push(Instruction { code: JUMP, jt: 0, jf: 0, k })
    }

    fn branch(&mut self, code: u16, k: u32, yes: Label, no: Label) -> Label {
        let yes = self.near(yes, 1);
        let no = self.near(no, 0);
        let short = |distance: usize| u8::try_from(distance).unwrap_or(u8::MAX);
        let (jt, jf) = (short(self.distance(yes)), short(self.distance(no)));
        self.push(Instruction { code, jt, jf, k })
    }

    /// Loads a word and goes on at `then`.
    fn load(&mut self, offset: u32, then: Label) -> Label {
        if self.distance(then) != 0 {
            let k = u32::try_from(self.distance(then)).unwrap_or(u32::MAX);
            self.push(Instruction { code: JUMP, jt: 0, jf: 0, k });
        }
        self.push(Instruction { code: LOAD, jt: 0, jf: 0, k: offset })
    }

    /// Returns the place of an answer, an earlier one if there is one in reach.
    fn answer(&mut self, answer: u32) -> Label {
        let wanted = Instruction { code: RETURN, jt: 0, jf: 0, k: answer };
        let reach = self.reversed.len().saturating_sub(usize::from(u8::MAX) - 2);
        match self.reversed[reach..].iter().rposition(|present| *present == wanted) {
            Some(index) => Label(reach + index + 1),
            None => self.push(wanted),
        }
    }

    /// Builds the tree over `ranges`, the larger half of every cut first.
    fn tree(&mut self, ranges: &[(u32, Leaf)], capabilities: u64) -> Label {
        match ranges {
            [] => self.answer(ENOSYS),
            [(_, leaf)] => self.leaf(*leaf, capabilities),
            _ => {
                let (low, high) = ranges.split_at(ranges.len() / 2);
                let first = high[0].0;
                let high = self.tree(high, capabilities);
                let low = self.tree(low, capabilities);
                self.branch(AT_LEAST, first, high, low)
            }
        }
    }

    fn leaf(&mut self, leaf: Leaf, capabilities: u64) -> Label {
        match leaf {
            Leaf::Answer(answer) => self.answer(answer),
            Leaf::Look(Rule::Cloning) => self.unless_any_bit(CLONE_NAMESPACES),
            Leaf::Look(Rule::Unsharing) => self.unless_any_bit(UNSHARE_NAMESPACES),
            Leaf::Look(Rule::Socket) => {
                let packet = (capabilities & NET_RAW != 0).then_some(AF_PACKET);
                let families: Vec<u32> = FAMILIES.into_iter().chain(packet).collect();
                self.one_of(FIRST, &families, ALLOW, EAFNOSUPPORT)
            }
            Leaf::Look(Rule::Ioctl) => self.one_of(SECOND, &IOCTLS, EPERM, ALLOW),
            Leaf::Look(Rule::Personality) => self.one_of(FIRST, &PERSONALITIES, ALLOW, EPERM),
            // A rule that looks at nothing would be a mistake in `leaf`: answer as for unknown.
            Leaf::Look(_) => self.answer(ENOSYS),
        }
    }

    /// Denies if the first argument has a bit of `mask`.
    fn unless_any_bit(&mut self, mask: u32) -> Label {
        let denied = self.answer(EPERM);
        let allowed = self.answer(ALLOW);
        let test = self.branch(ANY_BIT, mask, denied, allowed);
        self.load(FIRST, test)
    }

    /// Answers `then` if the argument is one of `values`, else `otherwise`.
    fn one_of(&mut self, argument: u32, values: &[u32], then: u32, otherwise: u32) -> Label {
        let mut next = self.answer(otherwise);
        let then = self.answer(then);
        for value in values {
            next = self.branch(EQUAL, *value, then, next);
        }
        self.load(argument, next)
    }

    fn finish(mut self, start: Label) -> Vec<Instruction> {
        debug_assert_eq!(start.0, self.reversed.len(), "a program starts at its first instruction");
        self.reversed.reverse();
        self.reversed
    }
}
