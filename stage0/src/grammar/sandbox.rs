//! The grammar of `sandbox`: flags of a pod, and nothing else.

use clap::{Args, Command};

use super::{Asked, Line, is_called, read};
use crate::error::{CommandError, Result};
use crate::flags::PodFlags;

/// What makes no sense for an empty pod that is started at once: it is detached in any case, and
/// has no app to be found in a file, talked to or printed, and none whose image were to be fetched.
const WITHOUT: [&str; 10] = [
    "detach",
    "in-place",
    "spec",
    "detach-keys",
    "dry-run",
    "pull",
    "platform",
    "signature-policy",
    "insecure-http",
    "quiet",
];
/// Those that are about fetching.
const FETCHING: [&str; 5] = ["pull", "platform", "signature-policy", "insecure-http", "quiet"];

/// Reads the words behind `sandbox`.
///
/// # Errors
///
/// A usage error that names the word at fault.
pub(crate) fn parse(words: &[String]) -> Result<Asked> {
    if words.iter().any(|word| word == "--help" || word == "-h") {
        return Ok(Asked::Help(help().render_help().to_string()));
    }
    let command = PodFlags::augment_args(Command::new("sandbox").no_binary_name(true));
    let mut pod: PodFlags = read(command, words, "sandbox")?;
    let fetch = &pod.fetch;
    let given = [
        pod.detach,
        pod.in_place,
        pod.spec.is_some(),
        pod.detach_keys.is_some(),
        pod.dry_run,
        fetch.pull.is_some(),
        fetch.platform.is_some(),
        fetch.signature_policy.is_some(),
        fetch.insecure_http,
        fetch.quiet,
    ];
    if let Some((flag, _)) = WITHOUT.iter().zip(given).find(|(_, given)| *given) {
        let takes = ["`pod run` takes it", "`pod app add` takes it, with an image to fetch"];
        let hint = takes[usize::from(FETCHING.contains(flag))];
        return Err(
            CommandError::usage(format!("`--{flag}` is no flag of `pod sandbox`")).hint(hint)
        );
    }
    pod.detach = true;
    pod.exit_policy.get_or_insert_with(|| "never".to_owned());
    Ok(Asked::Line(Box::new(Line { pod, apps: Vec::new() })))
}

/// Returns the manual of `sandbox` as a clap command.
pub(crate) fn help() -> Command {
    let pod = PodFlags::augment_args(Command::new("pod"));
    let takes = |arg: &&clap::Arg| !WITHOUT.iter().any(|long| is_called(arg, long));
    Command::new("sandbox")
        .about("Make and start an empty pod, to which apps are added")
        .override_usage("pod sandbox [FLAGS]")
        .after_help(
            "A sandbox ends when it is stopped, unless `--exit-policy` says otherwise.\n\n\
             Example:\n  pod sandbox --name shop && pod app add --start shop example.org/web:1",
        )
        .args(pod.get_arguments().filter(takes))
}
