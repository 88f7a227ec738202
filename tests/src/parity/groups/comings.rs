//! Apps that come to a pod while it lives, and leave it.

use std::fs;

use pod_abi::status::AppState;

use crate::parity::{Group, Place, Wall, World, nearly, so};

pub(super) const GROUP: Group = Group {
    name: "comings",
    place: Place::Anywhere,
    boots: 2,
    promises: &[
        so("sandbox", "A pod without apps is ready at once"),
        so(
            "app-add",
            "An app is added and started while the pod runs, and shares what is the pod's",
        ),
        nearly(
            "app-volume",
            "An app that comes later brings volumes of the host",
            "refused, with the way out: a machine gets its shared directories before it boots",
        ),
        so("app-added-only", "An app that was only added waits"),
        so("app-stop", "An app is stopped by itself"),
        so("app-rm", "An app that was stopped is removed, with what it wrote; a living one is not"),
        so("app-refused", "An app that cannot be added leaves the pod as it was"),
        so("apps-stay", "A pod that is started again has the apps that came to it"),
    ],
    run: comings,
};

fn comings(world: &World<'_>) {
    const MEMORY: [&str; 2] = ["--mount", "type=tmpfs,src=memory,dst=/memory"];
    let sandbox = world.sandbox;
    let made = world.making("sandbox", &["--name", "shop"]).run();
    world.holds("sandbox", || {
        assert!(made.code == 0 && sandbox.status("shop").ready.is_some(), "{made}");
    });
    let add = |flags: &[&str], words: &[&str]| {
        sandbox.call().args(["app", "add"]).args(flags).args(["shop"]).args(words).run()
    };
    world.holds("app-add", || {
        let one = world.shell("one", &MEMORY, "echo hello >/memory/word; echo up; exec sleep 1000");
        assert_eq!(add(&["--start"], &one).success(), "one\n");
        sandbox.call().args(["logs", "-f", "shop", "one"]).start().wait_for("up");
    });
    world.holds("app-added-only", || {
        let script = "cat /memory/word; echo read; exec sleep 1000";
        let two = world.shell("two", &[&MEMORY[..], &["--after", "one"]].concat(), script);
        add(&[], &two).success();
        assert_eq!(sandbox.status("shop").apps[1].state, AppState::Waiting);
        sandbox.pod(["app", "start", "shop", "two"]).success();
        sandbox.call().args(["logs", "-f", "shop", "two"]).start().wait_for("read");
        assert_eq!(world.logs("shop", "two"), "hello\nread\n");
    });
    world.holds("app-volume", || {
        let source = sandbox.path("data");
        fs::create_dir(&source).expect("the sandbox can be written");
        fs::write(source.join("file"), "of the host\n").expect("the sandbox can be written");
        let mount = format!("{}:/host:ro", source.display());
        let three = world.shell("three", &["-v", &mount], "cat /host/file; exec sleep 1000");
        let added = add(&["--start"], &three);
        if world.wall == Wall::Machine {
            added.refuses(1, &["asks for a volume of the host", "stop the pod"]);
            return;
        }
        added.success();
        let said = sandbox.pod(["exec", "-c", "three", "shop", "cat", "/host/file"]);
        assert_eq!(said.success(), "of the host\n");
        sandbox.pod(["app", "stop", "shop", "three"]).success();
        sandbox.pod(["app", "rm", "shop", "three"]).success();
    });
    world.holds("app-refused", || {
        let before = sandbox.status("shop");
        add(&[], &world.shell("one", &[], "true")).refuses(1, &["`one`", "twice"]);
        add(&[], &world.shell("x", &["--after", "nobody"], "true")).refuses(1, &["`nobody`"]);
        assert_eq!(sandbox.status("shop"), before);
    });
    world.holds("app-rm", || {
        let four = world.shell("four", &[], "echo up; exec sleep 1000");
        add(&["--start"], &four).success();
        sandbox.pod(["app", "rm", "shop", "four"]).refuses(1, &["`four`", "stopped first"]);
        sandbox.pod(["app", "stop", "shop", "four"]).success();
        sandbox.pod(["app", "rm", "shop", "four"]).success();
    });
    world.holds("app-stop", || {
        sandbox.pod(["app", "stop", "shop", "two"]).success();
        let apps = sandbox.status("shop").apps;
        let states: Vec<_> = apps.iter().map(|app| (app.name.as_str(), app.state)).collect();
        assert_eq!(states, [("one", AppState::Running), ("two", AppState::Exited)]);
    });
    let stopped = sandbox.pod(["stop", "-t", "0", "shop"]);
    world.starts();
    let again = sandbox.pod(["start", "-d", "shop"]);
    world.holds("apps-stay", || {
        assert_eq!((stopped.code, again.code), (0, 0), "{stopped}{again}");
        let shop = sandbox.status("shop");
        assert_eq!(shop.apps.len(), 2, "{shop:?}");
        assert!(shop.apps.iter().all(|app| app.state == AppState::Running), "{shop:?}");
    });
    sandbox.pod(["stop", "-t", "0", "shop"]).success();
}
