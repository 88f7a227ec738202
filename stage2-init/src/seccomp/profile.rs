//! From a profile somebody wrote to a program: [`SeccompProfile`] with its rules in order.
//!
//! The first rule that matches a call decides. Arguments are compared as 64 bits, unsigned. What no
//! profile can allow is a call of another architecture or of x32, whose numbers mean something
//! else; and where the default is to deny, calls newer than the table fail with `ENOSYS`, so that a
//! C library falls back. A profile that does not fit into a filter is refused, never cut.

use std::collections::BTreeMap;

use pod_abi::isolators::{SeccompAction, SeccompArg, SeccompOp, SeccompProfile};
use pod_abi::syscalls::{NEWEST, TABLE};
use pod_sys::MAX_INSTRUCTIONS;

use super::assembly::{
    ALLOW, ARGUMENTS, AT_LEAST, Assembly, ENOSYS, EQUAL, Instruction, Label, MORE_THAN,
};

/// Why a profile is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProfileError {
    /// The kernel takes only so many instructions.
    #[error("a seccomp profile of more than {MAX_INSTRUCTIONS} instructions")]
    TooLong,
    /// A call has six arguments.
    #[error("a seccomp rule for argument {0} (calls have 0 to 5)")]
    Argument(u8),
    /// Error numbers end there.
    #[error("a seccomp rule that answers error {0} (errors are 0 to 4095)")]
    Errno(u16),
}

/// `SECCOMP_RET_LOG`.
const LOG: u32 = 0x7ffc_0000;
/// `SECCOMP_RET_KILL_PROCESS`.
const KILL_PROCESS: u32 = 0x8000_0000;
/// `SECCOMP_RET_KILL_THREAD`.
const KILL_THREAD: u32 = 0;
/// `SECCOMP_RET_TRAP`.
const TRAP: u32 = 0x0003_0000;
/// `SECCOMP_RET_ERRNO`.
const ERRNO: u32 = 0x0005_0000;
/// The highest error number (`MAX_ERRNO`).
const MAX_ERRNO: u16 = 4095;

/// The first number of a call of x32.
const X32: u32 = 0x4000_0000;

/// Where a number leads: answers and what must hold for each, tried in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Chain<'p> {
    rules: Vec<(&'p [SeccompArg], u32)>,
    otherwise: u32,
}

/// Compiles a profile.
///
/// # Errors
///
/// [`ProfileError`].
pub(crate) fn compile(profile: &SeccompProfile) -> Result<Vec<Instruction>, ProfileError> {
    let chains = chains(profile)?;
    let mut size = 0;
    let mut ranges: Vec<(u32, Chain<'_>)> = Vec::new();
    for (first, chain) in chains {
        if ranges.last().is_none_or(|(_, last)| *last != chain) {
            size += chain.rules.iter().map(|(args, _)| args.len() + 1).sum::<usize>();
            if size > MAX_INSTRUCTIONS {
                return Err(ProfileError::TooLong);
            }
            ranges.push((first, chain));
        }
    }
    let program = Assembly::default().by_number(&ranges, &mut build);
    if program.len() > MAX_INSTRUCTIONS { Err(ProfileError::TooLong) } else { Ok(program) }
}

/// Returns where numbers lead, each with the first number from which it does, ascending from 0.
fn chains(profile: &SeccompProfile) -> Result<Vec<(u32, Chain<'_>)>, ProfileError> {
    let otherwise = answer(profile.default_action)?;
    let mut named: BTreeMap<&str, Chain<'_>> = BTreeMap::new();
    for rule in &profile.syscalls {
        let action = answer(rule.action)?;
        if let Some(arg) = rule.args.iter().find(|arg| arg.index > 5) {
            return Err(ProfileError::Argument(arg.index));
        }
        for name in &rule.names {
            let chain = named.entry(name).or_default();
            // Nothing comes through to what stands behind a rule that always matches.
            if chain.rules.last().is_none_or(|(args, _)| !args.is_empty()) {
                chain.rules.push((&rule.args, action));
            }
        }
    }
    let unnamed = |otherwise| Chain { rules: Vec::new(), otherwise };
    let mut chains = Vec::new();
    let mut next = 0;
    for (number, name, _) in TABLE {
        if *number > next {
            chains.push((next, unnamed(otherwise)));
        }
        let mut chain = named.remove(name).unwrap_or_default();
        chain.otherwise = otherwise;
        if chain.rules.last().is_some_and(|(args, _)| args.is_empty()) {
            chain.otherwise = chain.rules.pop().map_or(otherwise, |(_, action)| action);
        }
        chains.push((*number, chain));
        next = number + 1;
    }
    let permits = otherwise == ALLOW || otherwise == LOG;
    chains.push((NEWEST + 1, unnamed(if permits { otherwise } else { ENOSYS })));
    chains.push((X32, unnamed(ENOSYS)));
    Ok(chains)
}

fn answer(action: SeccompAction) -> Result<u32, ProfileError> {
    Ok(match action {
        SeccompAction::Allow => ALLOW,
        SeccompAction::Log => LOG,
        SeccompAction::Errno(errno) if errno <= MAX_ERRNO => ERRNO | u32::from(errno),
        SeccompAction::Errno(errno) => return Err(ProfileError::Errno(errno)),
        SeccompAction::KillProcess => KILL_PROCESS,
        SeccompAction::KillThread => KILL_THREAD,
        SeccompAction::Trap => TRAP,
    })
}

fn build(assembly: &mut Assembly, chain: &Chain<'_>) -> Label {
    let mut next = assembly.answer(chain.otherwise);
    for (args, action) in chain.rules.iter().rev() {
        let mut matched = assembly.answer(*action);
        for arg in args.iter().rev() {
            matched = test(assembly, arg, matched, next);
        }
        next = matched;
    }
    next
}

/// Goes on at `yes` if `arg` holds, else at `no`.
fn test(assembly: &mut Assembly, arg: &SeccompArg, yes: Label, no: Label) -> Label {
    let low = ARGUMENTS + u32::from(arg.index) * 8;
    let words = Words { low, value: halves(arg.value) };
    match arg.op {
        SeccompOp::Equal => words.equal(assembly, yes, no),
        SeccompOp::NotEqual => words.equal(assembly, no, yes),
        SeccompOp::GreaterEqual => words.ordered(assembly, AT_LEAST, (yes, no)),
        SeccompOp::LessThan => words.ordered(assembly, AT_LEAST, (no, yes)),
        SeccompOp::GreaterThan => words.ordered(assembly, MORE_THAN, (yes, no)),
        SeccompOp::LessEqual => words.ordered(assembly, MORE_THAN, (no, yes)),
        SeccompOp::MaskedEqual => words.masked(assembly, halves(arg.value_two), (yes, no)),
    }
}

/// An argument by the two words it is loaded in, and the halves of what it is compared with, the
/// high one first.
#[derive(Clone, Copy)]
struct Words {
    low: u32,
    value: [u32; 2],
}

impl Words {
    fn equal(self, assembly: &mut Assembly, yes: Label, no: Label) -> Label {
        let [high_value, low_value] = self.value;
        let low = assembly.branch(EQUAL, low_value, yes, no);
        let low = assembly.load(self.low, low);
        let high = assembly.branch(EQUAL, high_value, low, no);
        assembly.load(self.low + 4, high)
    }

    /// Compares by `by` what is equal in its high half; a greater high half is enough.
    fn ordered(self, assembly: &mut Assembly, by: u16, (yes, no): (Label, Label)) -> Label {
        let [high_value, low_value] = self.value;
        let low = assembly.branch(by, low_value, yes, no);
        let low = assembly.load(self.low, low);
        let same = assembly.branch(EQUAL, high_value, low, no);
        let high = assembly.branch(MORE_THAN, high_value, yes, same);
        assembly.load(self.low + 4, high)
    }

    fn masked(self, assembly: &mut Assembly, wanted: [u32; 2], (yes, no): (Label, Label)) -> Label {
        let [high_mask, low_mask] = self.value;
        let low = assembly.branch(EQUAL, wanted[1], yes, no);
        let low = assembly.mask(low_mask, low);
        let low = assembly.load(self.low, low);
        let high = assembly.branch(EQUAL, wanted[0], low, no);
        let high = assembly.mask(high_mask, high);
        assembly.load(self.low + 4, high)
    }
}

/// Cuts a number into its high and its low half.
fn halves(number: u64) -> [u32; 2] {
    let half = |bits: u64| u32::try_from(bits & u64::from(u32::MAX)).unwrap_or(u32::MAX);
    [half(number >> 32), half(number)]
}

#[cfg(test)]
mod tests {
    use super::super::assembly::{EPERM, X86_64};
    use super::super::interpreter::{Call, run};
    use super::super::sock_filter;
    use super::*;
    use pod_abi::isolators::SeccompRule;
    use proptest::prelude::*;

    const NAMES: [&str; 7] =
        ["read", "write", "clone", "prctl", "clone3", "file_setattr", "no_such_call"];
    const VALUES: [u64; 9] =
        [0, 1, 0xff, 0x7fff_ffff, 0xffff_ffff, 1 << 32, (1 << 32) + 1, 0xff << 32, u64::MAX];

    fn number(name: &str) -> Option<u32> {
        TABLE.iter().find(|(_, known, _)| *known == name).map(|(number, ..)| *number)
    }

    /// What a profile says of a call, read without the compiler.
    fn told(profile: &SeccompProfile, call: &Call) -> u32 {
        let holds = |arg: &SeccompArg| {
            let is = call.arguments[usize::from(arg.index)];
            match arg.op {
                SeccompOp::NotEqual => is != arg.value,
                SeccompOp::LessThan => is < arg.value,
                SeccompOp::LessEqual => is <= arg.value,
                SeccompOp::Equal => is == arg.value,
                SeccompOp::GreaterEqual => is >= arg.value,
                SeccompOp::GreaterThan => is > arg.value,
                SeccompOp::MaskedEqual => is & arg.value == arg.value_two,
            }
        };
        let default = answer(profile.default_action).unwrap();
        if call.architecture != X86_64 || call.number >= X32 {
            return ENOSYS;
        }
        if call.number > NEWEST && default != ALLOW && default != LOG {
            return ENOSYS;
        }
        let named = |name: &String| number(name) == Some(call.number);
        let mut rules = profile.syscalls.iter();
        let first = rules.find(|rule| rule.names.iter().any(named) && rule.args.iter().all(holds));
        first.map_or(default, |rule| answer(rule.action).unwrap())
    }

    fn an_action() -> impl Strategy<Value = SeccompAction> {
        prop_oneof![
            Just(SeccompAction::Allow),
            Just(SeccompAction::Log),
            Just(SeccompAction::KillProcess),
            Just(SeccompAction::KillThread),
            Just(SeccompAction::Trap),
            (0..=MAX_ERRNO).prop_map(SeccompAction::Errno),
        ]
    }

    fn an_argument() -> impl Strategy<Value = SeccompArg> {
        use SeccompOp::{
            Equal, GreaterEqual, GreaterThan, LessEqual, LessThan, MaskedEqual, NotEqual,
        };
        let ops = [NotEqual, LessThan, LessEqual, Equal, GreaterEqual, GreaterThan, MaskedEqual];
        let value = || prop::sample::select(VALUES.to_vec());
        (0..6_u8, value(), value(), prop::sample::select(ops.to_vec()))
            .prop_map(|(index, value, value_two, op)| SeccompArg { index, value, value_two, op })
    }

    fn a_rule() -> impl Strategy<Value = SeccompRule> {
        let names = prop::sample::subsequence(&NAMES[..], 1..4);
        let args = prop::collection::vec(an_argument(), 0..4);
        (names, an_action(), args).prop_map(|(names, action, args)| SeccompRule {
            names: names.into_iter().map(str::to_owned).collect(),
            action,
            args,
        })
    }

    fn a_call() -> impl Strategy<Value = Call> {
        let numbers: Vec<u32> = NAMES.iter().filter_map(|name| number(name)).collect();
        let odd = [NEWEST + 1, X32 - 1, X32, X32 + 1, u32::MAX, 400];
        let number = prop_oneof![8 => prop::sample::select(numbers), 1 => prop::sample::select(odd.to_vec())];
        let arguments = prop::array::uniform6(prop::sample::select(VALUES.to_vec()));
        let architecture = prop_oneof![9 => Just(X86_64), 1 => Just(0x4000_0003)];
        (architecture, number, arguments).prop_map(|(architecture, number, arguments)| Call {
            architecture,
            number,
            arguments,
        })
    }

    fn compiled(profile: &SeccompProfile) -> Vec<pod_sys::SockFilter> {
        compile(profile).unwrap().into_iter().map(sock_filter).collect()
    }

    proptest! {
        #[test]
        fn a_program_says_what_its_profile_says(
            default_action in an_action(),
            syscalls in prop::collection::vec(a_rule(), 0..30),
            calls in prop::collection::vec(a_call(), 40),
        ) {
            let profile = SeccompProfile { default_action, syscalls };
            let program = compiled(&profile);
            for call in calls {
                prop_assert_eq!(run(&program, &call), told(&profile, &call), "{:x?}", call);
            }
        }
    }

    fn rules(count: u64) -> SeccompProfile {
        let rule = |value| SeccompRule {
            names: vec!["prctl".to_owned(), "read".to_owned()],
            action: SeccompAction::Errno(u16::try_from(value % 4000).unwrap()),
            args: vec![SeccompArg { index: 1, value, value_two: 0, op: SeccompOp::Equal }],
        };
        let syscalls = (0..count).map(rule).collect();
        SeccompProfile { default_action: SeccompAction::Errno(1), syscalls }
    }

    #[test]
    fn jumps_reach_over_long_chains() {
        let profile = rules(300);
        let program = compiled(&profile);
        for value in [0, 1, 150, 299, 300, 1 << 32] {
            for number in ["prctl", "read", "write"].map(|name| number(name).unwrap()) {
                let arguments = [0, value, 0, 0, 0, 0];
                let call = Call { architecture: X86_64, number, arguments };
                assert_eq!(run(&program, &call), told(&profile, &call), "{call:x?}");
            }
        }
    }

    #[test]
    fn what_makes_no_filter_is_refused() {
        assert_eq!(compile(&rules(1000)), Err(ProfileError::TooLong));
        let mut profile = rules(1);
        profile.syscalls[0].args[0].index = 6;
        assert_eq!(compile(&profile), Err(ProfileError::Argument(6)));
        let mut profile = rules(1);
        profile.syscalls[0].action = SeccompAction::Errno(4096);
        assert_eq!(compile(&profile), Err(ProfileError::Errno(4096)));
        assert_eq!(answer(SeccompAction::Errno(1)), Ok(EPERM));
    }
}
