//! A store of its own and a registry of its own for each test, and what is true of any store.

use std::num::NonZeroUsize;
use std::time::{Duration, Instant};
use std::{fs, thread};

use fault_registry::Registry;
use images::{
    Error, FsckReport, GcOptions, GcReport, Image, Patience, PullOptions, Reference, Silent, Store,
};
use tempfile::TempDir;

use crate::child;
use crate::image::{self, Layers, Pushed};

/// How long something that another process does may take before the test has failed.
const DEADLINE: Duration = Duration::from_secs(30);

/// The workplace of a test.
pub(crate) struct Bench {
    pub(crate) root: TempDir,
    pub(crate) store: Store,
    pub(crate) registry: Registry,
    pub(crate) pushed: Pushed,
}

/// How the tests pull: as users do, but impatiently.
pub(crate) fn options() -> PullOptions {
    let patience = Patience {
        attempts: 3,
        base: Duration::from_millis(1),
        ceiling: Duration::from_millis(2),
        longest_retry_after: Duration::from_secs(1),
    };
    let jobs = NonZeroUsize::new(3);
    PullOptions { patience, jobs, ..PullOptions::new(child::worker()) }
}

impl Bench {
    /// Makes an empty store, and a registry with `layers` as `team/app:1`.
    pub(crate) fn new(layers: Layers) -> Self {
        let root = tempfile::tempdir().unwrap();
        let store = Store::open(root.path()).unwrap();
        let registry = Registry::start();
        let pushed = image::push(&registry, layers);
        Self { root, store, registry, pushed }
    }

    pub(crate) fn reference(&self) -> String {
        format!("{}/team/app:1", self.registry.host())
    }

    pub(crate) fn pull(&self) -> Result<Image, Error> {
        self.pull_as(&options())
    }

    pub(crate) fn pull_as(&self, options: &PullOptions) -> Result<Image, Error> {
        let reference = Reference::parse(&self.reference()).unwrap();
        let lease = self.store.lease().unwrap();
        self.store.pull(&reference, options, &lease, &Silent)
    }

    pub(crate) fn fsck(&self) -> FsckReport {
        self.store.fsck().unwrap()
    }

    /// Collects all garbage there is.
    pub(crate) fn gc(&self) -> GcReport {
        self.store.gc(|| Ok(Default::default()), &GcOptions::default()).unwrap()
    }

    /// Checks that `image` is whole: every file of every layer, and nothing in disorder.
    pub(crate) fn holds(&self, image: &Image) {
        let report = self.fsck();
        assert_eq!(report.findings, [], "the store is sound");
        for (place, (layer, content)) in image.layers.iter().zip(&self.pushed.files).enumerate() {
            let path = self.store.layer_paths(std::slice::from_ref(layer)).unwrap().remove(0);
            let file = self.root.path().join("images/layers").join(path).join("file");
            assert_eq!(fs::read(&file).unwrap(), *content, "layer {place}");
        }
        assert_eq!(image.layers.len(), self.pushed.files.len());
    }

    /// Checks that there is no image, and that a collection leaves nothing behind.
    pub(crate) fn holds_nothing(&self) {
        assert_eq!(self.store.images().unwrap(), []);
        assert_eq!(self.fsck().findings, []);
        self.gc();
        let report = self.fsck();
        assert_eq!((report.layers, report.blobs, report.residue), (0, 0, 0));
    }

    /// Counts the requests for the blob of layer `place`, and the bytes sent for it.
    pub(crate) fn asked(&self, place: usize) -> (usize, u64) {
        let path = format!("/blobs/{}", self.pushed.layers[place].digest);
        let requests = self.registry.requests();
        let count = requests.iter().filter(|seen| seen.path.ends_with(&path)).count();
        (count, self.registry.bytes_sent(&path))
    }

    /// The path of the blob of layer `place`, for scripts.
    pub(crate) fn blob_path(&self, place: usize) -> String {
        format!("/blobs/{}", self.pushed.layers[place].digest)
    }
}

/// Waits until `fact` holds, which another process brings about and nothing announces.
pub(crate) fn eventually(what: &str, fact: impl Fn() -> bool) {
    let until = Instant::now() + DEADLINE;
    while !fact() {
        assert!(Instant::now() < until, "{what} did not come about");
        thread::sleep(Duration::from_millis(2));
    }
}
