//! `pod logs`: what the apps of a pod have written, and write.

use std::borrow::Cow;

use pod_abi::AppName;
use serde::Serialize;

use super::Session;
use super::subject::named;
use crate::cli::{ALL_LINES, LogsArgs};
use crate::error::Result;
use crate::logs::{self, Line, Selection, Stream};
use crate::pods::Query;
use crate::ui::{self, Format};

/// Shows logs.
///
/// # Errors
///
/// `pod.not-found`, `app.not-found`, or `storage`.
pub(crate) fn logs(session: &Session, args: &LogsArgs) -> Result<u8> {
    let pod = session.pods.find(&Query(&args.pod))?;
    let manifest = pod.manifest()?;
    let apps = match args.app.as_ref().or(args.of_app.as_ref()) {
        None => manifest.sandbox.apps,
        Some(word) => vec![named(&pod, word, &manifest.sandbox.apps)?.clone()],
    };
    let ended = if args.follow { Some(pod.released()?) } else { None };
    let selection =
        Selection { span: args.span, last: args.tail.filter(|lines| *lines != ALL_LINES) };
    let mut printer =
        Printer { apps: &apps, times: args.timestamps, mid_line: vec![false; apps.len()] };
    logs::stream(
        &pod,
        &apps,
        selection,
        ended.as_ref(),
        &mut |line| match session.context.format {
            Format::Json => ui::json_line(&Written::of(&line, &apps)),
            Format::Table => printer.print(&line),
        },
    )?;
    Ok(0)
}

/// One line; `pod logs -o json` prints one object of these a line, all to standard output.
#[derive(Debug, Serialize)]
struct Written<'l> {
    time: &'l str,
    app: &'l AppName,
    stream: &'static str,
    /// Whether the line goes on in the app's next object.
    partial: bool,
    /// What was written; what is not UTF-8 is replaced.
    text: Cow<'l, str>,
}

impl<'l> Written<'l> {
    fn of(line: &'l Line, apps: &'l [AppName]) -> Self {
        Self {
            time: &line.time,
            app: &apps[line.app],
            stream: match line.stream {
                Stream::Stdout => "stdout",
                Stream::Stderr => "stderr",
            },
            partial: line.part,
            text: String::from_utf8_lossy(&line.text),
        }
    }
}

/// Writes lines to where the apps wrote them, under the app's name if there are several.
struct Printer<'a> {
    apps: &'a [AppName],
    times: bool,
    mid_line: Vec<bool>,
}

impl Printer<'_> {
    fn print(&mut self, line: &Line) -> Result<()> {
        let mut bytes = Vec::new();
        let begins = !self.mid_line[line.app];
        if self.times && begins {
            bytes.extend_from_slice(format!("{} ", line.time).as_bytes());
        }
        if self.apps.len() > 1 && begins {
            bytes.extend_from_slice(format!("{} | ", self.apps[line.app]).as_bytes());
        }
        bytes.extend_from_slice(&line.text);
        // Several apps may write parts of lines in turn; then parts end in line ends as well.
        let ends = !line.part || self.apps.len() > 1;
        if ends {
            bytes.push(b'\n');
        }
        self.mid_line[line.app] = !ends;
        match line.stream {
            Stream::Stdout => ui::bytes_out(&bytes),
            Stream::Stderr => {
                ui::bytes_note(&bytes);
                Ok(())
            }
        }
    }
}
