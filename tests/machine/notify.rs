//! What systemd makes of what a pod tells it: status, reload, watchdog, and time for what takes long.
//! In a unit of somebody's own, so that all of it is the unit's to say.

use std::fs;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use tests::fixtures::Fixture;
use tests::sandbox::Sandbox;

use crate::wait::until;

const UNIT: &str = "mine.service";

/// A unit of somebody's own, which runs a pod called `mine`.
struct Mine<'m> {
    machine: &'m Sandbox,
    path: String,
}

impl<'m> Mine<'m> {
    /// Writes the unit; `run` is what follows `pod run --name mine`.
    fn new(machine: &'m Sandbox, settings: &str, run: &str) -> Self {
        let path = format!("/run/systemd/system/{UNIT}");
        let text = format!(
            "[Service]\nType=notify\nDelegate=yes\nKillMode=mixed\nNotifyAccess=main\n\
             ExecReload=/bin/kill -HUP $MAINPID\n{settings}\n\
             ExecStart=/usr/bin/pod run --name mine {run}\n"
        );
        fs::write(&path, text).expect("a unit can be written");
        let mine = Self { machine, path };
        mine.systemctl(&["daemon-reload"]);
        mine
    }

    fn systemctl(&self, words: &[&str]) -> i32 {
        self.machine.program("systemctl").args(words).run().code.into()
    }

    fn property(&self, name: &str) -> String {
        let words = ["show", "--value", "--property", name, UNIT];
        self.machine.program("systemctl").args(words).run().success().trim().to_owned()
    }

    fn until(&self, property: &str, value: &str) {
        let begin = Instant::now();
        while self.property(property) != value {
            let now = self.property(property);
            assert!(begin.elapsed() < Duration::from_secs(60), "{property} is {now}");
            thread::sleep(Duration::from_millis(100));
        }
    }

    fn logs(&self) -> String {
        self.machine.call().args(["logs", "mine"]).start().wait().stdout
    }
}

impl Drop for Mine<'_> {
    fn drop(&mut self) {
        let _ = self.systemctl(&["stop", UNIT]);
        let _ = self.systemctl(&["reset-failed", UNIT]);
        let _ = self.machine.pod(["rm", "mine"]);
        let _ = fs::remove_file(&self.path);
        let _ = self.systemctl(&["daemon-reload"]);
    }
}

#[test]
fn the_status_of_the_unit_is_that_of_the_pod() {
    let machine = Sandbox::of_this_machine();
    let image = machine.fixture(Fixture::App);
    let run = format!(
        "--exit-policy all {image} --name web --readiness notify sh -c \
         '/probe notify STATUS=loading; until [ -e /tmp/go ]; do sleep 0.1; done; /probe notify READY=1 STATUS=; exec sleep 1000' \
         --- {image} --name job sh -c 'until [ -e /tmp/go ]; do sleep 0.1; done; exit 4'"
    );
    let mine = Mine::new(&machine, "", &run);
    assert_eq!(mine.systemctl(&["start", "--no-block", UNIT]), 0);
    mine.until("StatusText", "1/2 apps ready; web: loading");
    assert_eq!(mine.property("ActiveState"), "activating");
    machine.pod(["exec", "-c", "web", "mine", "touch", "/tmp/go"]).success();
    mine.until("ActiveState", "active");
    mine.until("StatusText", "2/2 apps running");
    machine.pod(["exec", "-c", "job", "mine", "touch", "/tmp/go"]).success();
    mine.until("StatusText", "1/2 apps running, job exited with status 4");
}

#[test]
fn a_reload_reaches_all_apps_and_ends() {
    let machine = Sandbox::of_this_machine();
    let image = machine.fixture(Fixture::App);
    let loyal = "trap \"echo again\" HUP; echo up; while :; do sleep 0.1; done";
    let run = format!("{image} --name a sh -c '{loyal}' --- {image} --name b sh -c '{loyal}'");
    let mine = Mine::new(&machine, "", &run);
    assert_eq!(mine.systemctl(&["start", UNIT]), 0);
    let begin = Instant::now();
    while mine.logs().matches("up").count() < 2 {
        assert!(begin.elapsed() < Duration::from_secs(60));
    }
    let supervisor = mine.property("MainPID");
    assert_eq!(mine.systemctl(&["reload", UNIT]), 0);
    while mine.logs().matches("again").count() < 2 {
        assert!(begin.elapsed() < Duration::from_secs(60), "{}", mine.logs());
    }
    mine.until("ActiveState", "active");
    assert_eq!(mine.property("MainPID"), supervisor);
}

#[test]
fn a_stop_takes_as_long_as_its_apps_are_given() {
    let machine = Sandbox::of_this_machine();
    let image = machine.fixture(Fixture::App);
    let slow = "trap \"sleep 4; exit 0\" TERM; echo up; while :; do sleep 0.1; done";
    let run = format!("{image} --stop-timeout 20 sh -c '{slow}'");
    let mine = Mine::new(&machine, "TimeoutStopSec=2", &run);
    assert_eq!(mine.systemctl(&["start", UNIT]), 0);
    while !mine.logs().contains("up") {}
    let begin = Instant::now();
    assert_eq!(mine.systemctl(&["stop", UNIT]), 0);
    assert!(begin.elapsed() >= Duration::from_secs(4), "{:?}", begin.elapsed());
    assert_eq!(mine.property("Result"), "success");
}

#[test]
fn an_app_may_ask_for_time_to_start() {
    let machine = Sandbox::of_this_machine();
    let image = machine.fixture(Fixture::App);
    let slow = "/probe notify EXTEND_TIMEOUT_USEC=30000000; sleep 5; /probe notify READY=1; exec sleep 1000";
    let run = format!("{image} --readiness notify sh -c '{slow}'");
    let mine = Mine::new(&machine, "TimeoutStartSec=3", &run);
    assert_eq!(mine.systemctl(&["start", UNIT]), 0);
    assert_eq!(mine.property("ActiveState"), "active");
}

#[test]
fn a_start_that_asks_for_nothing_ends_when_the_unit_says() {
    let machine = Sandbox::of_this_machine();
    let image = machine.fixture(Fixture::App);
    let run = format!("{image} --readiness notify sleep 1000");
    let mine = Mine::new(&machine, "TimeoutStartSec=3", &run);
    assert_ne!(mine.systemctl(&["start", UNIT]), 0);
    assert_eq!(mine.property("Result"), "timeout");
}

#[test]
fn a_watchdog_lets_a_living_pod_live_and_ends_one_whose_pid_1_hangs() {
    let machine = Sandbox::of_this_machine();
    let image = machine.fixture(Fixture::App);
    let mine = Mine::new(&machine, "WatchdogSec=4", &format!("{image} sleep 1000"));
    assert_eq!(mine.systemctl(&["start", UNIT]), 0);
    thread::sleep(Duration::from_secs(10));
    assert_eq!(mine.property("ActiveState"), "active");
    let init = machine.status("mine").init.expect("it runs").to_string();
    machine.program("kill").args(["-STOP", &init]).run().success();
    mine.until("Result", "watchdog");
    // The result is there before all of it is killed.
    until(|| !Path::new(&format!("/proc/{init}")).exists());
}

#[test]
fn an_app_that_stops_saying_that_it_is_alive_is_not() {
    let machine = Sandbox::of_this_machine();
    let image = machine.fixture(Fixture::App);
    let faithful = "/probe notify READY=1; echo within $WATCHDOG_USEC; \
                    i=0; while [ $i -lt 10 ]; do /probe notify WATCHDOG=1; sleep 1; i=$((i+1)); done; exec sleep 1000";
    let run = format!("{image} --readiness notify sh -c '{}'", faithful.replace('$', "$$"));
    let mine = Mine::new(&machine, "WatchdogSec=4", &run);
    let begin = Instant::now();
    assert_eq!(mine.systemctl(&["start", UNIT]), 0);
    until(|| mine.logs().contains("within 4000000\n")); // it says so once it is ready
    mine.until("Result", "watchdog");
    assert!(begin.elapsed() > Duration::from_secs(10), "{:?}", begin.elapsed());
}
