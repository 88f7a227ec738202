//! Programs of classic BPF, put together from their end.
//!
//! Classic BPF jumps forward only, and only so far by a condition; whoever builds a part after what
//! it leads to never has to fill anything in. Knows instructions and distances, and no policy.
//! Shared with the build script, so it uses nothing of this crate.

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
/// `BPF_JMP | BPF_JGT | BPF_K`.
pub(crate) const MORE_THAN: u16 = 0x25;
/// `BPF_JMP | BPF_JGE | BPF_K`.
pub(crate) const AT_LEAST: u16 = 0x35;
/// `BPF_JMP | BPF_JSET | BPF_K`.
pub(crate) const ANY_BIT: u16 = 0x45;
/// `BPF_ALU | BPF_AND | BPF_K`.
pub(crate) const AND: u16 = 0x54;
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

/// Offsets in `struct seccomp_data`: number, architecture, the arguments of eight bytes each, low
/// half first; those of the first two.
pub(crate) const NUMBER: u32 = 0;
pub(crate) const ARCHITECTURE: u32 = 4;
pub(crate) const ARGUMENTS: u32 = 16;
pub(crate) const FIRST: u32 = ARGUMENTS;
pub(crate) const SECOND: u32 = 24;

/// A program under construction, last instruction first.
#[derive(Default)]
pub(crate) struct Assembly {
    reversed: Vec<Instruction>,
}

/// A place in a program: how many instructions stand at or behind it.
#[derive(Clone, Copy)]
pub(crate) struct Label(usize);

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

    /// Compares the word that was loaded, and goes on at `yes` or `no`.
    pub(crate) fn branch(&mut self, code: u16, k: u32, yes: Label, no: Label) -> Label {
        let yes = self.near(yes, 1);
        let no = self.near(no, 0);
        let short = |distance: usize| u8::try_from(distance).unwrap_or(u8::MAX);
        let (jt, jf) = (short(self.distance(yes)), short(self.distance(no)));
        self.push(Instruction { code, jt, jf, k })
    }

    /// Loads a word and goes on at `then`.
    pub(crate) fn load(&mut self, offset: u32, then: Label) -> Label {
        if self.distance(then) != 0 {
            let k = u32::try_from(self.distance(then)).unwrap_or(u32::MAX);
            self.push(Instruction { code: JUMP, jt: 0, jf: 0, k });
        }
        self.push(Instruction { code: LOAD, jt: 0, jf: 0, k: offset })
    }

    /// Masks the word that was loaded and goes on at `then`, which was put last.
    pub(crate) fn mask(&mut self, mask: u32, then: Label) -> Label {
        debug_assert_eq!(self.distance(then), 0, "a mask stands before what looks at it");
        self.push(Instruction { code: AND, jt: 0, jf: 0, k: mask })
    }

    /// Returns the place of an answer, an earlier one if there is one in reach.
    pub(crate) fn answer(&mut self, answer: u32) -> Label {
        let wanted = Instruction { code: RETURN, jt: 0, jf: 0, k: answer };
        let reach = self.reversed.len().saturating_sub(usize::from(u8::MAX) - 2);
        match self.reversed[reach..].iter().rposition(|present| *present == wanted) {
            Some(index) => Label(reach + index + 1),
            None => self.push(wanted),
        }
    }

    /// Returns a program that decides by the number of a call: `ranges` are first numbers with what
    /// they lead to, ascending from 0, and `leaf` builds that. Calls of another architecture fail
    /// with `ENOSYS`.
    pub(crate) fn by_number<L>(
        mut self,
        ranges: &[(u32, L)],
        leaf: &mut dyn FnMut(&mut Self, &L) -> Label,
    ) -> Vec<Instruction> {
        let tree = self.tree(ranges, leaf);
        let entry = self.load(NUMBER, tree);
        let foreign = self.answer(ENOSYS);
        let check = self.branch(EQUAL, X86_64, entry, foreign);
        self.load(ARCHITECTURE, check);
        self.reversed.reverse();
        self.reversed
    }

    /// Builds the balanced tree over `ranges`, the larger half of every cut first.
    fn tree<L>(
        &mut self,
        ranges: &[(u32, L)],
        leaf: &mut dyn FnMut(&mut Self, &L) -> Label,
    ) -> Label {
        match ranges {
            [] => self.answer(ENOSYS),
            [(_, one)] => leaf(self, one),
            _ => {
                let (low, high) = ranges.split_at(ranges.len() / 2);
                let first = high[0].0;
                let high = self.tree(high, leaf);
                let low = self.tree(low, leaf);
                self.branch(AT_LEAST, first, high, low)
            }
        }
    }
}
