//! Many pulls of one image at one moment: every layer is downloaded once.

use std::thread;

use images::Store;

use crate::Table;
use crate::bench::{Bench, options};
use crate::child;
use crate::image::Layers;

const LAYERS: Layers = &[50_000, 1_000_000, 300_000, 700_000, 20_000];

pub(crate) const TESTS: Table = &[
    ("two_processes_download_each_layer_once", two_processes_download_each_layer_once),
    ("eight_processes_download_each_layer_once", eight_processes_download_each_layer_once),
    ("eight_threads_download_each_layer_once", eight_threads_download_each_layer_once),
];

fn two_processes_download_each_layer_once() {
    processes(2);
}

fn eight_processes_download_each_layer_once() {
    processes(8);
}

fn processes(count: usize) {
    let bench = Bench::new(LAYERS);
    let pulls: Vec<_> =
        (0..count).map(|_| child::start_pull(bench.root.path(), &bench.reference())).collect();
    for mut pull in pulls {
        assert!(pull.wait().unwrap().success());
    }
    each_once(&bench);
}

fn eight_threads_download_each_layer_once() {
    let bench = Bench::new(LAYERS);
    let reference = images::Reference::parse(&bench.reference()).unwrap();
    thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                let store = Store::open(bench.root.path()).unwrap();
                let lease = store.lease().unwrap();
                store.pull(&reference, &options(), &lease, &images::Silent).unwrap();
            });
        }
    });
    each_once(&bench);
}

fn each_once(bench: &Bench) {
    for (place, layer) in bench.pushed.layers.iter().enumerate() {
        assert_eq!(bench.asked(place), (1, layer.size), "layer {place}");
    }
    let requests = bench.registry.requests().len();
    let image = bench.pull().unwrap();
    assert_eq!(bench.registry.requests().len(), requests);
    bench.holds(&image);
    assert_eq!(bench.fsck().residue, 0, "nothing is left over");
}
