//! What an app of a trial does: its arguments say.

use std::env;
use std::fs;
use std::io::{Read, Write, stderr, stdin, stdout};
use std::net::TcpStream;
use std::process::ExitCode;
use std::time::Duration;

use rustix::termios::tcgetwinsize;

/// How long an answer over the network may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// Obeys words one after the other; `exit N` ends it.
pub(crate) fn run(words: &[String]) -> ExitCode {
    let mut words = words.iter().map(String::as_str);
    while let Some(word) = words.next() {
        let mut next = || words.next().expect("a word is missing");
        match word {
            "say" => stdout().write_all(next().as_bytes()).unwrap(),
            "complain" => stderr().write_all(next().as_bytes()).unwrap(),
            "fill" => {
                let count: usize = next().parse().unwrap();
                stdout().write_all(&pattern(count)).unwrap();
            }
            "echo" => {
                let mut text = Vec::new();
                stdin().read_to_end(&mut text).unwrap();
                stdout().write_all(&text).unwrap();
            }
            "line" => {
                let mut line = String::new();
                stdin().read_line(&mut line).unwrap();
                stdout().write_all(line.as_bytes()).unwrap();
            }
            "size" => {
                let size = tcgetwinsize(stdin()).unwrap();
                writeln!(stdout(), "{}x{}", size.ws_row, size.ws_col).unwrap();
            }
            "list" => {
                let mut names: Vec<String> = fs::read_dir(next())
                    .unwrap()
                    .map(|entry| entry.unwrap().file_name().into_string().unwrap())
                    .collect();
                names.sort();
                writeln!(stdout(), "{}", names.join(" ")).unwrap();
            }
            "read" => stdout().write_all(&fs::read(next()).unwrap()).unwrap(),
            "write" => fs::write(next(), "written\n").unwrap(),
            "deep" => {
                let count: u32 = next().parse().unwrap();
                for _ in 0..count {
                    fs::create_dir("d").unwrap();
                    env::set_current_dir("d").unwrap();
                }
            }
            "ids" => {
                let status = fs::read_to_string("/proc/self/status").unwrap();
                let wanted = |line: &&str| line.starts_with("Uid") || line.starts_with("NSpid");
                let lines: Vec<&str> = status.lines().filter(wanted).collect();
                writeln!(stdout(), "{}", lines.join(";")).unwrap();
            }
            "reopen" => {
                fs::OpenOptions::new().write(true).open("/dev/stdout").unwrap();
            }
            "wait" => {
                // Until it is killed.
                loop {
                    nix::unistd::pause();
                }
            }
            "reach" => {
                // Nobody listens there, which only who is reached can tell.
                let reached = TcpStream::connect_timeout(&next().parse().unwrap(), PATIENCE);
                writeln!(stdout(), "{:?}", reached.unwrap_err().kind()).unwrap();
            }
            "variable" => writeln!(stdout(), "{:?}", env::var(next())).unwrap(),
            "exit" => return ExitCode::from(next().parse::<u8>().unwrap()),
            other => panic!("what is `{other}`?"),
        }
        stdout().flush().unwrap();
    }
    ExitCode::SUCCESS
}

/// Bytes that tell where they belong.
pub(crate) fn pattern(count: usize) -> Vec<u8> {
    (0..count).map(|at| u8::try_from((at / 251 + at) % 256).unwrap()).collect()
}
