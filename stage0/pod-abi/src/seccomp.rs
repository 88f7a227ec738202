//! The default seccomp profile in the words of the runtime-spec, for whoever is not stage2-init.
//!
//! Rules of a profile written here never disagree: whatever order they are read in, a call meets
//! one answer. libseccomp, which other runtimes use, promises no order; so "all but these" is said
//! in blocks that hold none of them, never as an exception after a general rule.

use crate::isolators::{
    Capabilities, SeccompAction, SeccompArg, SeccompOp, SeccompProfile, SeccompRule,
};
use crate::syscalls::{
    AF_PACKET, CLONE_NAMESPACES, FAMILIES, IOCTLS, NET_RAW, PERSONALITIES, Rule, SYS_ADMIN, TABLE,
    UNSHARE_NAMESPACES,
};

/// `EPERM`.
const DENIED: SeccompAction = SeccompAction::Errno(1);
/// `ENOSYS`.
const ABSENT: SeccompAction = SeccompAction::Errno(38);
/// `EAFNOSUPPORT`.
const NO_FAMILY: SeccompAction = SeccompAction::Errno(97);

/// Returns what stage2-init enforces on an app that may hold `capabilities` and has asked for
/// [`crate::isolators::Seccomp::Default`].
///
/// One thing has no words here: calls of another architecture fail with `ENOSYS` in a pod of ours.
#[must_use]
pub fn default_profile(capabilities: &Capabilities) -> SeccompProfile {
    let held = capabilities.bits();
    let mut plain = Plain::default();
    let mut looks = Vec::new();
    for (_, name, rule) in TABLE {
        let admin = held & SYS_ADMIN != 0;
        match rule {
            Rule::Allow => plain.allowed.push((*name).to_owned()),
            Rule::Denied => plain.denied.push((*name).to_owned()),
            Rule::Absent => {}
            Rule::Needs(any) if held & any != 0 => plain.allowed.push((*name).to_owned()),
            Rule::Needs(_) => plain.denied.push((*name).to_owned()),
            Rule::Cloning | Rule::Cloning3 | Rule::Unsharing if admin => {
                plain.allowed.push((*name).to_owned());
            }
            // Its flags cannot be looked at; `ENOSYS` is what calls that are not named get.
            Rule::Cloning3 => {}
            Rule::Cloning => looks.extend(without_bits(name, CLONE_NAMESPACES)),
            Rule::Unsharing => looks.extend(without_bits(name, UNSHARE_NAMESPACES)),
            Rule::Socket => {
                let packet = (held & NET_RAW != 0).then_some(AF_PACKET);
                let families: Vec<u32> = FAMILIES.into_iter().chain(packet).collect();
                looks.extend(one_of(name, 0, &families, (SeccompAction::Allow, NO_FAMILY)));
            }
            Rule::Ioctl => looks.extend(one_of(name, 1, &IOCTLS, (DENIED, SeccompAction::Allow))),
            Rule::Personality => {
                looks.extend(one_of(name, 0, &PERSONALITIES, (SeccompAction::Allow, DENIED)));
            }
        }
    }
    SeccompProfile { default_action: ABSENT, syscalls: plain.rules().chain(looks).collect() }
}

/// Calls whose arguments are not looked at.
#[derive(Default)]
struct Plain {
    allowed: Vec<String>,
    denied: Vec<String>,
}

impl Plain {
    fn rules(self) -> impl Iterator<Item = SeccompRule> {
        [(self.allowed, SeccompAction::Allow), (self.denied, DENIED)]
            .into_iter()
            .map(|(names, action)| SeccompRule { names, action, args: Vec::new() })
    }
}

/// Allows a call whose first argument has no bit of `mask`.
fn without_bits(name: &str, mask: u32) -> Vec<SeccompRule> {
    let bits = (0..u32::BITS).map(|bit| 1 << bit).filter(|bit| mask & bit != 0);
    let denied = bits.map(|bit| masked(name, 0, (bit, bit), DENIED));
    [masked(name, 0, (mask, 0), SeccompAction::Allow)].into_iter().chain(denied).collect()
}

/// Answers by whether the lower half of an argument is one of `values`.
fn one_of(
    name: &str,
    index: u8,
    values: &[u32],
    (hit, miss): (SeccompAction, SeccompAction),
) -> Vec<SeccompRule> {
    let hits = values.iter().map(|value| masked(name, index, (u32::MAX, *value), hit));
    let misses = blocks_without(values).into_iter().map(|block| masked(name, index, block, miss));
    hits.chain(misses).collect()
}

fn masked(name: &str, index: u8, (mask, value): (u32, u32), action: SeccompAction) -> SeccompRule {
    let op = SeccompOp::MaskedEqual;
    let arg = SeccompArg { index, value: mask.into(), value_two: value.into(), op };
    SeccompRule { names: vec![name.to_owned()], action, args: vec![arg] }
}

/// Cuts all numbers but `values` into blocks: masks of leading bits, and what these must be.
fn blocks_without(values: &[u32]) -> Vec<(u32, u32)> {
    let mut blocks = Vec::new();
    let mut open = vec![(0_u32, 0_u32)];
    while let Some((mask, value)) = open.pop() {
        if !values.iter().any(|bad| bad & mask == value) {
            blocks.push((mask, value));
        } else if mask != u32::MAX {
            let bit = 1 << (31 - mask.leading_ones());
            open.extend([(mask | bit, value), (mask | bit, value | bit)]);
        }
    }
    blocks.sort_unstable();
    blocks
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::isolators::Capability;

    const ARGUMENTS: [u64; 20] = [
        0,
        1,
        2,
        3,
        8,
        10,
        16,
        17,
        38,
        40,
        0x80,
        0x5411,
        0x5412,
        0x541c,
        0x1_0000_5412,
        0x2_0000,
        0x2_0008,
        0x1000_0011,
        0x8000_0000,
        0xffff_ffff,
    ];

    /// All answers the rules have for a call, the default's if they have none.
    fn answers(profile: &SeccompProfile, name: &str, arguments: [u64; 2]) -> Vec<SeccompAction> {
        let holds = |arg: &SeccompArg| {
            assert_eq!(arg.op, SeccompOp::MaskedEqual);
            arguments[usize::from(arg.index)] & arg.value == arg.value_two
        };
        let matches = |rule: &&SeccompRule| {
            rule.names.iter().any(|known| known == name) && rule.args.iter().all(holds)
        };
        let mut found: Vec<_> =
            profile.syscalls.iter().filter(matches).map(|rule| rule.action).collect();
        found.dedup();
        if found.is_empty() { vec![profile.default_action] } else { found }
    }

    fn told(rule: Rule, held: u64, [first, second]: [u64; 2]) -> SeccompAction {
        let has = |mask: u64| held & mask != 0;
        let allow_if = |holds, other| if holds { SeccompAction::Allow } else { other };
        let low = |argument: u64| u32::try_from(argument & 0xffff_ffff).unwrap();
        let (first, second) = (low(first), low(second));
        match rule {
            Rule::Allow => SeccompAction::Allow,
            Rule::Denied => DENIED,
            Rule::Absent => ABSENT,
            Rule::Needs(any) => allow_if(has(any), DENIED),
            Rule::Cloning => allow_if(has(SYS_ADMIN) || first & CLONE_NAMESPACES == 0, DENIED),
            Rule::Unsharing => allow_if(has(SYS_ADMIN) || first & UNSHARE_NAMESPACES == 0, DENIED),
            Rule::Cloning3 => allow_if(has(SYS_ADMIN), ABSENT),
            Rule::Socket => {
                let known = FAMILIES.contains(&first) || first == AF_PACKET && has(NET_RAW);
                allow_if(known, NO_FAMILY)
            }
            Rule::Ioctl => allow_if(!IOCTLS.contains(&second), DENIED),
            Rule::Personality => allow_if(PERSONALITIES.contains(&first), DENIED),
        }
    }

    #[test]
    fn the_profile_says_what_the_table_says_in_any_order() {
        let all = Capabilities(Capability::ALL.iter().copied().collect());
        for set in [Capabilities::default(), Capabilities::default_set(), all] {
            let profile = default_profile(&set);
            for (_, name, rule) in TABLE {
                let pairs = ARGUMENTS.into_iter().flat_map(|one| [[one, 0], [0, one], [one, one]]);
                for arguments in pairs {
                    let said = answers(&profile, name, arguments);
                    assert_eq!(said, [told(*rule, set.bits(), arguments)], "{name} {arguments:x?}");
                }
            }
            assert_eq!(answers(&profile, "nosuch", [0, 0]), [ABSENT]);
        }
    }

    #[test]
    fn blocks_cover_all_numbers_but_those_named() {
        for values in [&[0][..], &[u32::MAX], &[1, 2, 10, 16], &IOCTLS, &PERSONALITIES] {
            let blocks = blocks_without(values);
            let size = |(mask, _): &(u32, u32)| 1_u64 << mask.count_zeros();
            let total: u64 = blocks.iter().map(size).sum();
            let named = u64::try_from(values.len()).unwrap();
            assert_eq!(total, (1 << 32) - named, "{values:x?}");
            assert!(values.iter().all(|bad| blocks.iter().all(|(mask, want)| bad & mask != *want)));
        }
    }
}
