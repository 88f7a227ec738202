//! See `vmm::hostile::muxer`.

#![no_main]

libfuzzer_sys::fuzz_target!(|deeds: &[u8]| vmm::hostile::muxer(deeds));
