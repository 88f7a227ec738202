//! The same archives through other people's programs: GNU tar and Python's `tarfile`.

use std::fs;
use std::os::unix::fs::{FileExt, PermissionsExt, chown, symlink};
use std::path::Path;
use std::process::Command;

use super::{Place, is_root, list};
use crate::layer::entry::{Attributes, Kind};
use crate::layer::tar::Reader;

/// Makes a tree with one of everything that every format can hold.
fn sample(root: &Path, longest: usize) {
    fs::create_dir_all(root.join("usr/lib/deep/er")).unwrap();
    fs::write(root.join("usr/lib/file"), "content").unwrap();
    fs::write(root.join("usr/lib/empty"), "").unwrap();
    fs::write(root.join("usr/lib/large"), b"0123456789abcdef".repeat(100_000)).unwrap();
    fs::write(root.join("name with spaces and \u{fc}ml\u{e4}uts"), "x").unwrap();
    fs::write(root.join("x".repeat(longest)), "long").unwrap();
    symlink("usr/lib", root.join("lib")).unwrap();
    symlink("y".repeat(longest), root.join("long-link")).unwrap();
    fs::hard_link(root.join("usr/lib/file"), root.join("usr/lib/deep/er/hard")).unwrap();
    fs::set_permissions(root.join("usr/lib/file"), fs::Permissions::from_mode(0o4711)).unwrap();
    fs::set_permissions(root.join("usr/lib/deep"), fs::Permissions::from_mode(0o1777)).unwrap();
    chown(root.join("usr/lib/empty"), Some(1234), Some(5678)).unwrap();
    let sparse = fs::File::create(root.join("sparse")).unwrap();
    sparse.set_len(3 << 20).unwrap();
    sparse.write_all_at(b"middle", 1 << 20).unwrap();
}

fn run(command: &mut Command) -> bool {
    match command.output() {
        Ok(output) => {
            let said = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success(), "{command:?}: {said}");
            true
        }
        Err(error) => {
            println!("skipped: cannot run {command:?}: {error}");
            false
        }
    }
}

#[test]
fn trees_equal_those_of_gnu_tar() {
    if !is_root() {
        return;
    }
    for (format, longest, options) in [
        ("posix", 200, &["--xattrs", "-S"][..]),
        ("posix", 200, &["-S", "--sparse-version=0.0"]),
        ("posix", 200, &["-S", "--sparse-version=0.1"]),
        ("gnu", 200, &["-S"]),
        ("gnu", 200, &[]),
        ("ustar", 90, &[]),
        ("v7", 90, &[]),
    ] {
        let place = Place::new();
        let home = place.home.path();
        sample(&home.join("source"), longest);
        fs::create_dir(home.join("theirs")).unwrap();
        if format == "posix" {
            xattr::set(home.join("source/usr/lib/file"), "user.note", b"a\nb").unwrap();
        }
        let archive = home.join("archive.tar");
        let mut pack = Command::new("tar");
        pack.arg("-C").arg(home.join("source")).arg("-cf").arg(&archive);
        pack.arg(format!("--format={format}")).args(options).arg(".");
        let mut extract = Command::new("tar");
        extract.arg("-C").arg(home.join("theirs")).arg("-xpf").arg(&archive);
        extract.args(["--xattrs", "--xattrs-include=*"]);
        if !run(&mut pack) || !run(&mut extract) {
            return;
        }
        place.unpack(&fs::read(&archive).unwrap()).unwrap();
        let (mut ours, theirs) = (place.tree(), list(&home.join("theirs")));
        if !options.contains(&"--xattrs") {
            // GNU tar has nothing to restore then, and neither have we.
            assert!(ours.values().all(|line| !line.contains("user.")));
        }
        for (path, line) in &theirs {
            assert_eq!(ours.remove(path).as_ref(), Some(line), "{format} {options:?}: {path}");
        }
        assert!(ours.is_empty(), "{format} {options:?}: {ours:?}");
    }
}

/// Writes an archive from a tree with Python, in the format of argument 3.
const PACK: &str = "
import sys, tarfile
formats = {'pax': tarfile.PAX_FORMAT, 'gnu': tarfile.GNU_FORMAT, 'ustar': tarfile.USTAR_FORMAT}
with tarfile.open(sys.argv[1], 'w', format=formats[sys.argv[3]]) as archive:
    archive.add(sys.argv[2], '.')
";

/// Reads an archive with Python and prints what is in it, one line an entry.
const LIST: &str = "
import sys, tarfile, hashlib, os
with tarfile.open(sys.argv[1]) as archive:
    for entry in archive:
        path = os.path.normpath('/' + entry.name).lstrip('/')
        what = entry.linkname if entry.issym() or entry.islnk() else str(entry.size)
        what = what.removeprefix('./')
        sys.stdout.buffer.write(f'{path} {what} {entry.mode:o} {entry.uid} {entry.gid} {entry.mtime:.3f}\\n'
            .encode('utf-8', 'surrogateescape'))
";

#[test]
fn entries_equal_those_python_sees() {
    if !is_root() {
        return;
    }
    for (format, longest) in [("pax", 200), ("gnu", 200), ("ustar", 90)] {
        let place = Place::new();
        let home = place.home.path();
        sample(&home.join("source"), longest);
        let archive = home.join("archive.tar");
        let mut pack = Command::new("python3");
        pack.arg("-c").arg(PACK).arg(&archive).arg(home.join("source")).arg(format);
        if !run(&mut pack) {
            return;
        }
        let theirs = Command::new("python3").arg("-c").arg(LIST).arg(&archive).output().unwrap();
        let theirs = String::from_utf8(theirs.stdout).unwrap();
        let file = std::io::BufReader::new(fs::File::open(&archive).unwrap());
        let mut reader = Reader::new(file);
        let mut ours = String::new();
        while let Some(entry) = reader.next().unwrap() {
            let path = String::from_utf8(entry.path).unwrap();
            let what = match entry.kind {
                Kind::File { size } => size.to_string(),
                Kind::Symlink(target) | Kind::HardLink(target) => {
                    String::from_utf8(target).unwrap()
                }
                _ => "0".to_owned(),
            };
            let Attributes { mode, uid, gid, modified, .. } = entry.attributes;
            // Rounded as Python does, which may be up to the next second.
            let thousandths = i64::from((modified.nanos + 500_000) / 1_000_000);
            let (seconds, rest) = (modified.seconds + thousandths / 1000, thousandths % 1000);
            ours += &format!("{path} {what} {mode:o} {uid} {gid} {seconds}.{rest:03}\n");
        }
        assert_eq!(ours, theirs, "{format}");
    }
}
