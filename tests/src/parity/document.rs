//! `docs/parity.md`: what holds behind which wall, and which tests of namespaces say so.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::io;
use std::process::{Command, Stdio};

use serde::Deserialize;

use crate::parity::inventory::{self, Answer, REASONS};
use crate::parity::{GROUPS, MOST_BOOTS, Wall, missing};
use crate::programs::Programs;

/// Whether each promise holds, behind each wall.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Shown {
    /// In namespaces.
    pub namespaces: BTreeMap<String, bool>,
    /// In a virtual machine.
    pub machine: BTreeMap<String, bool>,
    /// What a virtual machine is never given.
    pub refused: Vec<Refused>,
}

/// Something that is refused with its reason, as `stage1-kvm features` tells.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Refused {
    what: String,
    why: String,
    way_out: String,
}

/// What stands for a promise that holds, and for one that was not seen to.
const HOLDS: &str = "yes";
const OPEN: &str = "not yet";

const HEAD: &str = "# Parity

`pod run --stage1 kvm` gives the same pod in a virtual machine of its own. This table is written by `cargo xtask parity` of what has passed: each promise is a check
that runs in namespaces and, the same code, in a machine with Debian's stock kernel. A row that differs says how, and why.

";

impl Shown {
    /// Returns what was shown behind a wall.
    pub fn behind(&mut self, wall: Wall) -> &mut BTreeMap<String, bool> {
        match wall {
            Wall::Namespaces => &mut self.namespaces,
            Wall::Machine => &mut self.machine,
        }
    }

    /// Asks the program what it refuses.
    ///
    /// # Errors
    ///
    /// When it does not answer.
    pub fn of(programs: &Programs) -> io::Result<Self> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Features {
            not_given: Vec<Refused>,
        }
        let program = programs.path("stage1/kvm/stage1-kvm");
        let said = Command::new(program).arg("features").stderr(Stdio::inherit()).output()?;
        let features: Features = serde_json::from_slice(&said.stdout)?;
        Ok(Self { refused: features.not_given, ..Self::default() })
    }

    /// Reads out of the document what was shown.
    #[must_use]
    pub fn read(self, text: &str) -> Self {
        let mut shown = self;
        let tables = text.split("\n## Refused").next().unwrap_or_default();
        for row in tables.lines().filter_map(|line| line.strip_prefix("| `")) {
            let cells: Vec<&str> = row.split(" | ").collect();
            if let [name, _, namespaces, machine, ..] = cells[..] {
                let name = name.trim_end_matches('`').to_owned();
                shown.namespaces.insert(name.clone(), namespaces == HOLDS);
                shown.machine.insert(name, machine == HOLDS);
            }
        }
        shown
    }

    /// Writes the document.
    #[must_use]
    pub fn document(&self) -> String {
        let mut text = HEAD.to_owned();
        let cell = |shown: &BTreeMap<String, bool>, name: &str| {
            if shown.get(name) == Some(&true) { HOLDS } else { OPEN }
        };
        let boots: u32 = GROUPS.iter().map(|group| group.boots).sum();
        for group in GROUPS {
            let title = format!(
                "## {}\n\n| promise | what is so | ns | kvm | differs |\n|---|---|---|---|---|\n",
                group.name
            );
            text.push_str(&title);
            for promise in group.promises {
                let name = promise.name;
                let (ns, kvm) = (cell(&self.namespaces, name), cell(&self.machine, name));
                let differs = match (missing(name), promise.differs) {
                    (Some(missing), _) => format!("not yet: {missing}"),
                    (None, differs) => differs.unwrap_or("–").to_owned(),
                };
                // A string takes everything.
                let _ =
                    writeln!(text, "| `{name}` | {} | {ns} | {kvm} | {differs} |", promise.says);
            }
            text.push('\n');
        }
        let _ = writeln!(
            text,
            "All of this boots {boots} virtual machines; more than {MOST_BOOTS} fail the test.\n\n## Refused\n\n\
             What no pod in a machine can be; who asks for it is told so, and the way out:\n\n\
             | what | why | way out |\n|---|---|---|"
        );
        for Refused { what, why, way_out } in &self.refused {
            let _ = writeln!(text, "| {what} | {why} | {way_out} |");
        }
        let _ = writeln!(
            text,
            "\n## Tests\n\n\
             Every end-to-end test of namespaces, and the promises that say the same in a machine, or why none does:\n"
        );
        for (name, reason) in REASONS {
            let _ = writeln!(text, "- *{name}*: {reason}");
        }
        text.push_str("\n| test | in a machine |\n|---|---|\n");
        for row in inventory::all() {
            let answer = match row.answer {
                Answer::Carried(names) => format!("`{}`", names.join("` `")),
                Answer::Stays(reason) => format!("*{reason}*"),
            };
            let _ = writeln!(text, "| `tests/{}.rs` `{}` | {answer} |", row.file, row.test);
        }
        text
    }
}
