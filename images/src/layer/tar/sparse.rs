//! Maps of sparse files: which parts of a file are in the archive.
//!
//! Four encodings exist: entries in GNU headers, and PAX 0.0, 0.1 and 1.0. All end in the same
//! checked [`Map`]. It must never describe more data than its entry holds.

use super::number;

/// The most segments of a map. GNU tar writes one for each run of data; real files have dozens.
pub(super) const MAX_SEGMENTS: usize = 10_000;

/// A run of data inside a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Segment {
    /// Where it begins in the file.
    pub(super) offset: u64,
    /// Its length.
    pub(super) length: u64,
}

/// The data of a sparse file, in order and without overlap.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Map {
    /// The runs of data.
    pub(super) segments: Vec<Segment>,
    /// The file's length.
    pub(super) size: u64,
}

impl Map {
    /// Checks that `segments` lie in order within `size` and hold exactly `packed` bytes.
    pub(super) fn checked(
        segments: Vec<Segment>,
        size: u64,
        packed: u64,
    ) -> Result<Self, &'static str> {
        let mut end = 0_u64;
        let mut sum = 0_u64;
        for segment in &segments {
            let next = segment.offset.checked_add(segment.length);
            let next =
                next.filter(|next| *next <= size).ok_or("has a sparse map beyond its size")?;
            if segment.offset < end {
                return Err("has a sparse map that overlaps itself");
            }
            end = next;
            // No overflow: segments do not overlap within `size`.
            sum += segment.length;
        }
        if sum != packed {
            return Err("has a sparse map that does not match its data");
        }
        Ok(Self { segments, size })
    }
}

/// Adds a segment, within bounds.
pub(super) fn push(segments: &mut Vec<Segment>, segment: Segment) -> Result<(), &'static str> {
    if segments.len() == MAX_SEGMENTS {
        return Err("has a sparse map of more than 10000 segments");
    }
    segments.push(segment);
    Ok(())
}

/// Reads pairs of offset and length from a GNU header: 24 bytes each, ended by an empty one.
pub(super) fn gnu_pairs(bytes: &[u8], segments: &mut Vec<Segment>) -> Result<(), &'static str> {
    for pair in bytes.chunks_exact(24) {
        let (offset, length) = pair.split_at(12);
        if offset[0] == 0 && length[0] == 0 {
            break;
        }
        let read = |bytes: &[u8]| number::field(bytes).and_then(|value| u64::try_from(value).ok());
        match (read(offset), read(length)) {
            (Some(offset), Some(length)) => push(segments, Segment { offset, length })?,
            _ => return Err("has a sparse map that is no list of numbers"),
        }
    }
    Ok(())
}

/// Reads the map of PAX 0.1: `offset,length,offset,length,…`.
pub(super) fn comma_list(text: &[u8]) -> Result<Vec<Segment>, &'static str> {
    let mut segments = Vec::new();
    if text.is_empty() {
        return Ok(segments);
    }
    let mut numbers = text.split(|byte| *byte == b',');
    while let Some(offset) = numbers.next() {
        let length = numbers.next().and_then(number::decimal);
        match (number::decimal(offset), length) {
            (Some(offset), Some(length)) => push(&mut segments, Segment { offset, length })?,
            _ => return Err("has a sparse map that is no list of numbers"),
        }
    }
    Ok(segments)
}

/// Collects the map of PAX 1.0, which stands before the data: the number of segments, then their
/// offsets and lengths, one decimal number a line, padded to whole blocks.
#[derive(Debug, Default)]
pub(super) struct Lines {
    line: Vec<u8>,
    expected: Option<usize>,
    offset: Option<u64>,
    segments: Vec<Segment>,
}

impl Lines {
    /// Takes in a block; tells whether the map is complete. The rest of that block is padding.
    pub(super) fn feed(&mut self, block: &[u8]) -> Result<bool, &'static str> {
        for byte in block {
            if *byte != b'\n' {
                if self.line.len() == 20 {
                    return Err("has a sparse map that is no list of numbers");
                }
                self.line.push(*byte);
                continue;
            }
            let value = number::decimal(&self.line);
            self.take(value.ok_or("has a sparse map that is no list of numbers")?)?;
            self.line.clear();
            if self.expected == Some(self.segments.len()) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn take(&mut self, value: u64) -> Result<(), &'static str> {
        if self.expected.is_none() {
            let count = usize::try_from(value).ok().filter(|count| *count <= MAX_SEGMENTS);
            self.expected = Some(count.ok_or("has a sparse map of more than 10000 segments")?);
        } else if let Some(offset) = self.offset.take() {
            push(&mut self.segments, Segment { offset, length: value })?;
        } else {
            self.offset = Some(value);
        }
        Ok(())
    }

    /// Returns the segments collected.
    pub(super) fn into_segments(self) -> Vec<Segment> {
        self.segments
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn segment(offset: u64, length: u64) -> Segment {
        Segment { offset, length }
    }

    #[test]
    fn a_map_is_ordered_within_its_file_and_matches_its_data() {
        let good = vec![segment(0, 10), segment(100, 5), segment(200, 0)];
        assert!(Map::checked(good.clone(), 200, 15).is_ok());
        assert!(Map::checked(good.clone(), 199, 15).is_err());
        assert!(Map::checked(good, 200, 16).is_err());
        assert!(Map::checked(vec![segment(10, 5), segment(0, 5)], 100, 10).is_err());
        assert!(Map::checked(vec![segment(0, 10), segment(5, 5)], 100, 15).is_err());
        assert!(Map::checked(vec![segment(u64::MAX, 2)], u64::MAX, 2).is_err());
    }

    #[test]
    fn text_maps_are_read_to_the_end() {
        let expected = vec![segment(0, 512), segment(4096, 1)];
        assert_eq!(comma_list(b"0,512,4096,1").as_ref(), Ok(&expected));
        assert!(comma_list(b"0,512,4096").is_err());
        let mut lines = Lines::default();
        assert_eq!(lines.feed(b"2\n0\n512\n40"), Ok(false));
        assert_eq!(lines.feed(b"96\n1\n\0\0\0"), Ok(true));
        assert_eq!(lines.into_segments(), expected);
        assert_eq!(Lines::default().feed(b"0\n"), Ok(true));
        assert!(Lines::default().feed(b"10001\n").is_err());
        assert!(Lines::default().feed(b"x\n").is_err());
    }
}
