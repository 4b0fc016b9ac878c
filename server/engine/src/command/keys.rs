//! Where the keys of a command are, found by its key specs alone.
//!
//! Refuses to guess: a command that its specs do not fit has no keys.
//!
//! Source: `getKeysUsingKeySpecs` of Redis 7.0.

use super::CommandId;
use super::spec::{CommandSpec, FindKeys, KeyFlag, KeySpec, Set};
use crate::number::parse_i64;

/// Calls `found` with the place and the flags of each key of `words`, the command's own word included.
///
/// Returns how many there are, or `None` if the arguments do not fit the specs.
pub fn find(
    spec: &CommandSpec,
    words: &[&[u8]],
    mut found: impl FnMut(usize, Set<KeyFlag>),
) -> Option<usize> {
    let mut count = 0;
    for keys in spec.keys {
        let flags =
            if keys.flags.has(KeyFlag::VariableFlags) { flags_of(spec.id, words) } else { keys.flags };
        let (first, last, step) = range(keys, words)?;
        if last >= words.len() || first > last {
            return None;
        }
        for at in (first..=last).step_by(step) {
            found(at, flags);
            count += 1;
        }
    }
    Some(count)
}

/// The first key, the last one and the step of one spec.
fn range(keys: &KeySpec, words: &[&[u8]]) -> Option<(usize, usize, usize)> {
    let begin = usize::try_from(keys.begin).ok()?;
    match keys.find {
        FindKeys::Range { last, step, limit } => {
            let last = match (usize::try_from(last), limit) {
                (Ok(further), _) => begin + further,
                (Err(_), 0) => words.len().checked_sub(usize::from(last.unsigned_abs()))?,
                (Err(_), limit) => {
                    let rest = words.len().checked_sub(begin)? / usize::from(limit.unsigned_abs());
                    (begin + rest).checked_sub(usize::from(last.unsigned_abs()))?
                }
            };
            Some((begin, last, usize::from(step.unsigned_abs())))
        }
        FindKeys::Keynum { count_at, first, step } => {
            let count =
                words.get(begin + usize::try_from(count_at).ok()?).and_then(|word| parse_i64(word))?;
            let count = usize::try_from(count).ok().filter(|count| (1..=words.len()).contains(count))?;
            let first = begin + usize::try_from(first).ok()?;
            Some((first, first + count - 1, usize::from(step.unsigned_abs())))
        }
    }
}

/// What SET does with its key depends on whether it gives the old value back. Source: `setGetKeys`.
fn flags_of(id: CommandId, words: &[&[u8]]) -> Set<KeyFlag> {
    assert!(id == CommandId::Set, "no other command of the table has variable flags");
    if words.iter().skip(3).any(|word| word.eq_ignore_ascii_case(b"get")) {
        Set::<KeyFlag>::of(&[KeyFlag::Rw, KeyFlag::Access, KeyFlag::Update])
    } else {
        Set::<KeyFlag>::of(&[KeyFlag::Ow, KeyFlag::Update])
    }
}
