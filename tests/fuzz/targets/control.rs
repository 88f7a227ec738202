//! What a guest, its monitor and PID 1 of its pod say to their supervisor, by the first byte: see
//! `stage1_kvm::hostile` and `supervisor::hostile`.

#![no_main]

libfuzzer_sys::fuzz_target!(|words: &[u8]| {
    let Some((who, words)) = words.split_first() else { return };
    match who % 3 {
        0 => stage1_kvm::hostile::wall(words),
        1 => stage1_kvm::hostile::helm(words),
        _ => supervisor::hostile::init(words),
    }
});
