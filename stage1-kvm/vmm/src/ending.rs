//! How a machine ends: whoever sees it first says so, and all hear of it.

use std::os::fd::{AsFd, BorrowedFd};
use std::sync::OnceLock;

use crate::bell::Bell;
use crate::helm::EndClass;

/// The end of a machine, before and after it is known.
#[derive(Debug)]
pub struct Ending {
    outcome: OnceLock<(EndClass, String)>,
    bell: Bell,
}

impl Ending {
    /// It is not known.
    ///
    /// # Errors
    ///
    /// `eventfd2(2)`: no descriptors are left.
    pub fn open() -> std::io::Result<Self> {
        Ok(Self { outcome: OnceLock::new(), bell: Bell::new()? })
    }

    /// The machine has ended so; whoever says it later is not heard.
    pub fn tell(&self, class: EndClass, message: impl Into<String>) {
        let _ = self.outcome.set((class, message.into()));
        self.bell.ring();
    }

    /// How, if it has.
    #[must_use]
    pub fn known(&self) -> Option<&(EndClass, String)> {
        self.outcome.get()
    }
}

impl AsFd for Ending {
    /// Readable once the end is known.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.bell.as_fd()
    }
}
