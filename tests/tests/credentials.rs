//! Credentials: what an app finds, who else finds it, where it can never be found, and what is
//! refused.
//!
//! From files and from a directory as a service manager makes it; its own are in the machine's
//! tests.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use probe::Report;
use tests::fixtures::Fixture;
use tests::image::{Image, Layer};
use tests::pods;
use tests::require;
use tests::sandbox::Sandbox;

/// Makes the sandbox of a test, or returns from it.
macro_rules! sandbox {
    () => {{
        if !require::root("a pod takes user ids and directories of root") {
            return;
        }
        Sandbox::new()
    }};
}

/// No secret of this host.
const SECRET: &str = "correct horse battery staple 4711";

const LOOK: &str = "cd $CREDENTIALS_DIRECTORY && pwd && stat -c '%A %u:%g %n' . * && cat * \
                    && ! touch new 2>/dev/null && ! rm * 2>/dev/null && ! echo x 2>/dev/null >key";

fn secret(sandbox: &Sandbox) -> String {
    let path = sandbox.path("secret");
    fs::write(&path, format!("{SECRET}\n")).expect("the sandbox can be written");
    format!("key={}", path.display())
}

#[test]
fn an_app_finds_its_credentials_as_files_only_its_user_reads() {
    let sandbox = sandbox!();
    let flag = secret(&sandbox);
    let head = format!("/run/host/credentials\ndr-x------ ID .\n-r-------- ID key\n{SECRET}\n");
    for (flags, id) in [
        (&[][..], "0:0"),
        (&["-u", "1000:1001"], "1000:1001"),
        (&["--read-only"], "0:0"),
        (&["--tmpfs", "/run"], "0:0"),
        (&["--userns", "host"], "0:0"),
        (&["--privileged"], "0:0"),
        (&["--stage1", "fly"], "0:0"),
        (&["--stage1", "fly", "-u", "1000:1001"], "1000:1001"),
        (&["--init", "--pid", "app"], "0:0"),
    ] {
        let flags: Vec<&str> = flags.iter().copied().chain(["--credential", &flag]).collect();
        let said = sandbox.run_app(&flags, &["sh", "-c", LOOK]).success();
        assert_eq!(said, head.replace("ID", id), "{flags:?}");
    }
    let report = sandbox.report(&["--credential", &flag]);
    let mount = report.mount("/run/host/credentials").expect("it is a mount");
    assert_eq!(mount.kind, "ramfs", "it is never swapped out");
    for option in ["ro", "nosuid", "nodev", "noexec"] {
        assert!(mount.has(option), "{option}: {mount:?}");
    }
    assert!(report.environment.iter().all(|var| !var.contains(SECRET)));
    // Without credentials there is nothing of this.
    let report = sandbox.report(&["-e", "CREDENTIALS_DIRECTORY=/mine"]);
    assert!(report.mount("/run/host/credentials").is_none());
    assert_eq!(report.variable("CREDENTIALS_DIRECTORY"), Some("/mine"));
}

#[test]
fn what_is_executed_in_an_app_finds_its_credentials_and_another_app_does_not() {
    let sandbox = sandbox!();
    let (flag, image) = (secret(&sandbox), sandbox.fixture(Fixture::App));
    let one = [&image, "--name", "one", "--credential", &flag, "/probe", "wait"];
    let two = ["---", &image, "--name", "two", "/probe", "wait"];
    let pod = sandbox.detached("both", one.into_iter().chain(two));
    let cat = ["sh", "-c", "cat $CREDENTIALS_DIRECTORY/key"];
    assert_eq!(pod.exec(&["--app", "one"], &cat).success(), format!("{SECRET}\n"));
    assert_ne!(pod.exec(&["--app", "one", "-u", "1000"], &cat).code, 0);
    let there = ["sh", "-c", "echo \"$CREDENTIALS_DIRECTORY\"; ls /run/host/credentials"];
    let said = pod.exec(&["--app", "two"], &there);
    assert_eq!((said.stdout.as_str(), said.code != 0), ("\n", true), "{said}");
    let report: Report = pod.exec(&["--app", "two"], &["/probe", "report"]).json();
    assert!(report.mounts.iter().all(|mount| mount.kind != "ramfs"));
}

#[test]
fn credentials_are_read_anew_at_every_start_of_the_pod_and_only_then() {
    let sandbox = sandbox!();
    let (flag, image) = (secret(&sandbox), sandbox.fixture(Fixture::App));
    let args = [
        image.as_str(),
        "--credential",
        &flag,
        "--restart",
        "always",
        "sh",
        "-c",
        "cat $CREDENTIALS_DIRECTORY/key; exec /probe wait",
    ];
    let pod = sandbox.detached("anew", args);
    pod.logs_until(SECRET);
    fs::write(sandbox.path("secret"), "second\n").expect("it is ours");
    let log = pod.follow();
    kill_app(&pod);
    log.wait_for(&format!("{SECRET}\nready\n{SECRET}\nready\n"));
    let cat = ["cat", "/run/host/credentials/key"];
    assert_eq!(pod.exec(&[], &cat).success(), format!("{SECRET}\n"));
    pod.stop(&["-t", "0"]).success();
    sandbox.pod(["start", "-d", "anew"]).success();
    assert_eq!(pod.exec(&[], &cat).success(), "second\n");
    pod.stop(&["-t", "0"]).success();
    fs::remove_file(sandbox.path("secret")).expect("it is there");
    sandbox
        .pod(["start", "-d", "anew"])
        .refuses(125, &["credential `key` of app `app`", "is not there"]);
}

/// Kills the main process of the app, which its supervisor knows by the host's number.
fn kill_app(pod: &pods::Pod<'_>) {
    let pid = pod.app("app").pid.expect("it runs");
    let pid = Pid::from_raw(i32::try_from(pid).expect("process ids are positive"));
    kill(pid, Signal::SIGKILL).expect("it runs");
}

/// Tells which files beneath `directory` hold the secret.
fn holding(directory: &Path, found: &mut Vec<String>) {
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        let path = entry.path();
        match entry.file_type() {
            Ok(kind) if kind.is_dir() => holding(&path, found),
            Ok(kind) if kind.is_file() => {
                let bytes = fs::read(&path).unwrap_or_default();
                if bytes.windows(SECRET.len()).any(|window| window == SECRET.as_bytes()) {
                    found.push(path.display().to_string());
                }
            }
            _ => {}
        }
    }
}

#[test]
fn what_a_credential_holds_is_in_no_file_and_nothing_that_is_shown() {
    let sandbox = sandbox!();
    let (flag, image) = (secret(&sandbox), sandbox.fixture(Fixture::App));
    let pod = sandbox.detached("quiet", [&image, "--credential", &flag, "/probe", "wait"]);
    for words in [
        &["inspect", "quiet"][..],
        &["inspect", "--spec", "quiet"],
        &["status", "quiet"],
        &["events", "quiet"],
        &["logs", "quiet"],
        &["ps", "-o", "json"],
        &["run", "--dry-run", &image, "--credential", &flag, "true"],
    ] {
        let said = sandbox.pod(words);
        assert_eq!(said.code, 0, "{said}");
        assert!(!said.raw.contains(SECRET) && !said.stderr.contains(SECRET), "{said}");
    }
    let spec = sandbox.pod(["inspect", "--spec", "quiet"]).success();
    assert!(spec.contains("\"credentials\"") && spec.contains("[SANDBOX]/secret"), "{spec}");
    let supervisor = pod.status().supervisor;
    let mut held = Vec::new();
    for entry in fs::read_dir(format!("/proc/{supervisor}/fd")).expect("it lives").flatten() {
        let target = fs::read_link(entry.path()).unwrap_or_default().display().to_string();
        held.extend(target.contains("credential").then_some(target));
    }
    assert!(held.is_empty(), "the supervisor keeps no copy: {held:?}");
    let environment = fs::read(format!("/proc/{supervisor}/environ")).expect("it lives");
    assert!(!String::from_utf8_lossy(&environment).contains(SECRET));
    fs::remove_file(sandbox.path("secret")).expect("it is there");
    let mut found = Vec::new();
    ["root", "run", "tmp"].iter().for_each(|name| holding(&sandbox.path(name), &mut found));
    assert!(found.is_empty(), "{found:?}");
}

#[test]
fn a_name_alone_is_what_the_unit_holds() {
    let sandbox = sandbox!();
    let image = sandbox.fixture(Fixture::App);
    let own = sandbox.path("unit");
    fs::create_dir(&own).expect("the sandbox can be written");
    fs::write(own.join("token"), "from the unit\n").expect("it is ours");
    let cat = ["sh", "-c", "cat $CREDENTIALS_DIRECTORY/token"];
    let run = |flags: &[&str]| {
        let call = sandbox.call().env("CREDENTIALS_DIRECTORY", &own.display().to_string());
        call.args(["run", "--rm", &image]).args(flags).args(cat).run()
    };
    assert_eq!(run(&["--credential", "token"]).success(), "from the unit\n");
    // What the unit says comes before what the pod says.
    assert_eq!(run(&["--credential", "token=/nowhere"]).success(), "from the unit\n");
    run(&["--credential", "other"]).refuses(
        125,
        &[
            "credential `other` of app `app` is nowhere",
            "--credential other=PATH",
            "LoadCredential=",
        ],
    );
}

#[test]
fn what_cannot_be_a_credential_is_refused_before_anything_runs() {
    let sandbox = sandbox!();
    let image = sandbox.fixture(Fixture::App);
    let at = |name: &str| sandbox.path(name).display().to_string();
    sandbox.program("mkfifo").args(["fifo"]).run().success();
    fs::write(sandbox.path("large"), vec![b'x'; (1 << 20) + 1]).expect("it is ours");
    fs::write(sandbox.path("half"), vec![b'x'; 600 << 10]).expect("it is ours");
    let flag = |name: &str, path: &str| format!("{name}={path}");
    let refuse = |flags: &[&str], words: &[&str]| {
        let flags: Vec<&str> = flags.iter().flat_map(|flag| ["--credential", flag]).collect();
        let said =
            sandbox.call().args(["run", "--name", "none", &image]).args(flags).args(["true"]).run();
        said.refuses(125, words);
    };
    refuse(&[&flag("a", &at("missing"))], &["is not there"]);
    refuse(&[&flag("a", &at("fifo"))], &["is no regular file"]);
    refuse(&[&flag("a", &at("root"))], &["is no regular file"]);
    refuse(&["a=/dev/zero"], &["is no regular file"]);
    refuse(&["a=/proc/kmsg"], &["the kernel's own words"]);
    refuse(&[&flag("a", &at("large"))], &["1048577 bytes", "at most 1048576 bytes together"]);
    refuse(
        &[&flag("a", &at("half")), &flag("b", &at("half"))],
        &["credential `b`", "434176 are left"],
    );
    refuse(&["a=relative"], &["`relative` is no absolute path"]);
    refuse(&["a="], &["is no absolute path"]);
    refuse(&["a/b=/etc/passwd"], &["`a/b` is no name of a credential"]);
    refuse(&["..=/etc/passwd"], &["is no name of a credential"]);
    refuse(&["a=/etc/passwd", "a=/etc/passwd"], &["is given credential `a` twice"]);
    let over = [
        "run",
        &image,
        "--credential",
        "a=/etc/passwd",
        "--tmpfs",
        "/run/host/credentials",
        "true",
    ];
    sandbox.pod(over).refuses(125, &["something at `/run/host/credentials`"]);
    let many: Vec<String> = (0..257).map(|number| format!("c{number}=/etc/hostname")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    refuse(&many, &["the pod has 257 credentials; at most 256 are possible"]);
    assert!(!sandbox.pod(["ps", "-a"]).success().contains("none"), "no pod was left");
}

#[test]
fn as_many_credentials_as_there_can_be_arrive() {
    let sandbox = sandbox!();
    fs::write(sandbox.path("small"), vec![b'x'; 4096]).expect("it is ours");
    let path = sandbox.path("small").display().to_string();
    let flags: Vec<String> = (0..256)
        .flat_map(|number| ["--credential".to_owned(), format!("c{number}={path}")])
        .collect();
    let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
    let count =
        ["sh", "-c", "cat $CREDENTIALS_DIRECTORY/* | wc -c; ls $CREDENTIALS_DIRECTORY | wc -l"];
    assert_eq!(sandbox.run_app(&flags, &count).success(), "1048576\n256\n");
}

#[test]
fn an_app_that_comes_later_brings_its_credentials() {
    let sandbox = sandbox!();
    let (flag, image) = (secret(&sandbox), sandbox.fixture(Fixture::App));
    let pod = sandbox.detached("shop", [image.as_str(), "--name", "a", "/probe", "wait"]);
    let add = [
        "app",
        "add",
        "--start",
        "shop",
        &image,
        "--name",
        "b",
        "--credential",
        &flag,
        "/probe",
        "wait",
    ];
    sandbox.pod(add).success();
    let cat = ["cat", "/run/host/credentials/key"];
    assert_eq!(pod.exec(&["--app", "b"], &cat).success(), format!("{SECRET}\n"));
    assert_ne!(pod.exec(&["--app", "a"], &cat).code, 0);
    let add = ["app", "add", "shop", &image, "--name", "c", "--credential", "none", "true"];
    sandbox.pod(add).refuses(1, &["credential `none` of app `c` is nowhere"]);
}

/// What `probe reach` says of the credential from inside.
#[derive(Debug, serde::Deserialize)]
struct Reach {
    read: String,
    write: String,
}

#[test]
fn images_that_are_almost_empty_or_lay_traps_have_their_credentials_all_the_same() {
    let sandbox = sandbox!();
    let flag = secret(&sandbox);
    let probe = fs::read(sandbox.programs().path("probe")).expect("it is built");
    let bare = || Layer::new().file("probe", 0o755, &probe);
    let layers = [
        bare(),
        bare().symlink("run", "/etc"),
        bare().dir("run/", 0o755).symlink("run/host", "../../../../../etc"),
        bare().dir("run/", 0o755).symlink("run/host", "/dev/shm"),
        bare().dir("run/", 0o755).dir("run/host/", 0o700).dir("run/host/credentials/", 0o777),
    ];
    for (number, layer) in layers.into_iter().enumerate() {
        let image = sandbox.image("trap", &Image::new().layer(layer));
        let key = "/run/host/credentials/key";
        let args =
            ["run", "--rm", &image, "--read-only", "--credential", &flag, "/probe", "reach", key];
        let reached: BTreeMap<String, Reach> = sandbox.pod(args).json();
        assert_eq!(reached[key].read, format!("{SECRET}\n"), "{number}");
        assert_eq!(reached[key].write, "EROFS", "{number}");
    }
    let layer = bare().file("run", 0o644, b"in the way");
    let image = sandbox.image("file", &Image::new().layer(layer));
    let args = ["run", "--rm", &image, "--credential", &flag, "/probe", "exit", "0"];
    sandbox.pod(args).refuses(125, &["`/run/host/credentials`", "in the way"]);
}
