//! See `vmm::hostile::vsock`.

#![no_main]

libfuzzer_sys::fuzz_target!(|deeds: &[u8]| vmm::hostile::vsock(deeds));
