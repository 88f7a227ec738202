//! A pull whose every write, rename and sync fails, or is its last: one at a time, until there are
//! no more.
//!
//! strace(1) makes the N-th call of a kind fail in each thread, or kills the process at it. Whatever
//! becomes of the pull, the store is sound, a name means a whole image, what was reported is there,
//! and a collection leaves nothing over.

use std::fs;
use std::process::{Command, Stdio};

use crate::Table;
use crate::bench::Bench;
use crate::child::{self, Deed};
use crate::image::Layers;
use crate::record_skipped;

const LAYERS: Layers = &[20_000, 90_000];
/// More calls of one kind than a thread of this pull makes.
const MOST: u32 = 200;

/// Kinds of calls that change what is on the disk.
const NAMES: &str = "rename,renameat,renameat2,unlink,unlinkat,link,linkat,mkdir,mkdirat";
const SYNCS: &str = "fsync,fdatasync,syncfs";
const WRITES: &str = "write,pwrite64,ftruncate,fchown,fchmod,utimensat";

pub(crate) const TESTS: Table = &[
    ("a_kill_at_any_change_of_a_name_harms_nothing", || every(NAMES, KILL)),
    ("a_kill_at_any_sync_harms_nothing", || every(SYNCS, KILL)),
    ("a_kill_at_any_write_harms_nothing", || every(WRITES, KILL)),
    ("any_change_of_a_name_may_fail", || every(NAMES, "error=EIO")),
    ("any_sync_may_fail", || every(SYNCS, "error=EIO")),
    ("any_write_may_find_a_full_disk", || every(WRITES, "error=ENOSPC")),
];

const KILL: &str = "signal=SIGKILL";

/// Pulls with the fault at the first call, the second, and so on, until none is left to be hit.
fn every(calls: &str, fault: &str) {
    if !strace_is_there() {
        return record_skipped("every write fails once: needs `strace`");
    }
    let bench = Bench::new(LAYERS);
    for number in 1..=MOST {
        if !hits(&bench, calls, &format!("inject={calls}:{fault}:when={number}")) {
            assert!(number > 1, "there is no call of {calls}");
            let image = bench.pull().unwrap();
            return bench.holds(&image);
        }
    }
    panic!("more than {MOST} calls of {calls}");
}

/// Pulls with one fault into an empty store; tells whether the fault came to pass.
fn hits(bench: &Bench, calls: &str, injection: &str) -> bool {
    let trace = bench.root.path().join("trace");
    let line = child::line(bench.root.path(), &Deed::Pull(bench.reference()));
    let status = Command::new("strace")
        .args(["-f", "-e", &format!("trace={calls}"), "-e", injection, "-o"])
        .arg(&trace)
        .arg("--")
        .args(line)
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .unwrap();
    let seen = fs::read_to_string(&trace).unwrap();
    let hit = seen.contains("(INJECTED)") || seen.contains("+++ killed by SIGKILL");
    assert!(hit || status.success(), "nothing was injected, and it failed: {injection}");

    assert_eq!(bench.fsck().findings, [], "{injection}");
    let images = bench.store.images().unwrap();
    if status.success() || !images.is_empty() {
        assert_eq!(images.len(), 1, "{injection}: what was reported is there");
        let requests = bench.registry.requests().len();
        let image = bench.pull().unwrap();
        bench.holds(&image);
        assert_eq!(bench.registry.requests().len(), requests, "{injection}: all of it was here");
    }
    for image in images {
        let removed = bench.store.remove(&images::Reference::parse(&image.reference).unwrap());
        assert!(removed.is_ok_and(|gone| gone.len() == 1), "{injection}");
    }
    bench.holds_nothing();
    hit
}

fn strace_is_there() -> bool {
    let tried = Command::new("strace").arg("-V").stdout(Stdio::null()).status();
    tried.is_ok_and(|status| status.success())
}
