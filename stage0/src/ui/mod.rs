//! The only writer to the terminal: results to standard output, all else to standard error.
//!
//! Text, tables and JSON are made here and nowhere else, so that what scripts read has one shape.
//! A reader that goes away is no error of ours: the command ends quietly.

mod counted;
mod progress;
mod template;

use std::fmt::{Display, Write as _};
use std::io::{self, Write};

use pod_abi::Report;
use serde::Serialize;

use crate::error::{CommandError, Kind, Result};

pub(crate) use counted::counted;
pub(crate) use progress::{Progress, Telling};
pub(crate) use template::{Row as TemplateRow, Template};

/// The form of what is listed or shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Format {
    /// Columns for people.
    #[default]
    Table,
    /// One JSON document.
    Json,
}

/// Writes a result.
///
/// # Errors
///
/// The quiet one if the reader has gone; `output.write` for a full disk and the like.
pub(crate) fn out(text: &str) -> Result<()> {
    bytes_out(text.as_bytes())
}

/// Writes a result that need not be text.
///
/// # Errors
///
/// As [`out`].
pub(crate) fn bytes_out(bytes: &[u8]) -> Result<()> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(bytes).and_then(|()| stdout.flush()).map_err(|error| match error.kind() {
        io::ErrorKind::BrokenPipe => CommandError::output_closed(),
        _ => CommandError::new("output.write", "cannot write to standard output").because(&error),
    })
}

/// Writes a result as one JSON document.
///
/// # Errors
///
/// As [`out`].
pub(crate) fn json<T: Serialize>(value: &T) -> Result<()> {
    let mut text = serde_json::to_string_pretty(value)
        .map_err(|error| CommandError::of("internal.json", &error))?;
    text.push('\n');
    out(&text)
}

/// Writes one of several results as a JSON document on one line.
///
/// # Errors
///
/// As [`out`].
pub(crate) fn json_line<T: Serialize>(value: &T) -> Result<()> {
    let text =
        serde_json::to_string(value).map_err(|error| CommandError::of("internal.json", &error))?;
    out(&(text + "\n"))
}

/// Writes names or ids: one a line, or all as a JSON array.
///
/// # Errors
///
/// As [`out`].
pub(crate) fn words<W>(words: &[W], format: Format) -> Result<()>
where
    W: Display + Serialize,
{
    match format {
        Format::Json => json(&words),
        Format::Table => out(&words.iter().map(|word| format!("{word}\n")).collect::<String>()),
    }
}

/// Writes one line to standard error. That nobody reads it is no reason to stop.
pub(crate) fn note(line: &str) {
    bytes_note(format!("{line}\n").as_bytes());
}

/// Writes bytes to standard error as they are.
pub(crate) fn bytes_note(bytes: &[u8]) {
    let _ = io::stderr().lock().write_all(bytes); // nobody is left to tell
}

/// Prints an error: for people in lines, for programs as one object.
pub(crate) fn error(error: &CommandError, format: Format) {
    if error.kind() != Kind::OutputClosed {
        report(error.report(), format);
    }
}

/// Prints a report. Images and registries have their words in it, so nothing of it reaches a
/// terminal that could be a command to it.
pub(crate) fn report(report: &Report, format: Format) {
    let report = &report.clone().tamed();
    match format {
        Format::Table => bytes_note(lines(report).as_bytes()),
        Format::Json => {
            let text = serde_json::json!({ "error": report }).to_string();
            note(&text);
        }
    }
}

fn lines(report: &Report) -> String {
    let mut text = format!("error: {}\n", report.message);
    for cause in &report.causes {
        let _ = writeln!(text, "caused by: {cause}"); // a string takes everything
    }
    for hint in &report.hints {
        let _ = writeln!(text, "hint: {hint}"); // a string takes everything
    }
    text
}

/// Lays out rows under headings, columns as wide as their widest cell.
pub(crate) fn table(headings: &[&str], rows: &[Vec<String>]) -> String {
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count());
        cells.chain([headings[column].chars().count()]).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..headings.len()).map(width).collect();
    let mut text = String::new();
    let headings: Vec<String> = headings.iter().map(|&word| word.to_owned()).collect();
    for row in [&headings].into_iter().chain(rows) {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(&widths) {
            let _ = write!(line, "{cell:width$}  "); // a string takes everything
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

/// Writes a size for people, in powers of 1024.
pub(crate) fn size(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut tenths = bytes.saturating_mul(10);
    let mut unit = 0;
    while tenths >= 10_240 && unit + 1 < UNITS.len() {
        tenths /= 1024;
        unit += 1;
    }
    match unit {
        0 => format!("{bytes} B"),
        _ => format!("{}.{} {}", tenths / 10, tenths % 10, UNITS[unit]),
    }
}

/// Writes a span of time for people: its largest unit.
pub(crate) fn span(seconds: u64) -> String {
    match seconds {
        0..=119 => format!("{seconds}s"),
        120..=7_199 => format!("{}m", seconds / 60),
        7_200..=172_799 => format!("{}h", seconds / 3_600),
        _ => format!("{}d", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_is_a_line_each_for_message_causes_and_hints() {
        let mut report = Report::new("x.y", "cannot do `a`").hint("type `b`");
        report.causes.push("no".to_owned());
        assert_eq!(lines(&report), "error: cannot do `a`\ncaused by: no\nhint: type `b`\n");
    }

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let rows = vec![vec!["long".to_owned(), "b".to_owned()]];
        assert_eq!(table(&["A", "BB"], &rows), "A     BB\nlong  b\n");
    }

    #[test]
    fn sizes_and_spans_are_short() {
        let sizes: Vec<String> = [0, 1023, 1024, 1536, 5 << 30].map(size).into();
        assert_eq!(sizes, ["0 B", "1023 B", "1.0 KiB", "1.5 KiB", "5.0 GiB"]);
        let spans: Vec<String> = [5, 300, 7_200, 172_800].map(span).into();
        assert_eq!(spans, ["5s", "5m", "2h", "2d"]);
    }
}
