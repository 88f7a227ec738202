//! Spans of time, as flags ask for them: `--since`, `--until`, and how long something may last.

use clap::Args;
use pod_abi::Timestamp;

use crate::host;

/// Nanoseconds in a second.
const NANOS: u64 = 1_000_000_000;

/// A span of the past.
#[derive(Args, Clone, Copy, Debug, Default)]
pub(crate) struct Span {
    /// Nothing older: a time such as `2026-01-31T12:00:00Z`, or how long ago, such as `10m`
    #[arg(long, value_name = "TIME", value_parser = moment)]
    pub(crate) since: Option<Timestamp>,
    /// Nothing newer, likewise
    #[arg(long, value_name = "TIME", value_parser = moment, conflicts_with = "follow")]
    pub(crate) until: Option<Timestamp>,
}

impl Span {
    /// Tells whether `time` lies in it.
    pub(crate) fn holds(&self, time: Timestamp) -> bool {
        self.since.is_none_or(|since| since <= time) && self.until.is_none_or(|until| time <= until)
    }
}

/// Reads a point in time, or how long ago it was.
///
/// # Errors
///
/// What it takes.
fn moment(word: &str) -> Result<Timestamp, String> {
    let ago = |seconds: u64| Timestamp(host::now().0.saturating_sub(seconds.saturating_mul(NANOS)));
    Timestamp::parse(word).or_else(|_| duration(word).map(ago)).map_err(|_| {
        "it takes a time such as `2026-01-31T12:00:00Z`, or how long ago, such as `10m`".to_owned()
    })
}

/// Reads how long something lasts, in seconds.
///
/// # Errors
///
/// What it takes.
pub(crate) fn duration(word: &str) -> Result<u64, String> {
    let (digits, factor) = match word.char_indices().last() {
        Some((at, 's')) => (&word[..at], 1),
        Some((at, 'm')) => (&word[..at], 60),
        Some((at, 'h')) => (&word[..at], 3_600),
        Some((at, 'd')) => (&word[..at], 86_400),
        _ => (word, 1),
    };
    let plain = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    let seconds = digits.parse::<u64>().ok().filter(|_| plain);
    seconds
        .and_then(|seconds| seconds.checked_mul(factor))
        .ok_or_else(|| "it takes a number and `s`, `m`, `h` or `d`".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_of_time_have_units() {
        let table = [("0s", Some(0)), ("90", Some(90)), ("2m", Some(120)), ("1d", Some(86_400))];
        for (word, expected) in table {
            assert_eq!(duration(word).ok(), expected, "{word}");
        }
        for bad in ["", "s", "-1s", "1w", "+1s", "99999999999999999999d"] {
            assert!(duration(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_moment_is_a_time_or_how_long_ago_it_was() {
        assert_eq!(moment("1970-01-01T00:00:01Z"), Ok(Timestamp(NANOS)));
        let (ago, now) = (moment("1h").unwrap(), host::now());
        assert!((3_599..=3_700).contains(&(now.seconds() - ago.seconds())));
        assert!(moment("yesterday").is_err());
        assert_eq!(moment("99999999999d"), Ok(Timestamp(0)));
    }

    #[test]
    fn a_span_holds_its_ends() {
        let span = Span { since: Some(Timestamp(1)), until: Some(Timestamp(3)) };
        let held: Vec<u64> = (0..5).filter(|time| span.holds(Timestamp(*time))).collect();
        assert_eq!(held, [1, 2, 3]);
        assert!(Span::default().holds(Timestamp(0)));
    }
}
