//! `pod trust …`: what the signature policy says.

use std::path::PathBuf;

use images::Decision;
use pod_abi::Digest;
use pod_abi::app::Verified;
use serde::Serialize;

use crate::cli::{TrustTestArgs, TrustVerb};
use crate::context::Context;
use crate::error::Result;
use crate::fetch;
use crate::request::read_fetch;
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
    let TrustVerb::Test(args) = verb;
    test(context, args)
}

/// Says whether the policy lets an image in, and keeps nothing of it. The status is 1 if not.
fn test(context: &Context, args: &TrustTestArgs) -> Result<u8> {
    let reference = fetch::reference(&args.image)?;
    let options = fetch::options_of(&read_fetch(&args.fetch)?)?;
    let decision =
        images::decide(&reference, &options).map_err(|error| fetch::told(&error, &reference))?;
    let document = document(reference.to_string(), decision);
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
