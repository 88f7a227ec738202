//! What a processor says it is: the host's, as far as KVM can give it to a guest, told apart by
//! number and without what a pod has no use for.
//!
//! Source: Intel SDM vol. 2 CPUID; AMD APM vol. 3 appendix E.

use kvm_bindings::{CpuId, KVM_MAX_CPUID_ENTRIES, kvm_cpuid_entry2};
use kvm_ioctls::Kvm;

use super::{Error, call};

/// `CPUID.1:ECX`: virtual machines of its own (Intel).
const VMX: u32 = 1 << 5;
/// `CPUID.1:ECX`: the timer that needs no calibration.
const TSC_DEADLINE: u32 = 1 << 24;
/// `CPUID.1:ECX`: there is a hypervisor.
const HYPERVISOR: u32 = 1 << 31;
/// `CPUID.1:EDX`: more than one logical processor.
const HTT: u32 = 1 << 28;
/// `CPUID.0x80000001:ECX`: virtual machines of its own (AMD).
const SVM: u32 = 1 << 2;

/// What the processors of a guest have in common.
///
/// # Errors
///
/// [`Error::Call`].
pub fn supported(kvm: &Kvm) -> Result<CpuId, Error> {
    kvm.get_supported_cpuid(KVM_MAX_CPUID_ENTRIES).map_err(call("KVM_GET_SUPPORTED_CPUID"))
}

/// What processor `id` of `count` says of itself: each is a core of its own in one package.
pub fn of_processor(common: &CpuId, id: u8, count: u8) -> CpuId {
    let mut cpuid = common.clone();
    for entry in cpuid.as_mut_slice() {
        adapt(entry, u32::from(id), u32::from(count));
    }
    cpuid
}

fn adapt(entry: &mut kvm_cpuid_entry2, id: u32, count: u32) {
    // Bits of an APIC id that tell processors of one package apart.
    let bits = count.next_power_of_two().trailing_zeros();
    match entry.function {
        0x1 => {
            entry.ecx = entry.ecx & !VMX | TSC_DEADLINE | HYPERVISOR;
            entry.ebx = entry.ebx & 0x0000_ffff | count << 16 | id << 24;
            entry.edx = if count > 1 { entry.edx | HTT } else { entry.edx & !HTT };
        }
        // Caches: who shares them, and how many cores a package has.
        0x4 => {
            let level = entry.eax >> 5 & 7;
            let shared = if level >= 3 { (1 << bits) - 1 } else { 0 };
            let cores = (1 << bits) - 1;
            entry.eax = entry.eax & 0x3fff | shared << 14 | cores << 26;
        }
        // Counters of performance: nobody counts in a pod, and a watchdog would.
        0xa => (entry.eax, entry.ebx, entry.ecx, entry.edx) = (0, 0, 0, 0),
        0xb | 0x1f => {
            let (shift, processors, kind) = match entry.index {
                0 => (0, 1, 1),
                1 => (bits, count, 2),
                _ => (0, 0, 0),
            };
            (entry.eax, entry.ebx) = (shift, processors);
            entry.ecx = entry.index | kind << 8;
            entry.edx = id;
        }
        0x8000_0001 => entry.ecx &= !SVM,
        0x8000_0008 => entry.ecx = entry.ecx & !0xf0ff | (count - 1) | bits << 12,
        0x8000_001e => (entry.eax, entry.ebx, entry.ecx) = (id, id, 0),
        _ => {}
    }
}
