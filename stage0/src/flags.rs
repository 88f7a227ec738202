//! The flags of pods and of apps, and those every command takes.
//!
//! They stand apart from the sub-commands because `run` and `prepare` are not read by clap as a
//! whole: [`crate::grammar`] cuts their line into a pod's part and a part for each app, and these
//! types read the parts.

use std::path::PathBuf;

use clap::Args;

use crate::ui::Format;

/// The heading of flags of every command.
const GLOBAL: &str = "Flags of every command";

/// Flags of every command.
#[derive(Args, Clone, Debug, Default)]
pub(crate) struct Globals {
    /// Directory of pods and images [default: $POD_ROOT, else /var/lib/pod]
    #[arg(long, value_name = "DIR", global = true, help_heading = GLOBAL)]
    pub(crate) root: Option<PathBuf>,
    /// Directory of what lives as long as the machine is up [default: $POD_RUN_ROOT, else /run/pod]
    #[arg(long, value_name = "DIR", global = true, help_heading = GLOBAL)]
    pub(crate) run_root: Option<PathBuf>,
    /// Form of what is listed or shown, errors included: `table` or `json` [default: table]
    #[arg(short, long, value_name = "FORM", value_enum, hide_possible_values = true, global = true, help_heading = GLOBAL)]
    pub(crate) output: Option<Format>,
    /// Same as `--output json`
    #[arg(long, global = true, conflicts_with = "output", help_heading = GLOBAL)]
    pub(crate) json: bool,
}

impl Globals {
    /// Returns the form of output asked for.
    pub(crate) fn format(&self) -> Format {
        if self.json { Format::Json } else { self.output.unwrap_or_default() }
    }

    /// Takes over what `later` says, which stood later on the line.
    #[must_use]
    pub(crate) fn overridden_by(self, later: Self) -> Self {
        Self {
            root: later.root.or(self.root),
            run_root: later.run_root.or(self.run_root),
            json: later.json || (self.json && later.output.is_none()),
            output: later.output.or(self.output),
        }
    }
}

/// Flags of a pod: they stand before the first image.
#[derive(Args, Clone, Debug, Default)]
pub(crate) struct PodFlags {
    #[command(flatten)]
    pub(crate) globals: Globals,
    /// Start in the background: print the pod's id once all apps are ready
    #[arg(short, long)]
    pub(crate) detach: bool,
    /// Remove the pod as soon as it has ended
    #[arg(long)]
    pub(crate) rm: bool,
    /// Name of the pod; behind an image, of the app
    #[arg(long, value_name = "NAME")]
    pub(crate) name: Option<String>,
    /// Hostname of the pod [default: its name]
    #[arg(long, value_name = "NAME")]
    pub(crate) hostname: Option<String>,
    /// Network of the pod: `none` or `host` [default: none]
    #[arg(long, value_name = "KIND")]
    pub(crate) net: Option<String>,
    /// User ids of the pod: `auto`, a range of its own, or `host` [default: auto]
    #[arg(long, value_name = "KIND")]
    pub(crate) userns: Option<String>,
    /// What ends the pod: `any-failure`, `all` or `main=APP` [default: any-failure]
    #[arg(long, value_name = "POLICY")]
    pub(crate) exit_policy: Option<String>,
    /// What isolates the pod: a name or an absolute directory [default: ns]
    #[arg(long, value_name = "NAME|DIR")]
    pub(crate) stage1: Option<String>,
    #[command(flatten)]
    pub(crate) fetch: FetchFlags,
    /// A word of yours about the pod (repeatable)
    #[arg(long, value_name = "KEY=VALUE")]
    pub(crate) label: Vec<String>,
    /// Print what would run as JSON, and run nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Run what `--dry-run` has printed, from a file or `-`
    #[arg(long, value_name = "FILE")]
    pub(crate) spec: Option<PathBuf>,
}

/// Flags of whatever may fetch an image.
#[derive(Args, Clone, Debug, Default)]
pub(crate) struct FetchFlags {
    /// When to fetch images: `missing`, `always` or `never` [default: missing]
    #[arg(long, value_name = "WHEN")]
    pub(crate) pull: Option<String>,
    /// Platform of the images, `OS/ARCH[/VARIANT]` [default: the host's]
    #[arg(long, value_name = "PLATFORM")]
    pub(crate) platform: Option<String>,
    /// Speak plain HTTP to registries beyond loopback
    #[arg(long)]
    pub(crate) insecure_http: bool,
}

/// Flags of an app: they follow its image, or precede it if it is the only one.
#[derive(Args, Clone, Debug, Default)]
pub(crate) struct AppFlags {
    /// Name of the app [default: the last word of its image]
    #[arg(long, value_name = "NAME")]
    pub(crate) name: Option<String>,
    /// Variable of the environment; without a value, yours if you have it (repeatable)
    #[arg(short, long, value_name = "NAME[=VALUE]")]
    pub(crate) env: Vec<String>,
    /// Working directory
    #[arg(short, long, value_name = "DIR")]
    pub(crate) workdir: Option<String>,
    /// Who it runs as, by name or number
    #[arg(short, long, value_name = "USER[:GROUP]")]
    pub(crate) user: Option<String>,
    /// Directory or file of the host, or a named volume, to mount (repeatable)
    #[arg(short, long, value_name = "SRC:DST[:ro|rw]")]
    pub(crate) volume: Vec<String>,
    /// Mount a file system in memory (repeatable)
    #[arg(long, value_name = "DST[:size=BYTES]")]
    pub(crate) tmpfs: Vec<String>,
    /// Program to run in place of the image's
    #[arg(long, value_name = "PROGRAM")]
    pub(crate) entrypoint: Option<String>,
    /// Mount the root read-only
    #[arg(long)]
    pub(crate) read_only: bool,
    /// When it is started again: `no`, `on-failure[:N]` or `always` [default: no]
    #[arg(long, value_name = "POLICY")]
    pub(crate) restart: Option<String>,
    /// Capability to grant, or `ALL` (repeatable)
    #[arg(long, value_name = "CAPABILITY")]
    pub(crate) cap_add: Vec<String>,
    /// Capability to withhold, or `ALL` (repeatable)
    #[arg(long, value_name = "CAPABILITY")]
    pub(crate) cap_drop: Vec<String>,
}
