//! A supervisor, its wall, and a machine that does what it likes.
//!
//! Real are the supervisor, the wall, the cage its programs are started in, sockets and pipes, and
//! the servers of volumes; the programs in the cage are this very file under other names. What must hold: whatever the other
//! side says or does not say, the pod ends, with a status that tells what happened, and nothing of
//! it is left. Without a test harness, for that runs tests on threads and `clone3` refuses to be
//! called beside any. Needs root.

#![forbid(unsafe_code)]
#![allow(clippy::print_stdout, clippy::unwrap_used, reason = "a test, though not of the harness")]

mod fakes;
mod pod;

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::panic;
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use nix::sys::stat::{Mode, SFlag, makedev, mknod};
use pod_abi::AppName;
use pod_abi::control::{Reply, Request};
use pod_abi::processes::MAX_PROCESSES;
use pod_abi::status::AppState;
use rustix::fs::{StatVfsMountFlags, statvfs};
use serde_json::json;

use crate::pod::{NEVER_READY, Pod, Said};

fn main() -> ExitCode {
    let mut arguments = std::env::args();
    let program = arguments.next().unwrap_or_default();
    match (program.rsplit('/').next(), arguments.next().as_deref()) {
        (Some("vmm"), _) => fakes::monitor(),
        (Some("fsd"), _) => fsd::program::main(),
        (_, Some("--supervise")) => pod::supervise(&arguments.next().unwrap()),
        (_, wanted) => promises(wanted.filter(|word| !word.starts_with('-'))),
    }
}

fn promises(wanted: Option<&str>) -> ExitCode {
    if !nix::unistd::geteuid().is_root() {
        println!("skipped: needs root");
        return ExitCode::SUCCESS;
    }
    let mut failed = 0;
    for (name, promise) in PROMISES {
        if wanted.is_some_and(|wanted| !name.contains(wanted)) {
            continue;
        }
        let kept = panic::catch_unwind(promise).is_ok();
        println!("test {name} ... {}", if kept { "ok" } else { "FAILED" });
        failed += u8::from(!kept);
    }
    ExitCode::from(failed)
}

macro_rules! promises {
    ($($path:ident),* $(,)?) => {
        const PROMISES: &[(&str, fn())] = &[$((stringify!($path), $path),)*];
    };
}

promises! {
    an_honest_machine_runs_a_pod,
    what_serves_a_guest_is_in_a_cage,
    a_guest_that_lies_ends_its_pod,
    a_guest_that_is_silent_ends_its_pod,
    a_guest_that_refuses_is_believed_and_tamed,
    every_end_of_a_machine_is_told_apart,
    a_monitor_that_dies_is_told_with_its_last_words,
    a_guest_that_hangs_up_and_lives_is_told_as_what_it_is,
    a_monitor_that_talks_without_end_is_not_heard_for_ever,
    a_program_that_cannot_be_executed_is_told,
    what_serves_a_guest_cannot_write_its_own_program,
    volumes_of_the_host_are_served_from_a_cage,
    a_server_that_dies_ends_its_pod,
    memory_runs_out_only_in_apps_there_are,
    processes_are_listed_as_far_as_they_make_sense,
    who_does_not_want_to_wait_for_a_start_need_not,
    a_guest_that_counts_late_holds_nothing_up,
    who_asks_for_the_end_is_heard_beside_a_question,
    nothing_survives_the_supervisor,
    a_layer_that_is_no_file_is_refused,
    an_app_without_layers_gets_no_disk_of_anything_else,
}

fn an_honest_machine_runs_a_pod() {
    let said = Pod::new("honest").run();
    assert_eq!((said.code, &said.error), (0, &None), "{said:?}");
    assert_eq!(said.log("web"), "hello from a guest\n");
    assert!(matches!(said.status().apps[0].state, AppState::Exited), "{said:?}");
}

/// The monitor looks around, and says what it finds on the app's output.
fn what_serves_a_guest_is_in_a_cage() {
    let said = Pod::new("look-around").run();
    let found = said.log("web");
    let expected = [
        "pid 1",
        "uid 0",
        "environment 0",
        "root empty, read-only true",
        "descriptors 0 1 2 3 4 5 6 7 8 9 16",
        "network interfaces 1",
        "blocked signals none",
    ];
    for line in expected {
        assert!(found.lines().any(|one| one == line), "{line}: {found}");
    }
}

fn a_guest_that_lies_ends_its_pod() {
    for lie in [
        "no-frame",
        "long-frame",
        "answer-first",
        "greet-twice",
        "wrong-answer",
        "two-trees",
        "a-socket",
        "flood",
        "unasked-answer",
    ] {
        let said = Pod::new(lie).run();
        assert_eq!(said.code(), "vm.agent-lost", "{lie}: {said:?}");
        assert_eq!(said.code, 125, "{lie}");
    }
    let said = Pod::new("other-version").run();
    assert_eq!(said.code(), "vm.guest-version", "{said:?}");
    assert!(said.hints().contains("stage1-kvm setup"), "{said:?}");
}

fn a_guest_that_is_silent_ends_its_pod() {
    for (silence, code) in
        pod::SILENT.into_iter().zip(["vm.boot", "vm.agent-lost", "vm.agent-lost"])
    {
        let begun = Instant::now();
        let said = Pod::new(silence).run();
        assert_eq!(said.code(), code, "{silence}: {said:?}");
        assert!(begun.elapsed() < Duration::from_secs(8), "{silence}");
    }
    // What its console has shown is asked for before it is killed.
    let said = Pod::new("no-greeting").run();
    assert!(said.causes().contains("console: last line of a console"), "{said:?}");
}

fn a_guest_that_refuses_is_believed_and_tamed() {
    for word in ["refuse", "fail"] {
        let said = Pod::new(word).run();
        let error = said.error.as_ref().unwrap();
        assert_eq!(error.code, "guest.failed", "{word}: not as if we had said it");
        assert_eq!(
            (&error.hints, &error.causes[..]),
            (&Vec::new(), &["the guest suggests: run this".to_owned()][..])
        );
        assert_eq!(error.message, "\u{fffd}[2Jno", "{word}");
    }
}

fn every_end_of_a_machine_is_told_apart() {
    for (end, code) in [
        ("end-powered-off", "vm.powered-off"),
        ("end-reset", "vm.reset"),
        ("end-crashed", "vm.crashed"),
        ("end-failed", "vm.monitor-failed"),
        ("end-panic", "vm.crashed"),
        ("end-long", "vm.killed"),
    ] {
        let said = Pod::new(end).run();
        assert_eq!(said.code(), code, "{end}: {said:?}");
        assert!(!format!("{:?}", said.error).contains('\u{1b}'), "{said:?}");
    }
}

fn a_monitor_that_dies_is_told_with_its_last_words() {
    let said = Pod::new("die").run();
    assert_eq!(said.code(), "vm.killed", "{said:?}");
    let message = &said.error.as_ref().unwrap().message;
    assert!(message.ends_with("it exited with status 3"), "{message}");
    assert!(said.causes().contains("it said: oh dear"), "{said:?}");
    let said = Pod::new("die-booted").run();
    assert_eq!(said.code(), "vm.killed", "{said:?}");
}

fn a_guest_that_hangs_up_and_lives_is_told_as_what_it_is() {
    for when in ["hang-up", "hang-up-late"] {
        let said = Pod::new(when).run();
        assert_eq!(said.code(), "vm.agent-lost", "{when}: {said:?}");
        assert!(said.error.as_ref().unwrap().message.contains("has closed"), "{said:?}");
    }
}

fn a_monitor_that_talks_without_end_is_not_heard_for_ever() {
    let said = Pod::new("flood-the-helm").run();
    assert_eq!(said.code(), "vm.agent-lost", "{said:?}");
}

fn a_program_that_cannot_be_executed_is_told() {
    let pod = Pod::new("honest");
    fs::remove_file(pod.path("programs/vmm")).unwrap();
    fs::write(pod.path("programs/vmm"), "no program").unwrap();
    fs::set_permissions(pod.path("programs/vmm"), fs::Permissions::from_mode(0o755)).unwrap();
    let said = pod.run();
    let message = said.error.as_ref().map_or("", |error| &error.message);
    assert!(message.starts_with("cannot execute `vmm`, execveat()"), "{said:?}");
}

/// `/proc/PID/exe` leads to the file itself, past all that hides it (CVE-2019-5736).
fn what_serves_a_guest_cannot_write_its_own_program() {
    let pod = Pod::new("lives");
    let volume = pod.path("programs").to_str().unwrap().to_owned();
    let pod = pod.with_volume(&volume, true).start();
    pod.await_log("web", "alive\n");
    let children = pod.children();
    assert_eq!(children.len(), 2, "{children:?}");
    for child in children {
        let program = statvfs(format!("/proc/{child}/exe")).unwrap();
        assert!(program.f_flag.contains(StatVfsMountFlags::RDONLY), "{child}");
    }
    pod.signal(Signal::SIGKILL);
    let _ = pod.end();
}

fn volumes_of_the_host_are_served_from_a_cage() {
    const READ_ONLY: i32 = 30;
    let run = |of: &str, read_only: bool| {
        let pod = Pod::new("read-volume");
        let path = pod.path("volume");
        fs::create_dir(&path).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o777)).unwrap();
        fs::write(path.join("file"), "text").unwrap();
        let path = pod.path(of);
        pod.with_volume(path.to_str().unwrap(), read_only).run()
    };
    let said = run("volume", false);
    assert_eq!((said.code, &said.error), (0, &None), "{said:?}");
    assert_eq!(said.log("web"), "file: text\nnew: 0\n");
    // Ids in the cage are those of the host.
    let new = fs::metadata(said.path("volume/new")).unwrap();
    assert_eq!((new.uid(), new.gid(), new.mode()), (1000, 1000, 0o100_644));
    let said = run("volume", true);
    assert_eq!(said.log("web"), format!("file: text\nnew: {READ_ONLY}\n"), "{said:?}");
    // A single file is in a directory of its own, in which nothing can be made.
    let said = run("volume/file", false);
    assert_eq!(said.log("web"), format!("file: text\nnew: {READ_ONLY}\n"), "{said:?}");
}

fn a_server_that_dies_ends_its_pod() {
    let volume = json!([{ "name": "data", "source": { "host": { "path": "/usr/share" } } }]);
    for when in ["server-dies-early", "server-dies-late"] {
        let said = Pod::new(when).with("volumes", &volume).run();
        assert_eq!(said.code(), "volume.server-died", "{when}: {said:?}");
        assert!(said.error.as_ref().unwrap().message.contains("volume `data`"), "{said:?}");
    }
    let said = Pod::new("honest").with("volumes", &volume).run();
    assert_eq!((said.code, &said.error), (0, &None), "{said:?}");
    // A monitor that dies takes its servers along, and is the cause, whatever it was about.
    let said = Pod::new("die-in-a-request").with("volumes", &volume).run();
    assert_eq!(said.code(), "vm.killed", "{said:?}");
    let device = json!([{ "name": "data", "source": { "host": { "path": "/dev/null" } } }]);
    let said = Pod::new("honest").with("volumes", &device).run();
    assert_eq!(said.code(), "stage1.not-given", "{said:?}");
}

fn memory_runs_out_only_in_apps_there_are() {
    let said = Pod::new("memory-ran-out").run();
    assert_eq!((said.code, &said.error), (0, &None), "{said:?}");
    let events = said.file("pod/events.jsonl");
    let lines: Vec<_> =
        events.lines().filter(|line| line.to_lowercase().contains("memory")).collect();
    assert!(lines.len() == 1 && lines[0].contains("web"), "{events}");
}

fn processes_are_listed_as_far_as_they_make_sense() {
    let pod = Pod::new("lists-too-much").start();
    pod.await_log("web", "alive\n");
    let Some(Reply::Processes(Some(listing))) = pod.ask(&Request::Processes { app: None }) else {
        panic!("no list")
    };
    // Of two thousand, nine are of an app the pod does not have.
    assert_eq!((listing.processes.len(), listing.left_out), (MAX_PROCESSES, u32::MAX));
    let command = "\u{fffd}[2J\u{fffd}".repeat(20);
    for process in &listing.processes {
        assert_eq!(process.app.as_ref().map(AppName::as_str), Some("web"));
        assert_eq!((process.state, &process.command), ('?', &command));
    }
    pod.signal(Signal::SIGKILL);
    let _ = pod.end();
    let pod = Pod::new("lists-nothing").start();
    pod.await_log("web", "alive\n");
    let reply = pod.ask(&Request::Processes { app: None });
    assert!(matches!(reply, Some(Reply::Refused(_))), "{reply:?}");
    assert_eq!(pod.end().code(), "vm.agent-lost");
}

fn who_does_not_want_to_wait_for_a_start_need_not() {
    for script in [NEVER_READY, "never-boots", "never-configures", "never-lays-out"] {
        let pod = Pod::new(script).start();
        // Signals are blocked before it is there.
        pod.await_file("run/control.sock");
        if script != NEVER_READY && script != "never-boots" {
            pod.await_wait();
        }
        pod.signal(Signal::SIGTERM);
        let said: Said = pod.end();
        assert_eq!((said.code, &said.error), (137, &None), "{script}: {said:?}");
    }
}

fn a_guest_that_counts_late_holds_nothing_up() {
    let pod = Pod::new("counts-late").start();
    pod.await_log("web", "alive\n");
    for _ in 0..2 {
        let Some(Reply::Stats(stats)) = pod.ask(&Request::Stats) else { panic!("no counts") };
        assert_eq!(stats.apps, []);
    }
    // Its answer is heard before the next, and taken for neither that nor a lie.
    assert_eq!(pod.ask(&Request::Pause), Some(Reply::Done));
    assert_eq!(pod.ask(&Request::Resume), Some(Reply::Done));
    assert!(matches!(pod.ask(&Request::Shutdown { grace_ms: None }), Some(Reply::Done)));
    let said = pod.end();
    assert_eq!((said.code, &said.error), (0, &None), "{said:?}");
}

fn who_asks_for_the_end_is_heard_beside_a_question() {
    let pod = Pod::new("never-pauses").start();
    pod.await_log("web", "alive\n");
    let asked = pod.tell(&Request::Pause);
    pod.await_wait();
    pod.signal(Signal::SIGTERM);
    assert!(matches!(pod::reply(asked), Some(Reply::Refused(_))));
    // In order: its app has ended by itself.
    let said = pod.end();
    assert_eq!((said.code, &said.error), (0, &None), "{said:?}");
}

fn nothing_survives_the_supervisor() {
    let pod = Pod::new("lives").start();
    pod.await_log("web", "alive\n");
    let monitor = pod.status().init.unwrap();
    pod.signal(Signal::SIGKILL);
    let _ = pod.end();
    pod::await_gone(monitor);
    // What it has left is `pod reap`'s; the next of this name takes its cgroup over, and away.
    assert_eq!(Pod::new("honest").run().code, 0);
}

fn a_layer_that_is_no_file_is_refused() {
    let pod = Pod::new("honest");
    fs::remove_file(pod.path("layers/a/layer.erofs")).unwrap();
    symlink("/etc/passwd", pod.path("layers/a/layer.erofs")).unwrap();
    let said = pod.run();
    assert!(said.error.is_some() && said.code == 125, "{said:?}");
    let layer = |made: &dyn Fn(&Path)| {
        let pod = Pod::new("honest");
        fs::remove_file(pod.path("layers/a/layer.erofs")).unwrap();
        made(&pod.path("layers/a/layer.erofs"));
        pod.run()
    };
    let device = |kind| move |path: &Path| mknod(path, kind, Mode::S_IRUSR, makedev(1, 3)).unwrap();
    for said in [
        layer(&|path| fs::write(path, b"short").unwrap()),
        layer(&|path| fs::create_dir(path).unwrap()),
        layer(&device(SFlag::S_IFCHR)),
    ] {
        assert_eq!((said.code(), said.code), ("image.file", 125), "{said:?}");
    }
    // A memory disk, where there are any; elsewhere it cannot be opened at all.
    let said = layer(&device(SFlag::S_IFBLK));
    assert!(said.error.is_some() && said.code == 125, "{said:?}");
}

/// CVE-2026-24054: where an image had no layers, a device of the host took their place.
fn an_app_without_layers_gets_no_disk_of_anything_else() {
    let said = Pod::without_layers().run();
    let descriptors = "descriptors 0 1 2 3 4 5 6 7 8 9";
    assert_eq!((said.code, &said.error), (0, &None), "{said:?}");
    assert!(said.log("web").lines().any(|line| line == descriptors), "{}", said.log("web"));
}
