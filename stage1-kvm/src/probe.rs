//! Whether the KVM of a host can run machines of ours: what it can do, and how fast it is.
//!
//! A `/dev/kvm` that answers says little. Where a host is a guest itself, and what it is a guest of
//! does not pass virtualization on, KVM may run a guest's kernel by reading its instructions one by
//! one: a few hundred bytes of code run, a stock kernel would take an hour. So a processor of ours
//! counts, as any would begin, and is timed.
//!
//! ```text
//!   CODE  mov ecx, ROUND          PAGE_TABLES  512 GiB ─▶ 1 GiB ─▶ 2 MiB: the first, as it is
//!         dec ecx; jnz
//!         out DONE, al; jmp
//! ```

use std::cell::Cell;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use vm_memory::{Bytes as _, GuestAddress};
use vmm::boot::at;
use vmm::kvm::cpu::{Cpu, Outside, Stopped};
use vmm::kvm::{self, Vm, adopt, cpuid};
use vmm::memory;

/// The only version of the interface there will be (`Documentation/virt/kvm/api.rst` 4.1).
const API: i32 = 12;
/// Where KVM tells what it offers to Linux guests, and the bit of the clock that needs no timer
/// (`Documentation/virt/kvm/x86/cpuid.rst`).
const FEATURES: u32 = 0x4000_0001;
const CLOCKSOURCE2: u32 = 1 << 3;

/// What a processor counts down from before it says so: an eighth of a second where each
/// instruction is read by KVM, too short to be noticed elsewhere.
const ROUND: u32 = 50_000;
const INSTRUCTIONS_OF_A_ROUND: u64 = 2 * ROUND as u64 + 3;
/// Rounds after which it has counted enough; a million instructions.
const ROUNDS: u64 = 10;
/// How long it counts at most.
const PATIENCE: Duration = Duration::from_millis(300);
/// The port it says so by.
const DONE: u8 = 0x10;
/// The memory it has, in bytes: one large page.
const MEMORY: u64 = 2 << 20;
const CODE: u64 = 0x1_0000;

/// What KVM is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Findings {
    /// What it lacks, by name; nothing, if machines of ours can be made.
    pub(crate) missing: Vec<String>,
    /// Instructions a second, or why that could not be measured.
    pub(crate) pace: Result<u64, String>,
}

/// Looks at `kvm`, an open `/dev/kvm`. It takes a few milliseconds, or some hundred where
/// instructions are read one by one; where KVM does not come back, neither does this.
pub(crate) fn probe(kvm: OwnedFd) -> Findings {
    let kvm = adopt(kvm);
    let version = kvm.get_api_version();
    if version != API {
        let missing = vec![format!("version {API} of the interface (it has {version})")];
        return Findings { missing, pace: Err("it was not tried".to_owned()) };
    }
    let mut missing: Vec<String> = kvm::missing(&kvm).into_iter().map(str::to_owned).collect();
    let clock = cpuid::supported(&kvm).is_ok_and(|supported| {
        let features = supported.as_slice().iter().find(|entry| entry.function == FEATURES);
        features.is_some_and(|entry| entry.eax & CLOCKSOURCE2 != 0)
    });
    if !clock {
        // Without it a kernel of reduced hardware calibrates its timer for ever.
        missing.push("KVM_FEATURE_CLOCKSOURCE2".to_owned());
    }
    let pace = if missing.is_empty() { pace(kvm) } else { Err("it was not tried".to_owned()) };
    Findings { missing, pace }
}

/// Measures how many instructions a second a processor executes.
fn pace(kvm: kvm_ioctls::Kvm) -> Result<u64, String> {
    let common = cpuid::supported(&kvm).map_err(|error| error.to_string())?;
    let memory = memory::map(MEMORY).map_err(|error| error.to_string())?;
    let vm = Vm::new(kvm, memory).map_err(|error| error.to_string())?;
    write(&vm).map_err(|error| error.to_string())?;
    let mut processor = Cpu::new(&vm, &common, (0, 1), CODE).map_err(|error| error.to_string())?;
    let counter = Counter { rounds: Cell::new(0), begin: Instant::now() };
    let stopped = processor.run(&counter);
    let elapsed = counter.begin.elapsed().as_nanos().max(1);
    match stopped {
        Stopped::Told => {}
        Stopped::TripleFault => return Err("a processor has faulted".to_owned()),
        Stopped::Failed(why) => return Err(why),
    }
    let instructions = u128::from(INSTRUCTIONS_OF_A_ROUND * counter.rounds.get());
    Ok(u64::try_from(instructions * 1_000_000_000 / elapsed).unwrap_or(u64::MAX))
}

/// Writes tables and code into the memory of `vm`.
fn write(vm: &Vm) -> Result<(), vm_memory::GuestMemoryError> {
    let [l4, l3, l2] = [0, 0x1000, 0x2000].map(|offset| at::PAGE_TABLES + offset);
    // Present and writable; the last is a page of 2 MiB.
    for (at, entry) in [(l4, l3 | 3), (l3, l2 | 3), (l2, 0x83)] {
        vm.memory.write_obj::<u64>(entry, GuestAddress(at))?;
    }
    let [a, b, c, d] = ROUND.to_le_bytes();
    let code = [0xb9, a, b, c, d, 0xff, 0xc9, 0x75, 0xfc, 0xe6, DONE, 0xeb, 0xf3];
    vm.memory.write_slice(&code, GuestAddress(CODE))
}

/// What the processor tells its rounds.
#[derive(Debug)]
struct Counter {
    rounds: Cell<u64>,
    begin: Instant,
}

impl Outside for Counter {
    fn port_in(&self, _: u16, _: &mut [u8]) {}

    fn port_out(&self, port: u16, _: &[u8]) {
        if port == u16::from(DONE) {
            self.rounds.set(self.rounds.get() + 1);
        }
    }

    fn read(&self, _: u64, _: &mut [u8]) {}

    fn write(&self, _: u64, _: &[u8]) {}

    fn ended(&self) -> bool {
        self.rounds.get() >= ROUNDS || self.begin.elapsed() >= PATIENCE
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;

    #[test]
    fn what_is_no_kvm_is_told_from_one() {
        let findings = probe(File::open("/dev/null").unwrap().into());
        assert!(findings.missing[0].contains("it has -1"), "{findings:?}");
    }

    #[test]
    fn a_kvm_is_timed() {
        let Ok(kvm) = File::options().read(true).write(true).open("/dev/kvm") else {
            eprintln!("skipped: there is no /dev/kvm to be opened");
            return;
        };
        let findings = probe(kvm.into());
        eprintln!("{findings:?}");
        assert_eq!(findings.missing, [""; 0]);
        let pace = findings.pace.unwrap();
        assert!(pace > 1000, "{pace} instructions a second");
    }
}
