//! `pod trust …`: what the signature policy says, and has it say something else.

use std::path::{Path, PathBuf};

use images::trust::KeyFile;
use images::{Decision, Reference};
use pod_abi::Digest;
use pod_abi::app::Verified;
use serde::Serialize;

use super::trust_show;
use crate::cli::{
    PolicyFlag, TrustAddArgs, TrustRequireArgs, TrustRmArgs, TrustTestArgs, TrustVerb,
};
use crate::context::Context;
use crate::error::{CommandError, Context as _, Result};
use crate::fetch;
use crate::policy_file::{Asked, KeyKind, Keys, Line, PolicyFile, Scope};
use crate::request::read_fetch;
use crate::short_names;
use crate::ui::{self, Format};

/// What `pod trust test -o json` prints.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Document {
    image: String,
    manifest: Digest,
    #[serde(skip_serializing_if = "Option::is_none")]
    index: Option<Digest>,
    policy: Option<PathBuf>,
    place: Option<String>,
    asked: Vec<String>,
    allowed: bool,
    verified: Option<Verified>,
    refusal: Option<String>,
}

/// Does what is asked about the policy.
///
/// # Errors
///
/// `image.…` for an image that cannot be looked at; usage.
pub(crate) fn trust(context: &Context, verb: &TrustVerb) -> Result<u8> {
    match verb {
        TrustVerb::Test(args) => test(context, args),
        TrustVerb::Ls(policy) => ls(context, policy),
        TrustVerb::Show(args) => trust_show::show(context, args),
        TrustVerb::Require(args) => require(context, args),
        TrustVerb::Add(args) => add(context, args),
        TrustVerb::Rm(args) => rm(context, args),
    }
}

/// Lists a policy.
fn ls(context: &Context, policy: &PolicyFlag) -> Result<u8> {
    let lines = open(policy)?.lines();
    if context.format == Format::Json {
        return ui::json(&lines).map(|()| 0);
    }
    let cells = |line: &Line| {
        let scope = match (line.transport.as_str(), line.scope.as_str()) {
            ("", _) => "default",
            (_, "") => "all others",
            (_, scope) => scope,
        };
        let transport = if line.transport.is_empty() { "-" } else { &line.transport };
        vec![transport.to_owned(), scope.to_owned(), line.asked.join(", and ")]
    };
    let rows: Vec<_> = lines.iter().map(cells).collect();
    ui::out(&ui::table(&["TRANSPORT", "SCOPE", "ASKED"], &rows)).map(|()| 0)
}

/// Has a scope ask for something, and shows the policy.
fn require(context: &Context, args: &TrustRequireArgs) -> Result<u8> {
    let scope = scope(args.scope.as_deref())?;
    let asked = match (args.accept, args.reject) {
        (true, _) => Asked::Nothing,
        (_, true) => Asked::Reject,
        _ => Asked::Signature(keys(&args.key, args.any_tag)?),
    };
    let mut policy = open(&args.policy)?;
    policy.require(&scope, &asked);
    policy.write()?;
    ls(context, &args.policy)
}

/// Has a scope let in what further keys have signed, and shows the policy.
fn add(context: &Context, args: &TrustAddArgs) -> Result<u8> {
    let scope = scope(args.scope.as_deref().or(args.prefix.as_deref()))?;
    let keys = keys(&args.key, args.any_tag)?;
    let mut policy = open(&args.policy)?;
    policy.add(&scope, &keys)?;
    policy.write()?;
    ls(context, &args.policy)
}

fn scope(word: Option<&str>) -> Result<Scope> {
    word.map_or(Ok(Scope::Default), Scope::parse)
}

/// Says nothing of a scope any more, and shows the policy.
fn rm(context: &Context, args: &TrustRmArgs) -> Result<u8> {
    let mut policy = open(&args.policy)?;
    if !policy.forget(&args.scope) {
        let message = format!("the policy says nothing of `{}`", args.scope);
        return Err(
            CommandError::new("trust.scope", message).hint("`pod trust ls` lists what it does")
        );
    }
    policy.write()?;
    ls(context, &args.policy)
}

fn open(policy: &PolicyFlag) -> Result<PolicyFile> {
    PolicyFile::of_flag(policy.signature_policy.as_deref())
}

/// Reads keys, so that a policy never names one that is none, and returns where they lie.
fn keys(paths: &[PathBuf], any_tag: bool) -> Result<Keys> {
    let whole = |path: &PathBuf| {
        let path =
            std::path::absolute(path).context(|| "the working directory is gone".to_owned())?;
        path.into_os_string().into_string().map_err(|path| {
            let path = path.display();
            CommandError::usage(format!("a policy cannot name `{path}`, which is no UTF-8"))
        })
    };
    let files: Vec<String> = paths.iter().map(whole).collect::<Result<_>>()?;
    let mut kinds = Vec::new();
    for file in &files {
        let read = KeyFile::read(Path::new(file)).map_err(|error| {
            CommandError::of("trust.key", &error)
                .hint("a key of cosign is PEM: `openssl pkey -in KEY -pubout -out KEY.pub`")
                .hint("keys of OpenPGP are what `gpg --export` writes, armored or not")
        })?;
        kinds.push(match read {
            KeyFile::Cosign(_) => KeyKind::Cosign,
            KeyFile::OpenPgp(_) => KeyKind::OpenPgp,
        });
    }
    match kinds[..] {
        [kind, ref more @ ..] if more.iter().all(|other| *other == kind) => {
            Ok(Keys { kind, files, any_tag })
        }
        _ => {
            let message = "keys of cosign and of OpenPGP cannot stand for each other";
            Err(CommandError::usage(message).hint("all that a policy asks of a scope must hold"))
        }
    }
}

/// Says whether the policy lets an image in, and keeps nothing of it. The status is 1 if not.
fn test(context: &Context, args: &TrustTestArgs) -> Result<u8> {
    let names = short_names::read(&args.image)?;
    let options = fetch::options_of(&read_fetch(&args.fetch)?)?;
    let deed = |reference: &Reference| {
        Ok(document(reference.to_string(), images::decide(reference, &options)?))
    };
    let document = names.first_of(&names.to_ask()?, deed, fetch::told)?;
    match context.format {
        Format::Json => ui::json(&document)?,
        Format::Table => ui::out(&text(&document))?,
    }
    Ok(u8::from(!document.allowed))
}

fn document(image: String, decision: Decision) -> Document {
    let Decision { manifest, index, policy, place, asked, verdict } = decision;
    let (verified, refusal) = match verdict {
        Ok(verified) => (Some(verified), None),
        Err(why) => (None, Some(why)),
    };
    let allowed = verified.is_some();
    Document { image, manifest, index, policy, place, asked, allowed, verified, refusal }
}

fn text(document: &Document) -> String {
    let mut text = String::new();
    let mut line = |name: &str, value: &str| text.push_str(&format!("{name:<10} {value}\n"));
    line("image:", &document.image);
    line("manifest:", &document.manifest.to_string());
    match &document.policy {
        Some(path) => line("policy:", &path.display().to_string()),
        None => line("policy:", "none, so nothing is asked"),
    }
    if let Some(place) = &document.place {
        line("decides:", place);
    }
    document.asked.iter().for_each(|asked| line("asked:", asked));
    match (&document.verified, &document.refusal) {
        (Some(verified), _) => line("allowed:", &format!("yes, {}", vouches(*verified))),
        (_, Some(why)) => line("allowed:", &format!("no: {why}")),
        _ => {}
    }
    text
}

/// Says what vouches for an image.
const fn vouches(verified: Verified) -> &'static str {
    match verified {
        Verified::Signature => "by a signature",
        Verified::Digest => "by its digest, which came over TLS or was given",
        Verified::DigestOverHttp => "by its digest, which came over plain HTTP",
        Verified::LocalFile => "by its digest, which is in a file of this host",
    }
}
