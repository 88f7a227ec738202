//! What is started again: an app by its policy, and a pod that has ended.

use pod_abi::exit::Ended;

use crate::parity::{Group, Place, Wall, World, nearly, so};

pub(super) const RESTARTS: Group = Group {
    name: "restarts",
    place: Place::Anywhere,
    boots: 1,
    promises: &[
        so("restart-counted", "An app that fails is started again as often as asked"),
        so("restart-always", "With `--restart always` an app that ended well is, too"),
        so("restart-files", "What an app wrote is there when it is started again"),
        so("back-off", "Between starts that fail soon there is a pause"),
        so("policy-main", "With a main app its end is the pod's, and its code"),
    ],
    run: restarts,
};

pub(super) const STARTS: Group = Group {
    name: "starts",
    place: Place::Anywhere,
    boots: 2,
    promises: &[
        so("prepared", "A prepared pod runs when it is started"),
        nearly(
            "files-stay",
            "A pod that is started again finds what it wrote",
            "with `--scratch SIZE`; without, the upper layers are in the guest's memory and gone with it",
        ),
        so("attempts", "Each start is counted"),
        so("removed", "A pod that was removed is gone"),
    ],
    run: starts,
};

fn restarts(world: &World<'_>) {
    let shared = ["--mount", "type=tmpfs,src=memory,dst=/memory"];
    let flags = |restart: &'static str| [&["--restart", restart][..], &shared].concat();
    let main = "until [ -e /memory/thrice -a -e /memory/failed ]; do sleep 0.1; done; exit 3";
    let always =
        "echo x >>/tries; [ $(wc -l </tries) -lt 3 ] || { touch /memory/thrice; exec sleep 1000; }";
    let fails = "echo x >>/tries; [ $(wc -l </tries) -lt 3 ] || touch /memory/failed; exit 9";
    let apps = [
        world.shell("main", &shared, main),
        world.shell("always", &flags("always"), always),
        world.shell("fails", &flags("on-failure:2"), fails),
    ];
    let words = apps.join(&"---");
    let said = world.run(&["--name", "again", "--exit-policy", "main=main"]).args(words).run();
    let pod = world.sandbox.status("again");
    let app =
        |name: &str| pod.apps.iter().find(|app| app.name.as_str() == name).expect("it is there");
    world.holds("policy-main", || assert_eq!((said.code, pod.code), (3, Some(3)), "{said}"));
    world.holds("restart-counted", || {
        assert_eq!(app("fails").restarts, 2, "{pod:?}");
        assert_eq!(app("fails").exit, Some(Ended::Exited { code: 9 }));
    });
    world.holds("restart-always", || assert_eq!(app("always").restarts, 2, "{pod:?}"));
    world.holds("restart-files", || assert_eq!(said.code, 3, "files counted the starts"));
    world.holds("back-off", || {
        let events = world.sandbox.pod(["events", "-o", "json", "again"]).success();
        assert!(events.contains("app-restarting") || events.contains("back"), "{events}");
    });
}

fn starts(world: &World<'_>) {
    let sandbox = world.sandbox;
    let app = world.shell("app", &[], "echo x >>/count; exec wc -l </count");
    let scratch: &[&str] = if world.wall == Wall::Machine { &["--scratch", "64m"] } else { &[] };
    let words = [&["--name", "twice"], scratch, &app].concat();
    world.making("prepare", &words).run().success();
    let mut codes = Vec::new();
    for _ in 0..2 {
        world.starts();
        codes.push(sandbox.pod(["start", "twice"]));
    }
    let said: Vec<&str> = codes.iter().map(|said| said.raw.trim()).collect();
    world.holds("prepared", || assert_eq!((codes[0].code, said[0]), (0, "1"), "{}", codes[0]));
    world.holds("files-stay", || assert_eq!((codes[1].code, said[1]), (0, "2"), "{}", codes[1]));
    world.holds("attempts", || assert_eq!(sandbox.status("twice").attempt, 2));
    world.holds("removed", || {
        sandbox.pod(["rm", "twice"]).success();
        sandbox.pod(["status", "twice"]).refuses(1, &["`twice`"]);
    });
}
