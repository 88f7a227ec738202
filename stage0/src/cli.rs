//! The grammar of the command line but for `run` and `prepare`, whose lines
//! [`crate::grammar`] reads.

use clap::{Args, Parser, Subcommand};

use crate::flags::{FetchFlags, Globals, ProcessFlags};

/// Run pods of apps from OCI images, without a daemon
#[derive(Debug, Parser)]
#[command(
    name = "pod",
    version,
    subcommand_required = true,
    arg_required_else_help = false,
    after_help = "\
Exit status:
  of run, start and exec: the app's own, 128+n for signal n, 127 program not found,
  126 program cannot be executed, 125 an error of pod; of all others: 1 refused, 2 usage"
)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) globals: Globals,
    #[command(subcommand)]
    pub(crate) verb: Verb,
}

/// What can be asked for.
#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Run a pod of one or more apps
    Run,
    /// Lay out a pod without starting it, and print its id
    Prepare,
    /// Start a prepared pod, or one that has ended
    Start(StartArgs),
    /// List running pods
    Ps(PsArgs),
    /// Show what a pod and its apps do
    Status(PodArgs),
    /// Show all that is known of a pod, as JSON
    Inspect(PodArgs),
    /// Write an app out as an OCI bundle, which runc and crun run
    Bundle(BundleArgs),
    /// Show what a pod's apps have written
    Logs(LogsArgs),
    /// Run a command in an app of a running pod
    Exec(ExecArgs),
    /// Stop pods in order
    Stop(StopArgs),
    /// Remove pods that do not run
    Rm(PodsArgs),
    /// Remove what is dead: pods that have ended, and what they left
    Gc(GcArgs),
    /// Fetch images into the store
    Fetch(FetchArgs),
    /// Images in the store
    #[command(subcommand)]
    Image(ImageVerb),
    /// Volumes that outlive pods
    #[command(subcommand)]
    Volume(VolumeVerb),
    /// Tell what this host can do and what to change
    Doctor,
    /// Print the version
    Version,
    /// Take back what a pod held
    #[command(hide = true)]
    Reap(ReapArgs),
    /// Unpack a layer, in a jail
    #[command(hide = true)]
    InternalUnpack,
}

/// One pod.
#[derive(Args, Debug)]
pub(crate) struct PodArgs {
    /// Name, id, or start of an id
    pub(crate) pod: String,
}

/// Several pods.
#[derive(Args, Debug)]
pub(crate) struct PodsArgs {
    /// Name, id, or start of an id
    #[arg(required = true, value_name = "POD")]
    pub(crate) pods: Vec<String>,
}

/// `pod bundle`.
#[derive(Args, Debug)]
pub(crate) struct BundleArgs {
    /// Which app [default: the only one]
    #[arg(short = 'c', long, value_name = "NAME")]
    pub(crate) app: Option<String>,
    /// Print `config.json` and write nothing
    #[arg(long, conflicts_with = "directory")]
    pub(crate) dry_run: bool,
    /// Name, id, or start of an id
    pub(crate) pod: String,
    /// Directory to make
    #[arg(value_name = "DIR", required_unless_present = "dry_run")]
    pub(crate) directory: Option<String>,
}

/// `pod start`.
#[derive(Args, Debug)]
pub(crate) struct StartArgs {
    /// Start in the background: print the pod's id once all apps are ready
    #[arg(short, long)]
    pub(crate) detach: bool,
    /// Become the supervisor of a pod whose starter waits
    #[arg(long, hide = true)]
    pub(crate) supervised: bool,
    /// The descriptor that holds the pod's lock already
    #[arg(long, value_name = "FD", hide = true, requires = "supervised")]
    pub(crate) locked: Option<i32>,
    /// Name, id, or start of an id
    pub(crate) pod: String,
}

/// `pod ps`.
#[derive(Args, Debug)]
pub(crate) struct PsArgs {
    /// List all pods, not only running ones
    #[arg(short, long)]
    pub(crate) all: bool,
    /// Print ids only
    #[arg(short, long)]
    pub(crate) quiet: bool,
    /// List only pods that fit: `id`, `name`, `status`, `label`, `app`, `image`, `exited` or
    /// `stage1` (repeatable)
    #[arg(short, long, value_name = "KEY=VALUE")]
    pub(crate) filter: Vec<String>,
    /// Write each pod as this line, with fields such as `{{.Name}}` or `{{json .}}`; `table …`
    /// lines columns up
    #[arg(long, value_name = "TEMPLATE")]
    pub(crate) format: Option<String>,
    /// List the N newest pods, running or not
    #[arg(short = 'n', long, value_name = "N", conflicts_with = "latest")]
    pub(crate) last: Option<usize>,
    /// List the newest pod, running or not
    #[arg(short, long)]
    pub(crate) latest: bool,
    /// Show whole ids
    #[arg(long)]
    pub(crate) no_trunc: bool,
}

/// `pod logs`.
#[derive(Args, Debug)]
pub(crate) struct LogsArgs {
    /// Go on until the pod ends
    #[arg(short, long)]
    pub(crate) follow: bool,
    /// Begin with the last N lines
    #[arg(short = 'n', long, value_name = "N")]
    pub(crate) tail: Option<usize>,
    /// Name, id, or start of an id
    pub(crate) pod: String,
    /// One app instead of all
    pub(crate) app: Option<String>,
}

/// `pod exec`.
#[derive(Args, Debug)]
#[command(override_usage = "pod exec [FLAGS] POD [--] COMMAND [ARGS…]")]
pub(crate) struct ExecArgs {
    /// In which app [default: the only one]
    #[arg(short = 'c', long, value_name = "NAME")]
    pub(crate) app: Option<String>,
    #[command(flatten)]
    pub(crate) process: ProcessFlags,
    /// Name, id, or start of an id
    pub(crate) pod: String,
    /// Command and its arguments
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = false)]
    pub(crate) command: Vec<String>,
}

/// `pod stop`.
#[derive(Args, Debug)]
pub(crate) struct StopArgs {
    /// Seconds until SIGKILL [default: each app's own grace]
    #[arg(short, long, value_name = "SECS")]
    pub(crate) time: Option<u64>,
    /// Name, id, or start of an id
    #[arg(required = true, value_name = "POD")]
    pub(crate) pods: Vec<String>,
}

/// `pod gc` and `pod image gc`.
#[derive(Args, Debug)]
pub(crate) struct GcArgs {
    /// Keep what is younger, such as `90s`, `30m`, `12h`, `7d`
    #[arg(long, value_name = "DURATION", default_value = "0s", value_parser = duration)]
    pub(crate) grace: u64,
    /// Tell what would be removed, and remove nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
}

/// `pod fetch`.
#[derive(Args, Debug)]
pub(crate) struct FetchArgs {
    #[command(flatten)]
    pub(crate) fetch: FetchFlags,
    /// `registry/repository[:tag][@digest]` or `oci:DIR[:tag]`
    #[arg(required = true, value_name = "IMAGE")]
    pub(crate) images: Vec<String>,
}

/// `pod image …`.
#[derive(Debug, Subcommand)]
pub(crate) enum ImageVerb {
    /// Fetch images into the store
    Pull(FetchArgs),
    /// List images
    #[command(alias = "list")]
    Ls,
    /// Show all that is known of an image, as JSON
    Inspect(ImageArgs),
    /// Forget images; `pod image gc` frees their space
    Rm(ImagesArgs),
    /// Remove what no image and no pod needs
    Gc(GcArgs),
    /// Check names, documents and blobs in the store against their digests
    Fsck,
}

/// `pod volume …`.
#[derive(Debug, Subcommand)]
pub(crate) enum VolumeVerb {
    /// List volumes, and the pods that mount them
    #[command(alias = "list")]
    Ls {
        /// Print names only
        #[arg(short, long)]
        quiet: bool,
    },
    /// Make volumes
    Create {
        /// Make only those that are not there
        #[arg(long)]
        ignore: bool,
        /// Their names
        #[arg(required = true, value_name = "NAME")]
        names: Vec<String>,
    },
    /// Show where a volume is and who mounts it, as JSON
    Inspect {
        /// Its name
        name: String,
    },
    /// Remove volumes that no pod mounts, with all they hold
    Rm(VolumesArgs),
    /// Remove every volume that no pod mounts, with all it holds
    Prune {
        /// Tell what would be removed, and remove nothing
        #[arg(long)]
        dry_run: bool,
    },
}

/// Several volumes.
#[derive(Args, Debug)]
pub(crate) struct VolumesArgs {
    /// Their names
    #[arg(required = true, value_name = "NAME")]
    pub(crate) names: Vec<String>,
}

/// One image.
#[derive(Args, Debug)]
pub(crate) struct ImageArgs {
    /// Its reference
    pub(crate) image: String,
}

/// Several images.
#[derive(Args, Debug)]
pub(crate) struct ImagesArgs {
    /// Their references
    #[arg(required = true, value_name = "IMAGE")]
    pub(crate) images: Vec<String>,
}

/// `pod reap`.
#[derive(Args, Debug)]
pub(crate) struct ReapArgs {
    /// Descriptors of the stage ABI are open
    #[arg(long)]
    pub(crate) inherited: bool,
    /// Print the error the pod has recorded
    #[arg(long)]
    pub(crate) show_error: bool,
    /// Exit with this status
    #[arg(long, value_name = "STATUS", default_value_t = 0)]
    pub(crate) code: u8,
    /// The pod's id
    pub(crate) pod: String,
}

/// Reads a span of time in seconds.
fn duration(word: &str) -> Result<u64, String> {
    let (digits, factor) = match word.char_indices().last() {
        Some((at, 's')) => (&word[..at], 1),
        Some((at, 'm')) => (&word[..at], 60),
        Some((at, 'h')) => (&word[..at], 3_600),
        Some((at, 'd')) => (&word[..at], 86_400),
        _ => (word, 1),
    };
    let plain = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    let seconds = digits.parse::<u64>().ok().filter(|_| plain);
    seconds
        .and_then(|seconds| seconds.checked_mul(factor))
        .ok_or_else(|| "it takes a number and `s`, `m`, `h` or `d`".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    #[test]
    fn the_grammar_is_one_clap_accepts() {
        Cli::command().debug_assert();
    }

    #[test]
    fn spans_of_time_have_units() {
        let table = [("0s", Some(0)), ("90", Some(90)), ("2m", Some(120)), ("1d", Some(86_400))];
        for (word, expected) in table {
            assert_eq!(duration(word).ok(), expected, "{word}");
        }
        for bad in ["", "s", "-1s", "1w", "+1s", "99999999999999999999d"] {
            assert!(duration(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn the_command_of_exec_keeps_its_flags() {
        let line = "pod exec shop -c web -u 5 ls -la --app x";
        let cli = Cli::try_parse_from(line.split(' ')).unwrap();
        let Verb::Exec(exec) = cli.verb else { panic!("exec") };
        assert_eq!((exec.app.as_deref(), exec.process.user.as_deref()), (Some("web"), Some("5")));
        assert_eq!(exec.command, ["ls", "-la", "--app", "x"]);
        let cli = Cli::try_parse_from("pod exec shop -- -x".split(' ')).unwrap();
        let Verb::Exec(exec) = cli.verb else { panic!("exec") };
        assert_eq!(exec.command, ["-x"]);
    }
}
