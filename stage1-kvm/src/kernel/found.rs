//! Which kernel guests are to have: the newest of the distribution's that has its modules, one made
//! for machines of a cloud before all others.

use std::cmp::Ordering;
use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use supervisor::Failure;

use super::Places;

/// The word in the release of a kernel that is made to be a guest.
const PREFERRED: &str = "cloud";
/// The package that brings one, on Debian.
const DEBIAN: &str = "linux-image-cloud-amd64";

/// A kernel, and what belongs to it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Source {
    /// Its file, as a boot loader takes it.
    pub(crate) kernel: PathBuf,
    /// The directory of its modules, such as `/lib/modules/6.1.0-1-cloud-amd64`.
    pub(crate) modules: PathBuf,
}

/// Finds the distribution's kernel.
///
/// # Errors
///
/// `vm.no-kernel`, with what to install.
pub(super) fn distribution(places: &Places) -> Result<Source, Failure> {
    // Without the directory there is no kernel in it.
    let entries = fs::read_dir(&places.modules).into_iter().flatten().flatten();
    let mut found: Vec<(String, Source)> = Vec::new();
    for entry in entries {
        let Ok(release) = entry.file_name().into_string() else { continue };
        let modules = entry.path();
        let kernels = [places.boot.join(format!("vmlinuz-{release}")), modules.join("vmlinuz")];
        // A directory stays behind when a kernel was removed that had modules of somebody else's.
        let whole = modules.join("kernel").is_dir() || modules.join("modules.builtin").is_file();
        if let Some(kernel) = kernels.into_iter().find(|kernel| whole && kernel.is_file()) {
            found.push((release, Source { kernel, modules }));
        }
    }
    found.sort_by(|(a, _), (b, _)| by_preference(a, b));
    match found.pop() {
        Some((_, source)) => Ok(source),
        None => Err(Failure::new("there is no kernel for guests on this host")
            .code("vm.no-kernel")
            .hint(what_to_install(places, Path::new("/etc/os-release")))),
    }
}

/// Says how this host gets a kernel.
fn what_to_install(places: &Places, os_release: &Path) -> String {
    let setup = format!(
        "`{} setup --kernel FILE --modules DIRECTORY`",
        places.programs.join("stage1-kvm").display()
    );
    let text = fs::read_to_string(os_release).unwrap_or_default();
    if text.lines().any(|line| line == "ID=debian") {
        return format!("`apt install {DEBIAN}`; or choose a kernel by {setup}");
    }
    format!("install the kernel of the distribution, or choose one by {setup}")
}

/// Says what to do about a kernel that cannot be used.
pub(super) fn another(places: &Places) -> String {
    what_to_install(places, Path::new("/etc/os-release"))
}

/// Orders releases, the one to take last.
fn by_preference(a: &str, b: &str) -> Ordering {
    let preferred = |release: &str| release.contains(PREFERRED);
    preferred(a).cmp(&preferred(b)).then_with(|| by_age(a, b))
}

/// Orders releases as people count: `6.1.0-9` before `6.1.0-56`.
fn by_age(a: &str, b: &str) -> Ordering {
    parts(a).cmp(&parts(b)).then_with(|| a.cmp(b))
}

/// Cuts a release into numbers and what lies between them; a pre-release `~` is before its end.
fn parts(release: &str) -> Vec<(u8, u64, String)> {
    let mut parts = Vec::new();
    let mut rest = release;
    while let Some(first) = rest.chars().next() {
        let digits = first.is_ascii_digit();
        let end = rest.find(|c: char| c.is_ascii_digit() != digits).unwrap_or(rest.len());
        let (part, tail) = rest.split_at(end);
        match part.parse() {
            Ok(number) => parts.push((2, number, String::new())),
            Err(_) => parts.push((u8::from(!part.starts_with('~')), 0, part.to_owned())),
        }
        rest = tail;
    }
    parts.push((1, 0, String::new()));
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases_are_ordered_as_people_count() {
        let ordered = [
            "5.10.0-30-amd64",
            "6.1.0-9-amd64",
            "6.1.0-56-amd64",
            "6.12.0~rc1-amd64",
            "6.12.0-amd64",
            "6.1.0-9-cloud-amd64",
            "6.1.0-56-cloud-amd64",
        ];
        assert!(ordered.is_sorted_by(|a, b| by_preference(a, b) == Ordering::Less));
    }

    #[test]
    fn what_to_install_depends_on_the_distribution() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("os-release");
        let places = Places {
            cache: PathBuf::new(),
            boot: PathBuf::new(),
            modules: PathBuf::new(),
            programs: "/usr/lib/pod/stage1/kvm".into(),
        };
        fs::write(&file, "NAME=x\nID=debian\n").unwrap();
        assert!(what_to_install(&places, &file).starts_with("`apt install linux-image-cloud"));
        fs::write(&file, "ID=other\nID_LIKE=debian\n").unwrap();
        let hint = what_to_install(&places, &file);
        assert!(hint.ends_with(
            "by `/usr/lib/pod/stage1/kvm/stage1-kvm setup --kernel FILE --modules DIRECTORY`"
        ));
    }
}
