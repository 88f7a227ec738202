//! Who is let in: the three ways registries have, and the words they challenge with.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

/// What a registry demands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Guard {
    /// Nothing.
    #[default]
    Open,
    /// A user and a password with every request.
    Basic(String, String),
    /// A token of our own realm, given to anybody or for a user and a password.
    Token(Option<(String, String)>),
    /// A token of the realm at this address, whose tokens are all accepted.
    Realm(String),
}

/// What is done with a repository.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Act {
    Pull,
    Push,
}

/// Returns what a token for `repo` is asked for; the API itself is no repository.
fn scope(act: Act, repo: &str) -> String {
    match act {
        _ if repo.is_empty() => String::new(),
        Act::Pull => format!("repository:{repo}:pull"),
        Act::Push => format!("repository:{repo}:pull,push"),
    }
}

impl Guard {
    /// Returns whether `authorization` opens `repo` for `act`; `tokens`: those given so far and what for.
    pub(crate) fn admits(
        &self,
        authorization: Option<&str>,
        (act, repo): (Act, &str),
        tokens: &[(String, String)],
    ) -> bool {
        match self {
            Self::Open => true,
            Self::Basic(user, password) => authorization == Some(basic(user, password).as_str()),
            Self::Token(_) => {
                authorization.and_then(|value| value.strip_prefix("Bearer ")).is_some_and(|token| {
                    let scopes = [scope(act, repo), scope(Act::Push, repo)];
                    tokens.iter().any(|(given, what)| given == token && scopes.contains(what))
                })
            }
            Self::Realm(_) => authorization.is_some_and(|value| value.starts_with("Bearer ")),
        }
    }

    /// Returns the challenge for whoever is not admitted to `repo` for `act`.
    pub(crate) fn challenge(&self, host: &str, (act, repo): (Act, &str)) -> String {
        let bearer = |realm: &str| {
            let bare = format!("Bearer realm=\"{realm}\",service=\"fault registry\"");
            match scope(act, repo).as_str() {
                "" => bare,
                scope => format!("{bare},scope=\"{scope}\""),
            }
        };
        match self {
            Self::Open | Self::Basic(..) => "Basic realm=\"fault, registry\"".to_owned(),
            Self::Token(_) => bearer(&format!("http://{host}/token")),
            Self::Realm(realm) => bearer(realm),
        }
    }

    /// Returns whether the realm gives a token to `authorization`.
    pub(crate) fn gives_token(&self, authorization: Option<&str>) -> bool {
        match self {
            Self::Token(Some((user, password))) => {
                authorization == Some(basic(user, password).as_str())
            }
            _ => true,
        }
    }
}

fn basic(user: &str, password: &str) -> String {
    format!("Basic {}", STANDARD.encode(format!("{user}:{password}")))
}
