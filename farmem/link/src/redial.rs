//! Coming back to a node that is gone: a thread tries, and rings when it has succeeded.
//!
//! ```text
//!   start ─► thread: pause (50 ms, doubling to 1 s) ─► dial ─┬─ failed ─► again
//!                                                            └─ there ─► settle ─► ring ─► poll
//! ```
//!
//! Between reaching a node and using it 50 ms pass: what the old connections had sent may still be in the
//! node's hands, and an old write or trim must not come behind a new write of the same page. Refuses to give
//! up.

use rustix::event::{EventfdFlags, eventfd};
use std::fmt;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::mpsc::{Receiver, TryRecvError, channel};
use std::sync::{Arc, Weak};
use std::thread;
use std::time::Duration;

/// The first pause; each is twice the one before.
const PAUSE: Duration = Duration::from_millis(50);
/// The longest pause: so long a node that is back may go unnoticed.
const PAUSE_MAX: Duration = Duration::from_secs(1);
/// Time for the node to finish with what came over connections that are no more.
const SETTLE: Duration = Duration::from_millis(50);

/// The attempts to come back to one node, which is then a `D`.
pub(crate) struct Redial<D> {
    bell: Arc<OwnedFd>,
    under_way: Option<Receiver<D>>,
}

impl<D: Send + 'static> Redial<D> {
    /// Nothing is under way.
    ///
    /// # Errors
    /// What eventfd answers.
    pub(crate) fn new() -> io::Result<Redial<D>> {
        let bell = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        Ok(Redial { bell: Arc::new(bell), under_way: None })
    }

    /// Becomes readable when the node has been reached.
    pub(crate) fn bell(&self) -> BorrowedFd<'_> {
        self.bell.as_fd()
    }

    /// Tries from now on, until it succeeds or this value is dropped.
    pub(crate) fn start(
        &mut self,
        uri: &(impl fmt::Display + ?Sized),
        dial: impl Fn() -> io::Result<D> + Send + 'static,
    ) {
        let (sender, receiver) = channel();
        let (uri, bell) = (uri.to_string(), Arc::downgrade(&self.bell));
        let thread = thread::Builder::new().name("redial".into()).spawn(move || {
            if let Some(dialed) = try_until_there(&uri, dial, &bell)
                && sender.send(dialed).is_ok()
                && let Some(bell) = bell.upgrade()
            {
                // A full counter is a bell that rings already.
                let _ = rustix::io::write(&bell, &1_u64.to_ne_bytes());
            }
        });
        match thread {
            Ok(_) => self.under_way = Some(receiver),
            Err(error) => log::warn!("no thread to come back to a memory node: {error}"),
        }
    }

    /// The node, if it has been reached; `Err` if nobody is trying (the system had no thread).
    pub(crate) fn poll(&mut self) -> Result<Option<D>, ()> {
        match self.under_way.as_ref().map(Receiver::try_recv) {
            Some(Ok(dialed)) => {
                self.under_way = None;
                Ok(Some(dialed))
            }
            Some(Err(TryRecvError::Empty)) => Ok(None),
            Some(Err(TryRecvError::Disconnected)) | None => Err(()),
        }
    }
}

/// `None` if nobody waits for it any more.
fn try_until_there<D>(uri: &str, dial: impl Fn() -> io::Result<D>, waiting: &Weak<OwnedFd>) -> Option<D> {
    let mut pause = PAUSE;
    while waiting.strong_count() > 0 {
        thread::sleep(pause);
        match dial() {
            Ok(dialed) => {
                thread::sleep(SETTLE);
                return Some(dialed);
            }
            Err(error) => log::debug!("far memory '{uri}': still gone: {error}"),
        }
        pause = (pause * 2).min(PAUSE_MAX);
    }
    None
}
