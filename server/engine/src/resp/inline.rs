//! Inline commands: one line of words, as a human types it through telnet.
//!
//! Refuses to find the end of the line. Source: `sdssplitargs` of Redis 7.0, whose rules these are: blanks
//! separate, a quote may begin inside a word and must end it, double quotes know escapes, single quotes
//! know only `\'`.

use super::decode::Span;
use alloc::vec::Vec;

/// The blanks of C's `isspace`: they may stand before a word and behind a closing quote.
fn is_blank(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t'..=b'\r')
}

/// The blanks that end a bare word: vertical tab and form feed are part of it.
fn ends_word(byte: u8) -> bool {
    matches!(byte, b' ' | b'\n' | b'\r' | b'\t')
}

/// The words of a line that has no quotes, where they lie. `false` if it has some.
pub(super) fn split_plain(line: &[u8], spans: &mut Vec<Span>) -> bool {
    if line.iter().any(|byte| matches!(byte, b'"' | b'\'')) {
        return false;
    }
    let mut at = 0;
    loop {
        at += count_while(&line[at..], is_blank);
        if at == line.len() {
            return true;
        }
        let len = count_while(&line[at..], |byte| !ends_word(byte));
        spans.push(Span::new(at, len));
        at += len;
    }
}

fn count_while(bytes: &[u8], wanted: impl Fn(u8) -> bool) -> usize {
    bytes.iter().take_while(|&&byte| wanted(byte)).count()
}

/// The words of a line, their quotes taken off into `text`. `false` if a quote is not closed, or is
/// closed inside a word.
pub(super) fn split_quoted(line: &[u8], text: &mut Vec<u8>, spans: &mut Vec<Span>) -> bool {
    let mut rest = line;
    loop {
        rest = &rest[count_while(rest, is_blank)..];
        if rest.is_empty() {
            return true;
        }
        let start = text.len();
        match word(rest, text) {
            Some(behind) => rest = behind,
            None => return false,
        }
        spans.push(Span::new(start, text.len() - start));
    }
}

/// Takes one word off the front of `rest` and returns what lies behind it.
fn word<'a>(mut rest: &'a [u8], text: &mut Vec<u8>) -> Option<&'a [u8]> {
    while let Some((&byte, behind)) = rest.split_first() {
        match byte {
            b'"' => return closed(double_quoted(behind, text)?),
            b'\'' => return closed(single_quoted(behind, text)?),
            byte if ends_word(byte) => return Some(rest),
            byte => text.push(byte),
        }
        rest = behind;
    }
    Some(rest)
}

/// A closing quote is followed by a blank or nothing at all.
fn closed(behind: &[u8]) -> Option<&[u8]> {
    behind.first().is_none_or(|&byte| is_blank(byte)).then_some(behind)
}

fn double_quoted<'a>(mut rest: &'a [u8], text: &mut Vec<u8>) -> Option<&'a [u8]> {
    loop {
        rest = match rest {
            [b'"', behind @ ..] => return Some(behind),
            [b'\\', b'x', high, low, behind @ ..] if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => {
                text.push(hex(*high) << 4 | hex(*low));
                behind
            }
            [b'\\', escaped, behind @ ..] => {
                text.push(match escaped {
                    b'n' => b'\n',
                    b'r' => b'\r',
                    b't' => b'\t',
                    b'b' => 0x08,
                    b'a' => 0x07,
                    &other => other,
                });
                behind
            }
            [byte, behind @ ..] => {
                text.push(*byte);
                behind
            }
            [] => return None,
        }
    }
}

fn single_quoted<'a>(mut rest: &'a [u8], text: &mut Vec<u8>) -> Option<&'a [u8]> {
    loop {
        rest = match rest {
            [b'\\', b'\'', behind @ ..] => {
                text.push(b'\'');
                behind
            }
            [b'\'', behind @ ..] => return Some(behind),
            [byte, behind @ ..] => {
                text.push(*byte);
                behind
            }
            [] => return None,
        }
    }
}

fn hex(digit: u8) -> u8 {
    match digit {
        b'0'..=b'9' => digit - b'0',
        b'a'..=b'f' => digit - b'a' + 10,
        _ => digit - b'A' + 10,
    }
}
