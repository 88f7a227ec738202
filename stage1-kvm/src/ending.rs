//! Why a machine is no more, for a person: from what its monitor says, or from how that died. Pure.
//!
//! | code | what |
//! |---|---|
//! | `vm.powered-off` | the guest switched the machine off without saying that the pod is over |
//! | `vm.reset` | the guest reset it |
//! | `vm.crashed` | the guest's kernel has crashed |
//! | `vm.killed` | the monitor died without a word |
//! | `vm.monitor-failed` | the monitor could not go on |
//! | `vm.agent-lost` | PID 1 of the guest is silent, has hung up, or says what no honest one says |
//! | `vm.boot` | PID 1 of the guest has never said a word |
//! | `volume.server-died` | the server of a volume died |

use pod_abi::{Report, text};
use vmm::helm::{Counters, End, EndClass, OfDevice};

/// What the kernel says first of all when it cannot go on (`kernel/panic.c`).
const PANIC: &str = "Kernel panic - not syncing";
/// What a line of the kernel has that begins to tell of a crash (`arch/x86/mm/fault.c`,
/// `arch/x86/kernel/traps.c`): where it was comes in the lines after it, and a long trace then.
const TROUBLE: [&str; 5] = ["BUG: ", "Oops: ", "general protection fault", "PANIC: ", PANIC];
/// The most lines of a console that are told.
const LINES: usize = 8;
/// The most devices of which is told what they have counted: more than a machine has.
const DEVICES: usize = 16;
/// The longest line, in characters.
const LINE: usize = 200;

/// Explains the end of a machine by what its monitor has said of it.
pub(crate) fn explain(end: &End) -> Report {
    let console = telling_lines(&end.console);
    let panic = end.console.lines().rev().find_map(|line| line.split(PANIC).nth(1));
    let message = tame(&end.message);
    let (code, what) = match (end.class, panic) {
        // Whatever the machine did then: its kernel resets or switches it off after a crash.
        (EndClass::PoweredOff | EndClass::Reset | EndClass::Crashed, Some(panic)) => {
            let why = tame(panic.trim_start_matches(':').trim());
            ("vm.crashed", format!("the guest's kernel has crashed: {why}"))
        }
        (EndClass::Crashed, None) => {
            ("vm.crashed", format!("the guest's kernel has crashed: {message}"))
        }
        (EndClass::PoweredOff, None) => (
            "vm.powered-off",
            "the virtual machine was switched off from inside before the pod was over".to_owned(),
        ),
        (EndClass::Reset, None) => (
            "vm.reset",
            "the virtual machine was reset from inside before the pod was over".to_owned(),
        ),
        (EndClass::Failed, _) => {
            ("vm.monitor-failed", format!("the virtual machine monitor could not go on: {message}"))
        }
    };
    Report { causes: console, ..Report::new(code, what) }
}

/// Adds what its monitor has seen of a machine that was ended to a report: what it has counted, and
/// of the console the first trouble, or the last lines.
pub(crate) fn with_last_look(report: Report, end: &End) -> Report {
    let mut report = report;
    let Counters { port_exits, unclaimed, devices, .. } = &end.counters;
    let one =
        |device: &OfDevice| format!("{}/{}/{}", device.exits, device.interrupts, device.violations);
    let devices: Vec<String> = devices.iter().take(DEVICES).map(one).collect();
    report.causes.push(format!(
        "monitor: exits for ports {port_exits}, for what is nobody's {unclaimed}; exits/interrupts/violations of devices {}",
        devices.join(" ")
    ));
    report.causes.extend(telling_lines(&end.console));
    report
}

/// Returns lines of a console: those in which a crash begins, or else the last; with nothing a
/// terminal could take for a command.
fn telling_lines(console: &str) -> Vec<String> {
    let lines = console.lines().map(str::trim).filter(|line| !line.is_empty());
    let lines: Vec<&str> = lines.collect();
    let trouble = |line: &&str| TROUBLE.iter().any(|mark| line.contains(mark));
    let last = lines.len().saturating_sub(LINES);
    let first = lines.iter().position(trouble).unwrap_or(last).min(last);
    lines.iter().skip(first).take(LINES).map(|line| format!("console: {}", tame(line))).collect()
}

fn tame(line: &str) -> String {
    text::tame(line, LINE)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn end(class: EndClass, console: &str) -> End {
        let message = "a triple fault\u{1b}[2J".to_owned();
        End { class, message, console: console.to_owned(), counters: Counters::default() }
    }

    #[test]
    fn every_end_has_a_code_of_its_own() {
        let code = |class, console| explain(&end(class, console)).code;
        assert_eq!(code(EndClass::PoweredOff, ""), "vm.powered-off");
        assert_eq!(code(EndClass::Reset, "all is well"), "vm.reset");
        assert_eq!(code(EndClass::Crashed, ""), "vm.crashed");
        assert_eq!(code(EndClass::Failed, ""), "vm.monitor-failed");
        let panic = "x\n[    1.2] Kernel panic - not syncing: Attempted to kill init!\n---[ end";
        for class in [EndClass::PoweredOff, EndClass::Reset, EndClass::Crashed] {
            let report = explain(&end(class, panic));
            assert_eq!(report.code, "vm.crashed");
            assert!(report.message.ends_with("Attempted to kill init!"), "{}", report.message);
        }
        assert_eq!(code(EndClass::Failed, panic), "vm.monitor-failed");
    }

    #[test]
    fn a_machine_that_hangs_is_told_of_with_what_its_monitor_has_counted() {
        let device = OfDevice { exits: 7, interrupts: 5, violations: 3 };
        let devices = vec![device, OfDevice::default()];
        let counters = Counters { port_exits: 9, unclaimed: 2, devices, ..Counters::default() };
        let end = End { counters, ..end(EndClass::Failed, "the last line") };
        let told = with_last_look(Report::new("vm.agent-lost", "it hangs"), &end);
        let counted = "monitor: exits for ports 9, for what is nobody's 2; \
                       exits/interrupts/violations of devices 7/5/3 0/0/0";
        assert_eq!((told.code.as_str(), told.message.as_str()), ("vm.agent-lost", "it hangs"));
        assert_eq!(told.causes, [counted, "console: the last line"]);
    }

    #[test]
    fn the_beginning_of_a_crash_is_told_and_not_the_end_of_its_trace() {
        let trace = "[ 5.1] x86 line of a trace\n".repeat(30);
        let console = format!("[ 5.0] fine\n[ 5.1] BUG: unable to handle page fault\n{trace}");
        let told = explain(&end(EndClass::Reset, &console)).causes;
        assert_eq!(told.len(), LINES);
        assert_eq!(told[0], "console: [ 5.1] BUG: unable to handle page fault");
        let short = explain(&end(EndClass::Reset, "one\nPANIC: two")).causes;
        assert_eq!(short, ["console: one", "console: PANIC: two"]);
    }

    #[test]
    fn a_console_is_bounded_and_cannot_drive_a_terminal() {
        let console = "\u{1b}[31mred\r\n".repeat(100) + &"long".repeat(1000);
        let report = explain(&end(EndClass::Crashed, &console));
        assert_eq!(report.causes.len(), LINES);
        let all = report.causes.concat() + &report.message;
        assert!(!all.contains(char::is_control) && all.len() < LINES * 3 * LINE, "{all}");
    }
}
