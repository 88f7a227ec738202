//! A repository that may lie in several places: mirrors, and the registry itself.
//!
//! The first place that has what was asked for is the image's place from then on: all of an image
//! comes from one. The name stays what it was, and with it what the policy asks.

use std::io::Read;
use std::sync::OnceLock;

use pod_abi::Digest;
use pod_abi::app::Verified;

use super::remote::Remote;
use super::source::{Document, Source};
use crate::document::Blob;
use crate::error::Error;
use crate::trust::Evidence;

/// The places in the order in which they are asked; the last is the registry itself. There is one.
#[derive(Debug)]
pub(super) struct Mirrored {
    places: Vec<Remote>,
    chosen: OnceLock<usize>,
}

impl Mirrored {
    pub(super) const fn new(places: Vec<Remote>) -> Self {
        Self { places, chosen: OnceLock::new() }
    }

    /// Asks one place after the other, unless one was chosen. The error is that of the last.
    fn first<T>(&self, ask: impl Fn(&Remote) -> Result<T, Error>) -> Result<T, Error> {
        if self.chosen.get().is_some() {
            return ask(self.place());
        }
        let mut answer = Err(Error::invalid("there is no place to ask"));
        for (at, place) in self.places.iter().enumerate() {
            answer = ask(place);
            if answer.is_ok() {
                let _ = self.chosen.set(at); // somebody may have asked at the same time
                break;
            }
        }
        answer
    }

    fn place(&self) -> &Remote {
        let at = self.chosen.get().copied().unwrap_or(self.places.len().saturating_sub(1));
        &self.places[at]
    }
}

impl Source for Mirrored {
    fn top(&self) -> Result<Document, Error> {
        self.first(Source::top)
    }

    fn digest(&self) -> Result<Option<Digest>, Error> {
        self.first(Source::digest)
    }

    fn document(&self, digest: &Digest) -> Result<Document, Error> {
        self.first(|place| place.document(digest))
    }

    fn blob(&self, blob: &Blob, offset: u64) -> Result<Box<dyn Read + '_>, Error> {
        self.place().blob(blob, offset)
    }

    fn signatures(&self, of: &Digest, evidence: &mut Evidence) -> Result<(), Error> {
        self.place().signatures(of, evidence)
    }

    fn messages(&self, of: &Digest, apart: Option<&str>) -> Result<Vec<Vec<u8>>, Error> {
        self.place().messages(of, apart)
    }

    fn verified(&self) -> Verified {
        self.place().verified()
    }
}
