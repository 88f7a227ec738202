//! Kernels and modules of an enemy: whatever the bytes are, they are refused or read, within time
//! and memory, and never end the program. The fuzz target is [`body`].

#![allow(clippy::unwrap_used, reason = "a test says no more than that it failed")]

mod body;

use body::{SOUND, read_all};
use guest_kernel::{Module, kernel};
use proptest::prelude::*;

#[test]
fn the_sound_files_are_read() {
    for file in [&SOUND[0], &SOUND[1], &SOUND[2], &SOUND[5]] {
        assert_eq!(kernel(file).unwrap().release, "6.1.0-x");
    }
    for file in [&SOUND[4], &SOUND[6]] {
        assert_eq!(Module::parse(file).unwrap().name, "x");
    }
}

#[test]
fn every_kernel_and_module_that_is_cut_short_is_refused_or_read() {
    for file in SOUND.iter() {
        for length in 0..file.len() {
            read_all(&file[..length]);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_bytes_do_harm(bytes in proptest::collection::vec(any::<u8>(), 0..4096)) {
        read_all(&bytes);
    }

    #[test]
    fn no_packed_bytes_do_harm(deeds in proptest::collection::vec(any::<u8>(), 0..500)) {
        body::body(&deeds);
    }

    #[test]
    fn no_change_of_a_sound_file_does_harm(
        which in 0_usize..7,
        changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
    ) {
        let mut file = SOUND[which].clone();
        for (at, byte) in changes {
            let at = at.index(file.len());
            file[at] = byte;
        }
        read_all(&file);
    }

    #[test]
    fn no_number_in_a_table_does_harm(
        which in 0_usize..7,
        at in any::<prop::sample::Index>(),
        number in prop_oneof![
            Just(u64::MAX), Just(1 << 63), Just(u64::from(u32::MAX)), Just(0), any::<u64>(),
        ],
    ) {
        let mut file = SOUND[which].clone();
        let at = at.index(file.len().saturating_sub(8).max(1)) & !1;
        let end = (at + 8).min(file.len());
        file[at..end].copy_from_slice(&number.to_le_bytes()[..end - at]);
        read_all(&file);
    }
}
