//! A pull that is killed: what was complete stays, what was underway goes on.

use std::time::Duration;

use fault_registry::Fault;

use crate::Table;
use crate::bench::{Bench, eventually};
use crate::child;
use crate::image::Layers;

/// Two layers that are soon complete, and one that is not.
const LAYERS: Layers = &[100_000, 200_000, 4_000_000];

/// Where the third layer falls silent.
const SILENCE: usize = 1_500_000;

pub(crate) const TESTS: Table = &[
    (
        "a_killed_pull_goes_on_and_downloads_nothing_twice",
        a_killed_pull_goes_on_and_downloads_nothing_twice,
    ),
    (
        "a_killed_pull_leaves_nothing_that_gc_cannot_take",
        a_killed_pull_leaves_nothing_that_gc_cannot_take,
    ),
];

/// Kills a pull that has two layers in the store and part of the third.
fn killed(bench: &Bench) {
    let silent = Fault::StallAfter(SILENCE, Duration::from_secs(60));
    bench.registry.script(&bench.blob_path(2), [silent]);
    let mut pull = child::start_pull(bench.root.path(), &bench.reference());
    eventually("two layers are in the store", || bench.fsck().layers == 2);
    let sent = u64::try_from(SILENCE).unwrap();
    eventually("the third is underway", || bench.asked(2).1 == sent);
    let tmp = bench.root.path().join("images/tmp");
    let arrived = || {
        let entries = std::fs::read_dir(&tmp).unwrap().map(|entry| entry.unwrap());
        entries.filter_map(|entry| entry.metadata().ok()).any(|it| it.is_file() && it.len() == sent)
    };
    eventually("what was sent has been kept", arrived);
    pull.kill().unwrap();
    assert!(!pull.wait().unwrap().success());
    assert_eq!(bench.store.images().unwrap(), [], "no name before all is there");
    assert_eq!(bench.fsck().findings, []);
}

fn a_killed_pull_goes_on_and_downloads_nothing_twice() {
    let bench = Bench::new(LAYERS);
    killed(&bench);
    let image = bench.pull().unwrap();
    bench.holds(&image);
    for (place, requests) in [(0, 1), (1, 1), (2, 2)] {
        let size = bench.pushed.layers[place].size;
        assert_eq!(bench.asked(place), (requests, size), "layer {place}");
    }
    let ranges: Vec<String> =
        bench.registry.requests().into_iter().filter_map(|seen| seen.range).collect();
    assert_eq!(ranges, [format!("bytes={SILENCE}-")]);
    bench.gc();
    assert_eq!(bench.fsck().residue, 0);
    bench.holds(&image);
}

fn a_killed_pull_leaves_nothing_that_gc_cannot_take() {
    let bench = Bench::new(LAYERS);
    killed(&bench);
    bench.holds_nothing();
    let image = bench.pull().unwrap();
    bench.holds(&image);
}
