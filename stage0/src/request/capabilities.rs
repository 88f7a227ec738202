//! `--cap-add` and `--cap-drop`: which capabilities an app may hold.

use std::collections::BTreeSet;

use pod_abi::isolators::{Capabilities, Capability};

use crate::error::{CommandError, Result};

/// Reads what is to be added to, and dropped from, the default set.
///
/// # Errors
///
/// A usage error that names the word.
pub(super) fn read_capabilities(add: &[String], drop: &[String]) -> Result<Capabilities> {
    let mut set = Capabilities::default_set().0;
    let drop = capability_words(drop)?;
    let add = capability_words(add)?;
    // docker's order: `ALL` first, whichever side it is on, then single words, dropping last.
    match (add.all, drop.all) {
        (_, true) => set.clear(),
        (true, false) => set = Capability::ALL.iter().copied().collect(),
        (false, false) => {}
    }
    set.extend(add.single);
    Ok(Capabilities(&set - &drop.single))
}

struct CapabilityWords {
    all: bool,
    single: BTreeSet<Capability>,
}

fn capability_words(words: &[String]) -> Result<CapabilityWords> {
    let mut read = CapabilityWords { all: false, single: BTreeSet::new() };
    for word in words {
        let upper = word.to_ascii_uppercase();
        let name = if upper.starts_with("CAP_") { upper } else { format!("CAP_{upper}") };
        match Capability::ALL.iter().find(|capability| capability.as_str() == name) {
            Some(capability) => {
                read.single.insert(*capability);
            }
            None if name == "CAP_ALL" => read.all = true,
            None => {
                return Err(CommandError::usage(format!("`{word}` is no capability"))
                    .hint("`man 7 capabilities` lists them"));
            }
        }
    }
    Ok(read)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(add: &[&str], drop: &[&str]) -> BTreeSet<Capability> {
        let words = |words: &[&str]| words.iter().map(|&word| word.to_owned()).collect::<Vec<_>>();
        read_capabilities(&words(add), &words(drop)).unwrap().0
    }

    #[test]
    fn capabilities_are_added_before_they_are_dropped() {
        assert!(set(&["net_raw"], &[]).contains(&Capability::NetRaw));
        assert!(!set(&[], &["CAP_CHOWN"]).contains(&Capability::Chown));
        assert!(!set(&["chown"], &["chown"]).contains(&Capability::Chown));
        assert_eq!(set(&["chown"], &["ALL"]).len(), 1);
        assert_eq!(set(&["ALL"], &[]).len(), Capability::ALL.len());
        assert!(read_capabilities(&["NOPE".to_owned()], &[]).is_err());
    }
}
