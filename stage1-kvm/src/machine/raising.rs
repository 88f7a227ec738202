//! From a plan to a guest that waits for apps.
//!
//! 1. everything is opened that the machine is to have, and wires to its networks are laid; what is
//!    missing is refused here;
//! 2. the servers of volumes and the monitor are started, in the pod's cgroup;
//! 3. the guest boots and says so, or one of many things ends the wait;
//! 4. it is told what pod it is for, is given its secrets, and starts stage2-init.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{Seek, SeekFrom, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::time::{SystemTime, UNIX_EPOCH};

use namespaces::{layer_images, open_program};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use pod_abi::guest::{Configure, Extent, Hello, Scratch, Share as Told, ToGuest};
use pod_abi::network::Joined;
use pod_abi::stage::Names;
use pod_abi::{Timestamp, VolumeName, version};
use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, memfd_create};
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use supervisor::{Born, During, Failure, Networks};
use vmm::description::{Description, fd};

use super::{Crew, Line, Machine};
use crate::alarm::Alarm;
use crate::child::{Cage, Child, Ids};
use crate::helm::Helm;
use crate::host::Ready;
use crate::network::{Namespace, Wire};
use crate::plan::{COMMAND_LINE, Plan, guest_order};
use crate::share::{self, Share};
use crate::talk::Talk;
use crate::{scratch, token};

/// What a machine is made of, opened.
struct Parts {
    ready: Ready,
    images: Vec<(Extent, OwnedFd)>,
    scratch: Option<OwnedFd>,
    shares: Vec<Share>,
    joined: Option<Joined>,
    wires: Vec<Wire>,
}

impl Machine<'_> {
    pub(super) fn boot(&mut self, networks: &dyn Networks) -> Result<Born, Failure> {
        let plan = self.plan()?.clone();
        self.signals = Some(self.ending_signals()?);
        let parts = self.open(&plan, networks)?;
        self.shared = parts.shares.iter().map(|one| (one.volume.clone(), one.read_only)).collect();
        let leaf = self.enclosure.make()?;
        let inner = self.start(&plan, &parts, leaf.as_ref())?;
        let hello = self.greet()?;
        if hello.version != version::GUEST {
            let what = "the guest was prepared by another release";
            return Err(Failure::new(what)
                .code("vm.guest-version")
                .hint("`stage1-kvm setup` prepares it anew"));
        }
        let mut configure = self.configure(&plan, &parts)?;
        for app in std::mem::take(&mut configure.order.apps) {
            self.have_done(&ToGuest::App(Box::new(app)), self.patience.answer)?;
        }
        self.have_done(&ToGuest::Configure(Box::new(configure)), self.patience.laying_out)?;
        self.tell_secrets()?;
        self.have_done(&ToGuest::Raise, self.patience.answer)?;
        let crew = self.crew.get_mut();
        let monitor = crew.monitor.as_ref().ok_or_else(|| Failure::new("there is no monitor"))?;
        let end = monitor.pidfd().try_clone().during(|| "cannot copy a descriptor")?;
        Ok(Born { channel: inner, end, pid: Some(monitor.pid()), joined: parts.joined })
    }

    fn open(&mut self, plan: &Plan, networks: &dyn Networks) -> Result<Parts, Failure> {
        // What the order asks for first: it may be refused on a host that has no kernel for guests.
        let shares = plan.shares.iter().map(share::open).collect::<Result<_, _>>()?;
        let layers = layer_images(self.order.pod.sandbox.layers, &self.order.apps)?;
        let images = self.open_layers(self.ground.layers.as_fd(), &layers)?;
        let scratch = plan.scratch.map(|bytes| scratch::open(self.ground.pod, bytes));
        let scratch = scratch.transpose()?;
        let ready = (self.ready)(self.signals.as_ref().map(AsFd::as_fd))?;
        let mut parts = Parts { ready, images, scratch, shares, joined: None, wires: Vec::new() };
        if plan.networked {
            // What is in it and leads to it ends with the machine.
            let namespace = self.network.insert(Namespace::make()?);
            parts.joined = Some(networks.join(namespace.as_fd())?);
            parts.wires = namespace.wire()?;
        }
        Ok(parts)
    }

    /// Starts the servers and the monitor; returns our end of port INNER.
    fn start(
        &mut self,
        plan: &Plan,
        parts: &Parts,
        leaf: Option<&OwnedFd>,
    ) -> Result<OwnedFd, Failure> {
        let Crew { monitor, servers } = self.crew.get_mut();
        let cgroup = leaf.map(AsFd::as_fd);
        let mut volumes = Vec::new();
        if !parts.shares.is_empty() {
            let program = open_program("fsd")?;
            for share in &parts.shares {
                let (server, stream) = share.serve(program.as_fd(), cgroup)?;
                servers.push(server);
                volumes.push(stream);
            }
        }
        let (helm, its_helm) = Helm::pair()?;
        let (wall, its_wall) = stream()?;
        let (inner, its_inner) = stream()?;
        let description = sealed(&Description {
            memory: plan.memory,
            vcpus: plan.vcpus,
            command_line: COMMAND_LINE.to_owned(),
            images: parts.images.iter().map(|(extent, _)| *extent).collect(),
            scratch: parts.scratch.is_some(),
            nics: parts.wires.iter().map(Wire::nic).collect(),
            shares: (0..volumes.len()).map(share::tag).collect(),
        })?;
        let mut descriptors = vec![
            (fd::DESCRIPTION, description.as_fd()),
            (fd::HELM, its_helm.as_fd()),
            (fd::KVM, parts.ready.kvm.as_fd()),
            (fd::KERNEL, parts.ready.vmlinux.as_fd()),
            (fd::INITRAMFS, parts.ready.initramfs.as_fd()),
            (fd::WALL, its_wall.as_fd()),
            (fd::INNER, its_inner.as_fd()),
        ];
        let images = parts.images.iter().map(|(_, file)| file.as_fd());
        let row = images
            .chain(parts.scratch.as_ref().map(AsFd::as_fd))
            .chain(parts.wires.iter().map(|wire| wire.tap.as_fd()))
            .chain(volumes.iter().map(AsFd::as_fd));
        descriptors.extend((fd::FIRST..).zip(row));
        let program = open_program("vmm")?;
        let cage = Cage {
            name: "vmm",
            program: program.as_fd(),
            arguments: &[],
            descriptors,
            own_descriptors: None,
            ids: Ids::One(plan.user),
            cgroup,
        };
        *monitor = Some(Child::start(&cage)?);
        let alarm = Alarm::new()?;
        alarm.watch(&wall)?;
        servers.iter().try_for_each(|server| alarm.watch(server.child.pidfd()))?;
        self.alarm = Some(alarm);
        *self.line.get_mut() = Some(Line { helm, talk: Talk::new(wall) });
        Ok(inner)
    }

    /// Waits until the guest has booted, or will not.
    fn greet(&self) -> Result<Hello, Failure> {
        let mut line = self.line.borrow_mut();
        let Some(line) = line.as_mut() else { return Err(Failure::new("there is no machine")) };
        let greeting = {
            let crew = self.crew.borrow();
            let watch = crew
                .watch(self.patience.boot, self.interruption())
                .ok_or_else(|| Failure::new("there is no monitor"))?;
            line.talk.greeting(&watch)
        };
        greeting.map_err(|loss| self.lose(line, loss))
    }

    /// Returns a descriptor that is readable when the pod was asked to end. The supervisor has
    /// blocked these signals and reads them: here they are only seen.
    fn ending_signals(&self) -> Result<SignalFd, Failure> {
        let mut set = SigSet::empty();
        set.add(Signal::SIGTERM);
        set.add(Signal::SIGINT);
        set.add(Signal::SIGQUIT);
        if self.order.service.is_none() {
            set.add(Signal::SIGHUP);
        }
        SignalFd::with_flags(&set, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)
            .during(|| "cannot see signals, signalfd4()")
    }

    fn configure(&self, plan: &Plan, parts: &Parts) -> Result<Configure, Failure> {
        let files: BTreeSet<VolumeName> = parts
            .shares
            .iter()
            .filter(|share| share.is_file)
            .map(|share| share.volume.clone())
            .collect();
        let told = |(number, share): (usize, &Share)| Told {
            volume: share.volume.clone(),
            tag: share::tag(number),
            read_only: share.read_only,
        };
        let mut order = guest_order(self.order, &files);
        if let Some(joined) = &parts.joined {
            let Names { resolv_conf, hosts } = self.order.names(joined);
            (order.resolv_conf, order.hosts) = (resolv_conf, hosts);
        }
        Ok(Configure {
            version: version::GUEST,
            now: now(),
            entropy: token::digits(&token::random::<64>()?),
            order: Box::new(order),
            layers: self.disk.map_of(&plan.layers),
            shares: parts.shares.iter().enumerate().map(told).collect(),
            scratch: if parts.scratch.is_some() { Scratch::Disk } else { Scratch::Memory },
            links: parts.wires.iter().map(|wire| wire.link.clone()).collect(),
        })
    }
}

/// Returns the time, in nanoseconds since 1970.
fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp(u64::try_from(since.as_nanos()).unwrap_or(u64::MAX))
}

fn stream() -> Result<(OwnedFd, OwnedFd), Failure> {
    socketpair(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)
        .during(|| "cannot make a stream to the guest, socketpair()")
}

/// Writes a description into memory that nobody can change afterwards.
fn sealed(description: &Description) -> Result<OwnedFd, Failure> {
    let writing = || "cannot write the description of a machine";
    let bytes = serde_json::to_vec(description).map_err(|error| Failure::of(writing(), error))?;
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let mut file = File::from(memfd_create("machine", flags).during(writing)?);
    file.write_all(&bytes).during(writing)?;
    file.seek(SeekFrom::Start(0)).during(writing)?;
    let seals = SealFlags::WRITE | SealFlags::GROW | SealFlags::SHRINK | SealFlags::SEAL;
    fcntl_add_seals(&file, seals).during(writing)?;
    Ok(file.into())
}
