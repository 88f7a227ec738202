//! Tables of system calls that are let through. Whatever else is tried ends the process.

use std::collections::BTreeMap;
use std::io;

use pod_abi::syscalls::TABLE;
use seccompiler::{
    BackendError, BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition,
    SeccompFilter, SeccompRule, TargetArch, apply_filter,
};

use super::{During, Fault};

/// What a violation does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnViolation {
    /// Ends the process.
    Kill,
    /// Sends the thread `SIGSYS`, which ends the process unless it is handled.
    Trap,
}

/// When a call is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Use {
    /// While a guest is served: a test shows that it cannot be left out.
    Served,
    /// By the language's runtime or the allocator, when they see fit; or on a way no test can force.
    Seldom,
}

/// A call that is let through.
#[derive(Clone, Copy, Debug)]
pub struct Call {
    /// Its name.
    pub name: &'static str,
    /// When it is made.
    pub made: Use,
    only: Only,
}

/// Which arguments are let through. Each is looked at as 32 bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Only {
    /// All.
    Any,
    /// The argument of this number, from 0, is one of these.
    OneOf(u8, &'static [u32]),
    /// The argument of this number has none of these bits.
    Without(u8, u32),
}

impl Call {
    /// A call that is made while a guest is served.
    #[must_use]
    pub const fn served(name: &'static str) -> Self {
        Self { name, made: Use::Served, only: Only::Any }
    }

    /// A call that no test forces.
    #[must_use]
    pub const fn seldom(name: &'static str) -> Self {
        Self { name, made: Use::Seldom, only: Only::Any }
    }

    /// The same, with one of these for the argument of this number only.
    #[must_use]
    pub const fn with(self, argument: u8, one_of: &'static [u32]) -> Self {
        Self { only: Only::OneOf(argument, one_of), ..self }
    }

    /// The same, without any of these bits in the argument of this number.
    #[must_use]
    pub const fn without(self, argument: u8, bits: u32) -> Self {
        Self { only: Only::Without(argument, bits), ..self }
    }

    /// Its number; `None` for a name that is no call's.
    #[must_use]
    pub fn number(&self) -> Option<i64> {
        let found = TABLE.iter().find(|(_, name, _)| *name == self.name);
        found.map(|(number, ..)| i64::from(*number))
    }
}

/// Lets this thread, and those it starts, make these calls from now on and no others.
///
/// Needs that nothing that is executed can gain anything: [`super::give_up`].
///
/// # Errors
///
/// [`Fault`]: a call has no number, or `seccomp(2)` fails; nothing is restricted then.
pub fn allow<'c>(calls: impl IntoIterator<Item = &'c Call>, on: OnViolation) -> Result<(), Fault> {
    let program = compile(calls, on).map_err(io::Error::other).during("compile(seccomp)")?;
    apply_filter(&program).map_err(io::Error::other).during("seccomp(SECCOMP_SET_MODE_FILTER)")
}

fn compile<'c>(
    calls: impl IntoIterator<Item = &'c Call>,
    on: OnViolation,
) -> Result<BpfProgram, BackendError> {
    let mut rules: BTreeMap<i64, Vec<SeccompRule>> = BTreeMap::new();
    for call in calls {
        // A call without a number stays forbidden; a test finds it.
        if let Some(number) = call.number() {
            rules.entry(number).or_default().extend(call.only.rules()?);
        }
    }
    let violation = match on {
        OnViolation::Kill => SeccompAction::KillProcess,
        OnViolation::Trap => SeccompAction::Trap,
    };
    SeccompFilter::new(rules, violation, SeccompAction::Allow, TargetArch::x86_64)?.try_into()
}

impl Only {
    /// None lets all arguments through; otherwise one of them has to hold.
    fn rules(self) -> Result<Vec<SeccompRule>, BackendError> {
        let rule = |argument, operator, value: u32| {
            let length = SeccompCmpArgLen::Dword;
            let condition = SeccompCondition::new(argument, length, operator, u64::from(value))?;
            SeccompRule::new(vec![condition])
        };
        match self {
            Self::Any => Ok(Vec::new()),
            Self::OneOf(argument, values) => {
                values.iter().map(|value| rule(argument, SeccompCmpOp::Eq, *value)).collect()
            }
            Self::Without(argument, bits) => {
                Ok(vec![rule(argument, SeccompCmpOp::MaskedEq(u64::from(bits)), 0)?])
            }
        }
    }
}
