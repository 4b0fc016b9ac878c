//! Glob patterns as KEYS, SCAN and CONFIG GET know them.
//!
//! ```text
//! *  any bytes     ?  one byte     [abc] [a-z] [^a]  one byte of (or not of) a class     \x  x itself
//! ```
//!
//! Refuses to fail: whatever the bytes, a pattern means something, if need be what Redis makes of it
//! (`[` without `]` is a class to the end; a trailing `\` is itself).
//!
//! Bounds: at most `pattern.len() * text.len()` steps. As each `*` takes any bytes, only the last one that
//! was reached ever needs to be tried longer; Redis' own `skipLongerMatches` says the same.
//!
//! Source: `stringmatchlen` of Redis 7.0.

/// Whether letters of different case are the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Case {
    /// `a` is not `A`.
    Sensitive,
    /// `a` is `A`.
    Ignored,
}

/// Whether all of `text` is what `pattern` describes.
#[must_use]
pub fn matches(pattern: &[u8], text: &[u8], case: Case) -> bool {
    if text.is_empty() {
        return pattern.is_empty(); // to Redis not even `*` matches nothing
    }
    let (mut rest, mut at) = (pattern, 0);
    // Behind the last `*`: the pattern from there, and where in the text it is tried next.
    let mut star: Option<(&[u8], usize)> = None;
    loop {
        if let [b'*', behind @ ..] = rest {
            if behind.is_empty() {
                return true;
            }
            star = Some((behind, at));
            rest = behind;
            continue;
        }
        let fits = text.get(at).and_then(|&byte| one(rest, byte, case));
        match (fits, star) {
            (Some(behind), _) => (rest, at) = (behind, at + 1),
            _ if at == text.len() => return rest.is_empty(),
            (None, None) => return false,
            (None, Some((behind, tried))) => {
                star = Some((behind, tried + 1));
                (rest, at) = (behind, tried + 1);
            }
        }
    }
}

/// What is left of `pattern` behind the element at its front, if that describes `byte`.
fn one(pattern: &[u8], byte: u8, case: Case) -> Option<&[u8]> {
    match pattern {
        [] => None,
        [b'?', behind @ ..] => Some(behind),
        [b'[', b'^', class @ ..] => in_class(class, byte, case, false),
        [b'[', class @ ..] => in_class(class, byte, case, true),
        [b'\\', literal, behind @ ..] | [literal, behind @ ..] => {
            same(*literal, byte, case).then_some(behind)
        }
    }
}

fn same(left: u8, right: u8, case: Case) -> bool {
    left == right || case == Case::Ignored && left.eq_ignore_ascii_case(&right)
}

/// What is left behind the class that `rest` begins inside of, if `byte` being in it is as `wanted`.
fn in_class(mut rest: &[u8], byte: u8, case: Case, wanted: bool) -> Option<&[u8]> {
    let mut found = false;
    loop {
        rest = match rest {
            // An escaped byte is compared as it is, whatever the case flag says.
            [b'\\', literal, behind @ ..] => {
                found |= *literal == byte;
                behind
            }
            [b']', behind @ ..] => return (found == wanted).then_some(behind),
            [] => return (found == wanted).then_some(&[]),
            [from, b'-', to, behind @ ..] => {
                found |= in_range(*from, *to, byte, case);
                behind
            }
            [literal, behind @ ..] => {
                found |= same(*literal, byte, case);
                behind
            }
        };
    }
}

/// Redis puts the ends of a range in order as `char`s, which are signed where it runs, and folds case
/// after that with `tolower`, which turns them into bytes again (all but 0xff, which is `EOF`).
fn in_range(from: u8, to: u8, byte: u8, case: Case) -> bool {
    let (low, high) = if from as i8 > to as i8 { (to, from) } else { (from, to) };
    let fold = |byte: u8| match (case, byte) {
        (Case::Sensitive, _) | (Case::Ignored, 0xff) => i16::from(byte as i8),
        (Case::Ignored, _) => i16::from(byte.to_ascii_lowercase()),
    };
    (fold(low)..=fold(high)).contains(&fold(byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is(pattern: &str, text: &str) -> bool {
        matches(pattern.as_bytes(), text.as_bytes(), Case::Sensitive)
    }

    #[test]
    fn wildcards_match_as_in_redis() {
        for (pattern, text) in [
            ("*", "anything"),
            ("a*", "a"),
            ("a***", "a"),
            ("*a*", "a"),
            ("h?llo", "hallo"),
            ("h*llo", "heeeello"),
            ("*ab*cd", "xabxabxcd"),
            ("foo\\*", "foo*"),
            ("\\", "\\"),
            ("", ""),
        ] {
            assert!(is(pattern, text), "{pattern} must match {text}");
        }
        for (pattern, text) in [
            ("*", ""),
            ("**", ""),
            ("a?", "a"),
            ("a*b", "ac"),
            ("foo\\*", "foobar"),
            ("", "a"),
            ("a", ""),
            ("?", ""),
        ] {
            assert!(!is(pattern, text), "{pattern} must not match {text}");
        }
    }

    #[test]
    fn classes_match_as_in_redis() {
        for (pattern, text) in [
            ("h[ae]llo", "hello"),
            ("h[^e]llo", "hallo"),
            ("h[a-b]llo", "hbllo"),
            ("h[b-a]llo", "hallo"),
            ("[^]", "x"),
            ("[^", "x"),
            ("[\\]]", "]"),
            ("[a-", "-"),
            ("[abc", "c"),
            ("[a-]", "^"),
        ] {
            assert!(is(pattern, text), "{pattern} must match {text}");
        }
        for (pattern, text) in
            [("h[^e]llo", "hello"), ("[]", "]"), ("[", "["), ("[]a]", "a"), ("h[a-b]llo", "hello")]
        {
            assert!(!is(pattern, text), "{pattern} must not match {text}");
        }
    }

    #[test]
    fn case_is_folded_where_redis_folds_it() {
        for (pattern, text, expected) in [
            ("MAXMEM*", "maxmemory", true),
            ("[A-C]", "b", true),
            ("[Z-a]", "z", false),
            ("[\\A]", "a", false),
            ("\\A", "a", true),
        ] {
            assert_eq!(
                matches(pattern.as_bytes(), text.as_bytes(), Case::Ignored),
                expected,
                "{pattern} {text}"
            );
        }
        assert!(!is("A", "a"));
    }

    #[test]
    fn many_stars_take_no_exponential_time() {
        let pattern = "a*".repeat(40) + "b";
        assert!(!is(&pattern, &"a".repeat(20_000)));
    }
}
