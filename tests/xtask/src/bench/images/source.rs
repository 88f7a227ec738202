//! The images of `bench images`: those of the demo, a large one, and one of many small files.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use harness::registry::Registry;

use super::{Image, remove};
use crate::bench::measure::run;
use crate::error::Error;

/// Set to where the layouts of the demo's images are, for the second life of this program.
pub(super) const FIXTURES: &str = "POD_BENCH_FIXTURES";

/// Four copies of a minimal Debian, which are too far from each other for gzip to notice, and what
/// makes a gigabyte of them: 34,000 files in one layer.
pub(in crate::bench) const LARGE: &str = r#"
umoci unpack --image "$1" debian
mkdir root
for copy in 1 2 3 4; do cp -a debian/rootfs "root/$copy"; done
find debian/rootfs/usr -type f -print0 | sort -z | xargs -0 cat >root/one
cp root/one root/two
"#;

/// 50,000 files of up to a kilobyte.
const SMALL_FILES: &str = r#"
mkdir root && cd root
seq 50000 | awk '{
    directory = "d" int($1 / 500)
    if (!(directory in made)) { system("mkdir " directory); made[directory] = 1 }
    file = directory "/" $1
    printf "" >file
    for (line = 0; line < $1 % 40; line++) printf "%d of %d, %f\n", line, $1, sin($1 * line) >file
    close(file)
}'
"#;

/// Makes a layer of `root` and an image of the layer.
const LAYOUT: &str = r"
umoci init --layout l && umoci new --image l:1
tar --sort=name -C root -cf t . && rm -r root
umoci raw add-layer --image l:1 t
";

/// Makes the images and gives them to the registry.
pub(super) fn images(scratch: &Path, registry: &Registry) -> Result<Vec<Image>, Error> {
    let layouts = env::var_os(FIXTURES).unwrap_or_default();
    let mut images = Vec::new();
    let mut push = |layout: &Path, tag: &str, repository: &'static str| {
        let pushed = registry.push(layout, tag, &format!("{repository}:1"));
        pushed.map_err(|error| Error::of(&format!("cannot push `{repository}`"), &error))?;
        images.push(Image { host: registry.address(), repository });
        Ok::<(), Error>(())
    };
    let mut debian = PathBuf::new();
    for (layout, name) in env::split_paths(&layouts).zip(["busybox", "debian"]) {
        push(&layout, name, name)?;
        debian = layout;
    }
    let debian = format!("{}:debian", debian.display());
    let made = scratch.join("made");
    for (repository, root) in [("large", LARGE), ("small-files", SMALL_FILES)] {
        fs::create_dir(&made).map_err(|error| Error::of("cannot make a directory", &error))?;
        for script in [root, LAYOUT] {
            run(Command::new("sh").args(["-ec", script, "sh", &debian]).current_dir(&made))?;
        }
        push(&made.join("l"), "1", repository)?;
        remove(&made)?;
    }
    Ok(images)
}
