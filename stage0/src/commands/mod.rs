//! The commands: arguments → request → calls → what is shown. One file each; what they share with
//! one another is [`Session`], the opened surroundings.

mod app;
mod attach;
mod attach_networks;
mod bundle;
mod commit;
mod completion;
mod cp;
mod discover;
mod dns;
mod doctor;
mod enable;
mod events;
mod exec;
mod extract;
mod gc;
mod generate;
mod grammar;
mod image;
mod image_list;
mod info;
mod inspect;
mod login;
mod logs;
mod network;
mod pause;
mod port;
mod port_forward;
mod ps;
mod push;
mod reap;
mod register;
mod reuse;
mod rm;
mod run;
mod start;
mod stats;
mod stop;
mod subject;
mod top;
mod transfer;
mod trust;
mod trust_show;
mod update;
mod volume;
mod wait;

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use images::Store;

use crate::context::{Context, require_root};
use crate::ending::Ender;
use crate::error::{CommandError, Result};
use crate::launch::{Background, Launcher};
use crate::pods::{Pod, Pods};
use crate::supervision::{Facts, Place, Supervision, Wish};
use crate::ui::{self, Format};
use crate::{fetch, leftovers, supervision};

pub(crate) use app::{add as add_app, app};
pub(crate) use attach::attach_to as attach;
pub(crate) use attach_networks::attach as attach_networks;
pub(crate) use bundle::bundle;
pub(crate) use commit::commit;
pub(crate) use completion::completion;
pub(crate) use cp::cp;
pub(crate) use dns::dns;
pub(crate) use doctor::doctor;
pub(crate) use enable::{disable, enable};
pub(crate) use events::events;
pub(crate) use exec::exec;
pub(crate) use gc::gc;
pub(crate) use generate::systemd as generate_systemd;
pub(crate) use grammar::grammar;
pub(crate) use image::{fetch as fetch_images, image};
pub(crate) use info::info;
pub(crate) use inspect::{inspect, spec, status};
pub(crate) use login::{login, logout};
pub(crate) use logs::logs;
pub(crate) use network::network;
pub(crate) use pause::{pause, unpause};
pub(crate) use port::port;
pub(crate) use port_forward::port_forward;
pub(crate) use ps::ps;
pub(crate) use reap::reap;
pub(crate) use register::register;
pub(crate) use rm::rm;
pub(crate) use run::{prepare, run};
pub(crate) use start::start;
pub(crate) use stats::stats;
pub(crate) use stop::{kill, restart, stop};
pub(crate) use top::top;
pub(crate) use trust::trust;
pub(crate) use update::update;
pub(crate) use volume::volume;
pub(crate) use wait::wait;

/// The surroundings of a command, opened.
#[derive(Debug)]
pub(crate) struct Session {
    /// Where and how.
    pub(crate) context: Context,
    /// The pods.
    pub(crate) pods: Pods,
    run_root: OwnedFd,
    supervision: Box<dyn Supervision>,
}

impl Session {
    /// Opens what `verb` works on.
    ///
    /// # Errors
    ///
    /// `not-root`, or `storage`.
    pub(crate) fn open(context: Context, verb: &str) -> Result<Self> {
        require_root(verb)?;
        let pods = Pods::open(context.open_root()?)?;
        let run_root = context.open_run_root()?;
        let supervision = supervision::by(context.manager);
        Ok(Self { context, pods, run_root, supervision })
    }

    /// Returns the run root.
    pub(crate) fn run_root(&self) -> BorrowedFd<'_> {
        self.run_root.as_fd()
    }

    /// Opens the image store.
    ///
    /// # Errors
    ///
    /// `image.storage`.
    pub(crate) fn store(&self) -> Result<Store> {
        Store::open(&self.context.root).map_err(|error| fetch::failed(&error))
    }

    /// Takes back what dead pods have left. That something cannot be taken back now keeps no
    /// other pod from running; `pod gc` tells.
    pub(crate) fn sweep_leftovers(&self) {
        let _ = leftovers::sweep(&self.pods, self.run_root()); // see above
    }

    /// Returns what starts pods.
    pub(crate) fn launcher<'l>(&'l self, store: &'l Store) -> Launcher<'l> {
        Launcher {
            context: &self.context,
            pods: &self.pods,
            run_root: &self.run_root,
            store,
            supervision: &*self.supervision,
        }
    }

    /// Returns what ends pods.
    pub(crate) fn ender(&self) -> Ender<'_> {
        let run_root = self.run_root();
        Ender { pods: &self.pods, run_root, supervision: &*self.supervision }
    }

    /// Returns who looks after supervisors.
    pub(crate) fn supervision(&self) -> &dyn Supervision {
        &*self.supervision
    }

    /// Decides where the supervisor of a pod runs.
    ///
    /// # Errors
    ///
    /// Usage for wishes that contradict each other.
    pub(crate) fn place(&self, wish: Wish) -> Result<Place> {
        let facts = Facts {
            manager: self.context.manager.is_systemd(),
            main_process: supervision::service().is_some(),
            sockets: !self.context.sockets.names.is_empty(),
        };
        let place = supervision::place(facts, wish)?;
        if place == Place::Apart {
            self.context.sockets.check_stay()?;
        }
        Ok(place)
    }
}

/// Prints the id of a pod that runs in the background now; returns the command's status.
///
/// # Errors
///
/// Those of output.
fn announced(context: &Context, pod: &Pod, background: Background) -> Result<u8> {
    match (background, context.format) {
        (Background::Failed(code), _) => Ok(code),
        (Background::Ready, Format::Table) => ui::out(&format!("{}\n", pod.id)).map(|()| 0),
        (Background::Ready, Format::Json) => {
            let name = pod.manifest()?.name;
            ui::json(&serde_json::json!({ "uuid": pod.id, "name": name })).map(|()| 0)
        }
    }
}

/// Does something to each of several pods or images: all are tried, and the first error is the
/// command's. Earlier errors are printed as they come.
///
/// # Errors
///
/// The last one.
pub(crate) fn each<T>(
    context: &Context,
    words: &[T],
    mut deed: impl FnMut(&T) -> Result<()>,
) -> Result<()> {
    let mut failed: Option<CommandError> = None;
    for word in words {
        if let Err(error) = deed(word)
            && let Some(earlier) = failed.replace(error)
        {
            ui::error(&earlier, context.format);
        }
    }
    failed.map_or(Ok(()), Err)
}
