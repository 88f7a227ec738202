//! Commands that need a pod that runs, and those that end it: what they print.

use tests::fixtures::Fixture;

use crate::{numberless, sandbox};

#[test]
fn a_pod_in_the_background_is_looked_at_and_ended() {
    let sandbox = sandbox!();
    let image = sandbox.fixture(Fixture::App);
    let image = image.as_str();
    insta::assert_snapshot!(sandbox.pod(["run", "-d", "--name", "web", image, "/probe", "wait"]), @"
    --- stdout ---
    [UUID]
    --- exit 0 ---
    ");
    insta::assert_snapshot!(numberless(sandbox.pod(["run", "-d", "--name", "web", image])), @"
    --- stderr ---
    error: name `web` belongs to pod `[ID]`
    hint: `pod stop web` ends it; `--name` takes another name
    --- exit 125 ---
    ");
    insta::assert_snapshot!(numberless(sandbox.pod(["ps"])), @"
    --- stdout ---
    ID  NAME  STATUS  ADDRESS  APPS  IMAGES  CREATED
    [ID]  web  running for Ns  -  app  oci:[FIXTURES]/app:app  Ns ago
    --- exit 0 ---
    ");
    insta::assert_snapshot!(numberless(sandbox.pod(["status", "web"])), @"
    --- stdout ---
    pod web ([UUID])
      phase:  running
      attempt: N
      started: [TIME]
    APP  STATE  PID  RESTARTS  SINCE
    app  running  N  N  Ns ago
    --- exit 0 ---
    ");
    insta::assert_snapshot!(numberless(sandbox.pod(["top", "web"])), @"
    --- stdout ---
    PID  INSIDE  APP  USER  STATE  TIME  COMMAND
    N  N  -  N  S  N:N:N  stageN-init
    N  N  app  root  S  N:N:N  /probe wait
    --- exit 0 ---
    ");
    insta::assert_snapshot!(sandbox.pod(["top", "web", "nosuch"]), @"
    --- stderr ---
    error: pod `web` has no app `nosuch`
    hint: it has `app`
    --- exit 1 ---
    ");
    insta::assert_snapshot!(sandbox.pod(["exec", "web", "echo", "hello"]), @"
    --- stdout ---
    hello
    --- exit 0 ---
    ");
    insta::assert_snapshot!(sandbox.pod(["exec", "web", "/probe", "exit", "3"]), @"--- exit 3 ---");
    insta::assert_snapshot!(sandbox.pod(["exec", "web", "nosuch"]), @"
    --- stderr ---
    error: there is no program `nosuch` in `PATH` (`/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin`) in app `app`
    caused by: No such file or directory (os error 2)
    hint: name a program that is in the image, or give its whole path; without a slash it is looked up in `PATH` of the app's environment
    --- exit 127 ---
    ");
    insta::assert_snapshot!(sandbox.pod(["exec", "-w", "/nosuch", "web", "true"]), @"
    --- stderr ---
    error: cannot enter the working directory `/nosuch` in app `app`
    caused by: No such file or directory (os error 2)
    --- exit 125 ---
    ");
    let copy = sandbox.path("copy").display().to_string();
    insta::assert_snapshot!(sandbox.pod(["cp", "web:/etc/group", copy.as_str()]), @"--- exit 0 ---");
    insta::assert_snapshot!(sandbox.pod(["cp", "web:/nosuch", copy.as_str()]), @"
    --- stderr ---
    error: cannot copy `nosuch` in app `app`
    caused by: No such file or directory (os error 2)
    --- exit 1 ---
    ");
    insta::assert_snapshot!(sandbox.pod(["cp", copy.as_str(), "web:/nosuch/"]), @"
    --- stderr ---
    error: `/nosuch` is no directory in app `app`
    --- exit 1 ---
    ");
    insta::assert_snapshot!(sandbox.pod(["cp", "a", "b"]), @"
    --- stderr ---
    error: exactly one side is a path in an app
    hint: `pod cp POD:PATH DEST` copies out, `pod cp SRC POD:PATH` copies in; of several apps, name one: `POD/APP:PATH`
    --- exit 2 ---
    ");
    insta::assert_snapshot!(sandbox.pod(["commit", "-q", "web", "made:1"]), @"
    --- stdout ---
    [DIGEST] docker.io/library/made:1
    --- exit 0 ---
    ");
    insta::assert_snapshot!(sandbox.pod(["commit", "web/nosuch", "made:1"]), @"
    --- stderr ---
    error: pod `web` has no app `nosuch`
    hint: it has `app`
    --- exit 1 ---
    ");
    insta::assert_snapshot!(sandbox.pod(["commit", "-c", "RUN true", "web", "made:1"]), @r#"
    --- stderr ---
    error: `RUN true` is no change: its first word is none that can be set
    hint: `--change` takes `CMD`, `ENTRYPOINT`, `ENV`, `EXPOSE`, `LABEL`, `STOPSIGNAL`, `USER`, `VOLUME`, `WORKDIR`, such as `--change 'CMD ["/bin/app"]'`
    --- exit 2 ---
    "#);
    insta::assert_snapshot!(sandbox.pod(["exec", "-c", "nosuch", "web", "true"]), @"
    --- stderr ---
    error: pod `web` has no app `nosuch`
    hint: it has `app`
    --- exit 125 ---
    ");
    insta::assert_snapshot!(sandbox.pod(["start", "web"]), @"
    --- stderr ---
    error: pod `web` runs already
    hint: `pod stop web` ends it
    --- exit 125 ---
    ");
    insta::assert_snapshot!(sandbox.pod(["rm", "web"]), @"
    --- stderr ---
    error: pod `web` runs
    hint: `pod stop web` ends it; `pod rm -f web` kills and removes it
    --- exit 1 ---
    ");
    insta::assert_snapshot!(sandbox.pod(["wait", "--condition", "ready", "web"]), @"
    --- stdout ---
    web
    --- exit 0 ---
    ");
    insta::assert_snapshot!(sandbox.pod(["kill", "-s", "URG", "web"]), @"
    --- stdout ---
    web
    --- exit 0 ---
    ");
    insta::assert_snapshot!(sandbox.pod(["kill", "-s", "NOPE", "web"]), @"
    --- stderr ---
    error: invalid value `NOPE` for `--signal <SIGNAL>`: it takes a name such as `TERM`, or a number from 1 to 64
    hint: `pod kill --help` tells what it takes
    --- exit 2 ---
    ");
    insta::assert_snapshot!(sandbox.pod(["restart", "-t", "0", "web"]), @"
    --- stdout ---
    web
    --- exit 0 ---
    ");
    insta::assert_snapshot!(sandbox.pod(["stop", "-t", "0", "web"]), @"
    --- stdout ---
    web
    --- exit 0 ---
    ");
    insta::assert_snapshot!(sandbox.pod(["stop", "web"]), @"
    --- stdout ---
    web
    --- exit 0 ---
    ");
    insta::assert_snapshot!(sandbox.pod(["kill", "web"]), @"
    --- stderr ---
    error: pod `web` does not run: it has ended
    hint: `pod start -d web` starts it
    --- exit 1 ---
    ");
    insta::assert_snapshot!(sandbox.pod(["exec", "web", "true"]), @"
    --- stderr ---
    error: pod `web` does not run: it has ended
    hint: `pod start -d web` starts it
    --- exit 125 ---
    ");
    insta::assert_snapshot!(sandbox.pod(["start", "-d", "--json", "web"]), @r#"
    --- stdout ---
    {
      "name": "web",
      "uuid": "[UUID]"
    }
    --- exit 0 ---
    "#);
    insta::assert_snapshot!(sandbox.pod(["kill", "web", "nosuch"]), @"
    --- stdout ---
    web
    --- stderr ---
    error: there is no pod `nosuch`
    hint: `pod ps -a` lists all pods
    --- exit 1 ---
    ");
    insta::assert_snapshot!(numberless(sandbox.pod(["ps", "-a"])), @"
    --- stdout ---
    ID  NAME  STATUS  ADDRESS  APPS  IMAGES  CREATED
    [ID]  web  exited N, Ns ago  -  app  oci:[FIXTURES]/app:app  Ns ago
    --- exit 0 ---
    ");
    // Asked to end and killed at once, the app may do the one before it suffers the other.
    let events = numberless(sandbox.pod(["events", "web"])).to_string();
    insta::assert_snapshot!(events.replace(" code=N", " [END]").replace(" signal=N", " [END]"), @"
    --- stdout ---
    [TIME] web pod-created
    [TIME] web pod-started
    [TIME] web app-started app=app
    [TIME] web app-ready app=app
    [TIME] web pod-ready
    [TIME] web pod-stopping
    [TIME] web app-ended app=app [END]
    [TIME] web pod-ended [END]
    [TIME] web pod-started
    [TIME] web app-started app=app
    [TIME] web app-ready app=app
    [TIME] web pod-ready
    [TIME] web pod-stopping
    [TIME] web app-ended app=app [END]
    [TIME] web pod-ended [END]
    [TIME] web pod-started
    [TIME] web app-started app=app
    [TIME] web app-ready app=app
    [TIME] web pod-ready
    [TIME] web pod-ended [END]
    --- exit 0 ---
    ");
}

#[test]
fn a_pod_that_goes_with_its_end_is_not_restarted() {
    let sandbox = sandbox!();
    let image = sandbox.fixture(Fixture::App);
    let pod = sandbox.detached("brief", ["--rm", &image, "/probe", "wait"]);
    insta::assert_snapshot!(sandbox.pod(["restart", "brief"]), @"
    --- stderr ---
    error: pod `brief` was started with `--rm`: stopped, it is gone
    hint: `pod cat-manifest brief` prints what `pod run --spec` runs again
    --- exit 1 ---
    ");
    assert!(pod.is_running());
}

#[test]
fn of_several_apps_one_must_be_named() {
    let sandbox = sandbox!();
    let image = sandbox.fixture(Fixture::App);
    let one = [&image, "--name", "a", "/probe", "wait", "---"];
    let two = [&image, "--name", "b", "/probe", "wait"];
    let _pod = sandbox.detached("two", one.iter().chain(&two));
    insta::assert_snapshot!(sandbox.pod(["exec", "two", "true"]), @"
    --- stderr ---
    error: pod `two` has several apps
    hint: `--app` takes one of `a`, `b`
    --- exit 125 ---
    ");
    insta::assert_snapshot!(sandbox.pod(["kill", "-c", "c", "two"]), @"
    --- stderr ---
    error: pod `two` has no app `c`
    hint: it has `a`, `b`
    --- exit 1 ---
    ");
    insta::assert_snapshot!(numberless(sandbox.pod(["status", "two"])), @"
    --- stdout ---
    pod two ([UUID])
      phase:  running
      attempt: N
      started: [TIME]
    APP  STATE  PID  RESTARTS  SINCE
    a  running  N  N  Ns ago
    b  running  N  N  Ns ago
    --- exit 0 ---
    ");
}

#[test]
fn an_app_that_is_attached_to_hears_and_is_heard() {
    let sandbox = sandbox!();
    let image = sandbox.fixture(Fixture::App);
    let line = ["-i", &image, "sh", "-c", "read line; echo \"$line\""];
    let _pod = sandbox.detached("echo", line);
    let attach = || sandbox.call().input(b"typed\n");
    insta::assert_snapshot!(attach().args(["attach", "echo"]).run(), @"
    --- stdout ---
    typed
    --- exit 0 ---
    ");
    insta::assert_snapshot!(sandbox.pod(["attach", "--detach-keys", "nokey", "echo"]), @"
    --- stderr ---
    error: `nokey` is no sequence of keys: it takes single characters and `ctrl-X`, with commas between
    --- exit 125 ---
    ");
}

#[test]
fn apps_come_and_go() {
    let sandbox = sandbox!();
    let image = sandbox.fixture(Fixture::App);
    let image = image.as_str();
    insta::assert_snapshot!(sandbox.pod(["sandbox", "--name", "shop"]), @"
    --- stdout ---
    [UUID]
    --- exit 0 ---
    ");
    insta::assert_snapshot!(numberless(sandbox.pod(["sandbox", "--name", "shop"])), @"
    --- stderr ---
    error: name `shop` belongs to pod `[ID]`
    hint: `pod stop shop` ends it; `--name` takes another name
    --- exit 125 ---
    ");
    insta::assert_snapshot!(sandbox.pod(["exec", "shop", "true"]), @"
    --- stderr ---
    error: pod `shop` has no app
    hint: `pod app add --start shop IMAGE` adds one and starts it
    --- exit 125 ---
    ");
    insta::assert_snapshot!(sandbox.pod(["logs", "shop", "web"]), @"
    --- stderr ---
    error: pod `shop` has no app `web`
    hint: `pod app add --start shop IMAGE` adds one and starts it
    --- exit 1 ---
    ");
    insta::assert_snapshot!(sandbox.pod(["app", "add", "shop", image, "--name", "web", "/probe", "wait"]), @"
    --- stdout ---
    web
    --- exit 0 ---
    ");
    insta::assert_snapshot!(sandbox.pod(["app", "add", "shop", image, "--name", "web"]), @"
    --- stderr ---
    error: app name `web` is given twice; `--name` behind an image names its app
    --- exit 1 ---
    ");
    insta::assert_snapshot!(sandbox.pod(["app", "add", "nosuch", image]), @"
    --- stderr ---
    error: there is no pod `nosuch`
    hint: `pod ps -a` lists all pods
    --- exit 1 ---
    ");
    insta::assert_snapshot!(sandbox.pod(["app", "start", "shop", "web"]), @"
    --- stdout ---
    web
    --- exit 0 ---
    ");
    insta::assert_snapshot!(sandbox.pod(["app", "start", "shop", "web"]), @"
    --- stderr ---
    error: app `web` runs already
    --- exit 1 ---
    ");
    insta::assert_snapshot!(sandbox.pod(["app", "start", "shop", "nosuch"]), @"
    --- stderr ---
    error: pod `shop` has no app `nosuch`
    hint: it has `web`
    --- exit 1 ---
    ");
    insta::assert_snapshot!(numberless(sandbox.pod(["app", "ls", "shop"])), @"
    --- stdout ---
    NAME  STATE  READY  RESTARTS  IMAGE
    web  running  yes  N  oci:[FIXTURES]/app:app
    --- exit 0 ---
    ");
    insta::assert_snapshot!(sandbox.pod(["app", "rm", "shop", "web"]), @"
    --- stderr ---
    error: app `web` runs and has to be stopped first
    hint: `pod app stop` stops it
    --- exit 1 ---
    ");
    insta::assert_snapshot!(sandbox.pod(["app", "stop", "shop", "web"]), @"
    --- stdout ---
    web
    --- exit 0 ---
    ");
    insta::assert_snapshot!(sandbox.pod(["app", "stop", "shop", "nosuch"]), @"
    --- stderr ---
    error: pod `shop` has no app `nosuch`
    hint: it has `web`
    --- exit 1 ---
    ");
    insta::assert_snapshot!(sandbox.pod(["app", "rm", "shop", "web"]), @"
    --- stdout ---
    web
    --- exit 0 ---
    ");
    insta::assert_snapshot!(numberless(sandbox.pod(["app", "ls", "shop"])), @"
    --- stdout ---
    NAME  STATE  READY  RESTARTS  IMAGE
    --- exit 0 ---
    ");
    sandbox.pod(["stop", "shop"]).success();
    insta::assert_snapshot!(sandbox.pod(["app", "add", "shop", image]), @"
    --- stderr ---
    error: pod `shop` does not run: it has ended
    hint: `pod start -d shop` starts it
    --- exit 1 ---
    ");
}

#[test]
fn a_pod_is_counted_paused_and_changed() {
    let sandbox = sandbox!();
    let image = sandbox.fixture(Fixture::App);
    let image = image.as_str();
    sandbox.pod(["run", "-d", "--name", "web", image, "/probe", "wait"]).success();
    insta::assert_snapshot!(sandbox.pod(["pause", "web"]), @"
    --- stdout ---
    web
    --- exit 0 ---
    ");
    insta::assert_snapshot!(sandbox.pod(["pause", "nosuch"]), @"
    --- stderr ---
    error: there is no pod `nosuch`
    hint: `pod ps -a` lists all pods
    --- exit 1 ---
    ");
    insta::assert_snapshot!(numberless(sandbox.pod(["ps"])), @"
    --- stdout ---
    ID  NAME  STATUS  ADDRESS  APPS  IMAGES  CREATED
    [ID]  web  running for Ns, paused  -  app  oci:[FIXTURES]/app:app  Ns ago
    --- exit 0 ---
    ");
    insta::assert_snapshot!(numberless(sandbox.pod(["status", "web"])), @"
    --- stdout ---
    pod web ([UUID])
      phase:  running
      paused:  `pod unpause web` lets it go on
      attempt: N
      started: [TIME]
    APP  STATE  PID  RESTARTS  SINCE
    app  paused  N  N  Ns ago
    --- exit 0 ---
    ");
    insta::assert_snapshot!(sandbox.pod(["exec", "web", "true"]), @"
    --- stderr ---
    error: pod `web` is paused
    hint: `pod unpause web` lets it go on
    --- exit 125 ---
    ");
    insta::assert_snapshot!(sandbox.pod(["unpause", "web"]), @"
    --- stdout ---
    web
    --- exit 0 ---
    ");
    insta::assert_snapshot!(sandbox.pod(["unpause", "nosuch"]), @"
    --- stderr ---
    error: there is no pod `nosuch`
    hint: `pod ps -a` lists all pods
    --- exit 1 ---
    ");
    insta::assert_snapshot!(sandbox.pod(["stats", "--no-stream", "--format", "{{.Name}} {{.App}}"]), @"
    --- stdout ---
    web -
    --- exit 0 ---
    ");
    sandbox.pod(["rm", "-f", "web"]).success();
    sandbox.pod(["prepare", "--name", "web", image]).success();
    insta::assert_snapshot!(sandbox.pod(["update", "web", "--memory", "1g", "--cpus", "1.5"]), @"
    --- stdout ---
    web
    --- exit 0 ---
    ");
    insta::assert_snapshot!(sandbox.pod(["update", "web"]), @"
    --- stderr ---
    error: no limit is named
    hint: `pod update POD --memory 1g`; `pod update --help` lists all limits
    --- exit 2 ---
    ");
    insta::assert_snapshot!(sandbox.pod(["update", "web", "--memory-reservation", "2g"]), @"
    --- stderr ---
    error: `--memory-reservation` would be above `--memory`
    hint: give both, the one no larger
    --- exit 2 ---
    ");
    insta::assert_snapshot!(sandbox.pod(["update", "web", "--memory-swap", "512m"]), @"
    --- stderr ---
    error: `--memory-swap 512m` is a total of memory and swap, and less than the memory
    hint: the same as the memory is no swap, `-1` all there is
    --- exit 2 ---
    ");
    insta::assert_snapshot!(sandbox.pod(["update", "web", "--memory", "none"]), @"
    --- stderr ---
    error: `none` is no value of `--memory`: it takes bytes, such as `512m`
    --- exit 2 ---
    ");
    insta::assert_snapshot!(numberless(sandbox.pod(["status", "web"])), @"
    --- stdout ---
    pod web ([UUID])
      phase:  prepared
      limits:  memory N.N GiB, cpus N.N
    --- exit 0 ---
    ");
    sandbox.pod(["rm", "web"]).success();
}

#[test]
fn a_pod_in_a_network_is_looked_at() {
    let sandbox = sandbox!();
    let image = sandbox.fixture(Fixture::App);
    let published = ["-p", "8080:80", "-p", "[::1]:5300-5301:53/udp"];
    let refused = sandbox.pod([&["run"], &published[..], &[&image, "true"]].concat());
    insta::assert_snapshot!(refused, @"
    --- stderr ---
    error: `[::1]:5300-5301:53/udp` publishes 2 ports of the host as 1 of the pod
    --- exit 125 ---
    ");
    let published = ["-p", "8080:80", "-p", "[::1]:5300-5301:53-54/udp"];
    let _web = sandbox.detached("web", [&published[..], &[&image, "/probe", "wait"]].concat());
    insta::assert_snapshot!(sandbox.pod(["port", "web"]), @"
    --- stdout ---
    80/tcp -> 0.0.0.0:8080
    80/tcp -> [::]:8080
    53/udp -> [::1]:5300
    54/udp -> [::1]:5301
    --- exit 0 ---
    ");
    insta::assert_snapshot!(sandbox.pod(["port", "web", "80"]), @"
    --- stdout ---
    0.0.0.0:8080
    [::]:8080
    --- exit 0 ---
    ");
    insta::assert_snapshot!(sandbox.pod(["port", "web", "81"]), @"
    --- stderr ---
    error: pod `web` does not publish port 81/tcp
    hint: `pod port web` shows the ports it publishes
    --- exit 1 ---
    ");
    insta::assert_snapshot!(sandbox.pod(["port", "web", "-o", "json"]), @r#"
    --- stdout ---
    [
      {
        "podPort": 80,
        "protocol": "tcp",
        "hostAddress": "0.0.0.0",
        "hostPort": 8080
      },
      {
        "podPort": 80,
        "protocol": "tcp",
        "hostAddress": "::",
        "hostPort": 8080
      },
      {
        "podPort": 53,
        "protocol": "udp",
        "hostAddress": "::1",
        "hostPort": 5300
      },
      {
        "podPort": 54,
        "protocol": "udp",
        "hostAddress": "::1",
        "hostPort": 5301
      }
    ]
    --- exit 0 ---
    "#);
    insta::assert_snapshot!(sandbox.pod(["network", "inspect", "nosuch"]), @"
    --- stderr ---
    error: there is no network `nosuch`
    hint: `pod network ls` lists all networks
    --- exit 1 ---
    ");
    insta::assert_snapshot!(sandbox.pod(["network", "reload"]), @"
    --- stderr ---
    rules are in place; interfaces they are for: 1
    --- exit 0 ---
    ");
    sandbox.program("iptables").args(["-P", "FORWARD", "DROP"]).run().success();
    insta::assert_snapshot!(sandbox.pod(["network", "reload"]), @"
    --- stderr ---
    rules are in place; interfaces they are for: 1
    error: the table `ip filter` of nftables drops what is forwarded to pods and from them
    hint: have it accept what is forwarded to links `pod-*` and from them
    --- exit 1 ---
    ");
}
