//! See `body` in the tests of `dns`.

#![no_main]

#[path = "../../../stage0/dns/tests/hostile/body.rs"]
mod body;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| body::body(bytes));
