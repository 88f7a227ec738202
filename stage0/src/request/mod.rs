//! What the user meant, checked: nothing in it can contradict itself.
//!
//! From the words of a line to typed values; what depends on images is left to
//! [`crate::compose`]. The environment of the caller comes in as an argument, so that all of this
//! is pure.

mod capabilities;
mod mounts;

use std::collections::BTreeMap;
use std::path::PathBuf;

use pod_abi::app::{EnvVar, Restart};
use pod_abi::isolators::Capabilities;
use pod_abi::manifest::{ExitPolicy, Network, Userns};
use pod_abi::{AppName, PodName, PodPath};

use crate::error::{CommandError, Result};
use crate::flags::{AppFlags, FetchFlags, PodFlags};
use crate::grammar::{AppLine, Line};

use capabilities::read_capabilities;
use mounts::{read_tmpfs, read_volume};

pub(crate) use mounts::{MountFrom, MountRequest};

/// A pod, as asked for.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    /// Where its apps come from.
    pub(crate) source: Source,
    /// How its images are come by.
    pub(crate) fetch: FetchRequest,
    /// What becomes of its output, and of the command line.
    pub(crate) stdio: Stdio,
    /// Whether it goes when it ends.
    pub(crate) remove: bool,
    /// Whether it is printed rather than run.
    pub(crate) dry_run: bool,
    /// Its name, if given.
    pub(crate) name: Option<PodName>,
}

/// Where the apps of a pod come from.
#[derive(Clone, Debug)]
pub(crate) enum Source {
    /// From the line.
    Line(Box<PodRequest>),
    /// From a file that `--dry-run` has printed.
    Spec(PathBuf),
}

/// Who the apps' output belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stdio {
    /// Nobody; the id is printed, and the command returns once the pod is ready.
    Detached,
    /// The caller.
    Attached,
}

/// When images are fetched.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Pull {
    /// When they are not in the store.
    #[default]
    Missing,
    /// Always.
    Always,
    /// Never.
    Never,
}

/// What a line says of the whole pod.
#[derive(Clone, Debug)]
pub(crate) struct PodRequest {
    pub(crate) hostname: Option<PodName>,
    pub(crate) network: Network,
    pub(crate) userns: Userns,
    pub(crate) exit_policy: ExitPolicy,
    pub(crate) stage1: String,
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) apps: Vec<AppRequest>,
}

/// How images are come by.
#[derive(Clone, Debug, Default)]
pub(crate) struct FetchRequest {
    pub(crate) pull: Pull,
    pub(crate) platform: Option<String>,
    pub(crate) insecure_http: bool,
}

/// What a line says of one app.
#[derive(Clone, Debug, Default)]
pub(crate) struct AppRequest {
    pub(crate) image: String,
    pub(crate) name: Option<AppName>,
    pub(crate) env: Vec<EnvVar>,
    pub(crate) workdir: Option<PodPath>,
    pub(crate) user: Option<String>,
    pub(crate) mounts: Vec<MountRequest>,
    pub(crate) entrypoint: Option<String>,
    pub(crate) command: Vec<String>,
    pub(crate) read_only: bool,
    pub(crate) restart: Restart,
    pub(crate) capabilities: Capabilities,
}

/// Reads what a line means. `caller` looks up a variable of the caller's environment.
///
/// # Errors
///
/// A usage error that names the word at fault.
pub(crate) fn read(line: Line, caller: &dyn Fn(&str) -> Option<String>) -> Result<Request> {
    let Line { pod, apps } = line;
    let name = pod.name.as_deref().map(word::<PodName>).transpose()?;
    let stdio = if pod.detach { Stdio::Detached } else { Stdio::Attached };
    let (remove, dry_run) = (pod.rm, pod.dry_run);
    let fetch = read_fetch(&pod.fetch)?;
    let request = |source| Request {
        source,
        fetch: fetch.clone(),
        stdio,
        remove,
        dry_run,
        name: name.clone(),
    };
    if let Some(path) = &pod.spec {
        check_beside_spec(&pod)?;
        return Ok(request(Source::Spec(path.clone())));
    }
    let apps = apps.into_iter().map(|app| read_app(app, caller)).collect::<Result<Vec<_>>>()?;
    if pod.rm
        && let Some(app) = apps.iter().find(|app| app.restart != Restart::No)
    {
        return Err(CommandError::usage(format!(
            "`--rm` and `--restart {}` contradict each other",
            app.restart
        ))
        .hint("leave `--rm` away; `pod rm` and `pod gc` remove pods that have ended"));
    }
    let request = request(Source::Line(Box::new(read_pod(pod, apps)?)));
    Ok(request)
}

fn read_pod(pod: PodFlags, apps: Vec<AppRequest>) -> Result<PodRequest> {
    let stage1 = pod.stage1.unwrap_or_else(|| "ns".to_owned());
    if stage1.contains('/') && !stage1.starts_with('/') {
        return Err(CommandError::usage(format!(
            "`{stage1}` is no stage1: it takes a name or an absolute directory"
        )));
    }
    Ok(PodRequest {
        hostname: pod.hostname.as_deref().map(word).transpose()?,
        network: choice("--net", pod.net.as_deref(), NETWORKS)?,
        userns: choice("--userns", pod.userns.as_deref(), USERNS)?,
        exit_policy: pod.exit_policy.as_deref().map(word).transpose()?.unwrap_or_default(),
        stage1,
        labels: pod.label.iter().map(|label| read_label(label)).collect::<Result<_>>()?,
        apps,
    })
}

/// Reads how images are to be come by.
///
/// # Errors
///
/// A usage error for an unknown policy.
pub(crate) fn read_fetch(flags: &FetchFlags) -> Result<FetchRequest> {
    Ok(FetchRequest {
        pull: choice("--pull", flags.pull.as_deref(), PULLS)?,
        platform: flags.platform.clone(),
        insecure_http: flags.insecure_http,
    })
}

const NETWORKS: &[(&str, Network)] = &[("none", Network::None), ("host", Network::Host)];
const USERNS: &[(&str, Userns)] = &[("auto", Userns::Auto), ("host", Userns::Host)];
const PULLS: &[(&str, Pull)] =
    &[("missing", Pull::Missing), ("always", Pull::Always), ("never", Pull::Never)];

fn choice<T: Copy + Default>(flag: &str, word: Option<&str>, table: &[(&str, T)]) -> Result<T> {
    let Some(word) = word else { return Ok(T::default()) };
    if let Some((_, value)) = table.iter().find(|(known, _)| *known == word) {
        return Ok(*value);
    }
    let known: Vec<String> = table.iter().map(|(known, _)| format!("`{known}`")).collect();
    let (last, others) = known.split_last().expect("a flag has values");
    Err(CommandError::usage(format!("`{word}` is no value of `{flag}`"))
        .hint(format!("`{flag}` takes {} or {last}", others.join(", "))))
}

fn word<T: std::str::FromStr<Err: std::error::Error>>(word: &str) -> Result<T> {
    word.parse().map_err(|error: T::Err| CommandError::usage(error.to_string()))
}

fn check_beside_spec(pod: &PodFlags) -> Result<()> {
    let given = [
        ("--hostname", pod.hostname.is_some()),
        ("--net", pod.net.is_some()),
        ("--userns", pod.userns.is_some()),
        ("--exit-policy", pod.exit_policy.is_some()),
        ("--stage1", pod.stage1.is_some()),
        ("--platform", pod.fetch.platform.is_some()),
        ("--label", !pod.label.is_empty()),
    ];
    match given.iter().find(|(_, given)| *given) {
        Some((flag, _)) => Err(CommandError::usage(format!(
            "`{flag}` stands beside `--spec`, which holds that already"
        ))),
        None => Ok(()),
    }
}

fn read_label(label: &str) -> Result<(String, String)> {
    match label.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err(CommandError::usage(format!("`{label}` is no label: it takes KEY=VALUE"))),
    }
}

fn read_app(app: AppLine, caller: &dyn Fn(&str) -> Option<String>) -> Result<AppRequest> {
    let AppLine { image, flags, command } = app;
    let AppFlags { volume, tmpfs, .. } = &flags;
    let mut mounts = volume.iter().map(|word| read_volume(word)).collect::<Result<Vec<_>>>()?;
    for word in tmpfs {
        mounts.push(read_tmpfs(word)?);
    }
    Ok(AppRequest {
        image,
        name: flags.name.as_deref().map(word).transpose()?,
        env: read_env(&flags.env, caller)?,
        workdir: flags.workdir.as_deref().map(path).transpose()?,
        user: flags.user,
        mounts,
        entrypoint: flags.entrypoint,
        command,
        read_only: flags.read_only,
        restart: flags.restart.as_deref().map(word).transpose()?.unwrap_or_default(),
        capabilities: read_capabilities(&flags.cap_add, &flags.cap_drop)?,
    })
}

/// Reads a path inside an app.
///
/// # Errors
///
/// A usage error that names it.
pub(crate) fn path(word: &str) -> Result<PodPath> {
    PodPath::parse(word).map_err(|error| CommandError::usage(error.to_string()))
}

/// Reads variables; a bare name takes the caller's value, and nothing if the caller has none.
///
/// # Errors
///
/// A usage error that names the word.
pub(crate) fn read_env(
    words: &[String],
    caller: &dyn Fn(&str) -> Option<String>,
) -> Result<Vec<EnvVar>> {
    let mut vars = Vec::new();
    for word in words {
        let text = if word.contains('=') {
            word.clone()
        } else if word.is_empty() || word.contains('\0') {
            return Err(CommandError::usage(format!("`{word}` is no name of a variable")));
        } else {
            match caller(word) {
                Some(value) => format!("{word}={value}"),
                None => continue,
            }
        };
        let var = EnvVar::parse(&text).map_err(|error| CommandError::usage(error.to_string()))?;
        vars.push(var);
    }
    Ok(vars)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::grammar::{Asked, parse};
    use pod_abi::VolumeName;

    fn request(words: &str) -> Result<Request> {
        let words: Vec<String> = words.split(' ').map(str::to_owned).collect();
        let Asked::Line(line) = parse("run", &words)? else { panic!("help") };
        read(*line, &|name| (name == "HOME").then(|| "/home/me".to_owned()))
    }

    fn pod(words: &str) -> PodRequest {
        match request(words).unwrap().source {
            Source::Line(pod) => *pod,
            Source::Spec(_) => panic!("spec"),
        }
    }

    #[test]
    fn a_bare_name_takes_the_callers_value_if_there_is_one() {
        let app = &pod("-e HOME -e NONE -e A= x").apps[0];
        let vars: Vec<&str> = app.env.iter().map(EnvVar::as_str).collect();
        assert_eq!(vars, ["HOME=/home/me", "A="]);
    }

    #[test]
    fn volumes_are_paths_or_names() {
        let app = &pod("-v /a:/b -v data:/c:ro x").apps[0];
        assert_eq!(app.mounts[0].source, MountFrom::Host("/a".to_owned()));
        assert_eq!(app.mounts[1].source, MountFrom::Named(VolumeName::parse("data").unwrap()));
        assert!(app.mounts[1].read_only && !app.mounts[0].read_only);
    }

    #[test]
    fn wrong_values_are_refused_with_their_word() {
        let table = [
            ("--net bridge x", "`bridge` is no value of `--net`"),
            ("--userns on x", "`on` is no value of `--userns`"),
            ("--pull maybe x", "`maybe` is no value of `--pull`"),
            ("--rm --restart always x", "`--rm` and `--restart always` contradict each other"),
            ("-v /a x", "`/a` is no volume: it takes SRC:DST[:ro|rw]"),
            ("-v ./a:/b x", "`./a:/b` is no volume: it takes SRC:DST[:ro|rw]"),
            ("--cap-add NOPE x", "`NOPE` is no capability"),
            ("--label x x", "`x` is no label: it takes KEY=VALUE"),
            ("--spec f --net host", "`--net` stands beside `--spec`, which holds that already"),
        ];
        for (words, expected) in table {
            assert_eq!(request(words).unwrap_err().to_string(), expected, "{words}");
        }
        for words in ["--name UP x", "-w a x", "--restart never x", "x -e =b", "-v /a:b x"] {
            assert!(request(words).is_err(), "{words}");
        }
    }
}
