//! What the kernel tells of a process (`proc(5)`). Part of it is the process's own words.

use std::fs::File;
use std::io::Read;

/// The most of a file of `/proc` that is read, in bytes.
const MAX_FILE: u64 = 1 << 16;
/// Clock ticks a second, as every kernel shows them to programs (`USER_HZ`, `proc(5)`).
const TICKS: u64 = 100;

/// A process as it was at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Process {
    /// Its id in the innermost process namespace it is in.
    pub pid_inside: u32,
    /// Its effective user, by the numbers of its own user namespace.
    pub uid: u32,
    /// As `ps` writes it: `R`, `S`, `D`, `Z`, `T`, ….
    pub state: char,
    /// Seconds of processor time.
    pub seconds: u64,
    /// Its arguments, parted by blanks, or its name in brackets: whatever it likes.
    pub command: String,
}

/// Looks at process `pid`; `None` if it is gone.
///
/// May wait as long as the process lets it: its arguments are read from its memory, which may be
/// a file of a server that does not answer.
#[must_use]
pub fn look_at(pid: u32) -> Option<Process> {
    let stat = Stat::parse(&text(pid, "stat")?)?;
    let status = text(pid, "status")?;
    let field = |name: &str| status.lines().find_map(|line| line.strip_prefix(name));
    let pid_inside = field("NSpid:")?.split_whitespace().last()?.parse().ok()?;
    // Real, effective, saved, file system.
    let uid: u32 = field("Uid:")?.split_whitespace().nth(1)?.parse().ok()?;
    let command = text(pid, "cmdline").unwrap_or_default();
    Some(Process {
        pid_inside,
        uid: inside(uid, &text(pid, "uid_map")?),
        state: stat.state,
        seconds: stat.ticks / TICKS,
        command: if command.is_empty() { format!("[{}]", stat.name) } else { command },
    })
}

/// Returns the parent of process `pid`; `None` if it is gone.
#[must_use]
pub fn parent_of(pid: u32) -> Option<u32> {
    Some(Stat::parse(&text(pid, "stat")?)?.parent)
}

/// What `/proc/PID/stat` tells.
#[derive(Debug, PartialEq, Eq)]
struct Stat {
    name: String,
    state: char,
    parent: u32,
    ticks: u64,
}

impl Stat {
    fn parse(text: &str) -> Option<Self> {
        // The name may hold anything, parentheses too: it ends at the last one.
        let (front, rest) = text.rsplit_once(')')?;
        let name = front.split_once('(')?.1.to_owned();
        let mut fields = rest.split_whitespace();
        let state = fields.next()?.chars().next()?;
        let parent = fields.next()?.parse().ok()?;
        let mut times = fields.skip(9);
        let (user, system): (u64, u64) = (times.next()?.parse().ok()?, times.next()?.parse().ok()?);
        Some(Self { name, state, parent, ticks: user.saturating_add(system) })
    }
}

/// Reads a file of `/proc/PID`, the words of a command line parted by blanks.
fn text(pid: u32, file: &str) -> Option<String> {
    let mut bytes = Vec::new();
    let file = File::open(format!("/proc/{pid}/{file}")).ok()?;
    file.take(MAX_FILE).read_to_end(&mut bytes).ok()?;
    let text = String::from_utf8_lossy(&bytes);
    Some(text.trim_end_matches('\0').replace('\0', " "))
}

/// Returns the number that user `uid` of ours has in a user namespace.
fn inside(uid: u32, map: &str) -> u32 {
    let ranges = map.lines().filter_map(|line| {
        let mut numbers = line.split_whitespace().map(|word| word.parse::<u32>().ok());
        Some((numbers.next()??, numbers.next()??, numbers.next()??))
    });
    let hit = ranges
        .filter_map(|(first, outside, count)| {
            let offset = uid.checked_sub(outside).filter(|offset| *offset < count)?;
            first.checked_add(offset)
        })
        .next();
    hit.unwrap_or(uid)
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::parent_id;

    use super::*;

    #[test]
    fn a_name_with_parentheses_does_not_confuse() {
        let line = "7 (a) R 9 (b)) S 5 7 7 0 -1 4194304 1 2 3 4 250 50 0 0 20 0 1 0 9 9 9";
        let expected = Stat { name: "a) R 9 (b)".to_owned(), state: 'S', parent: 5, ticks: 300 };
        assert_eq!(Stat::parse(line), Some(expected));
        for bad in ["", "7", "7 (x", "7 (x) S", "7 (x) S 1 2"] {
            assert_eq!(Stat::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_user_has_its_number_of_the_pod() {
        let map = "         0     100000      65536\n";
        assert_eq!(inside(101_000, map), 1000);
        assert_eq!(inside(5, map), 5);
        assert_eq!(inside(1000, "0 0 4294967295\n"), 1000);
        assert_eq!(inside(1, "nonsense"), 1);
    }

    #[test]
    fn a_process_sees_itself() {
        let own = look_at(std::process::id()).unwrap();
        assert!(!own.command.is_empty() && own.state != 'Z', "{own:?}");
        assert_eq!(parent_of(std::process::id()), Some(parent_id()));
    }
}
