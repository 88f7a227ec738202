//! See `vmm::hostile::disk`.

#![no_main]

libfuzzer_sys::fuzz_target!(|deeds: &[u8]| vmm::hostile::disk(deeds));
