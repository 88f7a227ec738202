//! What lines mean, and which are refused: tables.

use super::*;
use crate::grammar::{Asked, parse};
use pod_abi::app::{EnvVar, Role};
use pod_abi::isolators::{BlockDevice, Capabilities, Capability, Seccomp};

fn request(words: &str) -> Result<Request> {
    let words: Vec<String> = words.split(' ').map(str::to_owned).collect();
    let Asked::Line(line) = parse("run", &words)? else { panic!("help") };
    let caller = Caller {
        variable: &|name| (name == "HOME").then(|| "/home/me".to_owned()),
        file: &|_| Ok("A=file\nB=file".to_owned()),
        held: &Capabilities::default_set,
        profile: &|path, _| Err(CommandError::usage(format!("profile {}", path.display()))),
        disk: &|path| match path.to_str() {
            Some("/dev/sda") => Ok(BlockDevice { major: 8, minor: 0 }),
            _ => Err(CommandError::usage(format!("disk {}", path.display()))),
        },
    };
    read(*line, &caller)
}

fn pod(words: &str) -> PodRequest {
    match request(words).unwrap().source {
        Source::Line(pod) => *pod,
        Source::Spec(_) => panic!("spec"),
    }
}

fn app(words: &str) -> AppRequest {
    pod(words).apps.remove(0)
}

#[test]
fn variables_come_from_files_words_and_the_caller() {
    let vars = |words| -> Vec<String> {
        app(words).process.env.iter().map(|var: &EnvVar| var.as_str().to_owned()).collect()
    };
    assert_eq!(vars("-e HOME -e NONE -e A= x"), ["HOME=/home/me", "A="]);
    assert_eq!(vars("-e A=word --env-file f x"), ["A=file", "B=file", "A=word"]);
}

#[test]
fn the_life_of_an_app_is_as_typed() {
    let life = app("x --init --stop-signal QUIT --stop-timeout 3 --after a,b --log-size 1m:3").life;
    assert!(life.reaper);
    assert_eq!((life.stop_signal, life.grace_ms), (Some(3), Some(3_000)));
    assert_eq!(life.after.iter().map(|app| app.as_str()).collect::<Vec<&str>>(), ["a", "b"]);
    assert_eq!((life.log.max_bytes, life.log.files), (1 << 20, 3));
    assert_eq!(app("--init-app x").life.role, Role::Init);
    assert_eq!(app("--pid pod x").life.pid, Some(PidMode::Pod));
}

#[test]
fn privileges_are_taken_and_given_together() {
    let all = Capability::ALL.len();
    let plain = app("x").privileges;
    assert_eq!((plain.no_new_privileges, plain.paths), (None, Paths::Guarded));
    let privileged = app("--privileged x").privileges;
    assert_eq!(privileged.capabilities.unwrap().0.len(), all);
    assert_eq!(privileged.seccomp, Some(Seccomp::Unconfined));
    assert!(privileged.writable_sys && privileged.paths == Paths::Open);
    let insecure = pod("--insecure-options all-run x");
    let privileges = &insecure.apps[0].privileges;
    assert_eq!(privileges.capabilities.as_ref().unwrap().0.len(), all);
    assert!(!privileges.writable_sys && privileges.paths == Paths::Open);
    assert_eq!(insecure.insecure.len(), 3);
    let nnp = |words| app(words).privileges.no_new_privileges;
    assert_eq!(nnp("--security-opt no-new-privileges x"), Some(true));
    assert_eq!(nnp("--security-opt no-new-privileges:false x"), Some(false));
    assert_eq!(nnp("--privileged --security-opt no-new-privileges=true x"), Some(true));
    for (one, other) in [("no-new-privileges", "no-new-privileges:0"), ("seccomp=f", "seccomp=g")] {
        let words = format!("x --security-opt {one} --security-opt {other}");
        let message = format!("`--security-opt {other}` contradicts an option before it");
        assert_eq!(request(&words).unwrap_err().to_string(), message);
    }
}

#[test]
fn nobody_gets_more_than_the_caller_holds_with_the_hosts_ids() {
    for words in ["--userns host x --privileged", "--userns host x --cap-add SYS_ADMIN"] {
        let error = request(words).unwrap_err().to_string();
        assert!(error.contains("`CAP_SYS_ADMIN`"), "{words}: {error}");
        assert!(request(words.trim_start_matches("--userns host ")).is_ok(), "{words}");
    }
    assert!(request("--userns host x --cap-drop CHOWN").is_ok());
}

#[test]
fn no_app_with_the_hosts_ids_can_trace_pid_1() {
    for grants in [
        "--userns host --pid pod x --cap-add SYS_PTRACE",
        "--userns host --pid pod x --cap-add ALL",
        "--userns host --pid pod x --privileged",
        "--userns host --pid pod --insecure-options capabilities x",
        "--userns host x --- y --pid pod --privileged",
    ] {
        let error = request(grants).unwrap_err().to_string();
        let both = "`--pid pod` and `CAP_SYS_PTRACE` contradict each other";
        assert!(error.contains(both), "{grants}: {error}");
        assert!(request(&grants.replace("--userns host ", "")).is_ok(), "{grants}");
    }
    assert!(request("--userns host --pid pod x").is_ok());
}

#[test]
fn plain_http_has_two_words() {
    for words in ["--insecure-http x", "--insecure-options http x"] {
        let request = request(words).unwrap();
        assert!(request.fetch.insecure_http, "{words}");
        assert_eq!(pod(words).insecure, [Insecure::Http].into(), "{words}");
    }
}

#[test]
fn resolvers_are_given_or_the_hosts() {
    let dns = |words| pod(words).dns;
    assert_eq!(dns("x"), None);
    assert_eq!(dns("--dns host x"), None);
    assert_eq!(dns("--dns none x"), Some(Dns::default()));
    let given = dns("--dns 1.1.1.1 --dns ::1 --dns-search a.b --dns-opt ndots:2 x").unwrap();
    assert_eq!((given.servers.len(), given.search.len(), given.options.len()), (2, 1, 1));
    assert!(dns("--dns-search a.b x").unwrap().servers.is_empty());
}

#[test]
fn wrong_values_are_refused_with_their_word() {
    let table = [
        ("--net br!dge x", "`br!dge` is no name of a network"),
        ("--net host,default x", "`--net host` and `--net default` contradict each other"),
        ("-p 80 x", "`80` publishes no port"),
        ("--userns on x", "`on` is no value of `--userns`"),
        ("--ipc shareable x", "`shareable` is no value of `--ipc`"),
        ("--pid container:x x", "`container:x` is no value of `--pid`"),
        ("--pull maybe x", "`maybe` is no value of `--pull`"),
        ("--cap-add NOPE x", "`NOPE` is no capability"),
        ("--label x x", "`x` is no label: it takes KEY=VALUE"),
        ("--sysctl x x", "`x` is no setting: it takes KEY=VALUE"),
        ("--add-host x x", "`x` is no line of /etc/hosts: it takes NAME:IP"),
        ("--dns 1.1.1 x", "`1.1.1` is no name server"),
        ("-m 0 x", "`0` is no value of `--memory`: it takes bytes, such as `512m`"),
        (
            "--pids-limit -2 x",
            "`-2` is no value of `--pids-limit`: it takes a number of processes, 1 or more",
        ),
        ("--oom-score-adj -1001 x", "`-1001` is no score: it takes a number from -1000 to 1000"),
        ("--stop-signal NOPE x", "`NOPE` is no signal"),
        ("--stop-timeout 1s x", "`1s` is no time to wait: it takes seconds"),
        ("--security-opt seccomp=f x", "profile f"),
        (
            "--security-opt apparmor=unconfined x",
            "`--security-opt apparmor=unconfined` cannot be had: no AppArmor profile is set on apps",
        ),
        ("--security-opt seccomp x", "`seccomp` is no value of `--security-opt`"),
        ("--umask 999 x", "`999` is no mask: it takes 000 to 777, octal"),
        ("--insecure-options images x", "`images` is no value of `--insecure-options`"),
        ("--spec f --net host", "`--net` stands beside `--spec`, which holds that already"),
        (
            "--spec f --insecure-options paths",
            "`--insecure-options` stands beside `--spec`, which holds that already",
        ),
    ];
    for (words, expected) in table {
        let error = request(words).unwrap_err().to_string();
        assert_eq!(error, expected, "{words}");
    }
    for words in ["--name UP x", "-w a x", "--restart never x", "x -e =b", "-v /a:b x"] {
        assert!(request(words).is_err(), "{words}");
    }
}

#[test]
fn a_specification_stands_alone() {
    let flags = [
        ("--hostname", "h"),
        ("--net", "none"),
        ("--userns", "auto"),
        ("--exit-policy", "all"),
        ("--stage1", "ns"),
        ("--scratch", "1g"),
        ("--layers", "plain"),
        ("--platform", "linux/amd64"),
        ("--label", "a=b"),
        ("--annotation", "a=b"),
        ("--ipc", "pod"),
        ("--sysctl", "a=b"),
        ("--dns", "none"),
        ("--dns-search", "a"),
        ("--dns-opt", "a"),
        ("--add-host", "a:1.2.3.4"),
        ("--insecure-options", "paths"),
    ];
    for (flag, value) in flags {
        let error = request(&format!("--spec f {flag} {value}")).unwrap_err().to_string();
        let expected = format!("`{flag}` stands beside `--spec`, which holds that already");
        assert_eq!(error, expected);
    }
    assert!(request("--spec f --name n -d --rm --pull never --insecure-options http").is_ok());
}

proptest::proptest! {
    /// Whatever stands behind a flag is read or refused.
    #[test]
    fn no_word_is_too_odd_to_be_refused(
        flag in proptest::sample::select(&[
            "--volume", "--mount", "--tmpfs", "--device", "--ulimit", "--memory", "--cpus",
            "--umask", "--log-size", "--stop-signal", "--security-opt", "--readiness", "--env",
            "--cap-add", "--after", "--oom-score-adj", "--memory-swap", "--cpu-shares",
            "--cpuset-cpus", "--device-read-bps", "--pod-cpus", "--oom-policy", "--scratch",
        ][..]),
        word in "[a-z0-9/:=,.\"+é\u{0}-]{0,24}",
    ) {
        let words = [format!("{flag}={word}"), "x".to_owned()];
        if let Ok(Asked::Line(line)) = parse("run", &words) {
            let caller = Caller {
                variable: &|_| None,
                file: &|_| Ok(String::new()),
                held: &Capabilities::default_set,
                profile: &|_, _| Err(CommandError::usage("none")),
                disk: &|_| Ok(BlockDevice { major: 8, minor: 0 }),
            };
            let _ = read(*line, &caller); // that it returns is what is tested
        }
    }
}

#[test]
fn contradictions_are_refused_with_both_words() {
    let table = [
        ("--rm --restart always x", "--rm", "--restart always"),
        ("--init --pid pod x", "--init", "--pid pod"),
        ("--init-app --restart always x", "--init-app", "--restart always"),
        ("--init-app --readiness notify x", "--init-app", "--readiness notify"),
        ("--pid host x", "--pid host", "--stage1 ns"),
        ("--privileged --cap-drop CHOWN x", "--privileged", "--cap-drop CHOWN"),
        (
            "--privileged --security-opt seccomp=default x",
            "--privileged",
            "--security-opt seccomp=default",
        ),
        (
            "--insecure-options all --cap-drop ALL x",
            "--insecure-options capabilities",
            "--cap-drop ALL",
        ),
        (
            "--insecure-options seccomp --security-opt seccomp=f x",
            "--insecure-options seccomp",
            "--security-opt seccomp=f",
        ),
        ("--dns none --dns 1.1.1.1 x", "--dns none", "--dns 1.1.1.1"),
        ("--dns host --dns-search a x", "--dns host", "--dns-search a"),
        ("--scratch 1g x", "--scratch", "--stage1 ns"),
        ("--stage1 fly --scratch 1g x", "--scratch", "--stage1 fly"),
        ("--stage1 fly --net none x", "--net none", "--stage1 fly"),
        ("--stage1 fly --userns auto x", "--userns auto", "--stage1 fly"),
        ("--stage1 fly --ipc pod x", "--ipc pod", "--stage1 fly"),
        ("--stage1 fly --hostname a x", "--hostname", "--stage1 fly"),
        ("--stage1 fly --sysctl net.a=1 x", "--sysctl", "--stage1 fly"),
        ("--stage1 fly --pid pod x", "--pid pod", "--stage1 fly"),
        ("--stage1 fly --init x", "--init", "--stage1 fly"),
        ("--stage1 fly --device /dev/null x", "--device", "--stage1 fly"),
        ("--stage1 kvm --net host x", "--net host", "--stage1 kvm"),
        ("--stage1 kvm --ipc host x", "--ipc host", "--stage1 kvm"),
        ("--stage1 kvm --pid host x", "--pid host", "--stage1 kvm"),
        ("--stage1 kvm --device /dev/null x", "--device", "--stage1 kvm"),
        ("--stage1 kvm --socket web x", "--socket", "--stage1 kvm"),
        ("--stage1 kvm x --cpuset-cpus 0", "--cpuset-cpus", "--stage1 kvm"),
        ("--dry-run --cidfile f x", "--dry-run", "--id-file f"),
        ("-d --detach-keys ctrl-a x -t", "--detach", "--detach-keys ctrl-a"),
    ];
    for (words, one, other) in table {
        let expected = format!("`{one}` and `{other}` contradict each other");
        assert_eq!(request(words).unwrap_err().to_string(), expected, "{words}");
    }
}

#[test]
fn limits_are_written_in_the_kernels_measures() {
    let json = |limits: &Resources| serde_json::to_string(limits).unwrap();
    let table = [
        ("-m 1m", r#"{"memory":1048576}"#),
        ("--memory -1 --cpus unlimited --pids-limit=-1", "{}"),
        ("-m 1m --memory-swap 3m", r#"{"memory":1048576,"swap":2097152}"#),
        ("-m 1m --memory-swap 1m", r#"{"memory":1048576}"#),
        ("-m 1m --memory-swap -1", r#"{"memory":1048576,"swap":18446744073709551615}"#),
        ("--memory-swap -1", "{}"),
        (
            "-m 4k --memory-high 3k --memory-reservation 2k",
            r#"{"memory":4096,"memoryHigh":3072,"memoryLow":2048}"#,
        ),
        (
            "--cpus .5 --cpu-weight 7",
            r#"{"cpu":{"quotaUs":50000,"periodUs":100000},"cpuWeight":7}"#,
        ),
        ("--cpu-shares 1024", r#"{"cpuWeight":100}"#),
        ("--cpuset-cpus 0-2,4 --cpuset-mems 0", r#"{"cpusetCpus":"0-2,4","cpusetMems":"0"}"#),
        ("--io-weight 200 --pids-limit 5", r#"{"pids":5,"ioWeight":200}"#),
        ("--blkio-weight 10", r#"{"ioWeight":1}"#),
        (
            "--device-read-bps /dev/sda:1m --device-write-iops /dev/sda:9 \
             --device-read-bps /dev/sda:2m --device-write-bps /dev/sda:-1",
            r#"{"io":[{"device":{"major":8,"minor":0},"readBytes":2097152,"writes":9}]}"#,
        ),
    ];
    for (words, expected) in table {
        let words = words.split_whitespace().collect::<Vec<_>>().join(" ");
        assert_eq!(json(&app(&format!("{words} x")).limits.resources), expected, "{words}");
        let of_pod = words.replace("-m ", "--memory ").replace(" --", " --pod-");
        let pod = pod(&format!("--pod-{} x", of_pod.trim_start_matches("--")));
        assert_eq!(json(&pod.resources), expected, "{of_pod}");
        assert_eq!(pod.apps[0].limits.resources, Resources::default(), "{of_pod}");
    }
    assert_eq!(pod("--oom-policy kill x").oom_policy, OomPolicy::Kill);
}

#[test]
fn limits_that_are_none_or_exclude_each_other_are_refused() {
    let table = [
        ("--memory 0", "no value of `--memory`"),
        ("--memory-swap 1m", "a total of memory and swap, and memory has no limit"),
        ("--memory 2m --memory-swap 1m", "less than the memory"),
        ("--memory 1m --memory-reservation 2m", "`--memory 1m` and `--memory-reservation 2m`"),
        ("--memory 1m --memory-high 2m", "`--memory 1m` and `--memory-high 2m`"),
        ("--pod-memory 1m --pod-memory-high 2m", "`--pod-memory 1m` and `--pod-memory-high 2m`"),
        ("--cpus 0", "no value of `--cpus`"),
        ("--cpu-weight 0", "no value of `--cpu-weight`: it takes 1 to 10000"),
        ("--cpu-weight 5 --cpu-shares 5", "`--cpu-weight` and `--cpu-shares`"),
        ("--pod-io-weight 5 --pod-blkio-weight 50", "`--pod-io-weight` and `--pod-blkio-weight`"),
        ("--cpuset-cpus 3-1", "no value of `--cpuset-cpus`"),
        ("--cpuset-mems a", "no value of `--cpuset-mems`"),
        ("--pids-limit 0", "no value of `--pids-limit`"),
        ("--device-read-bps /dev/sda", "it takes a block device and a rate"),
        ("--device-read-bps sda:1m", "it takes a block device and a rate"),
        ("--device-read-iops /dev/sda:1m", "such as `/dev/sda:100`"),
        ("--device-read-bps /dev/zero:1m", "disk /dev/zero"),
        ("--oom-policy never", "`never` is no value of `--oom-policy`"),
    ];
    for (words, expected) in table {
        let refused = request(&format!("{words} x")).unwrap_err().to_string();
        assert!(refused.contains(expected), "{words}: {refused}");
    }
    let early = request("--memory 1m a --- b").unwrap_err().report().hints.join("; ");
    assert!(early.contains("`--pod-memory` limits all of them together"), "{early}");
}
