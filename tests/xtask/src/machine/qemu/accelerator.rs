//! What executes the machine's instructions: KVM where a stock kernel really runs on it, else QEMU.
//!
//! A `/dev/kvm` that answers says little: where the host is itself a guest without nested
//! virtualisation, it may run only kernels that know of it, and interprets all others one
//! instruction at a time. So a payload is run on it, on the processor the machine would have: a
//! loop of some hundred million instructions, which is over at once or not within minutes. The
//! answer is never kept; to have it anew takes a tenth of a second where there is a good one.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use tempfile::NamedTempFile;

/// What the machine runs on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Accelerator {
    /// The processor itself.
    Kvm,
    /// QEMU translates; some ten times slower.
    Translation,
}

/// How often the loop is run through; two instructions each. KVM needs a tenth of a second for it,
/// QEMU's own translation half a second, and an interpreter minutes.
const ROUNDS: u32 = 200_000_000;
/// How long the payload may take, in seconds, with the start of QEMU on a busy host.
const LIMIT: &str = "3";
/// The port of the device that ends QEMU, what is written there, and the exit status QEMU makes
/// of it: twice that and one.
const PORT: u8 = 0xf4;
const WRITTEN: u8 = 0x10;
const DONE: i32 = 0x21;
/// The size of a ROM, in bytes: the last 16 are where a processor begins.
const ROM: usize = 1 << 16;

impl Accelerator {
    /// Finds the best that works here.
    pub(super) fn find() -> Self {
        if Path::new("/dev/kvm").exists() && runs_at_speed(Self::Kvm) {
            Self::Kvm
        } else {
            Self::Translation
        }
    }

    /// Returns the arguments that make QEMU use it. Both processors can have guests of their own.
    pub(super) const fn arguments(self) -> [&'static str; 4] {
        match self {
            Self::Kvm => ["-accel", "kvm", "-cpu", "host"],
            // Five levels of page tables make every miss dearer.
            Self::Translation => ["-accel", "tcg,thread=multi", "-cpu", "max,la57=off"],
        }
    }
}

fn runs_at_speed(accelerator: Accelerator) -> bool {
    let Ok(mut rom) = NamedTempFile::new() else { return false };
    if rom.write_all(&payload()).is_err() {
        return false;
    }
    let mut command = Command::new("timeout");
    command.args(["--signal=KILL", LIMIT, "qemu-system-x86_64"]).args(accelerator.arguments());
    command.args(["-M", "q35", "-m", "32", "-nodefaults", "-display", "none", "-no-reboot"]);
    command.arg("-device").arg(format!("isa-debug-exit,iobase={PORT:#x},iosize=1"));
    command.arg("-bios").arg(rom.path());
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.code() == Some(DONE))
}

/// A ROM that counts down and says so, in the 16-bit code a processor starts with.
fn payload() -> Vec<u8> {
    let [a, b, c, d] = ROUNDS.to_le_bytes();
    let code = [
        [0x66, 0xb9, a, b, c, d].as_slice(), // mov ecx, ROUNDS
        &[0x66, 0x49],                       // dec ecx
        &[0x75, 0xfc],                       // jnz, to the line above
        &[0xb0, WRITTEN],                    // mov al, WRITTEN
        &[0xe6, PORT],                       // out PORT, al
        &[0xf4, 0xf4],                       // hlt
    ]
    .concat();
    [vec![0xf4; ROM - code.len()], code].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_payload_begins_where_a_processor_does() {
        let rom = payload();
        assert_eq!(rom.len(), ROM);
        assert_eq!(&rom[ROM - 16..ROM - 14], [0x66, 0xb9]);
    }
}
