//! `--change`: what an imported root is to run, in the words of a Dockerfile.
//!
//! Only the words that set something are known: those that build need a pod and are refused, so
//! that nobody believes they were obeyed. Pure; no I/O.

use images::ImageSettings;

use crate::error::{CommandError, Result};

/// The words there are.
const WORDS: &str =
    "`CMD`, `ENTRYPOINT`, `ENV`, `EXPOSE`, `LABEL`, `STOPSIGNAL`, `USER`, `VOLUME`, `WORKDIR`";

/// Reads all changes, later ones over earlier.
///
/// # Errors
///
/// A usage error for what is no change.
pub(crate) fn read(changes: &[String]) -> Result<ImageSettings> {
    let mut settings = ImageSettings::default();
    for change in changes {
        apply(&mut settings, change)?;
    }
    settings.volumes.sort();
    settings.volumes.dedup();
    settings.exposed_ports.sort();
    settings.exposed_ports.dedup();
    Ok(settings)
}

fn apply(settings: &mut ImageSettings, change: &str) -> Result<()> {
    let change = change.trim();
    let (word, rest) = change.split_once(char::is_whitespace).unwrap_or((change, ""));
    let rest = rest.trim();
    if rest.is_empty() {
        return Err(refused(change, "nothing follows its first word"));
    }
    match word.to_ascii_uppercase().as_str() {
        "CMD" => settings.cmd = command(change, rest)?,
        "ENTRYPOINT" => settings.entrypoint = command(change, rest)?,
        "ENV" => set_variable(settings, pair(change, rest)?),
        "LABEL" => {
            let (name, value) = pair(change, rest)?;
            settings.labels.insert(name, value);
        }
        "EXPOSE" => {
            for port in rest.split_whitespace() {
                settings.exposed_ports.push(exposed(change, port)?);
            }
        }
        "VOLUME" => settings.volumes.extend(list(change, rest)?),
        "STOPSIGNAL" => settings.stop_signal = Some(single(change, rest)?),
        "USER" => settings.user = Some(single(change, rest)?),
        "WORKDIR" => settings.working_dir = Some(rest.to_owned()),
        _ => {
            return Err(refused(change, "its first word is none that can be set"));
        }
    }
    Ok(())
}

fn refused(change: &str, why: &str) -> CommandError {
    CommandError::usage(format!("`{change}` is no change: {why}"))
        .hint(format!("`--change` takes {WORDS}, such as `--change 'CMD [\"/bin/app\"]'`"))
}

/// A list of words in JSON is the command; anything else is a line for a shell.
fn command(change: &str, rest: &str) -> Result<Vec<String>> {
    match rest.starts_with('[') {
        true => json(change, rest),
        false => Ok(vec!["/bin/sh".to_owned(), "-c".to_owned(), rest.to_owned()]),
    }
}

fn list(change: &str, rest: &str) -> Result<Vec<String>> {
    match rest.starts_with('[') {
        true => json(change, rest),
        false => Ok(rest.split_whitespace().map(str::to_owned).collect()),
    }
}

fn json(change: &str, rest: &str) -> Result<Vec<String>> {
    serde_json::from_str(rest).map_err(|_| refused(change, "its list is no JSON list of strings"))
}

fn single(change: &str, rest: &str) -> Result<String> {
    match rest.contains(char::is_whitespace) {
        true => Err(refused(change, "it takes one word")),
        false => Ok(rest.to_owned()),
    }
}

/// `NAME=VALUE`, the value in quotes if need be, or the old `NAME VALUE`.
fn pair(change: &str, rest: &str) -> Result<(String, String)> {
    let (name, value) = rest
        .split_once('=')
        .filter(|(name, _)| !name.contains(char::is_whitespace))
        .or_else(|| rest.split_once(char::is_whitespace))
        .ok_or_else(|| refused(change, "it takes `NAME=VALUE`"))?;
    let value = value.trim();
    let bare = ['"', '\''].iter().find_map(|quote| {
        value.strip_prefix(*quote)?.strip_suffix(*quote).filter(|bare| !bare.contains(*quote))
    });
    if name.is_empty() {
        return Err(refused(change, "it takes `NAME=VALUE`"));
    }
    if bare.is_none() && value.contains(char::is_whitespace) && rest.contains('=') {
        return Err(refused(change, "a value with spaces takes quotes, and a change one pair"));
    }
    Ok((name.to_owned(), bare.unwrap_or(value).to_owned()))
}

fn set_variable(settings: &mut ImageSettings, (name, value): (String, String)) {
    let own = format!("{name}=");
    settings.env.retain(|variable| !variable.starts_with(&own));
    settings.env.push(own + &value);
}

fn exposed(change: &str, word: &str) -> Result<String> {
    let (port, protocol) = word.split_once('/').unwrap_or((word, "tcp"));
    let good = port.parse::<u16>().is_ok_and(|port| port > 0)
        && ["tcp", "udp", "sctp"].contains(&protocol);
    match good {
        true => Ok(format!("{port}/{protocol}")),
        false => Err(refused(change, "a port is a number and `/tcp`, `/udp` or `/sctp`")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_all(changes: &[&str]) -> Result<ImageSettings> {
        read(&changes.iter().map(|&change| change.to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn the_words_of_a_dockerfile_set_what_they_say() {
        let settings = read_all(&[
            r#"CMD ["/a", "b c"]"#,
            "entrypoint exec /init",
            "ENV A=1",
            "ENV B two words",
            "ENV A=\"3 4\"",
            "LABEL x=y",
            "EXPOSE 80 53/udp 80/tcp",
            "VOLUME /data /cache",
            "USER 1:2",
            "WORKDIR /a b",
            "STOPSIGNAL SIGINT",
        ])
        .unwrap();
        assert_eq!(settings.cmd, ["/a", "b c"]);
        assert_eq!(settings.entrypoint, ["/bin/sh", "-c", "exec /init"]);
        assert_eq!(settings.env, ["B=two words", "A=3 4"]);
        assert_eq!(settings.labels["x"], "y");
        assert_eq!(settings.exposed_ports, ["53/udp", "80/tcp"]);
        assert_eq!(settings.volumes, ["/cache", "/data"]);
        assert_eq!(settings.user.as_deref(), Some("1:2"));
        assert_eq!(settings.working_dir.as_deref(), Some("/a b"));
        assert_eq!(settings.stop_signal.as_deref(), Some("SIGINT"));
    }

    #[test]
    fn what_cannot_be_set_is_refused() {
        for bad in [
            "",
            "CMD",
            "RUN make",
            "FROM x",
            "CMD [1]",
            "CMD [\"a\"",
            "ENV A",
            "ENV =x",
            "ENV A=1 B=2",
            "EXPOSE 0",
            "EXPOSE 80/icmp",
            "USER a b",
        ] {
            assert!(read_all(&[bad]).is_err(), "{bad}");
        }
    }
}
