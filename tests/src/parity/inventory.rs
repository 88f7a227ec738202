//! Every end-to-end test of namespaces: the promises that carry what it says into a virtual machine,
//! or why that is not a machine's to show. The list is `inventory.txt`.
//!
//! ```text
//! tests/lifecycle                                    a file beneath `tests/`, without `.rs`
//!     the_exit_code_is_the_apps = exit-code          carried by these promises
//!     a_living_pod_is_not_removed : client           not carried, for this reason
//! ```

/// A test of namespaces.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// The file, beneath `tests/` and without `.rs`.
    pub file: &'static str,
    /// The function.
    pub test: &'static str,
    /// What became of it.
    pub answer: Answer,
}

/// What becomes of a test in a virtual machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// These promises say the same.
    Carried(Vec<&'static str>),
    /// It stays with namespaces: the name of a reason in [`REASONS`].
    Stays(&'static str),
}

/// Why a test stays with namespaces.
pub const REASONS: &[(&str, &str)] = &[
    (
        "budget",
        "about what a start costs in namespaces; a machine's figures are those of `cargo xtask bench vm`",
    ),
    ("bundle", "about OCI bundles, which other runtimes run"),
    (
        "client",
        "about the client's side of the control socket: the same program speaks to the same supervisor",
    ),
    ("code", "about the source, its documents or the harness"),
    (
        "filling",
        "about what a kill or a neighbour does to a volume being filled; one that is filled is `volume-of-image`",
    ),
    ("fly", "about pods without walls"),
    ("grammar", "about words that are read, or refused, before anything runs"),
    ("images", "about images: they are fetched, checked and kept before there is a wall"),
    (
        "kind",
        "decided by the same code inside the machine (`stage2-init`, `namespaces`); another of its kind is looked at there",
    ),
    (
        "namespaces",
        "about ids, mounts, cgroups or namespaces as the host sees them; a machine's are the guest's own",
    ),
    (
        "records",
        "about files of the pod on the host, which the supervisor keeps behind either wall",
    ),
    (
        "refused",
        "about what a machine cannot be given; that it is refused is `tests/machine/vm/refused.rs`",
    ),
    (
        "sockets",
        "about descriptors of a service manager, which do not pass into a machine; that they are refused is `tests/machine/vm/refused.rs`",
    ),
    (
        "systemd",
        "about the pod's unit, journal and machine name, which are those of the supervisor behind either wall",
    ),
];

/// Returns every row.
///
/// # Panics
///
/// When a line is none.
#[must_use]
pub fn all() -> Vec<Row> {
    let mut file = "";
    let mut rows = Vec::new();
    for line in include_str!("inventory.txt").lines() {
        let Some(row) = line.strip_prefix("    ") else {
            file = line;
            continue;
        };
        let (test, answer) = match (row.split_once(" = "), row.split_once(" : ")) {
            (Some((test, names)), _) => (test, Answer::Carried(names.split(' ').collect())),
            (None, Some((test, reason))) => (test, Answer::Stays(reason)),
            (None, None) => panic!("`{line}` is no row"),
        };
        rows.push(Row { file, test, answer });
    }
    rows
}
