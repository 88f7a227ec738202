//! Profiles of system calls that a user brings along: what they allow and deny, and what of them
//! is refused. That programs do what profiles say is proven where they are compiled.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use serde_json::{Value, json};
use tests::fixtures::Fixture;
use tests::require::{self, Met};
use tests::sandbox::Sandbox;

/// Makes the sandbox of a test, or returns from it.
macro_rules! sandbox {
    () => {{
        if !require::root("a pod takes namespaces") {
            return;
        }
        Sandbox::new()
    }};
}

/// The profile podman ships, which is docker's.
const PODMAN: &str = "/usr/share/containers/seccomp.json";

/// Writes a profile and returns the flag that asks for it.
fn profile(sandbox: &Sandbox, name: &str, profile: &Value) -> String {
    let path = sandbox.path(name);
    fs::write(&path, profile.to_string()).expect("the sandbox can be written");
    format!("seccomp={}", path.display())
}

/// Allows everything but what `rules` say.
fn all_but(rules: &Value) -> Value {
    json!({ "defaultAction": "SCMP_ACT_ALLOW", "syscalls": rules })
}

#[test]
fn a_profile_is_in_force_from_start_to_exec() {
    let sandbox = sandbox!();
    let rules = json!([
        { "names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 28 },
        { "names": ["sethostname"], "action": "SCMP_ACT_ERRNO" },
        { "names": ["chroot"], "action": "SCMP_ACT_KILL_PROCESS" },
        { "names": ["kill"], "action": "SCMP_ACT_ERRNO", "errnoRet": 11,
          "args": [{ "index": 1, "value": 12, "op": "SCMP_CMP_EQ" }] },
    ]);
    let option = profile(&sandbox, "some.json", &all_but(&rules));
    let image = sandbox.fixture(Fixture::App);
    let pod = sandbox.detached("box", ["--security-opt", &option, &image, "/probe", "wait"]);
    for user in ["0", "1000"] {
        let run = |script: &str| pod.exec(&["--user", user], &["sh", "-c", script]);
        assert!(run("mkdir /tmp/x").stderr.contains("No space left on device"));
        assert!(run("kill -12 $$").stderr.contains("Resource temporarily unavailable"));
        assert_eq!(run("kill -0 $$").success(), "");
    }
    assert_eq!(pod.exec(&[], &["/probe", "attempt", "chroot"]).code, 128 + 31);
    let said = sandbox.run_app(&["--security-opt", &option], &["mkdir", "/tmp/x"]);
    assert!(said.stderr.contains("No space left on device"), "{said}");
}

#[test]
fn what_a_profile_leaves_out_has_its_default() {
    let sandbox = sandbox!();
    // What a static program and the launcher behind it need, and not a call more.
    let names = [
        "execve",
        "brk",
        "arch_prctl",
        "mmap",
        "munmap",
        "mprotect",
        "read",
        "write",
        "readv",
        "writev",
        "close",
        "exit_group",
        "exit",
        "set_tid_address",
        "set_robust_list",
        "rseq",
        "prlimit64",
        "getrandom",
        "poll",
        "ppoll",
        "rt_sigaction",
        "rt_sigprocmask",
        "sigaltstack",
        "sched_getaffinity",
        "futex",
        "madvise",
        "fstat",
        "newfstatat",
        "readlink",
        "readlinkat",
        "uname",
        "gettid",
        "getuid",
        "geteuid",
        "getgid",
        "getegid",
        "setgroups",
        "setresgid",
        "setresuid",
        "capset",
        "capget",
        "prctl",
        "ioctl",
        "fcntl",
        "lseek",
        "open",
        "openat",
    ];
    for (action, code) in [("SCMP_ACT_ERRNO", 0), ("SCMP_ACT_KILL_PROCESS", 128 + 31)] {
        let written = json!({
            "defaultAction": action,
            "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86"],
            "syscalls": [{ "names": names.as_slice(), "action": "SCMP_ACT_ALLOW" }],
        });
        let option = profile(&sandbox, "least.json", &written);
        let command = ["/probe", "attempt", "socket-unix"];
        let said = sandbox.run_app(&["--security-opt", &option], &command);
        assert_eq!(said.code, code, "{action}: {said}");
        if code == 0 {
            let made: BTreeMap<String, String> = said.json();
            assert_eq!(made["socket-unix"], "EPERM");
        }
        sandbox.run_app(&["--security-opt", &option], &["/probe", "exit", "7"]).exits(7);
    }
}

#[test]
fn conditions_of_a_profile_follow_the_apps_capabilities() {
    let there = if Path::new(PODMAN).is_file() { Met::Yes } else { Met::No };
    let sandbox = sandbox!();
    if !require::that(there, PODMAN, "the profile most images are run with") {
        return;
    }
    let option = format!("seccomp={PODMAN}");
    let attempt = |flags: &[&str], what: &str| {
        let flags = [&["--security-opt", option.as_str()], flags].concat();
        let made: BTreeMap<String, String> =
            sandbox.run_app(&flags, &["/probe", "attempt", what]).json();
        made[what].clone()
    };
    assert_eq!(attempt(&[], "unshare-uts"), "EPERM");
    assert_eq!(attempt(&["--cap-add", "SYS_ADMIN"], "unshare-uts"), "ok");
    assert_eq!(attempt(&[], "socket-unix"), "ok");
    let sums = "seq 1 200 | sort -n | tail -1 && ls / >/dev/null && sh -c 'exit 3'; echo $?";
    let said = sandbox.run_app(&["--security-opt", &option], &["sh", "-c", sums]);
    assert_eq!(said.success(), "200\n3\n");
}

#[test]
fn a_profile_that_cannot_be_held_is_refused() {
    let sandbox = sandbox!();
    let image = sandbox.fixture(Fixture::App);
    let run = |option: &str| {
        sandbox.pod(["run", "--rm", "--security-opt", option, &image, "/probe", "exit", "0"])
    };
    let odd = all_but(&json!([{ "names": ["read"], "action": "SCMP_ACT_NOTIFY" }]));
    let odd = run(&profile(&sandbox, "odd.json", &odd));
    odd.refuses(125, &["odd.json", "`SCMP_ACT_NOTIFY`"]);
    run("seccomp=/no/such.json").refuses(125, &["`/no/such.json`"]);
    let arg = |value: u64| json!([{ "index": 1, "value": value, "op": "SCMP_CMP_GT" }]);
    let rule = |value| json!({ "names": ["ioctl"], "action": "SCMP_ACT_LOG", "args": arg(value) });
    let rules: Vec<Value> = (0..1500).map(rule).collect();
    let long = run(&profile(&sandbox, "long.json", &all_but(&json!(rules))));
    long.refuses(125, &["a seccomp profile of more than 4096 instructions"]);
}
