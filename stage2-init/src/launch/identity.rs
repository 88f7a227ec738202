//! Becoming somebody with exactly the given rights: groups, ids, five capability sets.
//!
//! The inheritable and the ambient set are always empty (CVE-2022-24769 and its kin), the list of
//! groups is always set, also when it is empty (CVE-2022-36109). Securebits stay as they are.

use nix::unistd::{Uid, setgroups, setresgid, setresuid};
use pod_abi::isolators::Capability;
use rustix::io::Errno;
use rustix::thread::{
    CapabilitySet, CapabilitySets, clear_ambient_capability_set,
    remove_capability_from_bounding_set, set_capabilities,
};

use super::failure::{At, Failure, Phase};
use super::prepared::Prepared;

/// How many capabilities the kernel's sets have room for.
const ROOM: u32 = 64;

/// Gives this process the ids and the rights of `who`.
///
/// 1. The bounding set shrinks to what it may ever hold, while it still has `CAP_SETPCAP`.
/// 2. Groups, group, user: in this order, as each needs the right the next takes away.
/// 3. Root keeps exactly its bounding set; anybody else nothing. Then no inheritable set, and with
///    it no ambient one.
pub(super) fn become_user(who: &Prepared<'_>) -> Result<(), Failure> {
    bound(who.capabilities).at(Phase::Capabilities, "the bounding set")?;
    setgroups(&who.groups)
        .at(Phase::Identity, &format!("a member of {} groups", who.groups.len()))?;
    let gid = who.gid;
    setresgid(gid, gid, gid).at(Phase::Identity, &format!("group {gid}"))?;
    let uid = who.uid;
    setresuid(uid, uid, uid).at(Phase::Identity, &format!("user {uid}"))?;
    let held = if uid == Uid::from_raw(0) { who.capabilities } else { CapabilitySet::empty() };
    let sets =
        CapabilitySets { effective: held, permitted: held, inheritable: CapabilitySet::empty() };
    set_capabilities(None, sets)
        .at(Phase::Capabilities, &format!("the capability sets {}", names(held)))?;
    clear_ambient_capability_set().at(Phase::Capabilities, "the ambient set")
}

/// Names capabilities, for an error: one of them is not the pod's to give.
fn names(set: CapabilitySet) -> String {
    let named = Capability::ALL.iter().filter(|each| set.bits() & each.bit() != 0);
    named.map(|each| each.as_str()).collect::<Vec<_>>().join(", ")
}

/// Drops all capabilities but `keep` from the bounding set, those we have no name for included.
pub(super) fn bound(keep: CapabilitySet) -> Result<(), Errno> {
    for number in 0..ROOM {
        let one = CapabilitySet::from_bits_retain(1 << number);
        if keep.contains(one) {
            continue;
        }
        match remove_capability_from_bounding_set(one) {
            // The kernel has no capability of this number, nor of any higher one.
            Err(Errno::INVAL) => break,
            other => other?,
        }
    }
    Ok(())
}
