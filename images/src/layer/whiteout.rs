//! Names that mean absence: `.wh.NAME`, `.wh..wh..opq`, and what AUFS left behind.
//!
//! No name that begins with `.wh.` ever reaches a tree, so the sink may use such names itself.
//! Source: OCI image-spec `layer.md`, "Whiteouts".

use super::entry::{Entry, Kind};

const PREFIX: &[u8] = b".wh.";
const META_PREFIX: &[u8] = b".wh..wh.";
const OPAQUE: &[u8] = b".wh..wh..opq";

/// Turns an entry that is named like a whiteout into what it means; `None` if it means nothing.
/// Whiteouts may be of any type. An error is the rest of a sentence about the entry.
pub(super) fn interpret(entry: Entry) -> Result<Option<Entry>, &'static str> {
    if let Kind::HardLink(target) = &entry.kind {
        if has_component(target, META_PREFIX) {
            return Err("is a hard link into a `.wh..wh.plnk` directory of AUFS");
        }
        if has_component(target, PREFIX) {
            return Err("is a hard link to a whiteout");
        }
    }
    if !has_component(&entry.path, PREFIX) {
        return Ok(Some(entry));
    }
    let (parent, name) = split(&entry.path);
    if has_component(parent, META_PREFIX) {
        return Ok(None);
    }
    if has_component(parent, PREFIX) {
        return Err("lies beneath a whiteout");
    }
    if name == OPAQUE {
        return Ok(Some(Entry { path: parent.to_vec(), kind: Kind::Opaque, ..entry }));
    }
    if name.starts_with(META_PREFIX) {
        return Ok(None);
    }
    let hidden = &name[PREFIX.len()..];
    if matches!(hidden, b"" | b"." | b"..") {
        return Err("is a whiteout of nothing");
    }
    let path = match parent {
        [] => hidden.to_vec(),
        _ => [parent, b"/", hidden].concat(),
    };
    Ok(Some(Entry { path, kind: Kind::Whiteout, ..entry }))
}

fn has_component(path: &[u8], prefix: &[u8]) -> bool {
    path.split(|byte| *byte == b'/').any(|component| component.starts_with(prefix))
}

/// Splits a clean path into its parent, empty for the root, and its last component.
pub(super) fn split(path: &[u8]) -> (&[u8], &[u8]) {
    match path.iter().rposition(|byte| *byte == b'/') {
        Some(slash) => (&path[..slash], &path[slash + 1..]),
        None => (&[], path),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layer::entry::Attributes;

    fn entry(path: &str, kind: Kind) -> Entry {
        Entry { path: path.into(), kind, attributes: Attributes::default() }
    }

    #[test]
    fn whiteouts_mean_what_the_specification_says() {
        let cases = [
            ("a/b", Ok(Some(("a/b", Kind::Fifo)))),
            ("a/.wh.b", Ok(Some(("a/b", Kind::Whiteout)))),
            (".wh.b", Ok(Some(("b", Kind::Whiteout)))),
            ("a/.wh..hidden", Ok(Some(("a/.hidden", Kind::Whiteout)))),
            ("a/.wh..wh..opq", Ok(Some(("a", Kind::Opaque)))),
            (".wh..wh..opq", Ok(Some(("", Kind::Opaque)))),
            (".wh..wh.aufs", Ok(None)),
            (".wh..wh.plnk/12.34", Ok(None)),
            (".wh..wh..opq/x", Ok(None)),
            ("a/.wh.", Err(())),
            ("a/.wh..", Err(())),
            ("a/.wh...", Err(())),
            ("a/.wh.b/c", Err(())),
        ];
        for (path, expected) in cases {
            let got = interpret(entry(path, Kind::Fifo));
            let got = got.map_err(|_| ()).map(|entry| entry.map(|entry| (entry.path, entry.kind)));
            let expected = expected.map(|some| some.map(|(path, kind)| (path.into(), kind)));
            assert_eq!(got, expected, "{path}");
        }
    }

    #[test]
    fn nothing_links_to_a_whiteout() {
        for target in [".wh..wh.plnk/12.34", "a/.wh.b", ".wh.b/c"] {
            assert!(interpret(entry("a", Kind::HardLink(target.into()))).is_err(), "{target}");
        }
    }
}
