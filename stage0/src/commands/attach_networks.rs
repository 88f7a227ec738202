//! `pod internal-attach`: joins the networks of a pod that is about to run. A short-lived child of
//! the pod's supervisor, which reads the answer from its standard output.

use std::io::{self, Write as _};

use pod_abi::PodId;
use pod_abi::manifest::Network;
use pod_abi::network::{Answer, Joined};
use pod_abi::phase::Home;
use rustix::fs::{CWD, Mode, OFlags, openat};

use crate::cli::AttachNetworksArgs;
use crate::error::{CommandError, Context as _, Result};
use crate::networks::Networks;
use crate::pods::{Pod, Pods};

/// Joins the networks of a pod, and tells its supervisor what came of it.
///
/// # Errors
///
/// Only if the answer cannot be written; that no network could be joined is an answer.
pub(crate) fn attach(args: &AttachNetworksArgs) -> Result<u8> {
    let answer = match join(args) {
        Ok(joined) => Answer::Joined(joined),
        Err(error) => Answer::Refused(error.report().clone()),
    };
    let writing = || "cannot answer the supervisor".to_owned();
    let text = serde_json::to_vec(&answer).map_err(io::Error::from).context(writing)?;
    io::stdout().write_all(&text).context(writing)?;
    Ok(0)
}

fn join(args: &AttachNetworksArgs) -> Result<Joined> {
    let id = PodId::parse(&args.pod).map_err(|error| CommandError::usage(error.to_string()))?;
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let opening = || format!("cannot open `{}`, the directory of a pod", args.directory.display());
    let dir = openat(CWD, &args.directory, flags, Mode::empty()).context(opening)?;
    let root = openat(&dir, "../../..", flags, Mode::empty()).context(opening)?;
    let pods = Pods::open(root)?;
    let sandbox = Pod::adopt(id.clone(), Home::Run, dir).manifest()?.sandbox;
    let Network::Joined(asked) = &sandbox.network else { return Ok(Joined::default()) };
    Networks::of(&pods)?.join(&id, &args.netns, asked, &sandbox.ports)
}
