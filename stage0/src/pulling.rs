//! What a service manager is told while an image is fetched by the main process of its unit: how far
//! that is, for `systemctl status`, and that it takes longer, so that no time-out for the start of the
//! unit hits a fetch that goes on (`sd_notify(3)`).
//!
//! Nothing here fails and nothing waits: a service manager that does not listen harms no fetch.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use images::Event;
use pod_abi::Digest;

use crate::service_status::Listener;
use crate::ui;

/// How long a word holds, in microseconds. A fetch that brings nothing for so long has its own
/// time-outs, and then the unit's counts.
const LONGER: u64 = 60_000_000;
/// How often it is told at most.
const PAUSE: Duration = Duration::from_millis(500);

/// Shows a fetch to people or programs, and tells it to a service manager.
#[derive(Debug)]
pub(crate) struct Progress {
    shown: ui::Progress,
    manager: Option<Manager>,
}

/// A service manager that listens.
#[derive(Debug)]
struct Manager {
    listener: Listener,
    pull: Mutex<(Pull, Option<Instant>)>,
}

impl Progress {
    /// Makes one that shows as much as it should.
    pub(crate) fn new(telling: ui::Telling) -> Self {
        Self { shown: ui::Progress::new(telling), manager: Manager::of_this_process() }
    }
}

impl images::Progress for Progress {
    fn event(&self, event: Event) {
        if let Some(manager) = &self.manager {
            manager.hear(&event);
        }
        self.shown.event(event);
    }
}

impl Manager {
    fn of_this_process() -> Option<Self> {
        Some(Self { listener: Listener::of_this_process()?, pull: Mutex::default() })
    }

    fn hear(&self, event: &Event) {
        // The count is whole after every statement, whatever thread died.
        let mut pull = self.pull.lock().unwrap_or_else(PoisonError::into_inner);
        let (pull, told) = &mut *pull;
        if !pull.add(event) || told.is_some_and(|told| told.elapsed() < PAUSE) {
            return;
        }
        *told = Some(Instant::now());
        self.listener.tell(&pull.text(), &[&format!("EXTEND_TIMEOUT_USEC={LONGER}")]);
    }
}

/// How far a fetch is. Pure.
#[derive(Debug, Default)]
struct Pull {
    reference: String,
    layers: usize,
    whole: usize,
    /// Bytes written and bytes in all, of a disk image on its way.
    image: Option<(u64, u64)>,
    /// Bytes fetched and bytes in all, of layers on their way.
    under_way: BTreeMap<Digest, (u64, u64)>,
}

impl Pull {
    /// Takes in an event; `false` if it changes nothing that is told.
    fn add(&mut self, event: &Event) -> bool {
        match event {
            Event::Resolving { reference } => {
                *self = Self { reference: reference.clone(), ..Self::default() };
            }
            Event::Manifest { layers, .. } => self.layers = *layers,
            Event::LayerExists { .. } => self.whole += 1,
            Event::LayerStarted { digest, size } => {
                self.under_way.insert(digest.clone(), (0, *size));
            }
            Event::LayerResumed { digest, at: done } | Event::LayerBytes { digest, done } => {
                if let Some((known, _)) = self.under_way.get_mut(digest) {
                    *known = *done;
                }
            }
            Event::LayerDone { digest } => {
                self.under_way.remove(digest);
                self.whole += 1;
            }
            Event::ImageStarted { size, .. } => self.image = Some((0, *size)),
            Event::ImageBytes { done, .. } => {
                if let Some((known, _)) = &mut self.image {
                    *known = *done;
                }
            }
            Event::ImageDone { .. } => self.image = None,
            _ => return false,
        }
        true
    }

    fn text(&self) -> String {
        if let Some((done, all)) = self.image {
            return format!("making disk images:{}", share(done, all));
        }
        if self.reference.is_empty() {
            return "making disk images".to_owned();
        }
        if self.layers == 0 {
            return format!("resolving {}", self.reference);
        }
        let (done, all) = self.under_way.values().fold((0_u64, 0_u64), |sum, it| {
            (sum.0.saturating_add(it.0), sum.1.saturating_add(it.1))
        });
        let layer = self.layers.min(self.whole + usize::from(!self.under_way.is_empty()));
        let share = share(done, all);
        format!("pulling {}: layer {layer}/{}{share}", self.reference, self.layers)
    }
}

fn share(done: u64, all: u64) -> String {
    let share = done.saturating_mul(100).checked_div(all);
    share.map_or_else(String::new, |share| format!(" {share} %"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fetch_is_told_by_layers_and_share() {
        let digest =
            |letter: &str| Digest::parse(&format!("sha256:{}", letter.repeat(64))).unwrap();
        let pull = Pull { reference: "x".to_owned(), ..Pull::default() };
        assert_eq!(pull.text(), "resolving x");
        let table = [
            (Event::Manifest { digest: digest("0"), layers: 3 }, "pulling x: layer 0/3"),
            (Event::LayerExists { digest: digest("a") }, "pulling x: layer 1/3"),
            (Event::LayerStarted { digest: digest("b"), size: 200 }, "pulling x: layer 2/3 0 %"),
            (Event::LayerBytes { digest: digest("b"), done: 82 }, "pulling x: layer 2/3 41 %"),
            (Event::LayerDone { digest: digest("b") }, "pulling x: layer 2/3"),
            (Event::LayerStarted { digest: digest("c"), size: 0 }, "pulling x: layer 3/3"),
            (Event::LayerDone { digest: digest("c") }, "pulling x: layer 3/3"),
        ];
        let tell = |mut pull: Pull, table: &[(Event, &str)]| {
            for (event, expected) in table {
                assert!(pull.add(event));
                assert_eq!(pull.text(), *expected, "{event:?}");
            }
        };
        tell(pull, &table);
        let layer = digest("a");
        let table = [
            (Event::ImageStarted { layer: layer.clone(), size: 50 }, "making disk images: 0 %"),
            (Event::ImageBytes { layer: layer.clone(), done: 49 }, "making disk images: 98 %"),
            (Event::ImageDone { layer }, "making disk images"),
        ];
        tell(Pull::default(), &table);
    }
}
