//! See `body` in the tests of `guest-kernel`.

#![no_main]

#[path = "../../../stage1-kvm/guest-kernel/tests/hostile/body.rs"]
mod body;

libfuzzer_sys::fuzz_target!(|deeds: &[u8]| body::body(deeds));
