//! Numbers in headers and PAX records.
//!
//! `tar::Header` takes `+7` and wraps negative base-256 numbers, so the fields are decoded here.

use crate::layer::entry::Moment;

/// Decodes a numeric field: octal digits, perhaps behind spaces, up to a NUL or a space; or
/// base-256 in two's complement if the first bit is set. An empty field is 0.
pub(crate) fn field(bytes: &[u8]) -> Option<i64> {
    match bytes.first() {
        Some(first) if first & 0x80 != 0 => base256(bytes),
        _ => octal(bytes),
    }
}

fn octal(bytes: &[u8]) -> Option<i64> {
    let start = bytes.iter().position(|byte| *byte != b' ').unwrap_or(bytes.len());
    let text = &bytes[start..];
    let digits = text.iter().take_while(|byte| (b'0'..=b'7').contains(*byte)).count();
    let value = text[..digits].iter().try_fold(0_i64, |value, digit| {
        value.checked_mul(8)?.checked_add(i64::from(digit - b'0'))
    })?;
    let rest = &text[digits..];
    let terminated = match rest.first() {
        None => true,
        // Every parser stops at a NUL; what follows it has no meaning. Without digits before it,
        // some read on.
        Some(0) => digits > 0 || rest.iter().all(|byte| *byte == 0),
        Some(b' ') => rest.iter().all(|byte| matches!(byte, 0 | b' ')),
        Some(_) => false,
    };
    terminated.then_some(value)
}

fn base256(bytes: &[u8]) -> Option<i64> {
    let (first, rest) = bytes.split_first()?;
    let sign: i128 = if first & 0x40 != 0 { -1 } else { 0 };
    // A field has at most 12 bytes, so 94 bits: no overflow before the conversion.
    let head = (sign << 6) | i128::from(first & 0x3f);
    let value = rest.iter().fold(head, |value, byte| (value << 8) | i128::from(*byte));
    i64::try_from(value).ok()
}

/// Decodes a non-negative decimal number: digits only.
pub(crate) fn decimal(text: &[u8]) -> Option<u64> {
    if text.is_empty() || text.len() > 20 {
        return None;
    }
    text.iter().try_fold(0_u64, |value, byte| {
        let digit = byte.is_ascii_digit().then(|| u64::from(byte - b'0'))?;
        value.checked_mul(10)?.checked_add(digit)
    })
}

/// Decodes a PAX time: seconds with an optional sign and an optional fraction, which is cut to
/// nanoseconds.
pub(super) fn moment(text: &[u8]) -> Option<Moment> {
    let (negative, text) = match text.strip_prefix(b"-") {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    let mut halves = text.splitn(2, |byte| *byte == b'.');
    let whole = i64::try_from(decimal(halves.next()?)?).ok()?;
    let fraction = halves.next().unwrap_or_default();
    if !fraction.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let nanos = (0..9).fold(0_u32, |nanos, place| {
        nanos * 10 + u32::from(fraction.get(place).map_or(0, |digit| digit - b'0'))
    });
    match (negative, nanos) {
        (false, nanos) => Some(Moment { seconds: whole, nanos }),
        (true, 0) => Some(Moment { seconds: -whole, nanos }),
        (true, nanos) => Some(Moment { seconds: -whole - 1, nanos: 1_000_000_000 - nanos }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_octal_or_base_256() {
        let cases: &[(&[u8], Option<i64>)] = &[
            (b"0000644\0", Some(0o644)),
            (b"    644 ", Some(0o644)),
            (b"644 \0\0\0\0", Some(0o644)),
            (b"77777777", Some(0o77_777_777)),
            (b"\0\0\0\0\0\0\0\0", Some(0)),
            (b"        ", Some(0)),
            (b"12\0junk!", Some(0o12)),
            (b"\0\x37\0\0\0\0\0\0", None),
            (b"+0000003", None),
            (b"-0000003", None),
            (b"0x000010", None),
            (b"00000008", None),
            (b"12 34\0\0\0", None),
            (b"\x80\0\0\0\0\0\x01\0", Some(256)),
            (b"\xff\xff\xff\xff\xff\xff\xff\xff", Some(-1)),
            (b"\x80\0\0\0\xff\xff\xff\xff\xff\xff\xff\xff", None),
            (b"777777777777777777777777", None),
        ];
        for (bytes, expected) in cases {
            assert_eq!(field(bytes), *expected, "{}", bytes.escape_ascii());
        }
    }

    #[test]
    fn times_before_1970_count_their_fraction_forward() {
        let at = |seconds, nanos| Some(Moment { seconds, nanos });
        let cases: &[(&[u8], Option<Moment>)] = &[
            (b"0", at(0, 0)),
            (b"1700000000.5", at(1_700_000_000, 500_000_000)),
            (b"1.1234567899", at(1, 123_456_789)),
            (b"-1", at(-1, 0)),
            (b"-1.25", at(-2, 750_000_000)),
            (b"-0.5", at(-1, 500_000_000)),
            (b"", None),
            (b"-", None),
            (b"1.5.2", None),
            (b"1e3", None),
            (b"99999999999999999999", None),
        ];
        for (text, expected) in cases {
            assert_eq!(moment(text), *expected, "{}", text.escape_ascii());
        }
    }

    #[test]
    fn decimals_are_digits_only() {
        assert_eq!(decimal(b"18446744073709551615"), Some(u64::MAX));
        for bad in [&b""[..], b"+1", b"-1", b" 1", b"1 ", b"0x1", b"18446744073709551616"] {
            assert_eq!(decimal(bad), None, "{}", bad.escape_ascii());
        }
    }
}
