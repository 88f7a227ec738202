//! When apps start, when they are ready, and what one that fails means for the others.

use pod_abi::exit::Ended;
use pod_abi::status::AppState;

use crate::parity::{Group, Place, World, so};

pub(super) const GROUP: Group = Group {
    name: "order",
    place: Place::Anywhere,
    boots: 1,
    promises: &[
        so("after", "An app starts when the one before it is ready"),
        so("ready-http", "An app is ready when its page is served"),
        so("ready-command", "An app is ready when a command in it succeeds"),
        so("ready-notify", "An app is ready when it says so, and its words are its status"),
        so("ready-pod", "The pod is ready when all of its apps are"),
        so("policy-any", "The first app that fails ends the pod, with its code"),
        so("stop-others", "The others are asked to end then, and the pod ends after them"),
    ],
    run: order,
};

fn order(world: &World<'_>) {
    const SHARED: [&str; 2] = ["--mount", "type=tmpfs,src=memory,dst=/memory"];
    let sandbox = world.sandbox;
    let app = |name, flags: &[&'static str], script| {
        world.shell(name, &[&SHARED[..], flags].concat(), script)
    };
    let served = "trap 'echo server >>/memory/ended; exit 0' TERM; echo page >/tmp/page; \
        httpd -p 80 -h /tmp; while :; do sleep 0.1; done";
    let gate =
        "while ! test -e /memory/asked; do sleep 0.05; done; touch /memory/open; exec sleep 1000";
    let asking = "trap 'echo client >>/memory/ended; exit 0' TERM; wget -q -O - http://127.0.0.1/page; \
        touch /memory/asked; while :; do sleep 0.1; done";
    let says = "/probe notify 'STATUS=all is well' READY=1; exec sleep 1000";
    let fails = "while ! test -e /memory/fail; do sleep 0.1; done; exit 7";
    // Named before those it waits for: the order of the line is not the order of the start.
    let apps = [
        app("client", &["--after", "server"], asking),
        app("gate", &["--readiness", "exec:test -e /memory/open", "--after", "server"], gate),
        app("server", &["--readiness", "http:80/page"], served),
        app("says", &["--readiness", "notify"], says),
        app("fails", &[], fails),
    ];
    let pod = world.detached("order", &apps.join(&"---"));
    world.holds("after", || {
        assert!(pod.app("client").started >= pod.app("server").ready);
        assert!(sandbox.pod(["logs", "order", "client"]).success().contains("page"));
    });
    for (promise, app) in
        [("ready-http", "server"), ("ready-command", "gate"), ("ready-notify", "says")]
    {
        world.holds(promise, || {
            let status = pod.app(app);
            assert_eq!(status.state, AppState::Running);
            assert!(status.ready >= status.started, "{status:?}");
        });
    }
    world.holds("ready-notify", || {
        assert_eq!(pod.app("says").said.as_deref(), Some("all is well"));
    });
    world.holds("ready-pod", || assert!(pod.status().ready >= pod.app("gate").ready));
    pod.exec(&["-c", "gate"], &["touch", "/memory/fail"]).success();
    let status =
        world.wait_for("the pod ends", || Some(pod.status()).filter(|pod| pod.code.is_some()));
    world.holds("policy-any", || {
        assert_eq!(status.code, Some(7), "{status:?}");
        assert_eq!(pod.app("fails").exit, Some(Ended::Exited { code: 7 }));
    });
    world.holds("stop-others", || {
        let (client, server) = (pod.app("client"), pod.app("server"));
        assert_eq!(client.exit, Some(Ended::Exited { code: 0 }), "{client:?}");
        assert_eq!(server.exit, Some(Ended::Exited { code: 0 }), "{server:?}");
        assert!(status.ended >= client.ended && status.ended >= server.ended, "{status:?}");
    });
}
