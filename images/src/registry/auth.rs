//! Who we are to a registry: tokens and passwords, remembered per repository.
//!
//! A request goes out with what is remembered; if the registry says 401, its challenge is answered
//! once - with the password itself (`Basic`) or with a token that the named realm gives for it
//! (`Bearer`) - and a second 401 is final. The lock is held while a token is fetched, so that many
//! layers at once fetch one.
//!
//! SECURITY: a realm obeys the same rule about plain HTTP as the registry; credentials go to the
//! realm the registry names, which is the protocol's own trust.
//!
//! Source: Docker "Token Authentication Specification" and "OAuth2".

use std::collections::HashMap;
use std::fmt::Write;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use ureq::http::header::{CONTENT_TYPE, WWW_AUTHENTICATE};
use ureq::http::{HeaderMap, HeaderValue, Method, Uri};

use super::challenge::{self, Challenge};
use super::credentials::{Credentials, Secret};
use super::error::{Error, Place};
use super::exchange::{Unread, body, exchange, read_bounded, refusal, unreachable};
use super::retry::Attempts;
use super::wire::{Ask, Wire};

/// Tokens are a few kilobytes; some realms send a megabyte of claims at most.
const MAX_TOKEN_ANSWER: u64 = 1 << 20;

/// What a token lives if its realm does not say (the specification's own figure).
const TOKEN_LIFE: u64 = 60;

/// How long before its end a token is no longer used, so that it does not end underway.
const TOKEN_MARGIN: Duration = Duration::from_secs(5);

/// What a registry let us in with.
#[derive(Debug)]
pub(super) struct Auth {
    host: String,
    credentials: Credentials,
    held: Mutex<HashMap<String, Held>>,
}

#[derive(Debug)]
struct Held {
    header: HeaderValue,
    until: Option<Instant>,
}

impl Held {
    fn is_fresh(&self) -> bool {
        self.until.is_none_or(|until| Instant::now() + TOKEN_MARGIN < until)
    }
}

/// What was refused, and where.
#[derive(Debug)]
pub(super) struct Refused<'a> {
    pub(super) repo: &'a str,
    pub(super) place: &'a Place,
    /// The header the registry refused, if one was sent.
    pub(super) header: Option<&'a HeaderValue>,
}

#[derive(Deserialize)]
struct TokenAnswer {
    token: Option<String>,
    access_token: Option<String>,
    expires_in: Option<u64>,
}

impl Auth {
    pub(super) fn new(host: String, credentials: Credentials) -> Self {
        Self { host, credentials, held: Mutex::default() }
    }

    /// Returns what opened `repo` the last time, if it still should.
    pub(super) fn remembered(&self, repo: &str) -> Option<HeaderValue> {
        let held = self.lock();
        let found = held.get(repo)?;
        found.is_fresh().then(|| found.header.clone())
    }

    /// Returns whether there are credentials for `repo`.
    pub(super) fn knows(&self, repo: &str) -> bool {
        self.credentials.find(&self.host, repo).is_ok_and(|found| found.is_some())
    }

    /// Finds an answer to the challenges in `headers` and remembers it.
    ///
    /// # Errors
    ///
    /// [`Error::Denied`] if there is none, or the realm refuses; what `exchange` returns otherwise.
    pub(super) fn answer(
        &self,
        wire: &Wire,
        refused: &Refused<'_>,
        headers: &HeaderMap,
        attempts: &mut Attempts,
    ) -> Result<HeaderValue, Error> {
        let mut held = self.lock();
        if let Some(other) = held.get(refused.repo)
            && Some(&other.header) != refused.header
            && other.is_fresh()
        {
            // Another thread was faster.
            return Ok(other.header.clone());
        }
        held.remove(refused.repo);
        let secret = self.credentials.find(&self.host, refused.repo)?;
        let secret = secret.as_ref();
        let challenges: Vec<Challenge> = headers
            .get_all(WWW_AUTHENTICATE)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .flat_map(challenge::parse)
            .collect();
        let of = |scheme: &str| challenges.iter().find(|challenge| challenge.scheme == scheme);
        let answer = match (of("bearer"), of("basic"), secret) {
            (Some(bearer), _, _) => token(wire, refused, bearer, secret, attempts)?,
            (None, Some(_), Some(Secret::Password { user, password }))
                if refused.header.is_none() =>
            {
                Held { header: basic(refused.place, user, password)?, until: None }
            }
            (None, Some(_), Some(Secret::Password { user, .. })) => {
                return Err(denied(refused.place, format!("the password of `{user}` is refused")));
            }
            (None, Some(_), _) => {
                let why = format!("no credentials for `{}` are known", self.host);
                return Err(denied(refused.place, why));
            }
            (None, None, _) => {
                let why = "the registry asks for an authentication we do not know".to_owned();
                return Err(denied(refused.place, why));
            }
        };
        let header = answer.header.clone();
        held.insert(refused.repo.to_owned(), answer);
        Ok(header)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Held>> {
        // The map is whole after every statement, whatever thread died.
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn token(
    wire: &Wire,
    refused: &Refused<'_>,
    challenge: &Challenge,
    secret: Option<&Secret>,
    attempts: &mut Attempts,
) -> Result<Held, Error> {
    let place = Place {
        host: refused.place.host.clone(),
        object: format!("a token for {}", refused.place.object),
    };
    let realm = challenge.parameter("realm").unwrap_or_default();
    let uri = realm_uri(&place, realm, &query(refused.repo, challenge, secret), secret)?;
    let ask = token_request(&place, &uri, refused.repo, challenge, secret)?;
    let asked_at = Instant::now();
    let response = exchange(wire, &ask, &place, attempts)?;
    if !response.status().is_success() {
        return Err(match refusal(&place, response) {
            // Realms say 404 and 400 for accounts and scopes they do not know.
            Error::NotFound(place) => denied(&place, "its realm does not know it".to_owned()),
            error => error,
        });
    }
    let bytes =
        read_bounded(body(&place, response)?, MAX_TOKEN_ANSWER).map_err(|why| match why {
            Unread::TooLarge => Error::TooLarge { place: place.clone(), limit: MAX_TOKEN_ANSWER },
            Unread::Broken(error) => unreachable(&place, ureq::Error::Io(error)),
        })?;
    held(&place, &bytes, asked_at)
}

fn held(place: &Place, bytes: &[u8], asked_at: Instant) -> Result<Held, Error> {
    let invalid = |why: &str| Error::Invalid { place: place.clone(), why: why.to_owned() };
    // The parser's own words may quote the token.
    let answer: TokenAnswer =
        serde_json::from_slice(bytes).map_err(|_| invalid("it is no JSON of the kind expected"))?;
    let token = [answer.token, answer.access_token]
        .into_iter()
        .flatten()
        .find(|token| !token.is_empty())
        .ok_or_else(|| invalid("there is none in the answer"))?;
    let mut header = HeaderValue::from_str(&format!("Bearer {token}"))
        .map_err(|_| invalid("it holds letters no header may hold"))?;
    header.set_sensitive(true);
    let life = Duration::from_secs(answer.expires_in.unwrap_or(TOKEN_LIFE).max(TOKEN_LIFE));
    Ok(Held { header, until: asked_at.checked_add(life) })
}

fn token_request<'a>(
    place: &Place,
    uri: &'a Uri,
    repo: &str,
    challenge: &Challenge,
    secret: Option<&Secret>,
) -> Result<Ask<'a>, Error> {
    let mut ask =
        Ask { method: Method::GET, uri, headers: vec![], authorization: None, body: None };
    match secret {
        None => {}
        Some(Secret::Password { user, password }) => {
            ask.authorization = Some(basic(place, user, password)?);
        }
        Some(Secret::Refresh(refresh)) => {
            let mut form = query(repo, challenge, secret);
            for (name, value) in
                [("grant_type", "refresh_token"), ("client_id", "pod"), ("refresh_token", refresh)]
            {
                pair(&mut form, name, value);
            }
            ask.method = Method::POST;
            let urlencoded = HeaderValue::from_static("application/x-www-form-urlencoded");
            ask.headers.push((CONTENT_TYPE, urlencoded));
            ask.body = Some(form.into_bytes());
        }
    }
    Ok(ask)
}

fn realm_uri(
    place: &Place,
    realm: &str,
    query: &str,
    secret: Option<&Secret>,
) -> Result<Uri, Error> {
    let whole = match (secret, realm.contains('?')) {
        (Some(Secret::Refresh(_)), _) => realm.to_owned(),
        (_, true) => format!("{realm}&{query}"),
        (_, false) => format!("{realm}?{query}"),
    };
    let uri = whole.parse::<Uri>().ok().filter(|uri| uri.host().is_some());
    uri.ok_or_else(|| Error::Invalid {
        place: place.clone(),
        why: format!("its realm `{}` is no address", realm.chars().take(120).collect::<String>()),
    })
}

fn query(repo: &str, challenge: &Challenge, secret: Option<&Secret>) -> String {
    let mut query = String::new();
    if let Some(service) = challenge.parameter("service") {
        pair(&mut query, "service", service);
    }
    let ours = (!repo.is_empty()).then(|| format!("repository:{repo}:pull"));
    if let Some(scope) = challenge.parameter("scope").or(ours.as_deref()) {
        pair(&mut query, "scope", scope);
    }
    if let Some(Secret::Password { user, .. }) = secret {
        pair(&mut query, "account", user);
    }
    query
}

/// Appends `name=value`, percent-encoded, to a query or form.
fn pair(query: &mut String, name: &str, value: &str) {
    if !query.is_empty() {
        query.push('&');
    }
    query.push_str(name);
    query.push('=');
    for byte in value.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~:/,".contains(&byte) {
            query.push(char::from(byte));
        } else {
            let _ = write!(query, "%{byte:02X}"); // writing to a string cannot fail
        }
    }
}

fn basic(place: &Place, user: &str, password: &str) -> Result<HeaderValue, Error> {
    let encoded = STANDARD.encode(format!("{user}:{password}"));
    let mut header = HeaderValue::from_str(&format!("Basic {encoded}"))
        .map_err(|_| denied(place, "the credentials do not fit a header".to_owned()))?;
    header.set_sensitive(true);
    Ok(header)
}

fn denied(place: &Place, why: String) -> Error {
    Error::Denied { place: place.clone(), why }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place() -> Place {
        Place { host: "h".into(), object: "x".into() }
    }

    #[test]
    fn a_query_keeps_what_it_says_apart() {
        let challenge = &challenge::parse(r#"Bearer realm="https://a/t?x=y",service="a&b c""#)[0];
        let query = query("team/app", challenge, None);
        assert_eq!(query, "service=a%26b%20c&scope=repository:team/app:pull");
        let uri = realm_uri(&place(), "https://a/t?x=y", &query, None).unwrap();
        assert_eq!(uri.query(), Some(&*format!("x=y&{query}")));
        assert_eq!(super::query("", challenge, None), "service=a%26b%20c");
        for bad in ["", "/t", "https://", "a b"] {
            assert!(realm_uri(&place(), bad, "q=1", None).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_token_is_taken_from_either_field_and_fits_a_header() {
        let now = Instant::now();
        let header = |text: &str| held(&place(), text.as_bytes(), now).map(|held| held.header);
        assert_eq!(header(r#"{"token":"a"}"#).unwrap(), "Bearer a");
        assert_eq!(header(r#"{"token":"","access_token":"b","x":1}"#).unwrap(), "Bearer b");
        for bad in ["", "{}", r#"{"token":""}"#, r#"{"token":"a\nb"}"#, r#"{"token":1}"#] {
            assert!(header(bad).is_err(), "{bad}");
        }
        assert!(held(&place(), br#"{"token":"a","expires_in":18446744073709551615}"#, now).is_ok());
    }
}
