//! Numbers and pieces of foreign bytes: nothing is there until it was looked up.

/// Returns the bytes from `at` on, `length` of them, if all are there.
pub(crate) fn piece(bytes: &[u8], at: u64, length: u64) -> Option<&[u8]> {
    let start = usize::try_from(at).ok()?;
    let end = usize::try_from(at.checked_add(length)?).ok()?;
    bytes.get(start..end)
}

fn array<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..at.checked_add(N)?)?.try_into().ok()
}

/// Returns the 16-bit number at `at`, little endian.
pub(crate) fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    array(bytes, at).map(u16::from_le_bytes)
}

/// Returns the 32-bit number at `at`, little endian.
pub(crate) fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    array(bytes, at).map(u32::from_le_bytes)
}

/// Returns the 64-bit number at `at`, little endian.
pub(crate) fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    array(bytes, at).map(u64::from_le_bytes)
}

/// Returns the text up to the next NUL, of at most `most` bytes, if it is printable ASCII.
pub(crate) fn text_at(bytes: &[u8], at: usize, most: usize) -> Option<&str> {
    let rest = bytes.get(at..)?;
    let rest = &rest[..rest.len().min(most)];
    let end = rest.iter().position(|byte| *byte == 0)?;
    let text = str::from_utf8(&rest[..end]).ok()?;
    text.chars().all(|c| c == ' ' || c.is_ascii_graphic()).then_some(text)
}
