//! Waiting for a future on the thread that asks, for a bounded time.
//!
//! The bus library is asynchronous inside; here is the whole of what this program has of an
//! executor. What makes a future go on runs on threads of the library.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// Returns what `future` comes to, or `None` if that takes longer than `limit`.
pub(super) fn within<F: Future>(limit: Duration, future: F) -> Option<F::Output> {
    within_or(limit, || false, future)
}

/// Returns what `future` comes to, or `None` if that takes longer than `limit`, or if `stopped`
/// tells so after this thread was unparked.
pub(super) fn within_or<F: Future>(
    limit: Duration,
    stopped: impl Fn() -> bool,
    future: F,
) -> Option<F::Output> {
    let begun = Instant::now();
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut context = Context::from_waker(&waker);
    let mut future = pin!(future);
    loop {
        if let Poll::Ready(output) = future.as_mut().poll(&mut context) {
            return Some(output);
        }
        let left = limit.saturating_sub(begun.elapsed());
        if left.is_zero() || stopped() {
            return None;
        }
        thread::park_timeout(left);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future;
    use std::sync::atomic::{AtomicBool, Ordering};

    #[test]
    fn what_is_there_is_had_and_what_never_comes_is_not_waited_for() {
        assert_eq!(within(Duration::ZERO, future::ready(7)), Some(7));
        assert_eq!(within(Duration::from_millis(1), future::pending::<()>()), None);
    }

    #[test]
    fn a_wait_can_be_stopped_from_another_thread() {
        let stopped = Arc::new(AtomicBool::new(false));
        let seen = Arc::clone(&stopped);
        let waiting = thread::spawn(move || {
            let stop = || seen.load(Ordering::Acquire);
            within_or(Duration::from_secs(600), stop, future::pending::<()>())
        });
        stopped.store(true, Ordering::Release);
        waiting.thread().unpark();
        assert_eq!(waiting.join().unwrap(), None);
    }
}
