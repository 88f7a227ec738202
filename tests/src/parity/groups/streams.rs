//! Standard streams and terminals of a pod in the foreground.

use std::thread;
use std::time::Duration;

use crate::parity::{Group, Place, World, so};
use crate::said;
use crate::terminal::Terminal;

/// How late a late reader reads: later than anybody waits for one that has gone.
const READ_AFTER: Duration = Duration::from_secs(5);

pub(super) const FOREGROUND: Group = Group {
    name: "foreground",
    place: Place::Anywhere,
    boots: 1,
    promises: &[
        so("input", "With `-i` an app reads what the command is given, and its end"),
        so("output", "The output of one app passes byte for byte, all of it"),
        so("errors", "Standard error stays apart from standard output"),
        so("code-of-pod", "The exit code of the command is the app's"),
        so("late-reader", "However late its output is read, all of it comes, and the code"),
        so("stdout-by-name", "`/dev/stdout` can be opened and leads where the output goes"),
    ],
    run: foreground,
};

pub(super) const TERMINAL: Group = Group {
    name: "terminal",
    place: Place::Anywhere,
    boots: 1,
    promises: &[
        so("terminal", "With `-it` an app has a terminal of its own, with the caller's size"),
        so("terminal-size", "A change of the caller's window reaches the app"),
        so("terminal-interrupt", "Ctrl-C reaches the app's foreground, not the pod"),
        so("detach", "The detach keys leave the pod running, with its state"),
        so("attach-terminal", "`attach` comes back to the same shell"),
        so(
            "terminal-given-back",
            "The caller's terminal is as it was, and the code is the shell's",
        ),
    ],
    run: terminal,
};

fn foreground(world: &World<'_>) {
    const SCRIPT: &str = r"cat; printf 'a\001b'; echo 'by name' >/dev/stdout;
        printf 'no end' >&2; dd if=/dev/zero bs=1k count=300 2>/dev/null; exit 42";
    let app = world.shell("app", &["-i"], SCRIPT);
    let words = ["--rm", "-q", "--name", "read-late"];
    let mut running = world.run(&words).args(app).input(b"typed\nand ended").start_unread();
    world.wait_for("the app runs", || {
        let said = world.sandbox.pod(["status", "read-late"]);
        (said.code == 0 && said.raw.contains("running")).then_some(())
    });
    // It has more to say than fits anywhere, or has ended: nothing tells which.
    thread::sleep(READ_AFTER * said::slowness());
    running.listen();
    let said = running.wait();
    world.holds("input", || assert!(said.raw.starts_with("typed\nand ended"), "{:.200}", said.raw));
    world.holds("output", || {
        let rest = said.raw.strip_prefix("typed\nand endeda\u{1}bby name\n");
        assert_eq!(rest.map(str::len), Some(300 << 10), "{:.200}", said.raw);
    });
    world.holds("stdout-by-name", || assert!(said.raw.contains("bby name\n"), "{:.200}", said.raw));
    world.holds("errors", || assert_eq!(said.stderr, "no end"));
    world.holds("late-reader", || {
        assert_eq!((said.code, said.raw.len()), (42, 26 + (300 << 10)), "{:.200}", said.raw);
    });
    world.holds("code-of-pod", || assert_eq!(said.code, 42));
}

fn terminal(world: &World<'_>) {
    let sandbox = world.sandbox;
    let screen = Terminal::new(33, 101);
    let before = screen.setup();
    world.starts();
    let line = ["run", "--stage1", world.wall.stage1(), "-it", "--name", "shop"];
    let app = world.app("app", &[], &["sh"]);
    let run = sandbox.call_in_session().args(line).args(app).start_on(&screen);
    screen.wait_for("# ");
    world.holds("terminal", || {
        assert!(!screen.setup().echoes(), "it is raw, for the app's terminal is one already");
        screen.types(b"busybox stty size; busybox tty; echo $TERM; x=one\n");
        screen.wait_for("33 101\r\n");
        screen.wait_for("/dev/pts/0\r\nxterm\r\n");
    });
    world.holds("terminal-size", || {
        screen.resize(40, 120);
        screen
            .types(b"until [ \"$(busybox stty size)\" = '40 120' ]; do :; done; echo re''sized\n");
        screen.wait_for("resized");
    });
    world.holds("terminal-interrupt", || {
        screen.types(b"echo go; cat\n");
        screen.wait_for("\r\ngo\r\n");
        screen.types(b"echoed\n");
        screen.wait_for("echoed\r\nechoed\r\n");
        screen.types(b"\x03");
        screen.wait_for("# ");
    });
    world.holds("detach", || {
        screen.types(b"\x10\x11");
        run.wait().success();
        assert_eq!(screen.setup(), before);
        let status = sandbox.status("shop");
        assert_eq!(status.apps[0].state, pod_abi::status::AppState::Running, "{status:?}");
    });
    let client = sandbox.call_in_session().args(["attach", "shop"]).start_on(&screen);
    world.holds("attach-terminal", || {
        screen.types(b"echo $x-two\n");
        screen.wait_for("one-two\r\n");
    });
    world.holds("terminal-given-back", || {
        screen.types(b"exit 7\n");
        client.wait().exits(7);
        assert_eq!(screen.setup(), before);
    });
    let _ = sandbox.pod(["rm", "-f", "shop"]);
}
