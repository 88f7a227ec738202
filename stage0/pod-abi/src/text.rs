//! Words of others, made fit to be shown: by a terminal, and beside words of ours.
//!
//! What steers a terminal is replaced, and so is what cannot be seen but changes how the text
//! around it reads: marks of direction, and characters without width. Line breaks are controls,
//! too: what is tamed is one line.

/// Tells whether a character can be shown as it is.
#[must_use]
pub fn is_tame(character: char) -> bool {
    let unseen = matches!(character,
        // A soft hyphen, and letters that show nothing.
        '\u{ad}' | '\u{34f}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}' | '\u{3164}' | '\u{ffa0}'
        // Marks and isolates of direction.
        | '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{206f}'
        // No width, joiners, breaks of lines and paragraphs, what is invisible in formulas.
        | '\u{180b}'..='\u{180f}' | '\u{200b}'..='\u{200d}' | '\u{2028}' | '\u{2029}' | '\u{2060}'..='\u{2065}'
        // Variations, the mark of byte order, notes between lines.
        | '\u{fe00}'..='\u{fe0f}' | '\u{feff}' | '\u{fff0}'..='\u{fffb}'
        // Signs of music that are not played, tags.
        | '\u{1d173}'..='\u{1d17a}' | '\u{e0000}'..='\u{e0fff}');
    !character.is_control() && !unseen
}

/// Replaces what is not [tame](is_tame), and cuts the text off after `most` characters.
#[must_use]
pub fn tame(text: &str, most: usize) -> String {
    tame_characters(text).take(most).collect()
}

/// As [`tame`], cut off before it would be longer than `most` bytes.
#[must_use]
pub fn tame_within(text: &str, most: usize) -> String {
    let mut tamed = String::new();
    for character in tame_characters(text) {
        if tamed.len() + character.len_utf8() > most {
            break;
        }
        tamed.push(character);
    }
    tamed
}

fn tame_characters(text: &str) -> impl Iterator<Item = char> {
    text.chars().map(|one| if is_tame(one) { one } else { char::REPLACEMENT_CHARACTER })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_that_steer_or_hide_are_replaced_and_others_are_not() {
        assert_eq!(tame("a\u{1b}[2Jb\nc\u{9b}", 99), "a\u{fffd}[2Jb\u{fffd}c\u{fffd}");
        assert_eq!(tame("evil\u{202e}txt.exe", 99), "evil\u{fffd}txt.exe");
        assert_eq!(tame("ad\u{200b}min\u{e0041}", 99), "ad\u{fffd}min\u{fffd}");
        let plain = "Grüße, 你好, \"x\" `y` – … 🦀";
        assert_eq!(tame(plain, 99), plain);
    }

    #[test]
    fn the_end_is_between_characters() {
        assert_eq!(tame("äöü", 2), "äö");
        assert_eq!(tame_within("äöü", 5), "äö");
        assert_eq!(tame_within("\u{1b}\u{1b}", 5), "\u{fffd}");
    }
}
