//! Boots a kernel by hand, without a pod: `boot VMLINUX INITRAMFS [COMMAND-LINE [VCPUS [MIB [DISK]]]]`.
//!
//! Prints what the kernel has said, how the machine has ended, and what was counted. A guest of
//! ours is ended once it has said hello: nobody here has an answer. For whoever works on the
//! monitor; nothing of the product uses it.

#![allow(clippy::print_stdout, clippy::unwrap_used, reason = "a tool to be used by hand")]

use std::fs::File;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Instant;

use pod_abi::guest::Extent;
use rustix::net::{
    AddressFamily, RecvFlags, Shutdown, SocketFlags, SocketType, recv, shutdown, socketpair,
};
use vmm::counters::Tally;
use vmm::description::Description;
use vmm::helm::{FromVmm, MAX_PACKET};
use vmm::machine::{self, Confine, Role};
use vmm::outfit::{Given, Resources};
use vmm::virtio::Fault;

fn pair(kind: SocketType) -> (OwnedFd, OwnedFd) {
    socketpair(AddressFamily::UNIX, kind, SocketFlags::CLOEXEC, None).unwrap()
}

/// No confinement: this process has other things to do.
#[derive(Clone, Copy, Debug)]
struct Unconfined;

impl Confine for Unconfined {
    fn process(&self) -> Result<(), Fault> {
        Ok(())
    }

    fn thread(&self, _: Role) -> Result<(), Fault> {
        Ok(())
    }
}

fn main() {
    let tally = Arc::new(Tally::begin());
    let mut arguments = std::env::args().skip(1);
    let kernel = File::open(arguments.next().unwrap()).unwrap();
    let initramfs = File::open(arguments.next().unwrap()).unwrap();
    let command_line = arguments.next().unwrap_or_else(|| "console=ttyS0 panic=-1".into());
    let number = |text: Option<String>, default| text.map_or(default, |text| text.parse().unwrap());
    let vcpus = number(arguments.next(), 1_u64);
    let memory = number(arguments.next(), 256) << 20;
    let disk = arguments.next().map(|path| File::open(path).unwrap());
    let extent =
        disk.as_ref().map(|file| Extent { offset: 0, length: file.metadata().unwrap().len() });
    let description = Description {
        memory,
        vcpus: u8::try_from(vcpus).unwrap(),
        command_line,
        images: extent.into_iter().collect(),
        scratch: false,
        nics: Vec::new(),
        shares: Vec::new(),
    };
    let (helm, ours) = pair(SocketType::SEQPACKET);
    let ((wall, heard), (inner, _inner)) = (pair(SocketType::STREAM), pair(SocketType::STREAM));
    let kvm = File::options().read(true).write(true).open("/dev/kvm").unwrap();
    let rest = Resources {
        kvm: Some(kvm.into()),
        kernel: kernel.into(),
        initramfs: initramfs.into(),
        wall: Some(wall),
        inner: Some(inner),
        images: disk.into_iter().map(OwnedFd::from).collect(),
        scratch: None,
        taps: Vec::new(),
        shares: Vec::new(),
    };
    let ours = Arc::new(ours);
    let told = Arc::clone(&ours);
    std::thread::spawn(move || {
        let mut hello = [0; 4096];
        if recv(&heard, &mut hello[..], RecvFlags::empty()).is_ok_and(|(length, _)| length > 0) {
            shutdown(&*told, Shutdown::Write).unwrap();
        }
    });
    let confine: Arc<dyn Confine> = Arc::new(Unconfined);
    let begun = Instant::now();
    machine::run(&description, Given { helm, rest }, tally, &confine);
    let mut packet = vec![0; MAX_PACKET];
    let (length, _) = recv(&*ours, &mut packet[..], RecvFlags::DONTWAIT).unwrap();
    let FromVmm::Ended(end) = serde_json::from_slice(&packet[..length]).unwrap() else { return };
    println!(
        "{}\n{:?} after {:?}: {}\n{:#?}",
        end.console,
        end.class,
        begun.elapsed(),
        end.message,
        end.counters
    );
}
