//! Layers the kernel checks as they are read, on a kernel and a file system that can: ext4 with
//! fs-verity. In namespaces they are mounted through a loop device here, as this kernel mounts no
//! file; in a machine the monitor reads them.

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use tests::image::{Image, Layer};
use tests::said::Said;
use tests::sandbox::Sandbox;

/// What the app reads; found on the disk by its bytes.
const MARKER: &[u8] = b"what nobody may change: 5d1f0d3a-7a0e-4c3e";
/// Bytes of the disk.
const DISK: u64 = 256 << 20;

/// A disk whose file system seals files, mounted.
struct Disk<'m> {
    machine: &'m Sandbox,
    file: PathBuf,
    place: PathBuf,
}

impl<'m> Disk<'m> {
    fn make(machine: &'m Sandbox) -> Self {
        let disk = Self { machine, file: machine.path("disk"), place: machine.path("sealing") };
        File::create_new(&disk.file).and_then(|file| file.set_len(DISK)).expect("there is room");
        let options = ["-q", "-b", "4096", "-O", "verity"];
        machine.program("mkfs.ext4").args(options).args([&disk.file]).run().success();
        fs::create_dir(&disk.place).expect("the sandbox can be written");
        disk.mount();
        disk
    }

    fn mount(&self) {
        let mount = self.machine.program("mount").args(["-o", "loop"]);
        mount.args([&self.file, &self.place]).run().success();
    }

    fn unmount(&self) {
        self.machine.program("umount").args([&self.place]).run().success();
    }

    /// Changes a byte of every copy of the marker, behind the back of the file system.
    fn damage(&self) -> usize {
        self.unmount();
        let file = OpenOptions::new().read(true).write(true).open(&self.file).expect("it is ours");
        let mut block = vec![0; 1 << 20];
        let mut found = 0;
        for at in (0..DISK).step_by(block.len() - MARKER.len()) {
            let length = file.read_at(&mut block, at).expect("it can be read");
            for (place, bytes) in block[..length].windows(MARKER.len()).enumerate() {
                if bytes == MARKER {
                    file.write_at(b"W", at + place as u64).expect("it can be written");
                    found += 1;
                }
            }
        }
        file.sync_all().expect("it can be synced");
        self.mount();
        found
    }

    /// `pod` with a store on this disk.
    fn pod(&self, args: &[&str]) -> Said {
        let root = format!("--root={}", self.place.join("root").display());
        self.machine.program("pod").args([root.as_str(), "--run-root=/run/sealed"]).args(args).run()
    }
}

impl Drop for Disk<'_> {
    fn drop(&mut self) {
        if !thread::panicking() {
            self.unmount();
        }
    }
}

/// Lists the loop devices that show disk images of layers.
fn loops() -> Vec<PathBuf> {
    let devices = fs::read_dir("/sys/block").expect("the machine has disks");
    let files = devices.map(|device| device.expect("it can be listed").path().join("loop"));
    let files = files.filter_map(|shown| fs::read_to_string(shown.join("backing_file")).ok());
    files.map(|file| PathBuf::from(file.trim())).filter(|file| is_layer(file)).collect()
}

fn is_layer(file: &Path) -> bool {
    file.file_name().is_some_and(|name| name == "layer.erofs")
}

#[test]
fn a_sealed_layer_that_the_disk_has_changed_is_not_read() {
    let machine = Sandbox::of_this_machine();
    let disk = Disk::make(&machine);
    let busybox = fs::read("/bin/busybox").expect("the machine has busybox");
    // Blocks of their own, so that damage to one is no damage to its neighbours.
    let marker: Vec<u8> = MARKER.iter().copied().chain([b'.'; 8192]).collect();
    let layer = Layer::new()
        .dir("bin/", 0o755)
        .file("bin/busybox", 0o755, &busybox)
        .symlink("bin/head", "busybox")
        .file("marker", 0o644, &marker);
    let image = machine.image("marked", &Image::new().layer(layer));
    let run = |stage1: &str, layers: &str| {
        let args = ["run", "--rm", "-q", "--stage1", stage1, "--layers", layers, &image];
        disk.pod(&[&args[..], &["head", "-c", "42", "/marker"]].concat())
    };
    let marker = String::from_utf8_lossy(MARKER).into_owned();
    for stage1 in ["ns", "kvm"] {
        assert_eq!(run(stage1, "sealed").success(), marker, "{stage1}");
    }
    let until = Instant::now() + Duration::from_secs(10);
    while !loops().is_empty() {
        assert!(Instant::now() < until, "{:?} stay", loops());
        thread::sleep(Duration::from_millis(50));
    }
    let layers = fs::read_dir(disk.place.join("root/images/layers")).expect("there is a store");
    let layer = layers.map(|layer| layer.expect("it can be listed").path()).next();
    let sealed = layer.expect("there is a layer").join("layer.erofs");
    fs::write(&sealed, b"x").expect_err("nobody may write to what is sealed");

    assert!(disk.damage() >= 2, "the tree and the image are on the disk");
    let said = run("ns", "plain");
    assert_eq!(said.success(), marker.replacen('w', "W", 1), "a tree is what the disk says");
    let said = run("ns", "sealed");
    assert_ne!(said.code, 0, "{said}");
    assert!(said.stdout.is_empty(), "nothing of it is read: {said}");

    // Another image in its place is not the one that was promised.
    fs::remove_file(&sealed).expect("it is root's to remove");
    fs::write(&sealed, b"x").expect("a new file can be written");
    run("ns", "sealed").refuses(125, &["is not what it came as", "marker"]);
    drop(disk);
}
