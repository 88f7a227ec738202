//! `--env` and `--env-file`: variables of an app, with docker's rules.

use std::path::{Path, PathBuf};

use pod_abi::app::EnvVar;

use crate::caller::Caller;
use crate::error::{CommandError, Result};

/// Reads the variables of a line: those of files first, so that single ones override them. A bare
/// name takes the caller's value, and is left out if the caller has none.
///
/// # Errors
///
/// A usage error that names the word, with file and line if it came from one; `storage` for a file
/// that cannot be read.
pub(crate) fn read_env(
    files: &[PathBuf],
    words: &[String],
    caller: &Caller<'_>,
) -> Result<Vec<EnvVar>> {
    let mut vars = Vec::new();
    for path in files {
        read_file(path, &(caller.file)(path)?, caller, &mut vars)?;
    }
    for word in words {
        vars.extend(read_word(word, caller)?);
    }
    Ok(vars)
}

/// Reads a file of variables: one a line, nothing quoted; blanks before a name do not count, those
/// of a value do; a line that is empty or begins with `#` says nothing.
fn read_file(path: &Path, text: &str, caller: &Caller<'_>, vars: &mut Vec<EnvVar>) -> Result<()> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    for (at, line) in text.lines().enumerate() {
        let line = line.trim_start();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let name = line.split('=').next().unwrap_or(line);
        // docker trims what stands behind a bare name, and nothing else.
        let line = if name.len() == line.len() { line.trim_end() } else { line };
        let odd = name.trim_end().contains(char::is_whitespace)
            || (line.contains('=') && name.ends_with(char::is_whitespace));
        let var = if odd {
            Err(CommandError::usage(format!("variable name `{name}` holds a blank")))
        } else {
            read_word(line, caller)
        };
        vars.extend(var.map_err(|error| {
            CommandError::usage(format!("line {} of `{}` is no variable", at + 1, path.display()))
                .because(&error)
        })?);
    }
    Ok(())
}

fn read_word(word: &str, caller: &Caller<'_>) -> Result<Option<EnvVar>> {
    let text = if word.contains('=') {
        word.to_owned()
    } else if word.is_empty() || word.contains('\0') {
        return Err(CommandError::usage(format!("`{word}` is no name of a variable")));
    } else {
        match (caller.variable)(word) {
            Some(value) => format!("{word}={value}"),
            None => return Ok(None),
        }
    };
    EnvVar::parse(&text).map(Some).map_err(|error| CommandError::usage(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use pod_abi::isolators::Capabilities;

    fn read(text: &str) -> Result<Vec<String>> {
        let caller = Caller {
            variable: &|name| (name == "HOME").then(|| "/home/me".to_owned()),
            file: &|_| Ok(text.to_owned()),
            held: &Capabilities::default_set,
            profile: &|_, _| unreachable!("no profile is asked for"),
            disk: &|_| unreachable!("no disk is named"),
        };
        let vars = read_env(&["f".into()], &["A=word".to_owned()], &caller)?;
        Ok(vars.into_iter().map(String::from).collect())
    }

    #[test]
    fn files_follow_dockers_rules() {
        let table = [
            ("A=b", &["A=b"][..]),
            ("# A=b\n\n  B=c d \nC=\"q\"", &["B=c d ", "C=\"q\""]),
            ("\u{feff}A=1\r\nB=2", &["A=1", "B=2"]),
            ("HOME\nNONE\nHOME  ", &["HOME=/home/me", "HOME=/home/me"]),
            ("A=", &["A="]),
            ("A=b=c#d", &["A=b=c#d"]),
        ];
        for (text, expected) in table {
            let vars = read(text).unwrap();
            assert_eq!(vars[..vars.len() - 1], *expected, "{text}");
            assert_eq!(vars.last().unwrap(), "A=word", "single words come last");
        }
    }

    #[test]
    fn a_line_that_is_no_variable_is_named() {
        for (text, line) in [("A=1\n=b", 2), ("A B=c", 1), ("A =c", 1), ("A B", 1), ("A=\0", 1)] {
            let error = read(text).unwrap_err();
            assert_eq!(error.to_string(), format!("line {line} of `f` is no variable"), "{text}");
        }
    }
}
