//! `mounts` of a bundle: what every app of ours has, written out, and what the user asked for.
//!
//! Ours come first and may be told from the user's when they are read: by where they are and what
//! they are made of. Sources without a leading slash lie beneath the bundle.

use std::path::Path;

use oci_spec::runtime as oci;
use pod_abi::app::{Mount, MountSource};
use pod_abi::manifest::Network;
use pod_abi::volume::{Volume, VolumeSource};
use pod_abi::{PodPath, VolumeName, layout};

use super::unspoken::Unspoken;
use super::{BundleError, Result, Surrounded, unsupported};

/// A mount of ours: where, type, source, options.
type Ours = (&'static str, &'static str, &'static str, &'static [&'static str]);

/// What every app has mounted; stage1-ns mounts the same (`plan`).
const OURS: [Ours; 10] = [
    ("/proc", "proc", "proc", &["nosuid", "nodev", "noexec"]),
    ("/sys", "sysfs", "sysfs", &["nosuid", "nodev", "noexec"]),
    ("/sys/fs/cgroup", "cgroup", "cgroup", &["nosuid", "nodev", "noexec", "ro"]),
    ("/dev", "tmpfs", "tmpfs", &["nosuid", "noexec", "mode=0755", "size=64k"]),
    (
        "/dev/pts",
        "devpts",
        "devpts",
        &["nosuid", "noexec", "newinstance", "mode=0620", "ptmxmode=0666", "gid=5"],
    ),
    ("/dev/mqueue", "mqueue", "mqueue", &["nosuid", "nodev", "noexec"]),
    ("/dev/shm", "tmpfs", "shm", &["nosuid", "nodev", "noexec", "mode=1777", "size=64m"]),
    ("/etc/resolv.conf", "bind", "etc/resolv.conf", FILE),
    ("/etc/hosts", "bind", "etc/hosts", FILE),
    ("/etc/hostname", "bind", "etc/hostname", FILE),
];

const FILE: &[&str] = &["bind", "nosuid", "nodev", "noexec", "ro"];

/// Writes all mounts, outer ones before inner ones.
pub(super) fn write(what: &Surrounded) -> Result<Vec<oci::Mount>> {
    let users = &what.app.mounts;
    let mut placed: Vec<(PodPath, oci::Mount)> = Vec::new();
    for (at, kind, source, options) in OURS {
        let Ok(place) = PodPath::parse(at) else { continue }; // constants: tested
        // What the user mounts at a place of ours, or around it, replaces ours.
        if users.iter().any(|mount| place.is_beneath(&mount.destination)) {
            continue;
        }
        let mut options: Vec<String> = options.iter().map(|option| (*option).to_owned()).collect();
        let (mut kind, mut source) = (kind, source);
        if at == "/sys" {
            if what.ids.is_some() && what.network == Network::Host {
                // sysfs belongs to the network namespace, and the host's is not ours to mount.
                (kind, source) = ("bind", "/sys");
                options.insert(0, "rbind".to_owned());
            }
            options.extend((!what.app.writable_sys).then(|| "ro".to_owned()));
        }
        placed.push((place, mount(at, kind, source, options)?));
    }
    for user in users {
        placed.push((user.destination.clone(), user_mount(user, what)?));
    }
    placed.sort_by_key(|(place, _)| place.components().count());
    Ok(placed.into_iter().map(|(_, mount)| mount).collect())
}

fn mount(at: &str, kind: &str, source: &str, options: Vec<String>) -> Result<oci::Mount> {
    let built = oci::MountBuilder::default().destination(at).typ(kind).source(source);
    Ok(built.options(options).build()?)
}

fn user_mount(user: &Mount, what: &Surrounded) -> Result<oci::Mount> {
    let at = user.destination.as_str();
    let name = match &user.source {
        MountSource::Tmpfs { size, mode } => {
            return mount(at, "tmpfs", "tmpfs", memory(*size, *mode, user));
        }
        MountSource::Volume(name) => name,
    };
    let volume = find(what, name).ok_or_else(|| BundleError::Unwritable {
        app: what.app.name.clone(),
        problem: format!("mounts volume `{name}`, which its pod does not have"),
    })?;
    match &volume.source {
        VolumeSource::Tmpfs { size, mode } => {
            mount(at, "tmpfs", "tmpfs", memory(*size, *mode, user))
        }
        VolumeSource::Host { path, without_submounts: false } => {
            mount(at, "bind", path, bind(["rbind", "rnosuid", "rnodev"], ["rro", "rnoexec"], user))
        }
        VolumeSource::Host { path, without_submounts: true } => {
            mount(at, "bind", path, bind(["bind", "nosuid", "nodev"], ["ro", "noexec"], user))
        }
        VolumeSource::Empty { .. } => {
            let options = bind(["bind", "nosuid", "nodev"], ["ro", "noexec"], user);
            mount(at, "bind", &layout::volume(name), options)
        }
    }
}

fn find<'w>(what: &'w Surrounded, name: &VolumeName) -> Option<&'w Volume> {
    what.volumes.iter().chain(&what.app.volumes).find(|volume| volume.name == *name)
}

fn bind(always: [&str; 3], [ro, noexec]: [&str; 2], user: &Mount) -> Vec<String> {
    let wished = [(user.read_only, ro), (user.no_exec, noexec)];
    let wished = wished.into_iter().filter(|(wish, _)| *wish).map(|(_, word)| word);
    always.into_iter().chain(wished).map(str::to_owned).collect()
}

fn memory(size: Option<u64>, mode: u32, user: &Mount) -> Vec<String> {
    let mut options = vec!["nosuid".to_owned(), "nodev".to_owned(), format!("mode={mode:04o}")];
    options.extend(size.map(|bytes| format!("size={bytes}")));
    options.extend(user.read_only.then(|| "ro".to_owned()));
    options.extend(user.no_exec.then(|| "noexec".to_owned()));
    options
}

/// Reads all mounts, into `what`.
pub(super) fn read(from: &[oci::Mount], unspoken: &Unspoken, what: &mut Surrounded) -> Result<()> {
    for mount in from {
        let at = format!("mounts of `{}`", mount.destination().display());
        let destination = mount.destination().to_str().and_then(|path| PodPath::parse(path).ok());
        let destination =
            destination.ok_or_else(|| unsupported(&at, "is no absolute path without `..`"))?;
        if mount.uid_mappings().is_some() || mount.gid_mappings().is_some() {
            return Err(unsupported(at, "maps ids, which an app of ours has done by itself"));
        }
        if is_ours(mount, &destination) {
            if destination.as_str() == "/sys" {
                what.app.writable_sys = !has(mount, &["ro", "rro"]);
            }
            continue;
        }
        let told = unspoken.mounts.iter().find(|(place, _)| *place == destination);
        let volume = told.and_then(|(_, volume)| volume.as_ref());
        let read = user_source(mount, &destination, volume, what)?;
        what.app.mounts.push(read);
    }
    let order = |mount: &Mount| {
        let place = |(place, _): &(PodPath, _)| *place == mount.destination;
        unspoken.mounts.iter().position(place).unwrap_or(usize::MAX)
    };
    what.app.mounts.sort_by_key(order);
    Ok(())
}

/// Tells whether a mount is one that every app of ours has: what it is made of must be ours, its
/// options may be another engine's.
fn is_ours(mount: &oci::Mount, destination: &PodPath) -> bool {
    let kind = mount.typ().as_deref().unwrap_or_default();
    let source = mount.source().as_deref().and_then(Path::to_str).unwrap_or_default();
    OURS.iter().filter(|(at, ..)| *at == destination.as_str()).any(|(at, ours, made_of, _)| {
        let of_memory_or_file = ["tmpfs", "bind"].contains(ours);
        (kind == *ours && (!of_memory_or_file || source == *made_of))
            || (*at == "/sys" && source == "/sys" && has(mount, &["rbind"]))
    })
}

fn has(mount: &oci::Mount, words: &[&str]) -> bool {
    mount.options().iter().flatten().any(|option| words.contains(&option.as_str()))
}

/// Reads a mount of the user's; a volume that nobody has told of is added to the pod's.
fn user_source(
    mount: &oci::Mount,
    destination: &PodPath,
    volume: Option<&VolumeName>,
    what: &mut Surrounded,
) -> Result<Mount> {
    let at = || format!("mounts of `{destination}`");
    let words = Words::read(mount, &at())?;
    let kind = mount.typ().as_deref().unwrap_or_default();
    let bound = words.recursive.is_some() || kind == "bind";
    let made = |source| Mount {
        destination: destination.clone(),
        source,
        read_only: words.read_only,
        no_exec: words.no_exec,
    };
    if !bound && kind != "tmpfs" {
        return Err(unsupported(at(), format!("is of type `{kind}`")));
    }
    let known = volume.map(|name| {
        let found = find(what, name).map(|volume| volume.source.clone());
        found.ok_or_else(|| unsupported(at(), format!("is of volume `{name}`, which is not told")))
    });
    let known = known.transpose()?;
    let source = mount.source().as_deref().and_then(Path::to_str).unwrap_or_default();
    let without_submounts = words.recursive == Some(false);
    let agrees = match (&known, volume) {
        (Some(VolumeSource::Host { path, without_submounts: without }), _) => {
            bound && path == source && *without == without_submounts
        }
        (Some(VolumeSource::Empty { .. }), Some(name)) => bound && layout::volume(name) == source,
        (Some(VolumeSource::Tmpfs { size, mode }), _) => {
            !bound && words.size == *size && words.mode() == *mode
        }
        _ => true,
    };
    if !agrees {
        return Err(unsupported(at(), "is not what `annotations` say its volume is"));
    }
    match volume {
        Some(name) => Ok(made(MountSource::Volume(name.clone()))),
        None if !bound => Ok(made(MountSource::Tmpfs { size: words.size, mode: words.mode() })),
        None if !source.starts_with('/') => {
            Err(unsupported(at(), format!("is of `{source}`, which lies in the bundle")))
        }
        None => {
            let name = format!("volume-{}", what.volumes.len());
            let name =
                VolumeName::parse(&name).map_err(|error| unsupported(at(), error.to_string()))?;
            let host = VolumeSource::Host { path: source.to_owned(), without_submounts };
            what.volumes.push(Volume { name: name.clone(), source: host, fill: None });
            Ok(made(MountSource::Volume(name)))
        }
    }
}

/// The options of a user's mount, understood.
#[derive(Debug, Default)]
struct Words {
    read_only: bool,
    no_exec: bool,
    /// Whether what is bound brings the mounts beneath it; `None` if nothing is bound.
    recursive: Option<bool>,
    size: Option<u64>,
    mode: Option<u32>,
}

impl Words {
    fn mode(&self) -> u32 {
        /// What the kernel gives a tmpfs.
        const MODE: u32 = 0o1777;
        self.mode.unwrap_or(MODE)
    }

    fn read(mount: &oci::Mount, at: &str) -> Result<Self> {
        let mut words = Self::default();
        for option in mount.options().iter().flatten() {
            let refused = || unsupported(at, format!("has option `{option}`"));
            match option.split_once('=') {
                Some(("size", bytes)) => words.size = Some(bytes_of(bytes).ok_or_else(refused)?),
                Some(("mode", mode)) => {
                    words.mode = Some(u32::from_str_radix(mode, 8).map_err(|_| refused())?);
                }
                Some(_) => return Err(refused()),
                None => match option.as_str() {
                    "ro" | "rro" => words.read_only = true,
                    "noexec" | "rnoexec" => words.no_exec = true,
                    "bind" => words.recursive = Some(false),
                    "rbind" => words.recursive = Some(true),
                    // So it is with us in any case.
                    "rw" | "exec" | "nosuid" | "rnosuid" | "nodev" | "rnodev" | "private"
                    | "rprivate" | "slave" | "rslave" => {}
                    _ => return Err(refused()),
                },
            }
        }
        Ok(words)
    }
}

/// Reads a size as the kernel does, with its suffixes.
fn bytes_of(word: &str) -> Option<u64> {
    let (digits, factor) = match word.strip_suffix(['k', 'm', 'g']) {
        None => (word, 1),
        Some(digits) if word.ends_with('k') => (digits, 1 << 10),
        Some(digits) if word.ends_with('m') => (digits, 1 << 20),
        Some(digits) => (digits, 1 << 30),
    };
    digits.parse::<u64>().ok()?.checked_mul(factor)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_every_app_has_is_in_order_and_reads_as_ours() {
        for (at, kind, source, _) in OURS {
            let place = PodPath::parse(at).unwrap();
            assert!(is_ours(&mount(at, kind, source, Vec::new()).unwrap(), &place), "{at}");
        }
    }

    #[test]
    fn sizes_have_the_kernels_suffixes() {
        let table = [("64m", Some(64 << 20)), ("1024", Some(1024)), ("k", None), ("50%", None)];
        for (word, bytes) in table {
            assert_eq!(bytes_of(word), bytes, "{word}");
        }
    }
}
