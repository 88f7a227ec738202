//! What the serial console keeps, whatever a guest does with its registers.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use vmm::bell::Bell;
use vmm::console::{Console, KEPT};

/// Registers of a 16550: data, modem control, line status.
const DATA: u8 = 0;
const MODEM: u8 = 4;
const LINE: u8 = 5;
/// `MODEM`: what is sent is received.
const LOOP: u8 = 1 << 4;
/// `LINE`: there is something to be read.
const READY: u8 = 1;

/// As many bytes as would show, were they all kept.
const MANY: usize = 4 << 20;

fn console() -> Console {
    Console::new(Bell::new().unwrap())
}

/// CVE-2020-27173: what was to be read of a console had no end. Ours can be typed into by nobody
/// but the guest itself, in a loop.
#[test]
fn what_is_sent_in_a_loop_is_kept_as_far_as_the_chip_would() {
    let console = console();
    console.write(MODEM, LOOP);
    (0..MANY).for_each(|_| console.write(DATA, b'x'));
    let mut read = 0;
    while console.read(LINE) & READY != 0 {
        assert_eq!(console.read(DATA), b'x');
        read += 1;
        assert!(read <= 64, "a chip has room for sixteen, ours for four times that");
    }
    assert!(read > 0, "it is a loop");
    assert_eq!(console.tail(KEPT), "", "nothing of it was said");
}

#[test]
fn of_what_is_said_the_end_is_kept() {
    let console = console();
    (0..MANY).for_each(|_| console.write(DATA, b'.'));
    b"end\n".iter().for_each(|byte| console.write(DATA, *byte));
    let kept = console.tail(usize::MAX);
    assert_eq!(kept.len(), KEPT);
    assert!(kept.ends_with(".end\n"));
}
