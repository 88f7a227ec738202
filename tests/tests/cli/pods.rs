//! Commands that make, show and remove pods: what they print.

use std::fs;

use tests::fixtures::Fixture;

use crate::{numberless, sandbox};

#[test]
fn a_pod_is_run_and_shown() {
    let sandbox = sandbox!();
    let image = sandbox.fixture(Fixture::App);
    let image = image.as_str();
    insta::assert_snapshot!(sandbox.pod(["run", "--name", "web", image, "echo", "hello"]), @"
    --- stdout ---
    hello
    --- exit 0 ---
    ");
    insta::assert_snapshot!(sandbox.pod(["run", "--rm", image, "/probe", "exit", "3"]), @"--- exit 3 ---");
    insta::assert_snapshot!(sandbox.pod(["run", "--rm", image, "nosuch"]), @"
    --- stderr ---
    error: there is no program `nosuch` in `PATH` (`/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin`) in app `app`
    caused by: No such file or directory (os error 2)
    hint: name a program that is in the image, or give its whole path; without a slash it is looked up in `PATH` of the app's environment
    --- exit 127 ---
    ");
    insta::assert_snapshot!(sandbox.pod(["run", "--rm", image, "/etc"]), @"
    --- stderr ---
    error: cannot execute `/etc`, which is a directory, in app `app`
    caused by: Permission denied (os error 13)
    --- exit 126 ---
    ");
    insta::assert_snapshot!(sandbox.pod(["run", "--rm", "-w", "/etc/passwd", image, "true"]), @"
    --- stderr ---
    error: cannot enter the working directory `/etc/passwd` in app `app`
    caused by: Not a directory (os error 20)
    --- exit 125 ---
    ");
    insta::assert_snapshot!(sandbox.pod(["run", "--rm", "-u", "nosuch", image]), @"
    --- stderr ---
    error: app `app` cannot run as `nosuch`
    caused by: `/etc/passwd` of the image has no user `nosuch`
    --- exit 125 ---
    ");
    insta::assert_snapshot!(sandbox.pod(["run", "-d", "--name", "quick", "--json", image, "true"]), @r#"
    --- stdout ---
    {
      "name": "quick",
      "uuid": "[UUID]"
    }
    --- exit 0 ---
    "#);
    sandbox.pod(["wait", "quick"]).success();
    sandbox.pod(["rm", "quick"]).success();
    insta::assert_snapshot!(numberless(sandbox.pod(["ps", "-a"])), @"
    --- stdout ---
    ID  NAME  STATUS  ADDRESS  APPS  IMAGES  CREATED
    [ID]  web  exited N, Ns ago  -  app  oci:[FIXTURES]/app:app  Ns ago
    --- exit 0 ---
    ");
    insta::assert_snapshot!(numberless(sandbox.pod(["status", "web"])), @"
    --- stdout ---
    pod web ([UUID])
      phase:  exited
      attempt: N
      started: [TIME]
      ended:  [TIME]
      status:  N
    APP  STATE  PID  RESTARTS  SINCE
    app  exited, status N  -  N  Ns ago
    --- exit 0 ---
    ");
    insta::assert_snapshot!(sandbox.pod(["logs", "web"]), @"
    --- stdout ---
    hello
    --- exit 0 ---
    ");
    insta::assert_snapshot!(sandbox.pod(["logs", "web", "nosuch"]), @"
    --- stderr ---
    error: pod `web` has no app `nosuch`
    hint: it has `app`
    --- exit 1 ---
    ");
    insta::assert_snapshot!(sandbox.pod(["logs", "-o", "json", "web"]), @r#"
    --- stdout ---
    {"time":"[TIME]","app":"app","stream":"stdout","partial":false,"text":"hello"}
    --- exit 0 ---
    "#);
    insta::assert_snapshot!(sandbox.pod(["events", "--filter", "event=pod-ended", "web"]), @"
    --- stdout ---
    [TIME] web pod-ended code=0
    --- exit 0 ---
    ");
    insta::assert_snapshot!(sandbox.pod(["events", "--filter", "color=red"]), @"
    --- stderr ---
    error: `color=red` is no value of `--filter`
    hint: it takes `event=KIND`, `app=NAME`, `pod=NAME`, `label=KEY[=VALUE]`
    --- exit 2 ---
    ");
    insta::assert_snapshot!(sandbox.pod(["wait", "web"]), @"
    --- stdout ---
    0
    --- exit 0 ---
    ");
    insta::assert_snapshot!(sandbox.pod(["wait", "--condition", "ready", "web"]), @"
    --- stderr ---
    error: pod `web` has ended and is not going to be ready
    hint: `pod start -d web` starts one that is still there
    --- exit 1 ---
    ");
    insta::assert_snapshot!(sandbox.pod(["start", "web"]), @"
    --- stdout ---
    hello
    --- exit 0 ---
    ");
    insta::assert_snapshot!(sandbox.pod(["rm", "web"]), @"
    --- stdout ---
    web
    --- exit 0 ---
    ");
    insta::assert_snapshot!(sandbox.pod(["rm", "-f", "web"]), @"--- exit 0 ---");
}

#[test]
fn a_pod_is_prepared_and_expires() {
    let sandbox = sandbox!();
    let image = sandbox.fixture(Fixture::App);
    let image = image.as_str();
    insta::assert_snapshot!(sandbox.pod(["prepare", "--name", "later", image, "true"]), @"
    --- stdout ---
    [UUID]
    --- exit 0 ---
    ");
    insta::assert_snapshot!(numberless(sandbox.pod(["prepare", "--name", "later", image, "true"])), @"
    --- stderr ---
    error: name `later` belongs to pod `[ID]`
    hint: `pod rm later` removes it; `--name` takes another name
    --- exit 1 ---
    ");
    insta::assert_snapshot!(sandbox.pod(["prepare", "-d", image]), @"
    --- stderr ---
    error: `pod prepare` starts nothing that could be detached
    hint: `pod start --detach` takes the flag
    --- exit 2 ---
    ");
    insta::assert_snapshot!(sandbox.pod(["prepare", "--json", "--name", "other", image]), @r#"
    --- stdout ---
    {
      "name": "other",
      "uuid": "[UUID]"
    }
    --- exit 0 ---
    "#);
    insta::assert_snapshot!(numberless(sandbox.pod(["status", "later"])), @"
    --- stdout ---
    pod later ([UUID])
      phase:  prepared
    --- exit 0 ---
    ");
    insta::assert_snapshot!(sandbox.pod(["logs", "later"]), @"--- exit 0 ---");
    insta::assert_snapshot!(sandbox.pod(["exec", "later", "true"]), @"
    --- stderr ---
    error: pod `later` does not run: it is prepared and was never started
    hint: `pod start -d later` starts it
    --- exit 125 ---
    ");
    insta::assert_snapshot!(sandbox.pod(["kill", "later"]), @"
    --- stderr ---
    error: pod `later` does not run: it is prepared and was never started
    hint: `pod start -d later` starts it
    --- exit 1 ---
    ");
    insta::assert_snapshot!(sandbox.pod(["top", "later"]), @"
    --- stderr ---
    error: pod `later` does not run: it is prepared and was never started
    hint: `pod start -d later` starts it
    --- exit 1 ---
    ");
    insta::assert_snapshot!(sandbox.pod(["stop", "later"]), @"
    --- stdout ---
    later
    --- exit 0 ---
    ");
    insta::assert_snapshot!(sandbox.pod(["gc"]), @"--- exit 0 ---");
    insta::assert_snapshot!(sandbox.pod(["gc", "--expire-prepared", "0s", "--dry-run"]), @"
    --- stdout ---
    would remove pod [UUID]
    would remove pod [UUID]
    --- exit 0 ---
    ");
    insta::assert_snapshot!(sandbox.pod(["gc", "--expire-prepared", "0s"]), @"
    --- stdout ---
    removed pod [UUID]
    removed pod [UUID]
    --- exit 0 ---
    ");
    insta::assert_snapshot!(sandbox.pod(["gc", "--grace", "soon"]), @"
    --- stderr ---
    error: invalid value `soon` for `--grace <DURATION>`: it takes a number and `s`, `m`, `h` or `d`
    hint: `pod gc --help` tells what it takes
    --- exit 2 ---
    ");
}

#[test]
fn a_manifest_is_a_document() {
    let sandbox = sandbox!();
    let image = sandbox.fixture(Fixture::App);
    let image = image.as_str();
    sandbox.pod(["prepare", "--name", "web", image, "true"]).success();
    insta::assert_snapshot!(sandbox.pod(["inspect", "web"]), @r#"
    --- stdout ---
    {
      "phase": "prepared",
      "manifest": {
        "version": 6,
        "uuid": "[UUID]",
        "name": "web",
        "created": "[TIME]",
        "remove": false,
        "sandbox": {
          "hostname": null,
          "stage1": "ns",
          "userns": "auto",
          "network": "none",
          "volumes": [],
          "apps": [
            "app"
          ],
          "exitPolicy": "any-failure",
          "labels": {},
          "annotations": {}
        }
      },
      "apps": [
        {
          "version": 6,
          "name": "app",
          "image": {
            "reference": "oci:[FIXTURES]/app:app",
            "manifest": "[DIGEST]",
            "config": "[DIGEST]",
            "layers": [
              "[DIGEST]",
              "[DIGEST]"
            ],
            "verified": "local-file"
          },
          "process": {
            "args": [
              "true"
            ],
            "env": [
              "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
              "container=pod",
              "HOME=/root",
              "HOSTNAME=web"
            ],
            "cwd": "/",
            "user": {
              "uid": 0,
              "gid": 0,
              "additionalGids": [],
              "umask": null
            },
            "capabilities": [
              "CAP_CHOWN",
              "CAP_DAC_OVERRIDE",
              "CAP_FOWNER",
              "CAP_FSETID",
              "CAP_KILL",
              "CAP_SETGID",
              "CAP_SETUID",
              "CAP_SETPCAP",
              "CAP_NET_BIND_SERVICE",
              "CAP_SYS_CHROOT",
              "CAP_SETFCAP"
            ],
            "noNewPrivileges": false,
            "seccomp": "default",
            "rlimits": [],
            "oomScoreAdj": null
          },
          "readOnlyRoot": false,
          "mounts": [],
          "maskedPaths": [
            "/proc/acpi",
            "/proc/asound",
            "/proc/interrupts",
            "/proc/kcore",
            "/proc/keys",
            "/proc/latency_stats",
            "/proc/sched_debug",
            "/proc/scsi",
            "/proc/timer_list",
            "/proc/timer_stats",
            "/sys/devices/virtual/powercap",
            "/sys/firmware"
          ],
          "readOnlyPaths": [
            "/proc/bus",
            "/proc/fs",
            "/proc/irq",
            "/proc/sys",
            "/proc/sysrq-trigger"
          ],
          "pid": "app",
          "restart": "no",
          "stop": {
            "signal": 15,
            "graceMs": 10000
          },
          "readiness": "started",
          "log": {
            "maxBytes": 16777216,
            "files": 2
          },
          "labels": {},
          "annotations": {}
        }
      ],
      "status": null
    }
    --- exit 0 ---
    "#);
    let spec = sandbox.pod(["cat-manifest", "web"]).success();
    assert_eq!(sandbox.pod(["inspect", "--spec", "web"]).success(), spec);
    assert_eq!(spec.lines().next(), Some("{"));
    let directory = sandbox.path("bundle").display().to_string();
    let directory = directory.as_str();
    insta::assert_snapshot!(sandbox.pod(["bundle", "web", directory]), @"--- exit 0 ---");
    insta::assert_snapshot!(sandbox.pod(["bundle", "web", directory]), @"
    --- stderr ---
    error: cannot make `[SANDBOX]/bundle`
    caused by: File exists (os error 17)
    hint: name a directory that is not there yet
    --- exit 1 ---
    ");
    sandbox.pod(["rm", "web"]).success();
}

#[test]
fn a_unit_of_a_pod_is_printed_and_kept_only_where_systemd_runs() {
    let sandbox = sandbox!();
    let image = sandbox.fixture(Fixture::App);
    let image = image.as_str();
    let property = "Restart=on-failure";
    sandbox.pod(["prepare", "--name", "web", "--unit-property", property, image, "true"]).success();
    insta::assert_snapshot!(sandbox.pod(["generate", "systemd", "web"]), @"
    --- stdout ---
    # Made by `pod generate systemd web`. As /etc/systemd/system/pod-web.service it runs the pod;
    # `systemctl enable --now pod-web.service` does so at every boot.

    [Unit]
    Description=Pod web: app
    Documentation=man:pod(1)

    [Service]
    Type=notify
    NotifyAccess=main
    ExecStart=[PROGRAMS]/pod --root [SANDBOX]/root --run-root [SANDBOX]/run start web
    ExecReload=[PROGRAMS]/pod --root [SANDBOX]/root --run-root [SANDBOX]/run kill --signal HUP web
    ExecStopPost=[PROGRAMS]/pod --root [SANDBOX]/root --run-root [SANDBOX]/run reap web
    Restart=on-failure
    TimeoutStopSec=15s
    KillMode=mixed
    Delegate=yes
    Slice=machine-pods.slice
    OOMPolicy=continue
    LogExtraFields=POD_NAME=web

    [Install]
    WantedBy=multi-user.target
    --- exit 0 ---
    ");
    insta::assert_snapshot!(sandbox.pod(["enable", "web"]), @"
    --- stderr ---
    error: this host was not booted by systemd
    hint: `pod start -d` in what this host runs at boot starts a pod
    --- exit 1 ---
    ");
    insta::assert_snapshot!(sandbox.pod(["disable", "web"]), @"
    --- stderr ---
    error: this host was not booted by systemd
    hint: `pod start -d` in what this host runs at boot starts a pod
    --- exit 1 ---
    ");
    sandbox.pod(["rm", "web"]).success();
    sandbox.pod(["prepare", "--rm", "--name", "gone", image, "true"]).success();
    insta::assert_snapshot!(sandbox.pod(["generate", "systemd", "gone"]), @"
    --- stderr ---
    error: pod `gone` is removed when it ends, so a unit could start it once
    hint: `pod inspect --spec` writes down what it is, and `--spec FILE` makes a unit of that
    --- exit 1 ---
    ");
    sandbox.pod(["rm", "gone"]).success();
    insta::assert_snapshot!(sandbox.pod(["run", "--unit-property", "KillMode=process", image]), @"
    --- stderr ---
    error: `--unit-property KillMode` would break a pod: the supervisor alone is told to stop, and stops the apps in order
    hint: `--stop-signal` and `--stop-timeout` say how an app is stopped
    --- exit 125 ---
    ");
    insta::assert_snapshot!(sandbox.pod(["run", "--unit-property", "MemroyMax=1G", image]), @"
    --- stderr ---
    error: `MemroyMax` is no property we know
    hint: any property can be set in a drop-in: /etc/systemd/system/pod-NAME.service.d/*.conf
    --- exit 125 ---
    ");
    insta::assert_snapshot!(sandbox.pod(["run", "--rm", "--unit-property", property, image]), @"
    --- stderr ---
    error: `--rm` and `--unit-property Restart=on-failure` contradict each other
    hint: leave `--rm` away; `pod rm` and `pod gc` remove pods that have ended
    --- exit 125 ---
    ");
    insta::assert_snapshot!(sandbox.pod(["run", "--reuse", image]), @"
    --- stderr ---
    error: `--reuse` is about a pod that `--spec` describes
    hint: `pod run --dry-run` prints what `--spec` takes; `pod start` starts any pod again
    --- exit 125 ---
    ");
}

#[test]
fn a_pod_that_a_file_describes_is_started_again_or_replaced() {
    let sandbox = sandbox!();
    let image = sandbox.fixture(Fixture::App);
    let script = "echo >>/file; echo run $(wc -l </file)";
    let described = |more: &str| {
        let script = format!("{script}{more}");
        let line = ["run", "--dry-run", "--name", "kept", &image, "sh", "-c", &script];
        fs::write(sandbox.path("kept.json"), sandbox.pod(line).raw).unwrap();
    };
    let path = sandbox.path("kept.json").display().to_string();
    let run = || sandbox.pod(["run", "--reuse", "--spec", &path]);
    described("");
    assert_eq!(run().success(), "run 1\n");
    assert_eq!(run().success(), "run 2\n");
    assert_eq!(sandbox.pod(["ps", "-aq"]).success().lines().count(), 1);
    described("; echo more");
    assert_eq!(run().success(), "run 1\nmore\n");
    assert_eq!(sandbox.pod(["ps", "-aq"]).success().lines().count(), 1, "the old one is gone");
    assert_eq!(run().success(), "run 2\nmore\n");
    // One of that name that has never run, and one that lives, keep it.
    sandbox.pod(["rm", "kept"]).success();
    sandbox.pod(["prepare", "--name", "kept", &image, "sleep", "1000"]).success();
    run().refuses(125, &["name `kept` belongs to pod"]);
    sandbox.pod(["start", "-d", "kept"]).success();
    run().refuses(125, &["name `kept` belongs to pod"]);
    sandbox.pod(["rm", "-f", "kept"]).success();
}
