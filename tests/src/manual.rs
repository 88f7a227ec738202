//! The manual, made of the grammar that `pod internal-grammar` prints: `docs/commands.md` and
//! pages for `man`.
//!
//! The grammar is the only source: nothing about a command is written here. Completions are made
//! by `pod completion` itself.

use std::fmt::Write as _;

use serde::Deserialize;

/// A command, as its own program describes it.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Command {
    /// The words that call it, `pod` first.
    pub call: String,
    /// What it does, in a sentence.
    pub about: String,
    /// Its line.
    pub usage: String,
    /// Examples and the like.
    pub more: String,
    /// Whether help leaves it out.
    pub hidden: bool,
    /// Other words for it.
    pub aliases: Vec<String>,
    /// What stands behind it.
    pub arguments: Vec<Argument>,
    /// The commands beneath it.
    pub commands: Vec<Self>,
}

/// A flag, or a word that stands for itself.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Argument {
    /// How it is typed.
    pub form: String,
    /// What it does.
    pub help: String,
    /// Under which heading it belongs.
    pub heading: Option<String>,
    /// Its value if it is not given.
    pub default: Option<String>,
    /// Whether every command takes it.
    pub global: bool,
}

impl Command {
    /// Returns all commands that do something and that people type, this one included.
    #[must_use]
    pub fn leaves(&self) -> Vec<&Self> {
        self.visible().filter(|command| command.commands.is_empty()).collect()
    }

    fn visible(&self) -> Box<dyn Iterator<Item = &Self> + '_> {
        if self.hidden {
            return Box::new(std::iter::empty());
        }
        Box::new(std::iter::once(self).chain(self.commands.iter().flat_map(Self::visible)))
    }

    /// Returns its arguments by heading, in their order; those of every command only on demand.
    fn groups(&self, global: Global) -> Vec<(&str, Vec<&Argument>)> {
        let mut groups: Vec<(&str, Vec<&Argument>)> = Vec::new();
        for argument in &self.arguments {
            if argument.global && global == Global::Elsewhere {
                continue;
            }
            let own = if argument.form.starts_with('-') { "Flags" } else { "Arguments" };
            let heading = argument.heading.as_deref().unwrap_or(own);
            match groups.iter_mut().find(|(name, _)| *name == heading) {
                Some((_, group)) => group.push(argument),
                None => groups.push((heading, vec![argument])),
            }
        }
        groups
    }
}

impl Argument {
    fn told(&self) -> String {
        match &self.default {
            Some(default) => format!("{} [default: {default}]", self.help),
            None => self.help.clone(),
        }
    }
}

/// Where flags of every command are described.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Global {
    Here,
    Elsewhere,
}

/// Returns `docs/commands.md`.
#[must_use]
pub fn markdown(pod: &Command) -> String {
    let mut text = format!(
        "# Commands\n\n{}. Made from the definition of the command line by `cargo xtask docs`; \
         not to be edited.\n\n| command | does |\n|---|---|\n",
        pod.about
    );
    for command in pod.leaves() {
        let anchor = command.call.replace(' ', "-");
        write_to(&mut text, &format!("| [`{}`](#{anchor}) | {} |\n", command.call, command.about));
    }
    write_to(&mut text, "\n");
    section(&mut text, pod, Global::Here);
    for command in pod.commands.iter().flat_map(Command::visible) {
        section(&mut text, command, Global::Elsewhere);
    }
    text.trim_end().to_owned() + "\n"
}

fn section(text: &mut String, command: &Command, global: Global) {
    let Command { call, about, usage, more, .. } = command;
    write_to(text, &format!("## {call}\n\n{about}.\n\n```text\n{usage}\n```\n\n"));
    if !command.aliases.is_empty() {
        let words: Vec<String> = command.aliases.iter().map(|word| format!("`{word}`")).collect();
        write_to(text, &format!("Also {}.\n\n", words.join(", ")));
    }
    for (heading, arguments) in command.groups(global) {
        write_to(text, &format!("{heading}:\n\n"));
        for argument in arguments {
            write_to(text, &format!("- `{}` - {}\n", argument.form, argument.told()));
        }
        write_to(text, "\n");
    }
    if !more.is_empty() {
        write_to(text, &format!("```text\n{more}\n```\n\n"));
    }
}

/// Returns the pages for `man`, each with its file name: one for each command.
#[must_use]
pub fn pages(pod: &Command) -> Vec<(String, String)> {
    let page = |command: &Command| {
        let name = command.call.replace(' ', "-");
        (format!("{name}.1"), roff(command, pod))
    };
    pod.visible().map(page).collect()
}

fn roff(command: &Command, pod: &Command) -> String {
    let Command { call, about, usage, more, .. } = command;
    let name = call.replace(' ', "-");
    let mut text = format!(
        ".TH {} 1\n.SH NAME\n{} \\- {}\n.SH SYNOPSIS\n.nf\n{}\n.fi\n",
        name.to_uppercase(),
        escaped(&name),
        escaped(about),
        escaped(usage)
    );
    for (heading, arguments) in command.groups(Global::Here) {
        write_to(&mut text, &format!(".SH {}\n", escaped(&heading.to_uppercase())));
        for argument in arguments {
            let (form, told) = (escaped(&argument.form), escaped(&argument.told()));
            write_to(&mut text, &format!(".TP\n\\fB{form}\\fR\n{told}\n"));
        }
    }
    if !command.commands.is_empty() {
        write_to(&mut text, ".SH COMMANDS\n");
        for beneath in command.commands.iter().filter(|command| !command.hidden) {
            let page = beneath.call.replace(' ', "-");
            let (page, about) = (escaped(&page), escaped(&beneath.about));
            write_to(&mut text, &format!(".TP\n\\fB{page}\\fR(1)\n{about}\n"));
        }
    }
    if !more.is_empty() {
        write_to(&mut text, &format!(".SH NOTES\n.nf\n{}\n.fi\n", escaped(more)));
    }
    if call != &pod.call {
        write_to(&mut text, ".SH SEE ALSO\n\\fBpod\\fR(1)\n");
    }
    text
}

/// Makes words that mean themselves in roff: no escapes, no hyphens that are broken or turned
/// into dashes, nothing but ASCII, no line that begins with a command.
fn escaped(text: &str) -> String {
    let mut plain = String::new();
    for letter in text.chars() {
        match letter {
            '\\' => plain.push_str("\\e"),
            '-' => plain.push_str("\\-"),
            _ if letter.is_ascii() => plain.push(letter),
            _ => write_to(&mut plain, &format!("\\[u{:04X}]", u32::from(letter))),
        }
    }
    let lines = plain.lines().map(|line| match line.chars().next() {
        Some('.' | '\'') => format!("\\&{line}"),
        _ => line.to_owned(),
    });
    lines.collect::<Vec<_>>().join("\n")
}

fn write_to(text: &mut String, more: &str) {
    let _ = text.write_str(more); // a string takes everything
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod() -> Command {
        serde_json::from_value(serde_json::json!({
            "call": "pod", "about": "Run pods", "usage": "pod", "more": ".x\nby -y\\ …", "hidden": false,
            "aliases": [], "arguments": [
                { "form": "--root DIR", "help": "Root", "heading": "All", "default": null, "global": true },
            ],
            "commands": [
                { "call": "pod ps", "about": "List", "usage": "pod ps", "more": "", "hidden": false,
                  "aliases": ["list"], "commands": [], "arguments": [
                    { "form": "-n, --last N", "help": "Last", "heading": null, "default": "1", "global": false },
                    { "form": "--root DIR", "help": "Root", "heading": "All", "default": null, "global": true },
                ] },
                { "call": "pod reap", "about": "Reap", "usage": "pod reap", "more": "", "hidden": true,
                  "aliases": [], "commands": [], "arguments": [] },
            ],
        }))
        .unwrap()
    }

    #[test]
    fn hidden_commands_are_in_no_manual() {
        let pod = pod();
        assert_eq!(pod.leaves().len(), 1);
        assert!(!markdown(&pod).contains("reap"));
        let names: Vec<String> = pages(&pod).into_iter().map(|(name, _)| name).collect();
        assert_eq!(names, ["pod.1", "pod-ps.1"]);
    }

    #[test]
    fn a_flag_of_every_command_is_described_once() {
        let text = markdown(&pod());
        assert_eq!(text.matches("--root").count(), 1, "{text}");
        assert!(text.contains("- `-n, --last N` - Last [default: 1]\n"), "{text}");
    }

    #[test]
    fn words_cannot_be_commands_of_roff() {
        let (_, page) = pages(&pod()).remove(0);
        assert!(page.contains("\n\\&.x\nby \\-y\\e \\[u2026]\n"), "{page}");
    }
}
