//! `pod internal-grammar`: the command line as data, from its own definition. Manuals are made of
//! it, and the test that asks whether every command is tested.

use clap::{Arg, Command};
use serde::Serialize;

use crate::error::Result;
use crate::ui;

/// A command.
#[derive(Debug, Serialize)]
struct Described {
    /// The words that call it, `pod` first.
    call: String,
    about: String,
    usage: String,
    /// Examples and the like.
    more: String,
    hidden: bool,
    aliases: Vec<String>,
    arguments: Vec<Argument>,
    commands: Vec<Self>,
}

/// A flag, or a word that stands for itself.
#[derive(Debug, Serialize)]
struct Argument {
    /// How it is typed, such as `-d, --detach` or `POD`.
    form: String,
    help: String,
    /// Under which heading it is listed; none among the usual ones.
    heading: Option<String>,
    default: Option<String>,
    global: bool,
}

/// Prints the grammar as JSON.
///
/// # Errors
///
/// Those of output.
pub(crate) fn grammar(command: &Command) -> Result<u8> {
    let mut command = command.clone();
    command.build();
    ui::json(&described(&command, "")).map(|()| 0)
}

fn described(command: &Command, before: &str) -> Described {
    let call = format!("{before}{}", command.get_name());
    let usage = command.clone().render_usage().to_string();
    let below = format!("{call} ");
    let visible = |arg: &&Arg| !arg.is_hide_set() && arg.get_id() != "help";
    Described {
        about: command.get_about().map(ToString::to_string).unwrap_or_default(),
        usage: usage.trim_start_matches("Usage:").trim().to_owned(),
        more: command.get_after_help().map(ToString::to_string).unwrap_or_default(),
        hidden: command.is_hide_set(),
        aliases: command.get_all_aliases().map(str::to_owned).collect(),
        arguments: command.get_arguments().filter(visible).map(argument).collect(),
        commands: beneath(command).map(|command| described(command, &below)).collect(),
        call,
    }
}

/// Returns the commands beneath one, in the order help lists them.
fn beneath(command: &Command) -> impl Iterator<Item = &Command> {
    let mut commands: Vec<&Command> =
        command.get_subcommands().filter(|command| command.get_name() != "help").collect();
    commands.sort_by_key(|command| command.get_display_order());
    commands.into_iter()
}

fn argument(arg: &Arg) -> Argument {
    let names = arg.get_value_names().unwrap_or_default();
    let value: Vec<&str> = names.iter().map(clap::builder::Str::as_str).collect();
    let value = value.join(" ");
    let flags: Vec<String> = arg
        .get_short()
        .map(|short| format!("-{short}"))
        .into_iter()
        .chain(arg.get_long().map(|long| format!("--{long}")))
        .collect();
    let form = match (flags.is_empty(), arg.get_action().takes_values()) {
        (true, _) => value,
        (false, true) => format!("{} {value}", flags.join(", ")),
        (false, false) => flags.join(", "),
    };
    let defaults: Vec<String> =
        arg.get_default_values().iter().map(|value| value.to_string_lossy().into_owned()).collect();
    Argument {
        form,
        help: arg.get_help().map(ToString::to_string).unwrap_or_default(),
        heading: arg.get_help_heading().map(str::to_owned),
        default: Some(defaults.join(",")).filter(|text| {
            !text.is_empty() && arg.get_action().takes_values() && !arg.is_hide_default_value_set()
        }),
        global: arg.is_global_set(),
    }
}
