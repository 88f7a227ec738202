//! `pod completion`: a script for a shell, made from the grammar; it asks nobody and opens nothing.
//! That for bash also asks, when a line is completed, for the names of pods and volumes.

use clap::{Arg, Command};
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
        Shell::Bash => {
            generate(shells::Bash, &mut grammar, "pod", &mut script);
            script.extend(names_in_bash(&grammar).into_bytes());
        }
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

/// Returns what adds the names of pods and volumes to bash's script.
fn names_in_bash(grammar: &Command) -> String {
    let of_pods = |_: &str, arg: &Arg| is_word(arg, "POD");
    let of_volumes = |verb: &str, arg: &Arg| {
        verb.starts_with("volume ") && verb != "volume create" && is_word(arg, "NAME")
    };
    NAMES_IN_BASH
        .replace("@PODS@", &patterns(grammar, &of_pods))
        .replace("@VOLUMES@", &patterns(grammar, &of_volumes))
}

fn is_word(arg: &Arg, name: &str) -> bool {
    let value = arg.get_value_names().and_then(|names| names.first());
    arg.is_positional() && value.is_some_and(|value| value.eq_ignore_ascii_case(name))
}

/// Returns the verbs that take an argument that `fits`, as a pattern of bash; `fits` is given the
/// verb, with its noun before it if it has one.
fn patterns(grammar: &Command, fits: &dyn Fn(&str, &Arg) -> bool) -> String {
    let mut found = Vec::new();
    for command in grammar.get_subcommands() {
        let name = command.get_name().to_owned();
        let below =
            command.get_subcommands().map(|verb| (format!("{name} {}", verb.get_name()), verb));
        for (name, verb) in below.chain([(name.clone(), command)]) {
            if verb.get_positionals().any(|arg| fits(&name, arg)) {
                found.push(format!("'{name} '*"));
            }
        }
    }
    found.join("|")
}

/// A name that stands on the line already is not offered again, nor any other: what follows it are
/// words of another kind, or a list that is typed by hand.
const NAMES_IN_BASH: &str = r#"
_pod_names() {
    _pod "$@"
    [[ "$2" == -* ]] && return
    local at word names line= places=()
    for ((at = 1; at < COMP_CWORD; at++)); do
        word="${COMP_WORDS[at]}"
        case "$word" in
            --root|--run-root) places+=("$word" "${COMP_WORDS[at + 1]}"); ((at++)) ;;
            -*) ;;
            *) line+="$word " ;;
        esac
    done
    case "$line" in
        @PODS@) names=$("$1" "${places[@]}" ps -a --format '{{.Name}}' 2>/dev/null) ;;
        @VOLUMES@) names=$("$1" "${places[@]}" volume ls -q 2>/dev/null) ;;
        *) return ;;
    esac
    for word in $names; do
        [[ " $line" == *" $word "* ]] && return
    done
    COMPREPLY=($(compgen -W "$names" -- "$2") "${COMPREPLY[@]}")
}
complete -F _pod_names -o nosort -o bashdefault -o default pod 2>/dev/null ||
    complete -F _pod_names -o bashdefault -o default pod
"#;
