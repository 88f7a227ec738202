//! Names of pods: symbolic links from a name to the id of the newest pod that bears it.
//!
//! A living or prepared holder keeps its name; one that has ended is displaced and stays
//! reachable by id. Whoever changes a link holds `names/.lock`.

use std::os::fd::OwnedFd;

use pod_abi::phase::Home;
use pod_abi::{AppName, PodId, PodName, layout};
use rustix::fs::{
    AtFlags, FlockOperation, Mode, OFlags, flock, openat, readlinkat, renameat, symlinkat, unlinkat,
};
use rustix::io::Errno;

use super::Pods;
use crate::error::{CommandError, Context as _, Result};

/// Makes a name for a pod that was given none: its first app's, and the start of its id.
pub(crate) fn generated_name(app: &AppName, id: &PodId) -> PodName {
    // A label holds 63 bytes; nine are for the dash and the id.
    let stem: String = app.as_str().chars().take(54).collect();
    PodName::parse(&format!("{}-{}", stem.trim_end_matches('-'), id.short()))
        .expect("both parts are labels, and dashes stand only between")
}

impl Pods {
    fn link(name: &PodName) -> String {
        format!("{}/{name}", layout::NAMES)
    }

    /// Returns who answers to a name.
    ///
    /// # Errors
    ///
    /// `storage`.
    pub(crate) fn named(&self, name: &PodName) -> Result<Option<PodId>> {
        match readlinkat(&self.root, Self::link(name), Vec::new()) {
            Ok(target) => Ok(target.to_str().ok().and_then(|id| PodId::parse(id).ok())),
            Err(Errno::NOENT | Errno::INVAL) => Ok(None),
            Err(error) => Err(error).context(|| format!("cannot read name `{name}`")),
        }
    }

    /// Lists all names.
    pub(crate) fn names(&self) -> Vec<String> {
        let Ok(dir) = openat(&self.root, layout::NAMES, super::DIRECTORY, Mode::empty()) else {
            return Vec::new();
        };
        let Ok(entries) = rustix::fs::Dir::new(dir) else { return Vec::new() };
        let names =
            entries.filter_map(|entry| entry.ok()?.file_name().to_str().ok().map(str::to_owned));
        names.filter(|name| PodName::parse(name).is_ok()).collect()
    }

    fn lock_names(&self) -> Result<OwnedFd> {
        let path = format!("{}/{}", layout::NAMES, layout::NAMES_LOCK);
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let lock = openat(&self.root, &path, flags, Mode::from_raw_mode(0o600))
            .context(|| format!("cannot open lock `{path}`"))?;
        loop {
            match flock(&lock, FlockOperation::LockExclusive) {
                Ok(()) => return Ok(lock),
                Err(Errno::INTR) => {}
                Err(error) => return Err(error).context(|| format!("cannot lock `{path}`")),
            }
        }
    }

    /// Gives a name to pod `id`.
    ///
    /// # Errors
    ///
    /// `pod.name-taken` if a living or prepared pod bears it.
    pub(super) fn claim_name(&self, name: &PodName, id: &PodId) -> Result<()> {
        let _lock = self.lock_names()?;
        if let Some(holder) = self.named(name)?
            && holder != *id
            && let Some(pod) = self.open_id(&holder)?
            && pod.phase().holds_name()
        {
            return Err(taken(name, &holder, pod.home));
        }
        let link = Self::link(name);
        match symlinkat(id.as_str(), &self.root, &link) {
            Ok(()) => Ok(()),
            Err(Errno::EXIST) => self.replace_link(&link, id),
            Err(error) => Err(error).context(|| format!("cannot make name `{name}`")),
        }
    }

    fn replace_link(&self, link: &str, id: &PodId) -> Result<()> {
        let temporary = format!("{}/.{id}", layout::NAMES);
        symlinkat(id.as_str(), &self.root, &temporary)
            .and_then(|()| renameat(&self.root, &temporary, &self.root, link))
            .context(|| format!("cannot replace name `{link}`"))
    }

    /// Takes a name away from pod `id`, if it still bears it.
    ///
    /// # Errors
    ///
    /// `storage`.
    pub(super) fn release_name(&self, name: &PodName, id: &PodId) -> Result<()> {
        if self.named(name)?.as_ref() != Some(id) {
            return Ok(());
        }
        let _lock = self.lock_names()?;
        if self.named(name)?.as_ref() == Some(id) {
            match unlinkat(&self.root, Self::link(name), AtFlags::empty()) {
                Ok(()) | Err(Errno::NOENT) => {}
                Err(error) => {
                    return Err(error).context(|| format!("cannot release name `{name}`"));
                }
            }
        }
        Ok(())
    }

    /// Removes names whose pods are gone, and what a dying claim has left. Returns how many.
    ///
    /// # Errors
    ///
    /// `storage`.
    pub(crate) fn sweep_names(&self) -> Result<usize> {
        let _lock = self.lock_names()?;
        let dir = openat(&self.root, layout::NAMES, super::DIRECTORY, Mode::empty())
            .context(|| "cannot open the directory of names".to_owned())?;
        let entries = rustix::fs::Dir::read_from(&dir)
            .context(|| "cannot list the directory of names".to_owned())?;
        let mut swept = 0;
        for entry in entries.filter_map(std::result::Result::ok) {
            let Ok(file) = entry.file_name().to_str() else { continue };
            if [".", "..", layout::NAMES_LOCK].contains(&file) {
                continue;
            }
            let stale = match PodName::parse(file) {
                Ok(name) => match self.named(&name)? {
                    Some(id) => self.open_id(&id)?.is_none(),
                    None => true,
                },
                Err(_) => true,
            };
            if stale && unlinkat(&dir, file, AtFlags::empty()).is_ok() {
                swept += 1;
            }
        }
        Ok(swept)
    }
}

fn taken(name: &PodName, holder: &PodId, home: Home) -> CommandError {
    let error = CommandError::new(
        "pod.name-taken",
        format!("name `{name}` belongs to pod `{}`", holder.short()),
    );
    match home {
        Home::Run => error.hint(format!("`pod stop {name}` ends it; `--name` takes another name")),
        _ => error.hint(format!("`pod rm {name}` removes it; `--name` takes another name")),
    }
}
