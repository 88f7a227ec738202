//! Showing how far a fetch is, a push, or the making of disk images: bars on a terminal, lines
//! where nobody looks, JSON for programs.
//!
//! On a terminal every layer has one line, redrawn at most ten times a second and gone at the end.
//! Otherwise a layer has a line at its begin and its end, and one in between every few seconds, so
//! that a log shows life and stays short. As JSON every event is one object on one line:
//!
//! | `event` | further fields |
//! |---|---|
//! | `resolving` | `reference` |
//! | `manifest` | `digest`, `layers`: how many |
//! | `layer-exists` | `layer` |
//! | `layer-started` | `layer`, `size` in bytes, compressed |
//! | `layer-resumed` | `layer`, `done`: bytes an earlier fetch has left |
//! | `layer-progress` | `layer`, `done`, `size`; at most one a second for a layer |
//! | `layer-done` | `layer`, `size` |
//! | `image-started` | `layer`, here of its content, `size` in bytes of the disk image being made |
//! | `image-progress` | `layer`, `done`, `size`, as above |
//! | `image-done` | `layer`, `size` |
//! | `check-started`, `check-done` | `layer`, which is compared with what it came as, and its `size` |
//! | `sending` | `reference`: what an image is to be at a registry |
//! | `send-started` | `layer`, or the configuration, and its `size` in bytes |
//! | `send-progress` | `layer`, `done`, `size`, as above |
//! | `send-done` | `layer`, `size` |
//! | `send-spared` | `layer`, which the registry had |
//! | `committing` | `layers`: how many |
//! | `done` | `digest` of the manifest |

use std::collections::BTreeMap;
use std::io::{IsTerminal as _, stderr};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use images::Event;
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use pod_abi::Digest;
use serde_json::{Value, json};

use super::{Format, note, size};

/// How long a layer may go without a line in a log.
const HEARTBEAT: Duration = Duration::from_secs(5);
/// How long a layer may go without a line of JSON.
const PULSE: Duration = Duration::from_secs(1);
/// How often a terminal is redrawn, a second: more only flickers.
const REDRAWS: u8 = 10;

/// How much is told of a fetch or a push.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Telling {
    /// Nothing.
    Quiet,
    /// What suits standard error.
    #[default]
    People,
    /// Lines of JSON on standard error.
    Programs,
}

impl Telling {
    /// Chooses for a command whose results have this form; quiet stays quiet.
    #[must_use]
    pub(crate) fn in_form(self, format: Format) -> Self {
        match (self, format) {
            (Self::People, Format::Json) => Self::Programs,
            _ => self,
        }
    }
}

/// Shows the events of one fetch. Where it shows them is looked at when there is one: most images
/// are in the store already.
#[derive(Debug)]
pub(crate) struct Progress {
    telling: Telling,
    way: OnceLock<Way>,
    layers: Mutex<BTreeMap<Digest, Layer>>,
}

#[derive(Debug)]
enum Way {
    Quiet,
    Bars(MultiProgress),
    Lines,
    Json,
}

/// What is done with a layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Deed {
    Fetch,
    /// It is written as a disk image.
    Image,
    Send,
    /// It is compared with what it came as.
    Check,
}

impl Deed {
    /// What it is called while it goes on, and once it is done; and what its events are called.
    const fn words(self) -> (&'static str, &'static str, [&'static str; 3]) {
        match self {
            Self::Fetch => {
                ("fetching", "fetched,", ["layer-started", "layer-progress", "layer-done"])
            }
            Self::Image => (
                "making its disk image,",
                "disk image made,",
                ["image-started", "image-progress", "image-done"],
            ),
            Self::Check => {
                ("checking", "checked,", ["check-started", "check-progress", "check-done"])
            }
            Self::Send => ("sending", "sent,", ["send-started", "send-progress", "send-done"]),
        }
    }
}

#[derive(Debug)]
struct Layer {
    deed: Deed,
    size: u64,
    /// What was there before anything was fetched.
    resumed: u64,
    begun: Instant,
    told: Instant,
    bar: Option<ProgressBar>,
}

impl Progress {
    /// Makes one that tells as much as it should.
    pub(crate) fn new(telling: Telling) -> Self {
        Self { telling, way: OnceLock::new(), layers: Mutex::default() }
    }

    fn way(&self) -> &Way {
        self.way.get_or_init(|| match self.telling {
            Telling::Quiet => Way::Quiet,
            Telling::Programs => Way::Json,
            Telling::People => {
                let target = ProgressDrawTarget::stderr_with_hz(REDRAWS);
                // A terminal that cannot move its cursor gets lines.
                match stderr().is_terminal() && !target.is_hidden() {
                    true => Way::Bars(MultiProgress::with_draw_target(target)),
                    false => Way::Lines,
                }
            }
        })
    }

    /// Tells a line to people, an object to programs.
    fn say(&self, line: impl FnOnce() -> String, object: impl FnOnce() -> Value) {
        match self.way() {
            Way::Quiet => {}
            Way::Bars(bars) => drop(bars.println(line())), // a terminal that is gone shows nothing
            Way::Lines => note(&line()),
            Way::Json => note(&object().to_string()),
        }
    }

    fn with<T>(&self, digest: &Digest, deed: impl FnOnce(&mut Layer) -> T) -> Option<T> {
        // The map is whole after every statement, whatever thread died.
        let mut layers = self.layers.lock().unwrap_or_else(PoisonError::into_inner);
        layers.get_mut(digest).map(deed)
    }

    fn start(&self, deed: Deed, digest: &Digest, bytes: u64) {
        let (doing, _, [started, ..]) = deed.words();
        let bar = match self.way() {
            Way::Bars(bars) => Some(bars.add(bar(digest, bytes))),
            _ => {
                self.say(
                    || format!("{}: {doing} {}", digest.short(), size(bytes)),
                    || json!({ "event": started, "layer": digest, "size": bytes }),
                );
                None
            }
        };
        let now = Instant::now();
        let layer = Layer { deed, size: bytes, resumed: 0, begun: now, told: now, bar };
        let mut layers = self.layers.lock().unwrap_or_else(PoisonError::into_inner);
        layers.insert(digest.clone(), layer);
    }

    fn resumed(&self, digest: &Digest, at: u64) {
        self.with(digest, |layer| {
            layer.resumed = at;
            if let Some(bar) = &layer.bar {
                bar.set_position(at);
                bar.reset_eta(); // the rate is that of the network, not of the disk
            }
        });
        self.say(
            || format!("{}: resumed at {}", digest.short(), size(at)),
            || json!({ "event": "layer-resumed", "layer": digest, "done": at }),
        );
    }

    fn bytes(&self, digest: &Digest, done: u64) {
        let pause = match self.way() {
            Way::Quiet => return,
            Way::Json => PULSE,
            Way::Bars(_) | Way::Lines => HEARTBEAT,
        };
        let due = self.with(digest, |layer| {
            if let Some(bar) = &layer.bar {
                bar.set_position(done);
                return None;
            }
            let now = Instant::now();
            let due = now.duration_since(layer.told) >= pause && done < layer.size;
            if due {
                layer.told = now;
            }
            let fetched = done.saturating_sub(layer.resumed);
            let rate = rate(fetched, now.duration_since(layer.begun));
            due.then_some((layer.deed, layer.size, rate))
        });
        if let Some((deed, all, rate)) = due.flatten() {
            let (_, _, [_, progress, _]) = deed.words();
            self.say(
                || format!("{}: {}", digest.short(), so_far(done, all, rate)),
                || json!({ "event": progress, "layer": digest, "done": done, "size": all }),
            );
        }
    }

    fn done(&self, digest: &Digest) {
        let layer = {
            let mut layers = self.layers.lock().unwrap_or_else(PoisonError::into_inner);
            layers.remove(digest)
        };
        let Some(layer) = layer else { return };
        if let Some(bar) = layer.bar {
            bar.finish_and_clear();
        }
        let (_, did, [_, _, done]) = layer.deed.words();
        self.say(
            || format!("{}: {did} {}", digest.short(), size(layer.size)),
            || json!({ "event": done, "layer": digest, "size": layer.size }),
        );
    }
}

impl Drop for Progress {
    /// A fetch that failed leaves no bars behind its error.
    fn drop(&mut self) {
        if let Way::Bars(bars) = self.way() {
            let _ = bars.clear(); // a terminal that is gone shows nothing
        }
    }
}

fn bar(digest: &Digest, bytes: u64) -> ProgressBar {
    const TEMPLATE: &str =
        "{prefix} [{wide_bar}] {bytes:>10} / {total_bytes:<10} {bytes_per_sec:>12}";
    let style =
        ProgressStyle::with_template(TEMPLATE).expect("a constant template").progress_chars("=> ");
    let bar = ProgressBar::new(bytes).with_style(style);
    bar.set_prefix(digest.short().to_owned());
    bar
}

/// Returns bytes a second; none before there is something to divide by.
fn rate(bytes: u64, time: Duration) -> Option<u64> {
    let millis = u64::try_from(time.as_millis()).ok().filter(|millis| *millis > 0)?;
    Some(bytes.saturating_mul(1000) / millis)
}

fn so_far(done: u64, all: u64, rate: Option<u64>) -> String {
    let percent = done.saturating_mul(100).checked_div(all).unwrap_or(100);
    let rate = rate.map_or_else(String::new, |rate| format!(", {}/s", size(rate)));
    format!("{percent} %, {} of {}{rate}", size(done), size(all))
}

impl images::Progress for Progress {
    fn event(&self, event: Event) {
        match event {
            Event::Resolving { reference } => self.say(
                || format!("fetching {reference}"),
                || json!({ "event": "resolving", "reference": reference }),
            ),
            Event::LayerExists { digest } => self.say(
                || format!("{}: in store", digest.short()),
                || json!({ "event": "layer-exists", "layer": digest }),
            ),
            Event::LayerStarted { digest, size } => self.start(Deed::Fetch, &digest, size),
            Event::ImageStarted { layer, size } => self.start(Deed::Image, &layer, size),
            Event::Sending { reference } => self.say(
                || format!("sending {reference}"),
                || json!({ "event": "sending", "reference": reference }),
            ),
            Event::SendSpared { digest } => self.say(
                || format!("{}: already there", digest.short()),
                || json!({ "event": "send-spared", "layer": digest }),
            ),
            Event::CheckStarted { layer, size } => self.start(Deed::Check, &layer, size),
            Event::SendStarted { digest, size } => self.start(Deed::Send, &digest, size),
            Event::LayerResumed { digest, at } => self.resumed(&digest, at),
            Event::LayerBytes { digest, done }
            | Event::ImageBytes { layer: digest, done }
            | Event::SendBytes { digest, done } => self.bytes(&digest, done),
            Event::LayerDone { digest }
            | Event::ImageDone { layer: digest }
            | Event::CheckDone { layer: digest }
            | Event::SendDone { digest } => self.done(&digest),
            Event::Manifest { digest, layers } => {
                self.tell(|| json!({ "event": "manifest", "digest": digest, "layers": layers }));
            }
            Event::Committing { layers } => {
                self.tell(|| json!({ "event": "committing", "layers": layers }));
            }
            Event::Done { digest } => self.tell(|| json!({ "event": "done", "digest": digest })),
            _ => {}
        }
    }
}

impl Progress {
    /// Tells programs what people need not know.
    fn tell(&self, object: impl FnOnce() -> Value) {
        if let Way::Json = self.way() {
            note(&object().to_string());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_heartbeat_tells_share_amount_and_rate() {
        let rate = rate(3 << 20, Duration::from_millis(1500));
        assert_eq!(so_far(5 << 20, 20 << 20, rate), "25 %, 5.0 MiB of 20.0 MiB, 2.0 MiB/s");
        assert_eq!(so_far(0, 0, None), "100 %, 0 B of 0 B");
        assert_eq!(super::rate(1, Duration::ZERO), None);
    }

    #[test]
    fn quiet_stays_quiet_whatever_the_form() {
        assert_eq!(Telling::Quiet.in_form(Format::Json), Telling::Quiet);
        assert_eq!(Telling::People.in_form(Format::Json), Telling::Programs);
        assert_eq!(Telling::People.in_form(Format::Table), Telling::People);
    }
}
