//! Terminals, input and attached clients: what a person in front of an app sees, and what becomes
//! of pod and terminal whichever of the two goes first.

use nix::sys::signal::Signal;
use tests::fixtures::Fixture;
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

#[test]
fn an_app_on_a_terminal_has_one_of_its_own_and_the_callers_is_as_it_was() {
    let sandbox = sandbox!();
    let image = sandbox.fixture(Fixture::App);
    let terminal = Terminal::new(33, 101);
    let before = terminal.setup();
    let line = ["run", "--rm", "-it", &image, "sh"];
    let run = sandbox.call_in_session().args(line).start_on(&terminal);
    terminal.wait_for("# ");
    assert!(!terminal.setup().echoes(), "it is raw, for the app's terminal is one already");
    assert!(terminal.setup().blocks(), "the caller's shell shares the open file");
    terminal.types(b"busybox stty size; busybox tty; echo $TERM\n");
    terminal.wait_for("33 101\r\n");
    terminal.wait_for("/dev/pts/0\r\nxterm\r\n");
    terminal.resize(40, 120);
    // The app learns of it in its own time.
    terminal.types(b"until [ \"$(busybox stty size)\" = '40 120' ]; do :; done; echo re''sized\n");
    terminal.wait_for("resized");
    terminal.types(b"echo go; cat\n");
    terminal.wait_for("\r\ngo\r\n");
    terminal.types(b"echoed\n");
    terminal.wait_for("echoed\r\nechoed\r\n");
    terminal.types(b"\x03");
    terminal.wait_for("# ");
    terminal.types(b"exit 7\n");
    run.wait().exits(7);
    assert_eq!(terminal.setup(), before);
}

#[test]
fn a_command_beside_an_app_gets_a_terminal_of_the_apps() {
    let sandbox = sandbox!();
    let image = sandbox.fixture(Fixture::App);
    let pod = sandbox.detached("shop", ["--user", "1000:1000", &image, "/probe", "wait"]);
    let terminal = Terminal::new(20, 60);
    let before = terminal.setup();
    let line = ["exec", "-it", pod.name(), "sh"];
    let exec = sandbox.call_in_session().args(line).start_on(&terminal);
    terminal.wait_for("$ ");
    terminal.types(b"busybox stty size; busybox stat -c %u:%a $(busybox tty); echo $TERM\n");
    terminal.wait_for("20 60\r\n1000:620\r\nxterm\r\n");
    terminal.types(b"exit 3\n");
    exec.wait().exits(3);
    assert_eq!(terminal.setup(), before);
    // A terminal without anybody in front of it, and none.
    assert_eq!(pod.exec(&["-t"], &["busybox", "stty", "size"]).success(), "24 80\r\n");
    pod.exec(&[], &["test", "-t", "1"]).exits(1);
    // All that was written comes before the end.
    let long = pod.exec(&["-t"], &["seq", "1", "20000"]).success();
    assert_eq!(long.lines().count(), 20_000);
    assert!(long.ends_with("20000\r\n"));
    pod.exec(&["-it"], &["true"]).refuses(125, &["the input device is not a TTY"]);
    // Who goes away takes the command along.
    let exec =
        sandbox.call_in_session().args(["exec", "-it", pod.name(), "sh"]).start_on(&terminal);
    terminal.wait_for("$ ");
    terminal.types(b"exec sleep 987654\n");
    let sleeps = || pod.exec(&[], &["sh", "-c", "ps | grep -q '[9]87654'"]).code == 0;
    while !sleeps() {}
    exec.signal(Signal::SIGKILL);
    while sleeps() {}
    drop(exec);
}

#[test]
fn only_what_is_asked_for_reaches_standard_input() {
    let sandbox = sandbox!();
    let image = sandbox.fixture(Fixture::App);
    let run = |flags: &[&str], command: &[&str]| {
        let call = sandbox.call().args(["run", "--rm"]).args(flags).args([&image]).args(command);
        call.input(b"typed\n").run()
    };
    assert_eq!(run(&[], &["cat"]).success(), "");
    assert_eq!(run(&["-i"], &["cat"]).success(), "typed\n");
    assert_eq!(run(&["-i"], &["sh", "-c", "cat; echo err >&2; exit 4"]).exits(4), "typed\n");
    run(&["-it"], &["cat"]).refuses(125, &["the input device is not a TTY"]);
    run(&["-i"], &["/nosuch"]).refuses(127, &["/nosuch"]);
    assert_eq!(run(&["-t"], &["sh", "-c", "test -t 0 && echo yes"]).success(), "yes\r\n");
    let long = run(&["-i"], &["seq", "1", "50000"]).success();
    assert!(long.lines().count() == 50_000 && long.ends_with("50000\n"));
    let pod = sandbox.detached("shop", [&image, "/probe", "wait"]);
    let exec = |flags: &[&str]| {
        let call = sandbox.call().args(["exec"]).args(flags).args([pod.name(), "cat"]);
        call.input(b"typed\n").run().success()
    };
    assert_eq!((exec(&[]), exec(&["-i"])), (String::new(), "typed\n".to_owned()));
}

#[test]
fn leaving_losing_and_killing_a_client_harms_no_pod() {
    let sandbox = sandbox!();
    let image = sandbox.fixture(Fixture::App);
    let terminal = Terminal::new(24, 80);
    let before = terminal.setup();
    let line = ["run", "-it", "--name", "shop", "--restart", "always", &image, "sh"];
    let run = sandbox.call_in_session().args(line).start_on(&terminal);
    terminal.wait_for("# ");
    terminal.types(b"x=one\n");
    terminal.wait_for("# ");
    terminal.types(b"\x10\x11");
    run.wait().success();
    assert_eq!(terminal.setup(), before);
    let attach =
        |terminal: &Terminal| sandbox.call_in_session().args(["attach", "shop"]).start_on(terminal);
    // The same shell, and whoever else looks sees the same.
    let client = attach(&terminal);
    let onlooker = sandbox.call().args(["attach", "--no-stdin", "shop"]).start();
    terminal.types(b"echo $x-two\n");
    terminal.wait_for("one-two\r\n");
    onlooker.wait_for("one-two");
    client.signal(Signal::SIGKILL);
    drop(client);
    // A terminal that is closed takes only its client along.
    let window = Terminal::new(24, 80);
    let client = attach(&window);
    window.types(b"echo $x-three\n");
    window.wait_for("one-three\r\n");
    window.hang_up();
    client.wait().exits(129);
    // A start of the app is another start, and who is attached stays so.
    let client = attach(&terminal);
    terminal.types(b"busybox stty raw; echo $x-four; exit\n");
    terminal.wait_for("one-four");
    terminal.wait_for("# ");
    terminal.types(b"echo [$x] $((2 + 3))\n");
    terminal.wait_for("[] 5\r\n");
    onlooker.wait_for("[] 5");
    client.signal(Signal::SIGTERM);
    client.wait().exits(143);
    sandbox.pod(["stop", "-t", "0", "shop"]).success();
    onlooker.wait().exits(137);
}

#[test]
fn signals_without_a_terminal_are_the_apps_and_the_second_wish_ends_the_pod() {
    let sandbox = sandbox!();
    let image = sandbox.fixture(Fixture::App);
    let run = sandbox.call().args(["run", "--rm", "-i", &image, "/probe", "wait"]).start();
    run.wait_for("ready");
    run.signal(Signal::SIGTERM);
    assert_eq!(run.wait().exits(0), "ready\nbye\n");
    let stays = ["run", "--rm", "-i", &image, "/probe", "stay"];
    let run = sandbox.call().args(stays).start();
    run.wait_for("ready");
    // Three of one kind may count as one: the kernel does not queue them.
    for signal in [Signal::SIGINT, Signal::SIGQUIT, Signal::SIGTERM] {
        run.signal(signal);
    }
    run.wait().exits(143);
}

#[test]
fn a_pod_can_be_attached_to_later_and_fed_again() {
    let sandbox = sandbox!();
    let image = sandbox.fixture(Fixture::App);
    let pod = sandbox.detached("shop", ["-i", &image, "cat"]);
    let client = sandbox.call().args(["attach", "shop"]).input(b"one\n").start();
    client.wait_for("one");
    client.signal(Signal::SIGKILL);
    drop(client);
    let client = sandbox.call().args(["attach", "shop"]).input(b"two\n").start();
    client.wait_for("two");
    drop(client);
    pod.stop(&["-t", "0"]).success();
    let again = sandbox.call().args(["start", "-i", "shop"]).input(b"three\n").run();
    assert_eq!(again.success(), "three\n");
    sandbox.pod(["attach", "shop"]).refuses(125, &["does not run"]);
    let two = ["run", &image, "-it", "sh", "---", &image, "-it", "--name", "b", "sh"];
    sandbox.pod(two).refuses(125, &["cannot both be in the foreground"]);
}
