//! KVM: the machine as the host's kernel sees it.

pub mod cpu;
pub mod cpuid;

use std::os::fd::{FromRawFd as _, IntoRawFd as _, OwnedFd};

use kvm_bindings::kvm_userspace_memory_region;
use kvm_ioctls::{Cap, IoEventAddress, Kvm, VmFd};
use vm_memory::{Address as _, GuestMemoryBackend as _, GuestMemoryRegion as _};

use crate::bell::Bell;
use crate::boot::at;
use crate::memory::Memory;

/// A machine without processors.
#[derive(Debug)]
pub struct Vm {
    /// What its processors run in: mapped for as long as KVM has the machine.
    pub memory: Memory,
    /// The host's kernel.
    pub kvm: Kvm,
    /// The machine there.
    pub fd: VmFd,
}

/// KVM cannot do something.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It has not what any machine needs: which capability.
    #[error("KVM of this host has no {0}")]
    Missing(&'static str),
    /// A call has failed: which.
    #[error("{0}: {1}")]
    Call(&'static str, kvm_ioctls::Error),
}

/// What KVM must be able to do, and what it is called.
const NEEDED: [(Cap, &str); 7] = [
    (Cap::Irqchip, "KVM_CAP_IRQCHIP"),
    (Cap::Irqfd, "KVM_CAP_IRQFD"),
    (Cap::Ioeventfd, "KVM_CAP_IOEVENTFD"),
    (Cap::UserMemory, "KVM_CAP_USER_MEMORY"),
    (Cap::ExtCpuid, "KVM_CAP_EXT_CPUID"),
    (Cap::TscDeadlineTimer, "KVM_CAP_TSC_DEADLINE_TIMER"),
    // Without its clock a kernel of reduced hardware calibrates for ever.
    (Cap::AdjustClock, "KVM_CAP_ADJUST_CLOCK"),
];

/// What `/dev/kvm` lacks.
#[must_use]
pub fn missing(kvm: &Kvm) -> Vec<&'static str> {
    NEEDED.iter().filter(|(cap, _)| !kvm.check_extension(*cap)).map(|(_, name)| *name).collect()
}

/// Adopts an open `/dev/kvm`.
#[must_use]
pub fn adopt(kvm: OwnedFd) -> Kvm {
    #[allow(unsafe_code, reason = "the wrapper opens a path, or takes a number on trust")]
    // SAFETY: the descriptor is ours, by value, and nobody else closes it. If it is not KVM's, its
    // calls fail: each is checked.
    unsafe {
        Kvm::from_raw_fd(kvm.into_raw_fd())
    }
}

impl Vm {
    /// A machine with this memory, with interrupt controllers and without processors.
    ///
    /// # Errors
    ///
    /// [`Error`].
    pub fn new(kvm: Kvm, memory: Memory) -> Result<Self, Error> {
        if let Some(first) = missing(&kvm).first() {
            return Err(Error::Missing(first));
        }
        let fd = kvm.create_vm().map_err(call("KVM_CREATE_VM"))?;
        // Where Intel's wants pages for itself; the other kind ignores both.
        fd.set_identity_map_address(at::KVM_PAGES).map_err(call("KVM_SET_IDENTITY_MAP_ADDR"))?;
        let tss = usize::try_from(at::KVM_PAGES + 0x1000).unwrap_or(0);
        fd.set_tss_address(tss).map_err(call("KVM_SET_TSS_ADDR"))?;
        fd.create_irq_chip().map_err(call("KVM_CREATE_IRQCHIP"))?;
        let vm = Self { memory, kvm, fd };
        vm.map()?;
        Ok(vm)
    }

    /// Has KVM interrupt by `line` whenever `bell` is rung.
    ///
    /// # Errors
    ///
    /// [`Error::Call`].
    pub fn interrupt(&self, bell: &Bell, line: u32) -> Result<(), Error> {
        self.fd.register_irqfd(bell.event(), line).map_err(call("KVM_IRQFD"))
    }

    /// Has KVM ring `bell` whenever `value` is written to this address, and tell nobody else.
    ///
    /// # Errors
    ///
    /// [`Error::Call`].
    pub fn notify(&self, bell: &Bell, address: u64, value: u32) -> Result<(), Error> {
        let address = IoEventAddress::Mmio(address);
        self.fd.register_ioevent(bell.event(), &address, value).map_err(call("KVM_IOEVENTFD"))
    }

    fn map(&self) -> Result<(), Error> {
        for (slot, region) in (0..).zip(self.memory.iter()) {
            let host = region.get_host_address(vm_memory::MemoryRegionAddress(0));
            let Ok(host) = host else { return Err(Error::Missing("address of memory")) };
            let region = kvm_userspace_memory_region {
                slot,
                flags: 0,
                guest_phys_addr: region.start_addr().raw_value(),
                memory_size: region.len(),
                userspace_addr: host as u64,
            };
            #[allow(unsafe_code, reason = "where guest memory is mapped into the guest")]
            // SAFETY: the range is one whole region of guest memory, which stays mapped while the
            // machine exists: `self` holds both, and each thread of a processor holds the memory.
            // No Rust reference points into it, so a guest may write there at any time.
            unsafe { self.fd.set_user_memory_region(region) }
                .map_err(call("KVM_SET_USER_MEMORY_REGION"))?;
        }
        Ok(())
    }
}

/// Names the call that has failed.
pub(crate) fn call(name: &'static str) -> impl FnOnce(kvm_ioctls::Error) -> Error {
    move |error| Error::Call(name, error)
}
