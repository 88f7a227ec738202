//! Five hundred SIGKILLs of processes that pull, tag, remove, render and collect in one store.
//!
//! ```text
//! round:  one to three children at once ─ some milliseconds ─ SIGKILL to all ─▶ what must be true
//! ```
//!
//! After each round: what was reported fetched is there, whole; every name means a whole image; the
//! store is sound. In the end `gc` leaves no residue. What is done and when comes from a seeded
//! generator, and is told with a failure; how far a child has come by then is the machine's.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::process::ExitStatusExt as _;
use std::process::{Child, ExitStatus};
use std::thread;
use std::time::Duration;

use images::{Image, Reference};

use crate::Table;
use crate::bench::{Bench, options};
use crate::child::{self, Deed};
use crate::image::Layers;

const LAYERS: Layers = &[30_000, 200_000, 500_000, 120_000];
/// How many processes are killed.
const KILLS: u32 = 500;
/// How many rounds that may take: a child that was done before cannot be killed.
const MOST_ROUNDS: u32 = 2000;
/// The images, by tag: which layers each has.
const IMAGES: [(&str, &[usize]); 4] =
    [("1", &[0, 1]), ("2", &[0, 1, 2]), ("3", &[2, 3]), ("4", &[3])];
/// The names that are given to what was pulled.
const FURTHER: [&str; 2] = ["further", "more"];

pub(crate) const TESTS: Table = &[(
    "five_hundred_kills_lose_nothing_and_leave_nothing",
    five_hundred_kills_lose_nothing_and_leave_nothing,
)];

/// A generator of choices (PCG's linear step): they must be spread, not unpredictable.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).unwrap() % bound
    }
}

/// How long a kill may wait, in microseconds: most things are soon done.
const WAITS: [usize; 4] = [2_000, 10_000, 30_000, 90_000];

/// A store with names of which some are known to mean something.
struct Storm {
    bench: Bench,
    /// What was reported and has not been taken away since.
    known: BTreeSet<String>,
    kills: u32,
    /// The last round, for whoever looks at a failure.
    last: String,
}

impl Drop for Storm {
    fn drop(&mut self) {
        if thread::panicking() {
            println!("{}", self.last);
        }
    }
}

fn five_hundred_kills_lose_nothing_and_leave_nothing() {
    let bench = Bench::new(LAYERS);
    for (tag, layers) in IMAGES {
        bench.pushed.publish_part(&bench.registry, tag, layers);
    }
    let mut storm = Storm { bench, known: BTreeSet::new(), kills: 0, last: String::new() };
    let mut random = Random(0x706f_6400);
    let mut rounds = 0;
    while storm.kills < KILLS {
        assert!(rounds < MOST_ROUNDS, "only {} kills in {rounds} rounds", storm.kills);
        rounds += 1;
        if random.below(2) == 0 {
            storm.forget_all();
        }
        let deeds: Vec<Deed> = (0..=random.below(3)).map(|_| storm.choose(&mut random)).collect();
        let longest = WAITS[random.below(WAITS.len())];
        let wait = Duration::from_micros(u64::try_from(random.below(longest)).unwrap());
        let known = &storm.known;
        storm.last = format!("round {rounds}: {deeds:?}, killed after {wait:?}, of {known:?}");
        storm.round(&deeds, wait);
        storm.check();
    }
    storm.bench.gc();
    assert_eq!(storm.bench.fsck().residue, 0, "a collection leaves nothing over");
    storm.check();
    storm.forget_all();
    storm.bench.holds_nothing();
}

impl Storm {
    fn reference(&self, tag: &str) -> String {
        format!("{}/team/app:{tag}", self.bench.registry.host())
    }

    /// Empties the store, so that there is something to do.
    fn forget_all(&mut self) {
        for name in self.bench.store.images().unwrap() {
            self.bench.store.remove(&Reference::parse(&name.reference).unwrap()).unwrap();
        }
        self.known.clear();
        self.bench.gc();
    }

    fn choose(&self, random: &mut Random) -> Deed {
        let (tag, _) = IMAGES[random.below(IMAGES.len())];
        let reference = self.reference(tag);
        match random.below(10) {
            0..=4 => Deed::Pull(reference),
            5 => Deed::Render(reference),
            6 => Deed::Tag(reference, self.reference(FURTHER[random.below(FURTHER.len())])),
            7 => Deed::Remove(reference),
            8 => Deed::Collect,
            _ => Deed::Tidy,
        }
    }

    /// Does all of `deeds` at once, kills whoever is not done, and notes what that means.
    fn round(&mut self, deeds: &[Deed], wait: Duration) {
        let root = self.bench.root.path();
        let mut children: Vec<Child> = deeds.iter().map(|deed| child::start(root, deed)).collect();
        thread::sleep(wait);
        for child in &mut children {
            child.kill().unwrap();
        }
        let ended: Vec<ExitStatus> =
            children.iter_mut().map(|child| child.wait().unwrap()).collect();
        for (deed, status) in deeds.iter().zip(&ended) {
            self.kills += u32::from(status.signal().is_some());
            match deed {
                // It may have come to that before the kill.
                Deed::Remove(reference) => drop(self.known.remove(reference)),
                Deed::Pull(_) | Deed::Collect | Deed::Tidy => {
                    assert!(status.success() || status.signal().is_some(), "{deed:?}: {status}");
                }
                Deed::Tag(..) | Deed::Render(_) => {}
            }
        }
        // Whether an image was taken away before or after it was reported, nobody knows.
        let removed = |reference: &String| {
            deeds.iter().any(|deed| matches!(deed, Deed::Remove(other) if other == reference))
        };
        for (deed, _) in deeds.iter().zip(&ended).filter(|(_, status)| status.success()) {
            let (Deed::Pull(made) | Deed::Tag(_, made)) = deed else { continue };
            if !removed(made) {
                self.known.insert(made.clone());
            }
        }
    }

    /// Checks all that must be true at any moment.
    fn check(&self) {
        assert_eq!(self.bench.fsck().findings, [], "the store is sound");
        let names: BTreeSet<String> =
            self.bench.store.images().unwrap().into_iter().map(|line| line.reference).collect();
        let lost: Vec<&String> = self.known.difference(&names).collect();
        assert!(lost.is_empty(), "{lost:?} are lost");
        for name in &names {
            self.is_whole(name);
        }
    }

    /// Checks that `name` means an image, each of whose layers holds what it should.
    fn is_whole(&self, name: &str) {
        let store = &self.bench.store;
        let reference = Reference::parse(name).unwrap();
        let lease = store.lease().unwrap();
        let image: Option<Image> = store.resolve(&reference, &options().platform, &lease).unwrap();
        let image = image.unwrap_or_else(|| panic!("{name} means nothing"));
        let layers = IMAGES.iter().find(|(_, layers)| {
            image.layers.len() == layers.len()
                && image.layers.iter().zip(*layers).all(|(layer, &place)| {
                    self.bench.pushed.config["rootfs"]["diff_ids"][place] == layer.to_string()
                })
        });
        let (_, places) = layers.unwrap_or_else(|| panic!("{name} has other layers: {image:?}"));
        for (path, &place) in store.layer_paths(&image.layers).unwrap().iter().zip(*places) {
            let file = self.bench.root.path().join("images/layers").join(path).join("file");
            assert!(fs::read(&file).unwrap() == self.bench.pushed.files[place], "{name}, {place}");
        }
    }
}
