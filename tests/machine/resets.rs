//! A store that works while the power fails, ten times: what was reported as fetched is there
//! afterwards, whole.
//!
//! ```text
//! a_store_works:  look what became of the last time ─ start fetching, removing, collecting
//!                 ─ a random moment later the machine is reset, with nothing written down ─┐
//!        ▲─────────────────────── the same disk, another boot ─────────────────────────────┘
//! ```
//!
//! The work writes down what was reported, durably, behind each report; and what is to be removed,
//! before. The machine must be one whose kernel is its own.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};
use tests::image::{Image, Layer};
use tests::random::Random;
use tests::sandbox::Sandbox;

/// Everything of this trial.
const PLACE: &str = "/var/lib/resets";
/// The unit that works.
const UNIT: &str = "resets.service";
/// The images, by tag, and how many kilobytes of noise the two layers of each have.
const IMAGES: [(&str, [usize; 2]); 4] =
    [("a", [300, 900]), ("b", [40, 2500]), ("c", [700, 700]), ("d", [10, 20])];
/// What `$1` begins with stands for `pod` with the roots of this trial. A line of `reported` is a
/// tag behind `+`, fetched, or `-`, to be removed.
const WORK: &str = r#"
cd /var/lib/resets
pod="pod --root=root --run-root=/run/resets"
note() { echo "$1" >>reported && sync reported; }
while :; do
    for tag in a b c d; do
        $pod fetch -q "oci:layout:$tag" && note "+$tag"
    done
    for tag in b d a; do
        note "-$tag"
        $pod image rm "oci:layout:$tag"
        $pod image gc
    done
done
"#;

/// `pod` with a store of its own, on a disk that outlives boots.
fn pod(machine: &Sandbox, args: &[&str]) -> tests::said::Said {
    let roots = ["--root=/var/lib/resets/root", "--run-root=/run/resets"];
    machine.program("pod").args(roots).args(args).run()
}

fn reference(tag: &str) -> String {
    format!("oci:{PLACE}/layout:{tag}")
}

/// Bytes that differ from tag to tag and no compressor makes smaller.
fn noise(tag: &str, layer: usize, kilobytes: usize) -> Vec<u8> {
    let mut random = Random::fixed();
    let skip = usize::from(tag.as_bytes()[0]) * 7 + layer;
    for _ in 0..skip {
        let _ = random.below(2);
    }
    (0..kilobytes << 8).flat_map(|_| random.below(1 << 31).to_le_bytes()).collect()
}

/// Writes the images down, durably.
fn make(machine: &Sandbox) {
    for (tag, sizes) in IMAGES {
        let mut image = Image::new().set("Cmd", json!(["/file-0"]));
        for (layer, kilobytes) in sizes.into_iter().enumerate() {
            let name = format!("file-{layer}");
            image = image.layer(Layer::new().file(&name, 0o755, &noise(tag, layer, kilobytes)));
        }
        image.write(&Path::new(PLACE).join("layout"), tag).expect("the disk takes it");
    }
    machine.program("sync").run().success();
}

/// Returns what was reported and not to be removed since.
fn reported() -> Vec<String> {
    let text = fs::read_to_string(Path::new(PLACE).join("reported")).unwrap_or_default();
    let mut last: BTreeMap<&str, bool> = BTreeMap::new();
    for line in text.split_inclusive('\n').filter_map(|line| line.strip_suffix('\n')) {
        match line.split_at_checked(1) {
            Some(("+", tag)) => drop(last.insert(tag, true)),
            Some(("-", tag)) => drop(last.insert(tag, false)),
            _ => panic!("{line:?} is no line of the work's"),
        }
    }
    last.into_iter().filter(|(_, there)| *there).map(|(tag, _)| reference(tag)).collect()
}

/// Checks what a reset has left: all that was reported, nothing that is half, no finding.
fn check(machine: &Sandbox) {
    pod(machine, &["image", "fsck"]).success();
    let lines: Vec<Value> = pod(machine, &["--json", "image", "ls"]).json();
    let there: Vec<&str> = lines.iter().filter_map(|line| line["reference"].as_str()).collect();
    for reference in reported() {
        assert!(there.contains(&reference.as_str()), "{reference} was reported; {there:?}");
    }
    let tree = machine.path("tree");
    for name in there {
        let tag = name.rsplit(':').next().unwrap_or_default();
        let args = ["image", "extract", "--rootfs-only", name, &tree.display().to_string()];
        pod(machine, &args).success();
        let sizes = IMAGES.iter().find(|(known, _)| *known == tag).map(|(_, sizes)| sizes);
        for (layer, kilobytes) in sizes.into_iter().flatten().enumerate() {
            let found = fs::read(tree.join(format!("file-{layer}"))).expect("the file is there");
            assert!(found == noise(tag, layer, *kilobytes), "file-{layer} of {name} is another");
        }
        fs::remove_dir_all(&tree).expect("it was written");
    }
    pod(machine, &["image", "gc"]).success();
    let said = pod(machine, &["--json", "image", "fsck"]);
    let report: Value = said.json();
    assert_eq!((&report["residue"], &report["findings"]), (&json!(0), &json!([])), "{report}");
}

#[test]
fn a_store_works() {
    let machine = Sandbox::of_this_machine();
    let place = Path::new(PLACE);
    let count = place.join("rounds");
    if place.exists() {
        check(&machine);
    } else {
        fs::create_dir(place).expect("the disk takes it");
        make(&machine);
    }
    let round = fs::read_to_string(&count).ok().and_then(|text| text.parse().ok()).unwrap_or(0u64);
    fs::write(&count, (round + 1).to_string()).expect("the disk takes it");
    machine.program("sync").run().success();
    let start = ["--quiet", "--collect", "--unit", UNIT, "sh", "-c", WORK];
    machine.program("systemd-run").args(start).run().success();
    let mut random = Random::of_the_environment();
    let moments: Vec<u64> = (0..=round).map(|_| 200 + random.below(6000)).collect();
    thread::sleep(Duration::from_millis(moments[moments.len() - 1]));
    machine.leave_to_the_next_boot();
}

#[test]
fn nothing_is_lost_and_nothing_is_half() {
    let machine = Sandbox::of_this_machine();
    check(&machine);
    let count = fs::read_to_string(Path::new(PLACE).join("rounds")).unwrap_or_default();
    assert_eq!(count, "10", "resets");
    let text = fs::read_to_string(Path::new(PLACE).join("reported")).unwrap_or_default();
    assert!(text.lines().filter(|line| line.starts_with('+')).count() >= 10, "it worked: {text}");
    fs::remove_dir_all(PLACE).expect("it is ours");
    fs::remove_dir_all("/run/resets").expect("it is ours");
}
