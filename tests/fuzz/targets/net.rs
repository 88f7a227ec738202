//! See `vmm::hostile::net`.

#![no_main]

libfuzzer_sys::fuzz_target!(|deeds: &[u8]| vmm::hostile::net(deeds));
