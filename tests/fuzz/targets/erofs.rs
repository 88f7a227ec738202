//! See `damage` in the tests of `images`.

#![no_main]

#[path = "../../../images/tests/erofs/damage.rs"]
mod damage;
#[path = "../../../images/tests/erofs/reader.rs"]
mod reader;

libfuzzer_sys::fuzz_target!(|deeds: &[u8]| damage::body(deeds));
