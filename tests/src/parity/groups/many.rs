//! Many pods: at one moment, and killed at random.

use std::thread;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::parity::{Group, Place, World, so};
use crate::random::Random;
use crate::said;

/// How many start at one moment, and how often.
const AT_ONCE: usize = 3;
const STORMS: usize = 2;
/// How many are killed.
const ROUNDS: u32 = 6;

pub(super) const STORM: Group = Group {
    name: "storm",
    place: Place::Anywhere,
    boots: 6,
    promises: &[
        so("storm", "Pods that start at one moment all run"),
        so("storm-leaves", "They leave nothing"),
    ],
    run: storm,
};

pub(super) const KILLS: Group = Group {
    name: "kills",
    place: Place::Anywhere,
    boots: ROUNDS,
    promises: &[
        so("kills", "A pod whose supervisor was killed at any moment has ended, whatever it ran"),
        so("kills-leave", "`pod gc` leaves nothing of it"),
    ],
    run: kills,
};

fn storm(world: &World<'_>) {
    for storm in 0..STORMS {
        let words: Vec<String> = (0..AT_ONCE).map(|at| format!("pod {storm}-{at}")).collect();
        let runs: Vec<_> = words
            .iter()
            .map(|word| {
                (world.run(&["--rm"]).args(world.app("app", &[], &["echo", word])).start(), word)
            })
            .collect();
        for (run, word) in runs {
            let said = run.wait();
            world.holds("storm", || assert_eq!(said.success().trim(), word));
        }
    }
    world.holds("storm-leaves", || {
        assert_eq!(world.sandbox.pod(["ps", "-a", "-q"]).success(), "");
        assert_eq!(world.sandbox.leaks(), Vec::<String>::new());
    });
}

fn kills(world: &World<'_>) {
    let sandbox = world.sandbox;
    sandbox.expect_debris();
    let mut random = Random::of_the_environment();
    for round in 0..ROUNDS {
        let name = format!("victim-{round}");
        let app = world.app("app", &[], &["/probe", "wait"]);
        let run = world.run(&["-d", "--name", &name]).args(app).start();
        let supervisor = world.wait_for("there is a supervisor", || {
            let shown = sandbox.pod(["status", "-o", "json", &name]);
            let status: serde_json::Value = serde_json::from_str(&shown.raw).ok()?;
            i32::try_from(status["status"]["supervisor"].as_i64()?).ok()
        });
        let moment = random.below(1_000_000 * u64::from(said::slowness()));
        // The moment is the point; nothing can be waited for.
        thread::sleep(Duration::from_micros(moment));
        world.holds("kills", || {
            // It may have ended by itself only when something else went wrong.
            kill(Pid::from_raw(supervisor), Signal::SIGKILL).expect("it lives until it is killed");
            let _ = run.wait();
            let code = sandbox.pod(["wait", &name]);
            assert_eq!(code.success(), "137\n", "round {round}, {moment} us");
        });
        world.holds("kills-leave", || {
            sandbox.pod(["gc"]).success();
            // One that was never ready goes by itself.
            let _ = sandbox.pod(["rm", &name]);
            assert_eq!(sandbox.leaks(), Vec::<String>::new(), "round {round}, {moment} us");
        });
    }
}
