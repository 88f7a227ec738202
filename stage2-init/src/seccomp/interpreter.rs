//! Runs filters as the kernel would, for tests; panics where the kernel's checker would refuse one.

use pod_sys::SockFilter;

use super::assembly::{
    AND, ANY_BIT, ARCHITECTURE, ARGUMENTS, AT_LEAST, EQUAL, JUMP, LOAD, MORE_THAN, NUMBER, RETURN,
};

/// `struct seccomp_data`, as far as filters of ours look at it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Call {
    pub(super) architecture: u32,
    pub(super) number: u32,
    pub(super) arguments: [u64; 6],
}

impl Call {
    fn word(&self, offset: u32) -> u32 {
        let half = |bits: u64| u32::try_from(bits & 0xffff_ffff).unwrap();
        match offset {
            NUMBER => self.number,
            ARCHITECTURE => self.architecture,
            ARGUMENTS..64 if offset.is_multiple_of(4) => {
                let place = offset - ARGUMENTS;
                let argument = self.arguments[place as usize / 8];
                half(if place.is_multiple_of(8) { argument } else { argument >> 32 })
            }
            _ => panic!("offset {offset}"),
        }
    }
}

pub(super) fn run(program: &[SockFilter], call: &Call) -> u32 {
    let (mut at, mut word) = (0_usize, 0_u32);
    loop {
        let SockFilter { code, jt, jf, k } = program[at];
        at += 1;
        let mut decide = |holds: bool| at += usize::from(if holds { jt } else { jf });
        match code {
            LOAD => word = call.word(k),
            AND => word &= k,
            EQUAL => decide(word == k),
            MORE_THAN => decide(word > k),
            AT_LEAST => decide(word >= k),
            ANY_BIT => decide(word & k != 0),
            JUMP => at += k as usize,
            RETURN => return k,
            _ => panic!("code {code}"),
        }
    }
}
