//! The good answer to a request, from what the registry holds; what is given to it, it holds then.

use std::sync::Arc;

use serde_json::{Value, json};

use crate::digest;
use crate::guard::Act;
use crate::state::{Content, Manifest, Request, State};

/// Status, headers without a length, and the body.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Arc<Vec<u8>>,
    /// Where in `body` the answer begins.
    pub(crate) from: usize,
}

impl Answer {
    pub(crate) fn new(status: u16, headers: &[(&str, &str)], body: Vec<u8>) -> Self {
        let headers =
            headers.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect();
        Self { status, headers, body: Arc::new(body), from: 0 }
    }

    /// Returns how many bytes of a body the answer has.
    pub(crate) fn length(&self) -> u64 {
        u64::try_from(self.body.len() - self.from).expect("a length fits 64 bits")
    }

    /// Replaces the header `name`.
    pub(crate) fn set(&mut self, name: &str, value: &str) {
        self.remove(name);
        self.headers.push((name.to_owned(), value.to_owned()));
    }

    /// Takes the header `name` away.
    pub(crate) fn remove(&mut self, name: &str) {
        self.headers.retain(|(given, _)| !given.eq_ignore_ascii_case(name));
    }

    /// Makes it the answer to the range `bytes=N-`, if that is one.
    pub(crate) fn cut_to_range(&mut self, range: Option<&str>) {
        let from = range
            .and_then(|range| range.strip_prefix("bytes=")?.strip_suffix('-'))
            .and_then(|from| from.parse::<usize>().ok());
        let length = self.body.len();
        match from {
            Some(from) if from < length => {
                self.status = 206;
                self.from = from;
                self.set("Content-Range", &format!("bytes {from}-{}/{length}", length - 1));
            }
            Some(_) => *self = Self::new(416, &[], Vec::new()),
            None => {}
        }
    }
}

/// Finds the answer to `request`; `whole` if ranges are not to be looked at.
pub(crate) fn answer(state: &State, request: &Request) -> Answer {
    let path = request.path.split('?').next().unwrap_or_default();
    if path == "/token" {
        return token(state, request);
    }
    let Some(rest) = path.strip_prefix("/v2/") else { return missing() };
    let repo = repo_of(rest);
    let authorization = request.authorization.as_deref();
    let guard = state.guard().clone();
    let act = if matches!(request.method.as_str(), "GET" | "HEAD") { Act::Pull } else { Act::Push };
    if !guard.admits(authorization, (act, repo), &state.tokens()) {
        let challenge = guard.challenge(&state.host, (act, repo));
        let body = json!({"errors": [{"code": "UNAUTHORIZED", "message": "who are you"}]});
        return Answer::new(401, &[("WWW-Authenticate", &challenge)], body.to_string().into());
    }
    if rest.is_empty() {
        return Answer::new(200, &[("Content-Type", "application/json")], b"{}".to_vec());
    }
    if act == Act::Push {
        return take(&mut state.content(), request, rest);
    }
    let content = state.content();
    if let Some(manifest) = content.manifests.get(rest) {
        let said = digest(&manifest.bytes);
        let headers = [
            ("Content-Type", manifest.media_type.as_str()),
            ("Docker-Content-Digest", said.as_str()),
        ];
        return Answer {
            body: Arc::clone(&manifest.bytes),
            ..Answer::new(200, &headers, Vec::new())
        };
    }
    let blob = rest.rsplit_once("/blobs/").and_then(|(_, name)| content.blobs.get(name));
    let Some(blob) = blob else { return missing() };
    let headers = [("Content-Type", "application/octet-stream"), ("Accept-Ranges", "bytes")];
    let mut found = Answer { body: Arc::clone(blob), ..Answer::new(200, &headers, Vec::new()) };
    found.cut_to_range(request.range.as_deref());
    found
}

/// Takes what is given: begins an upload, ends one, or takes a manifest whose blobs are there.
fn take(content: &mut Content, request: &Request, rest: &str) -> Answer {
    let query = request.path.split_once('?').map_or("", |(_, query)| query);
    let said = digest(&request.bytes);
    if request.method == "POST" && rest.ends_with("/blobs/uploads/") {
        // The state of registries is opaque, and stands in a query as often as not.
        let location = format!("/v2/{rest}1?state=%2Fa%3D");
        return Answer::new(202, &[("Location", &location)], Vec::new());
    }
    if request.method == "PUT" && rest.contains("/blobs/uploads/") {
        if !query.split('&').any(|pair| pair.strip_prefix("digest=") == Some(&said)) {
            return refused("DIGEST_INVALID");
        }
        content.blobs.insert(said, Arc::new(request.bytes.clone()));
        return Answer::new(201, &[], Vec::new());
    }
    if request.method == "PUT" && rest.contains("/manifests/") {
        let document: Value = serde_json::from_slice(&request.bytes).unwrap_or_default();
        let layers = document["layers"].as_array().cloned().unwrap_or_default();
        let named = layers.iter().chain([&document["config"]]).map(|blob| &blob["digest"]);
        let there = |name: &Value| content.blobs.contains_key(name.as_str().unwrap_or_default());
        if !named.into_iter().all(there) {
            return refused("MANIFEST_BLOB_UNKNOWN");
        }
        let media_type = request.content_type.clone().unwrap_or_default();
        let manifest = Manifest { media_type, bytes: Arc::new(request.bytes.clone()) };
        content.manifests.insert(rest.to_owned(), manifest);
        return Answer::new(201, &[("Docker-Content-Digest", &said)], Vec::new());
    }
    refused("UNSUPPORTED")
}

fn refused(code: &str) -> Answer {
    let body = json!({"errors": [{"code": code, "message": "refused"}]});
    Answer::new(400, &[("Content-Type", "application/json")], body.to_string().into())
}

fn token(state: &State, request: &Request) -> Answer {
    if !state.guard().gives_token(request.authorization.as_deref()) {
        let body = json!({"errors": [{"code": "DENIED", "message": "wrong password"}]});
        return Answer::new(401, &[], body.to_string().into());
    }
    let query = request.path.split_once('?').map_or(request.body.as_str(), |(_, query)| query);
    let scope = query.split('&').find_map(|pair| pair.strip_prefix("scope=")).unwrap_or_default();
    let token = state.give_token(scope);
    let body = json!({"token": token, "expires_in": 300});
    Answer::new(200, &[("Content-Type", "application/json")], body.to_string().into())
}

fn missing() -> Answer {
    let body = json!({"errors": [{"code": "MANIFEST_UNKNOWN", "message": "unknown"}]});
    Answer::new(404, &[("Content-Type", "application/json")], body.to_string().into())
}

fn repo_of(rest: &str) -> &str {
    let cut = rest.rfind("/manifests/").or_else(|| rest.rfind("/blobs/"));
    cut.map_or("", |cut| &rest[..cut])
}
