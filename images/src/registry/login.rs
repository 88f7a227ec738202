//! Trying credentials: whether a registry lets them in, before anybody writes them down.
//!
//! `GET /v2/` is the protocol's own question for it; the answer to its challenge is the same code
//! that every fetch uses. Source: distribution-spec "Determining Support".

use ureq::http::{Method, Uri};

use super::client::{Client, Wanted};
use super::error::Error;
use super::exchange::refusal;

/// What a registry made of credentials.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Checked {
    /// It asked for them, and let them in.
    Accepted,
    /// It did not ask.
    NotAsked,
}

impl Client {
    /// Tries the credentials this client has.
    ///
    /// # Errors
    ///
    /// [`Error::Denied`] if they are not the right ones; else what keeps the registry from
    /// answering.
    pub fn check(&self) -> Result<Checked, Error> {
        let place = self.place("the API".to_owned());
        let uri: Uri = self.root(&place)?;
        let wanted = Wanted {
            repo: "",
            place: &place,
            method: Method::GET,
            uri: &uri,
            headers: vec![],
            body: None,
        };
        let response = self.ask(&wanted, &mut self.attempts())?;
        if !response.status().is_success() {
            return Err(refusal(&place, response));
        }
        Ok(if self.has_answered() { Checked::Accepted } else { Checked::NotAsked })
    }
}
