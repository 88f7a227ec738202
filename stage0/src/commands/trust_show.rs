//! `pod trust show`: what is asked of a scope or of an image, and the keys that may have signed it.
//!
//! Only files of this host are read. A key that cannot be told is told so, and hides no other one.
//!
//! Never: a decision. What an image has is for `pod trust test` to look at.

use std::path::PathBuf;
use std::time::SystemTime;

use images::Reference;
use images::trust::{KeyFacts, KeyPlace, Requirement, Subject};
use serde::Serialize;

use crate::cli::TrustShowArgs;
use crate::context::Context;
use crate::error::{CommandError, Result};
use crate::policy_file::{PolicyFile, Scope, Section};
use crate::short_names;
use crate::ui::{self, Format};

/// What is asked of one scope or image.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Document {
    /// What was asked about; none if it is a part of the whole policy.
    #[serde(skip_serializing_if = "Option::is_none")]
    subject: Option<String>,
    policy: Option<PathBuf>,
    place: String,
    /// All must hold.
    asked: Vec<Asked>,
}

#[derive(Debug, Serialize)]
struct Asked {
    requirement: String,
    /// A signature by any of them will do.
    keys: Vec<Key>,
}

/// A key, or a place that has none.
#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
struct Key {
    /// Its file; none if it stands in the policy.
    path: Option<PathBuf>,
    kind: Option<&'static str>,
    fingerprint: Option<String>,
    /// The key id of OpenPGP.
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    users: Vec<String>,
    /// Why nothing lets in what it signs.
    #[serde(skip_serializing_if = "Option::is_none")]
    useless: Option<String>,
}

/// Shows what is asked.
///
/// # Errors
///
/// `trust.policy` for what is none; `image.…` for a short name that may mean several images; usage for
/// what is neither a scope nor an image, or an image that was judged when it came.
pub(super) fn show(context: &Context, args: &TrustShowArgs) -> Result<u8> {
    let policy = PolicyFile::of_flag(args.policy.signature_policy.as_deref())?;
    let documents = match args.subject.as_deref() {
        None => policy.sections().iter().map(|section| of_section(&policy, section)).collect(),
        Some(word) => vec![of_subject(&policy, word)?],
    };
    match context.format {
        Format::Json => ui::json(&documents)?,
        Format::Table => {
            let texts: Vec<String> = documents.iter().map(text).collect();
            ui::out(&texts.join("\n"))?;
        }
    }
    Ok(0)
}

fn of_section(policy: &PolicyFile, section: &Section) -> Document {
    let Section { transport, scope, requirements } = section;
    let place = match (transport.as_str(), scope.as_str()) {
        ("", _) => "the policy's default".to_owned(),
        (transport, "") => format!("the default of `{transport}`"),
        (transport, scope) => format!("scope `{scope}` of `{transport}`"),
    };
    document(policy, None, place, requirements)
}

fn of_subject(policy: &PolicyFile, word: &str) -> Result<Document> {
    let (name, subject) = match Scope::parse(word) {
        Ok(_) => (word.to_owned(), within(word)),
        Err(_) => {
            let names = short_names::read(word)?;
            // What is asked may differ from one registry to the next.
            let Some(image) = names.only() else {
                let message = format!("the short name `{word}` may mean several images");
                return Err(
                    CommandError::new("image.ambiguous", message).hint("give the whole name")
                );
            };
            (image.to_string(), Subject::of(image))
        }
    };
    let Some(subject) = subject else {
        let message = format!("`{name}` is of the store, and was judged when it came");
        return Err(CommandError::usage(message)
            .hint("`pod image inspect` tells what vouched for it, as `verified`"));
    };
    let (place, requirements) = policy.asked_of(&subject);
    Ok(document(policy, Some(name), place.to_string(), &requirements))
}

/// Returns how a policy sees all that is in a scope of registries and in none narrower.
fn within(scope: &str) -> Option<Subject> {
    let image = match (scope.strip_prefix("*."), scope.contains('/')) {
        (Some(domain), _) => format!("x.{domain}/x"),
        (None, true) => scope.to_owned(),
        (None, false) => format!("{scope}/x"),
    };
    let mut subject = Subject::of(&Reference::parse(&format!("docker://{image}")).ok()?)?;
    let narrower = subject.scopes.iter().position(|one| one == scope)?;
    subject.scopes.drain(..narrower);
    Some(subject)
}

fn document(
    policy: &PolicyFile,
    subject: Option<String>,
    place: String,
    requirements: &[Requirement],
) -> Document {
    let now = SystemTime::now();
    let asked = |requirement: &Requirement| Asked {
        requirement: requirement.to_string(),
        keys: requirement.keys(now).into_iter().flat_map(keys).collect(),
    };
    Document {
        subject,
        policy: policy.origin().map(ToOwned::to_owned),
        place,
        asked: requirements.iter().map(asked).collect(),
    }
}

fn keys(place: KeyPlace) -> Vec<Key> {
    let KeyPlace { path, keys } = place;
    let key = |facts: KeyFacts| {
        let KeyFacts { kind, fingerprint, id, users, useless } = facts;
        let useless = useless.map(str::to_owned);
        let (kind, fingerprint) = (Some(kind), Some(fingerprint));
        Key { path: path.clone(), kind, fingerprint, id, users, useless }
    };
    match keys {
        Ok(keys) => keys.into_iter().map(key).collect(),
        Err(error) => {
            let useless = Some(error.to_string());
            vec![Key { path: path.clone(), useless, ..Key::default() }]
        }
    }
}

fn text(document: &Document) -> String {
    let mut text = String::new();
    let mut line = |name: &str, value: &str| text.push_str(&format!("{name:<10} {value}\n"));
    if let Some(subject) = &document.subject {
        line("of:", subject);
        match &document.policy {
            Some(path) => line("policy:", &path.display().to_string()),
            None => line("policy:", "none, so nothing is asked"),
        }
    }
    line("decides:", &document.place);
    for asked in &document.asked {
        line("asked:", &asked.requirement);
        asked.keys.iter().for_each(|key| line("key:", &sentence(key)));
    }
    text
}

/// Tells of one key in a line.
fn sentence(key: &Key) -> String {
    let useless = key.useless.as_deref();
    let (Some(kind), Some(fingerprint)) = (key.kind, &key.fingerprint) else {
        return format!("none: {}", useless.unwrap_or_default());
    };
    let mut parts = match &key.id {
        Some(id) => vec![format!("{kind} {fingerprint}, id {id}")],
        None => vec![format!("{kind} SHA-256 {fingerprint}")],
    };
    parts.extend(key.users.iter().map(|user| format!("`{user}`")));
    parts.push(match &key.path {
        Some(path) => format!("in `{}`", path.display()),
        None => "in the policy".to_owned(),
    });
    let told = parts.join(", ");
    useless.map_or_else(|| told.clone(), |why| format!("{told}: of no use, as {why}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_in_a_scope_is_in_those_above_it_and_in_none_below() {
        for (scope, expected) in [
            ("r.example.org", &["r.example.org", "*.example.org", "*.org"][..]),
            ("r.io/team", &["r.io/team", "r.io", "*.io"]),
            (
                "r.io:5000/a/b:1",
                &["r.io:5000/a/b:1", "r.io:5000/a/b", "r.io:5000/a", "r.io:5000", "*.io"],
            ),
            ("*.example.org", &["*.example.org", "*.org"]),
            ("localhost", &["localhost"]),
        ] {
            assert_eq!(within(scope).unwrap().scopes, expected, "{scope}");
        }
    }
}
