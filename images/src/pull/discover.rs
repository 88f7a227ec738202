//! Fetching an image of appc that its name alone leads to: pages are asked, then the places they name.
//!
//! ```text
//! places ─▶ page ─▶ says nothing, 4xx: its parent   ─▶ endpoints ─▶ 4xx, unreachable: the next
//!                └▶ any other failure: no image                  └▶ signature, then image ─▶ file
//! ```
//!
//! What comes is kept in a file without a name, which is gone with whoever holds it, and is imported
//! as any file: this only fetches, and says where from. Keys are never fetched, and nobody is told who
//! we are.

use std::fmt;
use std::fs::File;
use std::io::{self, Seek as _, Write as _};
use std::path::PathBuf;

use pod_abi::Digest;
use pod_abi::app::Verified;
use pod_abi::digest::Algorithm;
use rustix::fs::ftruncate;

use super::source::remote_error;
use super::trusted;
use crate::appc::{AppcName, Endpoint, MAX_PAGE, PlainHttp, Said, places};
use crate::error::{Error, ErrorKind};
use crate::hash::Hasher;
use crate::platform::Platform;
use crate::progress::{Event, Progress};
use crate::registry::{self, ClientOptions, NotTaken, Sink, Transport};
use crate::room::{RESERVE, Room};
use crate::store::Store;
use crate::trust::{Named, Requirement, Subject};

/// The longest signature that is fetched, in bytes.
const MAX_SIGNATURE: u64 = 1 << 20;

/// How an image is looked for.
#[derive(Clone, Copy)]
pub struct Discovery<'d> {
    /// Which one.
    pub name: &'d AppcName,
    /// For which machine, where the name does not say.
    pub platform: &'d Platform,
    /// Whether its signature is fetched, for the caller to check.
    pub signature: SignatureWanted,
    /// Where the policy may lie, as for a pull.
    pub policies: &'d [PathBuf],
    /// How servers are spoken to; plain HTTP that was asked for is spoken on the loopback only, and
    /// credentials are nobody's.
    pub client: &'d ClientOptions,
    /// The longest image that is fetched, in bytes.
    pub most: u64,
    /// Who is told.
    pub progress: &'d dyn Progress,
}

/// Whether a signature is fetched with an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SignatureWanted {
    /// The caller has keys, and lets in what they have signed.
    Yes,
    /// The caller has none.
    No,
}

/// An image that was found and fetched; none of it has been looked at.
#[derive(Debug)]
pub struct Discovered {
    /// Where it was.
    pub url: String,
    /// Its archive, from its beginning.
    pub file: File,
    /// The bytes of the archive.
    pub size: u64,
    /// The digest of the archive.
    pub digest: Digest,
    /// The signature, if it was wanted.
    pub signature: Option<Vec<u8>>,
    /// What vouches for it, as long as the signature has not been checked.
    pub verified: Verified,
}

impl fmt::Debug for Discovery<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Discovery").field("name", self.name).finish_non_exhaustive()
    }
}

impl Discovery<'_> {
    /// The longest image that is fetched where nobody says otherwise: what rkt ran was smaller by far.
    pub const MOST: u64 = 16 << 30;

    const fn plain(&self) -> PlainHttp {
        match self.client.transport {
            Transport::InsecureHttp => PlainHttp::OnLoopback,
            Transport::Guarded => PlainHttp::Nowhere,
        }
    }

    /// Returns how addresses are asked that were found good: the rule of plain HTTP stands in them.
    fn client(&self) -> ClientOptions {
        ClientOptions { transport: Transport::Guarded, ..self.client.clone() }
    }

    /// Finds the page that says where the image is, and what it says.
    fn ask(&self) -> Result<(String, Said), Error> {
        let mut asked = Vec::new();
        for page in places(self.name, self.plain()) {
            match registry::read_document(&page, MAX_PAGE, &self.client()) {
                Ok(bytes) => {
                    let said = Said::read(&bytes, self.name)
                        .map_err(|why| Error::invalid(format!("page `{page}` {why}")))?;
                    if said.is_about_images() {
                        return Ok((page, said));
                    }
                    asked.push(format!("`{page}` says nothing of it"));
                }
                Err(error) if error.is_refusal() => asked.push(error.to_string()),
                Err(error) => return Err(remote_error("cannot ask where it lies", error)),
            }
        }
        let sentence = format!("no page says where it lies: {}", asked.join("; "));
        Err(Error::new(ErrorKind::NotFound, sentence))
    }

    /// Checks that the policy lets in what comes from there, with the signature that will be checked.
    fn judge(&self, said: &Said) -> Result<(), Error> {
        let Some((path, policy)) = trusted::policy(self.policies)? else { return Ok(()) };
        let subject = self.subject();
        let (place, requirements) = policy.of(&subject);
        let verified = match self.signature {
            SignatureWanted::No => Verified::Digest,
            _ => Verified::Signature,
        };
        let Some(asked) = trusted::unmet(requirements, verified) else { return Ok(()) };
        let way_out = match asked {
            Requirement::SignedBy(_) => missing_keys(said),
            _ => String::new(),
        };
        let path = path.display();
        let sentence =
            format!("policy `{path}` does not let it in: {place} asks for {asked}{way_out}");
        Err(Error::new(ErrorKind::Untrusted, sentence))
    }

    /// Returns how a policy sees the image: as one of that name at a registry.
    fn subject(&self) -> Subject {
        let repository = self.name.place();
        let tag = self.name.version().map(str::to_owned);
        Subject::named(&Named { repository, tag, digest: None })
    }
}

fn missing_keys(said: &Said) -> String {
    let keys: Vec<String> = said.keys().take(4).map(|url| format!("`{url}`")).collect();
    let whose = match keys.is_empty() {
        true => String::new(),
        false => format!("; the page says that keys are at {}", keys.join(", ")),
    };
    format!(", and no keyring is given to check one{whose}")
}

impl Store {
    /// Finds an image of appc by its name and fetches its archive; nothing is imported.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::NotFound`] names every page that was asked, or every place a page has named;
    /// [`ErrorKind::Untrusted`] if the policy would not let it in. Nothing is left of what came.
    pub fn discover(&self, discovery: &Discovery<'_>) -> Result<Discovered, Error> {
        self.find(discovery)
            .map_err(|error| error.within(format!("cannot fetch `{}`", discovery.name)))
    }

    fn find(&self, discovery: &Discovery<'_>) -> Result<Discovered, Error> {
        let (page, said) = discovery.ask()?;
        discovery.judge(&said)?;
        let asked = (discovery.name, discovery.platform);
        let mut failed: Vec<registry::Error> = Vec::new();
        for endpoint in said.endpoints(asked, discovery.plain()) {
            match self.obtain(&endpoint, discovery) {
                // Who could change the page could have named another place.
                Ok(found) if is_plain(&page) => {
                    return Ok(Discovered { verified: Verified::DigestOverHttp, ..found });
                }
                Ok(found) => return Ok(found),
                Err(Missed::Here(error)) => return Err(error),
                Err(Missed::There(error)) => failed.push(error),
            }
        }
        let Some(last) = failed.pop() else {
            let sentence = format!("page `{page}` names no address that can be asked for it");
            return Err(Error::new(ErrorKind::NotFound, sentence));
        };
        let before: String = failed.iter().map(|error| format!("{error}; ")).collect();
        let sentence = format!("{before}it is at no place that page `{page}` names");
        Err(remote_error(sentence, last))
    }

    /// Fetches an image from one place.
    fn obtain(&self, endpoint: &Endpoint, discovery: &Discovery<'_>) -> Result<Discovered, Missed> {
        let client = discovery.client();
        let url = &endpoint.image;
        discovery.progress.event(Event::Resolving { reference: url.clone() });
        let signature = match discovery.signature {
            SignatureWanted::No => None,
            // It is small, and without it the image is worth nothing.
            SignatureWanted::Yes => {
                let read = registry::read_document(&endpoint.signature, MAX_SIGNATURE, &client);
                Some(read.map_err(Missed::There)?)
            }
        };
        let (writer, file) = self.unnamed().map_err(Missed::Here)?;
        let mut kept = Kept::new(writer);
        let copied = registry::copy_document(url, discovery.most, &client, &mut kept);
        copied.map_err(|not| match not {
            NotTaken::Remote(error) => Missed::There(error),
            NotTaken::Sink(error) => Missed::Here(Error::storage("cannot keep what comes", error)),
        })?;
        let verified = match is_plain(url) {
            true => Verified::DigestOverHttp,
            false => Verified::Digest,
        };
        let (size, digest) = (kept.size, kept.hasher.finish());
        Ok(Discovered { url: url.clone(), file, size, digest, signature, verified })
    }
}

fn is_plain(url: &str) -> bool {
    url.starts_with("http://")
}

/// Why an image could not be had from one place.
enum Missed {
    /// The place does not have it, or not now: the next one may.
    There(registry::Error),
    /// The store cannot take it, wherever it comes from.
    Here(Error),
}

/// What has come of an image.
struct Kept {
    file: File,
    hasher: Hasher,
    size: u64,
    room: Room,
}

impl Kept {
    fn new(file: File) -> Self {
        let (hasher, room) = (Hasher::new(Algorithm::Sha256), Room::new(RESERVE));
        Self { file, hasher, size: 0, room }
    }
}

impl Sink for Kept {
    fn restart(&mut self) -> io::Result<()> {
        ftruncate(&self.file, 0)?;
        self.file.rewind()?;
        self.hasher = Hasher::new(Algorithm::Sha256);
        self.size = 0;
        Ok(())
    }

    fn take(&mut self, bytes: &[u8]) -> io::Result<()> {
        let length = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        self.room.spend(&self.file, 0, length).map_err(|full| io::Error::from(full.errno))?;
        self.file.write_all(bytes)?;
        self.hasher.update(bytes);
        self.size = self.size.saturating_add(length);
        Ok(())
    }
}
