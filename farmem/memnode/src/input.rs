//! What a client has sent and nobody has looked at yet: many small requests in one receive.
//!
//! Refuses to hold more than its buffer; a payload that is longer goes past it, straight into the memory.

use std::io::{self, Read};

/// Sixty WRITEs of a page. With [`crate::listen::CONNECTIONS_MAX`] connections 64 MiB in all.
const BUFFER_BYTES: usize = 256 << 10;

/// A buffer that is filled at its end and read at its start.
pub(crate) struct Input {
    buffer: Box<[u8]>,
    start: usize,
    end: usize,
}

impl Input {
    pub fn new() -> Input {
        Input { buffer: vec![0; BUFFER_BYTES].into(), start: 0, end: 0 }
    }

    /// The bytes that are here.
    #[inline]
    pub fn bytes(&self) -> &[u8] {
        &self.buffer[self.start..self.end]
    }

    /// Takes up to `len` of them.
    #[inline]
    pub fn take(&mut self, len: usize) -> &[u8] {
        let start = self.start;
        self.start = self.end.min(start + len);
        &self.buffer[start..self.start]
    }

    /// Receives more bytes, behind those that are here; none means that the client is gone.
    ///
    /// # Errors
    /// Of the connection.
    pub fn fill(&mut self, from: &mut impl Read) -> io::Result<usize> {
        self.buffer.copy_within(self.start..self.end, 0);
        (self.start, self.end) = (0, self.end - self.start);
        loop {
            match from.read(&mut self.buffer[self.end..]) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                received => {
                    self.end += received.as_ref().copied().unwrap_or(0);
                    return received;
                }
            }
        }
    }
}
