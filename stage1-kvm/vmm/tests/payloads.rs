//! Machines whose guests are a few instructions, on the KVM of this host: exits, ports, registers,
//! how a machine ends. They run even where KVM is too slow for a kernel.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::io::Write as _;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use confine::OnViolation;
use rustix::fs::{MemfdFlags, memfd_create};
use rustix::net::{AddressFamily, RecvFlags, SocketFlags, SocketType, recv, socketpair};
use vmm::counters::Tally;
use vmm::description::Description;
use vmm::helm::{End, EndClass, FromVmm, MAX_PACKET, OfDevice};
use vmm::machine::{self, Confine};
use vmm::outfit::{Given, Resources};
use vmm::sandbox::Sandbox;

/// Where payloads lie.
const ENTRY: u32 = 0x100_0000;
/// Registers of the first device.
const DEVICE: u32 = 0xd000_0000;

/// Instructions of a processor in 64-bit mode, as they are written down.
#[derive(Default)]
struct Code(Vec<u8>);

impl Code {
    fn raw(mut self, bytes: &[u8]) -> Self {
        self.0.extend(bytes);
        self
    }

    /// `mov dx, port; mov al, value; out dx, al`
    fn out(self, port: u16, value: u8) -> Self {
        let [low, high] = port.to_le_bytes();
        self.raw(&[0x66, 0xba, low, high, 0xb0, value, 0xee])
    }

    /// `mov dx, port; in al, dx`
    fn read_port(self, port: u16) -> Self {
        let [low, high] = port.to_le_bytes();
        self.raw(&[0x66, 0xba, low, high, 0xec])
    }

    fn say(self, text: &str) -> Self {
        text.bytes().fold(self, |code, byte| code.out(0x3f8, byte))
    }

    /// `mov dx, 0x3f8; out dx, al`
    fn say_al(self) -> Self {
        self.raw(&[0x66, 0xba, 0xf8, 0x03, 0xee])
    }

    /// `mov eax, value; mov [address], rax`
    fn store(self, address: u32, value: u32) -> Self {
        let mut code = self.raw(&[0xb8]).raw(&value.to_le_bytes());
        code = code.raw(&[0x48, 0x89, 0x04, 0x25]);
        code.raw(&address.to_le_bytes())
    }

    /// Maps 2 MiB of the fourth gibibyte to themselves: the page tables there are shared with the
    /// first, whose page at the same place is lost.
    fn map(self, address: u32) -> Self {
        let index = (address >> 21) & 511;
        self.store(0xa018, 0xb003).store(0xb000 + index * 8, (address & !0x1f_ffff) | 0x83)
    }

    /// `mov edi, address; mov eax, [rdi]`
    fn load(self, address: u32) -> Self {
        self.raw(&[0xbf]).raw(&address.to_le_bytes()).raw(&[0x8b, 0x07])
    }

    /// `mov edi, address; mov dword [rdi], value`
    fn put(self, address: u32, value: u32) -> Self {
        let code = self.raw(&[0xbf]).raw(&address.to_le_bytes()).raw(&[0xc7, 0x07]);
        code.raw(&value.to_le_bytes())
    }

    fn switch_off(self) -> Self {
        self.out(0x600, 0x34).raw(&[0xf4])
    }

    /// As an ELF file.
    fn elf(&self) -> Vec<u8> {
        let length = self.0.len() as u64;
        let mut file = b"\x7fELF\x02\x01\x01".to_vec();
        file.resize(16, 0);
        file.extend([2, 0, 62, 0, 1, 0, 0, 0]);
        file.extend(u64::from(ENTRY).to_le_bytes());
        file.extend(64_u64.to_le_bytes());
        file.resize(54, 0);
        file.extend([56, 0, 1, 0]);
        file.resize(64, 0);
        file.extend([1, 0, 0, 0, 7, 0, 0, 0]);
        for word in [0x1000, 0, u64::from(ENTRY), length, length + 0x1000, 0x1000] {
            file.extend(word.to_le_bytes());
        }
        file.resize(0x1000, 0);
        file.extend(&self.0);
        file
    }
}

fn file(bytes: &[u8]) -> OwnedFd {
    let fd = memfd_create("payload", MemfdFlags::CLOEXEC).unwrap();
    let mut done = 0;
    while done < bytes.len() {
        done += rustix::io::pwrite(&fd, &bytes[done..], done as u64).unwrap();
    }
    fd
}

fn pair(kind: SocketType) -> (OwnedFd, OwnedFd) {
    socketpair(AddressFamily::UNIX, kind, SocketFlags::CLOEXEC, None).unwrap()
}

/// Runs a payload to its end; none without KVM.
fn run_with(code: &Code, vcpus: u8) -> Option<End> {
    let Ok(kvm) = std::fs::File::options().read(true).write(true).open("/dev/kvm") else {
        let _ = writeln!(std::io::stderr(), "skipped: /dev/kvm cannot be opened");
        return None;
    };
    let description = Description {
        memory: 64 << 20,
        vcpus,
        command_line: "console=ttyS0".into(),
        images: Vec::new(),
        scratch: false,
        nics: Vec::new(),
        shares: Vec::new(),
    };
    let (helm, ours) = pair(SocketType::SEQPACKET);
    let ((wall, _wall), (inner, _inner)) = (pair(SocketType::STREAM), pair(SocketType::STREAM));
    let rest = Resources {
        kvm: Some(kvm.into()),
        kernel: file(&code.elf()),
        initramfs: file(b"0707"),
        wall: Some(wall),
        inner: Some(inner),
        images: Vec::new(),
        scratch: None,
        taps: Vec::new(),
        shares: Vec::new(),
    };
    // In a thread of its own, which is confined as the monitor is: what a test does is not.
    let confine: Arc<dyn Confine> = Arc::new(Sandbox { on: OnViolation::Kill });
    let run = move || {
        machine::run(&description, Given { helm, rest }, Arc::new(Tally::begin()), &confine)
    };
    std::thread::spawn(run).join().unwrap();
    let mut packet = vec![0; MAX_PACKET];
    let (length, _) = recv(&ours, &mut packet[..], RecvFlags::DONTWAIT).unwrap();
    match serde_json::from_slice(&packet[..length]).unwrap() {
        FromVmm::Ended(end) => Some(end),
        other @ FromVmm::Counted(_) => panic!("{other:?}"),
    }
}

fn run(code: &Code) -> Option<End> {
    run_with(code, 1)
}

#[test]
fn what_a_guest_says_is_kept_and_switching_off_ends_it() {
    let Some(end) = run(&Code::default().say("hello\n").switch_off()) else { return };
    assert_eq!(end.class, EndClass::PoweredOff, "{end:?}");
    assert_eq!(end.console, "hello\n");
    assert_eq!((end.counters.port_exits, end.counters.unclaimed), (7, 0), "{end:?}");
}

#[test]
fn a_reset_ends_the_machine() {
    let Some(end) = run(&Code::default().out(0x600, 1).raw(&[0xf4])) else { return };
    assert_eq!(end.class, EndClass::Reset, "{end:?}");
}

#[test]
fn a_triple_fault_is_a_crash_with_its_console() {
    // ud2, without a table of interrupts
    let Some(end) = run(&Code::default().say("oops").raw(&[0x0f, 0x0b])) else { return };
    assert_eq!((end.class, &*end.console), (EndClass::Crashed, "oops"), "{end:?}");
    assert!(end.message.contains("triple fault"), "{end:?}");
}

#[test]
fn registers_of_a_device_answer_and_are_counted() {
    let code = Code::default().map(DEVICE).load(DEVICE).say_al().load(DEVICE + 8);
    // The number of the device: a digit.
    let code = code.raw(&[0x04, b'0']).say_al();
    // A write nobody expects now: counted as a violation.
    let code = code.put(DEVICE + 0x44, 1).switch_off();
    let Some(end) = run(&code) else { return };
    assert_eq!(end.class, EndClass::PoweredOff, "{end:?}");
    assert_eq!(end.console, "v2");
    let disk = OfDevice { exits: 3, interrupts: 0, violations: 1 };
    assert_eq!(end.counters.devices, [disk, OfDevice::default()], "{end:?}");
    assert_eq!(end.counters.unclaimed, 0, "{end:?}");
}

#[test]
fn what_is_nobodys_is_counted_and_named_but_what_every_kernel_looks_at() {
    let code = Code::default().out(0x5000, 1).read_port(0x71).say_al();
    let code = code.out(0x70, 0xf).out(0x71, 0xa).read_port(0xcfc).out(0xcf8, 0);
    let code = code.map(0xd010_0000).load(0xd010_0000).switch_off();
    let Some(end) = run(&code) else { return };
    assert_eq!(end.class, EndClass::PoweredOff, "{end:?}");
    // A clock that was always being changed would be asked for seconds.
    assert_eq!(end.console, "\0");
    assert_eq!(end.counters.strangers, ["out 0x5000", "in 0x71", "read 0xd0100000"]);
}

#[test]
fn a_second_processor_starts_when_it_is_told_to() {
    // 16 bits, at 0x10000: mov al, 'A'; mov dx, 0x3f8; out dx, al; mov byte [0x600], 1; hlt
    let second =
        [0xb0, b'A', 0xba, 0xf8, 0x03, 0xee, 0xc6, 0x06, 0x00, 0x06, 0x01, 0xf4, 0x90, 0x90];
    let mut code = Code::default().map(0xfee0_0000);
    for (word, at) in second.chunks(2).zip((0x1_0000..).step_by(2)) {
        code = code.store(at, u32::from(word[0]) | u32::from(word[1]) << 8);
    }
    // INIT, then where to start, to the processor with number 1.
    let code = code.put(0xfee0_0310, 1 << 24).put(0xfee0_0300, 0x4500);
    let code = code.put(0xfee0_0310, 1 << 24).put(0xfee0_0300, 0x4610);
    // cmp byte [0x600], 1; jne back
    let code = code.raw(&[0x80, 0x3c, 0x25, 0x00, 0x06, 0, 0, 1, 0x75, 0xf6]).say("B").switch_off();
    let Some(end) = run_with(&code, 2) else { return };
    assert_eq!((end.class, &*end.console), (EndClass::PoweredOff, "AB"), "{end:?}");
}

#[test]
fn a_description_no_machine_has_is_refused() {
    let Some(end) = run_with(&Code::default(), 33) else { return };
    assert_eq!(end.class, EndClass::Failed);
    assert!(end.message.contains("processors"), "{end:?}");
}
