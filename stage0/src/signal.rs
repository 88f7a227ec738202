//! Signals by name, as people and image configurations write them: `SIGTERM`, `TERM`, `15`,
//! `SIGRTMIN+3`. Apart because command lines and images are read in different places.

use nix::sys::signal::Signal;

/// The first real-time signal a program may use: glibc and musl keep 32 to 34 for themselves, and
/// images mean the C library's number.
const SIGRTMIN: u8 = 34;
/// The last signal.
const SIGRTMAX: u8 = 64;

/// Returns the number of a signal, 1…64, or `None` if the word names none.
pub(crate) fn number(word: &str) -> Option<u8> {
    if word.bytes().all(|byte| byte.is_ascii_digit()) {
        return word.parse().ok().filter(|number| (1..=SIGRTMAX).contains(number));
    }
    let upper = word.to_ascii_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    let offset = |rest: &str, sign: char| match rest {
        "" => Some(0),
        _ => rest.strip_prefix(sign)?.parse::<u8>().ok(),
    };
    let number = if let Some(rest) = name.strip_prefix("RTMIN") {
        SIGRTMIN.checked_add(offset(rest, '+')?)
    } else if let Some(rest) = name.strip_prefix("RTMAX") {
        SIGRTMAX.checked_sub(offset(rest, '-')?)
    } else {
        let signal: Signal = format!("SIG{name}").parse().ok()?;
        return u8::try_from(signal as i32).ok();
    };
    number.filter(|number| (SIGRTMIN..=SIGRTMAX).contains(number))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_are_known_by_name_and_number() {
        let table = [
            ("SIGTERM", Some(15)),
            ("term", Some(15)),
            ("15", Some(15)),
            ("SIGRTMIN+3", Some(37)),
            ("RTMAX-1", Some(63)),
            ("SIGRTMIN", Some(34)),
            ("0", None),
            ("65", None),
            ("SIGRTMIN+31", None),
            ("SIGRTMAX-64", None),
            ("SIGRTMIN3", None),
            ("", None),
            ("-9", None),
            ("SIGNOPE", None),
        ];
        for (word, expected) in table {
            assert_eq!(number(word), expected, "{word}");
        }
    }
}
