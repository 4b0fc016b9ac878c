//! When a key is to expire, as the options of SET and GETEX say it.
//!
//! Refuses to read its number while options are parsed: a syntax error anywhere comes before a bad number.

use super::super::Context;
use crate::args::Args;
use crate::error::{CommandError, Outcome};
use alloc::format;

/// The word in front of the number.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Unit {
    Ex,
    Px,
    ExAt,
    PxAt,
}

impl Unit {
    const ALL: [(&'static str, Unit); 4] =
        [("EX", Unit::Ex), ("PX", Unit::Px), ("EXAT", Unit::ExAt), ("PXAT", Unit::PxAt)];

    /// Whether the number is a point in time rather than a span from now.
    pub fn is_absolute(self) -> bool {
        matches!(self, Unit::ExAt | Unit::PxAt)
    }
}

/// What the options say.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Expiry {
    /// No option: SET takes the time away, GETEX leaves it.
    Unsaid,
    Keep,
    Persist,
    /// The number is argument `index`.
    Number {
        unit: Unit,
        index: usize,
    },
}

impl Expiry {
    /// Takes argument `index`, and the number behind it, if they are an expiry that goes with what was said
    /// before. Answers the index of the last argument taken.
    ///
    /// Source: an option may be repeated, and the last one counts, but none goes with another.
    pub fn take(&mut self, args: &Args, index: usize) -> Option<usize> {
        let (_, unit) = *Unit::ALL.iter().find(|(word, _)| args.is(index, word))?;
        let fits = match *self {
            Expiry::Unsaid => true,
            Expiry::Number { unit: said, .. } => said == unit,
            Expiry::Keep | Expiry::Persist => false,
        };
        if !fits || index + 1 == args.len() {
            return None;
        }
        *self = Expiry::Number { unit, index: index + 1 };
        Some(index + 1)
    }

    /// Takes a word that stands alone: `KEEPTTL` or `PERSIST`.
    pub fn take_word(&mut self, word: Expiry) -> bool {
        let fits = *self == Expiry::Unsaid || *self == word;
        if fits {
            *self = word;
        }
        fits
    }

    /// The time that is meant, if one is. Units: milliseconds since 1970.
    /// # Errors
    /// Redis' texts: not an integer, or not a possible time.
    pub fn at_ms(self, context: &Context, args: &Args, command: &str) -> Outcome<Option<u64>> {
        let Expiry::Number { unit, index } = self else { return Ok(None) };
        let number = context.integer(args, index)?;
        let in_seconds = matches!(unit, Unit::Ex | Unit::ExAt);
        let at_ms = expiry_ms(number, in_seconds, !unit.is_absolute(), context.now.unix_ms)
            .ok_or_else(|| CommandError::Owned(format!("ERR invalid expire time in '{command}' command")))?;
        Ok(Some(at_ms))
    }
}

/// Redis' checks of an expiry time: positive, and no overflow in milliseconds.
pub fn expiry_ms(number: i64, in_seconds: bool, relative: bool, now_ms: u64) -> Option<u64> {
    let ms = if in_seconds { number.checked_mul(1000)? } else { number };
    if number <= 0 {
        return None;
    }
    let at = if relative { ms.checked_add(now_ms as i64)? } else { ms };
    u64::try_from(at).ok()
}
