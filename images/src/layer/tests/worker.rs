//! The worker as a process: what it says, and how it dies.
//!
//! It is the example `unpack-worker` of this crate, which `cargo test` builds, but not with a filter.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use super::{Archive, Place, is_root};
use crate::layer::error::{Error, ErrorKind};
use crate::layer::facts::{LayerFacts, Limits, WorkerProgram};
use crate::layer::unpack::Unpack;
use crate::layer::wire::Orders;

fn program() -> Option<WorkerProgram> {
    let test = std::env::current_exe().unwrap();
    let exe: PathBuf = test.parent().unwrap().parent().unwrap().join("examples/unpack-worker");
    assert!(exe.exists(), "`{}` is built by `cargo build --examples`", exe.display());
    is_root().then_some(WorkerProgram { exe, args: Vec::new() })
}

fn unpack(place: &Place, archive: &[u8]) -> Option<Result<LayerFacts, Error>> {
    let program = program()?;
    let limits = Limits { reserve: 0, ..Limits::default() };
    let staging = File::open(place.root()).unwrap();
    let mut unpack = Unpack::start(&program, staging.as_fd(), &limits).unwrap();
    match unpack.write_all(archive) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {}
        result => result.unwrap(),
    }
    Some(unpack.finish())
}

/// Has a worker that was taken over say `report` and end as `end` says.
fn taken_over(report: &str, end: &str) -> Error {
    let script = format!("cat >/dev/null; printf %s '{report}'; {end}");
    let args = ["-c".into(), script.into()].into();
    let program = WorkerProgram { exe: PathBuf::from("/bin/sh"), args };
    let place = Place::new();
    let staging = File::open(place.root()).unwrap();
    Unpack::start(&program, staging.as_fd(), &Limits::default()).unwrap().finish().unwrap_err()
}

/// The report of a layer of one link into the layers below.
fn report(link: &str, target: &str) -> String {
    let bytes =
        |text: &str| text.bytes().map(|byte| byte.to_string()).collect::<Vec<_>>().join(",");
    let digest = format!("sha256:{}", "a".repeat(64));
    let links = format!("[[[{}],[{}]]]", bytes(link), bytes(target));
    format!(
        r#"{{"unpacked":{{"facts":{{"diff_id":"{digest}","bytes":0,"entries":1,"skipped_devices":0,"implicit_dirs":[],"lower_links":{links}}},"opaque_dirs":[]}}}}"#
    )
}

#[test]
fn a_worker_that_was_taken_over_leads_nobody_out_of_the_layer() {
    for (link, target) in [("stolen", "../../secret"), ("a/../../x", "y"), ("x", "y\0")] {
        let error = taken_over(&report(link, target), "exit 0");
        let source = std::error::Error::source(&error).map(ToString::to_string);
        assert!(source.is_some_and(|why| why.contains("leads out")), "{error:?}");
    }
}

#[test]
fn a_worker_that_dies_after_its_report_has_unpacked_nothing() {
    for end in ["kill -9 $$", "exit 3"] {
        let error = taken_over(&report("x", "y"), end);
        assert!(matches!(error, Error::Died { .. }), "{error:?}");
    }
}

#[test]
fn a_worker_makes_the_same_tree_as_its_parts() {
    let archive = Archive::new()
        .pax(&[(
            "SCHILY.xattr.security.capability",
            b"\x01\0\0\x02\x0a\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0",
        )])
        .entry(b'0', "d/f", "", b"x", |h| h[100..108].copy_from_slice(b"0006755\0"))
        .whiteout("d/.wh..wh..opq")
        .whiteout(".wh.gone")
        .symlink("l", "d")
        .hard("l/h", "d/f")
        .entry(b'6', "pipe", "", b"", |h| h[100..108].copy_from_slice(b"0000666\0"))
        .dir("replaced")
        .dir("replaced/deep")
        .file("replaced/deep/f", "x")
        .file("replaced", "y")
        .end();
    let (alone, together) = (Place::new(), Place::new());
    let Some(facts) = unpack(&alone, &archive) else { return };
    assert_eq!(facts.unwrap(), together.unpack(&archive).unwrap());
    let pipe = "fifo 666 (0, 0) (1700000000, 0)".to_owned();
    let mut expected = together.tree();
    // The tests' own umask is not ours to change.
    expected.insert("pipe".to_owned(), pipe);
    assert_eq!(alone.tree(), expected);
}

#[test]
fn a_worker_tells_whose_fault_it_was() {
    let place = Place::new();
    let archive = Archive::new().symlink(".", "x").end();
    let Some(result) = unpack(&place, &archive) else { return };
    let error = result.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Layer);
    assert_eq!(error.to_string(), "entry `/` is the root, but no directory");
}

#[test]
fn a_worker_that_gives_up_early_breaks_the_pipe_and_still_tells_why() {
    let place = Place::new();
    let archive = [Archive::new().symlink(".", "x").end(), vec![0; 64 << 20]].concat();
    let Some(result) = unpack(&place, &archive) else { return };
    assert_eq!(result.unwrap_err().kind(), ErrorKind::Layer);
}

#[test]
fn a_layer_that_stops_in_the_middle_is_refused() {
    let archive = Archive::new().file("f", &"x".repeat(100_000)).end();
    for length in [1, 600, 50_000] {
        let place = Place::new();
        let Some(result) = unpack(&place, &archive[..length]) else { return };
        assert_eq!(result.unwrap_err().kind(), ErrorKind::Layer, "{length}");
    }
}

#[test]
fn a_worker_that_reads_has_given_up_its_powers() {
    let Some(program) = program() else { return };
    let place = Place::new();
    let mut worker = Command::new(program.exe)
        .current_dir(place.root())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = worker.stdin.take().unwrap();
    let orders = Orders { limits: Limits { reserve: 0, ..Limits::default() } };
    input.write_all(&pod_abi::frame::encode(&orders).unwrap()).unwrap();
    // More than the pipe holds: when this has been written, some of it has been read.
    let archive = Archive::new().file("f", &"x".repeat(4 << 20)).end();
    input.write_all(&archive[..1 << 20]).unwrap();
    let proc = format!("/proc/{}", worker.id());
    let status = fs::read_to_string(format!("{proc}/status")).unwrap();
    for line in [
        "CapInh:\t0000000000000000",
        "CapPrm:\t000000008800001b",
        "CapEff:\t000000008800001b",
        "CapBnd:\t0000000000000000",
        "CapAmb:\t0000000000000000",
        "NoNewPrivs:\t1",
    ] {
        assert!(status.contains(line), "{line} is not in {status}");
    }
    for namespace in ["mnt", "net", "ipc"] {
        let theirs = fs::read_link(format!("{proc}/ns/{namespace}")).unwrap();
        let ours = fs::read_link(format!("/proc/self/ns/{namespace}")).unwrap();
        assert_ne!(theirs, ours, "{namespace}");
    }
    // `pod internal-unpack` closes what it inherits; this program keeps what `cargo` left open.
    let descriptors = fs::read_dir(format!("{proc}/fd")).unwrap().count() - inherited();
    assert!(descriptors <= 8, "{descriptors} descriptors are open");
    drop(input);
    worker.wait().unwrap();
}

/// Counts the descriptors of this process, beside the standard streams, that survive `exec`.
fn inherited() -> usize {
    const CLOSES_ON_EXEC: u32 = 0o2_000_000;
    let survives = |fd: &str| {
        let info = fs::read_to_string(format!("/proc/self/fdinfo/{fd}")).unwrap_or_default();
        let flags = info.lines().find_map(|line| line.strip_prefix("flags:"));
        let flags = flags.and_then(|flags| u32::from_str_radix(flags.trim(), 8).ok());
        flags.is_some_and(|flags| flags & CLOSES_ON_EXEC == 0)
    };
    let all = fs::read_dir("/proc/self/fd").unwrap().flatten();
    let names = all.map(|entry| entry.file_name().into_string().unwrap());
    names.filter(|fd| fd.parse::<u32>().is_ok_and(|fd| fd > 2) && survives(fd)).count()
}

#[test]
fn a_worker_dies_when_it_is_not_wanted_any_more() {
    let Some(program) = program() else { return };
    let place = Place::new();
    let staging = File::open(place.root()).unwrap();
    let unpack = Unpack::start(&program, staging.as_fd(), &Limits::default()).unwrap();
    // Waits for it; the harness's own time limit is the test.
    drop(unpack);
}

#[test]
fn a_program_that_is_no_worker_is_told_as_such() {
    let place = Place::new();
    let staging = File::open(place.root()).unwrap();
    for (exe, starts) in [("/bin/true", true), ("/bin/false", true), ("/nowhere", false)] {
        let program = WorkerProgram { exe: exe.into(), args: Vec::new() };
        match Unpack::start(&program, staging.as_fd(), &Limits::default()) {
            Ok(unpack) => {
                assert!(starts, "{exe}");
                assert!(matches!(unpack.finish(), Err(Error::Died { .. })), "{exe}");
            }
            Err(error) => assert!(!starts, "{exe}: {error}"),
        }
    }
}
