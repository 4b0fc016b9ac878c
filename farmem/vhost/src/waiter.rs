//! What the loop sleeps on: one epoll, whose every entry is an edge, so that nothing need be read to be heard again.
//!
//! Refuses to say which of several links or kicks it was: the loop looks at all of them anyway.

use farmem::Instant;
use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};
use rustix::time::Timespec;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};

/// Who has woken the loop.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u64)]
pub enum Token {
    /// A guest wants to connect.
    Listener = 0,
    /// The guest's monitor says something, or is gone.
    Connection = 1,
    /// The guest has a request.
    Kick = 2,
    /// Something has landed.
    Link = 3,
    /// A signal: the end.
    Signal = 4,
}

/// Which of the tokens that matter were there.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Woken {
    /// [`Token::Listener`]
    pub listener: bool,
    /// [`Token::Connection`]
    pub connection: bool,
    /// [`Token::Signal`]
    pub signal: bool,
}

/// The epoll.
pub struct Waiter(OwnedFd);

impl Waiter {
    /// An empty one.
    ///
    /// # Errors
    /// What epoll answers.
    pub fn new() -> io::Result<Waiter> {
        Ok(Waiter(epoll::create(CreateFlags::CLOEXEC)?))
    }

    /// Listens to `source` from now on. The connection and the listener stay heard until they are served.
    ///
    /// # Errors
    /// What epoll answers.
    pub fn add(&self, source: impl AsFd, token: Token) -> io::Result<()> {
        let flags = match token {
            Token::Kick | Token::Link => EventFlags::IN | EventFlags::ET,
            _ => EventFlags::IN,
        };
        Ok(epoll::add(&self.0, source, EventData::new_u64(token as u64), flags)?)
    }

    /// Listens to it no longer.
    pub fn remove(&self, source: impl AsFd) {
        if let Err(error) = epoll::delete(&self.0, source) {
            log::debug!("it was not listened to: {error}");
        }
    }

    /// Sleeps until somebody says something, no longer than until `due`; not at all if that is past.
    pub fn wait(&self, now: Instant, due: Option<Instant>) -> Woken {
        let limit = due
            .map(|due| due.0.saturating_sub(now.0))
            .map(|ns| Timespec { tv_sec: (ns / 1_000_000_000) as i64, tv_nsec: (ns % 1_000_000_000) as i64 });
        let mut room = [MaybeUninit::<Event>::uninit(); 8];
        let mut woken = Woken::default();
        // Interrupted by a signal: the signal's own descriptor tells of it.
        let Ok((events, _)) = epoll::wait(&self.0, &mut room, limit.as_ref()) else { return woken };
        for event in events {
            let token = event.data.u64();
            woken.listener |= token == Token::Listener as u64;
            woken.connection |= token == Token::Connection as u64;
            woken.signal |= token == Token::Signal as u64;
        }
        woken
    }
}
