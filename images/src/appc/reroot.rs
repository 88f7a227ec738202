//! The archive of an image to a layer: what is beneath `rootfs/` comes to lie at the root.
//!
//! One pass, entry by entry, in the order of the image; the manifest may come last, so a list of
//! paths that it has is applied in a second pass. Only names change. What is neither the manifest
//! nor in `rootfs` is refused, and no hard link leads out of it.

use std::io::{self, Read, Write};

use super::error::AppcError;
use super::manifest::MAX_MANIFEST;
use super::member::{Member, pad};
use super::members::Members;
use super::name::Place;
use super::whitelist::Whitelist;
use crate::layer::tar::BLOCK;

/// What a pass over an image found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Rerooted {
    /// The bytes of the manifest.
    pub(crate) manifest: Vec<u8>,
    /// How many entries the layer has.
    pub(crate) entries: u64,
}

/// Copies an image, uncompressed, from `reader` to `writer` as a layer; with a `whitelist` that is
/// not empty, only the paths in it and the directories above them. Reads up to the end of the
/// stream; how long that may be is for the caller to bound.
///
/// # Errors
///
/// [`AppcError`]; what has been written by then is of no use.
pub(crate) fn reroot(
    reader: &mut dyn Read,
    writer: &mut dyn Write,
    whitelist: Option<&[String]>,
) -> Result<Rerooted, AppcError> {
    let mut members = Members::new(reader);
    let mut pass =
        Pass { whitelist: whitelist.and_then(Whitelist::new), writer, manifest: None, entries: 0 };
    let mut rooted = false;
    while let Some(member) = members.next()? {
        if !member.is_regular() && !(b'1'..=b'6').contains(&member.kind) {
            return Err(members.fault("is of a type that is not supported"));
        }
        if member.size > 0 && (!member.is_regular() || member.is_directory()) {
            return Err(members.fault("has content although its type has none"));
        }
        match Place::of(&member.name).map_err(|what| members.fault(what))? {
            Place::Top if member.is_directory() => {}
            Place::Top => return Err(members.fault("lies outside of `rootfs`")),
            Place::Manifest => pass.manifest(&member, &mut members)?,
            Place::Rootfs(path) => {
                rooted = true;
                pass.file(member, path, &mut members)?;
            }
        }
    }
    members.rest()?;
    if !rooted {
        return Err(AppcError::Archive("has no `rootfs`"));
    }
    let manifest = pass.manifest.ok_or(AppcError::Archive("has no `manifest`"))?;
    let end = pass.writer.write_all(&[0; 2 * BLOCK]).and_then(|()| pass.writer.flush());
    end.map_err(AppcError::Write)?;
    Ok(Rerooted { manifest, entries: pass.entries })
}

struct Pass<'a> {
    whitelist: Option<Whitelist>,
    writer: &'a mut dyn Write,
    manifest: Option<Vec<u8>>,
    entries: u64,
}

impl Pass<'_> {
    fn manifest(&mut self, member: &Member, members: &mut Members<'_>) -> Result<(), AppcError> {
        if !member.is_regular() || member.is_directory() || member.sparse {
            return Err(members.fault("is no regular file"));
        }
        if member.size > MAX_MANIFEST as u64 {
            return Err(members.fault("is longer than 4 MiB"));
        }
        if self.manifest.is_some() {
            return Err(members.fault("is there twice"));
        }
        let mut bytes = Vec::new();
        members.content(member.size, &mut bytes)?;
        self.manifest = Some(bytes);
        Ok(())
    }

    /// Writes what lies at `path` beneath the root, or passes over it.
    fn file(
        &mut self,
        member: Member,
        path: Vec<u8>,
        members: &mut Members<'_>,
    ) -> Result<(), AppcError> {
        if path.is_empty() && !member.is_directory() {
            return Err(members.fault("is no directory"));
        }
        let size = member.size;
        if !self.allows(&path, member.is_directory()) {
            return members.content(size, &mut io::sink());
        }
        let link = match member.kind {
            b'1' => self.target(&member.link).map_err(|what| members.fault(what))?,
            _ => member.link.clone(),
        };
        let name = match path.as_slice() {
            [] => b"./".to_vec(),
            _ if member.name.ends_with(b"/") => [&path, &b"/"[..]].concat(),
            _ => path,
        };
        member.write(&name, &link, self.writer).map_err(AppcError::Write)?;
        members.content(size, self.writer)?;
        pad(size, self.writer).map_err(AppcError::Write)?;
        self.entries += 1;
        Ok(())
    }

    /// Finds where a hard link leads; what is wrong is told as the rest of a sentence.
    fn target(&self, link: &[u8]) -> Result<Vec<u8>, &'static str> {
        match Place::of(link) {
            Ok(Place::Rootfs(target)) if target.is_empty() => Err("is a hard link to a directory"),
            Ok(Place::Rootfs(target)) if self.allows(&target, false) => Ok(target),
            Ok(Place::Rootfs(_)) => Err("is a hard link to what the whitelist leaves out"),
            _ => Err("is a hard link to outside of `rootfs`"),
        }
    }

    fn allows(&self, path: &[u8], directory: bool) -> bool {
        self.whitelist.as_ref().is_none_or(|list| list.allows(path, directory))
    }
}

#[cfg(test)]
mod tests;
