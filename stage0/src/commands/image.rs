//! `pod image …` and `pod fetch`: the store of images.

use std::collections::BTreeSet;
use std::time::Duration;

use images::{GcMode, GcOptions, ImageRecord};
use pod_abi::Digest;
use pod_abi::phase::Home;

use super::{Session, each, extract, image_list, push, transfer};
use crate::cli::{FetchArgs, FsckArgs, ImageGcArgs, ImageVerb};
use crate::error::{CommandError, Result};
use crate::fetch as fetching;
use crate::pods::Entry;
use crate::request::{Pull, bytes, read_fetch};
use crate::short_names;
use crate::ui::{self, Format, Telling};

/// Does what is asked of the store.
///
/// # Errors
///
/// `image.…`.
pub(crate) fn image(session: &Session, verb: &ImageVerb) -> Result<u8> {
    match verb {
        ImageVerb::Pull(args) => fetch(session, args),
        ImageVerb::Ls(args) => image_list::ls(session, args),
        ImageVerb::Inspect(args) => {
            let store = session.store()?;
            let reference = fetching::stored(&store, &args.image)?;
            let details = store.inspect(&reference);
            let details = details.map_err(|error| fetching::told(&error, &reference))?;
            ui::json(&details).map(|()| 0)
        }
        ImageVerb::Tag(args) => transfer::tag(session, args),
        ImageVerb::Import(args) => transfer::import(session, args),
        ImageVerb::Export(args) => transfer::export(session, args),
        ImageVerb::Push(args) => push::push(session, args),
        ImageVerb::Sign(args) => push::sign(session, args),
        ImageVerb::Extract(args) => extract::extract(session, args),
        ImageVerb::Rm(args) => rm(session, &args.images),
        ImageVerb::Gc(args) => gc(session, args),
        ImageVerb::Fsck(args) => fsck(session, args),
    }
}

/// Fetches images and prints what their names mean now.
///
/// # Errors
///
/// The last image's that could not be fetched.
pub(crate) fn fetch(session: &Session, args: &FetchArgs) -> Result<u8> {
    let store = session.store()?;
    let lease = store.lease().map_err(|error| fetching::failed(&error))?;
    let mut request = read_fetch(&args.fetch)?;
    request.telling = request.telling.in_form(session.context.format);
    // Whoever types `fetch` wants what the registry has now.
    if args.fetch.pull.is_none() {
        request.pull = Pull::Always;
    }
    let mut fetched = Vec::new();
    let done = each(&session.context, &args.images, |word| {
        let (_, image) = fetching::obtain(&store, &lease, word, &request)?;
        match session.context.format {
            Format::Table => ui::out(&format!("{}\n", image.manifest))?,
            Format::Json => fetched.push(fetching::as_json(&image)),
        }
        Ok(())
    });
    if session.context.format == Format::Json {
        ui::json(&fetched)?;
    }
    done.map(|()| 0)
}

fn rm(session: &Session, words: &[String]) -> Result<u8> {
    let store = session.store()?;
    let mut gone: Vec<ImageRecord> = Vec::new();
    each(&session.context, words, |word| {
        let names = short_names::read(word)?;
        // The same image may be named twice, by name and by id.
        if gone.iter().any(|image| names.any(|name| image.is_meant_by(name))) {
            return Ok(());
        }
        let reference = names.stored(&store)?;
        let removed = store.remove(&reference);
        let removed = removed.map_err(|error| fetching::told(&error, &reference))?;
        let lines = removed.iter().map(|image| format!("{}\n", image.reference));
        let lines = lines.collect::<String>();
        gone.extend(removed);
        ui::out(&lines)
    })?;
    Ok(0)
}

fn gc(session: &Session, args: &ImageGcArgs) -> Result<u8> {
    let most = args.max_size.as_deref().map(|word| bytes("--max-size", word)).transpose()?;
    let args = &args.gc;
    let options = GcOptions {
        most,
        grace: Duration::from_secs(args.grace),
        mode: if args.dry_run { GcMode::DryRun } else { GcMode::Delete },
    };
    let report = session
        .store()?
        .gc(|| pins(session).map_err(images::Error::outside), &options)
        .map_err(|error| fetching::failed(&error))?;
    if session.context.format == Format::Json {
        return ui::json(&report).map(|()| 0);
    }
    let word = if args.dry_run { "would forget" } else { "forgot" };
    let forgotten = report.images.iter().map(|image| format!("{word} {image}\n"));
    ui::out(&forgotten.collect::<String>())?;
    let word = if args.dry_run { "would free" } else { "freed" };
    ui::out(&format!(
        "{word} {}: {} blobs, {} layers, {} leftovers\n",
        ui::size(report.bytes),
        report.blobs.len(),
        report.layers.len(),
        report.residue.len()
    ))
    .map(|()| 0)
}

/// Collects what pods keep. A pod whose pins cannot be read stops the collection: freeing what it
/// needs would be worse than freeing nothing.
fn pins(session: &Session) -> Result<BTreeSet<Digest>> {
    let mut pins = BTreeSet::new();
    for home in Home::ALL {
        for entry in session.pods.list(home)? {
            match entry? {
                Entry::Pod(pod) => pins.extend(pod.pins()?),
                Entry::Alien(..) => {}
            }
        }
    }
    Ok(pins)
}

fn fsck(session: &Session, args: &FsckArgs) -> Result<u8> {
    let store = session.store()?;
    let telling = if args.quiet { Telling::Quiet } else { Telling::People };
    let progress = ui::Progress::new(telling.in_form(session.context.format));
    let checked = match args.quick {
        true => store.fsck(),
        false => store.fsck_with_trees(&fetching::worker(), &progress),
    };
    let report = checked.map_err(|error| fetching::failed(&error))?;
    drop(progress);
    if report.unchecked > 0 && !args.quiet {
        ui::note(&format!(
            "{} layers cannot be compared: what they came as is not in the store",
            report.unchecked
        ));
    }
    if session.context.format == Format::Json {
        ui::json(&report)?;
    } else {
        let lines: String = report
            .findings
            .iter()
            .map(|finding| format!("{}: {}\n", finding.object, finding.problem))
            .collect();
        ui::out(&format!(
            "{lines}checked {} references, {} blobs, {} layers: {} problems\n",
            report.refs,
            report.blobs,
            report.layers,
            report.findings.len()
        ))?;
    }
    if report.findings.is_empty() {
        return Ok(0);
    }
    Err(CommandError::new(
        "image.damaged",
        format!("the store has {} problems", report.findings.len()),
    )
    .hint("`pod fetch IMAGE` fetches damaged documents again")
    .hint("damaged layers go with `pod image rm IMAGE` and `pod image gc`; then fetch again"))
}
