//! The driver: moves pages between the engine and the links, once a turn of the loop.
//!
//! ```text
//!   exchange with the links ─► clients that may go on ─► flush
//!      ▲                                                   │
//!      └────────────── while something moved ──────────────┘
//!   then: nothing in flight ─► wait    due soon ─► look at the sockets and come back    due later ─► timer
//! ```
//!
//! It runs behind the connections that were ready, so that what all of them miss goes out as one batch.
//! Refuses to wait while there is a client to serve, and to burn time while there is none.

use crate::body::Body;
use crate::watch::{Watched, watch};
use engine::{Engine, Exchange, Now};
use farmem::{FrameNo, Instant, Link};
use farmem_link::{Discarder, SharedLink};
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create, timerfd_settime,
};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::rc::Rc;
use std::task::Poll;
use tokio::io::Interest;

/// A completion that is due within this is waited for by looking at the sockets again and again: arming
/// a timer and sleeping costs about as much. Units: nanoseconds.
const SOON_NS: u64 = 50_000;
/// Rounds of one turn; then the sockets get their look. Each is a batch, so 8 are plenty.
const ROUNDS_MAX: usize = 8;
/// Clients served between two looks at the links.
const READY_MAX: usize = 256;
/// Frames given back to the system in one turn: 16 MiB, a few milliseconds.
const DISCARDS_MAX: usize = 4096;

/// What the driver waits for after a turn.
enum Next {
    Woken,
    Soon,
    At(Instant),
}

struct Driver {
    link: SharedLink,
    discarder: Discarder,
    exchange: Exchange,
}

/// Runs the driver for ever.
pub async fn drive(body: Rc<Body>, link: SharedLink, discarder: Discarder, timer: Timer) {
    let mut driver = Driver { link, discarder, exchange: Exchange::default() };
    let mut armed = Instant(0);
    std::future::poll_fn(|context| {
        body.set_driver(context.waker());
        Poll::Ready(())
    })
    .await;
    loop {
        match driver.turn(&body) {
            Next::Soon => tokio::task::yield_now().await,
            Next::At(due) if due != armed => {
                armed = due;
                timer.set(due);
                woken(&body).await;
            }
            Next::At(_) | Next::Woken => woken(&body).await,
        }
    }
}

/// Waits until somebody wakes the driver.
async fn woken(body: &Body) {
    std::future::poll_fn(|_| if body.driver_is_woken() { Poll::Ready(()) } else { Poll::Pending }).await;
}

impl Driver {
    fn turn(&mut self, body: &Body) -> Next {
        body.begin_turn();
        let mut now = body.clock.read();
        let mut moved = true;
        for _ in 0..ROUNDS_MAX {
            let is_restless = self.link.set().is_restless();
            moved = self.exchange.run(&mut body.engine.borrow_mut(), &mut self.link, is_restless, now);
            moved |= serve_ready(body, now);
            // Frames are given up a few at a time: while there are some there may be more.
            moved |= self.discard(&mut body.engine.borrow_mut());
            if !moved {
                break;
            }
            now = body.clock.read();
        }
        if body.engine.borrow_mut().poll_shutdown() {
            body.stop("SHUTDOWN was asked for");
        }
        body.clock.end_turn();
        if moved {
            return Next::Soon;
        }
        match self.link.next_due() {
            Some(due) if due.0 <= now.monotonic.0 + SOON_NS => Next::Soon,
            Some(due) => Next::At(due),
            None => Next::Woken,
        }
    }

    /// Gives frames back to the system, neighbours together. Whether there were any.
    fn discard(&mut self, engine: &mut Engine) -> bool {
        let Some(mut first) = engine.poll_discard() else { return false };
        let mut count = 1;
        for _ in 1..DISCARDS_MAX {
            let Some(frame) = engine.poll_discard() else { break };
            if frame == FrameNo(first.0 + count) {
                count += 1;
            } else if frame.0 + 1 == first.0 {
                (first, count) = (frame, count + 1);
            } else {
                self.discarder.discard(first, count);
                (first, count) = (frame, 1);
            }
        }
        self.discarder.discard(first, count);
        true
    }
}

/// Sends what clients have got because pages landed. Whether there was any.
fn serve_ready(body: &Body, now: Now) -> bool {
    for served in 0..READY_MAX {
        let Some(id) = body.engine.borrow_mut().poll_ready(now) else { return served > 0 };
        let connection = body.connections.borrow().get(&id).map(Rc::clone);
        if let Some(sleep_ns) = body.engine.borrow_mut().poll_sleep_ns() {
            body.sleep(sleep_ns);
        }
        if let Some(connection) = connection {
            body.flush_from_driver(&connection, now);
        }
    }
    true
}

/// A timer of nanoseconds: the runtime's own counts milliseconds.
pub struct Timer(OwnedFd);

impl Timer {
    /// A timer that is not set.
    ///
    /// # Errors
    /// What timerfd_create answers.
    pub fn new() -> io::Result<Timer> {
        let flags = TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK;
        Ok(Timer(timerfd_create(TimerfdClockId::Monotonic, flags)?))
    }

    /// What to wait on. It need not be read: each time that the timer goes off is an edge of its own.
    ///
    /// # Errors
    /// What dup and epoll_ctl answer.
    pub fn watch(&self) -> io::Result<Watched> {
        watch(self.0.try_clone()?, Interest::READABLE)
    }

    /// Sets it to go off at `due`, instead of whatever it was set to.
    fn set(&self, due: Instant) {
        let it_value =
            Timespec { tv_sec: (due.0 / 1_000_000_000) as i64, tv_nsec: (due.0 % 1_000_000_000) as i64 };
        let it_interval = Timespec { tv_sec: 0, tv_nsec: 0 };
        let spec = Itimerspec { it_interval, it_value };
        timerfd_settime(self.0.as_fd(), TimerfdTimerFlags::ABSTIME, &spec)
            .expect("a valid time is set on a valid timer");
    }
}

/// Wakes the driver whenever `event` becomes readable.
pub async fn wake_by(event: Watched, body: Rc<Body>) {
    while let Ok(mut ready) = event.readable().await {
        ready.clear_ready();
        body.wake_driver();
    }
}
