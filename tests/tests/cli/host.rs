//! Volumes, and commands about the host and the program itself: what they print.

use tests::fixtures::Fixture;

use crate::{numberless, sandbox};

#[test]
fn a_volume_is_made_shown_and_removed() {
    let sandbox = sandbox!();
    let image = sandbox.fixture(Fixture::App);
    let image = image.as_str();
    insta::assert_snapshot!(sandbox.pod(["volume", "create", "data"]), @"
    --- stdout ---
    data
    --- exit 0 ---
    ");
    insta::assert_snapshot!(sandbox.pod(["volume", "create", "data"]), @"
    --- stderr ---
    error: there is a volume `data` already
    hint: `--ignore` makes only those that are not there
    --- exit 1 ---
    ");
    sandbox.pod(["prepare", "--name", "db", "-v", "data:/data", image]).success();
    insta::assert_snapshot!(numberless(sandbox.pod(["volume", "ls"])), @"
    --- stdout ---
    NAME  PODS  PATH
    data  db  [SANDBOX]/root/volumes/data
    --- exit 0 ---
    ");
    insta::assert_snapshot!(sandbox.pod(["volume", "inspect", "data"]), @r#"
    --- stdout ---
    {
      "name": "data",
      "path": "[SANDBOX]/root/volumes/data",
      "users": [
        {
          "uuid": "[UUID]",
          "name": "db",
          "phase": "prepared"
        }
      ]
    }
    --- exit 0 ---
    "#);
    insta::assert_snapshot!(sandbox.pod(["volume", "inspect", "nosuch"]), @"
    --- stderr ---
    error: there is no volume `nosuch`
    hint: `pod volume ls` lists all volumes
    --- exit 1 ---
    ");
    insta::assert_snapshot!(sandbox.pod(["volume", "rm", "data"]), @"
    --- stderr ---
    error: volume `data` is mounted by pod `db`, which is prepared
    hint: `pod rm [UUID]` removes the pod
    --- exit 1 ---
    ");
    sandbox.pod(["rm", "db"]).success();
    insta::assert_snapshot!(sandbox.pod(["volume", "rm", "data"]), @"
    --- stdout ---
    data
    --- exit 0 ---
    ");
    insta::assert_snapshot!(sandbox.pod(["volume", "prune"]), @"--- exit 0 ---");
}

#[test]
fn the_host_and_the_program_are_described() {
    let sandbox = sandbox!();
    insta::assert_snapshot!(sandbox.pod(["version"]), @"
    --- stdout ---
    pod 0.1.0, stage ABI 5
    --- exit 0 ---
    ");
    insta::assert_snapshot!(sandbox.pod(["version", "-o", "json"]), @r#"
    --- stdout ---
    {
      "stageAbi": 5,
      "version": "0.1.0"
    }
    --- exit 0 ---
    "#);
    insta::assert_snapshot!(sandbox.pod(["completion", "tcsh"]), @"
    --- stderr ---
    error: invalid value `tcsh` for `<SHELL>` [possible values: bash, zsh, fish]
    hint: a similar value exists: `zsh`
    hint: `pod completion --help` tells what it takes
    --- exit 2 ---
    ");
    insta::assert_snapshot!(sandbox.pod(["rn"]), @"
    --- stderr ---
    error: there is no command `pod rn`
    hint: did you mean `pod rm` or `pod run`?
    hint: `pod --help` lists all
    --- exit 2 ---
    ");
    insta::assert_snapshot!(sandbox.pod(["load", "-i", "image.tar"]), @"
    --- stderr ---
    error: there is no command `pod load`
    hint: `pod image import FILE` takes an archive into the store
    hint: `pod --help` lists all
    --- exit 2 ---
    ");
    insta::assert_snapshot!(sandbox.pod(["image", "prune", "-f"]), @"
    --- stderr ---
    error: there is no command `pod image prune`
    hint: `pod image gc` removes what no image and no pod needs
    hint: `pod image --help` lists all
    --- exit 2 ---
    ");
    insta::assert_snapshot!(sandbox.pod(["image", "save", "-o", "image.tar", "box"]), @"
    --- stderr ---
    error: invalid value `image.tar` for `--output <FORM>` [possible values: table, json]
    hint: the file stands behind the image: `pod image export IMAGE FILE`
    hint: `pod image export --help` tells what it takes
    --- exit 2 ---
    ");
    insta::assert_snapshot!(sandbox.pod(["run", "--publish-all", "box"]), @"
    --- stderr ---
    error: unexpected argument `--publish-all` found
    hint: ports are published one by one, or in ranges: `-p HOST:POD`
    hint: `pod run --help` tells what it takes
    --- exit 125 ---
    ");
    insta::assert_snapshot!(sandbox.pod(["run", "--restart", "unless-stopped", "box"]), @"
    --- stderr ---
    error: `unless-stopped` is no restart policy: it takes `no`, `on-failure`, `on-failure:N` or `always`
    hint: `always` means that here: what was stopped stays stopped
    --- exit 125 ---
    ");
    insta::assert_snapshot!(sandbox.pod(["run", "--hostname", "web.example.org", "box"]), @"
    --- stderr ---
    error: `web.example.org` is no hostname: it takes 1 to 63 of a-z, 0-9 and `-`, with no `-` at either end
    hint: a domain is for the resolver: `--dns-search DOMAIN`
    --- exit 125 ---
    ");
    insta::assert_snapshot!(sandbox.pod(["stop", "-t", "1m", "web"]), @"
    --- stderr ---
    error: invalid value `1m` for `--time <SECS>`: it takes whole seconds, such as `30`
    hint: `pod stop --help` tells what it takes
    --- exit 2 ---
    ");
    insta::assert_snapshot!(sandbox.pod(["logs", "--tail", "few", "web"]), @"
    --- stderr ---
    error: invalid value `few` for `--tail <N>`: it takes a number of lines, or `all`
    hint: `pod logs --help` tells what it takes
    --- exit 2 ---
    ");
    insta::assert_snapshot!(sandbox.pod(["ps", "--format", "json"]), @"
    --- stdout ---
    []
    --- exit 0 ---
    ");
    insta::assert_snapshot!(sandbox.pod(["image", "pul"]), @"
    --- stderr ---
    error: there is no command `pod image pul`
    hint: did you mean `pod image pull`?
    hint: `pod image --help` lists all
    --- exit 2 ---
    ");
    insta::assert_snapshot!(sandbox.pod(["image"]), @"
    --- stderr ---
    error: `pod image` takes a command
    hint: `pod image --help` tells what it takes
    --- exit 2 ---
    ");
    insta::assert_snapshot!(sandbox.pod::<[&str; 0], &str>([]), @"
    --- stderr ---
    error: `pod` takes a command
    hint: `pod --help` tells what it takes
    --- exit 2 ---
    ");
    // What the host can do differs from host to host; that there is a line for each need does not.
    let needs = sandbox.pod(["doctor"]);
    assert!(needs.stdout.lines().count() >= 10 && needs.stderr.is_empty(), "{needs}");
    insta::assert_snapshot!(sandbox.pod(["doctor", "--stage1", "../ns"]), @"
    --- stderr ---
    error: there is no stage1 `../ns`
    hint: a stage1 is given by its name, or by an absolute directory
    --- exit 1 ---
    ");
    insta::assert_snapshot!(sandbox.pod(["dns"]), @"
    --- stderr ---
    error: there is no socket to listen on
    hint: `systemctl enable --now pod-dns.socket` has systemd start it when it is asked
    hint: `pod dns --listen 127.0.0.1:5353` listens by itself
    --- exit 1 ---
    ");
    let kvm = sandbox.pod(["doctor", "--stage1", "kvm"]);
    let lines = kvm.stdout.lines().filter(|line| line.starts_with("missing"));
    assert_eq!(kvm.code, i32::from(lines.count() > 0), "{kvm}");
    for need in ["/dev/kvm: ", "kernel of guests: ", "programs of a machine: all there"] {
        assert!(kvm.stdout.contains(need), "{kvm}");
    }
    let info = sandbox.pod(["info"]).success();
    let first: Vec<&str> = info.lines().map(|line| line.split(':').next().unwrap()).collect();
    assert_eq!(
        first[..8],
        ["version", "kernel", "root", "run root", "manager", "pods", "images", "space"]
    );
    assert!(info.contains("[SANDBOX]/root\n") && info.contains("0 running, 0 prepared"), "{info}");
}
