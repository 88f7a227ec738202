//! The grammar of `run` and `prepare`, in rkt's manner:
//!
//! ```text
//! [POD FLAGS] IMAGE [APP FLAGS] [--] [COMMAND ARGS…] [--- IMAGE [APP FLAGS] …]
//! ```
//!
//! The first word behind an image's flags that is no flag begins its command, `---` ends it. With
//! a single app its flags may also stand before the image. `--name`, `--label` and `--annotation`
//! before the first image are the pod's, behind an image the app's. Cutting the line into parts is done here by hand; which flags
//! there are and which of them take a value is asked of clap, which then reads each part.

mod add;
mod sandbox;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Arg, Args, Command, FromArgMatches};

use crate::elsewhere;
use crate::error::{CommandError, Result};
use crate::flags::{AppFlags, PodFlags, limit_of_pod};

pub(crate) use add::{AddLine, AskedToAdd, before_command, help as add_help, parse as parse_added};

pub(crate) use sandbox::{help as sandbox_help, parse as parse_sandbox};

/// A line, read.
#[derive(Debug)]
pub(crate) struct Line {
    /// What stands for the whole pod.
    pub(crate) pod: PodFlags,
    /// The apps, as they stand.
    pub(crate) apps: Vec<AppLine>,
}

/// What a line says of one app.
#[derive(Debug)]
pub(crate) struct AppLine {
    /// The image, as typed.
    pub(crate) image: String,
    /// Its flags.
    pub(crate) flags: AppFlags,
    /// Its command, empty if the image's own is meant.
    pub(crate) command: Vec<String>,
}

/// What a line asks for.
#[derive(Debug)]
pub(crate) enum Asked {
    /// The manual; the text is clap's.
    Help(String),
    /// Something to be done.
    Line(Box<Line>),
}

/// Ends an app's command.
const SEPARATOR: &str = "---";

/// A line cut into parts, before clap has read them.
#[derive(Debug, Default)]
struct Parts {
    pod: Vec<String>,
    early_app: Vec<String>,
    apps: Vec<AppPart>,
}

#[derive(Debug, Default)]
struct AppPart {
    image: String,
    flags: Vec<String>,
    command: Vec<String>,
}

/// Reads the words behind `verb`.
///
/// # Errors
///
/// A usage error that names the word at fault.
pub(crate) fn parse(verb: &'static str, words: &[String]) -> Result<Asked> {
    let pod = PodFlags::augment_args(Command::new("pod").no_binary_name(true));
    let app = AppFlags::augment_args(Command::new("app").no_binary_name(true));
    let parts = cut(words, &pod, &app)?;
    let asks = |flags: &[String]| flags.iter().any(|flag| flag == "--help" || flag == "-h");
    if asks(&parts.pod) || asks(&parts.early_app) || parts.apps.iter().any(|a| asks(&a.flags)) {
        return Ok(Asked::Help(help(verb).render_help().to_string()));
    }
    let pod: PodFlags = read(pod, &parts.pod, verb)?;
    if !parts.early_app.is_empty() && parts.apps.len() > 1 {
        return Err(CommandError::usage(format!(
            "`{}` is a flag of an app and stands before the first of several images",
            parts.early_app[0]
        ))
        .hint(early_flag_hint(&parts.early_app[0])));
    }
    let mut apps = Vec::new();
    for part in parts.apps {
        let flags: Vec<String> = parts.early_app.iter().chain(&part.flags).cloned().collect();
        let flags = read(app.clone(), &flags, verb)?;
        apps.push(AppLine { image: part.image, flags, command: part.command });
    }
    if pod.spec.is_some() && !apps.is_empty() {
        return Err(CommandError::usage(format!(
            "image `{}` stands beside `--spec`, which names the images itself",
            apps[0].image
        )));
    }
    if pod.spec.is_none() && apps.is_empty() {
        return Err(CommandError::usage("no image is given")
            .hint(format!("`pod {verb} IMAGE`; `pod {verb} --help` tells more")));
    }
    Ok(Asked::Line(Box::new(Line { pod, apps })))
}

/// Says where a flag of an app belongs that stands before the first of several images.
fn early_flag_hint(flag: &str) -> String {
    let rule = "with several apps, each flag of an app follows its image";
    match limit_of_pod(flag) {
        Some(of_pod) => format!("{rule}; `{of_pod}` limits all of them together"),
        None => rule.to_owned(),
    }
}

fn read<F: FromArgMatches>(command: Command, words: &[String], verb: &str) -> Result<F> {
    let tell = |error| usage_of(&error, verb);
    let matches = command.try_get_matches_from(words).map_err(tell)?;
    F::from_arg_matches(&matches).map_err(tell)
}

/// Returns the words before the first image, as far as they can be told from it.
pub(crate) fn before_image(words: &[String]) -> &[String] {
    let pod = PodFlags::augment_args(Command::new("pod"));
    let app = AppFlags::augment_args(Command::new("app"));
    let mut rest = words;
    while let Ok(Some((_, following))) = take_flags(rest, &[&pod, &app]) {
        rest = following;
    }
    &words[..words.len() - rest.len()]
}

fn cut(words: &[String], pod: &Command, app: &Command) -> Result<Parts> {
    let mut parts = Parts::default();
    let mut segments = words.split(|word| word == SEPARATOR);
    let first = segments.next().unwrap_or_default();
    let mut rest = first;
    while let Some((flags, following)) = take_flags(rest, &[pod, app])? {
        for flag in flags {
            let of_pod = is_flag_of(&flag[0], pod) || !is_flag_of(&flag[0], app);
            if of_pod { &mut parts.pod } else { &mut parts.early_app }.extend(flag);
        }
        rest = following;
    }
    if let Some(part) = cut_app(strip_end_of_flags(rest), pod, app)? {
        parts.apps.push(part);
    }
    let more: Vec<&[String]> = segments.collect();
    if parts.apps.is_empty() && !more.is_empty() {
        return Err(CommandError::usage("no image stands before `---`"));
    }
    for segment in more {
        if let Some(word) = segment.first().filter(|word| is_flag(word)) {
            return Err(CommandError::usage(format!("`{word}` stands where an image must"))
                .hint("with several apps, each flag of an app follows its image"));
        }
        match cut_app(segment, pod, app)? {
            Some(part) => parts.apps.push(part),
            None => return Err(CommandError::usage("no image follows `---`")),
        }
    }
    Ok(parts)
}

fn cut_app(words: &[String], pod: &Command, app: &Command) -> Result<Option<AppPart>> {
    let Some((image, mut rest)) = words.split_first() else { return Ok(None) };
    let mut part = AppPart { image: image.clone(), ..AppPart::default() };
    while let Some((flags, following)) = take_flags(rest, &[app, pod])? {
        for flag in flags {
            if !is_flag_of(&flag[0], app) && is_flag_of(&flag[0], pod) {
                return Err(CommandError::usage(format!(
                    "`{}` is a flag of the pod and stands behind image `{image}`",
                    flag[0]
                ))
                .hint("flags of the pod stand before the first image; `--` begins a command"));
            }
            part.flags.extend(flag);
        }
        rest = following;
    }
    part.command = strip_end_of_flags(rest).to_vec();
    Ok(Some(part))
}

fn strip_end_of_flags(words: &[String]) -> &[String] {
    match words.split_first() {
        Some((first, rest)) if first == "--" => rest,
        _ => words,
    }
}

fn is_flag(word: &str) -> bool {
    word.len() > 1 && word.starts_with('-') && word != "--"
}

/// One flag, with the word behind it if that is its value.
type Flag = Vec<String>;

/// Takes one word of flags, with its value, off the front, if flags are there. A cluster such as
/// `-de A=b` comes back as several: they may belong to different commands.
fn take_flags<'w>(
    words: &'w [String],
    commands: &[&Command],
) -> Result<Option<(Vec<Flag>, &'w [String])>> {
    let Some((word, rest)) = words.split_first().filter(|(word, _)| is_flag(word)) else {
        return Ok(None);
    };
    let (mut flags, wants_value) = split_cluster(word, commands);
    if !wants_value {
        return Ok(Some((flags, rest)));
    }
    let Some((value, rest)) = rest.split_first() else {
        return Err(CommandError::usage(format!("`{word}` takes a value, and none follows")));
    };
    flags.last_mut().expect("a word that is a flag makes at least one").push(value.clone());
    Ok(Some((flags, rest)))
}

/// Splits a word into flags, and tells whether the value of the last is the word behind it.
/// Unknown flags take none; clap will refuse them.
fn split_cluster(word: &str, commands: &[&Command]) -> (Vec<Flag>, bool) {
    let takes = |found: &dyn Fn(&Arg) -> bool| {
        let mut args = commands.iter().flat_map(|command| command.get_arguments());
        args.find(|arg| found(arg)).map(|arg| arg.get_action().takes_values())
    };
    if let Some(long) = word.strip_prefix("--") {
        let wants = !long.contains('=') && takes(&|arg| is_called(arg, long)) == Some(true);
        return (vec![vec![word.to_owned()]], wants);
    }
    let mut flags = Vec::new();
    for (at, letter) in word.char_indices().skip(1) {
        match takes(&|arg| arg.get_short() == Some(letter)) {
            Some(false) => flags.push(vec![format!("-{letter}")]),
            found => {
                let rest = &word[at..];
                flags.push(vec![format!("-{rest}")]);
                return (flags, found.is_some() && rest.len() == letter.len_utf8());
            }
        }
    }
    (flags, false)
}

fn is_flag_of(word: &str, command: &Command) -> bool {
    if word == "--help" || word == "-h" {
        return true;
    }
    let long = word.strip_prefix("--").map(|long| long.split('=').next().unwrap_or(long));
    let short = word.chars().nth(1);
    command.get_arguments().any(|arg| match long {
        Some(long) => is_called(arg, long),
        None => arg.get_short() == short,
    })
}

/// Tells whether `long` is the name of a flag, or one of its other names.
fn is_called(arg: &Arg, long: &str) -> bool {
    arg.get_long() == Some(long)
        || arg.get_all_aliases().is_some_and(|aliases| aliases.contains(&long))
}

/// Returns the manual of `verb` as a clap command, with the flags of pod and app in one.
pub(crate) fn help(verb: &'static str) -> Command {
    let about = match verb {
        "prepare" => "Lay out a pod without starting it, and print its id",
        _ => "Run a pod of one or more apps",
    };
    let pod = PodFlags::augment_args(Command::new("pod"));
    let app = AppFlags::augment_args(Command::new("app"));
    let takes = |arg: &&Arg| verb != "prepare" || !OF_A_START.iter().any(|it| is_called(arg, it));
    let (global, pod): (Vec<&Arg>, Vec<&Arg>) =
        pod.get_arguments().filter(takes).partition(|arg| arg.get_help_heading().is_some());
    // What both have is told once, with the pod's.
    let of_pod: Vec<_> = pod.iter().map(|arg| arg.get_id().clone()).collect();
    // A pod that is only prepared cannot be in the background.
    let of_verb = |arg: &&Arg| verb != "prepare" || arg.get_id() != "detach";
    let pod = pod
        .into_iter()
        .filter(of_verb)
        .map(|arg| arg.clone().help_heading("Flags of the pod, before the first image"));
    let app = app.get_arguments().filter(|arg| !of_pod.contains(arg.get_id()));
    let app = app.map(|arg| arg.clone().help_heading("Flags of an app, behind its image"));
    Command::new(verb)
        .about(about)
        .override_usage(format!(
            "pod {verb} [POD FLAGS] IMAGE [APP FLAGS] [--] [COMMAND ARGS…] [--- IMAGE …]"
        ))
        .after_help(if verb == "prepare" { EXAMPLE_OF_PREPARE } else { EXAMPLES })
        .args(pod)
        .args(app)
        .args(global)
}

/// Flags of a pod that are about its start: `prepare` refuses them, and says who takes them.
const OF_A_START: [&str; 3] = ["detach", "detach-keys", "in-place"];

const EXAMPLE_OF_PREPARE: &str = "\
Example:
  pod prepare --name shop docker.io/library/redis && pod start -d shop";

const EXAMPLES: &str = "\
Examples:
  pod run --rm docker.io/library/alpine echo hello
  pod run -d --name shop docker.io/library/redis --- example.org/web:1 -e PORT=80 --name web

Exit status:
  the app's own; 128+n if signal n ended it; 127 its program is not there; 126 it cannot be
  executed; 125 for every error of pod";

/// Turns an error of clap's into one of ours.
pub(crate) fn usage_of(error: &clap::Error, verb: &str) -> CommandError {
    use ErrorKind::{DisplayHelpOnMissingArgumentOrSubcommand, MissingSubcommand};
    let space = if verb.is_empty() { "" } else { " " };
    let hint = format!("`pod{space}{verb} --help` tells what it takes");
    if matches!(error.kind(), MissingSubcommand | DisplayHelpOnMissingArgumentOrSubcommand) {
        return CommandError::usage(format!("`pod{space}{verb}` takes a command")).hint(hint);
    }
    let text = error.render().to_string();
    let mut message = Vec::new();
    let mut hints = Vec::new();
    let mut in_message = true;
    for line in text.lines() {
        let line = line.trim();
        if line.is_empty() {
            in_message = false;
        } else if let Some(tip) = line.strip_prefix("tip: ") {
            // No command but `run` and `exec` takes words of its own that may look like flags.
            if !tip.starts_with("to pass ") {
                hints.push(tip.replace('\'', "`"));
            }
        } else if in_message {
            message.push(line.strip_prefix("error: ").unwrap_or(line).replace('\'', "`"));
        }
    }
    let made = CommandError::usage(message.join(" "));
    // Who knows the flag from elsewhere is told where it leads, not which of ours is spelled alike.
    let made = match elsewhere(error, verb) {
        Some(known) => made.hint(known),
        None => hints.into_iter().fold(made, CommandError::hint),
    };
    made.hint(hint)
}

fn elsewhere(error: &clap::Error, verb: &str) -> Option<&'static str> {
    let Some(ContextValue::String(flag)) = error.get(ContextKind::InvalidArg) else { return None };
    elsewhere::flag(verb, flag)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(words: &str) -> Line {
        let words: Vec<String> = words.split(' ').map(str::to_owned).collect();
        match parse("run", &words).unwrap() {
            Asked::Line(line) => *line,
            Asked::Help(_) => panic!("help"),
        }
    }

    fn refusal(words: &str) -> String {
        let words: Vec<String> =
            words.split(' ').filter(|word| !word.is_empty()).map(str::to_owned).collect();
        parse("run", &words).unwrap_err().to_string()
    }

    /// Writes a line back as `pod flags | image{name,env,user}[command] | …`.
    fn shape(words: &str) -> String {
        let line = line(words);
        let mut text = line.pod.name.as_deref().unwrap_or("-").to_owned();
        for app in &line.apps {
            let flags = &app.flags;
            text.push_str(&format!(
                " | {} name={} env={} user={} ro={} {:?}",
                app.image,
                flags.name.as_deref().unwrap_or("-"),
                flags.process.env.join(","),
                flags.process.user.as_deref().unwrap_or("-"),
                flags.storage.read_only,
                app.command
            ));
        }
        text
    }

    #[test]
    fn the_grammar_is_this_table() {
        let table = [
            ("alpine", r#"- | alpine name=- env= user=- ro=false []"#),
            ("alpine echo hi", r#"- | alpine name=- env= user=- ro=false ["echo", "hi"]"#),
            (
                "--name p alpine --name a echo --name x -e y",
                r#"p | alpine name=a env= user=- ro=false ["echo", "--name", "x", "-e", "y"]"#,
            ),
            ("-e A=b --read-only -dix2 --name p alpine true", "unknown"),
            (
                "-e A=b --read-only --name p alpine -u 5 -eC=d true -u",
                r#"p | alpine name=- env=A=b,C=d user=5 ro=true ["true", "-u"]"#,
            ),
            (
                "--name=p alpine --env=A=b -- -x --",
                r#"p | alpine name=- env=A=b user=- ro=false ["-x", "--"]"#,
            ),
            ("-- alpine echo", r#"- | alpine name=- env= user=- ro=false ["echo"]"#),
            ("-de A=b --rm alpine", r#"- | alpine name=- env=A=b user=- ro=false []"#),
            (
                "alpine a --- redis --name r b --- nginx -- --read-only",
                r#"- | alpine name=- env= user=- ro=false ["a"] | redis name=r env= user=- ro=false ["b"] | nginx name=- env= user=- ro=false ["--read-only"]"#,
            ),
            (
                "alpine -e A --- redis",
                r#"- | alpine name=- env=A user=- ro=false [] | redis name=- env= user=- ro=false []"#,
            ),
            ("alpine -", r#"- | alpine name=- env= user=- ro=false ["-"]"#),
        ];
        for (words, expected) in table {
            if expected == "unknown" {
                assert!(refusal(words).contains("-x"), "{words}");
            } else {
                assert_eq!(shape(words), expected, "{words}");
            }
        }
    }

    #[test]
    fn pod_flags_are_read_before_the_first_image() {
        let line = line("-d --rm --net host --hostname h --label a=b --root /x alpine");
        assert!(line.pod.detach && line.pod.rm);
        assert_eq!(line.pod.joining.net, ["host"]);
        assert_eq!(line.pod.label, ["a=b"]);
        assert_eq!(line.pod.globals.root.unwrap().to_str(), Some("/x"));
    }

    #[test]
    fn words_that_pod_and_app_share_belong_to_whom_they_stand_beside() {
        let line = line("-l p=1 --annotation p=2 --cidfile f alpine -l a=1 --annotation a=2");
        assert_eq!(
            (&line.pod.label[..], &line.pod.annotation[..]),
            (&["p=1".to_owned()][..], &["p=2".to_owned()][..])
        );
        let app = &line.apps[0].flags;
        assert_eq!(
            (&app.label[..], &app.annotation[..]),
            (&["a=1".to_owned()][..], &["a=2".to_owned()][..])
        );
        assert_eq!(line.pod.id_file.unwrap().to_str(), Some("f"));
    }

    #[test]
    fn wrong_lines_are_refused_with_their_word() {
        let table = [
            ("", "no image is given"),
            ("--rm", "no image is given"),
            ("alpine --rm", "`--rm` is a flag of the pod and stands behind image `alpine`"),
            (
                "-e A=b alpine --- redis",
                "`-e` is a flag of an app and stands before the first of several images",
            ),
            ("alpine --- -e A=b redis", "`-e` stands where an image must"),
            ("alpine ---", "no image follows `---`"),
            ("alpine --- --- redis", "no image follows `---`"),
            ("--- redis", "no image stands before `---`"),
            ("alpine -e", "`-e` takes a value, and none follows"),
            ("--nmae p alpine", "unexpected argument `--nmae` found"),
            ("alpine --envv A", "unexpected argument `--envv` found"),
            (
                "--spec f alpine",
                "image `alpine` stands beside `--spec`, which names the images itself",
            ),
        ];
        for (words, expected) in table {
            assert_eq!(refusal(words), expected, "{words}");
        }
    }

    #[test]
    fn a_flag_of_others_is_answered_with_what_there_is() {
        let hints = |words: &str| {
            let words: Vec<String> = words.split(' ').map(str::to_owned).collect();
            parse("run", &words).unwrap_err().report().hints.join("; ")
        };
        assert!(hints("alpine -P").contains("`-p HOST:POD`"));
        assert!(hints("--shm-size=1g alpine").contains("--tmpfs /dev/shm"));
        assert!(!hints("-x alpine").contains("to pass"));
    }

    #[test]
    fn help_is_help_wherever_a_flag_may_stand_and_a_word_of_a_command_elsewhere() {
        for words in ["--help", "-h", "alpine --help"] {
            let words: Vec<String> = words.split(' ').map(str::to_owned).collect();
            assert!(matches!(parse("run", &words), Ok(Asked::Help(_))), "{words:?}");
        }
        assert_eq!(line("alpine ls --help").apps[0].command, ["ls", "--help"]);
    }

    #[test]
    fn the_manual_can_be_made() {
        let text = help("run").render_long_help().to_string();
        assert!(text.contains("--entrypoint") && text.contains("--userns"));
    }
}
