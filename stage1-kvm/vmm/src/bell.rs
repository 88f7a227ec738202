//! A descriptor that says "look": rung by one side, heard by the other, by KVM on either.

use std::io;
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd};
use std::sync::Arc;

use vmm_sys_util::eventfd::EventFd;

/// An `eventfd(2)`; its copies are the same one.
#[derive(Clone, Debug)]
pub struct Bell(Arc<EventFd>);

impl Bell {
    /// One that has not been rung.
    ///
    /// # Errors
    ///
    /// `eventfd2(2)`: no descriptors are left.
    pub fn new() -> io::Result<Self> {
        let event = EventFd::new(libc::EFD_NONBLOCK | libc::EFD_CLOEXEC)?;
        Ok(Self(Arc::new(event)))
    }

    /// Rings it: whoever watches it finds it readable.
    pub fn ring(&self) {
        // It fails only if it was rung 2^64-1 times and never heard: it is readable then.
        let _ = self.0.write(1);
    }

    /// Makes it silent again; says whether it had been rung.
    #[must_use]
    pub fn hear(&self) -> bool {
        self.0.read().is_ok()
    }

    /// As KVM wants it.
    #[must_use]
    pub fn event(&self) -> &EventFd {
        &self.0
    }
}

impl AsFd for Bell {
    #[allow(unsafe_code, reason = "the type that KVM's wrapper wants lends no descriptor")]
    fn as_fd(&self) -> BorrowedFd<'_> {
        // SAFETY: the descriptor is the `EventFd`'s, which closes it when dropped and not before,
        // and which the result borrows.
        unsafe { BorrowedFd::borrow_raw(self.0.as_raw_fd()) }
    }
}
