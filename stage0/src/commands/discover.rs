//! `pod image import --discover NAME`: an image of appc is looked for by its name.
//!
//! Never: a look at what came; it is imported, and its signature checked, as any file's.

use images::registry::ClientOptions;
use images::{
    AppcName, Discovered, Discovery, ErrorKind, Progress, PullOptions, SignatureWanted, Store,
    Transport,
};

use crate::cli::ImportArgs;
use crate::error::{CommandError, Result};
use crate::fetch as fetching;
use crate::flags::FetchFlags;
use crate::request::{FetchRequest, read_fetch};

/// Reads the name of an image of appc.
///
/// # Errors
///
/// A usage error.
pub(super) fn name(word: &str) -> Result<AppcName> {
    AppcName::parse(word).map_err(|error| {
        CommandError::usage(error.to_string())
            .hint("a name is such as `example.com/app:1.0.0,os=linux`")
    })
}

/// Reads what is given up for an import, and which policy decides.
///
/// # Errors
///
/// A usage error for an unknown protection.
pub(super) fn request(args: &ImportArgs) -> Result<FetchRequest> {
    read_fetch(&FetchFlags {
        signature_policy: args.signature_policy.clone(),
        insecure_options: args.insecure_options.clone(),
        ..FetchFlags::default()
    })
}

/// Fetches the image of this name; with a keyring, its signature too, which is not checked yet.
///
/// # Errors
///
/// A usage error for an unknown protection; `image.…`, with every place that was asked.
pub(super) fn discovered(
    store: &Store,
    args: &ImportArgs,
    (name, options): (&AppcName, &PullOptions),
    progress: &dyn Progress,
) -> Result<Discovered> {
    let request = request(args)?;
    let transport =
        if request.insecure_http { Transport::InsecureHttp } else { Transport::Guarded };
    // Whoever has images for everybody is told nobody's password.
    let client = ClientOptions { transport, auth_files: Vec::new(), ..ClientOptions::default() };
    let signature = if args.keyring.is_some() { SignatureWanted::Yes } else { SignatureWanted::No };
    let discovery = Discovery {
        name,
        platform: &options.platform,
        signature,
        policies: &request.policies,
        client: &client,
        most: Discovery::MOST,
        progress,
    };
    store.discover(&discovery).map_err(|error| told(&error))
}

/// Gives an error the hint that leads on.
fn told(error: &images::Error) -> CommandError {
    let made = fetching::failed(error);
    match error.kind() {
        ErrorKind::Untrusted => made.hint(
            "`--keyring FILE` says who may have signed it; `--insecure-options image` does without",
        ),
        ErrorKind::Unreachable => made.hint(
            "is the name right, and the network up? on loopback, `--insecure-options http` does without TLS",
        ),
        ErrorKind::NotFound => {
            made.hint("an image of a registry is fetched with `pod fetch`, one of a file without `--discover`")
        }
        _ => made,
    }
}
