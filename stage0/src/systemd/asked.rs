//! `--unit-property NAME=VALUE`: from the words of a unit file to a property of a unit.
//!
//! Values are read here rather than by the manager, which takes them by type; whatever this does not
//! understand is refused where it was typed.

use nix::sys::signal::Signal;
use pod_abi::credential::CredentialName;
use pod_abi::isolators::Resources;

use super::service::mask;
use super::value::{Property, Value};
use super::vocabulary::{By, Form, KNOWN, Known, REFUSED, by_file};
use crate::error::{CommandError, Result};

/// The longest value, in bytes.
const LONGEST: usize = 4096;
/// All of something, for the manager: a part of it is this times the part.
const WHOLE: u64 = u32::MAX as u64;

/// Reads one `NAME=VALUE`.
///
/// # Errors
///
/// A usage error that says what is wrong with it, and what there is instead.
pub(crate) fn read(text: &str) -> Result<Vec<Property>> {
    let (name, value) =
        text.split_once('=').filter(|(name, _)| !name.is_empty()).ok_or_else(|| {
            CommandError::usage(format!("`{}` is no property of a unit", shortened(text)))
                .hint("it takes NAME=VALUE as in a unit file, such as `Restart=on-failure`")
        })?;
    let known = find(name)?;
    let wrong = |form: &str| {
        CommandError::usage(format!("`{name}` cannot be `{}`: it takes {form}", shortened(value)))
    };
    let odd = value.len() > LONGEST || value.chars().any(char::is_control) || value.ends_with('\\');
    if odd {
        return Err(wrong("one line of text"));
    }
    properties(known, value.trim()).ok_or_else(|| wrong(expected(known.form)))
}

fn shortened(text: &str) -> String {
    text.chars().take(80).collect()
}

/// Finds a property that users may set.
fn find(name: &str) -> Result<&'static Known> {
    let refused = REFUSED.iter().find(|(names, ..)| names.iter().any(|it| name.starts_with(it)));
    match (by_file(name), refused) {
        (Some(known), None) if known.by != By::Us => Ok(known),
        (_, Some((_, why, instead))) => {
            let name = shortened(name);
            Err(CommandError::usage(format!("`--unit-property {name}` would break a pod: {why}"))
                .hint(*instead))
        }
        _ => {
            let error =
                CommandError::usage(format!("`{}` is no property we know", shortened(name)));
            let near = KNOWN.iter().find(|known| known.file.eq_ignore_ascii_case(name));
            Err(match near {
                Some(known) => error.hint(format!("did you mean `{}`?", known.file)),
                None => error.hint(
                    "any property can be set in a drop-in: /etc/systemd/system/pod-NAME.service.d/*.conf",
                ),
            })
        }
    }
}

fn expected(form: Form) -> &'static str {
    match form {
        Form::Text => "a word",
        Form::Words => "words",
        Form::Bool => "`yes` or `no`",
        Form::Int => "a whole number",
        Form::Unsigned => "a whole number that is not negative",
        Form::Span => "a time such as `90s`, `1min 30s`, or `infinity`",
        Form::Size => "bytes such as `512M`, a part of the memory such as `20%`, or `infinity`",
        Form::Count => "a number, a part such as `20%`, or `infinity`",
        Form::Weight => "a number from 1 to 10000",
        Form::Share => "a share of one processor such as `150%`",
        Form::Mask => "numbers such as `0-3,5`",
        Form::Rate => "a device and a rate, such as `/dev/sda 5M`",
        Form::Limit => "a number, `SOFT:HARD`, or `infinity`",
        Form::Statuses => "exit statuses and names of signals, such as `143 SIGTERM`",
        Form::Field => "FIELD=VALUE, the field in capital letters",
        Form::Pair => "NAME:PATH, or NAME",
        Form::Command => "a command line",
    }
}

/// Returns what `text` is on the bus; `None` if it is not of the property's form.
fn properties(known: &Known, text: &str) -> Option<Vec<Property>> {
    let one = |value: Value| Some(vec![Property::new(known.bus, value)]);
    match known.form {
        Form::Text => (!text.is_empty()).then(|| one(Value::Text(text.to_owned())))?,
        Form::Words => {
            let words: Vec<String> = text.split_whitespace().map(str::to_owned).collect();
            (!words.is_empty()).then(|| one(Value::Texts(words)))?
        }
        Form::Bool => one(Value::Bool(boolean(text)?)),
        Form::Int => one(Value::Int(text.parse().ok()?)),
        Form::Unsigned => one(Value::Unsigned(text.parse().ok()?)),
        Form::Span => one(Value::Long(span(text)?)),
        Form::Size | Form::Count => match text.strip_suffix('%') {
            Some(part) => {
                let scale = part_of_whole(part)?;
                Some(vec![Property::new(&format!("{}Scale", known.bus), Value::Unsigned(scale))])
            }
            None if known.form == Form::Size => one(Value::Long(size(text)?)),
            None => one(Value::Long(number(text)?)),
        },
        Form::Weight => {
            let weight: u64 = text.parse().ok()?;
            (1..=10_000).contains(&weight).then(|| one(Value::Long(weight)))?
        }
        Form::Share => {
            let percent = hundredths(text.strip_suffix('%')?)?;
            // A hundredth of a percent of a second's microseconds.
            one(Value::Long(percent.checked_mul(100).filter(|quota| *quota > 0)?))
        }
        Form::Mask => {
            let bits = mask(text);
            (!bits.is_empty() && is_list(text)).then(|| one(Value::Mask(bits)))?
        }
        Form::Rate => {
            let (device, rate) = text.split_once(char::is_whitespace)?;
            let rate = size(rate.trim())?;
            device.starts_with('/').then(|| one(Value::Figures(vec![(device.to_owned(), rate)])))?
        }
        Form::Limit => {
            let (soft, hard) = text.split_once(':').unwrap_or((text, text));
            let (soft, hard) = (number(soft)?, number(hard)?);
            let soft_name = format!("{}Soft", known.bus);
            (soft <= hard).then(|| {
                vec![
                    Property::new(known.bus, Value::Long(hard)),
                    Property::new(&soft_name, Value::Long(soft)),
                ]
            })
        }
        Form::Statuses => statuses(text).and_then(one),
        Form::Field => {
            let (field, _) = text.split_once('=')?;
            let plain =
                |byte: u8| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'_';
            let sound = !field.is_empty()
                && field.len() <= 64
                && field.as_bytes()[0].is_ascii_uppercase()
                && field.bytes().all(plain)
                && !["POD_UUID", "POD_NAME"].contains(&field);
            sound.then(|| one(Value::Fields(vec![text.to_owned()])))?
        }
        Form::Pair => {
            let (name, path) = text.split_once(':').unwrap_or((text, text));
            let sound = CredentialName::parse(name).is_ok() && !path.is_empty();
            sound.then(|| one(Value::Pairs(vec![(name.to_owned(), path.to_owned())])))?
        }
        Form::Command => None,
    }
}

fn boolean(text: &str) -> Option<bool> {
    match text.to_ascii_lowercase().as_str() {
        "1" | "yes" | "y" | "true" | "t" | "on" => Some(true),
        "0" | "no" | "n" | "false" | "f" | "off" => Some(false),
        _ => None,
    }
}

fn number(text: &str) -> Option<u64> {
    match text {
        "infinity" => Some(u64::MAX),
        _ => text.parse().ok().filter(|_| !text.starts_with('+')),
    }
}

/// Returns bytes; the suffixes are powers of 1024.
fn size(text: &str) -> Option<u64> {
    const UNITS: [(char, u32); 5] = [('K', 10), ('M', 20), ('G', 30), ('T', 40), ('P', 50)];
    let unit = UNITS.iter().find(|(unit, _)| text.ends_with(*unit));
    match unit {
        Some((_, shift)) => number(&text[..text.len() - 1])?.checked_mul(1 << shift),
        None => number(text),
    }
}

/// Returns hundredths of the number: `12.5` is 1250.
fn hundredths(text: &str) -> Option<u64> {
    let (whole, part) = text.split_once('.').unwrap_or((text, "0"));
    let digits = part.len() <= 2 && !part.is_empty() && part.bytes().all(|it| it.is_ascii_digit());
    let part: u64 = if digits { format!("{part:0<2}").parse().ok()? } else { return None };
    let whole: u64 = whole.parse().ok().filter(|_| !whole.starts_with('+'))?;
    whole.checked_mul(100)?.checked_add(part)
}

/// Returns a percentage as a part of [`WHOLE`], rounded down.
fn part_of_whole(text: &str) -> Option<u32> {
    let hundredths = hundredths(text).filter(|part| *part <= 10_000)?;
    u32::try_from(hundredths * WHOLE / 10_000).ok()
}

/// Returns the microseconds of a time span (`systemd.time(7)`).
fn span(text: &str) -> Option<u64> {
    const UNITS: [(&[&str], u64); 7] = [
        (&["usec", "us", "µs"], 1),
        (&["msec", "ms"], 1_000),
        (&["seconds", "second", "sec", "s", ""], 1_000_000),
        (&["minutes", "minute", "min", "m"], 60_000_000),
        (&["hours", "hour", "hr", "h"], 3_600_000_000),
        (&["days", "day", "d"], 86_400_000_000),
        (&["weeks", "week", "w"], 604_800_000_000),
    ];
    if text == "infinity" {
        return Some(u64::MAX);
    }
    let mut rest = text.trim();
    let mut total: Option<u64> = None;
    while !rest.is_empty() {
        let digits = rest.find(|it: char| !it.is_ascii_digit()).unwrap_or(rest.len());
        let number: u64 = rest[..digits].parse().ok()?;
        rest = rest[digits..].trim_start();
        let letters =
            rest.find(|it: char| it.is_ascii_digit() || it.is_whitespace()).unwrap_or(rest.len());
        let (_, factor) = UNITS.iter().find(|(names, _)| names.contains(&&rest[..letters]))?;
        rest = rest[letters..].trim_start();
        total = Some(total.unwrap_or(0).checked_add(number.checked_mul(*factor)?)?);
    }
    total
}

fn is_list(text: &str) -> bool {
    let limit = Resources { cpuset_cpus: Some(text.to_owned()), ..Default::default() };
    limit.is_sound()
}

/// Returns exit statuses and signals.
fn statuses(text: &str) -> Option<Value> {
    let (mut codes, mut signals) = (Vec::new(), Vec::new());
    for word in text.split_whitespace() {
        match word.parse::<u8>() {
            Ok(code) => codes.push(code.into()),
            Err(_) => signals.push(word.parse::<Signal>().ok()? as i32),
        }
    }
    (!codes.is_empty() || !signals.is_empty()).then_some(Value::Statuses(codes, signals))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(text: &str) -> Vec<(String, Value)> {
        let read = read(text).unwrap_or_else(|error| panic!("{text}: {error}"));
        read.into_iter().map(|property| (property.name, property.value)).collect()
    }

    #[test]
    fn values_are_read_as_a_unit_file_has_them() {
        let text = |text: &str| Value::Text(text.to_owned());
        let words =
            |words: &[&str]| Value::Texts(words.iter().map(|it| (*it).to_owned()).collect());
        let table = [
            ("Restart=on-failure", "Restart", text("on-failure")),
            ("RestartSec=1min 30s", "RestartUSec", Value::Long(90_000_000)),
            ("TimeoutStartSec=infinity", "TimeoutStartUSec", Value::Long(u64::MAX)),
            ("TimeoutStopSec=90", "TimeoutStopUSec", Value::Long(90_000_000)),
            ("RestartSec=250ms", "RestartUSec", Value::Long(250_000)),
            ("After=a.service  b.service", "After", words(&["a.service", "b.service"])),
            ("MemoryMax=512M", "MemoryMax", Value::Long(512 << 20)),
            ("MemoryMax=50%", "MemoryMaxScale", Value::Unsigned(u32::MAX / 2)),
            ("TasksMax=infinity", "TasksMax", Value::Long(u64::MAX)),
            ("CPUQuota=150%", "CPUQuotaPerSecUSec", Value::Long(1_500_000)),
            ("CPUQuota=12.5%", "CPUQuotaPerSecUSec", Value::Long(125_000)),
            ("AllowedCPUs=0-1,3", "AllowedCPUs", Value::Mask(vec![0b1011])),
            ("OOMScoreAdjust=-500", "OOMScoreAdjust", Value::Int(-500)),
            ("IOAccounting=yes", "IOAccounting", Value::Bool(true)),
            (
                "SuccessExitStatus=143 SIGKILL",
                "SuccessExitStatus",
                Value::Statuses(vec![143], vec![9]),
            ),
            (
                "LogExtraFields=TEAM=web",
                "LogExtraFields",
                Value::Fields(vec!["TEAM=web".to_owned()]),
            ),
        ];
        for (asked, name, value) in table {
            assert_eq!(values(asked), [(name.to_owned(), value)], "{asked}");
        }
        let limit = values("LimitNOFILE=1024:4096");
        assert_eq!(limit[0], ("LimitNOFILE".to_owned(), Value::Long(4096)));
        assert_eq!(limit[1], ("LimitNOFILESoft".to_owned(), Value::Long(1024)));
    }

    #[test]
    fn what_is_not_understood_is_refused_and_says_what_it_takes() {
        let wrong = [
            "Restart",
            "Restart=",
            "RestartSec=soon",
            "RestartSec=-1",
            "RestartSec=3 parsecs",
            "MemoryMax=much",
            "MemoryMax=101%",
            "MemoryMax=18446744073709551615K",
            "TasksMax=1K",
            "CPUQuota=2",
            "CPUQuota=0%",
            "CPUWeight=0",
            "CPUWeight=10001",
            "AllowedCPUs=3-1",
            "LimitNOFILE=5:4",
            "LogExtraFields=team=web",
            "LogExtraFields=POD_UUID=1",
            "SuccessExitStatus=256",
            "IOReadBandwidthMax=sda 1M",
            "Description=two\nlines",
            "Description=end\\",
            "LoadCredential=a/b:/c",
            "IOAccounting=perhaps",
        ];
        for text in wrong {
            let error = read(text).expect_err(text);
            assert_eq!(error.code(), "usage", "{text}");
        }
        assert!(read(&format!("Description={}", "x".repeat(5000))).is_err());
    }

    #[test]
    fn what_would_break_a_pod_is_refused_with_the_way_out() {
        let breaking = [
            "KillMode=process",
            "Type=forking",
            "User=nobody",
            "Delegate=no",
            "ExecStart=/bin/true",
            "ExecStartPre=/bin/true",
            "ProtectSystem=strict",
            "PrivateTmp=yes",
            "Environment=A=b",
            "RestrictNamespaces=yes",
            "OOMPolicy=stop",
            "StandardOutput=null",
            "DevicePolicy=closed",
            "NoNewPrivileges=yes",
            "SetCredential=a:b",
            "SystemCallFilter=@basic-io",
        ];
        for text in breaking {
            let error = read(text).expect_err(text);
            assert!(error.to_string().contains("would break a pod: "), "{text}: {error}");
            assert_eq!(error.report().hints.len(), 1, "{text}");
        }
        let error = read("restart=always").unwrap_err();
        assert_eq!(error.report().hints, ["did you mean `Restart`?"]);
        let error = read("MemroyMax=1G").unwrap_err();
        assert!(error.report().hints[0].contains("drop-in"), "{error}");
    }
}
