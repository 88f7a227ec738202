//! Kernels of tests: a segment and a banner, modules that need nothing.

use super::*;
use std::fs::{self, Permissions};
use std::io::Read as _;
use std::os::unix::fs::PermissionsExt as _;
use std::thread;
use std::time::Duration;

use tempfile::TempDir;

/// What an ELF file begins with.
fn elf(kind: u16, segments: u16, sections: (u64, u16)) -> Vec<u8> {
    let mut file = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0".to_vec();
    for half in [kind, 62, 1, 0] {
        file.extend(half.to_le_bytes());
    }
    for word in [0x10_0000, 64, sections.0] {
        file.extend(word.to_le_bytes());
    }
    file.extend([0; 4]);
    for half in [64, 56, segments, 64, sections.1, 1] {
        file.extend(half.to_le_bytes());
    }
    file
}

fn vmlinux(release: &str) -> Vec<u8> {
    let body = format!("Linux version {release} (test)");
    let mut file = elf(2, 1, (0, 0));
    file.extend([1, 0, 0, 0, 5, 0, 0, 0]);
    let length = body.len() as u64;
    for word in [64 + 56, 0x10_0000, 0x10_0000, length, length, 4096] {
        file.extend(word.to_le_bytes());
    }
    file.extend(body.bytes());
    file
}

fn module(name: &str, release: &str) -> Vec<u8> {
    let info = format!("name={name}\0alias=acpi*:LNRO0005:*\0vermagic={release} SMP\0");
    let names = b"\0.modinfo\0";
    let mut file = elf(1, 0, ((64 + info.len() + names.len()) as u64, 2));
    file.extend(info.bytes());
    file.extend(names);
    for (name, at, length) in [(1_u8, 64, info.len()), (0, 64 + info.len(), names.len())] {
        let mut row = [0; 64];
        row[0] = name;
        row[24..32].copy_from_slice(&(at as u64).to_le_bytes());
        row[32..40].copy_from_slice(&(length as u64).to_le_bytes());
        file.extend(row);
    }
    file
}

const MODULES: [&str; 8] = [
    "virtio_mmio",
    "virtio_blk",
    "vmw_vsock_virtio_transport",
    "erofs",
    "overlay",
    "virtio_net",
    "virtiofs",
    "ext4",
];

/// A host with programs and no kernel yet.
struct Host {
    dir: TempDir,
    places: Places,
}

impl Host {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        let places = Places {
            cache: at("cache/pod/guest"),
            boot: at("boot"),
            modules: at("modules"),
            programs: at("programs"),
        };
        for directory in [&places.boot, &places.modules, &places.programs] {
            fs::create_dir(directory).unwrap();
        }
        for program in ["guest", "stage2-init"] {
            fs::write(places.programs.join(program), elf(2, 0, (0, 0))).unwrap();
        }
        Self { dir, places }
    }

    /// Installs a kernel; returns where.
    fn install(&self, release: &str) -> Source {
        let kernel = self.places.boot.join(format!("vmlinuz-{release}"));
        fs::write(&kernel, vmlinux(release)).unwrap();
        let modules = self.places.modules.join(release);
        fs::create_dir_all(modules.join("kernel/drivers")).unwrap();
        for name in MODULES {
            let file = modules.join("kernel/drivers").join(format!("{name}.ko"));
            fs::write(file, module(name, release)).unwrap();
        }
        Source { kernel, modules }
    }

    fn kernels(&self) -> usize {
        cache_of(&self.places).iter().filter(|name| name.starts_with("kernel-")).count()
    }
}

fn cache_of(places: &Places) -> Vec<String> {
    let entries = fs::read_dir(&places.cache).into_iter().flatten().flatten();
    entries.map(|entry| entry.file_name().into_string().unwrap()).collect()
}

fn code(result: Result<Prepared, Failure>) -> String {
    result.unwrap_err().report().code.to_string()
}

#[test]
fn a_kernel_is_prepared_once_and_then_found() {
    let host = Host::new();
    assert_eq!(code(ensure(&host.places)), "vm.no-kernel");
    assert!(!host.places.cache.exists(), "a host without a kernel gets no cache");
    host.install("6.1.0-56-cloud-amd64");
    let mut first = ensure(&host.places).unwrap();
    assert_eq!(first.release, "6.1.0-56-cloud-amd64");
    let mut bytes = Vec::new();
    first.initramfs.read_to_end(&mut bytes).unwrap();
    let text = String::from_utf8_lossy(&bytes);
    assert!(text.contains("\nalways lib/modules/erofs.ko\n"), "{text}");
    let meta = first.directory.join("meta.json").metadata().unwrap().modified().unwrap();
    let again = ensure(&host.places).unwrap();
    assert_eq!(again.directory, first.directory);
    let same = again.directory.join("meta.json").metadata().unwrap().modified().unwrap();
    assert_eq!(meta, same, "it was found, not made");
    assert!(look(&host.places).unwrap().1.is_some());
}

#[test]
fn what_it_was_made_from_changes_and_it_is_made_anew() {
    let host = Host::new();
    let old = host.install("6.1.0-9-cloud-amd64");
    let first = ensure(&host.places).unwrap();
    // A program of another build:
    let guest = host.places.programs.join("guest");
    let mut other = elf(2, 0, (0, 0));
    other[48] = 7; // e_flags
    fs::write(&guest, other).unwrap();
    let second = ensure(&host.places).unwrap();
    assert_ne!(first.directory, second.directory);
    assert!(!first.directory.exists() && host.kernels() == 1, "the old one is of no use");
    // The same bytes in another file:
    let copy = host.dir.path().join("copy");
    fs::copy(&old.kernel, &copy).unwrap();
    fs::rename(&copy, &old.kernel).unwrap();
    assert!(look(&host.places).unwrap().1.is_none());
    assert_eq!(ensure(&host.places).unwrap().directory, second.directory);
    // A newer kernel; the older one is still what it was.
    host.install("6.1.0-56-cloud-amd64");
    host.install("6.12.0-amd64");
    assert_eq!(ensure(&host.places).unwrap().release, "6.1.0-56-cloud-amd64");
    assert_eq!(host.kernels(), 2);
    fs::remove_file(&old.kernel).unwrap();
    fs::write(&guest, elf(2, 0, (0, 0))).unwrap();
    ensure(&host.places).unwrap();
    assert_eq!(host.kernels(), 1);
}

#[test]
fn a_choice_stays_until_another_is_made() {
    let host = Host::new();
    let chosen = host.install("6.12.0-amd64");
    host.install("6.1.0-56-cloud-amd64");
    set_up(&host.places, Some(&chosen)).unwrap();
    assert_eq!(ensure(&host.places).unwrap().release, "6.12.0-amd64");
    fs::remove_file(&chosen.kernel).unwrap();
    assert_eq!(code(ensure(&host.places)), "vm.kernel-unusable");
    set_up(&host.places, None).unwrap();
    assert_eq!(ensure(&host.places).unwrap().release, "6.1.0-56-cloud-amd64");
}

#[test]
fn what_is_wrong_with_a_kernel_is_named_and_what_was_chosen_before_stays() {
    let host = Host::new();
    let fine = host.install("6.1.0-56-cloud-amd64");
    set_up(&host.places, Some(&fine)).unwrap();
    let bad = host.install("6.12.0-amd64");
    fs::remove_file(bad.modules.join("kernel/drivers/erofs.ko")).unwrap();
    let failure = set_up(&host.places, Some(&bad)).unwrap_err().report();
    assert_eq!(failure.code, "vm.kernel-unusable");
    assert!(failure.causes[0].contains("no module `erofs`"), "{failure:?}");
    assert!(!failure.hints.is_empty());
    assert_eq!(ensure(&host.places).unwrap().release, "6.1.0-56-cloud-amd64");
    // What a directory of modules does not have may be in the kernel.
    fs::write(bad.modules.join("modules.builtin"), "kernel/fs/erofs/erofs.ko\n").unwrap();
    set_up(&host.places, Some(&bad)).unwrap();
    // A configuration beside it is looked at.
    fs::write(host.places.boot.join("config-6.12.0-amd64"), "CONFIG_ACPI=y\n").unwrap();
    fs::write(&bad.kernel, vmlinux("6.12.0-amd64")).unwrap();
    let failure = ensure(&host.places).unwrap_err().report();
    assert!(failure.causes[0].contains("CONFIG_PCI"), "{failure:?}");
}

#[test]
fn a_kernel_that_was_half_made_is_not_found() {
    let host = Host::new();
    host.install("6.1.0-56-cloud-amd64");
    let whole = ensure(&host.places).unwrap().directory;
    let new = host.places.cache.join("new");
    fs::rename(&whole, &new).unwrap();
    fs::write(new.join("vmlinux.more"), b"x").unwrap();
    assert!(look(&host.places).unwrap().1.is_none());
    assert_eq!(ensure(&host.places).unwrap().directory, whole);
    assert!(!new.exists());
    for lost in ["meta.json", "vmlinux"] {
        fs::remove_file(whole.join(lost)).unwrap();
        assert!(look(&host.places).unwrap().1.is_none());
        assert_eq!(ensure(&host.places).unwrap().directory, whole);
    }
}

#[test]
fn a_damaged_kernel_is_made_anew_by_hand() {
    let host = Host::new();
    host.install("6.1.0-56-cloud-amd64");
    let ready = ensure(&host.places).unwrap().directory;
    let kernel = ready.join("vmlinux");
    let whole = fs::read(&kernel).unwrap();
    let mut damaged = whole.clone();
    damaged[100] ^= 1;
    fs::remove_file(&kernel).unwrap();
    fs::write(&kernel, damaged).unwrap();
    let new = host.places.cache.join("new");
    fs::create_dir(&new).unwrap();
    assert_eq!(set_up(&host.places, None).unwrap().directory, ready);
    assert_eq!(fs::read(&kernel).unwrap(), whole);
    assert!(!new.exists(), "what a killed preparation has left is gone");
}

#[test]
fn nobody_else_can_bring_a_kernel() {
    let host = Host::new();
    host.install("6.1.0-56-cloud-amd64");
    ensure(&host.places).unwrap();
    fs::set_permissions(&host.places.cache, Permissions::from_mode(0o770)).unwrap();
    assert_eq!(code(ensure(&host.places)), "vm.kernel-storage");
    assert_eq!(code(set_up(&host.places, None)), "vm.kernel-storage");
}

/// A `setup` that was stopped, by `^Z`, held up the start of every pod.
#[test]
fn who_prepares_too_long_is_named() {
    let host = Host::new();
    let held = cache::lock(&host.places, Duration::ZERO).unwrap();
    let report = cache::lock(&host.places, Duration::ZERO).unwrap_err().report();
    assert_eq!(report.code, "vm.kernel-busy");
    let holder = format!("process {} ", std::process::id());
    assert!(report.message.starts_with(&holder), "{report:?}");
    drop(held);
    cache::lock(&host.places, Duration::ZERO).unwrap();
}

#[test]
fn many_at_once_make_one() {
    let host = Host::new();
    host.install("6.1.0-56-cloud-amd64");
    let found: Vec<PathBuf> = thread::scope(|scope| {
        let threads: Vec<_> =
            (0..8).map(|_| scope.spawn(|| ensure(&host.places).unwrap().directory)).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert!(found.windows(2).all(|pair| pair[0] == pair[1]));
    assert_eq!(host.kernels(), 1);
}
