//! Showing how far a fetch is: bars on a terminal, otherwise a line for each layer.

use std::collections::HashMap;
use std::io::{IsTerminal as _, stderr};
use std::sync::Mutex;

use images::Event;
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use pod_abi::Digest;

use super::{note, size};

/// Shows the events of one fetch.
#[derive(Debug)]
pub(crate) struct Progress {
    bars: Option<MultiProgress>,
    layers: Mutex<HashMap<Digest, Layer>>,
}

#[derive(Debug)]
struct Layer {
    size: u64,
    bar: Option<ProgressBar>,
}

impl Progress {
    /// Makes one that suits standard error.
    pub(crate) fn new() -> Self {
        let terminal = stderr().is_terminal();
        let bars = terminal
            .then(|| MultiProgress::with_draw_target(ProgressDrawTarget::stderr_with_hz(10)));
        Self { bars, layers: Mutex::new(HashMap::new()) }
    }

    fn say(&self, line: &str) {
        match &self.bars {
            Some(bars) => drop(bars.println(line)), // a terminal that is gone shows nothing
            None => note(line),
        }
    }

    fn start(&self, digest: &Digest, size: u64) {
        let bar = self.bars.as_ref().map(|bars| {
            let style = ProgressStyle::with_template("{prefix} [{bar:30}] {bytes}/{total_bytes}")
                .expect("a constant template")
                .progress_chars("=> ");
            let bar = bars.add(ProgressBar::new(size).with_style(style));
            bar.set_prefix(digest.short().to_owned());
            bar
        });
        if let Ok(mut layers) = self.layers.lock() {
            layers.insert(digest.clone(), Layer { size, bar });
        }
    }

    fn done(&self, digest: &Digest) {
        let layer = self.layers.lock().ok().and_then(|mut layers| layers.remove(digest));
        let Some(layer) = layer else { return };
        if let Some(bar) = layer.bar {
            bar.finish_and_clear();
        }
        self.say(&format!("{}: fetched, {}", digest.short(), size(layer.size)));
    }
}

impl images::Progress for Progress {
    fn event(&self, event: Event) {
        match event {
            Event::Resolving { reference } => self.say(&format!("fetching {reference}")),
            Event::LayerExists { digest } => self.say(&format!("{}: in store", digest.short())),
            Event::LayerStarted { digest, size } => self.start(&digest, size),
            Event::LayerBytes { digest, done } => {
                if let Ok(layers) = self.layers.lock()
                    && let Some(Layer { bar: Some(bar), .. }) = layers.get(&digest)
                {
                    bar.set_position(done);
                }
            }
            Event::LayerDone { digest } => self.done(&digest),
            _ => {}
        }
    }
}
