//! What happens to a pod, as entries of the journal. Pure.
//!
//! Each kind has an id of its own (`MESSAGE_ID`), by which `journalctl` and catalogs find it
//! whatever the text says. The ids are an interface and stand in `docs/logs.md`.

use pod_abi::exit::Ended;
use pod_abi::status::Event;
use pod_abi::{AppName, PodName};

use super::entry::{Entry, Writer};
use crate::summary;

/// Who writes it.
pub(super) const IDENTIFIER: &str = "pod";

/// The priority of what is as it should be (`syslog(3)`).
const INFO: u8 = 6;
/// The priority of what somebody should look at.
const WARNING: u8 = 4;
/// The priority of what is lost.
const ERROR: u8 = 3;

/// How an event is told.
struct Told {
    /// Its id.
    id: &'static str,
    /// The word for it.
    word: &'static str,
    priority: u8,
    text: String,
}

/// Writes the entry of an event.
pub(super) fn entry(writer: &Writer, pod: &PodName, event: &Event) -> Entry {
    let Told { id, word, priority, text } = told(pod, event);
    let mut entry = Entry::by(writer);
    entry.text("MESSAGE", &text);
    entry.text("PRIORITY", &priority.to_string());
    entry.text("SYSLOG_IDENTIFIER", IDENTIFIER);
    entry.text("MESSAGE_ID", id);
    entry.text("POD_EVENT", word);
    if let Some(app) = app(event) {
        entry.text("POD_APP", app.as_str());
    }
    match event {
        Event::PodEnded { code } => entry.text("EXIT_STATUS", &code.to_string()),
        Event::AppEnded { exit, .. } => entry.text("EXIT_STATUS", &exit.code().to_string()),
        _ => {}
    }
    entry
}

/// Writes the entry that tells that others did not reach the journal.
pub(super) fn lost(writer: &Writer, pod: &PodName, count: u64) -> Entry {
    let mut entry = Entry::by(writer);
    let text = format!(
        "{count} entries of pod {pod} did not reach the journal; what its apps wrote is in \
         `pod logs {pod}`"
    );
    entry.text("MESSAGE", &text);
    entry.text("PRIORITY", &WARNING.to_string());
    entry.text("SYSLOG_IDENTIFIER", IDENTIFIER);
    entry.text("MESSAGE_ID", "ee06051c8ddf49e5996f06dfc0fc703c");
    entry.text("POD_EVENT", "entries-lost");
    entry
}

/// Writes the entry that tells why machined does not know the pod.
pub(super) fn not_registered(writer: &Writer, pod: &PodName, why: &str) -> Entry {
    let mut entry = Entry::by(writer);
    let text = format!("pod {pod} is not in `machinectl list`: {why}");
    entry.text("MESSAGE", &text);
    entry.text("PRIORITY", &WARNING.to_string());
    entry.text("SYSLOG_IDENTIFIER", IDENTIFIER);
    entry.text("MESSAGE_ID", "5037bbba30bb40f6872b8b3c0da35aff");
    entry.text("POD_EVENT", "not-registered");
    entry
}

fn app(event: &Event) -> Option<&AppName> {
    match event {
        Event::AppStarted { app }
        | Event::AppEnded { app, .. }
        | Event::AppBackingOff { app, .. }
        | Event::AppReady { app }
        | Event::AppAdded { app }
        | Event::AppRemoved { app }
        | Event::AppOutOfMemory { app } => Some(app),
        Event::LimitsChanged { app } => app.as_ref(),
        _ => None,
    }
}

fn told(pod: &PodName, event: &Event) -> Told {
    let (id, word, priority, text) = match event {
        Event::PodStarted => {
            ("f34fee0e2d6d467a8f2fb1e7bef8b8cf", "pod-started", INFO, format!("pod {pod} starts"))
        }
        Event::PodReady => {
            ("0542c4c9a11044ef905fbe45a8304bab", "pod-ready", INFO, format!("pod {pod} is ready"))
        }
        Event::PodStopping => (
            "cd269a72ba0942b18ecfe1ddca4f3f3d",
            "pod-stopping",
            INFO,
            format!("pod {pod} is being stopped"),
        ),
        Event::PodEnded { code } => (
            "1d2ccee991304d43b7f6680811cd2348",
            "pod-ended",
            if *code == 0 { INFO } else { WARNING },
            format!("pod {pod} has ended with status {code}"),
        ),
        Event::PodPaused => {
            ("d9fd4d4e939e44028d0aa8f907f26517", "pod-paused", INFO, format!("pod {pod} is paused"))
        }
        Event::PodResumed => {
            ("fabe10419eeb44d3b8792b5a1cfe06f2", "pod-resumed", INFO, format!("pod {pod} goes on"))
        }
        Event::LimitsChanged { app } => (
            "c4061dd94aa748c2b8d8a7a5b262d61a",
            "limits-changed",
            INFO,
            match app {
                Some(app) => format!("limits of app {app} were changed"),
                None => format!("limits of pod {pod} were changed"),
            },
        ),
        Event::AppStarted { app } => {
            ("6a0c6d0d136a4036af3386d4911b7ef3", "app-started", INFO, format!("app {app} runs"))
        }
        Event::AppReady { app } => {
            ("e3623482799a4e428736f2b0f47fe279", "app-ready", INFO, format!("app {app} is ready"))
        }
        Event::AppEnded { app, exit } => (
            "770b5f941c954254af355df4aebaeb3d",
            "app-ended",
            match exit {
                Ended::Signaled { oom: true, .. } => ERROR,
                exit if exit.is_failure() => WARNING,
                _ => INFO,
            },
            format!("app {app} {}", summary::ended(*exit)),
        ),
        Event::AppBackingOff { app, delay_ms } => (
            "91cc173adab240d7aa1864bde736fd54",
            "app-backing-off",
            INFO,
            format!("app {app} is started again in {delay_ms} ms"),
        ),
        Event::AppOutOfMemory { app } => (
            "b511d7cfc4054e9baf314d0069d13616",
            "app-out-of-memory",
            ERROR,
            format!("app {app} ran out of memory, and the kernel killed processes of it"),
        ),
        Event::AppAdded { app } => (
            "54dc139c29fa43498db4973294129bb1",
            "app-added",
            INFO,
            format!("app {app} was added to pod {pod}"),
        ),
        Event::AppRemoved { app } => (
            "82cc6d5cf9054e6e8e2c15b815ab1156",
            "app-removed",
            INFO,
            format!("app {app} was removed from pod {pod}"),
        ),
    };
    Told { id, word, priority, text }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    use crate::requests::tests::order;

    #[test]
    fn every_kind_of_event_has_an_id_and_the_word_of_its_document() {
        let app = AppName::parse("web").unwrap();
        let exit = Ended::Signaled { signal: 9, oom: true };
        let events = [
            Event::PodStarted,
            Event::PodReady,
            Event::PodStopping,
            Event::PodEnded { code: 3 },
            Event::PodPaused,
            Event::PodResumed,
            Event::LimitsChanged { app: None },
            Event::AppStarted { app: app.clone() },
            Event::AppReady { app: app.clone() },
            Event::AppEnded { app: app.clone(), exit },
            Event::AppBackingOff { app: app.clone(), delay_ms: 1 },
            Event::AppOutOfMemory { app: app.clone() },
            Event::AppAdded { app: app.clone() },
            Event::AppRemoved { app },
        ];
        let document = include_str!("../../../../docs/logs.md");
        let mut ids = BTreeSet::new();
        for event in &events {
            let Told { id, word, .. } = told(&order().pod.name, event);
            assert!(ids.insert(id) && id.len() == 32, "{event:?}");
            let json = serde_json::to_string(event).unwrap();
            assert!(json.contains(&format!("\"{word}\"")), "{json}");
            assert!(document.contains(&format!("`{word}`")) && document.contains(id), "{word}");
        }
    }

    #[test]
    fn an_end_by_lack_of_memory_is_an_error_with_its_status() {
        let app = AppName::parse("web").unwrap();
        let exit = Ended::Signaled { signal: 9, oom: true };
        let pod = order().pod;
        let written = entry(&Writer::of_pod(&pod), &pod.name, &Event::AppEnded { app, exit });
        let text = String::from_utf8(written.finish()).unwrap();
        for line in [
            "MESSAGE=app web was killed: out of memory",
            "PRIORITY=3",
            "POD_APP=web",
            "EXIT_STATUS=137",
            "SYSLOG_IDENTIFIER=pod",
        ] {
            assert!(text.lines().any(|other| other == line), "{line}: {text}");
        }
    }
}
