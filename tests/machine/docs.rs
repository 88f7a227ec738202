//! The documents, followed line by line on a host that systemd runs: each line succeeds and says
//! what its document shows, and nothing is left when the document ends.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::json;
use tests::document::{self, Place, Step};
use tests::image::{Image, Layer};
use tests::sandbox::Sandbox;

/// Images the documents take for granted, beside `box`: where, and what they run.
const IMAGES: [(&str, &[&str]); 2] =
    [("/srv/images/shop", &["/probe", "wait"]), ("/srv/images/backup", &["/probe", "exit", "0"])];

#[test]
fn every_line_for_a_host_with_systemd_does_what_its_document_shows() {
    let count = follow(Place::Booted);
    assert!(count > 60, "only {count} lines were found");
}

/// Follows every document and returns how many lines were typed. One that does otherwise does not keep
/// the next of its document from being typed, so that all are told at once.
pub(crate) fn follow(place: Place) -> usize {
    let mut count = 0;
    for path in document::all(&document::in_machine()).expect("they are installed") {
        let text = fs::read_to_string(&path).expect("a document can be read");
        let steps = document::steps(&text, place);
        let steps = steps.unwrap_or_else(|why| panic!("{}: {why}", path.display()));
        if steps.is_empty() {
            continue;
        }
        let host = Host::made();
        let mut wrong = Vec::new();
        for step in &steps {
            match step {
                Step::Skip { .. } => {}
                Step::Write { path, text } => host.write(path, text),
                Step::Type { line, says } => {
                    count += 1;
                    let problem = host.typed(line, says.as_deref()).err();
                    wrong.extend(problem.map(|why| format!("{}: {why}", path.display())));
                }
            }
        }
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    }
    count
}

/// The host of somebody who reads one document.
struct Host {
    machine: Sandbox,
    /// What is there before a document is read.
    before: Vec<PathBuf>,
}

/// Where files of the documents may lie.
const FILES: [&str; 2] = ["/etc/systemd/system", "/etc/credstore"];

impl Host {
    fn made() -> Self {
        let machine = Sandbox::of_this_machine();
        let copied = "cp -r /fixtures/bb box && sed -i 's/\"latest\"/\"busybox\"/' box/index.json";
        machine.program("sh").args(["-ec", copied]).run().success();
        let probe = fs::read(machine.programs().path("probe")).expect("it is installed");
        for (place, command) in IMAGES {
            let image = Image::new().layer(Layer::new().file("probe", 0o755, &probe));
            let image = image.set("Cmd", json!(command));
            image.write(Path::new(place), "1").expect("the machine's own");
        }
        Self { machine, before: files() }
    }

    fn write(&self, path: &Path, text: &str) {
        let known = FILES.iter().any(|place| path.starts_with(place));
        assert!(known, "who takes {} away?", path.display());
        path.parent().map(fs::create_dir_all).expect("it lies beneath").expect("our own");
        fs::write(path, text).expect("our own");
    }

    /// Types a line, and compares what it says with what the document shows.
    fn typed(&self, line: &str, shown: Option<&str>) -> Result<(), String> {
        let said = self.machine.program("sh").args(["-ec", &format!("exec 2>&1\n{line}")]).run();
        match shown {
            _ if said.code != 0 => Err(format!("`{line}` failed:\n{said}")),
            Some(shown) if !document::fits(shown, &said.raw) => {
                Err(format!("`{line}` said otherwise:\n{said}"))
            }
            _ => Ok(()),
        }
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        fs::remove_dir_all("/srv/images").expect("it was written");
        for file in files().iter().filter(|file| !self.before.contains(file)) {
            let _ = fs::remove_dir_all(file); // a directory, or
            let _ = fs::remove_file(file);
        }
        let _ = self.machine.program("systemctl").args(["daemon-reload"]).run();
    }
}

/// Lists what lies in the places of the documents' files.
fn files() -> Vec<PathBuf> {
    let entries = FILES.iter().filter_map(|place| fs::read_dir(place).ok()).flatten().flatten();
    entries.map(|entry| entry.path()).collect()
}
