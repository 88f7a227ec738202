//! `pod completion`: a script for a shell, made from the grammar; it asks nobody and opens nothing.

use clap::Command;
use clap_complete::{generate, shells};

use crate::cli::Shell;
use crate::error::Result;
use crate::ui;

/// Prints the script.
///
/// # Errors
///
/// Those of output.
pub(crate) fn completion(grammar: &Command, shell: Shell) -> Result<u8> {
    let mut grammar = visible(grammar);
    let mut script = Vec::new();
    match shell {
        Shell::Bash => generate(shells::Bash, &mut grammar, "pod", &mut script),
        Shell::Zsh => generate(shells::Zsh, &mut grammar, "pod", &mut script),
        Shell::Fish => generate(shells::Fish, &mut grammar, "pod", &mut script),
    }
    ui::bytes_out(&script).map(|()| 0)
}

/// Returns the commands that people type; what is hidden from help is not offered either.
fn visible(grammar: &Command) -> Command {
    let commands = grammar.get_subcommands().filter(|command| !command.is_hide_set());
    Command::new("pod").args(grammar.get_arguments()).subcommands(commands)
}
