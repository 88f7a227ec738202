//! Images that come and go as files, under names and ids, and behind passwords; with the tools that
//! others use for the same.

use std::fs;
use std::io::Write;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::{Value, json};
use tar::{Builder, Header};
use tests::fixtures::{self, Fixture};
use tests::image::{Image, Layer, digest};
use tests::require;
use tests::sandbox::Sandbox;
use tests::terminal::Terminal;

/// Makes the sandbox of a test, or returns from it.
macro_rules! sandbox {
    () => {{
        if !require::root("a pod takes namespaces") {
            return;
        }
        Sandbox::new()
    }};
}

/// A layer with the probe, and a file that tells one image from another.
fn layer(sandbox: &Sandbox, mark: &str) -> Layer {
    let probe = fs::read(sandbox.programs().path("probe")).expect("the probe is built");
    Layer::new().file("probe", 0o755, &probe).file("mark", 0o644, mark.as_bytes())
}

/// Writes an image that ends with `code`.
fn ending_with(sandbox: &Sandbox, code: &str) -> Image {
    Image::new().layer(layer(sandbox, code)).set("Cmd", json!(["/probe", "exit", code]))
}

/// Copies an image with skopeo.
fn copy(sandbox: &Sandbox, from: &str, to: &str) {
    let flags = ["copy", "--quiet", "--insecure-policy", from, to];
    sandbox.program("skopeo").args(flags).run().success();
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).expect("memory takes everything");
    encoder.finish().expect("memory takes everything")
}

/// Writes what `docker save` wrote before it knew OCI: a directory for each layer, the same layer
/// in another image as a link.
fn old_docker_archive(sandbox: &Sandbox) -> Vec<u8> {
    let root = layer(sandbox, "old").tar();
    let config = |code: &str| {
        let document = json!({
            "architecture": "amd64", "os": "linux", "config": {"Cmd": ["/probe", "exit", code]},
            "rootfs": {"type": "layers", "diff_ids": [digest(&root)]},
        });
        document.to_string().into_bytes()
    };
    let (one, two) = (config("41"), config("42"));
    let item = |config: &str, tag: &str, layer: &str| json!({"Config": config, "RepoTags": [tag], "Layers": [layer]});
    let list = json!([
        item("one.json", "one:1", "aa/layer.tar"),
        item("two.json", "quay.io/team/two:latest", "bb/layer.tar"),
    ]);
    Layer::new()
        .dir("aa/", 0o755)
        .file("aa/layer.tar", 0o644, &root)
        .dir("bb/", 0o755)
        .symlink("bb/layer.tar", "../aa/layer.tar")
        .file("one.json", 0o644, &one)
        .file("two.json", 0o644, &two)
        .file("manifest.json", 0o644, list.to_string().as_bytes())
        .tar()
}

#[test]
fn archives_of_other_tools_run_where_they_lie() {
    let sandbox = sandbox!();
    let (tar, file) = (sandbox.path("a.tar"), sandbox.path("a.tar").display().to_string());
    if require::program("skopeo", "archives as others write them") {
        let layout = sandbox.image("x", &ending_with(&sandbox, "21"));
        let docker = sandbox.path("d.tar").display().to_string();
        copy(&sandbox, &layout, &format!("oci-archive:{file}:x"));
        copy(&sandbox, &layout, &format!("docker-archive:{docker}:team/app:1"));
        for reference in [
            format!("oci-archive:{file}"),
            format!("oci-archive:{file}:x"),
            format!("docker-archive:{docker}"),
            format!("docker-archive:{docker}:docker.io/team/app:1"),
        ] {
            sandbox.pod(["run", "--rm", &reference]).exits(21);
        }
        sandbox
            .pod(["run", "--rm", &format!("docker-archive:{docker}:other")])
            .refuses(125, &["no image `other`", "team/app:1"]);
        sandbox
            .pod(["run", "--rm", &format!("oci-archive:{docker}")])
            .refuses(125, &["oci-layout"]);
        fs::remove_file(&docker).expect("it was written");
    }

    fs::write(&tar, old_docker_archive(&sandbox)).expect("the sandbox can be written");
    sandbox.pod(["run", "--rm", &format!("docker-archive:{file}:one:1")]).exits(41);
    let two = format!("docker-archive:{file}:quay.io/team/two");
    sandbox.pod(["run", "--rm", &two]).exits(42);
    sandbox
        .pod(["run", "--rm", &format!("docker-archive:{file}")])
        .refuses(125, &["2 images", "one:1", "quay.io/team/two:latest"]);

    // What lies there now is what is meant; what is gone is had from the store.
    let changed = old_docker_archive(&sandbox);
    let text = String::from_utf8_lossy(&changed).replace("\"42\"", "\"43\"");
    assert_ne!(text.as_bytes(), changed, "the configuration names its status");
    let config = changed.windows(4).rposition(|bytes| bytes == b"\"42\"").expect("it is there");
    let mut changed = changed;
    changed[config + 2] = b'3';
    fs::write(&tar, changed).expect("the sandbox can be written");
    sandbox.pod(["run", "--rm", "--pull", "never", &two]).exits(42);
    sandbox.pod(["run", "--rm", &two]).exits(43);
    fs::remove_file(&tar).expect("it was written");
    sandbox.pod(["run", "--rm", &two]).exits(43);
    sandbox.pod(["run", "--rm", "--pull", "always", &two]).refuses(125, &[&tame(&sandbox, &tar)]);
}

fn tame(sandbox: &Sandbox, path: &Path) -> String {
    sandbox.tame(&path.display().to_string())
}

#[test]
fn archives_that_lie_are_refused_and_leave_nothing() {
    let sandbox = sandbox!();
    let tar = sandbox.path("a.tar");
    let reference = format!("docker-archive:{}", tar.display());
    let good = old_docker_archive(&sandbox);
    let list = |text: &str| Layer::new().file("manifest.json", 0o644, text.as_bytes()).tar();
    let mut flipped = good.clone();
    flipped[1536 + 4096] ^= 1; // within the probe, in the layer
    for (bytes, words) in [
        (gzip(&good), &["compressed", "gunzip"][..]),
        (b"no archive at all".repeat(64), &["valid header"]),
        (good[..good.len() / 2].to_vec(), &["cut short"]),
        (list("{}"), &["manifest.json"]),
        (list("[]"), &["0 images"]),
        (list(r#"[{"Config":"../../etc/passwd","Layers":[]}]"#), &["no file `../../etc/passwd`"]),
        (list(r#"[{"Config":"manifest.json","Layers":[]}]"#), &["cannot use configuration"]),
    ] {
        fs::write(&tar, bytes).expect("the sandbox can be written");
        sandbox.pod(["fetch", &reference]).refuses(1, words);
    }
    fs::write(&tar, flipped).expect("the sandbox can be written");
    sandbox.pod(["fetch", &format!("{reference}:one:1")]).refuses(1, &["what came for layer"]);
    let said = sandbox.pod(["image", "ls", "-q"]);
    assert_eq!(said.success(), "");
    sandbox.pod(["image", "fsck"]).success();
}

#[test]
fn an_image_comes_back_from_an_archive_as_itself() {
    let sandbox = sandbox!();
    let layout = sandbox.image("x", &ending_with(&sandbox, "23"));
    sandbox.pod(["fetch", "-q", &layout]).success();
    sandbox.pod(["image", "tag", &layout, "team/app:1"]).success();
    let name = "docker.io/team/app:1";
    let before: Value = sandbox.pod(["image", "inspect", name]).json();
    for format in ["oci-archive", "docker-archive"] {
        let file = sandbox.path(format).display().to_string();
        let again = format!("{file}.again");
        let export = |to: &str| sandbox.pod(["image", "export", "--format", format, name, to]);
        export(&file).success();
        export(&again).success();
        assert_eq!(fs::read(&file).ok(), fs::read(&again).ok(), "{format} is the same each time");
        export(&file).refuses(1, &["is there already", "--force"]);
        sandbox.pod(["image", "save", "-f", "--format", format, name, &file]).success();
        assert_eq!(fs::read(&file).ok(), fs::read(&again).ok());

        let other = sandbox.path("other");
        let root = other.display().to_string();
        let said = sandbox.pod(["--root", &root, "image", "import", &file]);
        assert!(said.stderr.contains("is of the form `oci-archive`"), "{said}");
        assert!(said.success().contains(name));
        let after: Value = sandbox.pod(["--root", &root, "image", "inspect", name]).json();
        assert_eq!(after["manifest"], before["manifest"], "{format}");
        assert_eq!(after["config"], before["config"], "{format}");
        sandbox.pod(["--root", &root, "run", "--rm", "--pull", "never", name]).exits(23);
        fs::remove_dir_all(other).expect("nothing runs there");
        if require::program("skopeo", "archives as others read them") {
            let read = format!("{format}:{file}");
            let flags = ["inspect", "--config", &read];
            let config: Value = sandbox.program("skopeo").args(flags).run().json();
            assert_eq!(config["config"]["Cmd"], json!(["/probe", "exit", "23"]), "{format}");
        }
        fs::remove_file(again).expect("it was written");
    }
    let refused = sandbox.path("nowhere/file").display().to_string();
    sandbox.pod(["image", "export", name, &refused]).refuses(1, &["nowhere"]);
    sandbox.pod(["image", "export", "nosuch:1", "-"]).refuses(1, &["nosuch"]);
    let link = sandbox.path("link");
    symlink("/dev/null", &link).unwrap();
    let link = link.to_str().unwrap();
    let replaced = sandbox.pod(["image", "export", "--force", name, link]);
    replaced.refuses(1, &["no regular file", "`-`"]);
    assert!(fs::symlink_metadata(link).unwrap().is_symlink());
}

#[test]
fn a_root_becomes_an_image() {
    let sandbox = sandbox!();
    let tar = sandbox.path("My.root.tar");
    let root = layer(&sandbox, "root").file("deep/below/file", 0o600, b"x").tar();
    fs::write(&tar, &root).expect("the sandbox can be written");
    let file = tar.display().to_string();
    let import = |more: &[&str]| {
        let words = ["image", "import", "--json", "-c", r#"CMD ["/probe", "exit", "24"]"#];
        let said: Value = sandbox.pod(words.iter().chain(more)).json();
        assert_eq!(said["from"], "root");
        said["images"][0].clone()
    };
    let first = import(&["-c", "ENV A=b", &file]);
    assert_eq!(first["reference"], "localhost/my:latest");
    sandbox.pod(["run", "--rm", "localhost/my"]).exits(24);
    let second = import(&["-c", "ENV A=b", &file, "team/root:2"]);
    assert_eq!(first["manifest"], second["manifest"], "the same root gives the same image");
    let other = import(&["-c", "ENV A=c", &file, "team/root:3"]);
    assert_ne!(first["manifest"], other["manifest"]);
    assert_eq!(first["layers"], other["layers"]);
    let inspected: Value = sandbox.pod(["image", "inspect", "team/root:2"]).json();
    assert_eq!(inspected["settings"]["env"], json!(["A=b"]));

    // Compressed, and through a pipe.
    let packed = sandbox.path("packed.tar.gz");
    fs::write(&packed, gzip(&root)).expect("the sandbox can be written");
    let packed = packed.display().to_string();
    let piped =
        format!("cat {packed} | {} image import - piped", sandbox.programs().path("pod").display());
    sandbox.program("sh").args(["-c", &piped]).run().success();
    let piped: Value = sandbox.pod(["image", "inspect", "piped"]).json();
    assert_eq!(piped["layers"], first["layers"], "the layer is the same, its blob is not");

    sandbox.pod(["image", "import", "-c", "RUN make", &file]).refuses(2, &["`RUN make`", "`CMD`"]);
    sandbox.pod(["image", "import", &file, "oci:/x"]).refuses(2, &["oci:/x"]);
    fs::write(&tar, &root[..root.len() / 2]).expect("the sandbox can be written");
    sandbox.pod(["image", "import", &file, "half"]).refuses(1, &["My.root.tar"]);
    fs::write(&tar, gzip(&sandbox_archive(&sandbox))).expect("the sandbox can be written");
    sandbox.pod(["image", "import", &file]).refuses(1, &["archive of images", "gunzip"]);
    // A damaged archive of images is no root either, and what is wrong with it is told.
    let mut damaged = Builder::new(Vec::new());
    for name in ["oci-layout", "index.json", "index.json"] {
        let mut header = Header::new_gnu();
        header.set_size(2);
        header.set_mode(0o644);
        damaged.append_data(&mut header, name, &b"{}"[..]).expect("memory takes everything");
    }
    fs::write(&tar, damaged.into_inner().expect("it is whole")).expect("it can be written");
    sandbox.pod(["image", "import", &file]).refuses(1, &["`index.json` is in it twice"]);
    fs::write(&tar, "").expect("the sandbox can be written");
    sandbox.pod(["image", "import", &file]).refuses(1, &["it is empty"]);
    sandbox.pod(["image", "inspect", "half"]).refuses(1, &["half"]);
    sandbox.pod(["image", "fsck"]).success();
}

/// An OCI archive of the smallest kind.
fn sandbox_archive(sandbox: &Sandbox) -> Vec<u8> {
    let layout = sandbox.image("x", &ending_with(sandbox, "1"));
    let out = sandbox.path("small.tar").display().to_string();
    sandbox.pod(["fetch", "-q", &layout]).success();
    sandbox.pod(["image", "export", &layout, &out]).success();
    fs::read(out).expect("it was written")
}

#[test]
fn an_image_is_written_out_as_plain_files() {
    let sandbox = sandbox!();
    let upper = Layer::new().file(".wh.mark", 0o644, b"").file("new", 0o640, b"upper");
    let image = ending_with(&sandbox, "26").layer(upper);
    let layout = sandbox.image("x", &image);
    sandbox.pod(["fetch", "-q", &layout]).success();
    let out = sandbox.path("out");
    let place = out.display().to_string();
    sandbox.pod(["image", "extract", &layout, &place]).success();
    let config = fs::read(out.join("config.json")).expect("it is written");
    let config: Value = serde_json::from_slice(&config).expect("it is JSON");
    assert_eq!(config["config"]["Cmd"], json!(["/probe", "exit", "26"]));
    assert!(out.join("rootfs/probe").is_file() && !out.join("rootfs/mark").exists());
    sandbox.pod(["image", "extract", &layout, &place]).refuses(1, &["is there already"]);
    fs::remove_dir_all(&out).expect("it was written");
    sandbox.pod(["image", "render", "--rootfs-only", &layout, &place]).success();
    let names = fs::read_dir(&out).expect("it is a directory").count();
    assert_eq!(names, 2, "a program and a file, and no whiteout");
    fs::remove_dir_all(&out).expect("it was written");
    sandbox.pod(["image", "extract", "nosuch:1", &place]).refuses(1, &["nosuch"]);
    assert!(!out.exists());
    let format = "{{.ID}} {{.Repository}} {{json .Tag}} {{.Size}}";
    let line = sandbox.pod(["image", "ls", "--format", format]).success();
    assert!(line.contains("\"x\"") && line.contains(" oci:[SANDBOX]/layout "), "{line}");
    sandbox.pod(["image", "ls", "--format", "{{.Nope}}"]).refuses(2, &["Nope"]);
}

#[test]
fn an_id_means_its_image_wherever_one_is_named() {
    let sandbox = sandbox!();
    let layout = sandbox.image("x", &ending_with(&sandbox, "25"));
    sandbox.pod(["fetch", "-q", &layout]).success();
    let inspected: Value = sandbox.pod(["image", "inspect", &layout]).json();
    let manifest = inspected["manifest"].as_str().expect("a digest").to_owned();
    let config = inspected["config"].as_str().expect("a digest").to_owned();
    let hex = manifest.trim_start_matches("sha256:");
    for id in [&manifest, &manifest[..13], &hex[..12], hex, &config, &config[..15]] {
        sandbox.pod(["run", "--rm", id]).exits(25);
        let same: Value = sandbox.pod(["image", "inspect", id]).json();
        assert_eq!(same["manifest"], manifest.as_str(), "{id}");
    }
    sandbox.pod(["run", "--rm", "sha256:abc"]).refuses(125, &["4 to 64"]);
    let none = format!("sha256:{}", if hex.starts_with("0000") { "1111" } else { "0000" });
    sandbox.pod(["run", "--rm", &none]).refuses(125, &["not in the store"]);
    sandbox.pod(["image", "rm", &none]).refuses(1, &["not in the store"]);

    sandbox.pod(["image", "tag", &manifest[..20], "team/further:1"]).success();
    let listed = sandbox.pod(["image", "ls", "-q"]).success();
    assert_eq!(listed.lines().count(), 1, "one image has two names: {listed}");
    let listed = sandbox.pod(["image", "ls", "--digests"]);
    assert!(listed.raw.contains(&config) && listed.raw.contains("team/further"), "{listed}");

    // A prepared pod keeps its image, whatever is removed.
    let pod = sandbox.pod(["prepare", "--name", "kept", &manifest]).raw;
    assert!(!pod.is_empty());
    sandbox.pod(["image", "rm", "team/further:1", &layout, &layout, &hex[..12]]).success();
    sandbox.pod(["image", "rm", &layout]).refuses(1, &["not in the store"]);
    sandbox.pod(["image", "gc"]).success();
    sandbox.pod(["start", "kept"]).exits(25);
    sandbox.pod(["rm", "kept"]).success();
}

#[test]
fn an_image_for_another_machine_is_refused_by_name() {
    let sandbox = sandbox!();
    let layout = sandbox.image("x", &ending_with(&sandbox, "0").architecture("s390x"));
    for line in [&["run", "--rm", layout.as_str()][..], &["fetch", &layout]] {
        let code = if line[0] == "run" { 125 } else { 1 };
        sandbox.pod(line).refuses(code, &["linux/s390x", "linux/amd64", "--platform"]);
    }
    sandbox.pod(["fetch", "--platform", "nonsense", &layout]).refuses(2, &["nonsense"]);
    sandbox.pod(["fetch", "--platform", "linux/s390x", &layout]).success();
    sandbox.pod(["run", "--rm", &layout]).refuses(125, &["linux/s390x"]);
}

/// `me` with the password `let-me-in`.
const USERS: &str = "me:$2y$05$abcdefghijklmnopqrstuu3Jd./u/rH1RxB6auX5v7gLP6uWhKCgG\n";

#[test]
fn credentials_are_tried_before_they_are_kept() {
    let sandbox = sandbox!();
    if !require::program("docker-registry", "a real registry") {
        return;
    }
    let registry = sandbox.guarded_registry(USERS);
    let layout = fixtures::layout(sandbox.programs(), Fixture::Scratch).expect("it is there");
    let pushed = registry.push_as(&["--dest-creds=me:let-me-in"], &layout, "scratch", "team/app:1");
    let (reference, host) = (pushed.expect("skopeo pushes"), registry.address());
    let file = sandbox.path("auth/auth.json");
    let auth = file.display().to_string();
    let pod = |args: &[&str]| sandbox.call().args(args).env("REGISTRY_AUTH_FILE", &auth);
    pod(&["fetch", &reference]).run().refuses(1, &["no credentials", "pod login"]);

    let login = ["login", "-u", "me", "--password-stdin", &host];
    pod(&login).input(b"wrong\n").run().refuses(1, &["nothing has been kept"]);
    assert!(!file.exists(), "what is refused is not kept");
    pod(&["login", "-u", "me", &host]).run().refuses(1, &["--password-stdin"]);
    pod(&["login", "-u", "me", "-p", "x", "https://x"]).run().refuses(2, &["names no registry"]);
    let said = pod(&login).input(b"let-me-in\n").run();
    assert!(!said.raw.contains("let-me-in") && !said.stderr.contains("let-me-in"), "{said}");
    said.success();
    let mode = fs::metadata(&file).expect("it was written").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    pod(&["fetch", &reference]).run().success();

    // The user's own file comes before Docker's; another tool reads what was written.
    let home = sandbox.path("home");
    fs::create_dir_all(home.join(".docker")).expect("the sandbox can be written");
    let wrong = json!({"auths": {host.as_str(): {"auth": "bWU6d3Jvbmc="}}}).to_string();
    fs::write(home.join(".docker/config.json"), wrong).expect("the sandbox can be written");
    let run = sandbox.path("xdg");
    let ours = |args: &[&str]| {
        let (home, run) = (home.display().to_string(), run.display().to_string());
        sandbox.call().args(args).env("HOME", &home).env("XDG_RUNTIME_DIR", &run)
    };
    ours(&["fetch", &reference]).run().refuses(1, &["is denied"]);
    ours(&["login", "-u", "me", "-p", "let-me-in", &format!("{host}/team")]).run().success();
    ours(&["fetch", &reference]).run().success();
    let said = ours(&["logout", "--all"]).run();
    assert!(said.success().contains("/team"));
    ours(&["logout", &host]).run().refuses(1, &["config.json", "--authfile"]);

    // A program may know as well.
    let helper = sandbox.path("docker-credential-mine");
    let script = r#"#!/bin/sh
[ "$1 $(cat)" = "get 127.0.0.1:5000" ] && echo '{"Username":"me","Secret":"let-me-in"}'
"#;
    fs::write(&helper, script).expect("the sandbox can be written");
    fs::set_permissions(&helper, fs::Permissions::from_mode(0o755)).expect("it is ours");
    let asks = sandbox.path("helped.json");
    let entry = json!({"credHelpers": {host.as_str(): "mine"}}).to_string();
    fs::write(&asks, entry).expect("the sandbox can be written");
    let helped = |path: &str| {
        let asks = asks.display().to_string();
        let call = sandbox.call().args(["fetch", "--pull", "always", &reference]);
        call.env("REGISTRY_AUTH_FILE", &asks).env("PATH", path).run()
    };
    helped(&format!("{}:/usr/bin:/bin", sandbox.path("").display())).success();
    helped("/usr/bin:/bin").refuses(1, &["docker-credential-mine"]);

    pod(&["logout", &host]).run().success();
    pod(&["logout", &host]).run().refuses(1, &["no credentials"]);
    pod(&["fetch", &reference]).run().refuses(1, &["no credentials"]);
}

#[test]
fn a_password_is_asked_for_and_not_shown() {
    let sandbox = sandbox!();
    if !require::program("docker-registry", "a real registry") {
        return;
    }
    let registry = sandbox.guarded_registry(USERS);
    let file = sandbox.path("auth.json");
    let (host, auth) = (registry.address(), file.display().to_string());
    let terminal = Terminal::new(24, 80);
    let login = |more: &[&str]| {
        let call = sandbox.call_in_session().args(["login"]).args(more).args([&host]);
        call.env("REGISTRY_AUTH_FILE", &auth).start_on(&terminal)
    };
    let cancelled = login(&["-u", "me"]);
    terminal.wait_for("Password of me for 127.0.0.1:5000: ");
    assert!(!terminal.setup().echoes(), "what is typed is not shown");
    terminal.types(b"let\x03");
    assert_eq!(cancelled.wait().code, 1);
    assert!(terminal.setup().echoes(), "the terminal is as it was");
    assert!(!file.exists());

    let asked = login(&[]);
    terminal.wait_for("User for 127.0.0.1:5000: ");
    terminal.types(b"me\n");
    terminal.wait_for("Password of me for 127.0.0.1:5000: ");
    terminal.types(b"let-me-in\n");
    assert_eq!(asked.wait().code, 0);
    terminal.wait_for("logged in to 127.0.0.1:5000");
    assert!(terminal.setup().echoes(), "the terminal is as it was");
    assert!(file.exists());

    // Somebody who looks sees bars; they are gone at the end.
    let layout = sandbox.image("x", &ending_with(&sandbox, "0"));
    let fetch = sandbox.call_in_session().args(["fetch", &layout]).env("TERM", "xterm");
    let fetch = fetch.start_on(&terminal);
    terminal.wait_for("fetching oci:");
    terminal.wait_for("fetched, ");
    assert_eq!(fetch.wait().code, 0);
    // A terminal that cannot move its cursor, or does not say, gets lines.
    sandbox.pod(["image", "rm", &layout]).success();
    let fetch = sandbox.call_in_session().args(["fetch", &layout]).start_on(&terminal);
    terminal.wait_for("fetching oci:");
    terminal.wait_for(": in store");
    assert_eq!(fetch.wait().code, 0);
}

#[test]
fn the_source_is_asked_as_often_as_the_policy_says() {
    let sandbox = sandbox!();
    if !require::program("docker-registry", "a real registry") {
        return;
    }
    let registry = sandbox.registry();
    let push = |code: &str| {
        let layout = sandbox.path(&format!("layout-{code}"));
        ending_with(&sandbox, code).write(&layout, "x").expect("the sandbox can be written");
        registry.push(&layout, "x", "team/app:1").expect("skopeo pushes")
    };
    let reference = push("31");
    let run = |policy: &str| sandbox.pod(["run", "--rm", "--pull", policy, &reference]);
    run("never").refuses(125, &["not in the store"]);
    run("newer").exits(31);
    push("32");
    run("missing").exits(31);
    run("never").exits(31);
    run("newer").exits(32);
    let said = run("newer");
    assert!(!said.stderr.contains("fetching"), "the same is not fetched again: {said}");
    push("33");
    run("always").exits(33);

    let said = sandbox.pod(["fetch", "-q", &reference]);
    assert_eq!(said.stderr, "");
    sandbox.pod(["image", "rm", &reference]).success();
    sandbox.pod(["image", "gc"]).success();
    let said = sandbox.pod(["fetch", "--json", &reference]);
    let events: Vec<Value> = said
        .stderr
        .lines()
        .map(|line| serde_json::from_str(line).expect("a line of JSON"))
        .collect();
    let words: Vec<&str> = events.iter().filter_map(|event| event["event"].as_str()).collect();
    assert_eq!(words.first(), Some(&"resolving"), "{said}");
    assert_eq!(words.last(), Some(&"done"), "{said}");
    assert!(words.contains(&"layer-started") && words.contains(&"layer-done"), "{said}");

    drop(registry);
    run("newer").exits(33);
    run("always").refuses(125, &["cannot be reached"]);
}

#[test]
fn an_image_is_fetched_from_where_registries_conf_says_it_is() {
    let sandbox = sandbox!();
    if !require::program("docker-registry", "a real registry") {
        return;
    }
    let registry = sandbox.registry();
    let layout = sandbox.path("made");
    ending_with(&sandbox, "44").write(&layout, "x").expect("the sandbox can be written");
    registry.push(&layout, "x", "mirrors/team/app:1").expect("skopeo pushes");
    let here = registry.address();
    let conf = sandbox.path("registries.conf");
    let text = format!(
        r#"
        [[registry]]
        prefix = "registry.example.org/team"
        location = "registry.example.org/team"
        [[registry.mirror]]
        location = "127.0.0.1:1/nobody/team"
        [[registry.mirror]]
        location = "{here}/mirrors/team"

        [[registry]]
        prefix = "moved.example.org"
        location = "{here}/mirrors"

        [[registry]]
        location = "bad.example.org/x"
        blocked = true
        "#
    );
    fs::write(&conf, text).expect("the sandbox can be written");
    let run = |words: &[&str]| {
        let call = sandbox.call().args(["run", "--rm", "-q"]).args(words);
        call.env("CONTAINERS_REGISTRIES_CONF", &conf.display().to_string()).run()
    };
    // A mirror that nobody listens at is passed over; the name stays what it was.
    run(&["registry.example.org/team/app:1"]).exits(44);
    run(&["moved.example.org/team/app:1"]).exits(44);
    let listed = sandbox.pod(["image", "ls"]).success();
    for name in ["registry.example.org/team/app:1", "moved.example.org/team/app:1"] {
        assert!(listed.contains(name), "{listed}");
    }
    assert!(!listed.contains("mirrors"), "{listed}");
    let said = run(&["bad.example.org/x/y"]);
    said.refuses(125, &["`bad.example.org/x/y` is blocked", "registries.conf"]);
    // What lies beside says more; a typing error unblocks nothing.
    let more = sandbox.path("registries.conf.d");
    fs::create_dir(&more).expect("the sandbox can be written");
    let text = "[[registry]]\nlocation = \"moved.example.org\"\nblocked = true\n";
    fs::write(more.join("more.conf"), text).expect("the sandbox can be written");
    run(&["--pull", "always", "moved.example.org/team/app:1"]).refuses(125, &["is blocked"]);
    fs::write(more.join("more.conf"), "[[registry]]\nlocation = \"x.example\"\nbocked = true\n")
        .expect("the sandbox can be written");
    run(&["--pull", "always", "registry.example.org/team/app:1"]).refuses(125, &["bocked"]);
    run(&["registry.example.org/team/app:1"]).exits(44);
}

#[test]
fn a_short_name_means_what_registries_conf_says() {
    let sandbox = sandbox!();
    if !require::program("docker-registry", "a real registry") {
        return;
    }
    let registry = sandbox.registry();
    let layout = sandbox.path("made");
    ending_with(&sandbox, "46").write(&layout, "x").expect("the sandbox can be written");
    for name in ["team/app:1", "team/box:1"] {
        registry.push(&layout, "x", name).expect("skopeo pushes");
    }
    let here = registry.address();
    let conf = |text: &str| {
        fs::write(sandbox.path("registries.conf"), text).expect("the sandbox can be written");
    };
    let run = |words: &[&str]| sandbox.pod([&["run", "--rm", "-q"], words].concat());
    let listed = || sandbox.pod(["image", "ls", "--format", "{{.Reference}}"]).raw;

    // One registry, or an alias: that one, and the whole name is what is kept.
    conf(&format!("unqualified-search-registries = [\"{here}\"]\n"));
    run(&["team/app:1"]).exits(46);
    assert_eq!(listed(), format!("{here}/team/app:1\n"));
    sandbox.pod(["image", "inspect", "team/app:1"]).success();
    sandbox.pod(["image", "rm", "team/app:1"]).success();
    conf(&format!("[aliases]\nmine = \"{here}/team/box\"\n"));
    run(&["mine:1"]).exits(46);
    assert_eq!(listed(), format!("{here}/team/box:1\n"));
    sandbox.pod(["image", "rm", "mine:1"]).success();

    // Several: in order, or refused. What the store has is found without asking anybody.
    let two = format!("unqualified-search-registries = [\"127.0.0.1:1\", \"{here}\"]\n");
    conf(&format!("{two}short-name-mode = \"enforcing\"\n"));
    let said = run(&["team/app:1"]);
    let whole = format!("{here}/team/app:1");
    said.refuses(125, &["`127.0.0.1:1/team/app:1` or `", &whole, "[aliases]", "whole name"]);
    run(&["--pull", "never", "team/app:1"]).refuses(125, &["`team/app:1` is not in the store"]);
    for mode in ["disabled", "permissive"] {
        conf(&format!("{two}short-name-mode = \"{mode}\"\n"));
        run(&["team/app:1"]).exits(46);
        run(&["team/none:1"]).refuses(125, &["`team/none:1` leads to no image", "127.0.0.1:1"]);
        assert_eq!(listed(), format!("{whole}\n"));
        sandbox.pod(["image", "rm", &whole]).success();
    }
    conf(&two);
    run(&["team/app:1"]).exits(46);
    drop(registry);
    conf(&format!("{two}short-name-mode = \"enforcing\"\n"));
    run(&["team/app:1"]).exits(46);
    run(&["--pull", "never", "team/app:1"]).exits(46);
    sandbox.pod(["image", "push", &whole, "team/other:1"]).refuses(2, &["several registries"]);

    // A name that is given is the first of them, and a file that cannot be read gives none.
    sandbox.pod(["image", "tag", "team/app:1", "own:1"]).success();
    assert!(listed().contains("127.0.0.1:1/own:1\n"), "{}", listed());
    run(&["own:1"]).exits(46);
    conf("unqualified-search-registries = []\n");
    run(&["team/app:1"]).refuses(125, &["has no registry for such"]);
    conf("unqualified-search = []\n");
    run(&["team/app:1"]).refuses(125, &["`team/app:1` stands for", "unqualified-search"]);
    run(&[&whole]).exits(46);
}

/// Writes an image of appc: its manifest with `more` in it, and files beneath `rootfs`.
fn aci(name: &str, version: &str, more: &Value, rootfs: Layer) -> Vec<u8> {
    let mut manifest = json!({
        "acKind": "ImageManifest", "acVersion": "0.8.11", "name": name,
        "labels": [{"name": "version", "value": version}, {"name": "os", "value": "linux"},
                   {"name": "arch", "value": "amd64"}],
    });
    let more = more.as_object().expect("a table").clone();
    manifest.as_object_mut().expect("a table").extend(more);
    rootfs.file("manifest", 0o644, manifest.to_string().as_bytes()).tar()
}

#[test]
fn an_image_of_rkt_becomes_one_of_oci() {
    let sandbox = sandbox!();
    let probe = fs::read(sandbox.programs().path("probe")).expect("the probe is built");
    let rootfs = || Layer::new().dir("rootfs/", 0o755).dir("rootfs/etc/", 0o755);
    let write = |name: &str, bytes: &[u8]| {
        fs::write(sandbox.path(name), bytes).expect("the sandbox can be written");
        sandbox.path(name).display().to_string()
    };
    let base = rootfs().file("rootfs/probe", 0o755, &probe);
    let base = write("base.aci", &gzip(&aci("example.com/base", "1", &json!({}), base)));
    let on = |more: &Value| {
        let mut one = json!({"imageName": "example.com/base",
            "labels": [{"name": "version", "value": "1"}]});
        one.as_object_mut().expect("a table").extend(more.as_object().expect("a table").clone());
        json!({"dependencies": [one], "app": {
            "exec": ["/probe", "exit", "45"], "user": "0", "group": "0",
            "environment": [{"name": "KEY", "value": "a=b"}],
            "ports": [{"name": "www", "protocol": "tcp", "port": 80}],
            "mountPoints": [{"name": "data", "path": "/data"}],
        }})
    };
    let own = || rootfs().file("rootfs/etc/own", 0o644, b"own\n");
    let app = write("app.aci", &aci("example.com/app", "2", &on(&json!({})), own()));
    let import = |file: &str| sandbox.pod(["image", "import", "-q", file]);
    let way = "import that first, as with `pod image import --discover example.com/base:1`";
    import(&app).refuses(1, &["depends on `example.com/base:1`", way]);
    import(&base).success();
    assert!(import(&app).success().ends_with(" example.com/app:2\n"));
    sandbox.pod(["run", "--rm", "example.com/app:2"]).exits(45);
    let details: Value = sandbox.pod(["image", "inspect", "example.com/app:2"]).json();
    assert_eq!(details["settings"]["env"], json!(["KEY=a=b"]));
    assert_eq!(details["settings"]["exposedPorts"], json!(["80/tcp"]));
    assert_eq!(details["settings"]["volumes"], json!(["/data"]));
    assert_eq!(details["layers"].as_array().map(Vec::len), Some(2));
    let labels = &details["settings"]["labels"];
    assert_eq!(labels["appc.name"], "example.com/app", "{labels}");
    let id = labels["appc.id"].as_str().expect("it has one");
    assert!(id.starts_with("sha512-"), "{id}");

    // By another id it depends on another image; a list of paths leaves the rest out.
    let other = json!({ "imageID": format!("sha512-{}", "0".repeat(128)) });
    let other = write("other.aci", &aci("example.com/other", "1", &on(&other), own()));
    import(&other).refuses(1, &["depends on another `example.com/base`"]);
    let few = rootfs().file("rootfs/etc/kept", 0o644, b"x").file("rootfs/etc/left", 0o644, b"x");
    let few = aci("example.com/few", "1", &json!({"pathWhitelist": ["/etc/kept"]}), few);
    import(&write("few.aci", &few)).success();
    let place = sandbox.path("few").display().to_string();
    sandbox.pod(["image", "extract", "--rootfs-only", "example.com/few:1", &place]).success();
    assert!(sandbox.path("few/etc/kept").exists() && !sandbox.path("few/etc/left").exists());

    // What only calls itself so is refused, and not taken for a root.
    let none = rootfs().file("elsewhere", 0o644, b"x").tar();
    import(&write("none.aci", &none)).refuses(1, &["no image of appc", "`elsewhere`"]);
    let arm = json!({"labels": [{"name": "os", "value": "freebsd"}]});
    let arm = write("bsd.aci", &aci("example.com/bsd", "1", &arm, own()));
    import(&arm).refuses(1, &["`freebsd`"]);
    sandbox.pod(["image", "fsck", "-q"]).success();
}

/// Makes a key with gpg and signs an image with it, apart from it.
const SIGNED: &str = r#"cd "$1"; export GNUPGHOME="$1/gnupg"; mkdir -m 700 gnupg
    gpg --batch -q --passphrase '' --quick-gen-key 'me <me@example.org>' ed25519 sign never
    gpg --batch -q --export me >me.gpg
    gpg --batch -q --armor --detach-sign -o site/app-2.aci.asc site/app-2.aci
    gpgconf --kill all; rm -rf gnupg"#;

#[test]
fn an_image_of_rkt_is_found_by_its_name() {
    let sandbox = sandbox!();
    if !require::program("gpg", "a real signature of OpenPGP")
        || !require::program("busybox", "a site with a page")
    {
        return;
    }
    let write = |name: &str, bytes: &[u8]| {
        fs::write(sandbox.path("site").join(name), bytes).expect("the sandbox can be written");
    };
    let root =
        |mark: &str| Layer::new().dir("rootfs/", 0o755).file("rootfs/mark", 0o644, mark.as_bytes());
    fs::create_dir_all(sandbox.path("site/team")).expect("the sandbox can be written");
    let tags = "<!doctype html><head><meta name='ac-discovery-pubkeys' content='localhost \
                https://localhost/keys'><meta content=\"localhost \
                http://127.0.0.1:8080/app-{version}.{ext}\" name=\"ac-discovery\">";
    write("index.html", tags.as_bytes());
    write("team/index.html", b"<html><head></head>nothing to see");
    write("app-2.aci", &aci("localhost/team/app", "2", &json!({}), root("of rkt")));
    write("app-3.aci", &aci("localhost/team/app", "2", &json!({}), root("of rkt")));
    let at = sandbox.path("").display().to_string();
    let at = at.trim_end_matches('/');
    sandbox.program("sh").args(["-euc", SIGNED, "sh", at]).run().success();
    let site = format!("{at}/site");
    let served = ["httpd", "-f", "-p", "127.0.0.1:8080", "-h", &site];
    let server = sandbox.program("busybox").args(served).start();
    let answers = "until busybox wget -q -O /dev/null http://127.0.0.1:8080/; do sleep 0.05; done";
    sandbox.program("sh").args(["-euc", answers]).run().success();

    let flags = ["image", "import", "-q", "--discover", "--insecure-options", "http"];
    let import = |more: &[&str]| sandbox.pod([&flags[..], more].concat());
    import(&["localhost:8080/team/other:1"]).refuses(1, &["/app-1.aci` does not exist"]);
    import(&["localhost:8080/team/app:3"]).refuses(1, &["has the label `version` `2` and not `3`"]);
    import(&["localhost:8080/team/app,arch=s390x,version=2"]).refuses(1, &["not `s390x`"]);
    let keyring = format!("{at}/me.gpg");
    let keys = ["--keyring", keyring.as_str()];
    import(&[&keys[..], &["localhost:8080/team/app:3"]].concat())
        .refuses(1, &["app-3.aci.asc` does not exist"]);
    let policy = sandbox.path("policy.json").display().to_string();
    let asks = json!({"default": [{"type": "signedBy", "keyType": "GPGKeys", "keyPath": keyring}]});
    fs::write(&policy, asks.to_string()).expect("the sandbox can be written");
    let under = ["--signature-policy", policy.as_str(), "localhost:8080/team/app:2"];
    import(&under).refuses(1, &["no keyring is given", "`https://localhost/keys`"]);
    assert_eq!(sandbox.pod(["image", "ls", "-q"]).success(), "");

    let came = import(&[&keys[..], &under].concat()).success();
    assert!(came.ends_with(" localhost/team/app:2\n"), "{came}");
    let listed: Value = sandbox.pod(["image", "inspect", "localhost/team/app:2"]).json();
    assert_eq!(listed["verified"], "signature", "{listed}");
    fs::copy(sandbox.path("site/app-2.aci.asc"), sandbox.path("site/app-3.aci.asc"))
        .expect("the sandbox can be written");
    write("app-3.aci", &aci("localhost/team/app", "3", &json!({}), root("mine")));
    import(&[&keys[..], &["localhost:8080/team/app:3"]].concat())
        .refuses(1, &["app-3.aci`", "the OpenPGP signature does not count"]);
    let came = import(&["localhost:8080/team/app:3", "mine:1"]).success();
    assert!(came.ends_with(" docker.io/library/mine:1\n"), "{came}");
    sandbox
        .pod(["image", "import", "-q", "--discover", "localhost:8080/team/app:2"])
        .refuses(1, &["`https://localhost:8080/team/app?ac-discovery=1` cannot be reached"]);
    drop(server);
}
