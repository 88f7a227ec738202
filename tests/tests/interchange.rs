//! Images between `pod` and the tools of others: what umoci, buildah, podman and skopeo write runs
//! here, what is written here they read, and a tree is the same whoever unpacks it.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use tests::fixtures::{self, Fixture};
use tests::image::{Image, Layer, digest};
use tests::require;
use tests::sandbox::Sandbox;

/// Makes the sandbox of a test that needs these programs, or returns from it.
macro_rules! sandbox {
    ($($program:literal),*) => {{
        if !require::root("a pod takes namespaces")
            $(|| !require::program($program, "images of other tools"))*
        {
            return;
        }
        Sandbox::new()
    }};
}

/// An image with whiteouts and an opaque directory over a lower layer, links of both kinds, a
/// capability, an attribute, set-id bits, and times in nanoseconds.
fn odd(sandbox: &Sandbox) -> Image {
    let probe = fs::read(sandbox.programs().path("probe")).expect("the probe is built");
    let lower = Layer::new()
        .dir("dir/", 0o750)
        .file("dir/kept", 0o644, b"kept")
        .file("dir/hidden", 0o644, b"hidden")
        .dir("opaque/", 0o755)
        .file("opaque/below", 0o644, b"below")
        .dir("sticky/", 0o1777)
        .file("replaced", 0o644, b"by a directory")
        .file("probe", 0o755, &probe);
    let capability = b"\x01\0\0\x02\x0a\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0";
    let upper = Layer::new()
        .file("dir/.wh.hidden", 0o644, b"")
        .file("opaque/.wh..wh..opq", 0o644, b"")
        .file("opaque/above", 0o600, b"above")
        .dir("replaced/", 0o700)
        .file("replaced/inside", 0o6755, b"x")
        .symlink("link", "dir/kept")
        .symlink("dangling", "/no/such")
        .file("one", 0o640, b"one")
        .hard_link("two", "one")
        .pax(&[
            ("SCHILY.xattr.security.capability", capability),
            ("SCHILY.xattr.user.note", b"a note"),
            ("mtime", b"1600000000.123456789"),
        ])
        .file("able", 0o755, b"able")
        .file("na\u{ef}ve name", 0o644, "ü".as_bytes());
    Image::new().layer(lower).layer(upper).set("Cmd", json!(["/probe", "exit", "37"]))
}

/// Lists a tree: path to everything that is to be the same of it.
fn list(root: &Path) -> BTreeMap<String, String> {
    let mut all = BTreeMap::new();
    let mut links: BTreeMap<u64, String> = BTreeMap::new();
    let mut pending = vec![root.to_owned()];
    while let Some(path) = pending.pop() {
        let name = path.strip_prefix(root).expect("it is beneath").as_os_str().as_bytes();
        let name = name.escape_ascii().to_string();
        let meta = fs::symlink_metadata(&path).expect("it is there");
        let kind = meta.file_type();
        let what = if kind.is_dir() {
            let entries = fs::read_dir(&path).expect("it is a directory").flatten();
            let mut below: Vec<PathBuf> = entries.map(|entry| entry.path()).collect();
            below.sort_by(|one, other| other.cmp(one));
            pending.extend(below);
            "directory".to_owned()
        } else if kind.is_symlink() {
            format!("-> {}", fs::read_link(&path).expect("it is a link").display())
        } else if kind.is_file() {
            digest(&fs::read(&path).expect("it is a file"))
        } else if kind.is_char_device() || kind.is_block_device() {
            // The runtime supplies devices; ours leaves them out.
            continue;
        } else {
            "other".to_owned()
        };
        if !kind.is_dir() && meta.nlink() > 1 {
            if let Some(first) = links.get(&meta.ino()) {
                all.insert(name, format!("= {first}"));
                continue;
            }
            links.insert(meta.ino(), name.clone());
        }
        let mut attributes: Vec<String> = xattr::list(&path)
            .expect("attributes can be listed")
            .map(|name| {
                let value = xattr::get(&path, &name).ok().flatten().unwrap_or_default();
                format!(" {}={}", name.display(), value.escape_ascii())
            })
            .collect();
        attributes.sort();
        let (mode, owner) = (meta.mode() & 0o7777, (meta.uid(), meta.gid()));
        let time = (meta.mtime(), meta.mtime_nsec());
        all.insert(name, format!("{what} {mode:o} {owner:?} {time:?}{}", attributes.concat()));
    }
    all
}

/// Checks that umoci and `pod` make the same tree of an image.
fn same_tree(sandbox: &Sandbox, layout: &Path, tag: &str) {
    let bundle = sandbox.path("bundle");
    let tree = sandbox.path("tree");
    let image = format!("{}:{tag}", layout.display());
    let unpack = ["unpack", "--image", &image, &bundle.display().to_string()];
    sandbox.program("umoci").args(unpack).run().success();
    let stored = format!("oci:{image}");
    sandbox.pod(["fetch", "-q", &stored]).success();
    let extract = ["image", "extract", "--rootfs-only", &stored, &tree.display().to_string()];
    sandbox.pod(extract).success();
    let (theirs, ours) = (list(&bundle.join("rootfs")), list(&tree));
    for (path, line) in &theirs {
        assert_eq!(ours.get(path), Some(line), "{path} of {tag}");
    }
    assert_eq!(theirs.len(), ours.len(), "paths of {tag}");
    for made in [bundle, tree] {
        fs::remove_dir_all(made).expect("it was written");
    }
}

#[test]
fn a_tree_is_the_same_as_umoci_s() {
    let sandbox = sandbox!("umoci");
    let layout = sandbox.image("odd", &odd(&sandbox));
    let directory = sandbox.path("layout");
    assert!(layout.ends_with(":odd"));
    same_tree(&sandbox, &directory, "odd");
    if require::program("mmdebstrap", "a whole Debian") {
        let debian = fixtures::layout(sandbox.programs(), Fixture::Debian).expect("it is made");
        same_tree(&sandbox, &debian, "debian");
    }
}

/// What podman and buildah keep their own things in, in the sandbox they run in. Not whole paths:
/// podman refuses a run root of more than fifty characters.
const STORAGE: &str = "--root=storage --runroot=storage-run --storage-driver=vfs";

/// Runs a script of another tool, for which `$1` is what comes before its words, `$2` the sandbox.
fn script(sandbox: &Sandbox, tool: &str, text: &str) {
    let before = format!("{tool} {STORAGE}");
    let words = ["-euc", text, "sh", &before, &sandbox.path("").display().to_string()];
    // Without a file of this name podman does not find what it has made itself.
    let registries = ("CONTAINERS_REGISTRIES_CONF", "/etc/containers/registries.conf");
    sandbox.program("sh").env(registries.0, registries.1).args(words).run().success();
}

#[test]
fn what_umoci_buildah_and_podman_write_runs() {
    let sandbox = sandbox!("umoci", "buildah", "podman");
    let root = sandbox.path("made");
    fs::create_dir(&root).expect("the sandbox can be written");
    fs::copy(sandbox.programs().path("probe"), root.join("probe")).expect("the probe is built");

    let umoci = r#"cd "$2"; umoci init --layout u; umoci new --image u:1
        umoci unpack --image u:1 b; cp made/probe b/rootfs/; umoci repack --image u:1 b
        umoci config --image u:1 --config.cmd /probe --config.cmd exit --config.cmd 41"#;
    script(&sandbox, "umoci", umoci);
    sandbox.pod(["run", "--rm", "-q", &format!("oci:{}:1", sandbox.path("u").display())]).exits(41);

    let buildah = r#"cd "$2"; c=$($1 from scratch); $1 copy -q "$c" made/probe /probe
        $1 config --cmd '["/probe","exit","42"]' --env KEY=value "$c" 2>/dev/null
        for to in oci:bo:1 oci-archive:bo.tar:1 docker-archive:bd.tar:team/b:1 dir:bdir; do
            $1 commit -q --signature-policy policy.json "$c" "$to"
        done
        $1 commit -q --signature-policy policy.json --format docker "$c" docker-archive:bd2.tar:x:1"#;
    let policy = r#"{"default": [{"type": "insecureAcceptAnything"}]}"#;
    fs::write(sandbox.path("policy.json"), policy).expect("the sandbox can be written");
    script(&sandbox, "buildah", buildah);
    let archives = ["oci-archive:bo.tar", "docker-archive:bd.tar", "docker-archive:bd2.tar"];
    for word in archives.into_iter().chain(["oci:bo:1", "dir:bdir"]) {
        let (transport, rest) = word.split_once(':').expect("it has one");
        let reference = format!("{transport}:{}", sandbox.path(rest).display());
        sandbox.pod(["run", "--rm", "-q", &reference]).exits(42);
    }

    let podman = r#"cd "$2"; tar -C made -c . | $1 import -q -c 'CMD ["/probe","exit","43"]' - made:1
        for form in oci-archive docker-archive oci-dir docker-dir; do
            $1 save -q --format $form -o p-$form made:1
        done"#;
    script(&sandbox, "podman", podman);
    let archives = ["oci-archive:p-oci-archive", "docker-archive:p-docker-archive"];
    for word in archives.into_iter().chain(["oci:p-oci-dir", "dir:p-docker-dir"]) {
        let (transport, rest) = word.split_once(':').expect("it has one");
        let reference = format!("{transport}:{}", sandbox.path(rest).display());
        sandbox.pod(["run", "--rm", "-q", &reference]).exits(43);
    }
}

#[test]
fn what_is_written_here_others_read() {
    let sandbox = sandbox!("umoci", "buildah", "podman", "skopeo");
    let layout = sandbox.image("odd", &odd(&sandbox));
    sandbox.pod(["fetch", "-q", &layout]).success();
    sandbox.pod(["image", "tag", &layout, "localhost/odd:1"]).success();
    for (form, file) in [("oci-archive", "o.tar"), ("docker-archive", "d.tar")] {
        let file = sandbox.path(file).display().to_string();
        sandbox.pod(["image", "export", "--format", form, "localhost/odd:1", &file]).success();
    }
    let details: Value = sandbox.pod(["image", "inspect", "localhost/odd:1"]).json();
    let config = details["config"].as_str().expect("it has one").trim_start_matches("sha256:");

    // podman knows it by the same id, from either archive, and finds the same tree in it.
    let ids = r#"cd "$2"; for file in o.tar d.tar; do $1 load -q -i $file >/dev/null
        $1 image inspect --format '{{.Id}}' localhost/odd:1; $1 rmi -f localhost/odd:1 >/dev/null; done >ids"#;
    script(&sandbox, "podman", ids);
    let ids = fs::read_to_string(sandbox.path("ids")).expect("it was written");
    assert_eq!(ids.lines().collect::<Vec<_>>(), [config, config]);
    let copied = r#"cd "$2"; for from in oci-archive:o.tar docker-archive:d.tar; do
        c=$($1 from -q --signature-policy policy.json --pull-never $from 2>/dev/null || $1 from -q --signature-policy policy.json $from)
        m=$($1 mount "$c"); cat "$m/replaced/inside" "$m/opaque/above" "$m/dir/kept"; ! test -e "$m/dir/hidden"
        ! test -e "$m/opaque/below"; $1 umount "$c" >/dev/null; $1 rm "$c" >/dev/null; done >trees"#;
    let policy = r#"{"default": [{"type": "insecureAcceptAnything"}]}"#;
    fs::write(sandbox.path("policy.json"), policy).expect("the sandbox can be written");
    script(&sandbox, "buildah", copied);
    let trees = fs::read_to_string(sandbox.path("trees")).expect("it was written");
    assert_eq!(trees, "xabovekept".repeat(2));

    // skopeo and umoci read the layout in the archive.
    let unpacked = r#"cd "$2"; mkdir l; tar -C l -xf o.tar
        skopeo inspect oci:l:1 >inspected; umoci unpack --image l:1 theirs"#;
    script(&sandbox, "skopeo", unpacked);
    let inspected = fs::read(sandbox.path("inspected")).expect("it was written");
    let inspected: Value = serde_json::from_slice(&inspected).expect("it is JSON");
    assert_eq!(inspected["Digest"], details["manifest"]);
    let ours = sandbox.path("ours");
    let extract = ["image", "extract", "--rootfs-only", &layout, &ours.display().to_string()];
    sandbox.pod(extract).success();
    assert_eq!(list(&ours), list(&sandbox.path("theirs/rootfs")));
}
