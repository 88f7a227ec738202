//! A processor: its state before its first instruction, and the loop that runs it.
//!
//! Source: `Documentation/virt/kvm/api.rst`; the state: `Documentation/arch/x86/boot.rst`.

use kvm_bindings::{Msrs, kvm_fpu, kvm_msr_entry, kvm_regs, kvm_segment};
use kvm_ioctls::{VcpuExit, VcpuFd};

use super::{Error, Vm, call, cpuid};
use crate::boot::at;

/// Who answers what a processor reads and writes outside memory.
pub trait Outside {
    /// It reads a port.
    fn port_in(&self, port: u16, into: &mut [u8]);
    /// It writes a port.
    fn port_out(&self, port: u16, from: &[u8]);
    /// It reads an address.
    fn read(&self, address: u64, into: &mut [u8]);
    /// It writes an address.
    fn write(&self, address: u64, from: &[u8]);
    /// Whether the machine has ended: no processor goes on then.
    fn ended(&self) -> bool;
}

/// How a processor stopped.
#[derive(Debug)]
pub enum Stopped {
    /// It was told to.
    Told,
    /// Three faults in a row: what a kernel does that cannot go on, or that resets so.
    TripleFault,
    /// Anything else: why.
    Failed(String),
}

/// A processor that has not run.
#[derive(Debug)]
pub struct Cpu {
    fd: VcpuFd,
}

impl Cpu {
    /// Processor `id` of `count`; the first begins at `entry`, the others wait for it.
    ///
    /// # Errors
    ///
    /// [`Error::Call`].
    pub fn new(
        vm: &Vm,
        common: &kvm_bindings::CpuId,
        (id, count): (u8, u8),
        entry: u64,
    ) -> Result<Self, Error> {
        let fd = vm.fd.create_vcpu(u64::from(id)).map_err(call("KVM_CREATE_VCPU"))?;
        // Before registers that depend on it.
        let cpuid = cpuid::of_processor(common, id, count);
        fd.set_cpuid2(&cpuid).map_err(call("KVM_SET_CPUID2"))?;
        set_model_registers(&fd)?;
        if id == 0 {
            begin_at(&fd, entry)?;
        }
        let fpu = kvm_fpu { fcw: 0x37f, mxcsr: 0x1f80, ..Default::default() };
        fd.set_fpu(&fpu).map_err(call("KVM_SET_FPU"))?;
        set_local_lines(&fd)?;
        Ok(Self { fd })
    }

    /// Runs it until it stops.
    pub fn run(&mut self, outside: &impl Outside) -> Stopped {
        while !outside.ended() {
            match self.fd.run() {
                Ok(VcpuExit::IoIn(port, into)) => outside.port_in(port, into),
                Ok(VcpuExit::IoOut(port, from)) => outside.port_out(port, from),
                Ok(VcpuExit::MmioRead(address, into)) => outside.read(address, into),
                Ok(VcpuExit::MmioWrite(address, from)) => outside.write(address, from),
                Ok(VcpuExit::Shutdown) => return Stopped::TripleFault,
                Ok(VcpuExit::Intr) => {}
                Ok(other) => return Stopped::Failed(format!("{other:?}")),
                // Interrupted, or to be tried again: as if nothing had been.
                Err(error) if [libc::EINTR, libc::EAGAIN].contains(&error.errno()) => {}
                Err(error) => return Stopped::Failed(format!("KVM_RUN: {error}")),
            }
        }
        Stopped::Told
    }
}

/// 64 bits, flat segments, the first gibibyte mapped: as Linux wants its entry reached.
fn begin_at(fd: &VcpuFd, entry: u64) -> Result<(), Error> {
    let mut special = fd.get_sregs().map_err(call("KVM_GET_SREGS"))?;
    let data = segment(3, 0x3, 0);
    special.cs = segment(2, 0xb, 1);
    (special.ds, special.es, special.ss) = (data, data, data);
    (special.fs, special.gs) = (data, data);
    special.tr = kvm_segment { db: 0, ..segment(4, 0xb, 0) };
    special.tr.s = 0;
    special.gdt.base = at::GDT;
    special.gdt.limit = 5 * 8 - 1;
    special.idt.limit = 0;
    special.cr0 |= 1 | 1 << 31; // protection, paging
    special.cr3 = at::PAGE_TABLES;
    special.cr4 |= 1 << 5; // physical addresses of 64 bits
    special.efer |= 1 << 8 | 1 << 10; // long mode, enabled and active
    fd.set_sregs(&special).map_err(call("KVM_SET_SREGS"))?;
    let regs = kvm_regs {
        rip: entry,
        rsi: at::BOOT_PARAMS,
        rsp: at::STACK,
        rbp: at::STACK,
        rflags: 2,
        ..Default::default()
    };
    fd.set_regs(&regs).map_err(call("KVM_SET_REGS"))
}

/// A flat segment, present, of kind `kind` (SDM vol. 3 §3.4.5.1); `long` is of 64 bits.
fn segment(index: u16, kind: u8, long: u8) -> kvm_segment {
    kvm_segment {
        base: 0,
        limit: 0xffff_ffff,
        selector: index * 8,
        type_: kind,
        present: 1,
        dpl: 0,
        db: 1 - long,
        s: 1,
        l: long,
        g: 1,
        ..Default::default()
    }
}

/// Memory is cached, and strings are fast: what firmware would have left behind.
fn set_model_registers(fd: &VcpuFd) -> Result<(), Error> {
    const MISC_ENABLE: u32 = 0x1a0;
    const MTRR_DEF_TYPE: u32 = 0x2ff;
    let row = |index, data| kvm_msr_entry { index, data, ..Default::default() };
    let rows = [row(MISC_ENABLE, 1), row(MTRR_DEF_TYPE, 1 << 11 | 6)];
    let Ok(rows) = Msrs::from_entries(&rows) else {
        return Err(Error::Missing("room for registers"));
    };
    // It says how many it has set; on a processor without one of them, what is left is its default.
    fd.set_msrs(&rows).map(|_| ()).map_err(call("KVM_SET_MSRS"))
}

/// Interrupts from outside on the first line of the local controller, NMI on the second.
fn set_local_lines(fd: &VcpuFd) -> Result<(), Error> {
    const LINE_0: usize = 0x350;
    const LINE_1: usize = 0x360;
    const OUTSIDE: u8 = 7;
    const NMI: u8 = 4;
    let mut local = fd.get_lapic().map_err(call("KVM_GET_LAPIC"))?;
    for (register, mode) in [(LINE_0, OUTSIDE), (LINE_1, NMI)] {
        // The delivery mode is bits 8 to 10 of a word.
        let byte = &mut local.regs[register + 1];
        *byte = (byte.cast_unsigned() & !7 | mode).cast_signed();
    }
    fd.set_lapic(&local).map_err(call("KVM_SET_LAPIC"))
}
