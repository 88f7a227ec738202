//! Which shared library a program lacks that ended at once with status 127.
//!
//! A program whose library is missing *is* executed: it is the dynamic linker that gives up, in its
//! own words on the app's standard error, and with a status that a shell gives, too. So the
//! libraries are looked up here the way the linker does, after the fact and by a process of its own
//! in the app ([`Deed::Explain`](super::Deed)). A library is called missing only if it is in none
//! of the places that were found out; where the places cannot be known, nothing is said.

use std::collections::BTreeSet;
use std::ffi::CString;
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

use nix::unistd::{AccessFlags, access};

use super::diagnosis::{open, path, shown};
use super::elf::{Bytes, Elf};
use super::failure::{Failure, Phase};
use super::prepared::Prepared;

/// The most files looked into: programs with more libraries are left alone.
const MAX_FILES: usize = 256;
/// The most files of directories that are read, and the most bytes of each.
const MAX_LISTS: usize = 64;
const MAX_LIST: u64 = 64 << 10;
/// How deep such files may include each other.
const MAX_INCLUDES: usize = 4;

/// How many links to a program are followed.
const MAX_LINKS: usize = 16;

/// Where libraries are looked for in any case: by glibc, by Debian's glibc, by musl.
const USUAL: [&str; 8] = [
    "/lib",
    "/usr/lib",
    "/lib64",
    "/usr/lib64",
    "/usr/local/lib",
    "/lib/x86_64-linux-gnu",
    "/usr/lib/x86_64-linux-gnu",
    "/usr/local/lib/x86_64-linux-gnu",
];

/// Says which library the program lacks, if it lacks one for certain.
pub(super) fn explain(what: &Prepared<'_>) -> Option<Failure> {
    let mut candidates = what.candidates.iter().map(|candidate| path(candidate));
    let program = candidates.find(|path| access(*path, AccessFlags::X_OK).is_ok())?;
    let program = resolved(interpreted(program))?;
    let Search::Missing { wanting, library } = search(&program, usual(&what.environment)) else {
        return None;
    };
    let (wanting, library) = (shown(&wanting.to_string_lossy()), shown(&library));
    let object = format!("`{wanting}` needs `{library}`, which none of the usual places holds,");
    Some(Failure::without_cause(Phase::MissingLibrary, object))
}

/// Follows the links at the end of a path, for `$ORIGIN` means where the file itself lies.
fn resolved(mut path: PathBuf) -> Option<PathBuf> {
    for _ in 0..MAX_LINKS {
        match fs::read_link(&path) {
            Ok(target) => path = path.parent()?.join(target),
            Err(_) => return Some(path),
        }
    }
    None
}

/// Returns what is executed in a script's stead.
fn interpreted(program: &Path) -> PathBuf {
    let head = open(program).map(|file| file.at(0, 256)).unwrap_or_default();
    let line = head.strip_prefix(b"#!").and_then(|rest| rest.split(|byte| *byte == b'\n').next());
    let word = line.map(|line| String::from_utf8_lossy(line.trim_ascii()).into_owned());
    let word = word.as_deref().and_then(|line| line.split([' ', '\t']).next());
    word.map_or_else(|| program.to_owned(), PathBuf::from)
}

/// What became of looking for all libraries.
#[derive(Debug, PartialEq, Eq)]
enum Search {
    /// All are there, or it cannot be known.
    Content,
    /// This file lacks this one.
    Missing { wanting: PathBuf, library: String },
}

/// Looks for everything `program` needs, and for what that needs.
fn search(program: &Path, usual: Vec<PathBuf>) -> Search {
    let mut todo = vec![program.to_owned()];
    let mut seen: BTreeSet<String> = BTreeSet::new();
    // What the program itself names counts for its libraries, too: an RPATH is inherited.
    let mut places = usual;
    while let Some(wanting) = todo.pop() {
        let Some(file) = open(&wanting) else { return Search::Content };
        let Some(elf) = Elf::read(&file) else { return Search::Content };
        let wants = elf.wants();
        for directory in &wants.directories {
            match expanded(directory, &wanting) {
                Some(directory) => places.insert(0, directory),
                None => return Search::Content,
            }
        }
        for library in wants.libraries {
            if library.contains('$') || seen.len() > MAX_FILES {
                return Search::Content;
            }
            if !seen.insert(library.clone()) {
                continue;
            }
            match found(&library, &places) {
                Some(path) => todo.push(path),
                None => return Search::Missing { wanting, library },
            }
        }
    }
    Search::Content
}

fn found(library: &str, places: &[PathBuf]) -> Option<PathBuf> {
    let beneath = places.iter().map(|place| place.join(library));
    let mut paths: Box<dyn Iterator<Item = PathBuf>> = if library.contains('/') {
        Box::new([PathBuf::from(library)].into_iter())
    } else {
        Box::new(beneath)
    };
    // That it exists is enough: one that is there and broken is another trouble.
    paths.find(|path| path.exists())
}

/// Returns the directory a file names for its libraries; `None` if only the linker knows it.
fn expanded(directory: &str, of: &Path) -> Option<PathBuf> {
    let origin = of.parent()?.to_str()?;
    let directory = directory.replace("${ORIGIN}", origin).replace("$ORIGIN", origin);
    (!directory.contains('$')).then(|| PathBuf::from(directory))
}

/// Returns where libraries are looked for, whoever needs them.
fn usual(environment: &[CString]) -> Vec<PathBuf> {
    let variable = environment
        .iter()
        .find_map(|variable| variable.to_str().ok()?.strip_prefix("LD_LIBRARY_PATH="));
    let named = variable.unwrap_or_default().split([':', ';']).filter(|path| !path.is_empty());
    let mut places: Vec<PathBuf> = named.map(PathBuf::from).collect();
    let mut lists = MAX_LISTS;
    listed(Path::new("/etc/ld.so.conf"), MAX_INCLUDES, &mut lists, &mut places);
    listed(Path::new("/etc/ld-musl-x86_64.path"), 0, &mut lists, &mut places);
    places.extend(USUAL.iter().map(PathBuf::from));
    places
}

/// Adds the directories that a file such as `/etc/ld.so.conf` lists, as far as it can be read.
fn listed(list: &Path, depth: usize, lists: &mut usize, places: &mut Vec<PathBuf>) {
    let Some(file) = open(list) else { return };
    if *lists == 0 {
        return;
    }
    *lists -= 1;
    let mut text = Vec::new();
    // What was read before an error is as good as the rest.
    let _ = file.take(MAX_LIST).read_to_end(&mut text);
    for line in String::from_utf8_lossy(&text).lines() {
        let line = line.split('#').next().unwrap_or_default().trim();
        match line.strip_prefix("include").filter(|rest| rest.starts_with([' ', '\t'])) {
            Some(pattern) if depth > 0 => {
                for list in included(pattern.trim()) {
                    listed(&list, depth - 1, lists, places);
                }
            }
            Some(_) => {}
            None => places
                .extend(line.split(':').filter(|path| path.starts_with('/')).map(PathBuf::from)),
        }
    }
}

/// Returns the files a pattern such as `/etc/ld.so.conf.d/*.conf` means.
fn included(pattern: &str) -> Vec<PathBuf> {
    let whole = Path::new("/etc").join(pattern);
    let (Some(directory), Some(name)) =
        (whole.parent(), whole.file_name().and_then(|n| n.to_str()))
    else {
        return Vec::new();
    };
    let Some((before, behind)) = name.split_once('*') else { return vec![whole.clone()] };
    let entries = fs::read_dir(directory).into_iter().flatten().take(MAX_LISTS).flatten();
    let fits = |path: &PathBuf| {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        name.len() >= before.len() + behind.len()
            && name.starts_with(before)
            && name.ends_with(behind)
    };
    entries.map(|entry| entry.path()).filter(fits).collect()
}

#[cfg(test)]
mod tests {
    use super::super::elf::tests::written;
    use super::*;

    const NEEDED: u64 = 1;
    const RUNPATH: u64 = 29;

    #[test]
    fn a_library_is_missing_if_no_place_holds_it() {
        let directory = std::env::temp_dir().join(format!("libraries-{}", std::process::id()));
        fs::create_dir_all(directory.join("lib")).unwrap();
        let put = |name: &str, wants: &[(u64, &str)]| {
            let path = directory.join(name);
            fs::write(&path, written(62, "/lib/ld.so", wants)).unwrap();
            path
        };
        put("lib/liba.so", &[(NEEDED, "libb.so")]);
        let lib = || vec![directory.join("lib")];
        let program = put("program", &[(NEEDED, "liba.so")]);
        let missing = |wanting: PathBuf, library: &str| Search::Missing {
            wanting,
            library: library.to_owned(),
        };
        assert_eq!(search(&program, Vec::new()), missing(program.clone(), "liba.so"));
        assert_eq!(search(&program, lib()), missing(directory.join("lib/liba.so"), "libb.so"));
        let beside = put("beside", &[(NEEDED, "liba.so"), (RUNPATH, "$ORIGIN/lib")]);
        assert_eq!(search(&beside, Vec::new()), missing(directory.join("lib/liba.so"), "libb.so"));
        put("lib/libb.so", &[(NEEDED, "liba.so")]);
        assert_eq!(search(&program, lib()), Search::Content);
        let unknown = put("unknown", &[(NEEDED, "libc.so"), (RUNPATH, "/opt/$PLATFORM")]);
        assert_eq!(search(&unknown, Vec::new()), Search::Content);
        fs::remove_dir_all(directory).unwrap();
    }

    #[test]
    fn the_program_of_this_test_lacks_nothing() {
        let program = resolved(PathBuf::from("/proc/self/exe")).unwrap();
        assert_eq!(search(&program, usual(&[])), Search::Content);
    }
}
