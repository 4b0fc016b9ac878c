//! Fuzzing on stable Rust: bytes in, an assertion or a *signature* of what happened out.
//!
//! ```text
//! corpus ──► mutate ──► target.run ──► a signature never seen: kept, and mutated further
//!                            └──────► an assertion: the inputs since the target began are written down
//! ```
//!
//! The signature stands in for coverage: which kinds of results an input led to. Everything follows from
//! the seed. Refuses to measure, and to know what the bytes mean: the targets do.

pub mod commands;
pub mod model;
pub mod mutate;
pub mod nbd_client;
pub mod nbd_server;
pub mod rdma_handshake;
pub mod resp;

/// Something that can be fuzzed.
pub trait Target {
    /// Runs one input. Panics if what must hold does not.
    ///
    /// Shape: the answer is the same for inputs that did the same kinds of things.
    fn run(&mut self, input: &[u8]) -> u64;
    /// How many inputs one target takes before it is replaced by a new one.
    fn inputs_max(&self) -> usize;
}

/// A target by its name; the names are those of the corpus folders.
pub fn target(name: &str) -> Option<Box<dyn Target>> {
    match name {
        "resp" => Some(Box::new(resp::Resp)),
        "commands" => Some(Box::new(commands::Commands::new())),
        "nbd-server" => Some(Box::new(nbd_server::NbdServer::new())),
        "nbd-client" => Some(Box::new(nbd_client::NbdClient::new())),
        "rdma-handshake" => Some(Box::new(rdma_handshake::RdmaHandshake::new())),
        _ => None,
    }
}

/// A stream of small numbers out of an input; zeros once it is used up.
pub struct Dice<'a> {
    bytes: &'a [u8],
}

impl<'a> Dice<'a> {
    /// Reads from the front of `bytes`.
    pub fn new(bytes: &'a [u8]) -> Dice<'a> {
        Dice { bytes }
    }

    /// Whether there is nothing left.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// The next byte.
    pub fn byte(&mut self) -> u8 {
        let Some((first, rest)) = self.bytes.split_first() else { return 0 };
        self.bytes = rest;
        *first
    }

    /// The next number below `limit`, which is 256 at most.
    pub fn below(&mut self, limit: usize) -> usize {
        usize::from(self.byte()) % limit
    }

    /// One of these.
    pub fn one_of<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len())]
    }
}
