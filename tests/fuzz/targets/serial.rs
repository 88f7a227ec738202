//! See `vmm::hostile::serial`.

#![no_main]

libfuzzer_sys::fuzz_target!(|deeds: &[u8]| vmm::hostile::serial(deeds));
