//! A unit as a file: what `pod generate systemd` prints and `pod enable` writes.
//!
//! The properties are those the manager would be sent; this only spells them. In a file `%` begins a
//! specifier, in a command line `$` a variable, and neither is ever meant.

use nix::sys::signal::Signal;

use super::value::{Property, Value};
use super::vocabulary::{By, Form, KNOWN, Known, Section};

/// Returns the file of a unit that is started with the host. Properties that are not ours, and none of
/// a user's either, do not come here; they are left out.
pub(crate) fn text(properties: &[Property], comment: &str) -> String {
    let mut text = String::new();
    for line in comment.lines() {
        text.push_str(&format!("# {line}\n"));
    }
    text.push_str(&sections(properties, |_| true));
    text.push_str("\n[Install]\nWantedBy=multi-user.target\n");
    text
}

/// Returns a drop-in that says of a pod what its template cannot: all but what every pod has alike.
pub(crate) fn drop_in(properties: &[Property], comment: &str) -> String {
    let shared = ["Documentation", "Slice"];
    let own = |known: &Known| known.by != By::Us && !shared.contains(&known.file);
    format!("# {comment}\n{}", sections(properties, own))
}

fn sections(properties: &[Property], wanted: impl Fn(&Known) -> bool) -> String {
    let mut text = String::new();
    for (section, title) in [(Section::Unit, "[Unit]"), (Section::Service, "[Service]")] {
        let known = KNOWN.iter().filter(|known| known.section == section && wanted(known));
        let lines: Vec<String> = known.flat_map(|known| lines(known, properties)).collect();
        if !lines.is_empty() {
            text.push_str(&format!("\n{title}\n{}\n", lines.join("\n")));
        }
    }
    text
}

/// Returns the lines that say what `properties` hold of `known`. Two forms are more than one
/// property on the bus: a part of a whole, and a limit with a softer one.
fn lines(known: &Known, properties: &[Property]) -> Vec<String> {
    let named = |suffix: &str| {
        let name = format!("{}{suffix}", known.bus);
        properties.iter().filter(move |it| it.name == name).map(|it| &it.value)
    };
    let scales = named("Scale").filter_map(|value| match value {
        Value::Unsigned(scale) => Some(percent_of_whole(*scale)),
        _ => None,
    });
    let values = named("").flat_map(|value| match (known.form, value, named("Soft").next()) {
        (Form::Limit, Value::Long(hard), Some(Value::Long(soft))) if soft != hard => {
            vec![format!("{}:{}", spelt_number(*soft), spelt_number(*hard))]
        }
        _ => spelt(known.form, value),
    });
    values.chain(scales).map(|value| format!("{}={value}", known.file)).collect()
}

fn spelt_number(number: u64) -> String {
    if number == u64::MAX { "infinity".to_owned() } else { number.to_string() }
}

fn spelt(form: Form, value: &Value) -> Vec<String> {
    match (form, value) {
        (Form::Span, Value::Long(span)) => vec![spelt_span(*span)],
        (Form::Share, Value::Long(quota)) => vec![spelt_share(*quota)],
        (_, Value::Long(number)) => vec![spelt_number(*number)],
        (_, Value::Int(number)) => vec![number.to_string()],
        (_, Value::Unsigned(number)) => vec![number.to_string()],
        (_, Value::Bool(yes)) => vec![if *yes { "yes" } else { "no" }.to_owned()],
        (_, Value::Text(text)) => vec![literal(text)],
        (_, Value::Texts(words)) => vec![literal(&words.join(" "))],
        (_, Value::Mask(mask)) => vec![spelt_mask(mask)],
        (_, Value::Fields(fields)) => fields.iter().map(|field| quoted(field)).collect(),
        (_, Value::Command(argv)) => vec![command(argv)],
        (_, Value::Pairs(pairs)) => {
            pairs.iter().map(|(name, path)| literal(&format!("{name}:{path}"))).collect()
        }
        (_, Value::Figures(figures)) => figures
            .iter()
            .map(|(device, figure)| format!("{} {}", literal(device), spelt_number(*figure)))
            .collect(),
        (_, Value::Statuses(codes, signals)) => {
            let words = codes.iter().chain(signals.iter());
            let names = words.enumerate().map(|(at, number)| {
                let signal = Signal::try_from(*number).ok();
                match signal.filter(|_| at >= codes.len()) {
                    Some(signal) => signal.as_str().to_owned(),
                    None => number.to_string(),
                }
            });
            vec![names.collect::<Vec<_>>().join(" ")]
        }
    }
}

/// Returns text in which nothing is a specifier (`systemd.unit(5)`).
fn literal(text: &str) -> String {
    text.replace('%', "%%")
}

/// Returns a word as one word, whatever is in it.
fn quoted(word: &str) -> String {
    let plain = |it: char| it.is_ascii_alphanumeric() || "_@:./=+,-".contains(it);
    let word = literal(word);
    if !word.is_empty() && word.chars().all(|it| plain(it) || it == '%') {
        return word;
    }
    format!("\"{}\"", word.replace('\\', "\\\\").replace('"', "\\\""))
}

/// Returns a command line. The program itself is never searched for variables.
fn command(argv: &[String]) -> String {
    let words = argv.iter().enumerate().map(|(at, word)| match at {
        0 => quoted(word),
        _ => quoted(&word.replace('$', "$$")),
    });
    words.collect::<Vec<_>>().join(" ")
}

fn spelt_span(microseconds: u64) -> String {
    match microseconds {
        u64::MAX => "infinity".to_owned(),
        it if it % 1_000_000 == 0 => format!("{}s", it / 1_000_000),
        it if it % 1_000 == 0 => format!("{}ms", it / 1_000),
        it => format!("{it}us"),
    }
}

/// Returns microseconds of a second as a percentage, to a hundredth and rounded up.
fn spelt_share(quota: u64) -> String {
    if quota == u64::MAX {
        return String::new();
    }
    percent(quota.div_ceil(100))
}

fn percent_of_whole(scale: u32) -> String {
    percent((u64::from(scale) * 10_000).div_ceil(u64::from(u32::MAX)))
}

fn percent(hundredths: u64) -> String {
    match (hundredths / 100, hundredths % 100) {
        (whole, 0) => format!("{whole}%"),
        (whole, part) => format!("{whole}.{part:02}%"),
    }
}

/// Returns the list of a mask's bits, such as `0-3,5`.
fn spelt_mask(mask: &[u8]) -> String {
    let bits: Vec<usize> =
        (0..mask.len() * 8).filter(|bit| mask[bit / 8] & (1 << (bit % 8)) != 0).collect();
    let mut ranges: Vec<(usize, usize)> = Vec::new();
    for bit in bits {
        match ranges.last_mut() {
            Some((_, last)) if *last + 1 == bit => *last = bit,
            _ => ranges.push((bit, bit)),
        }
    }
    let spelt = ranges.iter().map(|(first, last)| match last - first {
        0 => first.to_string(),
        _ => format!("{first}-{last}"),
    });
    spelt.collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(properties: &[Property]) -> Vec<String> {
        let text = sections(properties, |_| true);
        text.lines().skip(2).map(str::to_owned).collect()
    }

    #[test]
    fn each_value_is_spelt_as_the_manager_reads_it() {
        let text = |text: &str| Value::Text(text.to_owned());
        let strings = |words: &[&str]| words.iter().map(|it| (*it).to_owned()).collect::<Vec<_>>();
        let pair = |a: &str, b: &str| (a.to_owned(), b.to_owned());
        let table = [
            ("TimeoutStopUSec", Value::Long(15_000_000), "TimeoutStopSec=15s"),
            ("RestartUSec", Value::Long(250_000), "RestartSec=250ms"),
            ("RestartUSec", Value::Long(7), "RestartSec=7us"),
            ("TimeoutStartUSec", Value::Long(u64::MAX), "TimeoutStartSec=infinity"),
            ("CPUQuotaPerSecUSec", Value::Long(500_000), "CPUQuota=50%"),
            ("CPUQuotaPerSecUSec", Value::Long(125_000), "CPUQuota=12.50%"),
            ("CPUQuotaPerSecUSec", Value::Long(u64::MAX), "CPUQuota="),
            ("MemoryMax", Value::Long(1 << 20), "MemoryMax=1048576"),
            ("MemoryMaxScale", Value::Unsigned(u32::MAX / 2), "MemoryMax=50%"),
            ("TasksMax", Value::Long(u64::MAX), "TasksMax=infinity"),
            ("AllowedCPUs", Value::Mask(vec![0b1000_1011, 1]), "AllowedCPUs=0-1,3,7-8"),
            ("Delegate", Value::Bool(true), "Delegate=yes"),
            ("SyslogIdentifier", text("100%"), "SyslogIdentifier=100%%"),
            ("LogExtraFields", Value::Fields(strings(&["A=b c"])), "LogExtraFields=\"A=b c\""),
            ("LoadCredential", Value::Pairs(vec![pair("k", "/e %h")]), "LoadCredential=k:/e %%h"),
            ("SuccessExitStatus", Value::Statuses(vec![9], vec![9]), "SuccessExitStatus=9 SIGKILL"),
            (
                "IOReadIOPSMax",
                Value::Figures(vec![("/dev/block/8:0".to_owned(), 5)]),
                "IOReadIOPSMax=/dev/block/8:0 5",
            ),
            (
                "ExecStart",
                Value::Command(strings(&["/o p/$x", "a;b", "$HOME", "%h", "q\"\\", ""])),
                "ExecStart=\"/o p/$x\" \"a;b\" \"$$HOME\" %%h \"q\\\"\\\\\" \"\"",
            ),
        ];
        for (name, value, expected) in table {
            assert_eq!(said(&[Property::new(name, value)]), [expected]);
        }
        let limit = |soft| {
            said(&[
                Property::new("LimitNOFILE", Value::Long(u64::MAX)),
                Property::new("LimitNOFILESoft", Value::Long(soft)),
            ])
        };
        assert_eq!(limit(1024), ["LimitNOFILE=1024:infinity"]);
        assert_eq!(limit(u64::MAX), ["LimitNOFILE=infinity"]);
    }

    #[test]
    fn what_is_asked_for_comes_out_as_it_was_asked() {
        let asked = [
            "Description=a 100% pod",
            "After=a.service b.service",
            "Restart=on-failure",
            "RestartSec=90s",
            "MemoryMax=20%",
            "CPUQuota=150%",
            "AllowedCPUs=0-3,5",
            "OOMScoreAdjust=-5",
            "IOAccounting=yes",
            "SuccessExitStatus=143 SIGTERM",
            "LoadCredential=key:/etc/key",
            "LimitCORE=0:infinity",
        ];
        for text in asked {
            let properties = super::super::asked::read(text).unwrap();
            let file = sections(&properties, |_| true).replace("%%", "%");
            assert_eq!(file.lines().nth(2), Some(text), "{file}");
        }
    }
}
