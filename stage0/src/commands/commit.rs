//! `pod commit`: what an app has changed in its root, kept as an image.
//!
//! The changes of an app in namespaces lie in a directory of its pod. Those of an app in a virtual
//! machine lie in the machine's memory or on its scratch disk, where no host may look.

use std::os::fd::{AsFd as _, OwnedFd};

use images::Commit;
use pod_abi::app::AppSpec;
use pod_abi::control::Request;
use pod_abi::layout;
use pod_abi::phase::Phase;
use rustix::fs::OFlags;

use super::Session;
use super::subject::{choose, connect, state};
use crate::changes;
use crate::cli::CommitArgs;
use crate::error::{CommandError, Context as _, Result};
use crate::fetch as fetching;
use crate::host;
use crate::pods::{Lock, Pod, Query};
use crate::stage1;
use crate::ui::{self, Format, Telling};

/// Makes an image of an app's image and its changes, and prints its id and name.
///
/// # Errors
///
/// `pod.not-found`, `app.not-found`; `pod.busy` for a pod just being laid out or removed;
/// `commit.machine`; `image.…`; usage for what is no name or no change.
pub(crate) fn commit(session: &Session, args: &CommitArgs) -> Result<u8> {
    let reference = fetching::given(&args.image)?;
    if !reference.is_nameable() {
        let message = format!("`{reference}` is no name an image can be given");
        return Err(CommandError::usage(message).hint("a name is `REPOSITORY[:TAG]`"));
    }
    let settings = changes::read(&args.change)?;
    let (word, app) = match args.pod.split_once('/') {
        Some((pod, app)) => (pod, Some(app)),
        None => (args.pod.as_str(), None),
    };
    let pod = session.pods.find(&Query(word))?;
    let app = choose(&pod, app, "POD/APP")?;
    // Nobody starts or removes the pod meanwhile; that of a running one is its supervisor's.
    let held = pod.try_lock();
    let upper = upper(&pod, &app, word)?;
    let store = session.store()?;
    let lease = store.lease().map_err(|error| fetching::failed(&error))?;
    let telling = if args.quiet { Telling::Quiet } else { Telling::People };
    let progress = ui::Progress::new(telling.in_form(session.context.format));
    let standing = match args.pause && held == Lock::Theirs {
        true => Some(Standing::still(session, &pod, word)?),
        false => None,
    };
    let committed = store.commit(&Commit {
        base: &app.image,
        upper: upper.as_fd(),
        reference: &reference,
        settings: &settings,
        created: host::now(),
        author: args.author.as_deref(),
        comment: args.message.as_deref(),
        options: &fetching::options(None)?,
        lease: &lease,
        progress: &progress,
    });
    let went_on = standing.map_or(Ok(()), Standing::end);
    let image = committed.map_err(|error| {
        let told = fetching::failed(&error);
        match held {
            Lock::Theirs if !args.pause => told.hint("`--pause` has the pod stand still meanwhile"),
            _ => told,
        }
    })?;
    went_on?;
    match session.context.format {
        Format::Json => ui::json(&fetching::as_json(&image)),
        Format::Table => ui::out(&format!("{} {}\n", image.manifest, image.reference)),
    }
    .map(|()| 0)
}

/// Opens the directory of an app's changes.
fn upper(pod: &Pod, app: &AppSpec, word: &str) -> Result<OwnedFd> {
    let phase = pod.phase();
    if !matches!(phase, Phase::Prepared | Phase::Running | Phase::Exited) {
        let message = format!("pod `{word}` has no changes to keep: {}", state(phase));
        return Err(CommandError::new("pod.busy", message));
    }
    let stage1 = stage1::find(&pod.manifest()?.sandbox.stage1)?;
    if stage1.takes_images() {
        let message = format!("what app `{}` has changed lies in its virtual machine", app.name);
        return Err(CommandError::new("commit.machine", message)
            .hint(format!("`pod cp {word}:PATH DEST` copies out of a pod that runs")));
    }
    let path = format!("{}/{}", layout::app(&app.name), layout::UPPER);
    pod.open(&path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW)
        .context(|| format!("cannot open the changes of app `{}`", app.name))
}

/// A pod that stands still as long as this is not ended.
struct Standing<'s> {
    session: &'s Session,
    pod: &'s Pod,
    word: &'s str,
    /// Whether it stood still before; then it does so afterwards.
    was: bool,
}

impl<'s> Standing<'s> {
    fn still(session: &'s Session, pod: &'s Pod, word: &'s str) -> Result<Self> {
        let was = pod.status()?.is_some_and(|status| status.paused);
        if !was {
            connect(session, pod, word)?.ask(&Request::Pause)?;
        }
        Ok(Self { session, pod, word, was })
    }

    fn end(self) -> Result<()> {
        let Self { session, pod, word, was } = self;
        match was {
            true => Ok(()),
            false => connect(session, pod, word)?.ask(&Request::Resume).map(drop),
        }
    }
}
