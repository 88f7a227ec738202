//! Finding pods: by name, id or the start of an id, and listing them.
//!
//! Pods move while we look. Homes are searched in the order of life, the direction pods move in,
//! so a pod that moves on is met later; one that is gone when opened is passed over.

use pod_abi::phase::Home;
use pod_abi::{PodId, PodName};
use rustix::fs::{Dir, Mode, openat};
use rustix::io::Errno;

use super::{DIRECTORY, Pod, Pods};
use crate::error::{CommandError, Context as _, Result};
use crate::nearest::nearest;

/// The fewest digits of an id that stand for a pod.
const MIN_PREFIX: usize = 1;

/// What is found in a home.
#[derive(Debug)]
pub(crate) enum Entry {
    /// A pod.
    Pod(Pod),
    /// Something that is none.
    Alien(Home, String),
}

/// How a pod is asked for.
#[derive(Clone, Debug)]
pub(crate) struct Query<'w>(pub(crate) &'w str);

impl Pods {
    /// Opens the pod `id`, wherever it is.
    ///
    /// # Errors
    ///
    /// `storage`.
    pub(crate) fn open_id(&self, id: &PodId) -> Result<Option<Pod>> {
        for home in Home::ALL {
            if let Some(pod) = self.open_in(home, id)? {
                return Ok(Some(pod));
            }
        }
        Ok(None)
    }

    /// Finds the pod a user means.
    ///
    /// # Errors
    ///
    /// `pod.not-found` with the nearest name, `pod.ambiguous` with the candidates.
    pub(crate) fn find(&self, query: &Query<'_>) -> Result<Pod> {
        let word = query.0;
        if let Ok(name) = PodName::parse(word)
            && let Some(id) = self.named(&name)?
            && let Some(pod) = self.open_id(&id)?
        {
            return Ok(pod);
        }
        if let Ok(id) = PodId::parse(word) {
            return self.open_id(&id)?.ok_or_else(|| self.unknown(word));
        }
        let mut found = self.starting_with(word)?;
        found.sort_unstable();
        found.dedup();
        match &found[..] {
            [] => Err(self.unknown(word)),
            [id] => self.open_id(id)?.ok_or_else(|| self.unknown(word)),
            several => {
                let ids: Vec<&str> = several.iter().take(4).map(PodId::as_str).collect();
                Err(CommandError::new(
                    "pod.ambiguous",
                    format!("`{word}` begins the ids of {} pods", several.len()),
                )
                .hint(format!("give more digits: {}", ids.join(", "))))
            }
        }
    }

    fn starting_with(&self, word: &str) -> Result<Vec<PodId>> {
        let digit =
            |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte) || byte == b'-';
        if word.len() < MIN_PREFIX || !word.bytes().all(digit) {
            return Ok(Vec::new());
        }
        let mut ids = Vec::new();
        for home in Home::ALL {
            let entries = self.entries(home)?;
            ids.extend(entries.into_iter().filter_map(|entry| PodId::parse(&entry).ok()));
        }
        Ok(ids.into_iter().filter(|id| id.as_str().starts_with(word)).collect())
    }

    fn unknown(&self, word: &str) -> CommandError {
        let error = CommandError::new("pod.not-found", format!("there is no pod `{word}`"));
        match nearest(word, &self.names()) {
            Some(name) => error.hint(format!("did you mean `{name}`?")),
            None => error.hint("`pod ps -a` lists all pods"),
        }
    }

    /// Lists what lies in `home`, opening one after the other: homes hold more pods than a process
    /// may have descriptors.
    ///
    /// # Errors
    ///
    /// `storage` if the home cannot be read, or, as an item, if a pod cannot be opened; what is no
    /// directory with an id for a name is an [`Entry::Alien`].
    pub(crate) fn list(&self, home: Home) -> Result<impl Iterator<Item = Result<Entry>> + '_> {
        let entries = self.entries(home)?;
        Ok(entries.into_iter().filter_map(move |entry| self.entry(home, entry).transpose()))
    }

    fn entry(&self, home: Home, name: String) -> Result<Option<Entry>> {
        let Ok(id) = PodId::parse(&name) else { return Ok(Some(Entry::Alien(home, name))) };
        match self.open_entry(home, &id) {
            Ok(dir) => Ok(Some(Entry::Pod(Pod::adopt(id, home, dir)))),
            Err(Errno::NOENT) => Ok(None), // it has moved on
            Err(Errno::NOTDIR | Errno::LOOP) => Ok(Some(Entry::Alien(home, name))),
            Err(error) => Err(error)
                .context(|| format!("cannot open pod directory `{}/{name}`", home.directory())),
        }
    }

    fn entries(&self, home: Home) -> Result<Vec<String>> {
        let tell = || format!("cannot list home `{}`", home.directory());
        let dir = match openat(&self.pods, home.directory(), DIRECTORY, Mode::empty()) {
            Ok(dir) => dir,
            Err(Errno::NOENT) => return Ok(Vec::new()),
            Err(error) => return Err(error).context(tell),
        };
        let mut entries = Vec::new();
        for entry in Dir::new(dir).context(tell)? {
            let entry = entry.context(tell)?;
            let name = entry.file_name().to_string_lossy().into_owned();
            if name != "." && name != ".." {
                entries.push(name);
            }
        }
        Ok(entries)
    }
}
