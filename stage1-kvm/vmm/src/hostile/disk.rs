//! Chains of any shape in the queue of a disk, the read-only one or the writable one, between
//! requests of a sound shape, whose outcome is known.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::sync::Arc;

use pod_abi::guest::Extent;
use rustix::fs::{MemfdFlags, memfd_create};

use super::{Words, ends, offer_anything};
use crate::counters::Tally;
use crate::devices::disk::{Disk, kind};
use crate::devices::images::{Images, Map};
use crate::devices::scratch::Scratch;
use crate::rig::{Rig, WRITE};
use crate::virtio::{Active, Device};

/// Bytes of the file behind either disk.
const SIZE: usize = 8192;
/// Where it begins on the disk of images.
const BEGIN: u64 = 4096;
/// Statuses (virtio 1.2 §5.2.6).
const OK: u8 = 0;
const IOERR: u8 = 1;
const UNSUPPORTED: u8 = 2;

/// A disk that was handed its queue, and the file it is made of.
struct Bench {
    file: File,
    writable: bool,
    rig: Rig,
    disk: Box<dyn Active>,
    /// Whether its memory holds what the rig has put there: no chain could have written elsewhere.
    is_sound: bool,
    /// Its machine is no more.
    ended: bool,
}

/// Runs the deeds.
///
/// # Panics
///
/// If something is not as it must be, or no descriptors are left.
pub fn disk(deeds: &[u8]) {
    let mut words = Words(deeds);
    let mut bench = Bench::new(words.byte() & 1 != 0);
    let mut resets = 16;
    while words.has_more() {
        match words.below(8) {
            0 | 1 => {
                bench.is_sound = false;
                offer_anything(&mut bench.rig.drivers[0], &mut words);
            }
            2 | 3 => bench.offer_request(&mut words),
            4 if resets > 0 => {
                resets -= 1;
                bench = bench.reset();
            }
            _ if bench.is_sound => bench.ask(&mut words),
            _ => {}
        }
        bench.serve();
        if bench.ended && resets == 0 {
            return;
        }
        if bench.ended {
            resets -= 1;
            bench = bench.reset();
        }
    }
}

impl Bench {
    fn new(writable: bool) -> Self {
        let file = memfd_create("disk", MemfdFlags::CLOEXEC).expect("a file in memory");
        let file = File::from(file);
        file.write_all_at(&[1; SIZE], 0).expect("a file in memory");
        let its = file.try_clone().expect("a descriptor").into();
        let disk: Box<dyn Device> = if writable {
            Box::new(Disk::new(Scratch::new(its).expect("a file in memory")))
        } else {
            let map = Map::default();
            map.add(Extent { offset: BEGIN, length: SIZE as u64 }, its).expect("an empty disk");
            Box::new(Disk::new(Images::new(map, Arc::new(Tally::begin()))))
        };
        Self::of(file, writable, disk)
    }

    fn of(file: File, writable: bool, disk: Box<dyn Device>) -> Self {
        let (rig, activation) = Rig::new(&[16], u64::from(writable) << 29);
        Self {
            file,
            writable,
            rig,
            disk: disk.activate(activation).expect("a device"),
            is_sound: true,
            ended: false,
        }
    }

    fn reset(self) -> Self {
        Self::of(self.file, self.writable, self.disk.reset())
    }

    fn content(&self) -> Vec<u8> {
        let length = self.file.metadata().expect("a file in memory").len();
        assert_eq!(length, SIZE as u64, "no disk grows or shrinks");
        let mut content = vec![0; SIZE];
        self.file.read_exact_at(&mut content, 0).expect("a file in memory");
        content
    }

    /// Lets the disk serve what there is, and takes back what it was given.
    fn serve(&mut self) {
        self.ended |= ends(&self.disk.notified(0));
        while self.rig.drivers[0].used().is_some() {}
        if !self.writable {
            assert!(self.content().iter().all(|&byte| byte == 1), "no image is written to");
        }
    }

    /// Makes a request available whose parts are of any length and order.
    fn offer_request(&mut self, words: &mut Words<'_>) {
        let driver = &mut self.rig.drivers[0];
        driver.free = 5 << 20;
        let header = any_header(words);
        let (_, at) = driver.put(&[&header], &[1]);
        // Instead of this sound one, which is served before the next.
        self.ended |= ends(&self.disk.notified(0));
        let driver = &mut self.rig.drivers[0];
        while driver.used().is_some() {}
        let mut chain = vec![(at[0], u32::from(16 - words.below(3) / 2), 0)];
        // All of it lies behind rings and headers: what is written there spoils no later request.
        for _ in 0..words.below(6) {
            let address = (8 << 20) + u64::from(words.byte()) * 512;
            let length = words.one_of(&[0, 1, 511, 512, 513, 4096, 5000, 64 << 10, 4 << 20]);
            let flags = if words.byte() & 1 == 0 { 0 } else { WRITE };
            chain.push((address, length, flags));
        }
        chain.push((at[1], 1, WRITE));
        driver.put_raw(&chain);
    }

    /// Makes a request of a sound shape, and checks its outcome.
    fn ask(&mut self, words: &mut Words<'_>) {
        let header = any_header(words);
        let request = u32::from_le_bytes([header[0], header[1], header[2], header[3]]);
        let sector = header[8..].iter().rev().fold(0, |all, &byte| all << 8 | u64::from(byte));
        let data = vec![words.byte(); usize::from(words.half()) % 9000];
        let room = u32::from(words.half()) % 9000;
        let before = self.content();
        let driver = &mut self.rig.drivers[0];
        driver.free = 5 << 20;
        let (head, at) = driver.put(&[&header, &data], &[room, 1]);
        self.disk.notified(0).expect("no fault of the host's");
        let driver = &mut self.rig.drivers[0];
        let (used, written) = driver.used().expect("a request that is answered");
        assert_eq!(used, head);
        assert!(driver.used().is_none(), "one request has one answer");
        let room = usize::try_from(room).expect("few bytes");
        let status = driver.bytes(at[3], 1)[0];
        let read = driver.bytes(at[2], room);

        // Where in the file so many bytes lie, if they all do.
        let begin = if self.writable { 0 } else { BEGIN };
        let place = |length: usize| {
            let from = sector.checked_mul(512)?.checked_sub(begin)?;
            let from = usize::try_from(from).ok()?;
            let end = from.checked_add(length)?;
            (end <= SIZE).then_some(from..end)
        };
        let mut after = before.clone();
        let outcome = match request {
            kind::IN => place(room).map_or((IOERR, 1), |place| {
                assert_eq!(read, before[place], "what is read is what is there");
                (OK, room + 1)
            }),
            kind::OUT if self.writable => place(data.len()).map_or((IOERR, 1), |place| {
                after[place].copy_from_slice(&data);
                (OK, 1)
            }),
            // Where nothing can be is told before what is asked for.
            kind::GET_ID => (OK, room.min(20) + 1),
            _ if sector.checked_mul(512).is_none() => (IOERR, 1),
            kind::FLUSH if self.writable => (OK, 1),
            _ => (UNSUPPORTED, 1),
        };
        assert_eq!((status, usize::try_from(written).ok()), (outcome.0, Some(outcome.1)));
        assert!(self.content() == after, "what is written is what was said, where it was said");
    }
}

/// The header of a request: mostly of a kind there is, mostly near the file.
fn any_header(words: &mut Words<'_>) -> [u8; 16] {
    let request = words.one_of(&[kind::IN, kind::OUT, kind::FLUSH, kind::GET_ID, 2, 11, 13]);
    let sector = match words.below(8) {
        0 => u64::from_le_bytes(words.array()),
        1 => u64::MAX / 512,
        _ => u64::from(words.below(32)),
    };
    let mut header = [0; 16];
    header[..4].copy_from_slice(&request.to_le_bytes());
    header[8..].copy_from_slice(&sector.to_le_bytes());
    header
}
