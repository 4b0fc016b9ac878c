//! Commands as the table describes them: which there are, how many words they take, where their keys are.
//!
//! ```text
//! lookup("CONFIG") ─> row ─ resolve(args) ─> row of "config|get" ─ check_arity ─> id, for a handler
//! ```
//!
//! Refuses to run one: `crate::commands` does.

pub mod help;
mod id;
pub mod introspect;
pub mod keys;
pub mod spec;
pub mod table;

pub use id::CommandId;
pub use spec::CommandSpec;
pub use table::lookup;

use crate::args::Args;
use crate::error::CommandError;
use alloc::format;
use spec::Flag;

/// How much of what a client sent is repeated in an error about it. Units: bytes. Source: `%.128s`.
const QUOTED_LEN_MAX: usize = 128;

impl CommandSpec {
    /// The command itself, or the subcommand that the second word names.
    ///
    /// A container alone is itself, and has the wrong number of arguments.
    /// # Errors
    /// No such subcommand.
    #[inline]
    pub fn resolve(&'static self, args: &Args) -> Result<&'static Self, CommandError> {
        if self.subcommands.is_empty() || args.len() < 2 {
            return Ok(self);
        }
        self.subcommand(args.get(1)).ok_or_else(|| self.unknown_subcommand(args.get(1)))
    }

    /// The subcommand of this name, in any case.
    #[must_use]
    pub fn subcommand(&self, name: &[u8]) -> Option<&'static Self> {
        self.subcommands.iter().find(|sub| sub.name.as_bytes().eq_ignore_ascii_case(name))
    }

    /// Whether a command of `argc` words, its own included, is complete.
    ///
    /// # Errors
    /// Redis' text, with the name as it stands in the table.
    #[inline]
    pub fn check_arity(&self, argc: usize) -> Result<(), CommandError> {
        if self.fits_arity(argc) { Ok(()) } else { Err(self.wrong_arity()) }
    }

    #[inline]
    fn fits_arity(&self, argc: usize) -> bool {
        let arity = usize::from(self.arity.unsigned_abs());
        if self.arity > 0 { argc == arity } else { argc >= arity }
    }

    /// `ERR wrong number of arguments for 'name' command`
    #[cold]
    #[must_use]
    pub fn wrong_arity(&self) -> CommandError {
        CommandError::Owned(format!("ERR wrong number of arguments for '{}' command", self.full_name))
    }

    #[cold]
    fn unknown_subcommand(&self, word: &[u8]) -> CommandError {
        let container = self.name.to_ascii_uppercase();
        let word = quoted(word, QUOTED_LEN_MAX);
        CommandError::quoting(&[
            b"ERR unknown subcommand '",
            word,
            b"'. Try ",
            container.as_bytes(),
            b" HELP.",
        ])
    }

    /// Whether a client that has not authenticated may run it.
    #[inline]
    #[must_use]
    pub fn allowed_unauthenticated(&self) -> bool {
        self.flags.has(Flag::NoAuth)
    }

    /// Whether it is refused when `maxmemory` is reached.
    #[inline]
    #[must_use]
    pub fn denied_when_full(&self) -> bool {
        self.flags.has(Flag::Denyoom)
    }

    /// Whether it changes the keyspace.
    #[inline]
    #[must_use]
    pub fn is_write(&self) -> bool {
        self.flags.has(Flag::Write)
    }
}

/// The error for a name that is not in the table: it repeats the name and the first arguments.
///
/// Source: `commandCheckExistence` of Redis 7.0.
#[cold]
#[must_use]
pub fn unknown_command(args: &Args) -> CommandError {
    let name = quoted(args.get(0), QUOTED_LEN_MAX);
    let mut text = [b"ERR unknown command '", name, b"', with args beginning with: "].concat();
    let mut repeated = 0;
    for word in args.iter_from(1) {
        if repeated >= QUOTED_LEN_MAX {
            break;
        }
        let word = quoted(word, QUOTED_LEN_MAX - repeated);
        repeated += word.len() + 3;
        text.extend_from_slice(&[b"'", word, b"' "].concat());
    }
    CommandError::Quoting(text)
}

/// The beginning of what a client sent, for an error. Redis prints a C string: it ends at a NUL.
fn quoted(word: &[u8], len_max: usize) -> &[u8] {
    let word = &word[..word.len().min(len_max)];
    &word[..word.iter().position(|&byte| byte == 0).unwrap_or(word.len())]
}

#[cfg(test)]
mod tests;
