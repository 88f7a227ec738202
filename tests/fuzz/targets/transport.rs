//! See `vmm::hostile::transport`.

#![no_main]

libfuzzer_sys::fuzz_target!(|deeds: &[u8]| vmm::hostile::transport(deeds));
