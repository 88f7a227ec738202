//! Pulls from real OCI layouts into real stores: what comes in, what is refused, what stays.
//!
//! This test is a program without the usual harness, because it is its own unpack worker: started
//! with `internal-unpack` as its only argument it becomes one, as `pod` does.

#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "a test, though not of the harness")]

use std::collections::BTreeSet;
use std::io::Write;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::{env, fs, thread};

use images::{
    Error, ErrorKind, Event, GcMode, GcOptions, Image, Progress, PullOptions, PullPolicy,
    Reference, Silent, Store, WorkerProgram,
};
use pod_abi::app::Verified;
use pod_abi::{Digest, PodPath};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

type Test = (&'static str, fn());

const TESTS: &[Test] = &[
    ("an_image_of_a_layout_is_whole_in_the_store", an_image_of_a_layout_is_whole_in_the_store),
    ("what_is_in_the_store_needs_no_source", what_is_in_the_store_needs_no_source),
    ("each_bad_image_has_its_own_error", each_bad_image_has_its_own_error),
    ("the_variant_for_the_platform_is_taken", the_variant_for_the_platform_is_taken),
    (
        "a_layer_takes_from_lower_ones_what_it_implies",
        a_layer_takes_from_lower_ones_what_it_implies,
    ),
    ("a_layer_above_others_is_another_tree", a_layer_above_others_is_another_tree),
    ("a_hard_link_to_nothing_is_refused", a_hard_link_to_nothing_is_refused),
    ("gc_frees_what_nothing_needs", gc_frees_what_nothing_needs),
    ("a_pinned_chain_survives_its_name", a_pinned_chain_survives_its_name),
    ("eight_pulls_at_once_make_one_image", eight_pulls_at_once_make_one_image),
    ("gc_takes_nothing_from_a_pull_beside_it", gc_takes_nothing_from_a_pull_beside_it),
    ("a_damaged_download_is_fetched_anew", a_damaged_download_is_fetched_anew),
    ("what_is_damaged_in_the_store_is_pulled_anew", what_is_damaged_in_the_store_is_pulled_anew),
    (
        "a_moved_tag_of_a_layout_is_followed_unless_nothing_may_be_fetched",
        a_moved_tag_of_a_layout_is_followed_unless_nothing_may_be_fetched,
    ),
    ("an_image_without_layers_is_an_image", an_image_without_layers_is_an_image),
];

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    if arguments.first().is_some_and(|word| word == "internal-unpack") {
        return images::worker::run();
    }
    if !rustix::process::geteuid().is_root() {
        TESTS.iter().for_each(|(name, _)| record_skipped(name));
        return ExitCode::SUCCESS;
    }
    let filter = arguments.iter().find(|word| !word.starts_with('-'));
    if arguments.iter().any(|word| word == "--list") {
        TESTS.iter().for_each(|(name, _)| println!("{name}: test"));
        return ExitCode::SUCCESS;
    }
    let chosen: Vec<&Test> =
        TESTS.iter().filter(|(name, _)| filter.is_none_or(|word| name.contains(word))).collect();
    println!("\nrunning {} tests", chosen.len());
    let mut failed = 0;
    for (name, test) in &chosen {
        let good = catch_unwind(AssertUnwindSafe(test)).is_ok();
        println!("test {name} ... {}", if good { "ok" } else { "FAILED" });
        failed += usize::from(!good);
    }
    let (word, passed) = (if failed == 0 { "ok" } else { "FAILED" }, chosen.len() - failed);
    let out = TESTS.len() - chosen.len();
    println!("\ntest result: {word}. {passed} passed; {failed} failed; {out} filtered out\n");
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Tells whoever asked for it which tests did not run, and why.
fn record_skipped(name: &str) {
    println!("test {name} ... skipped, it needs root");
    let record = env::var_os("POD_TESTS_SKIPPED");
    let file = record.map(|path| fs::OpenOptions::new().append(true).open(path));
    if let Some(Ok(mut file)) = file {
        // The record is for people; a test must not fail for want of it.
        let _ = writeln!(file, "{name}: needs root: layers have owners and device nodes");
    }
}

/// A directory with a store and a layout in it, gone at the end.
struct Bench {
    root: tempfile::TempDir,
    store: Store,
}

/// What an archive holds.
enum Entry<'a> {
    Dir(&'a str, u32, u64),
    File(&'a str, &'a str),
    Link(&'a str, &'a str),
}

impl Bench {
    fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        let store = Store::open(root.path()).unwrap();
        fs::create_dir_all(root.path().join("layout/blobs/sha256")).unwrap();
        let bench = Self { root, store };
        bench.put("oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#);
        bench
    }

    fn path(&self, name: &str) -> PathBuf {
        self.root.path().join("layout").join(name)
    }

    fn put(&self, name: &str, bytes: &[u8]) {
        fs::write(self.path(name), bytes).unwrap();
    }

    /// Adds a blob and returns its descriptor.
    fn blob(&self, media_type: &str, bytes: &[u8]) -> Value {
        let digest = sha256(bytes);
        self.put(&format!("blobs/sha256/{}", digest.hex()), bytes);
        json!({"mediaType": media_type, "digest": digest.to_string(), "size": bytes.len()})
    }

    fn document(&self, media_type: &str, document: &Value) -> Value {
        self.blob(media_type, &serde_json::to_vec(document).unwrap())
    }

    /// Adds an image of `layers`, as archives, and returns its manifest's descriptor.
    fn image(&self, layers: &[Vec<u8>], architecture: &str) -> Value {
        let ids: Vec<String> = layers.iter().map(|tar| sha256(tar).to_string()).collect();
        self.image_claiming(layers, architecture, &ids)
    }

    fn image_claiming(&self, layers: &[Vec<u8>], architecture: &str, ids: &[String]) -> Value {
        let config = self.document(
            "application/vnd.oci.image.config.v1+json",
            &json!({"os": "linux", "architecture": architecture,
                "config": {"Cmd": ["/bin/sh"], "Env": ["A=b"]},
                "rootfs": {"type": "layers", "diff_ids": ids}}),
        );
        let gzip = "application/vnd.oci.image.layer.v1.tar+gzip";
        let layers: Vec<Value> = layers.iter().map(|tar| self.blob(gzip, &gz(tar))).collect();
        self.document(
            "application/vnd.oci.image.manifest.v1+json",
            &json!({"schemaVersion": 2, "config": config, "layers": layers}),
        )
    }

    /// Writes `index.json`, each manifest under a name.
    fn index(&self, named: &[(&str, &Value)]) {
        let manifests: Vec<Value> = named
            .iter()
            .map(|(name, descriptor)| {
                let mut descriptor = (*descriptor).clone();
                descriptor["annotations"] = json!({"org.opencontainers.image.ref.name": name});
                descriptor
            })
            .collect();
        let index = json!({"schemaVersion": 2, "manifests": manifests});
        self.put("index.json", &serde_json::to_vec(&index).unwrap());
    }

    fn reference(&self, tag: &str) -> Reference {
        let layout = self.root.path().join("layout");
        Reference::parse(&format!("oci:{}:{tag}", layout.display())).unwrap()
    }

    fn pull(&self, tag: &str) -> Result<Image, Error> {
        let lease = self.store.lease().unwrap();
        self.store.pull(&self.reference(tag), &options(), &lease, &Silent)
    }

    fn read(&self, image: &Image, path: &str) -> Option<String> {
        let path = PodPath::parse(path).unwrap();
        let bytes = self.store.read_file(&image.layers, &path, 1 << 20).unwrap();
        bytes.map(|bytes| String::from_utf8(bytes).unwrap())
    }

    fn tree(&self, image: &Image, layer: usize) -> PathBuf {
        let paths = self.store.layer_paths(&image.layers).unwrap();
        self.root.path().join("images/layers").join(&paths[layer])
    }

    fn gc(&self, pins: &[&Digest]) -> images::GcReport {
        let pins: BTreeSet<Digest> = pins.iter().map(|digest| (*digest).clone()).collect();
        self.store.gc(|| Ok(pins), &GcOptions::default()).unwrap()
    }

    fn is_sound(&self) {
        assert_eq!(self.store.fsck().unwrap().findings, []);
    }

    /// Lists what is in `tmp/`, `trash/` and `leases/`.
    fn residue(&self) -> Vec<PathBuf> {
        ["tmp", "trash", "leases"]
            .iter()
            .flat_map(|dir| fs::read_dir(self.root.path().join("images").join(dir)).unwrap())
            .map(|entry| entry.unwrap().path())
            .collect()
    }
}

fn options() -> PullOptions {
    let worker =
        WorkerProgram { exe: env::current_exe().unwrap(), args: vec!["internal-unpack".into()] };
    PullOptions::new(worker)
}

fn sha256(bytes: &[u8]) -> Digest {
    Digest::from_hash(&Sha256::digest(bytes)).unwrap()
}

fn gz(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn tar(entries: &[Entry<'_>]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for entry in entries {
        let mut header = tar::Header::new_gnu();
        header.set_mtime(1_000_000_000);
        header.set_mode(0o644);
        match entry {
            Entry::Dir(path, mode, uid) => {
                header.set_entry_type(tar::EntryType::Directory);
                header.set_mode(*mode);
                header.set_uid(*uid);
                header.set_size(0);
                builder.append_data(&mut header, path, std::io::empty()).unwrap();
            }
            Entry::File(path, content) => {
                header.set_size(content.len().try_into().unwrap());
                builder.append_data(&mut header, path, content.as_bytes()).unwrap();
            }
            Entry::Link(path, target) => {
                header.set_entry_type(tar::EntryType::Link);
                header.set_size(0);
                builder.append_link(&mut header, path, target).unwrap();
            }
        }
    }
    builder.into_inner().unwrap()
}

fn base() -> Vec<u8> {
    tar(&[
        Entry::Dir("etc", 0o755, 0),
        Entry::File("etc/passwd", "root:x:0:0"),
        Entry::File("etc/gone", "soon"),
        Entry::Dir("tmp", 0o1777, 0),
        Entry::Dir("srv", 0o2750, 1234),
        Entry::File("srv/data", "below"),
    ])
}

fn upper() -> Vec<u8> {
    tar(&[
        Entry::Dir("etc", 0o755, 0),
        Entry::File("etc/.wh.gone", ""),
        Entry::File("etc/new", "n"),
    ])
}

fn kind(result: Result<Image, Error>) -> ErrorKind {
    result.expect_err("it should not work").kind()
}

fn an_image_of_a_layout_is_whole_in_the_store() {
    let bench = Bench::new();
    bench.index(&[("v1", &bench.image(&[base(), upper()], "amd64"))]);
    let image = bench.pull("v1").unwrap();
    assert_eq!(image.verified, Verified::LocalFile);
    assert_eq!(image.settings.cmd, ["/bin/sh"]);
    assert_eq!(bench.read(&image, "/etc/passwd").as_deref(), Some("root:x:0:0"));
    assert_eq!(bench.read(&image, "/etc/new").as_deref(), Some("n"));
    assert_eq!(bench.read(&image, "/etc/gone"), None, "a whiteout hides it");
    let tmp = fs::metadata(bench.tree(&image, 0).join("tmp")).unwrap();
    assert_eq!(tmp.permissions().mode() & 0o7777, 0o1777);
    assert_eq!(tmp.mtime(), 1_000_000_000);
    let whiteout = fs::symlink_metadata(bench.tree(&image, 1).join("etc/gone")).unwrap();
    assert!(whiteout.file_type().is_char_device());
    let lines = bench.store.images().unwrap();
    assert_eq!(lines.len(), 1);
    assert_eq!(lines[0].manifest, image.manifest);
    let details = bench.store.inspect(&bench.reference("v1")).unwrap();
    assert_eq!(details.layers, image.layers);
    bench.is_sound();
    assert_eq!(bench.residue(), Vec::<PathBuf>::new());
}

fn what_is_in_the_store_needs_no_source() {
    let bench = Bench::new();
    bench.index(&[("v1", &bench.image(&[base()], "amd64"))]);
    let first = bench.pull("v1").unwrap();
    fs::remove_dir_all(bench.root.path().join("layout")).unwrap();
    assert_eq!(bench.pull("v1").unwrap(), first);
    let lease = bench.store.lease().unwrap();
    let host = images::Platform::host();
    let by_id = Reference::parse(first.manifest.short()).unwrap();
    let found = bench.store.resolve(&by_id, &host, &lease).unwrap().unwrap();
    assert_eq!(found.manifest, first.manifest);
    let never = PullOptions { policy: PullPolicy::Never, ..options() };
    let other = bench.reference("v2");
    assert_eq!(kind(bench.store.pull(&other, &never, &lease, &Silent)), ErrorKind::NotFound);
}

fn each_bad_image_has_its_own_error() {
    let bench = Bench::new();
    let good = bench.image(&[base()], "amd64");
    let foreign = bench.image(&[base()], "s390x");
    let liar = bench.image_claiming(&[base()], "amd64", &[sha256(b"other").to_string()]);
    let many = bench.image_claiming(&[base()], "amd64", &[]);
    let damaged = bench.image(&[upper()], "amd64");
    let layer = bench.path(&format!("blobs/sha256/{}", sha256(&gz(&upper())).hex()));
    let escape = bench.image(&[tar(&[Entry::Link("etc/x", "nowhere")])], "amd64");
    let missing = json!({"mediaType": "application/vnd.oci.image.manifest.v1+json",
        "digest": sha256(b"no such").to_string(), "size": 7});
    bench.index(&[
        ("good", &good),
        ("foreign", &foreign),
        ("liar", &liar),
        ("many", &many),
        ("damaged", &damaged),
        ("escape", &escape),
        ("missing", &missing),
    ]);
    bench.pull("good").unwrap();
    assert_eq!(kind(bench.pull("unknown")), ErrorKind::NotFound);
    assert_eq!(kind(bench.pull("foreign")), ErrorKind::Platform);
    assert_eq!(kind(bench.pull("many")), ErrorKind::Invalid);
    assert_eq!(kind(bench.pull("missing")), ErrorKind::Invalid);
    assert_eq!(kind(bench.pull("escape")), ErrorKind::Invalid);
    let whole = fs::read(&layer).unwrap();
    fs::write(&layer, &whole[..whole.len() - 9]).unwrap();
    assert_eq!(kind(bench.pull("damaged")), ErrorKind::Invalid, "truncated");
    fs::write(&layer, [&whole[..], b"x"].concat()).unwrap();
    assert_eq!(kind(bench.pull("damaged")), ErrorKind::Invalid, "too long");
    let mut flipped = whole.clone();
    flipped[whole.len() / 2] ^= 1;
    fs::write(&layer, &flipped).unwrap();
    assert_eq!(kind(bench.pull("damaged")), ErrorKind::Invalid, "other content");
    // The layer is there under its true name, so the liar has nothing to gain from it.
    let liar = bench.pull("liar");
    assert_eq!(kind(liar), ErrorKind::Invalid);
    assert!(
        bench.root.path().join("images/blobs/sha256").join(sha256(&gz(&base())).hex()).exists()
    );
    assert_eq!(bench.residue(), Vec::<PathBuf>::new());
    bench.is_sound();
    assert_eq!(bench.store.images().unwrap().len(), 1);
    fs::write(&layer, &whole).unwrap();
    bench.pull("damaged").unwrap();
}

fn the_variant_for_the_platform_is_taken() {
    let bench = Bench::new();
    let platform = |mut descriptor: Value, architecture: &str| {
        descriptor["platform"] = json!({"os": "linux", "architecture": architecture});
        descriptor
    };
    let amd64 = platform(bench.image(&[base()], "amd64"), "amd64");
    let arm64 = platform(bench.image(&[upper()], "arm64"), "arm64");
    let attestation = json!({"mediaType": amd64["mediaType"], "digest": amd64["digest"],
        "size": amd64["size"], "platform": {"os": "unknown", "architecture": "unknown"}});
    let inner = bench.document(
        "application/vnd.oci.image.index.v1+json",
        &json!({"schemaVersion": 2, "manifests": [attestation, arm64, amd64]}),
    );
    let outer = bench.document(
        "application/vnd.oci.image.index.v1+json",
        &json!({"schemaVersion": 2, "manifests": [inner]}),
    );
    let mut deep = outer.clone();
    for _ in 0..3 {
        deep = bench.document(
            "application/vnd.oci.image.index.v1+json",
            &json!({"schemaVersion": 2, "manifests": [deep]}),
        );
    }
    bench.index(&[("multi", &outer), ("deep", &deep)]);
    let image = bench.pull("multi").unwrap();
    assert_eq!(Some(image.manifest.to_string().as_str()), amd64["digest"].as_str());
    let lease = bench.store.lease().unwrap();
    let of = |platform: &str| PullOptions { platform: platform.parse().unwrap(), ..options() };
    let multi = bench.reference("multi");
    let arm = bench.store.pull(&multi, &of("linux/arm64"), &lease, &Silent).unwrap();
    assert_eq!(Some(arm.manifest.to_string().as_str()), arm64["digest"].as_str());
    let none = bench.store.pull(&multi, &of("linux/s390x"), &lease, &Silent);
    assert_eq!(kind(none), ErrorKind::Platform);
    assert_eq!(kind(bench.pull("deep")), ErrorKind::Invalid);
    assert_eq!(bench.store.images().unwrap().len(), 2);
}

fn a_layer_takes_from_lower_ones_what_it_implies() {
    let bench = Bench::new();
    let implying = tar(&[
        Entry::File("tmp/x", "x"),
        Entry::File("srv/deep/y", "y"),
        Entry::Link("srv/again", "srv/data"),
        Entry::Link("opt/third", "srv/data"),
    ]);
    bench.index(&[("v1", &bench.image(&[base(), upper(), implying], "amd64"))]);
    let image = bench.pull("v1").unwrap();
    let top = bench.tree(&image, 2);
    let metadata = |path: &str| fs::symlink_metadata(top.join(path)).unwrap();
    assert_eq!(metadata("tmp").mode() & 0o7777, 0o1777);
    assert_eq!(metadata("tmp").mtime(), 1_000_000_000);
    assert_eq!((metadata("srv").mode() & 0o7777, metadata("srv").uid()), (0o2750, 1234));
    assert_eq!(metadata("srv/deep").mode() & 0o7777, 0o755);
    let [data, again, third] =
        ["srv/data", "srv/again", "opt/third"].map(|path| metadata(path).ino());
    assert_eq!((data, data), (again, third));
    assert_eq!(metadata("srv/data").nlink(), 3);
    assert_eq!(bench.read(&image, "/srv/again").as_deref(), Some("below"));
    bench.is_sound();
    assert_eq!(bench.residue(), Vec::<PathBuf>::new());
    assert_eq!(bench.gc(&[]).layers, Vec::<String>::new());
}

fn a_layer_above_others_is_another_tree() {
    let bench = Bench::new();
    let implying = tar(&[Entry::File("srv/x", "x")]);
    let other = tar(&[Entry::Dir("srv", 0o700, 7)]);
    bench.index(&[
        ("one", &bench.image(&[base(), implying.clone()], "amd64")),
        ("two", &bench.image(&[other, implying.clone(), upper(), implying], "amd64")),
    ]);
    let (one, two) = (bench.pull("one").unwrap(), bench.pull("two").unwrap());
    let mode = |image: &Image, layer: usize| {
        fs::metadata(bench.tree(image, layer).join("srv")).unwrap().mode() & 0o7777
    };
    assert_eq!(one.layers[1], two.layers[1]);
    assert_eq!((mode(&one, 1), mode(&two, 1), mode(&two, 3)), (0o2750, 0o700, 0o700));
    assert_ne!(bench.tree(&two, 1), bench.tree(&two, 3));
    bench.is_sound();
}

fn a_hard_link_to_nothing_is_refused() {
    let bench = Bench::new();
    let dangling = tar(&[Entry::Dir("etc", 0o755, 0), Entry::Link("etc/x", "etc/gone")]);
    bench.index(&[("v1", &bench.image(&[base(), upper(), dangling], "amd64"))]);
    assert_eq!(kind(bench.pull("v1")), ErrorKind::Invalid, "a whiteout hides the target");
    bench.is_sound();
    assert_eq!(bench.residue(), Vec::<PathBuf>::new());
}

fn gc_frees_what_nothing_needs() {
    let bench = Bench::new();
    bench.index(&[
        ("a", &bench.image(&[base(), upper()], "amd64")),
        ("b", &bench.image(&[base()], "amd64")),
    ]);
    let (a, _) = (bench.pull("a").unwrap(), bench.pull("b").unwrap());
    assert_eq!(bench.gc(&[]), images::GcReport::default());
    bench.store.remove(&bench.reference("a")).unwrap();
    assert_eq!(bench.store.remove(&bench.reference("a")).unwrap_err().kind(), ErrorKind::NotFound);
    let dry = GcOptions { mode: GcMode::DryRun, ..GcOptions::default() };
    let promised = bench.store.gc(|| Ok(BTreeSet::new()), &dry).unwrap();
    let pins: Vec<&Digest> = [&a.manifest, &a.config].into_iter().chain(&a.layers).collect();
    assert_eq!(bench.gc(&pins), images::GcReport::default(), "a pod holds it");
    let report = bench.gc(&[]);
    assert_eq!(report, promised);
    assert_eq!(report.layers, [a.layers[1].hex()]);
    assert_eq!(report.blobs.len(), 3, "manifest, configuration, layer");
    bench.is_sound();
    bench.store.remove(&bench.reference("b")).unwrap();
    bench.gc(&[]);
    let report = bench.store.fsck().unwrap();
    assert_eq!((report.blobs, report.layers, report.refs), (0, 0, 0));
}

fn a_pinned_chain_survives_its_name() {
    let bench = Bench::new();
    let implying = tar(&[Entry::File("srv/x", "x")]);
    bench.index(&[("v1", &bench.image(&[base(), implying], "amd64"))]);
    let image = bench.pull("v1").unwrap();
    bench.store.remove(&bench.reference("v1")).unwrap();
    let mut pins = vec![&image.manifest, &image.config];
    pins.extend(&image.layers);
    assert_eq!(bench.gc(&pins).layers, Vec::<String>::new());
    assert_eq!(bench.store.layer_paths(&image.layers).unwrap().len(), 2);
    assert_eq!(bench.gc(&[]).layers.len(), 2);
}

fn eight_pulls_at_once_make_one_image() {
    let bench = Bench::new();
    let implying = tar(&[Entry::File("srv/x", "x")]);
    bench.index(&[("v1", &bench.image(&[base(), upper(), implying], "amd64"))]);
    let images: Vec<Image> = thread::scope(|scope| {
        let pulls: Vec<_> = (0..8).map(|_| scope.spawn(|| bench.pull("v1").unwrap())).collect();
        pulls.into_iter().map(|pull| pull.join().unwrap()).collect()
    });
    assert!(images.windows(2).all(|pair| pair[0] == pair[1]));
    assert_eq!(fs::read_dir(bench.root.path().join("images/layers")).unwrap().count(), 3);
    bench.is_sound();
    assert_eq!(bench.residue(), Vec::<PathBuf>::new());
}

fn gc_takes_nothing_from_a_pull_beside_it() {
    let bench = Bench::new();
    let implying = tar(&[Entry::File("srv/x", "x")]);
    bench.index(&[("v1", &bench.image(&[base(), upper(), implying], "amd64"))]);
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                bench.gc(&[]);
            }
        });
        let pulls = catch_unwind(AssertUnwindSafe(|| {
            for _ in 0..25 {
                let lease = bench.store.lease().unwrap();
                let reference = bench.reference("v1");
                let image = bench.store.pull(&reference, &options(), &lease, &Silent).unwrap();
                bench.store.remove(&reference).unwrap();
                assert_eq!(bench.read(&image, "/srv/data").as_deref(), Some("below"));
                assert_eq!(bench.read(&image, "/srv/x").as_deref(), Some("x"));
            }
        }));
        done.store(true, Ordering::Relaxed);
        assert!(pulls.is_ok());
    });
    bench.gc(&[]);
    assert_eq!(bench.residue(), Vec::<PathBuf>::new());
    assert_eq!(bench.store.fsck().unwrap().blobs, 0);
}

fn a_damaged_download_is_fetched_anew() {
    let bench = Bench::new();
    bench.index(&[("v1", &bench.image(&[base()], "amd64"))]);
    let part = format!("images/tmp/sha256-{}.part", sha256(&gz(&base())).hex());
    let whole = gz(&base());
    for left in [&b"rubbish"[..], &whole[..40], &whole, &[whole.clone(), whole.clone()].concat()] {
        fs::write(bench.root.path().join(&part), left).unwrap();
        bench.pull("v1").unwrap();
        bench.is_sound();
        assert_eq!(bench.residue(), Vec::<PathBuf>::new());
        bench.store.remove(&bench.reference("v1")).unwrap();
        bench.gc(&[]);
    }
}

fn what_is_damaged_in_the_store_is_pulled_anew() {
    let bench = Bench::new();
    bench.index(&[("v1", &bench.image(&[base()], "amd64"))]);
    let image = bench.pull("v1").unwrap();
    let images = bench.root.path().join("images");
    let record = fs::read_dir(images.join("refs")).unwrap().next().unwrap().unwrap().path();
    let config = images.join("blobs/sha256").join(image.config.hex());
    for damaged in [&record, &config] {
        fs::write(damaged, "").unwrap();
        assert_ne!(bench.store.fsck().unwrap().findings, []);
        assert_eq!(bench.pull("v1").unwrap(), image);
        bench.is_sound();
    }
}

fn a_moved_tag_of_a_layout_is_followed_unless_nothing_may_be_fetched() {
    struct Seen(Mutex<Vec<Event>>);
    impl Progress for Seen {
        fn event(&self, event: Event) {
            self.0.lock().unwrap().push(event);
        }
    }
    let bench = Bench::new();
    bench.index(&[("v1", &bench.image(&[base()], "amd64"))]);
    let old = bench.pull("v1").unwrap();
    bench.index(&[("v1", &bench.image(&[base(), upper()], "amd64"))]);
    let (lease, seen) = (bench.store.lease().unwrap(), Seen(Mutex::new(Vec::new())));
    let pull = |policy, progress: &dyn Progress| {
        let options = PullOptions { policy, ..options() };
        bench.store.pull(&bench.reference("v1"), &options, &lease, progress).unwrap()
    };
    assert_eq!(pull(PullPolicy::Never, &Silent), old);
    // A layout is looked at each time: what lies there now is what is meant.
    let new = pull(PullPolicy::Missing, &seen);
    assert_eq!(pull(PullPolicy::Always, &Silent), new);
    assert_ne!(new.manifest, old.manifest);
    let seen = seen.0.lock().unwrap();
    let count = |wanted: fn(&Event) -> bool| seen.iter().filter(|event| wanted(event)).count();
    assert_eq!(count(|event| matches!(event, Event::LayerExists { .. })), 1);
    assert_eq!(count(|event| matches!(event, Event::LayerDone { .. })), 1);
    assert_eq!(seen.last(), Some(&Event::Done { digest: new.manifest.clone() }));
    assert_eq!(bench.pull("v1").unwrap().manifest, new.manifest);
}

fn an_image_without_layers_is_an_image() {
    let bench = Bench::new();
    bench.index(&[("empty", &bench.image(&[], "amd64"))]);
    let image = bench.pull("empty").unwrap();
    assert_eq!((image.layers.len(), image.size), (0, 0));
    assert_eq!(bench.read(&image, "/etc/passwd"), None);
    bench.is_sound();
}
