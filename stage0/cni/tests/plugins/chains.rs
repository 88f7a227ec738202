//! Chains of plugins that are scripts: what they are told, and what becomes of an attachment when
//! one refuses, when we are killed, when the record is lost. No root, no network.

use std::env;
use std::fs;
use std::path::Path;
use std::process::Command as Process;
use std::sync::Mutex;
use std::thread;

use cni::{
    Args, Asked, BuiltIn, Capabilities, Command, Detached, ErrorKind, Invocation, Owner,
    PluginError, Unasked,
};
use serde_json::{Value, json};

use crate::bench::{Bench, attachment, chain, network, network_of, request};

const NETNS: Option<&Path> = None;

#[test]
fn each_plugin_is_told_what_the_one_before_made_and_all_are_undone_in_reverse() {
    let bench = Bench::new();
    let executor = bench.executor();
    let mut request = request("pod-1");
    request.args = Args::parse("IgnoreUnknown=1").unwrap();
    request.capabilities = Capabilities { mac: Some("x".to_owned()), ..Capabilities::default() };
    let list = network_of(&json!({"cniVersion": "1.0.0", "name": "web", "plugins": [
        {"type": "a", "own": [1, {"x": null}]},
        {"type": "b", "capabilities": {"mac": true}},
        {"type": "c"},
    ]}));
    executor.attach(&list, &request).unwrap();
    let made = |kind: &str| json!({"cniVersion": "1.0.0", "made-by": kind});
    let head = |kind: &str| json!({"cniVersion": "1.0.0", "name": "web", "type": kind});
    let with = |mut config: Value, key: &str, value: Value| {
        config[key] = value;
        config
    };
    let own = with(head("a"), "own", json!([1, {"x": null}]));
    let mac = with(head("b"), "runtimeConfig", json!({"mac": "x"}));
    let configs = |journal: Vec<crate::bench::Told>| -> Vec<(String, String, Value)> {
        let each = |told: crate::bench::Told| (told.command, told.netns, told.config);
        journal.into_iter().map(each).collect()
    };
    let say =
        |command: &str, netns: &str, config: Value| (command.to_owned(), netns.to_owned(), config);
    assert_eq!(
        configs(bench.journal()),
        [
            say("ADD", "/proc/1/fd/9", own.clone()),
            say("ADD", "/proc/1/fd/9", with(mac.clone(), "prevResult", made("a"))),
            say("ADD", "/proc/1/fd/9", with(head("c"), "prevResult", made("b"))),
        ]
    );
    assert!(executor.result(&attachment("pod-1")).unwrap().is_some());
    let checked = executor.check(&attachment("pod-1"), &request.netns).unwrap();
    assert_eq!(checked, Asked::Yes { unsupported: vec![] });
    assert_eq!(bench.asked(), ["a CHECK", "b CHECK", "c CHECK"]);

    // The administrator's file may say anything by now; the record counts.
    let other = network("0.4.0", &["a"]);
    let detached = executor.detach(&attachment("pod-1"), NETNS, Some(&other)).unwrap();
    assert_eq!(detached, Detached::ByRecord);
    assert_eq!(
        configs(bench.journal()),
        [
            say("DEL", "-", with(head("c"), "prevResult", made("c"))),
            say("DEL", "-", with(mac, "prevResult", made("c"))),
            say("DEL", "-", with(own, "prevResult", made("c"))),
        ]
    );
    assert!(bench.left().is_empty());
    assert_eq!(executor.detach(&attachment("pod-1"), NETNS, None).unwrap(), Detached::Nothing);
    assert!(bench.asked().is_empty() && bench.left().is_empty());
}

#[test]
fn a_failure_in_the_middle_undoes_all_with_the_last_result_there_was() {
    let bench = Bench::new();
    let executor = bench.executor();
    bench.on("b", "ADD", r#"echo "looking for x" >&2; echo "no x" >&2
        echo '{"cniVersion":"1.0.0","code":11,"msg":"no x here","details":"looked everywhere"}'; exit 1"#);
    let network = network("1.0.0", &["a", "b", "c"]);
    let error = executor.attach(&network, &request("pod-1")).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Plugin);
    assert_eq!(error.plugin().unwrap().code, PluginError::TRY_AGAIN_LATER);
    assert_eq!(
        chain(&error),
        "cannot attach `eth0` of `pod-1` on network `web`\n\
         plugin `b` refused ADD\n\
         no x here (code 11)\n\
         looked everywhere\n\
         it logged: looking for x\n\
         it logged: no x"
    );
    let journal = bench.journal();
    let asked: Vec<(&str, &str)> =
        journal.iter().map(|told| (told.plugin.as_str(), told.command.as_str())).collect();
    assert_eq!(asked, [("a", "ADD"), ("b", "ADD"), ("c", "DEL"), ("b", "DEL"), ("a", "DEL")]);
    assert!(journal[2..].iter().all(|told| told.config["prevResult"]["made-by"] == "a"));
    assert!(bench.left().is_empty());
}

#[test]
fn what_cannot_be_undone_now_is_undone_by_the_next_sweep() {
    let bench = Bench::new();
    let executor = bench.executor();
    bench.on("c", "ADD", "exit 3");
    bench.on("b", "DEL", r#"echo '{"code":100,"msg":"stuck"}'; exit 1"#);
    let network = network("1.0.0", &["a", "b", "c"]);
    let error = executor.attach(&network, &request("pod-1")).unwrap_err();
    assert_eq!(
        chain(&error),
        "cannot attach `eth0` of `pod-1` on network `web`\n\
         plugin `c` ended ADD with exit status: 3\n\
         undoing what there was of it failed, too\n\
         plugin `b` refused DEL\n\
         stuck (code 100)"
    );
    assert_eq!(bench.asked(), ["a ADD", "b ADD", "c ADD", "c DEL", "b DEL", "a DEL"]);
    assert_eq!(bench.left(), ["pod-1"]);
    assert!(executor.result(&attachment("pod-1")).unwrap().is_none());
    let again = executor.attach(&network, &request("pod-1")).unwrap_err();
    assert_eq!(again.kind(), ErrorKind::Attached);

    let swept = executor.sweep(&|_| true).unwrap();
    assert!(swept.detached.is_empty() && swept.failed.is_empty(), "who lives is left alone");
    let swept = executor.sweep(&|_| false).unwrap();
    assert_eq!(swept.failed[0].0, attachment("pod-1"));
    bench.heal("b", "DEL");
    assert_eq!(executor.sweep(&|_| false).unwrap().detached, [attachment("pod-1")]);
    assert!(bench.left().is_empty());
}

#[test]
fn code_of_ours_is_called_before_any_program_of_its_name() {
    struct Ours(Mutex<Vec<Invocation>>);
    impl BuiltIn for Ours {
        fn kind(&self) -> &'static str {
            "b"
        }

        fn call(&self, invocation: &Invocation) -> Result<Value, PluginError> {
            self.0.lock().unwrap().push(invocation.clone());
            let config: Value = invocation.config()?;
            match (invocation.command, config["refuses"].as_str()) {
                (Command::Add, Some(why)) => Err(PluginError::new(101, why)),
                (Command::Add, None) => Ok(json!({"cniVersion": "1.0.0",
                    "ips": [{"address": "10.0.0.2/24"}], "saw": config["prevResult"]})),
                _ => Ok(Value::Null),
            }
        }
    }
    let bench = Bench::new();
    let ours = Ours(Mutex::default());
    let mut caller = bench.caller();
    caller.built_in.push(&ours);
    let executor = bench.executor_of(caller);
    let result = executor.attach(&network("1.0.0", &["a", "b"]), &request("pod-1")).unwrap();
    assert_eq!(result.ips[0].address, "10.0.0.2/24".parse().unwrap());
    executor.detach(&attachment("pod-1"), NETNS, None).unwrap();
    assert_eq!(bench.asked(), ["a ADD", "a DEL"]);
    let calls = ours.0.lock().unwrap().clone();
    assert_eq!(
        calls.iter().map(|call| call.command).collect::<Vec<_>>(),
        [Command::Add, Command::Del]
    );
    let subject = calls[0].subject.as_ref().unwrap();
    assert_eq!((subject.container.as_str(), subject.if_name.as_str()), ("pod-1", "eth0"));
    assert_eq!(calls[1].stdin.read::<Value>("prevResult").unwrap().unwrap()["saw"]["made-by"], "a");
    drop(calls);

    let refusing = network_of(&json!({"cniVersion": "1.0.0", "name": "web",
        "plugins": [{"type": "b", "refuses": "port 80 is taken"}]}));
    let error = executor.attach(&refusing, &request("pod-1")).unwrap_err();
    assert_eq!(error.plugin(), Some(&PluginError::new(101, "port 80 is taken")));
    assert!(bench.left().is_empty());
}

#[test]
fn a_record_that_is_lost_or_damaged_does_not_stop_del() {
    let bench = Bench::new();
    let executor = bench.executor();
    let network = network("1.0.0", &["a", "b"]);
    let damage = || {
        executor.attach(&network, &request("pod-1")).unwrap();
        let record = bench.at("net/attachments/pod-1/web@eth0.json");
        fs::write(record, b"{\"kind\":\0").unwrap();
        bench.journal();
    };
    damage();
    assert_eq!(executor.result(&attachment("pod-1")).unwrap_err().kind(), ErrorKind::Damaged);
    let detached = executor.detach(&attachment("pod-1"), NETNS, Some(&network)).unwrap();
    assert_eq!(detached, Detached::ByConfiguration);
    assert_eq!(bench.asked(), ["b DEL", "a DEL"]);
    assert!(bench.left().is_empty());

    damage();
    let error = executor.detach(&attachment("pod-1"), NETNS, None).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Damaged);
    assert!(bench.asked().is_empty() && bench.left().is_empty(), "nobody could ever read it");

    damage();
    assert_eq!(executor.sweep(&|_| false).unwrap().failed.len(), 1);
    assert!(bench.left().is_empty());
    // Never attached, or lost altogether: whoever has the configuration can make sure.
    let detached = executor.detach(&attachment("pod-2"), NETNS, Some(&network)).unwrap();
    assert_eq!(detached, Detached::ByConfiguration);
    assert_eq!(bench.asked(), ["b DEL", "a DEL"]);
}

/// What is run in a process of its own by the test below, to be killed.
#[test]
fn a_runtime_that_may_be_killed() {
    let Some(directory) = env::var_os("CNI_TESTS_VICTIM") else { return };
    let mut caller = Bench::new().caller();
    caller.plugin_path = cni::PluginPath::parse(directory.to_str().unwrap()).unwrap();
    let directory = Path::new(&directory).join("net");
    let executor =
        cni::Executor::new(caller, directory, std::time::Duration::from_secs(20)).unwrap();
    executor.attach(&network("1.0.0", &["a", "b", "c"]), &request("pod-1")).unwrap();
}

#[test]
fn a_kill_in_the_middle_of_add_is_undone_after_the_plugin_that_goes_on_has_ended() {
    let bench = Bench::new();
    bench.on("b", "ADD", r#"kill -9 $PPID; sleep 0.5; echo 'b ENDED - {}' >> "$here/journal""#);
    let mut victim = Process::new(env::current_exe().unwrap());
    victim.args(["--exact", "chains::a_runtime_that_may_be_killed", "--test-threads=1"]);
    let killed = victim.env("CNI_TESTS_VICTIM", bench.at("")).output().unwrap();
    assert!(!killed.status.success());
    let executor = bench.executor();
    assert_eq!(executor.attachments().unwrap(), [attachment("pod-1")]);
    let swept = executor.sweep(&|_| false).unwrap();
    assert_eq!(swept.busy, ["pod-1".parse().unwrap()], "a plugin is still at work");
    executor.detach(&attachment("pod-1"), NETNS, None).unwrap();
    let journal = bench.journal();
    let asked: Vec<String> =
        journal.iter().map(|told| format!("{} {}", told.plugin, told.command)).collect();
    assert_eq!(asked, ["a ADD", "b ADD", "b ENDED", "c DEL", "b DEL", "a DEL"]);
    assert_eq!(journal[3].config["prevResult"]["made-by"], "a");
    assert!(bench.left().is_empty());
}

#[test]
fn check_is_for_what_is_attached_and_may_be_switched_off() {
    let bench = Bench::new();
    let executor = bench.executor();
    let netns = request("x").netns;
    let error = executor.check(&attachment("pod-1"), &netns).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    for (version, disabled, why) in
        [("0.3.1", false, Unasked::Version), ("0.4.0", true, Unasked::Disabled)]
    {
        let list = json!({"cniVersion": version, "name": "web", "disableCheck": disabled,
            "plugins": [{"type": "a"}]});
        executor.attach(&network_of(&list), &request("pod-1")).unwrap();
        assert_eq!(executor.check(&attachment("pod-1"), &netns).unwrap(), Asked::No(why));
        executor.detach(&attachment("pod-1"), NETNS, None).unwrap();
    }
    assert!(!bench.asked().contains(&"a CHECK".to_owned()));
    executor.attach(&network("0.4.0", &["a", "b"]), &request("pod-1")).unwrap();
    bench.on("a", "CHECK", r#"echo '{"code":102,"msg":"address is gone"}'; exit 1"#);
    let error = executor.check(&attachment("pod-1"), &netns).unwrap_err();
    assert!(chain(&error).ends_with("plugin `a` refused CHECK\naddress is gone (code 102)"));
}

#[test]
fn status_and_gc_are_asked_of_those_who_know_them() {
    let bench = Bench::new();
    let executor = bench.executor();
    let old = network("1.0.0", &["a"]);
    assert_eq!(executor.status(&old).unwrap(), Asked::No(Unasked::Version));
    let unasked = executor.collect_garbage(&old, Owner::Ours, &|_| true).unwrap();
    assert_eq!(unasked, Asked::No(Unasked::Version));
    assert!(bench.asked().is_empty());

    let new = network("1.1.0", &["a", "b"]);
    bench.on("a", "STATUS", "");
    let unsupported = vec!["b".parse().unwrap()];
    assert_eq!(executor.status(&new).unwrap(), Asked::Yes { unsupported });
    bench.on("b", "STATUS", r#"echo '{"code":51,"msg":"no uplink"}'; exit 1"#);
    let error = executor.status(&new).unwrap_err();
    assert_eq!(error.plugin().unwrap().code, PluginError::NOT_AVAILABLE_AND_LIMITED);
    assert_eq!(
        chain(&error),
        "network `web` is not ready\nplugin `b` refused STATUS\nno uplink (code 51)"
    );
    for container in ["pod-1", "pod-2"] {
        executor.attach(&new, &request(container)).unwrap();
    }
    bench.journal();
    let living = |each: &cni::Attachment| each.container.as_str() == "pod-2";
    bench.on("b", "GC", "exit 5");
    bench.on("a", "GC", "");
    let error = executor.collect_garbage(&new, Owner::Ours, &living).unwrap_err();
    assert!(
        chain(&error).ends_with("plugin `b` ended GC with exit status: 5"),
        "{}",
        chain(&error)
    );
    let journal = bench.journal();
    assert_eq!(journal.len(), 2);
    let valid = &journal[0].config["cni.dev/valid-attachments"];
    assert_eq!(*valid, json!([{"containerID": "pod-2", "ifname": "eth0"}]));

    let shared = executor.collect_garbage(&new, Owner::Shared, &living).unwrap();
    assert_eq!(shared, Asked::No(Unasked::Shared));
    let disabled = json!({"cniVersion": "1.1.0", "name": "web", "disableGC": true,
        "plugins": [{"type": "a"}]});
    let disabled = executor.collect_garbage(&network_of(&disabled), Owner::Ours, &living).unwrap();
    assert_eq!(disabled, Asked::No(Unasked::Disabled));
    assert!(bench.asked().is_empty());
    assert_eq!(executor.sweep(&|_| false).unwrap().detached.len(), 2);
}

#[test]
fn of_several_versions_the_newest_that_all_plugins_speak_is_spoken() {
    let bench = Bench::new();
    let executor = bench.executor();
    let of = |versions: &[&str]| {
        network_of(&json!({"cniVersion": "0.3.1", "cniVersions": versions, "name": "web",
            "plugins": [{"type": "a"}, {"type": "b"}]}))
    };
    bench.on("b", "ADD", r#"echo '{"cniVersion":"1.0.0","ips":[{"address":"10.0.0.2/24"}]}'"#);
    bench.on("b", "VERSION", r#"echo '{"supportedVersions":["0.3.1","0.4.0"]}'"#);
    executor.attach(&of(&["1.1.0", "1.0.0", "0.4.0"]), &request("pod-1")).unwrap();
    executor.detach(&attachment("pod-1"), NETNS, None).unwrap();
    let journal = bench.journal();
    let told = |told: &crate::bench::Told| {
        format!("{} {} {}", told.plugin, told.command, told.config["cniVersion"])
    };
    assert_eq!(
        journal.iter().map(told).collect::<Vec<_>>(),
        [
            r#"a VERSION "1.1.0""#,
            r#"b VERSION "1.1.0""#,
            r#"a ADD "0.4.0""#,
            r#"b ADD "0.4.0""#,
            r#"b DEL "0.4.0""#,
            r#"a DEL "0.4.0""#,
        ]
    );
    // What the last plugin said in another version was written in the one agreed on.
    let result = &journal[5].config["prevResult"];
    assert_eq!(
        (&result["cniVersion"], &result["ips"][0]["version"]),
        (&json!("0.4.0"), &json!("4"))
    );

    bench.on("b", "VERSION", r#"echo '{"supportedVersions":["0.2.0"]}'"#);
    let error = executor.attach(&of(&["1.0.0"]), &request("pod-1")).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Version);
    assert!(chain(&error).contains(r#"it speaks ["0.2.0"]"#), "{}", chain(&error));
    assert!(bench.left().is_empty());
}

#[test]
fn nobody_works_on_a_container_at_the_same_time() {
    let bench = Bench::new();
    let executor = bench.executor();
    let busy = r#"mkdir "$here/busy-$CNI_CONTAINERID" || echo "$kind OVERLAP - {}" >> "$here/journal"
        sleep 0.02; rmdir "$here/busy-$CNI_CONTAINERID""#;
    bench.on("a", "ADD", &format!("{busy}; echo '{{}}'"));
    bench.on("a", "DEL", busy);
    bench.on("a", "GC", r#"[ -z "$(ls -d "$here"/busy-* 2>/dev/null)" ] || echo "$kind OVERLAP - {}" >> "$here/journal""#);
    let network = network("1.1.0", &["a"]);
    thread::scope(|scope| {
        let (executor, network) = (&executor, &network);
        for at in 0..8 {
            scope.spawn(move || {
                let mut request = request(&format!("pod-{}", at % 2));
                request.if_name = format!("eth{at}").parse().unwrap();
                let mut attachment = attachment(request.container.as_str());
                attachment.if_name = request.if_name.clone();
                for _ in 0..3 {
                    executor.attach(network, &request).unwrap();
                    executor.detach(&attachment, NETNS, None).unwrap();
                }
            });
        }
        scope.spawn(|| {
            for _ in 0..5 {
                executor.collect_garbage(network, Owner::Ours, &|_| true).unwrap();
            }
        });
    });
    let asked = bench.asked();
    assert_eq!(asked.len(), 2 * 24 + 5, "{asked:?}");
    assert!(!asked.contains(&"a OVERLAP".to_owned()));
    assert!(bench.left().is_empty());
}
