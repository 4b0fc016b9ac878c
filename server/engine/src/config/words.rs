//! Splits a line of a configuration file into words, quoted as Redis quotes them.
//!
//! ```text
//!   plain   "double \n \r \t \b \a \\ \" \x41"   'single \' only'
//! ```
//!
//! Refuses to know what the words mean. A closing quote must end its word.

use alloc::string::String;
use alloc::vec::Vec;

/// The words of a line; `None` if a quote is not closed or does not end its word.
///
/// Source: Redis' `sdssplitargs`.
pub fn split(line: &str) -> Option<Vec<String>> {
    let mut words = Vec::new();
    let mut rest = line.as_bytes();
    loop {
        rest = rest.trim_ascii_start();
        if rest.is_empty() {
            return Some(words);
        }
        let (word, after) = next_word(rest)?;
        words.push(String::from_utf8_lossy(&word).into_owned());
        rest = after;
    }
}

fn next_word(mut rest: &[u8]) -> Option<(Vec<u8>, &[u8])> {
    let mut word = Vec::new();
    loop {
        match rest {
            [] => return Some((word, rest)),
            [space, ..] if space.is_ascii_whitespace() => return Some((word, rest)),
            [quote @ (b'"' | b'\''), after @ ..] => {
                rest = if *quote == b'"' {
                    double_quoted(after, &mut word)?
                } else {
                    single_quoted(after, &mut word)?
                };
                if rest.first().is_some_and(|byte| !byte.is_ascii_whitespace()) {
                    return None;
                }
            }
            [byte, after @ ..] => {
                word.push(*byte);
                rest = after;
            }
        }
    }
}

/// Takes what stands between double quotes; returns what follows the closing one.
fn double_quoted<'a>(mut rest: &'a [u8], word: &mut Vec<u8>) -> Option<&'a [u8]> {
    loop {
        let (byte, after) = match rest {
            [] => return None,
            [b'"', after @ ..] => return Some(after),
            [b'\\', b'x', high, low, after @ ..] if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => {
                (hex(*high) * 16 + hex(*low), after)
            }
            [b'\\', escaped, after @ ..] => (unescape(*escaped), after),
            [byte, after @ ..] => (*byte, after),
        };
        word.push(byte);
        rest = after;
    }
}

/// Takes what stands between single quotes; returns what follows the closing one.
fn single_quoted<'a>(mut rest: &'a [u8], word: &mut Vec<u8>) -> Option<&'a [u8]> {
    loop {
        let (byte, after) = match rest {
            [] => return None,
            [b'\'', after @ ..] => return Some(after),
            [b'\\', b'\'', after @ ..] => (b'\'', after),
            [byte, after @ ..] => (*byte, after),
        };
        word.push(byte);
        rest = after;
    }
}

fn unescape(escaped: u8) -> u8 {
    match escaped {
        b'n' => b'\n',
        b'r' => b'\r',
        b't' => b'\t',
        b'b' => 8,
        b'a' => 7,
        other => other,
    }
}

fn hex(digit: u8) -> u8 {
    (digit as char).to_digit(16).expect("the caller has checked that it is a digit") as u8
}

#[cfg(test)]
mod tests {
    use super::split;
    use alloc::string::String;
    use alloc::vec::Vec;

    fn words(line: &str) -> Vec<String> {
        split(line).expect("the quotes are closed")
    }

    #[test]
    fn words_are_split_at_white_space() {
        assert_eq!(words(""), [""; 0]);
        assert_eq!(words("  save  900\t1 "), ["save", "900", "1"]);
    }

    #[test]
    fn quotes_keep_white_space_and_may_be_empty() {
        assert_eq!(words(r#"requirepass "two words" '' "" x"#), ["requirepass", "two words", "", "", "x"]);
        assert_eq!(words(r#"'it\'s' 'a\n'"#), ["it's", "a\\n"]);
    }

    #[test]
    fn double_quotes_know_the_escapes_of_redis() {
        assert_eq!(words(r#""\x41\n\r\t\b\a\\\"\q\xg""#), ["A\n\r\t\u{8}\u{7}\\\"qxg"]);
    }

    #[test]
    fn a_quote_may_begin_inside_a_word_but_must_end_it() {
        assert_eq!(words(r#"a"b c""#), ["ab c"]);
        assert_eq!(split(r#""a"b"#), None);
        assert_eq!(split(r#""a"#), None);
        assert_eq!(split(r#"'a\'"#), None);
    }
}
