//! The grammar of `app add`, which has a pod before its one image:
//!
//! ```text
//! [FLAGS] POD IMAGE [FLAGS] [--] [COMMAND ARGS…]
//! ```
//!
//! All flags may stand anywhere before the command: there is one app they can belong to.

use clap::{Arg, Args, Command};

use super::{AppLine, Flag, SEPARATOR, is_flag_of, read, strip_end_of_flags, take_flags};
use crate::error::{CommandError, Result};
use crate::flags::{AppFlags, FetchFlags, Globals};

/// Flags of `app add` that are not the app's.
#[derive(Args, Clone, Debug, Default)]
pub(crate) struct AddFlags {
    #[command(flatten)]
    pub(crate) globals: Globals,
    /// Start the app once it is there
    #[arg(long)]
    pub(crate) start: bool,
    #[command(flatten)]
    pub(crate) fetch: FetchFlags,
}

/// A line, read.
#[derive(Debug)]
pub(crate) struct AddLine {
    /// The pod, as typed.
    pub(crate) pod: String,
    pub(crate) flags: AddFlags,
    pub(crate) app: AppLine,
}

/// What a line asks for.
#[derive(Debug)]
pub(crate) enum AskedToAdd {
    /// The manual; the text is clap's.
    Help(String),
    /// An app to be added.
    Line(Box<AddLine>),
}

/// How the command is called in messages.
const VERB: &str = "app add";

/// Reads the words behind `app add`.
///
/// # Errors
///
/// A usage error that names the word at fault.
pub(crate) fn parse(words: &[String]) -> Result<AskedToAdd> {
    let ours = AddFlags::augment_args(Command::new("add").no_binary_name(true));
    let app = AppFlags::augment_args(Command::new("app").no_binary_name(true));
    let mut flags = Flags::default();
    let rest = flags.take(words, &ours, &app)?;
    let (pod, rest) = rest.split_first().map_or((None, rest), |(pod, rest)| (Some(pod), rest));
    let rest = flags.take(rest, &ours, &app)?;
    let (image, rest) =
        rest.split_first().map_or((None, rest), |(image, rest)| (Some(image), rest));
    let rest = flags.take(rest, &ours, &app)?;
    if flags.ask_for_help {
        return Ok(AskedToAdd::Help(help().render_help().to_string()));
    }
    let (flags, of_app): (AddFlags, AppFlags) =
        (read(ours, &flags.ours, VERB)?, read(app, &flags.apps, VERB)?);
    let (Some(pod), Some(image)) = (pod, image) else {
        let missing = if pod.is_none() { "pod" } else { "image" };
        return Err(CommandError::usage(format!("no {missing} is given"))
            .hint("`pod app add POD IMAGE`; `pod app add --help` tells more"));
    };
    if rest.iter().any(|word| word == SEPARATOR) {
        return Err(CommandError::usage("`---` begins another app, and one is added at a time"));
    }
    Ok(AskedToAdd::Line(Box::new(AddLine {
        pod: pod.clone(),
        flags,
        app: AppLine {
            image: image.clone(),
            flags: of_app,
            command: strip_end_of_flags(rest).to_vec(),
        },
    })))
}

/// Returns the words before the image, as far as they can be told from it.
pub(crate) fn before_command(words: &[String]) -> &[String] {
    let ours = AddFlags::augment_args(Command::new("add"));
    let app = AppFlags::augment_args(Command::new("app"));
    let mut flags = Flags::default();
    let mut rest = words;
    for _ in 0..3 {
        rest = flags.take(rest, &ours, &app).unwrap_or_default();
        rest = rest.get(1..).unwrap_or_default();
    }
    &words[..words.len() - rest.len()]
}

/// The flags of a line, by whom they belong to.
#[derive(Debug, Default)]
struct Flags {
    ours: Vec<String>,
    apps: Vec<String>,
    ask_for_help: bool,
}

impl Flags {
    /// Takes flags off the front.
    fn take<'w>(
        &mut self,
        words: &'w [String],
        ours: &Command,
        app: &Command,
    ) -> Result<&'w [String]> {
        let mut rest = words;
        while let Some((flags, following)) = take_flags(rest, &[ours, app])? {
            flags.into_iter().for_each(|flag| self.sort(flag, app));
            rest = following;
        }
        Ok(rest)
    }

    fn sort(&mut self, flag: Flag, app: &Command) {
        self.ask_for_help |= flag[0] == "--help" || flag[0] == "-h";
        if is_flag_of(&flag[0], app) { &mut self.apps } else { &mut self.ours }.extend(flag);
    }
}

/// Returns the manual of `app add` as a clap command.
pub(crate) fn help() -> Command {
    let ours = AddFlags::augment_args(Command::new("add"));
    let app = AppFlags::augment_args(Command::new("app"));
    let app = app.get_arguments().map(|arg| arg.clone().help_heading("Flags of the app"));
    Command::new("add")
        .about("Add an app to a running pod, and print its name")
        .override_usage("pod app add [FLAGS] POD IMAGE [APP FLAGS] [--] [COMMAND ARGS…]")
        .args([
            Arg::new("pod").value_name("POD").help("Name, id, or start of an id"),
            Arg::new("image").value_name("IMAGE").help("Its image"),
        ])
        .args(ours.get_arguments())
        .args(app)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(words: &str) -> Result<AddLine> {
        let words: Vec<String> = words.split_whitespace().map(str::to_owned).collect();
        match parse(&words)? {
            AskedToAdd::Line(line) => Ok(*line),
            AskedToAdd::Help(text) => panic!("{text}"),
        }
    }

    #[test]
    fn flags_stand_anywhere_before_the_command() {
        for words in [
            "--start --name web shop alpine sleep 5 --name",
            "shop --start alpine --name web -- sleep 5 --name",
            "shop alpine --name web --start sleep 5 --name",
        ] {
            let line = line(words).unwrap();
            assert_eq!((line.pod.as_str(), line.app.image.as_str()), ("shop", "alpine"));
            assert!(line.flags.start, "{words}");
            assert_eq!(line.app.flags.name.as_deref(), Some("web"));
            assert_eq!(line.app.command, ["sleep", "5", "--name"]);
        }
    }

    #[test]
    fn pod_and_image_are_named_and_the_image_is_one() {
        for words in ["", "--start", "shop", "shop --name web", "shop a --- b", "shop a -d b"] {
            assert!(line(words).is_err(), "{words}");
        }
    }

    #[test]
    fn what_stands_before_the_command_is_known() {
        let words: Vec<String> =
            "shop alpine -e A=b x --json".split(' ').map(str::to_owned).collect();
        assert_eq!(before_command(&words), &words[..5]);
    }
}
