//! `linux.seccomp` of a bundle.
//!
//! Our default profile is written out, for other runtimes have another one, and known again when
//! it is read. Of a profile of the user's the first rule that matches decides with us; libseccomp
//! promises no order, so a profile whose rules disagree may mean something else there.

use oci_spec::runtime as oci;
use oci_spec::runtime::{LinuxSeccompAction as Action, LinuxSeccompOperator as Operator};
use pod_abi::isolators::{
    Capabilities, Seccomp, SeccompAction, SeccompArg, SeccompOp, SeccompProfile, SeccompRule,
};
use pod_abi::seccomp::default_profile;

use super::{Result, unsupported};

/// Comparisons by both names.
const OPERATORS: [(SeccompOp, Operator); 7] = [
    (SeccompOp::NotEqual, Operator::ScmpCmpNe),
    (SeccompOp::LessThan, Operator::ScmpCmpLt),
    (SeccompOp::LessEqual, Operator::ScmpCmpLe),
    (SeccompOp::Equal, Operator::ScmpCmpEq),
    (SeccompOp::GreaterEqual, Operator::ScmpCmpGe),
    (SeccompOp::GreaterThan, Operator::ScmpCmpGt),
    (SeccompOp::MaskedEqual, Operator::ScmpCmpMaskedEq),
];

/// Writes which system calls an app may make; `None` for all of them.
pub(super) fn write(
    seccomp: &Seccomp,
    capabilities: &Capabilities,
) -> Result<Option<oci::LinuxSeccomp>> {
    let profile = match seccomp {
        Seccomp::Unconfined => return Ok(None),
        Seccomp::Default => &default_profile(capabilities),
        Seccomp::Profile(profile) => profile,
    };
    let (action, errno) = words(profile.default_action);
    let mut made = oci::LinuxSeccomp::default();
    made.set_default_action(action)
        .set_default_errno_ret(errno)
        .set_architectures(Some(vec![oci::Arch::ScmpArchX86_64]))
        .set_syscalls(Some(profile.syscalls.iter().map(rule).collect::<Result<_>>()?));
    Ok(Some(made))
}

fn rule(from: &SeccompRule) -> Result<oci::LinuxSyscall> {
    let arg = |arg: &SeccompArg| {
        let op = OPERATORS.iter().find(|(ours, _)| *ours == arg.op).map(|(_, theirs)| *theirs);
        let built = oci::LinuxSeccompArgBuilder::default()
            .index(usize::from(arg.index))
            .value(arg.value)
            .value_two(arg.value_two)
            .op(op.unwrap_or_default()) // every comparison is in the table: tested
            .build()?;
        Ok(built)
    };
    let args: Vec<_> = from.args.iter().map(arg).collect::<Result<_>>()?;
    let (action, errno) = words(from.action);
    let mut made = oci::LinuxSyscall::default();
    made.set_names(from.names.clone())
        .set_action(action)
        .set_errno_ret(errno)
        .set_args((!args.is_empty()).then_some(args));
    Ok(made)
}

const fn words(action: SeccompAction) -> (Action, Option<u32>) {
    match action {
        SeccompAction::Allow => (Action::ScmpActAllow, None),
        SeccompAction::Log => (Action::ScmpActLog, None),
        SeccompAction::Errno(errno) => (Action::ScmpActErrno, Some(errno as u32)),
        SeccompAction::KillProcess => (Action::ScmpActKillProcess, None),
        SeccompAction::KillThread => (Action::ScmpActKillThread, None),
        SeccompAction::Trap => (Action::ScmpActTrap, None),
    }
}

/// Reads which system calls an app may make.
pub(super) fn read(
    from: Option<&oci::LinuxSeccomp>,
    capabilities: &Capabilities,
) -> Result<Seccomp> {
    const AT: &str = "linux.seccomp";
    let Some(from) = from else { return Ok(Seccomp::Unconfined) };
    if from.listener_path().is_some() || from.flags().iter().flatten().next().is_some() {
        return Err(unsupported(AT, "has a listener or flags"));
    }
    let native = [oci::Arch::ScmpArchX86_64, oci::Arch::ScmpArchNative];
    if from.architectures().as_ref().is_some_and(|all| !all.iter().any(|it| native.contains(it))) {
        return Err(unsupported(format!("{AT}.architectures"), "is not this machine's"));
    }
    let profile = SeccompProfile {
        default_action: read_action(from.default_action(), from.default_errno_ret())?,
        syscalls: from.syscalls().iter().flatten().map(read_rule).collect::<Result<_>>()?,
    };
    if profile == default_profile(capabilities) {
        return Ok(Seccomp::Default);
    }
    Ok(Seccomp::Profile(Box::new(profile)))
}

fn read_rule(from: &oci::LinuxSyscall) -> Result<SeccompRule> {
    let arg = |arg: &oci::LinuxSeccompArg| {
        let op = OPERATORS.iter().find(|(_, theirs)| *theirs == arg.op()).map(|(ours, _)| *ours);
        let index = u8::try_from(arg.index()).ok().filter(|index| *index < 6);
        let refused = || unsupported("linux.seccomp.syscalls", "looks at a seventh argument");
        Ok(SeccompArg {
            index: index.ok_or_else(refused)?,
            value: arg.value(),
            value_two: arg.value_two().unwrap_or(0),
            op: op.ok_or_else(refused)?,
        })
    };
    Ok(SeccompRule {
        names: from.names().clone(),
        action: read_action(from.action(), from.errno_ret())?,
        args: from.args().iter().flatten().map(arg).collect::<Result<_>>()?,
    })
}

fn read_action(action: Action, errno: Option<u32>) -> Result<SeccompAction> {
    /// `EPERM`, what the specification means where it is silent.
    const EPERM: u32 = 1;
    Ok(match action {
        Action::ScmpActAllow => SeccompAction::Allow,
        Action::ScmpActLog => SeccompAction::Log,
        Action::ScmpActTrap => SeccompAction::Trap,
        Action::ScmpActKillProcess => SeccompAction::KillProcess,
        Action::ScmpActKill | Action::ScmpActKillThread => SeccompAction::KillThread,
        Action::ScmpActErrno => {
            let errno = u16::try_from(errno.unwrap_or(EPERM)).ok().filter(|errno| *errno < 4096);
            let refused = || unsupported("linux.seccomp", "has an error number beyond 4095");
            SeccompAction::Errno(errno.ok_or_else(refused)?)
        }
        Action::ScmpActNotify | Action::ScmpActTrace => {
            return Err(unsupported("linux.seccomp", format!("asks for `{action}`")));
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_tables_name_every_comparison_once() {
        let unique = |index: usize| {
            OPERATORS.iter().enumerate().all(|(other, pair)| {
                other == index || (pair.0 != OPERATORS[index].0 && pair.1 != OPERATORS[index].1)
            })
        };
        assert!((0..OPERATORS.len()).all(unique));
    }
}
