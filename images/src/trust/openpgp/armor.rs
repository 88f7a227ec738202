//! OpenPGP as text: base64 between two lines, as keys are sent around.
//!
//! A file of keys may be several such blocks one after another, as `cat` makes them; what stands
//! between two blocks is for people. The checksum is not looked at: it protects from nobody, and
//! RFC 9580 does without.

use std::borrow::Cow;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// What a block must be.
#[derive(Clone, Copy)]
pub(super) enum Block {
    Keys,
    Signature,
}

impl Block {
    fn label(self) -> &'static str {
        match self {
            Self::Keys => "PUBLIC KEY BLOCK",
            Self::Signature => "SIGNATURE",
        }
    }
}

/// The packets of `bytes`, which are them or a text that has them.
pub(super) fn dearmored(bytes: &[u8], block: Block) -> Result<Cow<'_, [u8]>, &'static str> {
    // Every packet begins with a byte that no text begins with.
    if bytes.first().is_some_and(|first| first & 0x80 != 0) {
        return Ok(Cow::Borrowed(bytes));
    }
    let text = str::from_utf8(bytes).map_err(|_| "it is neither OpenPGP nor text")?;
    let mut lines = text.lines().map(str::trim_end);
    let mut packets = Vec::new();
    while let Some(line) = lines.next() {
        let Some(label) = line.strip_prefix("-----BEGIN PGP ") else { continue };
        if label.strip_suffix("-----") != Some(block.label()) {
            return Err("it holds a block of another kind");
        }
        packets.extend(content(&mut lines, block)?);
    }
    if packets.is_empty() {
        return Err("it has no `-----BEGIN PGP`");
    }
    Ok(Cow::Owned(packets))
}

fn content<'a>(
    lines: &mut impl Iterator<Item = &'a str>,
    block: Block,
) -> Result<Vec<u8>, &'static str> {
    // Headers, of which none matters, and an empty line.
    for line in lines.by_ref() {
        if line.is_empty() {
            break;
        }
        if !line.contains(':') {
            return Err("a block has no empty line before its content");
        }
    }
    let mut base64 = String::new();
    for line in lines {
        if let Some(label) = line.strip_prefix("-----END PGP ") {
            if label.strip_suffix("-----") != Some(block.label()) {
                return Err("a block ends as one of another kind");
            }
            return STANDARD.decode(base64).map_err(|_| "a block is no base64");
        }
        if !line.starts_with('=') {
            base64.push_str(line);
        }
    }
    Err("a block has no end")
}
