//! What a registry asks for when it says 401.
//!
//! Pure: `WWW-Authenticate` in, challenges out. Several may stand in one header, in several, or
//! both; parameters may be quoted. What does not parse is left out, so that one odd challenge does
//! not hide a good one.
//!
//! Source: RFC 9110 §11.6.1.

/// One challenge.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Challenge {
    /// The scheme, in lower case.
    pub(super) scheme: String,
    parameters: Vec<(String, String)>,
}

impl Challenge {
    /// Returns the parameter `name`, if there is one that says something.
    pub(super) fn parameter(&self, name: &str) -> Option<&str> {
        let found = self.parameters.iter().find(|(key, _)| key == name)?;
        Some(found.1.as_str()).filter(|value| !value.is_empty())
    }
}

/// Parses one header value.
pub(super) fn parse(header: &str) -> Vec<Challenge> {
    let mut challenges: Vec<Challenge> = Vec::new();
    let mut rest = header;
    loop {
        rest = rest.trim_start_matches([',', ' ', '\t']);
        let (word, after) = token(rest);
        if word.is_empty() {
            return challenges;
        }
        let value_follows = after.trim_start().starts_with('=');
        match (challenges.last_mut(), value_follows) {
            (Some(challenge), true) => {
                let (value, after) = value(after.trim_start()[1..].trim_start());
                challenge.parameters.push((word.to_ascii_lowercase(), value));
                rest = after;
            }
            (None, true) => return challenges,
            (_, false) => {
                challenges
                    .push(Challenge { scheme: word.to_ascii_lowercase(), parameters: Vec::new() });
                rest = after;
            }
        }
    }
}

fn token(text: &str) -> (&str, &str) {
    let is_token = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c);
    text.split_at(text.find(|c: char| !is_token(c)).unwrap_or(text.len()))
}

fn value(text: &str) -> (String, &str) {
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.find([',', ' ', '\t']).unwrap_or(text.len());
        return (text[..end].to_owned(), &text[end..]);
    };
    let mut said = String::new();
    let mut letters = quoted.char_indices();
    while let Some((at, letter)) = letters.next() {
        match letter {
            '"' => return (said, &quoted[at + 1..]),
            '\\' => said.extend(letters.next().map(|(_, escaped)| escaped)),
            _ => said.push(letter),
        }
    }
    (said, "")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn challenges_are_told_apart_from_their_parameters() {
        let header = r#"Basic realm="a, \"b\"", Bearer realm="https://a/t",service="s",scope="repository:x:pull,push" ,Negotiate"#;
        let found = parse(header);
        let schemes: Vec<&str> = found.iter().map(|challenge| challenge.scheme.as_str()).collect();
        assert_eq!(schemes, ["basic", "bearer", "negotiate"]);
        assert_eq!(found[0].parameter("realm"), Some("a, \"b\""));
        assert_eq!(found[1].parameter("scope"), Some("repository:x:pull,push"));
        assert_eq!(found[1].parameter("nothing"), None);
    }

    #[test]
    fn odd_headers_end_and_do_not_panic() {
        for odd in [
            "",
            ",,,",
            "=",
            "a=b",
            "Bearer realm=",
            "Bearer realm=\"x",
            "Bearer =",
            "é",
            "Bearer \"\\",
        ] {
            let _ = parse(odd);
        }
        assert_eq!(parse("Bearer realm=x")[0].parameter("realm"), Some("x"));
    }
}
