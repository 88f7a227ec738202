//! stage0, the command `pod`: finds and verifies images, writes down exactly what shall run, and
//! hands over to a stage1 by `exec`.
//!
//! A line becomes a `grammar::Line`, a `request::Request`, a `PodSpec` (`compose`), a pod on
//! disk (`pods`), and an `exec` (`stage1`). Everything left of the pod on disk is pure. No
//! process of this program lives as long as a pod; it never makes a namespace or a mount.

#![forbid(unsafe_code)]

mod attend;
mod bundle;
mod caller;
mod cgroup;
mod changes;
mod cli;
mod client;
mod commands;
mod compose;
mod context;
mod control;
mod copies;
mod credentials;
mod directory;
mod elsewhere;
mod ending;
mod error;
mod failure;
mod fetch;
mod flags;
mod grammar;
mod history;
mod host;
mod id_file;
mod ids;
mod keys;
mod launch;
mod layers;
mod leftovers;
mod limits;
mod logs;
mod named_volumes;
mod nearest;
mod networks;
mod notify;
mod pods;
mod policy_file;
mod ports;
mod prompt;
mod pulling;
mod pump;
mod request;
mod rundir;
mod seccomp_profile;
mod service_manager;
mod service_status;
mod short_names;
mod signal;
mod sockets;
mod span;
mod specification;
mod stage1;
mod streams;
mod supervision;
mod systemd;
mod terminal;
mod ui;
mod volumes;
mod weights;
mod whole_file;

use std::ffi::OsString;
use std::iter;
use std::process::ExitCode;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{CommandFactory as _, FromArgMatches as _};

use caller::Caller;
use cli::{Cli, GenerateVerb, ImageVerb, ReapArgs, Verb};
use commands::Session;
use context::Context;
use error::{CommandError, Family, Result};
use flags::Globals;
use grammar::{Asked, AskedToAdd};
use ui::Format;

/// Runs the command line `args`, the program's name first, and returns its exit status
/// ([`pod_abi::exit`]).
pub fn main(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let args: Vec<OsString> = args.into_iter().skip(1).collect();
    let words: Vec<String> = args.iter().map(|arg| arg.to_string_lossy().into_owned()).collect();
    let verb = verb_at(&words);
    let family = match verb.map(|at| words[at].as_str()) {
        Some("run" | "start" | "exec" | "attach" | "sandbox") => Family::Runs,
        _ => Family::Other,
    };
    let strange = args.iter().find(|arg| arg.to_str().is_none());
    let done = match verb.map(|at| (at, words[at].as_str())) {
        _ if strange.is_some() => Err(CommandError::usage("an argument is not valid UTF-8")),
        Some((at, "run")) => by_line("run", &words[..at], &words[at + 1..]),
        Some((at, "prepare")) => by_line("prepare", &words[..at], &words[at + 1..]),
        Some((at, "sandbox")) => by_line("sandbox", &words[..at], &words[at + 1..]),
        Some((at, "app")) if words.get(at + 1).is_some_and(|word| word == "add") => {
            add_app(&words[..at], &words[at + 2..])
        }
        Some((_, "internal-unpack")) => {
            // What a caller has left open by mistake is nothing a layer should come near.
            if pod_sys::close_from(3).is_err() {
                return ExitCode::FAILURE;
            }
            return images::worker::run();
        }
        Some((0, "reap")) if words.get(1).is_some_and(|word| word == "--inherited") => {
            by_supervisor(&words[1..])
        }
        _ => by_clap(&words),
    };
    match done {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            let format = if wants_json(&words, verb) { Format::Json } else { Format::Table };
            let status = error.status(family);
            if matches!(family, Family::Runs)
                && let Some(manager) = service_status::Listener::of_this_process()
            {
                manager.tell(&error.report().clone().tamed().message, &[]);
            }
            ui::error(&error.exiting(status), format);
            ExitCode::from(status)
        }
    }
}

/// Tells whether errors are to be JSON. The line may be one that could not be read, so this only
/// looks for the wish, where it cannot be a word of an app's command.
fn wants_json(words: &[String], verb: Option<usize>) -> bool {
    let end = match verb {
        Some(at) if ["run", "prepare"].contains(&words[at].as_str()) => {
            at + 1 + grammar::before_image(&words[at + 1..]).len()
        }
        Some(at) if words[at] == "app" && words.get(at + 1).is_some_and(|word| word == "add") => {
            at + 2 + grammar::before_command(&words[at + 2..]).len()
        }
        _ => words.iter().position(|word| word == "--").unwrap_or(words.len()),
    };
    let words = &words[..end];
    let joined = ["--json", "--output=json", "-ojson", "-o=json"];
    words.iter().any(|word| joined.contains(&word.as_str()))
        || words
            .windows(2)
            .any(|pair| ["-o", "--output"].contains(&pair[0].as_str()) && pair[1] == "json")
}

/// Finds the verb: the first word that is no flag and no flag's value.
fn verb_at(words: &[String]) -> Option<usize> {
    const WITH_VALUE: [&str; 5] = ["--root", "--run-root", "--manager", "-o", "--output"];
    let mut at = 0;
    while let Some(word) = words.get(at) {
        if WITH_VALUE.contains(&word.as_str()) {
            at += 2;
        } else if word.starts_with('-') {
            at += 1;
        } else {
            return Some(at);
        }
    }
    None
}

/// `run`, `prepare` and `sandbox`: `before` are the words before the verb, `rest` those behind it.
fn by_line(verb: &'static str, before: &[String], rest: &[String]) -> Result<u8> {
    let globals = match globals_of(before) {
        Ok(globals) => globals,
        Err(error) => return told_by_clap(&error, verb),
    };
    let asked = match verb {
        "sandbox" => grammar::parse_sandbox(rest)?,
        _ => grammar::parse(verb, rest)?,
    };
    let line = match asked {
        Asked::Help(text) => return ui::out(&text).map(|()| 0),
        Asked::Line(line) => *line,
    };
    let globals = globals.overridden_by(line.pod.globals.clone());
    let mut request = request::read(line, &Caller::of_this_process())?;
    request.fetch.telling = request.fetch.telling.in_form(globals.format());
    let context = Context::new(&globals)?;
    let context = if verb == "prepare" { context } else { context.with_sockets()? };
    let session = Session::open(context, verb)?;
    match verb {
        "prepare" => commands::prepare(&session, &request),
        _ => commands::run(&session, &request),
    }
}

/// Reads the flags that stand before a verb.
fn globals_of(before: &[String]) -> std::result::Result<Globals, clap::Error> {
    let globals = clap::Command::new("pod").no_binary_name(true);
    <Globals as clap::Args>::augment_args(globals)
        .try_get_matches_from(before)
        .and_then(|matches| Globals::from_arg_matches(&matches))
}

/// `app add`: `before` are the words before the verb, `rest` those behind it.
fn add_app(before: &[String], rest: &[String]) -> Result<u8> {
    let globals = match globals_of(before) {
        Ok(globals) => globals,
        Err(error) => return told_by_clap(&error, "app add"),
    };
    let line = match grammar::parse_added(rest)? {
        AskedToAdd::Help(text) => return ui::out(&text).map(|()| 0),
        AskedToAdd::Line(line) => *line,
    };
    let globals = globals.overridden_by(line.flags.globals.clone());
    commands::add_app(&Session::open(Context::new(&globals)?, "app")?, line)
}

/// `reap` as a supervisor calls it, at the end of every pod: the whole command line is not built
/// for it, which would take longer than the reaping.
fn by_supervisor(words: &[String]) -> Result<u8> {
    let command = <ReapArgs as clap::Args>::augment_args(clap::Command::new("reap"));
    let args = command
        .no_binary_name(true)
        .try_get_matches_from(words)
        .and_then(|matches| ReapArgs::from_arg_matches(&matches));
    match args {
        Ok(args) => commands::reap(&Context::new(&Globals::default())?, &args),
        Err(error) => told_by_clap(&error, "reap"),
    }
}

fn by_clap(words: &[String]) -> Result<u8> {
    let cli = grammar_for(words)
        .try_get_matches_from(iter::once("pod").chain(words.iter().map(String::as_str)))
        .and_then(|matches| Cli::from_arg_matches(&matches));
    match cli {
        Ok(cli) => dispatch(cli),
        Err(error) => told_by_clap(&error, &verb_of(words)),
    }
}

/// Returns the grammar that `words` are read by: that of the whole command line where all of it may
/// be shown, and otherwise one without the flags of the verbs that clap does not read, which are
/// half of all there are.
fn grammar_for(words: &[String]) -> clap::Command {
    let shows_all = |at: usize| {
        words[..at].iter().any(|word| word == "-h" || word == "--help")
            || ["app", "help"].contains(&words[at].as_str())
    };
    match verb_at(words) {
        Some(at) if !shows_all(at) => Cli::command(),
        _ => grammar_of_all(),
    }
}

/// Returns the grammar of the whole command line, that of lines with a grammar of their own as far
/// as clap has words for it.
fn grammar_of_all() -> clap::Command {
    Cli::command()
        .mut_subcommand("run", |old| in_place_of(&old, grammar::help("run")))
        .mut_subcommand("prepare", |old| in_place_of(&old, grammar::help("prepare")))
        .mut_subcommand("sandbox", |old| in_place_of(&old, grammar::sandbox_help()))
        .mut_subcommand("app", |app| {
            app.mut_subcommand("add", |old| in_place_of(&old, grammar::add_help()))
        })
}

/// Returns `made`, listed where `old` was.
fn in_place_of(old: &clap::Command, made: clap::Command) -> clap::Command {
    made.display_order(old.get_display_order())
}

/// Returns the verb as it is typed, with the one behind it if that is the verb of a noun.
fn verb_of(words: &[String]) -> String {
    let Some(at) = verb_at(words) else { return String::new() };
    let command = Cli::command();
    let Some(verb) = command.find_subcommand(&words[at]) else { return String::new() };
    let second = words.get(at + 1).and_then(|word| verb.find_subcommand(word));
    let second = second.map_or_else(String::new, |second| format!(" {}", second.get_name()));
    format!("{}{second}", verb.get_name())
}

/// Prints help, which clap counts as an error, or makes the error one of ours.
fn told_by_clap(error: &clap::Error, verb: &str) -> Result<u8> {
    if error.kind() == ErrorKind::InvalidSubcommand
        && let Some(ContextValue::String(word)) = error.get(ContextKind::InvalidSubcommand)
    {
        return Err(unknown_command(word, verb));
    }
    if error.use_stderr() {
        return Err(grammar::usage_of(error, verb));
    }
    ui::out(&error.render().to_string()).map(|()| 0)
}

/// Returns the refusal of a command that is none, behind the noun `verb` if that is one.
fn unknown_command(word: &str, verb: &str) -> CommandError {
    let grammar = grammar_of_all();
    let noun = grammar.find_subcommand(verb);
    let place = noun.map_or("pod".to_owned(), |_| format!("pod {verb}"));
    let commands = noun.unwrap_or(&grammar).get_subcommands().filter(|known| !known.is_hide_set());
    let names: Vec<String> = commands.map(|known| known.get_name().to_owned()).collect();
    let error = CommandError::usage(format!("there is no command `{place} {word}`"));
    if let Some(known) = elsewhere::command(noun.map_or("", clap::Command::get_name), word) {
        return error.hint(known).hint(format!("`{place} --help` lists all"));
    }
    let near: Vec<String> = nearest::all_nearest(word, &names)
        .into_iter()
        .map(|name| format!("`{place} {name}`"))
        .collect();
    let error = match &near[..] {
        [] => error,
        near => error.hint(format!("did you mean {}?", near.join(" or "))),
    };
    error.hint(format!("`{place} --help` lists all"))
}

fn dispatch(cli: Cli) -> Result<u8> {
    let context = Context::new(&cli.globals)?;
    let open = |verb: &str| Session::open(context.clone(), verb);
    match cli.verb {
        Verb::Run | Verb::Prepare | Verb::Sandbox => Err(CommandError::usage("no image is given")),
        Verb::Start(args) => commands::start(context.with_sockets()?, &args),
        Verb::App(verb) => commands::app(&open("app")?, verb),
        Verb::Ps(args) => commands::ps(&open("ps")?, &args),
        Verb::Status(args) => commands::status(&open("status")?, &args.pod),
        Verb::Inspect(args) if args.spec => commands::spec(&open("inspect")?, &args.pod),
        Verb::Inspect(args) => commands::inspect(&open("inspect")?, &args.pod),
        Verb::CatManifest(args) => commands::spec(&open("cat-manifest")?, &args.pod),
        Verb::Bundle(args) => commands::bundle(&open("bundle")?, &args),
        Verb::Logs(args) => commands::logs(&open("logs")?, &args),
        Verb::Exec(args) => commands::exec(&open("exec")?, args),
        Verb::Cp(args) => commands::cp(&open("cp")?, &args),
        Verb::Commit(args) => commands::commit(&open("commit")?, &args),
        Verb::Port(args) => commands::port(&open("port")?, &args),
        Verb::PortForward(args) => commands::port_forward(&open("port-forward")?, &args),
        Verb::Dns(args) => {
            commands::dns(&Session::open(context.clone().with_sockets()?, "dns")?, &args)
        }
        Verb::Attach(args) => commands::attach(&open("attach")?, &args),
        Verb::Events(args) => commands::events(&open("events")?, &args),
        Verb::Top(args) => commands::top(&open("top")?, &args),
        Verb::Stats(args) => commands::stats(&open("stats")?, &args),
        Verb::Update(args) => commands::update(&open("update")?, &args),
        Verb::Pause(pods) => commands::pause(&open("pause")?, &pods),
        Verb::Unpause(pods) => commands::unpause(&open("unpause")?, &pods),
        Verb::Stop(args) => commands::stop(&open("stop")?, &args),
        Verb::Restart(args) => commands::restart(&open("restart")?, &args),
        Verb::Kill(args) => commands::kill(&open("kill")?, &args),
        Verb::Wait(args) => commands::wait(&open("wait")?, &args),
        Verb::Rm(args) => commands::rm(&open("rm")?, &args),
        Verb::Enable(args) => commands::enable(&open("enable")?, &args),
        Verb::Disable(args) => commands::disable(&open("disable")?, &args),
        Verb::Generate(GenerateVerb::Systemd(args)) => {
            commands::generate_systemd(&open("generate")?, &args)
        }
        Verb::Gc(args) => commands::gc(&open("gc")?, &args),
        Verb::Fetch(args) => commands::fetch_images(&open("fetch")?, &args),
        Verb::Image(verb) => commands::image(&open("image")?, &verb),
        Verb::Volume(verb) => commands::volume(&open("volume")?, &verb),
        Verb::Network(verb) => commands::network(&open("network")?, &verb),
        Verb::Images(args) => commands::image(&open("images")?, &ImageVerb::Ls(args)),
        Verb::Push(args) => commands::image(&open("push")?, &ImageVerb::Push(args)),
        Verb::Rmi(args) => commands::image(&open("rmi")?, &ImageVerb::Rm(args)),
        Verb::Info => commands::info(&open("info")?),
        Verb::Completion(args) => commands::completion(&grammar_of_all(), args.shell),
        Verb::InternalGrammar => commands::grammar(&grammar_of_all()),
        Verb::Trust(verb) => commands::trust(&context, &verb),
        Verb::Login(args) => commands::login(&context, &args),
        Verb::Logout(args) => commands::logout(&context, &args),
        Verb::Doctor(args) => commands::doctor(&context, &args),
        Verb::Version => version(&context),
        Verb::Reap(args) => commands::reap(&context, &args),
        Verb::InternalAttach(args) => commands::attach_networks(&args),
        Verb::InternalRegister(args) => commands::register(&args),
        Verb::InternalUnpack => Err(CommandError::usage("`internal-unpack` is not for people")),
    }
}

fn version(context: &Context) -> Result<u8> {
    let version = env!("CARGO_PKG_VERSION");
    let abi = pod_abi::version::STAGE_ABI;
    match context.format {
        Format::Json => ui::json(&serde_json::json!({ "version": version, "stageAbi": abi }))?,
        Format::Table => ui::out(&format!("pod {version}, stage ABI {abi}\n"))?,
    }
    Ok(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wish_for_json_is_not_looked_for_in_commands_of_apps() {
        let wants = |line: &str| {
            let words: Vec<String> = line.split(' ').map(str::to_owned).collect();
            wants_json(&words, verb_at(&words))
        };
        for line in ["--json ps", "ps -o json", "run --name x --json y", "run --output=json --nope"]
        {
            assert!(wants(line), "{line}");
        }
        for line in ["ps", "run x jq --json", "exec p -- x --json", "run -o table x -o json"] {
            assert!(!wants(line), "{line}");
        }
    }

    #[test]
    fn the_verb_is_the_first_word_that_is_no_flag_and_no_flags_value() {
        let at = |line: &str| {
            let words: Vec<String> = line.split(' ').map(str::to_owned).collect();
            verb_at(&words).map(|at| words[at].clone())
        };
        assert_eq!(at("--root run ps"), Some("ps".to_owned()));
        assert_eq!(at("--root=x --json run -d a"), Some("run".to_owned()));
        assert_eq!(at("--json"), None);
    }
}
