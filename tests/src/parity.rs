//! What a pod promises behind either wall: in namespaces, and in a virtual machine of its own.
//!
//! A promise is a name, a sentence, and a check. Checks stand in [`Group`]s: what one pod, or a few,
//! can show together, because a virtual machine takes seconds to boot. The same code runs behind
//! each wall; [`World`] knows which. Every check is made, whatever became of the one before it.
//!
//! | file | what |
//! |---|---|
//! | `world` | where a group runs, and what it has found |
//! | `groups` | the checks |
//! | `inventory` | every end-to-end test of namespaces: the promises that carry it, or why none does |
//! | `document` | `docs/parity.md`, of all these |

use std::fmt;

pub use document::Shown;
pub use world::{Found, RESULTS, World};

mod document;
mod groups;
pub mod inventory;
mod world;

/// What stands between a pod and the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wall {
    /// Namespaces of the host's kernel.
    Namespaces,
    /// A virtual machine with a kernel of its own.
    Machine,
}

impl Wall {
    /// Returns the name of its stage1.
    #[must_use]
    pub const fn stage1(self) -> &'static str {
        match self {
            Self::Namespaces => "ns",
            Self::Machine => "kvm",
        }
    }
}

impl fmt::Display for Wall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.stage1())
    }
}

/// What is said of every pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Promise {
    /// What it is called.
    pub name: &'static str,
    /// What is so.
    pub says: &'static str,
    /// How it is otherwise in a virtual machine, and why.
    pub differs: Option<&'static str>,
}

/// Where a group can run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// Wherever pods do.
    Anywhere,
    /// Where all controllers of cgroup v2 are.
    Controllers,
}

/// Promises that are looked at together.
#[derive(Clone, Copy, Debug)]
pub struct Group {
    /// What it is called.
    pub name: &'static str,
    /// Where it runs in namespaces.
    pub place: Place,
    /// How often it starts a pod: so many virtual machines boot.
    pub boots: u32,
    /// What it looks at.
    pub promises: &'static [Promise],
    run: fn(&World<'_>),
}

/// How many virtual machines may boot for all promises together.
pub const MOST_BOOTS: u32 = 40;

/// All groups, in the order of the document.
pub const GROUPS: &[Group] = groups::ALL;

/// Promises that do not hold in a virtual machine yet, and what is missing: the document
/// says the same.
pub const NOT_YET: &[(&str, &str)] = &[];

/// Returns what is missing before a promise holds in a virtual machine.
#[must_use]
pub fn missing(promise: &str) -> Option<&'static str> {
    NOT_YET.iter().find(|(name, _)| *name == promise).map(|(_, what)| *what)
}

/// Something that is so behind either wall.
const fn so(name: &'static str, says: &'static str) -> Promise {
    Promise { name, says, differs: None }
}

/// Something that is so behind either wall, but not quite in the same way.
const fn nearly(name: &'static str, says: &'static str, differs: &'static str) -> Promise {
    Promise { name, says, differs: Some(differs) }
}

impl Group {
    /// Finds a group.
    ///
    /// # Panics
    ///
    /// When there is none of that name.
    #[must_use]
    pub fn named(name: &str) -> &'static Self {
        let group = GROUPS.iter().find(|group| group.name == name);
        group.unwrap_or_else(|| panic!("there is no group `{name}`"))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_promise_has_a_name_of_its_own() {
        let names: Vec<_> =
            GROUPS.iter().flat_map(|group| group.promises).map(|p| p.name).collect();
        let unique: BTreeSet<_> = names.iter().collect();
        assert_eq!(unique.len(), names.len());
    }

    #[test]
    fn what_is_missing_is_missing_of_a_promise() {
        let promises: BTreeSet<_> =
            GROUPS.iter().flat_map(|group| group.promises).map(|promise| promise.name).collect();
        assert!(NOT_YET.iter().all(|(name, _)| promises.contains(name)));
    }

    #[test]
    fn all_groups_together_boot_few_enough_machines() {
        let boots: u32 = GROUPS.iter().map(|group| group.boots).sum();
        assert!(boots <= MOST_BOOTS, "{boots}");
    }
}
