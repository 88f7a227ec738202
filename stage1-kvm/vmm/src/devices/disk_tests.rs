//! Disks against a driver that may be anybody.

use std::fs::File;
use std::io::{Read as _, Seek as _, Write as _};
use std::os::fd::OwnedFd;
use std::sync::Arc;

use pod_abi::guest::Extent;
use proptest::prelude::*;

use super::disk::{Disk, MAX_REQUEST, kind};
use super::images::{Images, Map};
use super::scratch::Scratch;
use crate::counters::Tally;
use crate::description::IMAGES_CAPACITY;
use crate::rig::{Rig, WRITE};
use crate::virtio::{Active, Device};

/// A disk that was handed its queue.
struct Bench {
    rig: Rig,
    disk: Box<dyn Active>,
}

/// Statuses (virtio 1.2 §5.2.6).
const OK: u8 = 0;
const IOERR: u8 = 1;
const UNSUPPORTED: u8 = 2;

impl Bench {
    fn new(disk: impl Device + 'static) -> Self {
        let (rig, activation) = Rig::new(&[256], 0);
        let disk = (Box::new(disk) as Box<dyn Device>).activate(activation).unwrap();
        Self { rig, disk }
    }

    /// Asks for something; returns its status, how much was written, and the bytes read.
    fn ask(&mut self, kind: u32, sector: u64, data: &[u8], room: u32) -> (u8, u32, Vec<u8>) {
        let header = header(kind, sector);
        let rooms: &[u32] = if room == 0 { &[1] } else { &[room, 1] };
        let readable: &[&[u8]] = if data.is_empty() { &[&header] } else { &[&header, data] };
        let (head, at) = self.rig.drivers[0].put(readable, rooms);
        self.disk.notified(0).unwrap();
        let (used, written) = self.rig.drivers[0].used().unwrap();
        assert_eq!(used, head);
        let status = self.rig.drivers[0].bytes(at[at.len() - 1], 1)[0];
        let length = usize::try_from(room).unwrap();
        let read = if room == 0 {
            Vec::new()
        } else {
            self.rig.drivers[0].bytes(at[at.len() - 2], length)
        };
        (status, written, read)
    }
}

fn header(kind: u32, sector: u64) -> Vec<u8> {
    let mut header = kind.to_le_bytes().to_vec();
    header.extend([0; 4]);
    header.extend(sector.to_le_bytes());
    header
}

fn file(bytes: &[u8]) -> File {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(bytes).unwrap();
    file
}

/// Two files on the disk of images: 8 KiB of ones at 4 KiB, 4 KiB of twos far away.
fn images() -> (Map, Arc<Tally>) {
    let map = Map::default();
    let tally = Arc::new(Tally::begin());
    map.add(Extent { offset: 4096, length: 8192 }, file(&[1; 8192]).into()).unwrap();
    map.add(Extent { offset: 1 << 30, length: 4096 }, file(&[2; 4096]).into()).unwrap();
    (map, tally)
}

#[test]
fn what_lies_on_the_disk_of_images_is_read_and_nothing_else_is_there() {
    let (map, tally) = images();
    let mut bench = Bench::new(Disk::new(Images::new(map.clone(), Arc::clone(&tally))));
    assert_eq!(bench.ask(kind::IN, 8, b"", 8192), (OK, 8193, vec![1; 8192]));
    assert_eq!(bench.ask(kind::IN, (1 << 30) / 512 + 7, b"", 512), (OK, 513, vec![2; 512]));
    for (sector, room) in [(0, 512), (7, 1024), (8, 8704), (24, 512), (u64::MAX, 512)] {
        let (status, written, read) = bench.ask(kind::IN, sector, b"", room);
        assert_eq!((status, written), (IOERR, 1), "{sector}");
        assert!(read.iter().all(|&byte| byte == 0));
    }
    // What is brought later is there from then on.
    map.add(Extent { offset: 0, length: 4096 }, file(&[3; 4096]).into()).unwrap();
    assert_eq!(bench.ask(kind::IN, 0, b"", 512).0, OK);
    let counted = tally.counted(Vec::new());
    assert_eq!((counted.disk_requests, counted.disk_bytes), (7, 8192 + 512 + 512));
}

#[test]
fn a_file_that_was_cut_fails_the_request() {
    let map = Map::default();
    map.add(Extent { offset: 0, length: 8192 }, file(&[1; 4096]).into()).unwrap();
    let mut bench = Bench::new(Disk::new(Images::new(map, Arc::new(Tally::begin()))));
    assert_eq!(bench.ask(kind::IN, 0, b"", 8192).0, IOERR);
}

#[test]
fn the_disk_of_images_knows_no_request_that_writes() {
    let (map, tally) = images();
    let mut bench = Bench::new(Disk::new(Images::new(map, tally)));
    for request in [kind::OUT, kind::FLUSH, 11, 13, 14, 0x100, u32::MAX] {
        let (status, written, _) = bench.ask(request, 8, &[9; 512], 0);
        assert_eq!((status, written), (UNSUPPORTED, 1), "{request}");
    }
    assert_eq!(bench.ask(kind::IN, 8, b"", 512), (OK, 513, vec![1; 512]));
    let (status, written, name) = bench.ask(kind::GET_ID, 0, b"", 20);
    assert_eq!((status, written, &name[..7]), (OK, 21, &b"images\0"[..]));
}

#[test]
fn no_two_files_lie_on_the_same_bytes() {
    let (map, _) = images();
    let taken = [
        (0, 8192),
        (4096, 4096),
        (8192, 4096),
        (0, 1 << 31),
        (1, 4096),
        (0, 0),
        (0, 100),
        (IMAGES_CAPACITY, 4096),
        (u64::MAX - 4095, 4096),
    ];
    for (offset, length) in taken {
        assert!(map.add(Extent { offset, length }, file(b"").into()).is_err(), "{offset} {length}");
    }
    map.add(Extent { offset: 12288, length: 4096 }, file(b"").into()).unwrap();
}

#[test]
fn the_writable_disk_keeps_what_is_written_within_its_size() {
    let mut kept = file(&[0; 8192]);
    let mut bench = Bench::new(Disk::new(Scratch::new(kept.try_clone().unwrap().into()).unwrap()));
    assert_eq!(bench.ask(kind::OUT, 1, &[7; 512], 0), (OK, 1, Vec::new()));
    assert_eq!(bench.ask(kind::IN, 1, b"", 512), (OK, 513, vec![7; 512]));
    assert_eq!(bench.ask(kind::FLUSH, 0, b"", 0).0, OK);
    assert_eq!(bench.ask(kind::OUT, 16, &[7; 512], 0).0, IOERR);
    assert_eq!(bench.ask(kind::OUT, u64::MAX / 512, &[7; 512], 0).0, IOERR);
    let mut bytes = Vec::new();
    kept.rewind().unwrap();
    kept.read_to_end(&mut bytes).unwrap();
    assert_eq!((bytes.len(), bytes[512], bytes[1024]), (8192, 7, 0));
}

#[test]
fn what_looks_like_another_format_stays_bytes() {
    // GHSA-jmr4-g2hv-mjj6: a guest wrote the header of qcow2 with a backing file, and was believed.
    let mut bench = Bench::new(Disk::new(Scratch::new(file(&[0; 4096]).into()).unwrap()));
    let mut header = b"QFI\xfb\0\0\0\x03".to_vec();
    header.resize(512, b'/');
    assert_eq!(bench.ask(kind::OUT, 0, &header, 0).0, OK);
    let bench_of_it = bench.disk.reset();
    assert_eq!(bench_of_it.config()[..8], (4096_u64 / 512).to_le_bytes());
    assert_eq!(Bench::new_of(bench_of_it).ask(kind::IN, 0, b"", 512), (OK, 513, header));
}

impl Bench {
    fn new_of(disk: Box<dyn Device>) -> Self {
        let (rig, activation) = Rig::new(&[256], 0);
        Self { rig, disk: disk.activate(activation).unwrap() }
    }
}

#[test]
fn a_request_without_header_or_status_or_of_any_size_is_refused() {
    let (map, tally) = images();
    let mut bench = Bench::new(Disk::new(Images::new(map, tally)));
    let driver = &mut bench.rig.drivers[0];
    driver.put(&[b"short"], &[1]);
    driver.put(&[&header(kind::IN, 8)], &[]);
    // The same memory over and over: as much as anybody wants, of a little memory.
    let at = driver.put(&[&header(kind::IN, 8)], &[1]).1;
    let mut chain = vec![(at[0], 16, 0)];
    chain.extend([(0x80_0000, 1 << 20, WRITE); 17]);
    chain.push((at[1], 1, WRITE));
    const { assert!(17 << 20 > MAX_REQUEST) };
    driver.put_raw(&chain);
    bench.disk.notified(0).unwrap();
    let driver = &mut bench.rig.drivers[0];
    let written: Vec<_> = std::iter::from_fn(|| driver.used()).map(|used| used.1).collect();
    assert_eq!(written, [0, 0, 1, 1]);
    assert_eq!(driver.bytes(at[1], 1), [IOERR]);
    assert_eq!(bench.rig.status.violations(), 2);
}

#[test]
fn a_queue_that_makes_no_sense_is_the_end_and_says_whose() {
    let (map, tally) = images();
    let mut bench = Bench::new(Disk::new(Images::new(map, tally)));
    for _ in 0..257 {
        bench.rig.drivers[0].offer(0);
    }
    let fault = bench.disk.notified(0).unwrap_err();
    assert_eq!(fault.0, "the guest's driver has broken a queue of its disk of images");
    assert_eq!(bench.rig.status.violations(), 1);
}

proptest! {
    #[test]
    fn no_chain_writes_to_a_file_of_the_images(
        requests in prop::collection::vec(
            (any::<u32>(), 0..64_u64, prop::collection::vec((0..24_u64, 0..9000_u32, any::<bool>()), 0..6)),
            1..8,
        ),
        small in any::<bool>(),
    ) {
        let mut kept = file(&[1; 8192]);
        let map = Map::default();
        let descriptor: OwnedFd = kept.try_clone().unwrap().into();
        map.add(Extent { offset: 4096, length: 8192 }, descriptor).unwrap();
        let mut bench = Bench::new(Disk::new(Images::new(map, Arc::new(Tally::begin()))));
        for (kind, sector, parts) in requests {
            let kind = if small { kind % 16 } else { kind };
            let driver = &mut bench.rig.drivers[0];
            let at = driver.put(&[&header(kind, sector)], &[1]).1;
            while driver.used().is_some() {}
            let mut chain = vec![(at[0], 16, 0)];
            chain.extend(parts.iter().map(|&(page, length, write)| {
                (0x80_0000 + page * 4096, length, if write { WRITE } else { 0 })
            }));
            driver.put_raw(&chain);
            if bench.disk.notified(0).is_err() {
                break;
            }
        }
        let mut bytes = Vec::new();
        kept.rewind().unwrap();
        kept.read_to_end(&mut bytes).unwrap();
        prop_assert!(bytes == vec![1; 8192]);
    }
}
