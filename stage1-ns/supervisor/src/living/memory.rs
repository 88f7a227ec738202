//! What follows when memory runs out in an app: a line in the history, and the end of the pod if
//! that is its policy. The wall tells of it, never PID 1, who may not know or not say.

use pod_abi::manifest::OomPolicy;
use pod_abi::status::Event;

use super::{Living, Stopping};
use crate::events::{Interest, Token};
use crate::records;
use crate::wall::Wall;

impl<W: Wall> Living<'_, W> {
    /// Waits for memory to run out from now on, if the wall can tell.
    pub(super) fn watch_memory(&mut self) {
        if self.memory_watched {
            return;
        }
        let Some(alarm) = self.wall.memory_alarm() else { return };
        // Without it nothing is recorded; the kernel kills all the same.
        self.memory_watched = self.events.add(alarm, Token::Memory, Interest::Read).is_ok();
    }

    /// Records in which apps memory has run out, and stops the pod if it is to be.
    pub(super) fn heed_memory(&mut self) {
        for app in self.wall.out_of_memory() {
            self.records.event(records::now(), Event::AppOutOfMemory { app });
            let policy = self.order.pod.sandbox.oom_policy;
            if policy == OomPolicy::Stop && self.stopping.is_none() {
                self.stop(Stopping::OutOfMemory, None);
            }
        }
    }
}
