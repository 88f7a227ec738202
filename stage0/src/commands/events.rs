//! `pod events`: what has happened to pods, and what happens.
//!
//! The histories of all pods, in the order of time. Following, nothing is polled: the kernel tells
//! when a history grows and when a pod comes or goes. A history is held open, so that what a pod
//! records on its way out is still read when it has been removed.

use std::collections::{BTreeMap, BTreeSet};

use pod_abi::exit::Ended;
use pod_abi::phase::Home;
use pod_abi::status::EventRecord;
use pod_abi::{PodId, PodName, Timestamp};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{Resource, getrlimit, setrlimit};
use serde::Serialize;
use serde_json::{Map, Value};

use super::Session;
use crate::cli::EventsArgs;
use crate::error::{CommandError, Context as _, Result};
use crate::history::History;
use crate::host;
use crate::pods::{Entry, Pod, Query, Watch};
use crate::ui::{self, Format};

/// What an event may be: what the histories of pods record, and what is told of the pods
/// themselves.
const KINDS: [&str; 16] = [
    CREATED,
    "pod-started",
    "pod-ready",
    "pod-stopping",
    "pod-ended",
    "pod-paused",
    "pod-resumed",
    REMOVED,
    "app-started",
    "app-ready",
    "app-ended",
    "app-backing-off",
    "app-added",
    "app-removed",
    "app-out-of-memory",
    "limits-changed",
];
const CREATED: &str = "pod-created";
const REMOVED: &str = "pod-removed";

/// One event; `pod events -o json` prints one object of these a line.
#[derive(Clone, Debug, PartialEq, Serialize)]
struct Happened {
    time: Timestamp,
    pod: PodId,
    name: Option<PodName>,
    /// Which start of the pod; none if it is about the pod itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    attempt: Option<u32>,
    event: String,
    /// What belongs to the event.
    #[serde(flatten)]
    details: Map<String, Value>,
}

/// Shows events.
///
/// # Errors
///
/// `pod.not-found`, usage, or `storage`.
pub(crate) fn events(session: &Session, args: &EventsArgs) -> Result<u8> {
    let filter = Filter::read(&args.filter)?;
    let mut feed = Feed { session, only: None, tracked: BTreeMap::new() };
    if !args.pods.is_empty() {
        let ids: Result<_> = args
            .pods
            .iter()
            .map(|word| session.pods.find(&Query(word)).map(|pod| pod.id))
            .collect();
        feed.only = Some(ids?);
    }
    let show = |happened: Vec<Told>, all: bool| -> Result<()> {
        let mut wanted = happened.iter().filter(|told| {
            all && args.span.holds(told.happened.time) && filter.takes(&told.happened, &told.labels)
        });
        wanted.try_for_each(|told| show(&told.happened, session.context.format))
    };
    if !args.follow {
        return show(feed.past()?, true).map(|()| 0);
    }
    let watch = Watch::new()?;
    allow_descriptors();
    for home in [Home::Prepare, Home::Prepared, Home::Run, Home::ExitedGarbage, Home::Garbage] {
        watch.home(&session.pods, home)?;
    }
    show(feed.look(&watch)?, args.span.since.is_some())?;
    while feed.goes_on() {
        let mut fds = [PollFd::new(&watch, PollFlags::IN)];
        match poll(&mut fds, None) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error).context(|| "cannot wait for events".to_owned()),
        }
        watch.settle();
        show(feed.look(&watch)?, true)?;
    }
    Ok(0)
}

/// Following takes two descriptors a pod, and a host may have more pods than the usual limit.
fn allow_descriptors() {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    let _ = setrlimit(Resource::Nofile, limit); // then fewer pods can be followed, which is told
}

/// Something that happened, and the labels of whom it happened to.
struct Told {
    happened: Happened,
    labels: BTreeMap<String, String>,
}

/// The pods whose events are shown.
struct Feed<'s> {
    session: &'s Session,
    /// Those asked for; all if none.
    only: Option<BTreeSet<PodId>>,
    tracked: BTreeMap<PodId, Tracked>,
}

/// A pod and how far its history was read.
struct Tracked {
    pod: Pod,
    history: Option<History>,
    announced: bool,
}

impl Feed<'_> {
    /// Returns everything recorded of all pods, reading one after the other.
    fn past(&mut self) -> Result<Vec<Told>> {
        let mut told = Vec::new();
        for home in Home::ALL {
            for entry in self.session.pods.list(home)? {
                let Entry::Pod(pod) = entry? else { continue };
                if self.only.as_ref().is_none_or(|only| only.contains(&pod.id)) {
                    told.extend(Tracked::new(pod).news());
                }
            }
        }
        told.sort_by_key(|told| told.happened.time);
        Ok(told)
    }

    /// Returns what has happened since the last look. Pods that have come are watched as well.
    fn look(&mut self, watch: &Watch) -> Result<Vec<Told>> {
        let mut there = BTreeSet::new();
        for home in [Home::Prepare, Home::Prepared, Home::Run] {
            for entry in self.session.pods.list(home)? {
                let Entry::Pod(pod) = entry? else { continue };
                there.insert(pod.id.clone());
                let wanted = self.only.as_ref().is_none_or(|only| only.contains(&pod.id));
                if wanted && !self.tracked.contains_key(&pod.id) {
                    watch.pod(&pod)?;
                    self.tracked.insert(pod.id.clone(), Tracked::new(pod));
                }
            }
        }
        let mut told: Vec<Told> = self.tracked.values_mut().flat_map(Tracked::news).collect();
        let gone: Vec<PodId> =
            self.tracked.keys().filter(|id| !there.contains(*id)).cloned().collect();
        for id in gone {
            // A pod that moved while we listed is met by the next look.
            if self.session.pods.open_id(&id)?.is_some_and(|pod| pod.home < Home::ExitedGarbage) {
                continue;
            }
            if let Some(mut tracked) = self.tracked.remove(&id) {
                told.extend(tracked.news());
                told.push(tracked.tell(host::now(), REMOVED));
            }
        }
        told.sort_by_key(|told| told.happened.time);
        Ok(told)
    }

    /// Tells whether anything more can come.
    fn goes_on(&self) -> bool {
        self.only.is_none() || !self.tracked.is_empty()
    }
}

impl Tracked {
    fn new(pod: Pod) -> Self {
        Self { pod, history: None, announced: false }
    }

    fn news(&mut self) -> Vec<Told> {
        let mut told = Vec::new();
        // One that is just being laid out has no manifest yet.
        if !self.announced
            && let Ok(manifest) = self.pod.manifest()
        {
            self.announced = true;
            told.push(self.tell(manifest.created, CREATED));
        }
        if self.history.is_none() {
            self.history = History::open(&self.pod);
        }
        let records = self.history.as_mut().map(History::news).unwrap_or_default();
        told.extend(records.into_iter().map(|record| self.told(&record)));
        told
    }

    fn tell(&self, time: Timestamp, event: &str) -> Told {
        let (name, labels) = self.known();
        let (pod, details) = (self.pod.id.clone(), Map::new());
        let happened =
            Happened { time, pod, name, attempt: None, event: event.to_owned(), details };
        Told { happened, labels }
    }

    fn told(&self, record: &EventRecord) -> Told {
        let (event, details) = taken_apart(record);
        let mut told = self.tell(record.time, &event);
        told.happened.attempt = Some(record.attempt);
        told.happened.details = details;
        told
    }

    fn known(&self) -> (Option<PodName>, BTreeMap<String, String>) {
        self.pod.manifest().map_or((None, BTreeMap::new()), |manifest| {
            (Some(manifest.name), manifest.sandbox.labels)
        })
    }
}

/// Returns the kind of an event and its fields: `{"pod-ended": {"code": 0}}` taken apart.
fn taken_apart(record: &EventRecord) -> (String, Map<String, Value>) {
    match serde_json::to_value(&record.event) {
        Ok(Value::String(kind)) => (kind, Map::new()),
        Ok(Value::Object(object)) => match object.into_iter().next() {
            Some((kind, Value::Object(fields))) => (kind, fields),
            Some((kind, _)) => (kind, Map::new()),
            None => (String::new(), Map::new()),
        },
        _ => (String::new(), Map::new()),
    }
}

fn show(happened: &Happened, format: Format) -> Result<()> {
    match format {
        Format::Json => ui::json_line(happened),
        Format::Table => ui::out(&line(happened)),
    }
}

fn line(happened: &Happened) -> String {
    let Happened { time, pod, name, event, details, .. } = happened;
    let name = name.as_ref().map_or_else(|| pod.short(), PodName::as_str);
    let mut line = format!("{time} {name} {event}");
    for (key, value) in details {
        let exit = serde_json::from_value::<Ended>(value.clone()).ok().filter(|_| key == "exit");
        match (exit, value) {
            (Some(Ended::Exited { code }), _) => line.push_str(&format!(" code={code}")),
            (Some(Ended::NotStarted { code }), _) => {
                line.push_str(&format!(" not-started code={code}"));
            }
            (Some(Ended::Signaled { signal, oom }), _) => {
                line.push_str(&format!(" signal={signal}{}", if oom { " oom" } else { "" }));
            }
            (None, Value::String(text)) => line.push_str(&format!(" {key}={text}")),
            (None, other) => line.push_str(&format!(" {key}={other}")),
        }
    }
    line + "\n"
}

/// Which events are shown: of each kind of condition one must hold.
#[derive(Debug, Default)]
struct Filter {
    events: Vec<String>,
    apps: Vec<String>,
    pods: Vec<String>,
    labels: Vec<(String, Option<String>)>,
}

impl Filter {
    fn read(words: &[String]) -> Result<Self> {
        let mut filter = Self::default();
        for word in words {
            match word.split_once('=') {
                Some(("event", kind)) if KINDS.contains(&kind) => {
                    filter.events.push(kind.to_owned());
                }
                Some(("event", kind)) => {
                    return Err(CommandError::usage(format!("`{kind}` is no event"))
                        .hint(format!("there are `{}`", KINDS.join("`, `"))));
                }
                Some(("app", app)) => filter.apps.push(app.to_owned()),
                Some(("pod", pod)) => filter.pods.push(pod.to_owned()),
                Some(("label", label)) => filter.labels.push(match label.split_once('=') {
                    Some((key, value)) => (key.to_owned(), Some(value.to_owned())),
                    None => (label.to_owned(), None),
                }),
                _ => {
                    return Err(CommandError::usage(format!("`{word}` is no value of `--filter`"))
                        .hint(
                            "it takes `event=KIND`, `app=NAME`, `pod=NAME`, `label=KEY[=VALUE]`",
                        ));
                }
            }
        }
        Ok(filter)
    }

    fn takes(&self, happened: &Happened, labels: &BTreeMap<String, String>) -> bool {
        let one_of = |words: &[String], found: &dyn Fn(&str) -> bool| {
            words.is_empty() || words.iter().any(|word| found(word))
        };
        let app = happened.details.get("app").and_then(Value::as_str);
        let name = happened.name.as_ref().map(PodName::as_str);
        let labelled = |(key, value): &(String, Option<String>)| {
            labels.get(key).is_some_and(|has| value.as_ref().is_none_or(|value| value == has))
        };
        one_of(&self.events, &|kind| kind == happened.event)
            && one_of(&self.apps, &|word| app == Some(word))
            && one_of(&self.pods, &|word| {
                name == Some(word) || (!word.is_empty() && happened.pod.as_str().starts_with(word))
            })
            && (self.labels.is_empty() || self.labels.iter().any(labelled))
    }
}

#[cfg(test)]
mod tests {
    use pod_abi::AppName;
    use pod_abi::status::Event;

    use super::*;

    fn happened(event: &str) -> Happened {
        let record =
            format!("{{\"time\":\"2026-01-01T00:00:00Z\",\"attempt\":2,\"event\":{event}}}");
        let record: EventRecord = serde_json::from_str(&record).unwrap();
        let (event, details) = taken_apart(&record);
        Happened {
            time: record.time,
            pod: PodId::from_random([0xab; 16]),
            name: PodName::parse("shop").ok(),
            attempt: Some(record.attempt),
            event,
            details,
        }
    }

    const ENDED: &str =
        r#"{"app-ended":{"app":"web","exit":{"signaled":{"signal":9,"oom":true}}}}"#;

    #[test]
    fn an_event_is_a_line_of_words_or_of_json() {
        let text = line(&happened(ENDED));
        assert_eq!(text, "2026-01-01T00:00:00.000000000Z shop app-ended app=web signal=9 oom\n");
        assert!(line(&happened("\"pod-ready\"")).ends_with(" shop pod-ready\n"));
        let json = serde_json::to_value(happened(r#"{"pod-ended":{"code":3}}"#)).unwrap();
        assert_eq!((&json["event"], &json["code"]), (&"pod-ended".into(), &3.into()));
        assert_eq!((&json["name"], &json["attempt"]), (&"shop".into(), &2.into()));
    }

    #[test]
    fn every_event_of_a_history_can_be_asked_for() {
        // A variant that is added does not compile until it has its place here.
        let known = |event: &Event| match event {
            Event::PodStarted
            | Event::PodReady
            | Event::PodStopping
            | Event::PodEnded { .. }
            | Event::AppStarted { .. }
            | Event::AppReady { .. }
            | Event::AppEnded { .. }
            | Event::AppBackingOff { .. }
            | Event::AppAdded { .. }
            | Event::AppRemoved { .. }
            | Event::PodPaused
            | Event::PodResumed
            | Event::LimitsChanged { .. }
            | Event::AppOutOfMemory { .. } => 14,
        };
        let app = || AppName::parse("web").unwrap();
        let events = [
            Event::PodStarted,
            Event::PodReady,
            Event::PodStopping,
            Event::PodEnded { code: 0 },
            Event::AppStarted { app: app() },
            Event::AppReady { app: app() },
            Event::AppEnded { app: app(), exit: Ended::Exited { code: 0 } },
            Event::AppBackingOff { app: app(), delay_ms: 1 },
            Event::AppAdded { app: app() },
            Event::AppRemoved { app: app() },
            Event::PodPaused,
            Event::PodResumed,
            Event::LimitsChanged { app: None },
            Event::AppOutOfMemory { app: app() },
        ];
        for event in &events {
            assert_eq!(known(event), events.len());
            let event = serde_json::to_string(event).unwrap();
            let event = happened(&event).event;
            assert!(KINDS.contains(&event.as_str()), "{event}");
        }
        assert_eq!(KINDS.len(), events.len() + 2);
        let error = Filter::read(&["event=pod-died".to_owned()]).unwrap_err();
        assert_eq!(error.to_string(), "`pod-died` is no event");
    }

    #[test]
    fn of_each_kind_of_condition_one_must_hold() {
        let labels = BTreeMap::from([("tier".to_owned(), "front".to_owned())]);
        let takes = |words: &[&str]| {
            let words: Vec<String> = words.iter().map(|&word| word.to_owned()).collect();
            Filter::read(&words).unwrap().takes(&happened(ENDED), &labels)
        };
        for yes in [
            &[][..],
            &["event=app-ended"],
            &["event=pod-ready", "event=app-ended", "app=web"],
            &["pod=shop"],
            &["pod=abab"],
            &["label=tier"],
            &["label=tier=front"],
        ] {
            assert!(takes(yes), "{yes:?}");
        }
        for no in [&["event=pod-ready"][..], &["app=db"], &["label=tier=back"], &["pod="]] {
            assert!(!takes(no), "{no:?}");
        }
        assert!(Filter::read(&["color=red".to_owned()]).is_err());
    }
}
