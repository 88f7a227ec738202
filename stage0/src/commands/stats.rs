//! `pod stats`: what pods use, read again and again.
//!
//! The supervisors count; what the kernel does not count is a `-`, never a zero. The share of
//! processors is that of the time between two readings, in percent of one processor.

use std::collections::BTreeMap;
use std::io::IsTerminal as _;
use std::thread::sleep;
use std::time::Duration;

use pod_abi::control::{Reply, Request};
use pod_abi::phase::{Home, Phase};
use pod_abi::stats::{PodStats, Usage};
use pod_abi::{AppName, PodId, PodName, Timestamp};
use serde::Serialize;

use super::Session;
use super::subject::running;
use crate::cli::StatsArgs;
use crate::ending;
use crate::error::{CommandError, Result};
use crate::pods::{Entry, Pod, Query};
use crate::ui::{self, Format, Template, TemplateRow};

/// What one pod uses; `pod stats -o json` prints an array of these.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
struct PodRow {
    uuid: PodId,
    name: PodName,
    /// When it was read.
    time: Timestamp,
    /// Time on processors since the reading before, in percent of one processor.
    cpu_percent: Option<f64>,
    usage: Usage,
    apps: Vec<AppRow>,
}

/// What one app uses.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
struct AppRow {
    app: AppName,
    cpu_percent: Option<f64>,
    usage: Usage,
}

/// What `--format` can write, in the order of [`cells`]; docker's names beside ours.
const FIELDS: [&str; 11] = [
    "ID|Container",
    "Name",
    "App",
    "CPUPerc",
    "Memory",
    "MemLimit",
    "MemPerc",
    "PIDs",
    "MemUsage",
    "BlockIO",
    "Throttled",
];

/// Where among [`FIELDS`] the app stands.
const APP: usize = 2;

/// The columns of the table, each with its place among [`FIELDS`].
const COLUMNS: [(usize, &str); 9] = [
    (0, "ID"),
    (1, "NAME"),
    (APP, "APP"),
    (3, "CPU %"),
    (4, "MEMORY"),
    (5, "LIMIT"),
    (6, "MEM %"),
    (7, "PIDS"),
    (9, "READ / WRITTEN"),
];

/// Shows what pods use until it is interrupted, or until none of those named runs any more.
///
/// # Errors
///
/// `pod.not-found`, `pod.not-running`, `pod.unreachable`; usage for a template that is none.
pub(crate) fn stats(session: &Session, args: &StatsArgs) -> Result<u8> {
    let template = match args.format.as_deref() {
        None | Some("json") => None,
        Some(text) => Some(Template::parse(text, &FIELDS)?),
    };
    let json = session.context.format == Format::Json || args.format.as_deref() == Some("json");
    for word in &args.pods {
        running(session, word)?;
    }
    let shape = Shape {
        template,
        json,
        apps: args.apps,
        stream: !args.no_stream,
        redraw: !args.no_stream && !json && std::io::stdout().is_terminal(),
    };
    let mut before = read(session, args)?;
    loop {
        sleep(Duration::from_secs(args.interval));
        let now = read(session, args)?;
        if now.is_empty() && !args.pods.is_empty() {
            return Ok(0);
        }
        shape.show(&rows(&before, &now))?;
        if args.no_stream {
            return Ok(0);
        }
        before = now;
    }
}

/// What was read of each pod, by its id.
type Reading = BTreeMap<PodId, (PodName, PodStats)>;

/// Asks the supervisors of all pods there are to be asked; one that has ended is passed over.
fn read(session: &Session, args: &StatsArgs) -> Result<Reading> {
    let pods: Vec<Pod> = if args.pods.is_empty() {
        let mut pods = Vec::new();
        for entry in session.pods.list(Home::Run)? {
            if let Entry::Pod(pod) = entry? {
                pods.push(pod);
            }
        }
        pods
    } else {
        args.pods.iter().filter_map(|word| session.pods.find(&Query(word)).ok()).collect()
    };
    let mut reading = Reading::new();
    for pod in pods.into_iter().filter(|pod| pod.phase() == Phase::Running) {
        match ask(session, &pod) {
            Ok(Some(read)) => {
                reading.insert(pod.id.clone(), read);
            }
            Ok(None) => {}
            // It may be beginning or ending; only who was named is missed.
            Err(_) if args.pods.is_empty() || pod.phase() != Phase::Running => {}
            Err(error) => return Err(error),
        }
    }
    Ok(reading)
}

/// Asks one; it may end, and be removed, at any moment of it.
fn ask(session: &Session, pod: &Pod) -> Result<Option<(PodName, PodStats)>> {
    let Some(mut connection) = ending::connect(session.run_root(), pod)? else { return Ok(None) };
    match connection.ask(&Request::Stats)? {
        Reply::Stats(stats) => Ok(Some((pod.manifest()?.name, *stats))),
        _ => Ok(None),
    }
}

/// Makes rows of two readings, by the names of pods.
fn rows(before: &Reading, now: &Reading) -> Vec<PodRow> {
    let mut rows: Vec<PodRow> = now
        .iter()
        .map(|(id, (name, stats))| {
            let earlier = before.get(id).map(|(_, stats)| stats);
            let microseconds =
                earlier.map_or(0, |earlier| stats.time.0.saturating_sub(earlier.time.0) / 1_000);
            let of_app = |app: &AppName| {
                let mut apps = earlier.into_iter().flat_map(|earlier| &earlier.apps);
                apps.find(|known| known.app == *app).map(|known| &known.usage)
            };
            PodRow {
                uuid: id.clone(),
                name: name.clone(),
                time: stats.time,
                cpu_percent: percent(earlier.map(|it| &it.pod), &stats.pod, microseconds),
                usage: stats.pod.clone(),
                apps: stats
                    .apps
                    .iter()
                    .map(|app| AppRow {
                        app: app.app.clone(),
                        cpu_percent: percent(of_app(&app.app), &app.usage, microseconds),
                        usage: app.usage.clone(),
                    })
                    .collect(),
            }
        })
        .collect();
    rows.sort_by(|a, b| (&a.name, &a.uuid).cmp(&(&b.name, &b.uuid)));
    rows
}

/// Returns the share of `microseconds` on processors, in percent, hundredths at most. A count that
/// went back is that of another cgroup: the pod was started anew.
fn percent(before: Option<&Usage>, now: &Usage, microseconds: u64) -> Option<f64> {
    let used = now.cpu_us?.checked_sub(before?.cpu_us?)?;
    (microseconds > 0).then(|| {
        let hundredths = u128::from(used) * 10_000 / u128::from(microseconds);
        f64::from(u32::try_from(hundredths).unwrap_or(u32::MAX)) / 100.0
    })
}

/// How readings are written.
#[derive(Debug)]
struct Shape {
    template: Option<Template>,
    json: bool,
    apps: bool,
    stream: bool,
    /// Whether each takes the place of the one before.
    redraw: bool,
}

impl Shape {
    fn show(&self, rows: &[PodRow]) -> Result<()> {
        if self.json {
            return if self.stream { ui::json_line(&rows) } else { ui::json(&rows) };
        }
        let text = self.text(rows)?;
        ui::out(&if self.redraw { redrawn(&text) } else { text })
    }

    fn text(&self, rows: &[PodRow]) -> Result<String> {
        let mut lines = Vec::new();
        for row in rows {
            lines.push(line(row, None)?);
            for app in row.apps.iter().filter(|_| self.apps) {
                lines.push(line(row, Some(app))?);
            }
        }
        if let Some(template) = &self.template {
            return Ok(template.render(&FIELDS, &lines));
        }
        let columns = COLUMNS.iter().filter(|(at, _)| self.apps || *at != APP);
        let headings: Vec<&str> = columns.clone().map(|(_, heading)| *heading).collect();
        let cut = |line: &TemplateRow| -> Vec<String> {
            columns.clone().map(|(at, _)| line.cells[*at].clone()).collect()
        };
        Ok(ui::table(&headings, &lines.iter().map(cut).collect::<Vec<_>>()))
    }
}

/// Writes over what stands on a terminal: from its upper left corner on, each line to its end, and
/// nothing beneath.
fn redrawn(text: &str) -> String {
    format!("\u{1b}[H{}\u{1b}[J", text.replace('\n', "\u{1b}[K\n"))
}

fn line(row: &PodRow, app: Option<&AppRow>) -> Result<TemplateRow> {
    let (usage, cpu) =
        app.map_or((&row.usage, row.cpu_percent), |app| (&app.usage, app.cpu_percent));
    let whole = match app {
        None => serde_json::to_value(row),
        Some(app) => serde_json::to_value(app),
    };
    let whole = whole.map_err(|error| CommandError::of("internal.json", &error))?;
    let name = app.map_or("-", |app| app.app.as_str()).to_owned();
    let mut cells = vec![row.uuid.short().to_owned(), row.name.to_string(), name];
    cells.extend(counts(usage, cpu));
    Ok(TemplateRow { cells, whole })
}

fn counts(usage: &Usage, cpu: Option<f64>) -> [String; 8] {
    let size = |bytes: Option<u64>| bytes.map_or("-".to_owned(), ui::size);
    let share = |share: Option<f64>| share.map_or("-".to_owned(), |it| format!("{it:.2}%"));
    let of_limit = usage.memory.zip(usage.memory_max.filter(|most| *most > 0));
    let memory = of_limit.map(|(now, most)| {
        let hundredths = u128::from(now) * 10_000 / u128::from(most);
        f64::from(u32::try_from(hundredths).unwrap_or(u32::MAX)) / 100.0
    });
    let (now, most) = (size(usage.memory), size(usage.memory_max));
    let throttled = usage.throttled_us.map(|us| format!("{}ms", us / 1_000));
    [
        share(cpu),
        now.clone(),
        most.clone(),
        share(memory),
        usage.pids.map_or("-".to_owned(), |pids| pids.to_string()),
        format!("{now} / {most}"),
        format!("{} / {}", size(usage.read_bytes), size(usage.write_bytes)),
        throttled.unwrap_or_else(|| "-".to_owned()),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use pod_abi::stats::AppUsage;

    fn reading(seconds: u64, cpu_us: Option<u64>) -> Reading {
        let usage = Usage {
            cpu_us,
            memory: Some(1 << 20),
            memory_max: Some(4 << 20),
            pids: Some(3),
            read_bytes: Some(4096),
            ..Usage::default()
        };
        let apps = vec![AppUsage { app: AppName::parse("web").unwrap(), usage: Usage::default() }];
        let stats = PodStats { time: Timestamp(seconds * 1_000_000_000), pod: usage, apps };
        let id = PodId::parse("0123abcd-0000-4000-8000-000000000000").unwrap();
        Reading::from([(id, (PodName::parse("shop").unwrap(), stats))])
    }

    #[test]
    fn the_share_of_processors_is_of_the_time_between_two_readings() {
        let share = |before, now| rows(&before, &now)[0].cpu_percent;
        let at = |seconds, us| reading(seconds, Some(us));
        assert_eq!(share(at(1, 0), at(3, 1_000_000)), Some(50.0));
        assert_eq!(share(at(1, 0), at(2, 2_500_000)), Some(250.0));
        assert_eq!(share(at(1, 9), at(2, 3)), None); // started anew
        assert_eq!(share(at(2, 0), at(1, 9)), None); // the clock was set back
        assert_eq!(share(Reading::new(), at(1, 9)), None);
        assert_eq!(share(reading(1, None), reading(2, None)), None);
    }

    #[test]
    fn what_is_not_counted_is_a_dash() {
        let rows = rows(&reading(1, Some(0)), &reading(2, Some(10_000)));
        let shape =
            |apps| Shape { template: None, json: false, apps, stream: false, redraw: false };
        assert_eq!(
            shape(false).text(&rows).unwrap(),
            "ID        NAME  CPU %  MEMORY   LIMIT    MEM %   PIDS  READ / WRITTEN\n\
             0123abcd  shop  1.00%  1.0 MiB  4.0 MiB  25.00%  3     4.0 KiB / -\n"
        );
        let text = shape(true).text(&rows).unwrap();
        let last: Vec<&str> = text.lines().last().unwrap().split_whitespace().collect();
        assert_eq!(last, ["0123abcd", "shop", "web", "-", "-", "-", "-", "-", "-", "/", "-"]);
    }

    #[test]
    fn a_terminal_is_drawn_over() {
        assert_eq!(redrawn("a\nb\n"), "\u{1b}[Ha\u{1b}[K\nb\u{1b}[K\n\u{1b}[J");
    }
}
