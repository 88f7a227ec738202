//! Which devices a description asks for, in the order a guest finds them.
//!
//! | place | device | thread |
//! |---|---|---|
//! | 0 | the disk of images | disks |
//! | 1 | streams | main |
//! | then, if there is one | the writable disk | disks |
//! | then | each network interface | main |
//! | then | each shared directory | main |

use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, PoisonError};

use crate::description::Description;
use crate::devices::disk::Disk;
use crate::devices::fs::Fs;
use crate::devices::images::{Images, Map};
use crate::devices::net::Net;
use crate::devices::scratch::Scratch;
use crate::devices::vsock::Vsock;
use crate::host::{Brought, Host};
use crate::virtio::{Device, Fault};

/// The descriptors of a description, as it has them.
#[derive(Debug)]
pub struct Given {
    /// The helm.
    pub helm: OwnedFd,
    /// All others.
    pub rest: Resources,
}

/// What a machine is made of and holds.
#[derive(Debug)]
pub struct Resources {
    /// `/dev/kvm`, until the machine has taken it.
    pub kvm: Option<OwnedFd>,
    /// The kernel.
    pub kernel: OwnedFd,
    /// The initramfs.
    pub initramfs: OwnedFd,
    /// The host's end of the wall's port.
    pub wall: Option<OwnedFd>,
    /// The host's end of the inner port.
    pub inner: Option<OwnedFd>,
    /// A file for each of the images.
    pub images: Vec<OwnedFd>,
    /// The file of the writable disk.
    pub scratch: Option<OwnedFd>,
    /// A tap for each network interface.
    pub taps: Vec<OwnedFd>,
    /// A stream to the server of each share.
    pub shares: Vec<OwnedFd>,
}

impl Resources {
    /// `/dev/kvm`, once.
    ///
    /// # Errors
    ///
    /// It was taken.
    pub fn kvm(&mut self) -> Result<OwnedFd, Fault> {
        self.kvm.take().ok_or_else(|| Fault("there is no second machine".into()))
    }
}

/// Whose device it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Thread {
    /// The loop's.
    Main,
    /// The thread's that may wait for files.
    Disks,
}

/// A device, and the thread that serves it.
pub type Served = (Thread, Box<dyn Device>);

/// The devices of a machine.
///
/// # Errors
///
/// What is given does not do for one of them.
pub fn devices(
    description: &Description,
    given: &mut Resources,
    images: &Map,
    host: &Arc<Mutex<Host>>,
) -> Result<Vec<Served>, Fault> {
    for (&extent, file) in description.images.iter().zip(given.images.drain(..)) {
        images.add(extent, file).map_err(|error| Fault(error.to_string()))?;
    }
    let tally = Arc::clone(host.lock().unwrap_or_else(PoisonError::into_inner).tally());
    let disk = Disk::new(Images::new(images.clone(), tally));
    let mut devices: Vec<Served> = vec![(Thread::Disks, Box::new(disk))];
    if let (Some(wall), Some(inner)) = (given.wall.take(), given.inner.take()) {
        let vsock = Vsock::new(wall, inner, Box::new(Brought(Arc::clone(host))));
        devices.push((Thread::Main, Box::new(vsock)));
    }
    if let Some(file) = given.scratch.take() {
        let scratch =
            Scratch::new(file).map_err(|error| Fault(format!("the scratch disk: {error}")))?;
        devices.push((Thread::Disks, Box::new(Disk::new(scratch))));
    }
    for (&nic, tap) in description.nics.iter().zip(given.taps.drain(..)) {
        devices.push((Thread::Main, Box::new(Net::new(tap, nic))));
    }
    for (tag, server) in description.shares.iter().zip(given.shares.drain(..)) {
        devices.push((Thread::Main, Box::new(Fs::new(tag, server))));
    }
    Ok(devices)
}
