//! Credentials as systemd holds them: of hand-written units, of units of ours, encrypted ones.

use std::fs;

use tests::fixtures::Fixture;
use tests::sandbox::Sandbox;

/// No secret of this host.
const SECRET: &str = "correct horse battery staple 4711";

/// Runs `pod run` as the main process of a transient unit with these properties.
fn in_a_unit(machine: &Sandbox, properties: &[&str], flags: &[&str], script: &str) -> String {
    let image = machine.fixture(Fixture::App);
    let head = ["--quiet", "--wait", "--pipe", "--collect", "--property=Delegate=yes"];
    let properties = properties.iter().map(|property| format!("--property={property}"));
    let call = machine.program("systemd-run").args(head).args(properties);
    let call = call.args(["/usr/bin/pod", "run", "--rm", &image]).args(flags);
    call.args(["sh", "-c", script]).run().success()
}

#[test]
fn an_app_finds_what_its_unit_loads_and_sets() {
    let machine = Sandbox::of_this_machine();
    let file = machine.path("secret");
    fs::write(&file, SECRET).expect("the machine's own");
    let load = format!("LoadCredential=loaded:{}", file.display());
    let flags = ["--credential", "loaded", "--credential", "set", "-u", "1000"];
    let script = "cd $CREDENTIALS_DIRECTORY && pwd && cat loaded set && ls";
    let said = in_a_unit(&machine, &[&load, "SetCredential=set: and set"], &flags, script);
    assert_eq!(said, format!("/run/host/credentials\n{SECRET} and setloaded\nset\n"));
}

#[test]
fn what_systemd_decrypts_is_found_in_the_app() {
    let machine = Sandbox::of_this_machine();
    let (plain, sealed) = (machine.path("plain"), machine.path("sealed"));
    fs::write(&plain, SECRET).expect("the machine's own");
    let paths = [&plain, &sealed].map(|path| path.to_str().expect("it is plain"));
    let encrypt = ["encrypt", "--with-key=host", "--name=key", paths[0], paths[1]];
    machine.program("systemd-creds").args(encrypt).run().success();
    assert!(!fs::read_to_string(&sealed).expect("it is there").contains(SECRET));
    let load = format!("LoadCredentialEncrypted=key:{}", paths[1]);
    let said =
        in_a_unit(&machine, &[&load], &["--credential", "key"], "cat $CREDENTIALS_DIRECTORY/key");
    assert_eq!(said, SECRET);
}

#[test]
fn a_name_alone_is_looked_for_in_the_stores_of_the_host() {
    let machine = Sandbox::of_this_machine();
    let image = machine.fixture(Fixture::App);
    let run = |name: &str| {
        let cat = format!("cat $CREDENTIALS_DIRECTORY/{name}");
        machine.pod(["run", "--rm", &image, "--credential", name, "sh", "-c", &cat])
    };
    run("store-key").refuses(125, &["credential `store-key` of app `app` is nowhere"]);
    for store in ["/etc/credstore", "/run/credstore"] {
        fs::create_dir_all(store).expect("the machine's own");
        fs::write(format!("{store}/store-key"), store).expect("the machine's own");
    }
    assert_eq!(run("store-key").success(), "/etc/credstore");
    fs::remove_file("/etc/credstore/store-key").expect("it was written");
    assert_eq!(run("store-key").success(), "/run/credstore");
    fs::remove_file("/run/credstore/store-key").expect("it was written");
}

#[test]
fn systemd_decrypts_what_the_host_stores_for_a_unit_of_ours() {
    let machine = Sandbox::of_this_machine();
    let image = machine.fixture(Fixture::App);
    fs::create_dir_all("/etc/credstore.encrypted").expect("the machine's own");
    let (plain, sealed) = (machine.path("plain"), "/etc/credstore.encrypted/sealed-key");
    fs::write(&plain, SECRET).expect("the machine's own");
    let plain = plain.to_str().expect("it is plain").to_owned();
    let encrypt = ["encrypt", "--with-key=host", "--name=sealed-key", &plain, sealed];
    machine.program("systemd-creds").args(encrypt).run().success();
    let run = |flags: &[&str]| {
        let call = machine.call().args(["run", "--rm"]).args(flags);
        let app = [
            image.as_str(),
            "--credential",
            "sealed-key",
            "cat",
            "/run/host/credentials/sealed-key",
        ];
        call.args(app).run()
    };
    assert_eq!(run(&[]).success(), SECRET);
    run(&["--in-place"]).refuses(125, &["is encrypted", "LoadCredentialEncrypted=sealed-key"]);
    fs::remove_file(sealed).expect("it was written");
}

/// Another, which no app here says aloud.
const UNSPOKEN: &str = "incorrect donkey accumulator paperclip 1147";

#[test]
fn a_unit_of_ours_loads_what_the_pod_asks_for_and_shows_names_alone() {
    let machine = Sandbox::of_this_machine();
    let file = machine.path("secret");
    fs::write(&file, UNSPOKEN).expect("the machine's own");
    let flag = format!("key={}", file.display());
    let pod = machine.detached(
        "secretive",
        [&machine.fixture(Fixture::App), "--credential", &flag, "/probe", "wait"],
    );
    assert_eq!(pod.exec(&[], &["cat", "/run/host/credentials/key"]).success(), UNSPOKEN);
    let cat = ["cat", "pod-secretive.service"];
    let shown = machine.program("systemctl").args(cat).run().success();
    assert!(shown.contains("LoadCredential=key:"), "systemd reads it: {shown}");
    for words in [
        &["show", "pod-secretive.service"][..],
        &["cat", "pod-secretive.service"],
        &["status", "pod-secretive.service"],
    ] {
        let said = machine.program("systemctl").args(words).run();
        assert!(!said.raw.contains(UNSPOKEN), "{said}");
    }
    let journal = machine.program("journalctl").args(["--no-pager", "-b", "-o", "json"]).run();
    assert!(!journal.raw.contains(UNSPOKEN));
    pod.stop(&["-t", "0"]).success();
    // An administrator puts an encrypted one in its place, without a word to the pod.
    let sealed = machine.path("sealed");
    let sealed = sealed.to_str().expect("it is plain");
    fs::write(machine.path("other"), SECRET).expect("the machine's own");
    let other = machine.path("other");
    let encrypt =
        ["encrypt", "--with-key=host", "--name=key", other.to_str().expect("it is plain"), sealed];
    machine.program("systemd-creds").args(encrypt).run().success();
    let directory = "/run/systemd/system/pod-secretive.service.d";
    fs::create_dir_all(directory).expect("the machine's own");
    let text = format!("[Service]\nLoadCredentialEncrypted=key:{sealed}\n");
    fs::write(format!("{directory}/key.conf"), text).expect("the machine's own");
    machine.program("systemctl").args(["daemon-reload"]).run().success();
    machine.pod(["start", "-d", "secretive"]).success();
    assert_eq!(pod.exec(&[], &["cat", "/run/host/credentials/key"]).success(), SECRET);
    pod.stop(&["-t", "0"]).success();
    fs::remove_dir_all(directory).expect("it was made");
    machine.program("systemctl").args(["daemon-reload"]).run().success();

    fs::remove_file(&file).expect("it is there");
    machine
        .pod(["start", "-d", "secretive"])
        .refuses(125, &["credential `key` of app `app`", "is not there"]);
    machine.pod(["rm", "secretive"]).success();
}
