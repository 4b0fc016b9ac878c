//! Why a command fails: the client is wrong, or the world is.

use alloc::string::String;
use alloc::vec::Vec;
use farmem::{HeapError, LinkError, PagerError};

/// The client is wrong. Source: the texts are those of Redis 7.0.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum CommandError {
    /// A fixed text, with its error code, without the leading `-`.
    Text(&'static str),
    /// A text made for this error.
    Owned(String),
    /// A text that repeats what the client sent, whatever that was.
    Quoting(Vec<u8>),
}

impl CommandError {
    /// Source: Redis' `shared.wrongtypeerr`.
    pub const WRONG_TYPE: CommandError =
        CommandError::Text("WRONGTYPE Operation against a key holding the wrong kind of value");
    /// Source: Redis' `shared.syntaxerr`.
    pub const SYNTAX: CommandError = CommandError::Text("ERR syntax error");
    /// Source: Redis' `getLongLongFromObjectOrReply`.
    pub const NOT_AN_INTEGER: CommandError =
        CommandError::Text("ERR value is not an integer or out of range");
    /// Source: Redis' `getLongDoubleFromObjectOrReply`.
    pub const NOT_A_FLOAT: CommandError = CommandError::Text("ERR value is not a valid float");
    /// Source: Redis' `shared.nokeyerr`.
    pub const NO_SUCH_KEY: CommandError = CommandError::Text("ERR no such key");
    /// Source: Redis' `shared.outofrangeerr`.
    pub const INDEX_OUT_OF_RANGE: CommandError = CommandError::Text("ERR index out of range");
    /// Source: Redis' `shared.oomerr`.
    pub const OUT_OF_MEMORY: CommandError =
        CommandError::Text("OOM command not allowed when used memory > 'maxmemory'.");
    /// Source: Redis' `checkStringLength`.
    pub const STRING_TOO_LONG: CommandError =
        CommandError::Text("ERR string exceeds maximum allowed size (proto-max-bulk-len)");

    /// An error that repeats what the client sent between other words.
    #[cold]
    pub fn quoting(parts: &[&[u8]]) -> CommandError {
        CommandError::Quoting(parts.concat())
    }

    /// The text of the error reply, without the leading `-`.
    pub fn text(&self) -> &[u8] {
        match self {
            CommandError::Text(text) => text.as_bytes(),
            CommandError::Owned(text) => text.as_bytes(),
            CommandError::Quoting(text) => text,
        }
    }
}

/// A command that did not succeed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Failure {
    /// The client is wrong.
    Client(CommandError),
    /// The world is wrong: a page could not be had.
    World(PagerError),
}

/// What `plan` and `execute` return.
pub type Outcome<T = ()> = Result<T, Failure>;

impl From<CommandError> for Failure {
    fn from(error: CommandError) -> Failure {
        Failure::Client(error)
    }
}

impl From<PagerError> for Failure {
    fn from(error: PagerError) -> Failure {
        Failure::World(error)
    }
}

impl From<HeapError> for Failure {
    fn from(error: HeapError) -> Failure {
        match error {
            HeapError::FarMemoryFull => Failure::Client(CommandError::OUT_OF_MEMORY),
        }
    }
}

impl Failure {
    /// The text of the error reply, without the leading `-`.
    pub fn text(&self) -> &[u8] {
        match self {
            Failure::Client(error) => error.text(),
            Failure::World(PagerError::PlanTooLarge | PagerError::NoFrame) => {
                b"OOM local memory is too small for the pages that this command needs"
            }
            Failure::World(PagerError::Refused) => {
                b"FARMEMORYFULL far memory takes no page, and local memory is full of what it has not taken"
            }
            Failure::World(PagerError::ChecksumMismatch(_)) => {
                b"FARMEMORYCORRUPT a page of this value failed its checksum"
            }
            Failure::World(PagerError::Link(LinkError::Lost)) => {
                b"FARMEMORYLOST a page of this value is gone: far memory came back without it"
            }
            Failure::World(PagerError::Link(_)) => {
                b"FARMEMORYLOST far memory could not deliver a page of this value"
            }
        }
    }
}
