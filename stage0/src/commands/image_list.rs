//! `pod image ls`: images in a table, or in lines of one's own making.

use std::collections::BTreeSet;

use images::{ImageRecord, Reference};
use pod_abi::{Digest, Timestamp};

use super::Session;
use crate::cli::ImageLsArgs;
use crate::error::{CommandError, Result};
use crate::ui::{self, Format, Template};
use crate::{fetch, host};

/// What `--format` can write of an image, in the order of [`template_row`]; docker's names beside
/// ours.
const FIELDS: [&str; 10] = [
    "Reference",
    "Repository",
    "Tag",
    "ID",
    "Manifest|Digest",
    "Config",
    "Platform",
    "Size",
    "Pulled|CreatedSince",
    "PulledAt|CreatedAt",
];

/// Lists images.
///
/// # Errors
///
/// A usage error for a template that is none; `image.storage`.
pub(crate) fn ls(session: &Session, args: &ImageLsArgs) -> Result<u8> {
    let (template, json) = match args.format.as_deref() {
        Some("json") => (None, true),
        Some(text) => (Some(Template::parse(text, &FIELDS)?), false),
        None => (None, session.context.format == Format::Json),
    };
    let images = session.store()?.images().map_err(|error| fetch::failed(&error))?;
    let now = host::now();
    if args.quiet {
        let ids: BTreeSet<&Digest> = images.iter().map(|image| &image.manifest).collect();
        ui::words(&ids.into_iter().collect::<Vec<_>>(), session.context.format)?;
    } else if let Some(template) = template {
        let rows = images.iter().map(|image| template_row(image, now));
        ui::out(&template.render(&FIELDS, &rows.collect::<Result<Vec<_>>>()?))?;
    } else if json {
        ui::json(&images)?;
    } else {
        ui::out(&table(&images, args.digests, now))?;
    }
    Ok(0)
}

fn table(images: &[ImageRecord], digests: bool, now: Timestamp) -> String {
    let headings: &[&str] = match digests {
        true => &["REFERENCE", "MANIFEST", "CONFIG", "PLATFORM", "SIZE", "PULLED"],
        false => &["REFERENCE", "ID", "PLATFORM", "SIZE", "PULLED"],
    };
    let row = |image: &ImageRecord| {
        let mut row = vec![image.reference.clone()];
        match digests {
            true => row.extend([image.manifest.to_string(), image.config.to_string()]),
            false => row.push(image.manifest.short().to_owned()),
        }
        row.extend(facts(image, now));
        row
    };
    ui::table(headings, &images.iter().map(row).collect::<Vec<_>>())
}

/// Platform, size, and how long ago it came.
fn facts(image: &ImageRecord, now: Timestamp) -> [String; 3] {
    let ago = now.seconds().saturating_sub(image.pulled.seconds());
    [image.platform.clone(), ui::size(image.size), format!("{} ago", ui::span(ago))]
}

fn template_row(image: &ImageRecord, now: Timestamp) -> Result<ui::TemplateRow> {
    let whole =
        serde_json::to_value(image).map_err(|error| CommandError::of("internal.json", &error))?;
    let reference = Reference::parse(&image.reference).ok();
    let tag = reference.as_ref().and_then(|reference| reference.tag()).unwrap_or("<none>");
    let repository = match image.reference.strip_suffix(tag).and_then(|it| it.strip_suffix(':')) {
        Some(repository) => repository.to_owned(),
        None => image.reference.clone(),
    };
    let [platform, size, pulled] = facts(image, now);
    Ok(ui::TemplateRow {
        cells: vec![
            image.reference.clone(),
            repository,
            tag.to_owned(),
            image.manifest.short().to_owned(),
            image.manifest.to_string(),
            image.config.to_string(),
            platform,
            size,
            pulled,
            image.pulled.to_string(),
        ],
        whole,
    })
}
