//! `cargo xtask parity`: looks at every promise behind both walls, and writes `docs/parity.md` of what
//! has passed.
//!
//! What a wall's tests have left is read even where some failed: the document says so then.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use harness::parity::{Found, GROUPS, Shown, Wall};

use crate::build;
use crate::error::Error;
use crate::machine::tier::Tier;
use crate::say;
use crate::test;

/// Carries out the words behind `parity`: nothing, or `--write`, which writes the document of what
/// earlier tests have left.
pub(crate) fn run(words: &[&str]) -> Result<(), Error> {
    match words {
        [] => {
            let host = test::run(&["--tier", "host", "--test", "parity"]);
            let machine = test::run(&["--tier", "qemu", "vm::parity"]);
            write()?;
            host.and(machine)
        }
        ["--write"] => write(),
        _ => Err(Error::new("usage: cargo xtask parity [--write]")),
    }
}

fn write() -> Result<(), Error> {
    let failed = |error: io::Error| Error::of("cannot ask what a machine is not given", &error);
    let mut shown = Shown::of(&build::built(build::Profile::Debug)).map_err(failed)?;
    for place in [on_host(), crate::machine::results(Tier::Qemu).join("parity")] {
        for wall in [Wall::Namespaces, Wall::Machine] {
            collect(&place.join(wall.stage1()), shown.behind(wall));
        }
    }
    let path = build::top().join("docs/parity.md");
    fs::write(&path, shown.document())
        .map_err(|error| Error::of(&format!("cannot write `{}`", path.display()), &error))?;
    say::fact("written", &path.display().to_string());
    Ok(())
}

fn on_host() -> PathBuf {
    build::target().join("parity")
}

/// Adds what the groups behind one wall have found, as far as they ran.
fn collect(place: &Path, shown: &mut BTreeMap<String, bool>) {
    for group in GROUPS {
        let text = fs::read(place.join(format!("{}.json", group.name)));
        let found = text.ok().and_then(|text| serde_json::from_slice::<Found>(&text).ok());
        let promises = found.into_iter().flat_map(|found| found.promises);
        shown.extend(promises.map(|(name, wrong)| (name, wrong.is_none())));
    }
}
