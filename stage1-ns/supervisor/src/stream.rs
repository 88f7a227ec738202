//! One stream of an app's output, cut into lines. Pure: bytes in, lines out.

/// Which of an app's streams something came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Source {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

impl Source {
    /// Returns the word the CRI log format has for it.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Stdout => "stdout",
            Self::Stderr => "stderr",
        }
    }
}

/// What a text ends with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// The end of a line.
    Line,
    /// Nothing: the line goes on, or the stream ended within it.
    Piece,
}

/// The longest piece of a line, in bytes; what container runtimes agree on.
const MAX_PIECE: usize = 16 << 10;

/// Cuts a stream into lines; holds the beginning of the line that is not finished.
#[derive(Debug, Default)]
pub(crate) struct Lines {
    held: Vec<u8>,
}

impl Lines {
    /// Takes in bytes and gives out the lines, without their ends, that they finish.
    pub(crate) fn feed(&mut self, mut bytes: &[u8], mut give: impl FnMut(&[u8], End)) {
        while let Some(at) = bytes.iter().position(|byte| *byte == b'\n') {
            let (line, rest) = bytes.split_at(at);
            self.hold(line, &mut give);
            give(&self.held, End::Line);
            self.held.clear();
            bytes = &rest[1..];
        }
        self.hold(bytes, &mut give);
        if self.held.is_empty() {
            // A quiet app costs no memory.
            self.held = Vec::new();
        }
    }

    /// Gives out what is left when the stream has ended.
    pub(crate) fn finish(&mut self, mut give: impl FnMut(&[u8], End)) {
        if !self.held.is_empty() {
            give(&self.held, End::Piece);
            self.held = Vec::new();
        }
    }

    fn hold(&mut self, mut bytes: &[u8], give: &mut impl FnMut(&[u8], End)) {
        while self.held.len() + bytes.len() > MAX_PIECE {
            let (fits, rest) = bytes.split_at(MAX_PIECE - self.held.len());
            self.held.extend_from_slice(fits);
            give(&self.held, End::Piece);
            self.held.clear();
            bytes = rest;
        }
        self.held.extend_from_slice(bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cut(pieces: &[&[u8]]) -> Vec<(Vec<u8>, End)> {
        let mut lines = Lines::default();
        let mut got = Vec::new();
        for piece in pieces {
            lines.feed(piece, |text, end| got.push((text.to_vec(), end)));
        }
        lines.finish(|text, end| got.push((text.to_vec(), end)));
        got
    }

    #[test]
    fn lines_survive_any_cut_of_the_stream() {
        let stream = b"one\n\ntwo\nrest";
        let whole = cut(&[stream]);
        assert_eq!(whole.len(), 4);
        assert_eq!(whole[3], (b"rest".to_vec(), End::Piece));
        for at in 0..stream.len() {
            assert_eq!(cut(&[&stream[..at], &stream[at..]]), whole, "cut at {at}");
        }
    }

    #[test]
    fn a_line_without_end_is_given_out_in_pieces() {
        let long = vec![b'x'; 2 * MAX_PIECE + 5];
        let got = cut(&[&long, b"\n"]);
        let lengths: Vec<_> = got.iter().map(|(text, end)| (text.len(), *end)).collect();
        assert_eq!(lengths, [(MAX_PIECE, End::Piece), (MAX_PIECE, End::Piece), (5, End::Line)]);
    }
}
