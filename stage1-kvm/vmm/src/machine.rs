//! One machine, from its description to its end.
//!
//! ```text
//!   1. memory: the kernel, the initramfs, what Linux is told
//!   2. KVM: the machine, its interrupts
//!   3. devices, in the order a guest finds them; their registers
//!   4. processors
//!   5. confinement; threads
//!   6. rounds: the helm first, then devices; until somebody knows of an end
//! ```

use std::os::fd::AsFd as _;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::Builder;
use std::time::{Duration, Instant};

use rustix::event::epoll::EventFlags;
use vm_memory::{Bytes as _, GuestAddress};

use crate::bell::Bell;
use crate::board::Board;
use crate::boot::{self, acpi, at, elf, line, linux};
use crate::console::Console;
use crate::counters::Tally;
use crate::description::{Description, MAX_NICS, MAX_SHARES, MAX_VCPUS};
use crate::devices::images::Map;
use crate::ending::Ending;
use crate::helm::{End, EndClass, FromVmm};
use crate::host::{Figures, Host};
use crate::kvm::cpu::{Cpu, Stopped};
use crate::kvm::{self, Vm, cpuid};
use crate::memory::{self, Memory};
use crate::outfit::{self, Given, Resources, Thread};
use crate::service::{Kept, Service};
use crate::virtio::transport::{Facts, Transport, Wiring, register};
use crate::virtio::{Device, Fault, Interrupt, Status};

/// What a thread does, for whoever confines it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// The loop: it hears the helm and serves all devices but disks.
    Loop,
    /// The disks'.
    Disks,
    /// A processor's.
    Processor,
}

/// How the monitor confines itself.
pub trait Confine: Send + Sync {
    /// The process: nothing runs yet, all it needs is open.
    ///
    /// # Errors
    ///
    /// It cannot be confined so: nothing is started.
    fn process(&self) -> Result<(), Fault>;

    /// A thread, on itself, before it does anything.
    ///
    /// # Errors
    ///
    /// It cannot be confined so: the machine ends.
    fn thread(&self, role: Role) -> Result<(), Fault>;
}

/// Bytes of a thread's stack: none calls deep, and only pages that are used count.
const STACK: usize = 256 << 10;

/// Bytes of what a kernel has said that are told at the end.
const CONSOLE_TOLD: usize = 16 << 10;

/// How long devices may take to let go of what they hold once the machine has ended.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// What the loop waits for beside devices.
mod token {
    use crate::service::MAILBOX;

    /// The helm.
    pub(super) const HELM: u32 = MAILBOX + 1;
    /// The end.
    pub(super) const ENDING: u32 = MAILBOX + 2;
}

/// A machine that is built and has not run.
#[derive(Debug)]
struct Machine {
    vm: Arc<Vm>,
    cpus: Vec<Cpu>,
    board: Arc<Board>,
    console: Arc<Console>,
    ending: Arc<Ending>,
    services: Services,
}

/// The threads' devices.
#[derive(Debug)]
struct Services {
    main: Service,
    disks: Service,
}

/// Runs a machine to its end, and tells it on the helm; returns how it was.
///
/// Threads of processors may still be there: they end with the process, which should follow.
pub fn run(
    description: &Description,
    mut given: Given,
    tally: Arc<Tally>,
    confine: &Arc<dyn Confine>,
) -> EndClass {
    let images = Map::default();
    let figures = Figures { tally, devices: Vec::new() };
    let host = Host::new(given.helm, images.clone(), figures);
    let host = Arc::new(Mutex::new(host));
    let built = Machine::build(description, &mut given.rest, &images, &host);
    let (console, ended) = match built {
        Ok(machine) => {
            let console = Arc::clone(&machine.console);
            (Some(console), machine.go(&host, confine))
        }
        Err(fault) => (None, (EndClass::Failed, fault.0)),
    };
    let (class, message) = ended;
    let host = lock(&host);
    let console = console.map(|console| console.tail(CONSOLE_TOLD)).unwrap_or_default();
    let counters = host.counted();
    // Nobody hears it if whoever started the monitor is gone: then nobody needs to.
    let _ = host.say(&FromVmm::Ended(End { class, message, console, counters }));
    class
}

impl Machine {
    fn build(
        description: &Description,
        given: &mut Resources,
        images: &Map,
        host: &Arc<Mutex<Host>>,
    ) -> Result<Self, Fault> {
        check(description, given)?;
        let memory = memory::map(description.memory).map_err(|_| {
            Fault(format!("there is no room for {} bytes of memory", description.memory))
        })?;
        let tally = Arc::clone(lock(host).tally());
        let devices = outfit::devices(description, given, images, host)?;
        let count = u8::try_from(devices.len()).unwrap_or(u8::MAX);
        let entry = fill(&memory, description, given, count)?;
        let vm = Vm::new(kvm::adopt(given.kvm()?), memory).map_err(fault)?;

        let ending = Arc::new(Ending::open().map_err(fault)?);
        let [main, disks] = [Service::new().map_err(fault)?, Service::new().map_err(fault)?];
        let mut services = Services { main, disks };
        let mut transports = Vec::new();
        for ((thread, device), index) in devices.into_iter().zip(0..) {
            transports.push(services.attach(&vm, thread, device, index)?);
        }
        lock(host).watch(transports.iter().map(|device| Arc::clone(device.status())).collect());

        let bell = Bell::new().map_err(fault)?;
        vm.interrupt(&bell, line::CONSOLE).map_err(fault)?;
        let console = Arc::new(Console::new(bell));
        let board = Board::new(transports, Arc::clone(&console), tally, Arc::clone(&ending));

        let common = cpuid::supported(&vm.kvm).map_err(fault)?;
        let cpus = (0..description.vcpus)
            .map(|id| Cpu::new(&vm, &common, (id, description.vcpus), entry))
            .collect::<Result<_, _>>()
            .map_err(fault)?;
        Ok(Self { vm: Arc::new(vm), cpus, board: Arc::new(board), console, ending, services })
    }

    /// Runs it; returns how it has ended.
    fn go(self, host: &Arc<Mutex<Host>>, confine: &Arc<dyn Confine>) -> (EndClass, String) {
        let Self { vm, cpus, board, ending, services: Services { mut main, disks }, .. } = self;
        let go = || -> Result<(), Fault> {
            let watch = main.watch();
            watch.add(&*lock(host), token::HELM, EventFlags::IN).map_err(fault)?;
            watch.add(&*ending, token::ENDING, EventFlags::IN).map_err(fault)?;
            confine.process()?;
            start_disks(disks, &ending, confine)?;
            for cpu in cpus {
                start_processor(cpu, (&vm, &board), &ending, confine)?;
            }
            confine.thread(Role::Loop)?;
            rounds(&mut main, host, &ending)
        };
        if let Err(fault) = go() {
            ending.tell(EndClass::Failed, fault.0);
        }
        let known = ending.known().cloned();
        known.unwrap_or_else(|| (EndClass::Failed, "the monitor has lost its way".into()))
    }
}

impl Services {
    /// Gives a device to its thread, and the guest its registers.
    fn attach(
        &mut self,
        vm: &Vm,
        thread: Thread,
        device: Box<dyn Device>,
        index: u8,
    ) -> Result<Transport<Kept>, Fault> {
        let facts = Facts::of(&*device);
        let service = match thread {
            Thread::Main => &mut self.main,
            Thread::Disks => &mut self.disks,
        };
        let berth = service.take(device).map_err(fault)?;
        let registers = at::DEVICES + u64::from(index) * at::DEVICE_SIZE;
        for (queue, bell) in (0..).zip(&berth.notified) {
            vm.notify(bell, registers + register::QUEUE_NOTIFY, queue).map_err(fault)?;
        }
        let bell = Bell::new().map_err(fault)?;
        vm.interrupt(&bell, line::DEVICES + u32::from(index)).map_err(fault)?;
        let status = Arc::new(Status::default());
        let wiring = Wiring {
            memory: Arc::clone(&vm.memory),
            interrupt: Interrupt::new(Arc::clone(&status), Some(bell)),
            status,
            notified: berth.notified,
            watch: berth.watch,
        };
        Ok(Transport::new(facts, wiring, berth.kept))
    }
}

/// What no description may ask for.
fn check(description: &Description, given: &Resources) -> Result<(), Fault> {
    const STEP: u64 = 2 << 20;
    let memory = description.memory;
    let what = if memory < STEP || !memory.is_multiple_of(STEP) {
        "memory"
    } else if description.vcpus == 0 || description.vcpus > MAX_VCPUS {
        "processors"
    } else if description.shares.len() > MAX_SHARES {
        "shares"
    } else if description.nics.len() > MAX_NICS {
        "network interfaces"
    } else if description.images.len() != given.images.len()
        || description.shares.len() != given.shares.len()
        || description.scratch != given.scratch.is_some()
        || description.nics.len() != given.taps.len()
    {
        "descriptors"
    } else {
        return Ok(());
    };
    Err(Fault(format!("no machine has such {what}: {description:?}")))
}

/// Fills memory; returns where the first processor begins.
fn fill(
    memory: &Memory,
    description: &Description,
    given: &Resources,
    devices: u8,
) -> Result<u64, Fault> {
    let (kernel, initramfs) = (given.kernel.as_fd(), given.initramfs.as_fd());
    let image = elf::parse(kernel).map_err(boot::Error::Elf).map_err(fault)?;
    for segment in &image.segments {
        let elf::Segment { offset, length, address } = *segment;
        memory::place(memory, kernel, offset, length, address)
            .map_err(|error| Fault(format!("the kernel cannot be loaded: {error}")))?;
    }
    let length = rustix::fs::fstat(initramfs).map_err(fault)?.st_size;
    let length = u64::try_from(length).unwrap_or(0);
    let start = boot::initramfs_address(description.memory, image.end, length).map_err(fault)?;
    memory::place(memory, initramfs, 0, length, start)
        .map_err(|error| Fault(format!("the initramfs cannot be loaded: {error}")))?;
    let mut seed = [0; 32];
    rustix::rand::getrandom(&mut seed, rustix::rand::GetRandomFlags::empty()).map_err(fault)?;
    let told = linux::Told {
        memory: description.memory,
        command_line: &description.command_line,
        initramfs: (start, length),
        seed,
    };
    let mut pieces = linux::pieces(&told).map_err(fault)?;
    pieces.push(acpi::tables(description.vcpus, devices));
    for (address, bytes) in pieces {
        memory.write_slice(&bytes, GuestAddress(address)).map_err(fault)?;
    }
    Ok(image.entry)
}

fn start_disks(
    mut disks: Service,
    ending: &Arc<Ending>,
    confine: &Arc<dyn Confine>,
) -> Result<(), Fault> {
    let (ending, confine) = (Arc::clone(ending), Arc::clone(confine));
    let serve = move || {
        let mut serve = || -> Result<(), Fault> {
            confine.thread(Role::Disks)?;
            loop {
                let ready = disks.wait(None)?;
                disks.serve(&ready)?;
            }
        };
        if let Err(fault) = serve() {
            ending.tell(EndClass::Failed, fault.0);
        }
    };
    Builder::new().name("disks".into()).stack_size(STACK).spawn(serve).map(drop).map_err(fault)
}

fn start_processor(
    mut cpu: Cpu,
    (vm, board): (&Arc<Vm>, &Arc<Board>),
    ending: &Arc<Ending>,
    confine: &Arc<dyn Confine>,
) -> Result<(), Fault> {
    let (vm, board) = (Arc::clone(vm), Arc::clone(board));
    let (ending, confine) = (Arc::clone(ending), Arc::clone(confine));
    let run = move || {
        // What the processor runs in stays mapped as long as it does.
        let _vm = vm;
        if let Err(fault) = confine.thread(Role::Processor) {
            return ending.tell(EndClass::Failed, fault.0);
        }
        match cpu.run(&*board) {
            Stopped::Told => {}
            Stopped::TripleFault => {
                ending.tell(EndClass::Crashed, "a triple fault");
            }
            Stopped::Failed(why) => {
                ending.tell(
                    EndClass::Crashed,
                    format!("a processor of the guest has stopped: {why}"),
                );
            }
        }
    };
    Builder::new().name("processor".into()).stack_size(STACK).spawn(run).map(drop).map_err(fault)
}

/// The loop. What a guest hears of was brought before, so the helm is heard before any device.
fn rounds(main: &mut Service, host: &Mutex<Host>, ending: &Ending) -> Result<(), Fault> {
    while ending.known().is_none() {
        let ready = main.wait(None)?;
        lock(host).listen()?;
        main.serve(&ready)?;
    }
    main.look_at_all()?;
    let until = Instant::now() + LAST_WORDS;
    // The bell of the end stays rung: it would wake every round.
    main.watch().remove(ending).map_err(fault)?;
    while main.unfinished() {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            break;
        }
        let ready = main.wait(Some(left))?;
        main.serve(&ready)?;
    }
    Ok(())
}

fn fault(error: impl std::fmt::Display) -> Fault {
    Fault(error.to_string())
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
