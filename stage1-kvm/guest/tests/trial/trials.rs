//! The trials.

use std::env;
use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::thread;
use std::time::{Duration, Instant};

use pod_abi::app::{EnvVar, Mount, MountSource, Stdio};
use pod_abi::control::WindowSize;
use pod_abi::credential::{Credential, CredentialName};
use pod_abi::exit::Ended;
use pod_abi::guest::{
    Answer, AppStreams, ExecStreams, FromGuest, Link, Route, SHARES, Share, TerminalStreams,
    TerminalWord, ToGuest,
};
use pod_abi::inner::{FromInit, Target, ToInit};
use pod_abi::processes::Listed;
use pod_abi::volume::{Volume, VolumeSource};
use pod_abi::{AppName, PodPath, VolumeName};
use rustix::process::geteuid;
use tempfile::TempDir;

use crate::app::pattern;
use crate::host::{Host, Programs, SIZE};
use crate::order::{app, name, order, process};
use crate::place::NIC;

type Trial = (&'static str, fn(&Programs));

const TRIALS: &[Trial] = &[
    ("last_words_arrive_before_the_end_of_their_process", last_words),
    ("a_host_that_reads_late_has_every_byte_and_every_status", late_reader),
    ("input_flows_to_its_end", input),
    ("a_host_that_does_not_read_holds_up_its_app_and_nobody_else", held_up),
    ("an_app_whose_output_nobody_reads_any_more_is_told", broken_pipe),
    ("a_process_has_streams_or_a_terminal_of_its_own", processes),
    ("an_app_keeps_its_terminal_and_its_size", terminal),
    ("processes_are_listed_as_the_guest_and_as_their_app_see_them", listed),
    ("an_app_comes_and_goes", comes_and_goes),
    ("an_app_that_goes_takes_no_time_however_deep_its_files_lie", deep_files),
    ("an_app_sees_nothing_of_the_guest", surroundings),
    ("volumes_and_credentials_are_where_they_belong", volumes),
    ("an_order_may_be_longer_than_a_frame", long_order),
    ("an_app_has_the_interfaces_that_were_said_and_reaches_whom_they_lead_to", interfaces),
    ("an_interface_that_the_machine_has_not_is_told", no_interface),
    ("a_guest_without_a_host_ends", abandoned),
    ("a_guest_whose_host_hears_no_words_of_stage2_init_ends_with_a_word", unheard),
    ("that_stage2_init_was_killed_is_told", init_killed),
    ("what_makes_no_sense_is_refused", refused),
];

/// Runs those whose names hold a word of the arguments, all without.
pub(crate) fn run(arguments: &[String]) -> ExitCode {
    let words: Vec<&String> = arguments.iter().filter(|word| !word.starts_with("--")).collect();
    if arguments.iter().any(|word| word == "--list") {
        TRIALS.iter().for_each(|(trial, _)| println!("{trial}: test"));
        return ExitCode::SUCCESS;
    }
    let cannot = if !geteuid().is_root() { Some("root") } else { None };
    let image = TempDir::new().unwrap();
    let programs = match cannot {
        Some(what) => Err(what),
        None => make(image.path()),
    };
    let programs = match programs {
        Ok(programs) => programs,
        Err(what) => {
            skip(what);
            return ExitCode::SUCCESS;
        }
    };
    let mut passed = 0;
    for (trial, go) in TRIALS {
        if words.is_empty() || words.iter().any(|word| trial.contains(word.as_str())) {
            let begin = Instant::now();
            go(&programs);
            println!("trial {trial} ... ok ({} ms)", begin.elapsed().as_millis());
            passed += 1;
        }
    }
    // One that fails ends all of it. The line is what tests are counted by.
    let left = TRIALS.len() - passed;
    println!(
        "test result: ok. {passed} passed; 0 failed; 0 ignored; 0 measured; {left} filtered out"
    );
    ExitCode::SUCCESS
}

/// Says why nothing can be tried here, also where such tests are counted.
fn skip(what: &str) {
    let line = format!("trial of the guest: needs {what}: it puts a wall up around a pod\n");
    print!("{line}");
    if let Some(record) = env::var_os("POD_TESTS_SKIPPED") {
        let record = fs::OpenOptions::new().append(true).open(record);
        record.unwrap().write_all(line.as_bytes()).unwrap();
    }
}

/// Makes an image of this program, and finds stage2-init.
fn make(place: &Path) -> Result<Programs, &'static str> {
    let tree = place.join("tree");
    fs::create_dir(&tree).unwrap();
    fs::create_dir(tree.join("tmp")).unwrap();
    fs::set_permissions(tree.join("tmp"), fs::Permissions::from_mode(0o1777)).unwrap();
    let own = env::current_exe().unwrap();
    fs::copy(&own, tree.join("trial")).unwrap();
    let image = place.join("image");
    let made = Command::new("mkfs.erofs").arg("--quiet").arg(&image).arg(&tree).status();
    if !made.is_ok_and(|status| status.success()) {
        return Err("`mkfs.erofs`");
    }
    let beside: PathBuf = own.ancestors().nth(2).unwrap().join("stage2-init");
    let mut build = Command::new(env!("CARGO"));
    build.args(["build", "--quiet", "--package", "stage2-init"]);
    if own.components().any(|part| part.as_os_str() == "release") {
        build.arg("--release");
    }
    // Whatever it says, what counts is whether the program is there.
    let _ = build.status();
    if !beside.is_file() {
        return Err("`stage2-init`, which `cargo build` makes");
    }
    Ok(Programs { stage2_init: beside, image })
}

fn exited(code: u8) -> impl Fn(FromInit) -> Option<()> {
    move |word| match word {
        FromInit::AppEnded { exit: Ended::Exited { code: got }, error: None, .. } => {
            assert_eq!(got, code);
            Some(())
        }
        FromInit::AppEnded { .. } => panic!("{word:?}"),
        _ => None,
    }
}

fn over(host: &mut Host, code: u8) {
    assert_eq!(host.word_of(|word| if_over(&word)), code);
    assert_eq!(host.inner.as_mut().unwrap().hear::<FromInit>(), None);
    assert_eq!(host.end(), (0, String::new()));
}

fn if_over(word: &FromInit) -> Option<u8> {
    match word {
        FromInit::PodEnded { code } => Some(*code),
        _ => None,
    }
}

fn started(word: FromInit) -> Option<()> {
    matches!(word, FromInit::AppStarted { .. }).then_some(())
}

fn last_words(programs: &Programs) {
    let words = ["fill", "60000", "complain", "oh", "exit", "7"];
    let mut host = Host::run(programs, order(vec![app("web", &words, Stdio::Logged)], Vec::new()));
    host.word_of(exited(7));
    let [stdout, stderr] = host.tokens["web"][..] else { panic!() };
    // By now, not at the end: nothing is waited for.
    assert_eq!(host.said_by_now(stdout), pattern(60_000));
    assert_eq!(host.said_by_now(stderr), b"oh");
    over(&mut host, 7);
    assert_eq!(host.all_said(stdout), b"");
}

fn late_reader(programs: &Programs) {
    for count in [1, 3] {
        // More than is under way in sockets, less than sockets and pipes hold: the app can end.
        let words = ["fill", "200000", "exit", "7"];
        let names = ["one", "two", "three"].into_iter().take(count);
        let apps: Vec<_> = names.map(|name| app(name, &words, Stdio::Logged)).collect();
        let mut host = Host::run(programs, order(apps, Vec::new()));
        (0..count).for_each(|_| host.word_of(exited(7)));
        assert_eq!(host.word_of(|word| if_over(&word)), 7);
        // Longer than the guest waits for anybody but a host that knows.
        thread::sleep(Duration::from_secs(3));
        let outputs: Vec<_> = host.tokens.values().map(|tokens| tokens[0]).collect();
        for stdout in outputs {
            assert!(host.all_said(stdout) == pattern(200_000), "all of it, in order");
        }
        assert_eq!(host.end(), (0, String::new()));
    }
}

fn input(programs: &Programs) {
    let mut host = Host::run(programs, order(vec![app("cat", &["echo"], Stdio::Open)], Vec::new()));
    let [stdin, stdout, _] = host.tokens["cat"][..] else { panic!() };
    let text = pattern(300_000);
    let fed = text.clone();
    let mut feed = host.stream(stdin).try_clone().unwrap();
    // The app reads all before it writes, so nobody needs to read meanwhile.
    feed.write_all(&fed).unwrap();
    host.end_input(stdin);
    let mut got = vec![0; text.len()];
    host.stream(stdout).read_exact(&mut got).unwrap();
    assert_eq!(got, text);
    host.word_of(exited(0));
    over(&mut host, 0);
}

fn held_up(programs: &Programs) {
    let much = 4 << 20;
    let apps = vec![
        app("much", &["fill", &much.to_string()], Stdio::Logged),
        app("little", &["say", "hello", "exit", "3"], Stdio::Logged),
    ];
    let mut host = Host::run(programs, order(apps, Vec::new()));
    let ended = |word| match word {
        FromInit::AppEnded { app, .. } => Some(app),
        _ => None,
    };
    assert_eq!(host.word_of(ended), name("little"));
    let out = host.tokens["little"][0];
    assert_eq!(host.said_by_now(out), b"hello");
    let out = host.tokens["much"][0];
    let mut got = vec![0; much];
    host.stream(out).read_exact(&mut got).unwrap();
    assert!(got == pattern(much), "all of it, in order");
    assert_eq!(host.word_of(ended), name("much"));
    over(&mut host, 3);
}

fn broken_pipe(programs: &Programs) {
    let words = ["line", "fill", "10000000"];
    let mut host = Host::run(programs, order(vec![app("web", &words, Stdio::Open)], Vec::new()));
    host.word_of(started);
    let [stdin, stdout, _] = host.tokens["web"][..] else { panic!() };
    host.close(stdout);
    host.stream(stdin).write_all(b"go\n").unwrap();
    let end = host.word_of(|word| match word {
        FromInit::AppEnded { exit, .. } => Some(exit),
        _ => None,
    });
    // Rust ignores SIGPIPE and panics because of EPIPE.
    assert_eq!(end, Ended::Exited { code: 101 });
    assert_eq!(host.word_of(|word| if_over(&word)), 101);
    assert_eq!(host.end().0, 0);
}

fn exec(host: &mut Host, id: u32, words: &[&str], terminal: bool, streams: ExecStreams) {
    let process = Box::new(process(words));
    let message = ToInit::Exec { id, app: name("web"), process, terminal };
    host.tell_with(message, Some(streams));
}

fn exec_end(host: &mut Host, id: u32) -> Ended {
    host.word_of(|word| match word {
        FromInit::ExecEnded { id: ended, exit, error } => {
            assert_eq!((ended, error), (id, None));
            Some(exit)
        }
        _ => None,
    })
}

fn processes(programs: &Programs) {
    let mut host =
        Host::run(programs, order(vec![app("web", &["wait"], Stdio::Logged)], Vec::new()));
    host.word_of(started);
    let pipes = [host.token(), host.token(), host.token()];
    let words = ["reopen", "echo", "fill", "50000", "complain", "oh", "exit", "5"];
    exec(&mut host, 1, &words, false, ExecStreams::Pipes(pipes));
    host.stream(pipes[0]).write_all(b"fed ").unwrap();
    host.end_input(pipes[0]);
    assert_eq!(exec_end(&mut host, 1), Ended::Exited { code: 5 });
    assert_eq!(host.said_by_now(pipes[1]), [b"fed ".to_vec(), pattern(50_000)].concat());
    assert_eq!(host.said_by_now(pipes[2]), b"oh");
    assert_eq!(host.all_said(pipes[1]), b"", "the stream has ended with the process");

    let (data, control) = (host.token(), host.token());
    let streams = ExecStreams::Terminal(TerminalStreams { data, control, size: SIZE });
    exec(&mut host, 2, &["size", "line", "size", "exit", "6"], true, streams);
    let mut text = [0; 5];
    host.stream(data).read_exact(&mut text).unwrap();
    assert_eq!(&text, b"7x9\r\n");
    host.control(control, TerminalWord::Size(WindowSize { rows: 11, columns: 13 }));
    // The size is told on another stream: it has arrived once the guest has nothing to read.
    host.tell(ToInit::Ping);
    host.word_of(|word| (word == FromInit::Pong).then_some(()));
    host.stream(data).write_all(b"go\n").unwrap();
    assert_eq!(exec_end(&mut host, 2), Ended::Exited { code: 6 });
    let text = String::from_utf8(host.all_said(data)).unwrap();
    assert_eq!(text, "go\r\ngo\r\n11x13\r\n");

    // A client that goes hangs its terminal up.
    let (data, control) = (host.token(), host.token());
    let streams = ExecStreams::Terminal(TerminalStreams { data, control, size: SIZE });
    exec(&mut host, 3, &["say", "x", "wait"], true, streams);
    host.stream(data).read_exact(&mut [0]).unwrap();
    host.close(data);
    let hang_up = Ended::Signaled { signal: 1, oom: false };
    assert_eq!(exec_end(&mut host, 3), hang_up);

    host.tell(ToInit::Signal { target: Target::App(name("web")), signal: 9 });
    host.word_of(|word| matches!(word, FromInit::AppEnded { .. }).then_some(()));
    over(&mut host, 137);
}

fn listed(programs: &Programs) {
    let apps = vec![
        app("web", &["wait"], Stdio::Logged),
        app("late", &["say", "x", "wait"], Stdio::Logged),
    ];
    let mut host = Host::run(programs, order(apps, Vec::new()));
    host.word_of(started);
    host.word_of(started);
    let mut list = |app: Option<&str>| match host.asked(ToGuest::Processes(app.map(name))) {
        FromGuest::Answer(Answer::Processes(listing)) => listing.processes,
        // Without a cgroup nobody could tell whose a process is.
        FromGuest::Refused(report) if report.code == "top.no-cgroup" => Vec::new(),
        other => panic!("{other:?}"),
    };
    let all = list(None);
    if !all.is_empty() {
        let apps: Vec<_> = all.iter().map(|one| one.app.as_ref().map(AppName::as_str)).collect();
        assert_eq!(apps, [None, Some("late"), Some("web")]);
        assert_eq!((all[2].pid_inside, all[2].uid), (1, 33));
        assert!(all[1].command.ends_with("say x wait"), "{:?}", all[1]);
        // What it does has changed since, perhaps; who it is has not.
        let who = |one: &Listed| (one.pid, one.pid_inside, one.app.clone(), one.command.clone());
        let of_one: Vec<_> = list(Some("web")).iter().map(who).collect();
        assert_eq!(of_one, [who(&all[2])]);
    }
    for app in ["web", "late"] {
        host.tell(ToInit::Signal { target: Target::App(name(app)), signal: 9 });
    }
    host.word_of(|word| if_over(&word));
    assert_eq!(host.end().0, 0);
}

fn terminal(programs: &Programs) {
    let words = ["size", "line", "size", "exit", "4"];
    let mut host =
        Host::start(programs, order(vec![app("web", &words, Stdio::Terminal)], Vec::new()), vec![]);
    host.raise();
    let [data, control] = host.tokens["web"][..] else { panic!() };
    // A client comes before the app runs: the app is born in its size.
    host.control(control, TerminalWord::Size(WindowSize { rows: 50, columns: 132 }));
    host.tell(ToInit::Run);
    let mut text = [0; 8];
    host.stream(data).read_exact(&mut text).unwrap();
    assert_eq!(&text, b"50x132\r\n");
    host.control(control, TerminalWord::Fresh);
    host.stream(data).write_all(b"x\n").unwrap();
    host.word_of(exited(4));
    let text = String::from_utf8(host.said_by_now(data)).unwrap();
    assert_eq!(text, "x\r\nx\r\n50x132\r\n");
    over(&mut host, 4);
}

fn comes_and_goes(programs: &Programs) {
    let mut host =
        Host::run(programs, order(vec![app("web", &["wait"], Stdio::Logged)], Vec::new()));
    host.word_of(started);
    host.add_later(app("late", &["say", "late", "exit", "0"], Stdio::Logged), "other/layer");
    host.tell(ToInit::StartApp { app: name("late") });
    host.word_of(exited(0));
    let [stdout, stderr] = host.tokens["late"][..] else { panic!() };
    assert_eq!(host.said_by_now(stdout), b"late");
    host.tell(ToInit::RemoveApp { app: name("late") });
    host.word_of(|word| matches!(word, FromInit::AppRemoved { .. }).then_some(()));
    host.ask(ToGuest::RemoveApp(name("late")));
    assert_eq!(host.all_said(stdout), b"", "its streams have ended");
    assert_eq!(host.all_said(stderr), b"");
    assert!(host.has("forgotten-1") && !host.has("forgotten-0"));
    // Again, under the same name.
    host.tokens.remove("late");
    host.add_later(app("late", &["say", "again", "exit", "0"], Stdio::Logged), "other/layer");
    host.tell(ToInit::StartApp { app: name("late") });
    host.word_of(exited(0));
    let stdout = host.tokens["late"][0];
    assert_eq!(host.said_by_now(stdout), b"again");
    host.tell(ToInit::Shutdown { grace_ms: Some(0) });
    host.word_of(|word| if_over(&word));
    assert_eq!(host.end(), (0, String::new()));
}

fn deep_files(programs: &Programs) {
    let mut host =
        Host::run(programs, order(vec![app("web", &["wait"], Stdio::Logged)], Vec::new()));
    host.word_of(started);
    for _ in 0..2 {
        // Deeper than the guest has descriptors.
        let mut late = app("late", &["deep", "20000", "exit", "0"], Stdio::Logged);
        late.spec.process.cwd = PodPath::parse("/tmp").unwrap();
        host.tokens.remove("late");
        host.add_later(late, "other/layer");
        host.tell(ToInit::StartApp { app: name("late") });
        host.word_of(exited(0));
        host.tell(ToInit::RemoveApp { app: name("late") });
        host.word_of(|word| matches!(word, FromInit::AppRemoved { .. }).then_some(()));
        let begin = Instant::now();
        host.ask(ToGuest::RemoveApp(name("late")));
        assert!(begin.elapsed() < Duration::from_secs(2), "{:?}", begin.elapsed());
    }
    let gone = format!("/proc/{}/root/pod/gone", children(host.child.id())[0]);
    let deadline = Instant::now() + Duration::from_secs(60);
    while fs::read_dir(&gone).unwrap().next().is_some() {
        assert!(Instant::now() < deadline, "its files are still there");
        thread::sleep(Duration::from_millis(20));
    }
    host.tell(ToInit::Shutdown { grace_ms: Some(0) });
    host.word_of(|word| if_over(&word));
    assert_eq!(host.end(), (0, String::new()));
}

fn surroundings(programs: &Programs) {
    let words = ["list", "/", "list", "/dev", "ids", "list", "/proc/self/fd", "read", "/etc/hosts"];
    let mut host = Host::run(programs, order(vec![app("web", &words, Stdio::Logged)], Vec::new()));
    host.word_of(exited(0));
    let out = host.tokens["web"][0];
    let text = String::from_utf8(host.said_by_now(out)).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines[0], "dev etc proc sys tmp trial");
    let devices = "fd full mqueue null ptmx pts random shm stderr stdin stdout tty urandom zero";
    assert_eq!(lines[1], devices);
    assert!(lines[2].starts_with("Uid:\t33\t33\t33\t33;NSpid:\t"), "{}", lines[2]);
    // Three, and the one it lists the directory by.
    assert_eq!(lines[3], "0 1 2 3");
    assert_eq!(lines[4], "127.0.0.1 localhost");
    over(&mut host, 0);
}

fn volumes(programs: &Programs) {
    let volume = |word: &str, source| {
        let (name, fill) = (VolumeName::parse(word).unwrap(), None);
        Volume { name, source, fill }
    };
    let mount = |word: &str, volume: &str| Mount {
        destination: PodPath::parse(word).unwrap(),
        source: MountSource::Volume(VolumeName::parse(volume).unwrap()),
        read_only: false,
        no_exec: false,
    };
    let path = format!("{SHARES}/data");
    let volumes = vec![
        volume("data", VolumeSource::Host { path, without_submounts: false }),
        volume("scrap", VolumeSource::Empty { mode: 0o1777, uid: 0, gid: 0 }),
    ];
    let words = [
        "write",
        "/scrap/x",
        "read",
        "/scrap/x",
        "read",
        "/data/y",
        "read",
        "/run/host/credentials/key",
    ];
    let mut web = app("web", &words, Stdio::Logged);
    web.spec.mounts = vec![mount("/data", "data"), mount("/scrap", "scrap")];
    let key = || CredentialName::parse("key").unwrap();
    web.spec.credentials = vec![Credential { name: key(), path: None }];
    let share = Share {
        volume: VolumeName::parse("data").unwrap(),
        tag: "tag0".to_owned(),
        read_only: false,
    };
    let mut host = Host::start(programs, order(vec![web], volumes), vec![share]);
    fs::write(host.path("tag0").join("y"), "from the host\n").unwrap();
    for part in ["7365", "63726574"] {
        host.credential("key", part);
    }
    host.raise();
    host.tell(ToInit::Run);
    host.word_of(exited(0));
    let out = host.tokens["web"][0];
    let text = String::from_utf8(host.said_by_now(out)).unwrap();
    assert_eq!(text, "written\nfrom the host\nsecret");
    over(&mut host, 0);
}

fn long_order(programs: &Programs) {
    // Each fits; together they are longer than any frame.
    let apps = ["one", "two", "three"].map(|name| {
        let mut app = app(name, &["variable", "LONG", "exit", "6"], Stdio::Logged);
        let much = (0..9).map(|at| format!("V{at}={}", "x".repeat(60_000)));
        let all = much.chain(["LONG=it is there".to_owned()]);
        let env = all.map(|text| EnvVar::parse(&text).unwrap());
        app.spec.process.env = env.collect();
        app
    });
    let mut host = Host::run(programs, order(apps.to_vec(), Vec::new()));
    (0..apps.len()).for_each(|_| host.word_of(exited(6)));
    let stdout = host.tokens["three"][0];
    assert_eq!(host.said_by_now(stdout), b"Ok(\"it is there\")\n");
    over(&mut host, 6);
}

fn link(mac: [u8; 6]) -> Link {
    let route = |to: &str, via: Option<&str>| Route {
        to: to.to_owned(),
        via: via.map(|ip| ip.parse().unwrap()),
    };
    Link {
        name: "eth0".to_owned(),
        mac,
        mtu: 1400,
        addresses: ["10.11.0.2/24", "fd11::2/64"].map(str::to_owned).to_vec(),
        routes: vec![
            route("10.11.0.0/24", None),
            route("fd11::/64", None),
            route("0.0.0.0/0", Some("10.11.0.1")),
        ],
    }
}

fn interfaces(programs: &Programs) {
    let words = [
        ["list", "/sys/class/net"],
        ["read", "/sys/class/net/eth0/mtu"],
        ["read", "/sys/class/net/eth0/address"],
        ["reach", "10.11.0.1:9"],
        ["reach", "[fd11::1]:9"],
        ["reach", "192.0.2.7:9"],
        ["reach", "127.0.0.1:9"],
    ];
    let app = app("web", &words.concat(), Stdio::Logged);
    let links = (Vec::new(), vec![link(NIC.0)]);
    let mut host = Host::start_on(programs, order(vec![app], Vec::new()), links);
    host.raise();
    host.tell(ToInit::Run);
    host.word_of(exited(0));
    let [stdout, stderr] = host.tokens["web"][..] else { panic!() };
    assert_eq!(String::from_utf8(host.said_by_now(stderr)).unwrap(), "");
    let reached = "ConnectionRefused\n".repeat(4);
    let all = format!("eth0 lo\n1400\n{NIC}\n{reached}");
    assert_eq!(String::from_utf8(host.said_by_now(stdout)).unwrap(), all);
    over(&mut host, 0);
}

fn no_interface(programs: &Programs) {
    let apps = vec![app("web", &["exit", "0"], Stdio::Logged)];
    let links = (Vec::new(), vec![link([2, 0, 0, 0, 0, 9])]);
    let mut host = Host::start_on(programs, order(apps, Vec::new()), links);
    let FromGuest::Refused(report) = host.asked(ToGuest::Raise) else { panic!("raised") };
    assert!(report.message.contains("no network interface `02:00:00:00:00:09`"), "{report:?}");
}

fn abandoned(programs: &Programs) {
    let mut host =
        Host::run(programs, order(vec![app("web", &["wait"], Stdio::Logged)], Vec::new()));
    host.word_of(started);
    host.wall.stream.shutdown(std::net::Shutdown::Both).unwrap();
    assert_eq!(host.end(), (3, String::new()));
}

fn unheard(programs: &Programs) {
    let mut host =
        Host::run(programs, order(vec![app("web", &["wait"], Stdio::Logged)], Vec::new()));
    host.word_of(started);
    host.inner = None;
    let Some(FromGuest::Failed(report)) = host.wall.hear() else { panic!("not told") };
    assert!(report.message.contains("closed the stream"), "{report:?}");
    assert_eq!(host.end().0, 4);
}

fn init_killed(programs: &Programs) {
    let mut host =
        Host::run(programs, order(vec![app("web", &["wait"], Stdio::Logged)], Vec::new()));
    host.word_of(started);
    let stdout = host.tokens["web"][0];
    kill_stage2_init(host.child.id());
    let Some(FromGuest::Failed(report)) = host.wall.hear() else { panic!("not told") };
    assert_eq!(report.code, "pod.init-died");
    assert_eq!(host.all_said(stdout), b"");
    assert_eq!(host.end(), (0, String::new()));
}

fn children(pid: u32) -> Vec<u32> {
    let list = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap();
    list.split_whitespace().map(|pid| pid.parse().unwrap()).collect()
}

/// Kills the child of the child of the guest that a trial has started as `outside`.
fn kill_stage2_init(outside: u32) {
    let guest = children(outside)[0];
    let deadline = Instant::now() + Duration::from_secs(20);
    // Helpers that have ended are being collected.
    let init = loop {
        if let [init] = children(guest)[..] {
            break init;
        }
        assert!(Instant::now() < deadline);
    };
    let pid = rustix::process::Pid::from_raw(i32::try_from(init).unwrap()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
}

fn refused(programs: &Programs) {
    let apps = || vec![app("web", &["exit", "0"], Stdio::Logged)];
    let mut host = Host::start(programs, order(apps(), Vec::new()), Vec::new());
    let early = ToGuest::AddApps(Vec::new());
    assert!(matches!(host.asked(early), FromGuest::Refused(_)));
    host.raise();
    assert!(matches!(host.asked(ToGuest::Raise), FromGuest::Refused(_)));
    let token = host.token();
    let streams = AppStreams::Pipes { input: Some(token), stdout: token, stderr: token };
    assert!(matches!(host.asked(ToGuest::AddApps(vec![streams])), FromGuest::Refused(_)));
    // A process without streams has not begun, and that is all.
    let message =
        ToInit::Exec { id: 9, app: name("web"), process: Box::new(process(&[])), terminal: false };
    host.tell_with(message, None);
    let end = host.word_of(|word| match word {
        FromInit::ExecEnded { id: 9, exit, error } => Some((exit, error.is_some())),
        _ => None,
    });
    assert_eq!(end, (Ended::NotStarted { code: 125 }, true));
    host.tell(ToInit::Run);
    host.word_of(exited(0));
    over(&mut host, 0);
}
