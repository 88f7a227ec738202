//! What a line says of one app, checked.

use std::collections::BTreeMap;
use std::collections::BTreeSet;

use pod_abi::app::{EnvVar, LogOptions, PidMode, Restart, Role, Stdio};
use pod_abi::credential::{Credential, SocketName};
use pod_abi::manifest::Insecure;
use pod_abi::readiness::Readiness;
use pod_abi::{AppName, PodPath};

use super::environment::read_env;
use super::limits::{Limits, read_limits, read_log_size};
use super::mounts::{MountRequest, read_mount, read_tmpfs, read_volume};
use super::privileges::{Privileges, read_privileges};
use super::words::{choice, contradiction, number, pairs, path, word};
use crate::caller::Caller;
use crate::error::{CommandError, Result};
use crate::flags::{LifeFlags, ProcessFlags, StorageFlags};
use crate::grammar::AppLine;
use crate::signal;

/// What a line says of one app.
#[derive(Clone, Debug, Default)]
pub(crate) struct AppRequest {
    pub(crate) image: String,
    pub(crate) name: Option<AppName>,
    pub(crate) process: ProcessRequest,
    pub(crate) entrypoint: Option<String>,
    pub(crate) command: Vec<String>,
    pub(crate) life: Life,
    pub(crate) mounts: Vec<MountRequest>,
    pub(crate) read_only: bool,
    pub(crate) credentials: Vec<Credential>,
    pub(crate) sockets: Vec<SocketName>,
    pub(crate) limits: Limits,
    pub(crate) privileges: Privileges,
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) annotations: BTreeMap<String, String>,
}

/// What a line says of a process, be it an app's own or one beside it.
#[derive(Clone, Debug, Default)]
pub(crate) struct ProcessRequest {
    pub(crate) stdio: Stdio,
    /// Whether it is fed with the caller's standard input.
    pub(crate) fed: bool,
    pub(crate) env: Vec<EnvVar>,
    pub(crate) workdir: Option<PodPath>,
    /// As typed; it is looked up in the image.
    pub(crate) user: Option<String>,
}

/// When an app starts, ends, and is started again.
#[derive(Clone, Debug, Default)]
pub(crate) struct Life {
    pub(crate) restart: Restart,
    pub(crate) readiness: Readiness,
    pub(crate) after: Vec<AppName>,
    pub(crate) role: Role,
    pub(crate) reaper: bool,
    pub(crate) pid: Option<PidMode>,
    /// The image's, if not given.
    pub(crate) stop_signal: Option<u8>,
    pub(crate) grace_ms: Option<u64>,
    pub(crate) log: LogOptions,
}

/// Reads what a line says of an app. `given_up` are the protections its pod has given up.
///
/// # Errors
///
/// A usage error that names the word, or the two that contradict each other.
pub(crate) fn read_app(
    app: AppLine,
    given_up: &BTreeSet<Insecure>,
    caller: &Caller<'_>,
) -> Result<AppRequest> {
    let AppLine { image, flags, command } = app;
    Ok(AppRequest {
        image,
        name: flags.name.as_deref().map(word).transpose()?,
        process: read_process(&flags.process, caller)?,
        entrypoint: flags.entrypoint,
        command,
        life: read_life(&flags.life)?,
        mounts: read_mounts(&flags.storage)?,
        read_only: flags.storage.read_only,
        credentials: flags
            .handed
            .credential
            .iter()
            .map(|word| read_credential(word))
            .collect::<Result<_>>()?,
        sockets: flags.handed.socket.iter().map(|name| word(name)).collect::<Result<_>>()?,
        limits: read_limits(&flags.limits, caller)?,
        privileges: read_privileges(&flags.privileges, given_up, caller)?,
        labels: pairs("label", &flags.label)?,
        annotations: pairs("annotation", &flags.annotation)?,
    })
}

/// Reads what a line says of a process.
///
/// # Errors
///
/// A usage error that names the word.
pub(crate) fn read_process(flags: &ProcessFlags, caller: &Caller<'_>) -> Result<ProcessRequest> {
    Ok(ProcessRequest {
        stdio: match (flags.tty, flags.interactive) {
            (true, _) => Stdio::Terminal,
            (false, true) => Stdio::Open,
            (false, false) => Stdio::Logged,
        },
        fed: flags.interactive,
        env: read_env(&flags.env_file, &flags.env, caller)?,
        workdir: flags.workdir.as_deref().map(path).transpose()?,
        user: flags.user.clone(),
    })
}

/// Reads `NAME` or `NAME=PATH`.
fn read_credential(text: &str) -> Result<Credential> {
    let (name, path) = match text.split_once('=') {
        Some((name, path)) => (name, Some(path)),
        None => (text, None),
    };
    if let Some(path) = path.filter(|path| !path.starts_with('/') || path.contains('\0')) {
        let message = format!("`{path}` is no absolute path, which `--credential {name}=` takes");
        let error = CommandError::usage(message);
        return Err(match path.split_once(':') {
            None if path.is_empty() => error
                .hint(format!("`--credential {name}` takes what the host holds under this name")),
            _ => error
                .hint("a secret on the line would be seen by all of the host: write it to a file"),
        });
    }
    Ok(Credential { name: word(name)?, path: path.map(str::to_owned) })
}

fn read_mounts(flags: &StorageFlags) -> Result<Vec<MountRequest>> {
    let volumes = flags.volume.iter().map(|word| read_volume(word));
    let mounts = flags.mount.iter().map(|word| read_mount(word));
    let tmpfs = flags.tmpfs.iter().map(|word| read_tmpfs(word));
    volumes.chain(mounts).chain(tmpfs).collect()
}

const PIDS: &[(&str, PidMode)] =
    &[("app", PidMode::App), ("pod", PidMode::Pod), ("host", PidMode::Host)];

fn read_restart(text: &str) -> Result<Restart> {
    word(text).map_err(|error: CommandError| match text {
        "unless-stopped" => error.hint("`always` means that here: what was stopped stays stopped"),
        _ => error,
    })
}

fn read_life(flags: &LifeFlags) -> Result<Life> {
    let pid = choice("--pid", flags.pid.as_deref(), PIDS)?;
    if let (true, Some(word), Some(PidMode::Pod | PidMode::Host)) = (flags.init, &flags.pid, pid) {
        return Err(contradiction("--init", &format!("--pid {word}")));
    }
    let restart = flags.restart.as_deref().map(read_restart).transpose()?.unwrap_or_default();
    let readiness = flags.readiness.as_deref().map(word).transpose()?.unwrap_or_default();
    if flags.init_app && restart != Restart::No {
        return Err(contradiction("--init-app", &format!("--restart {restart}")));
    }
    if flags.init_app && readiness != Readiness::Started {
        return Err(contradiction("--init-app", &format!("--readiness {readiness}")));
    }
    Ok(Life {
        restart,
        readiness,
        after: flags.after.iter().map(|name| word(name)).collect::<Result<_>>()?,
        role: if flags.init_app { Role::Init } else { Role::Main },
        reaper: flags.init,
        pid,
        stop_signal: flags.stop_signal.as_deref().map(read_signal).transpose()?,
        grace_ms: flags.stop_timeout.as_deref().map(read_grace).transpose()?,
        log: flags.log_size.as_deref().map(read_log_size).transpose()?.unwrap_or_default(),
    })
}

fn read_signal(word: &str) -> Result<u8> {
    signal::number(word).ok_or_else(|| {
        CommandError::usage(format!("`{word}` is no signal")).hint("`kill -L` lists them")
    })
}

fn read_grace(word: &str) -> Result<u64> {
    number(word).and_then(|seconds| seconds.checked_mul(1_000)).ok_or_else(|| {
        CommandError::usage(format!("`{word}` is no time to wait: it takes seconds"))
    })
}
