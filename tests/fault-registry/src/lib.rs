//! A registry on the loopback that fails as told, for tests.
//!
//! ```text
//! Registry::start() ─ add_blob, add_manifest ─ guard(Guard::Token{…}) ─ script("/blobs/", [Fault::CutAfter(9)])
//!        │                    one request takes the first fault of the first script that covers it
//!        └─ requests(): what came, with which credentials, and how many bytes went out
//! ```
//!
//! It speaks as much HTTP/1.1 and distribution protocol as a pull needs, on threads, with `std`'s
//! sockets. Another `Registry` is another origin. Dropping it ends every connection and thread.
//!
//! Never: part of a program; it trusts its callers and panics when used wrongly.

#![forbid(unsafe_code)]

mod answer;
mod fault;
mod guard;
mod http;
mod serve;
mod state;

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use sha2::{Digest as _, Sha256};

pub use fault::Fault;
pub use guard::Guard;
pub use state::Request;

use state::{Manifest, State};

/// A running registry.
#[derive(Debug)]
pub struct Registry {
    address: SocketAddr,
    state: Arc<State>,
    acceptor: Option<JoinHandle<()>>,
}

impl Registry {
    /// Starts one that is empty and fails at nothing.
    ///
    /// # Panics
    ///
    /// If the loopback has no free port.
    #[must_use]
    pub fn start() -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("the loopback has a free port");
        let address = listener.local_addr().expect("a listener has an address");
        let state = Arc::new(State::new(address.to_string()));
        let shared = Arc::clone(&state);
        let acceptor = thread::spawn(move || serve::accept(&listener, &shared));
        Self { address, state, acceptor: Some(acceptor) }
    }

    /// Returns `127.0.0.1:PORT`.
    #[must_use]
    pub fn host(&self) -> String {
        self.address.to_string()
    }

    /// Adds a blob to every repository; returns its digest.
    pub fn add_blob(&self, bytes: impl Into<Vec<u8>>) -> String {
        let bytes = bytes.into();
        let digest = digest(&bytes);
        self.state.content().blobs.insert(digest.clone(), Arc::new(bytes));
        digest
    }

    /// Adds a manifest under `tag` and its digest, which is returned.
    pub fn add_manifest(
        &self,
        repo: &str,
        tag: &str,
        media_type: &str,
        bytes: impl Into<Vec<u8>>,
    ) -> String {
        let bytes = bytes.into();
        let digest = digest(&bytes);
        let manifest = Manifest { media_type: media_type.to_owned(), bytes: Arc::new(bytes) };
        let mut content = self.state.content();
        for name in [tag, &digest] {
            content.manifests.insert(format!("{repo}/manifests/{name}"), manifest.clone());
        }
        digest
    }

    /// Has the tag `tag` name what `other` names.
    pub fn alias(&self, repo: &str, other: &str, tag: &str) {
        let mut content = self.state.content();
        if let Some(manifest) = content.manifests.get(&format!("{repo}/manifests/{other}")).cloned()
        {
            content.manifests.insert(format!("{repo}/manifests/{tag}"), manifest);
        }
    }

    /// Fails `faults`, one a request, at requests whose path contains `path`; then at nothing.
    pub fn script(&self, path: &str, faults: impl IntoIterator<Item = Fault>) {
        self.state.content().scripts.push((path.to_owned(), faults.into_iter().collect()));
    }

    /// Demands credentials from now on.
    pub fn guard(&self, guard: Guard) {
        *self.state.guard() = guard;
    }

    /// Makes every token given so far worthless.
    pub fn revoke_tokens(&self) {
        self.state.revoke_tokens();
    }

    /// Lists the requests so far, in the order they came; tokens' included.
    #[must_use]
    pub fn requests(&self) -> Vec<Request> {
        self.state.requests()
    }

    /// Sums the body bytes sent so far for paths that contain `path`.
    #[must_use]
    pub fn bytes_sent(&self, path: &str) -> u64 {
        self.requests().iter().filter(|seen| seen.path.contains(path)).map(|seen| seen.sent).sum()
    }

    /// Waits until `count` requests whose path contains `path` came.
    ///
    /// # Panics
    ///
    /// If they do not come within ten seconds.
    pub fn wait_for(&self, path: &str, count: usize) {
        self.state.wait_for(path, count);
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        self.state.stop();
        // Wakes the acceptor, which then sees that it is over.
        drop(TcpStream::connect(self.address));
        if let Some(acceptor) = self.acceptor.take() {
            let ended = acceptor.join();
            assert!(ended.is_ok() || thread::panicking(), "a thread of the registry panicked");
        }
    }
}

/// Returns the digest of `bytes` as registries write it.
#[must_use]
pub fn digest(bytes: &[u8]) -> String {
    let hex: String = Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256:{hex}")
}
