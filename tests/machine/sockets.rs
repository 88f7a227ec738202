//! Real socket units: who listens is systemd, who serves is an app.

use std::fs;
use std::io::Read;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use nix::sys::signal::Signal;
use tests::fixtures::Fixture;
use tests::sandbox::Sandbox;

use crate::wait::until;

/// Where units of a test lie: they are gone with the boot.
const UNITS: &str = "/run/systemd/system";

/// Writes units, and takes them away when dropped.
struct Units<'m> {
    machine: &'m Sandbox,
    names: Vec<String>,
}

impl<'m> Units<'m> {
    fn write(machine: &'m Sandbox, units: &[(&str, String)]) -> Self {
        fs::create_dir_all(UNITS).expect("the machine's own");
        for (name, text) in units {
            fs::write(format!("{UNITS}/{name}"), text).expect("the machine's own");
        }
        let names = units.iter().map(|(name, _)| (*name).to_owned()).collect();
        let units = Self { machine, names };
        units.systemctl(&["daemon-reload"]);
        units
    }

    fn systemctl(&self, args: &[&str]) -> String {
        self.machine.program("systemctl").args(args).run().success()
    }
}

impl Drop for Units<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            return;
        }
        let names: Vec<&str> = self.names.iter().map(String::as_str).collect();
        // The socket goes first, or a call would start the service again.
        let units = names.iter().rev().filter(|name| !name.contains("@."));
        units.for_each(|name| drop(self.systemctl(&["stop", name])));
        for name in &names {
            fs::remove_file(format!("{UNITS}/{name}")).expect("it was written");
        }
        self.systemctl(&["daemon-reload"]);
    }
}

/// Connects, and returns what the other side says until it hangs up.
fn told_by(path: &str) -> String {
    let mut connection = UnixStream::connect(path).expect("systemd listens");
    connection.set_read_timeout(Some(Duration::from_secs(60))).expect("it is more than nothing");
    let mut text = String::new();
    connection.read_to_string(&mut text).expect("it is answered");
    text
}

#[test]
fn a_call_starts_the_pod_behind_a_socket_and_the_app_answers_it() {
    let machine = Sandbox::of_this_machine();
    let image = machine.fixture(Fixture::App);
    let units = Units::write(
        &machine,
        &[
            (
                "shop.service",
                format!(
                    "[Service]\nType=notify\nDelegate=yes\nKillMode=mixed\n\
                     ExecStart=/usr/bin/pod run --rm --name shop {image} --name web --socket http --init /probe serve \
                     --- {image} --name side --socket admin /probe serve\n"
                ),
            ),
            (
                "shop.socket",
                "[Socket]\nListenStream=/run/shop.sock\nFileDescriptorName=http\nService=shop.service\n".to_owned(),
            ),
            (
                "shop-admin.socket",
                "[Socket]\nListenStream=/run/admin.sock\nFileDescriptorName=admin\nService=shop.service\n".to_owned(),
            ),
        ],
    );
    units.systemctl(&["start", "shop.socket", "shop-admin.socket"]);
    assert_eq!(units.systemctl(&["show", "-P", "ActiveState", "shop.service"]), "inactive\n");
    for _ in 0..2 {
        assert_eq!(told_by("/run/shop.sock"), "http");
        assert_eq!(told_by("/run/admin.sock"), "admin");
        let status = machine.status("shop");
        let main = units.systemctl(&["show", "-P", "MainPID", "shop.service"]);
        assert_eq!(main.trim(), status.supervisor.to_string());
        // The sockets stay; the next call starts the pod anew.
        units.systemctl(&["stop", "--job-mode=ignore-dependencies", "shop.service"]);
    }
}

#[test]
fn a_template_that_runs_a_specification_takes_a_socket_unit_beside_it() {
    let machine = Sandbox::of_this_machine();
    let image = machine.fixture(Fixture::App);
    let spec = machine.pod([
        "run",
        "--dry-run",
        "--name",
        "front",
        &image,
        "--socket",
        "http",
        "/probe",
        "serve",
    ]);
    assert_eq!(spec.code, 0, "{spec}");
    let file = machine.path("front.json");
    fs::write(&file, &spec.raw).expect("the machine's own");
    let service = format!(
        "[Service]\nType=notify\nDelegate=yes\nKillMode=mixed\n\
         ExecStart=/usr/bin/pod run --rm --name %i --spec {}\n",
        file.display()
    );
    let socket = "[Socket]\nListenStream=/run/front.sock\nFileDescriptorName=http\n".to_owned();
    let both = [("filed@.service", service), ("filed@front.socket", socket)];
    let units = Units::write(&machine, &both);
    units.systemctl(&["start", "filed@front.socket"]);
    assert_eq!(told_by("/run/front.sock"), "http");
    assert_eq!(machine.status("front").unit.as_deref(), Some("filed@front.service"));
    units.systemctl(&["stop", "filed@front.socket"]);
    units.systemctl(&["stop", "filed@front.service"]);
    drop(units);
    // What systemd makes for instances stays, and is no pod's.
    machine.program("systemctl").args(["stop", "system-filed.slice"]).run().success();
}

#[test]
fn a_socket_handed_over_at_a_prompt_keeps_the_pod_in_place() {
    let machine = Sandbox::of_this_machine();
    let image = machine.fixture(Fixture::App);
    let path = machine.path("at-prompt");
    let listen = ["--listen", path.to_str().expect("it is plain"), "--fdname=http"];
    let call = machine.program("systemd-socket-activate").args(listen);
    let running = call.args(["/usr/bin/pod", "run", "--rm", &image, "/probe", "serve"]).start();
    until(|| path.exists());
    assert_eq!(told_by(path.to_str().expect("it is plain")), "http");
    running.signal(Signal::SIGTERM);
    let _ = running.wait();
}
