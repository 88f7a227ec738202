//! The monitor's end of the helm: what it is told, kept until somebody asks for it.

use std::collections::BTreeMap;
use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex, PoisonError};

use pod_abi::guest::Token;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendFlags, recvmsg, sendmsg,
};

use crate::counters::Tally;
use crate::devices::images::Map;
use crate::devices::vsock::Plugs;
use crate::helm::{Counters, Direction, FromVmm, MAX_PACKET, ToVmm};
use crate::virtio::{Fault, Status};

/// The helm, as the monitor holds it.
#[derive(Debug)]
pub struct Host {
    socket: OwnedFd,
    plugs: BTreeMap<Token, (OwnedFd, Direction)>,
    images: Map,
    figures: Figures,
    wrong: Option<String>,
}

/// A packet to the monitor, with what came with it.
type Packet = (ToVmm, Option<OwnedFd>);

/// What is said when it is.
const GONE: &str = "whoever started the monitor wants it to end";

/// All that is counted.
#[derive(Clone, Debug)]
pub struct Figures {
    /// What processors and disks count.
    pub tally: Arc<Tally>,
    /// What devices count.
    pub devices: Vec<Arc<Status>>,
}

impl Host {
    /// The monitor's end of `socket`; what is brought for the disk of images goes into `images`.
    #[must_use]
    pub fn new(socket: OwnedFd, images: Map, figures: Figures) -> Self {
        Self { socket, plugs: BTreeMap::new(), images, figures, wrong: None }
    }

    /// What processors and disks count.
    #[must_use]
    pub fn tally(&self) -> &Arc<Tally> {
        &self.figures.tally
    }

    /// Counts what these devices count, too.
    pub fn watch(&mut self, devices: Vec<Arc<Status>>) {
        self.figures.devices = devices;
    }

    /// What was counted so far.
    #[must_use]
    pub fn counted(&self) -> Counters {
        let devices = self.figures.devices.iter().map(|device| device.counted());
        self.figures.tally.counted(devices.collect())
    }

    /// Reads all that has arrived.
    ///
    /// # Errors
    ///
    /// What was brought makes no sense, or nobody is at the other end any more; from then on always.
    pub fn listen(&mut self) -> Result<(), Fault> {
        while self.wrong.is_none() {
            match self.receive().and_then(|packet| self.hear(packet)) {
                Ok(true) => {}
                Ok(false) => return Ok(()),
                Err(fault) => self.wrong = Some(fault.0),
            }
        }
        self.wrong.clone().map_or(Ok(()), |wrong| Err(Fault(wrong)))
    }

    /// Says something; waits until there is room for it.
    ///
    /// # Errors
    ///
    /// Nobody is there to hear it.
    pub fn say(&self, words: &FromVmm) -> Result<(), Fault> {
        let packet = serde_json::to_vec(words).map_err(fault)?;
        let parts = [IoSlice::new(&packet)];
        let mut nothing = SendAncillaryBuffer::default();
        sendmsg(&self.socket, &parts, &mut nothing, SendFlags::NOSIGNAL).map(|_| ()).map_err(fault)
    }

    /// Does what a packet says; says whether there was one.
    fn hear(&mut self, packet: Option<Packet>) -> Result<bool, Fault> {
        let Some((words, descriptor)) = packet else { return Ok(false) };
        let done = match (words, descriptor) {
            (ToVmm::Count, None) => self.say(&FromVmm::Counted(self.counted())),
            (ToVmm::Plug(token, direction), Some(descriptor)) => {
                self.plugs.insert(token, (descriptor, direction));
                Ok(())
            }
            (ToVmm::Unplug(token), None) => {
                self.plugs.remove(&token);
                Ok(())
            }
            (ToVmm::Map(extent), Some(file)) => self.images.add(extent, file).map_err(fault),
            (words, _) => Err(Fault(format!("{words:?} came with the wrong descriptors"))),
        };
        done.map(|()| true)
    }

    /// The next packet that has arrived.
    fn receive(&self) -> Result<Option<Packet>, Fault> {
        let mut bytes = vec![0; MAX_TOLD];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(4))];
        let mut brought = RecvAncillaryBuffer::new(&mut space);
        let flags = RecvFlags::DONTWAIT | RecvFlags::CMSG_CLOEXEC;
        let mut parts = [IoSliceMut::new(&mut bytes)];
        let received = match recvmsg(&self.socket, &mut parts, &mut brought, flags) {
            Ok(received) => received,
            Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => return Ok(None),
            Err(rustix::io::Errno::CONNRESET) => return Err(Fault(GONE.into())),
            Err(errno) => return Err(fault(errno)),
        };
        if received.bytes == 0 {
            return Err(Fault(GONE.into()));
        }
        if received.flags.intersects(ReturnFlags::TRUNC | ReturnFlags::CTRUNC) {
            return Err(Fault("a packet on the helm is too long".into()));
        }
        let mut descriptors = brought.drain().filter_map(|message| match message {
            RecvAncillaryMessage::ScmRights(descriptors) => Some(descriptors),
            _ => None,
        });
        let descriptor = descriptors.next().and_then(|mut descriptors| descriptors.next());
        let words = serde_json::from_slice(&bytes[..received.bytes]).map_err(fault)?;
        Ok(Some((words, descriptor)))
    }
}

/// Bytes of a packet to the monitor: all of them are short.
const MAX_TOLD: usize = 4096;
const _: () = assert!(MAX_TOLD <= MAX_PACKET);

fn fault(error: impl std::fmt::Display) -> Fault {
    Fault(format!("the helm: {error}"))
}

/// The helm, as the device of streams has it.
#[derive(Debug)]
pub struct Brought(pub Arc<Mutex<Host>>);

impl Plugs for Brought {
    fn take(&mut self, token: &Token) -> Option<(OwnedFd, Direction)> {
        let mut host = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if !host.plugs.contains_key(token) {
            // What is wrong ends the machine in the loop's next round, which hears the same.
            let _ = host.listen();
        }
        host.plugs.remove(token)
    }

    fn greeted(&mut self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).tally().hello();
    }
}

impl AsFd for Host {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::net::{AddressFamily, SendAncillaryMessage, SocketFlags, SocketType, socketpair};
    use rustix::pipe::{PipeFlags, pipe_with};

    fn tell(helm: &OwnedFd, word: ToVmm, along: Option<&OwnedFd>) {
        let bytes = serde_json::to_vec(&word).unwrap();
        let along: Vec<_> = along.into_iter().map(AsFd::as_fd).collect();
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        if !along.is_empty() {
            assert!(control.push(SendAncillaryMessage::ScmRights(&along)));
        }
        sendmsg(helm, &[IoSlice::new(&bytes)], &mut control, SendFlags::empty()).unwrap();
    }

    #[test]
    fn what_is_unplugged_is_closed_and_nobody_gets_it() {
        let flags = SocketFlags::CLOEXEC;
        let (helm, its) =
            socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None).unwrap();
        let figures = Figures { tally: Arc::new(Tally::begin()), devices: Vec::new() };
        let host = Arc::new(Mutex::new(Host::new(its, Map::default(), figures)));
        let mut brought = Brought(Arc::clone(&host));
        let (reader, writer) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK).unwrap();
        let (kept, gone) = (Token([1; 16]), Token([2; 16]));
        tell(&helm, ToVmm::Plug(kept, Direction::In), Some(&helm));
        tell(&helm, ToVmm::Plug(gone, Direction::Out), Some(&writer));
        drop(writer);
        host.lock().unwrap().listen().unwrap();
        let mut byte = [0];
        assert_eq!(rustix::io::read(&reader, &mut byte), Err(rustix::io::Errno::AGAIN));
        tell(&helm, ToVmm::Unplug(gone), None);
        // One that was never there, or was taken.
        tell(&helm, ToVmm::Unplug(gone), None);
        host.lock().unwrap().listen().unwrap();
        assert_eq!(rustix::io::read(&reader, &mut byte), Ok(0), "its reader sees the end");
        assert!(brought.take(&gone).is_none() && brought.take(&kept).is_some());
    }
}
