//! Replies: the types of RESP2 and RESP3, appended to a buffer.
//!
//! Refuses to decide which reply to give, and to send it. Where the two versions of the protocol differ
//! the function asks for `resp3`; the others are the same in both.

use crate::number;
use alloc::vec::Vec;

const CRLF: &[u8] = b"\r\n";

/// `+text`: a status.
#[inline]
pub fn simple(out: &mut Vec<u8>, text: &[u8]) {
    line(out, b'+', text);
}

/// `-text`: an error; `text` begins with its code.
///
/// Line breaks become blanks, so that what a client sent and reads back cannot forge a reply.
#[cold]
pub fn error(out: &mut Vec<u8>, text: &[u8]) {
    out.push(b'-');
    out.extend(text.iter().map(|&byte| if matches!(byte, b'\r' | b'\n') { b' ' } else { byte }));
    out.extend_from_slice(CRLF);
}

/// `:value`
#[inline]
pub fn integer(out: &mut Vec<u8>, value: i64) {
    match value {
        0 => out.extend_from_slice(b":0\r\n"),
        1 => out.extend_from_slice(b":1\r\n"),
        _ => line(out, b':', itoa::Buffer::new().format(value).as_bytes()),
    }
}

/// `$len data`: bytes.
#[inline]
pub fn bulk(out: &mut Vec<u8>, data: &[u8]) {
    bulk_header(out, data.len());
    out.extend_from_slice(data);
    out.extend_from_slice(CRLF);
}

/// `$len CRLF`: what stands before bytes that leave another way; [`bulk_end`] stands behind them.
#[inline]
pub fn bulk_header(out: &mut Vec<u8>, len: usize) {
    head(out, b'$', len);
}

/// The CRLF behind the bytes of a [`bulk_header`].
#[inline]
pub fn bulk_end(out: &mut Vec<u8>) {
    out.extend_from_slice(CRLF);
}

/// Nothing: `$-1` or `_`.
#[inline]
pub fn null(out: &mut Vec<u8>, resp3: bool) {
    out.extend_from_slice(if resp3 { b"_\r\n" } else { b"$-1\r\n" });
}

/// No array: `*-1` or `_`.
#[inline]
pub fn null_array(out: &mut Vec<u8>, resp3: bool) {
    out.extend_from_slice(if resp3 { b"_\r\n" } else { b"*-1\r\n" });
}

/// `*len`: so many replies follow.
#[inline]
pub fn array_len(out: &mut Vec<u8>, len: usize) {
    head(out, b'*', len);
}

/// `%pairs`, or an array of twice as many: keys and values follow in turn.
#[inline]
pub fn map_len(out: &mut Vec<u8>, pairs: usize, resp3: bool) {
    if resp3 { head(out, b'%', pairs) } else { head(out, b'*', pairs * 2) }
}

/// `~len`, or an array.
#[inline]
pub fn set_len(out: &mut Vec<u8>, len: usize, resp3: bool) {
    head(out, if resp3 { b'~' } else { b'*' }, len);
}

/// `>len`, or an array: a message that answers no command.
#[inline]
pub fn push_len(out: &mut Vec<u8>, len: usize, resp3: bool) {
    head(out, if resp3 { b'>' } else { b'*' }, len);
}

/// `,value`, or a bulk: 17 significant digits, as Redis prints them.
pub fn double(out: &mut Vec<u8>, value: f64, resp3: bool) {
    let mut digits = Vec::with_capacity(24);
    number::write_f64(&mut digits, value);
    if resp3 { line(out, b',', &digits) } else { bulk(out, &digits) }
}

/// `(digits`, or a bulk: a number of any length.
pub fn big_number(out: &mut Vec<u8>, digits: &[u8], resp3: bool) {
    if resp3 { line(out, b'(', digits) } else { bulk(out, digits) }
}

/// `#t` and `#f`, or 1 and 0.
pub fn boolean(out: &mut Vec<u8>, value: bool, resp3: bool) {
    match (resp3, value) {
        (true, true) => out.extend_from_slice(b"#t\r\n"),
        (true, false) => out.extend_from_slice(b"#f\r\n"),
        (false, _) => integer(out, i64::from(value)),
    }
}

/// `=len format:text`, or a bulk: text that a client shows as it is.
///
/// # Panics
/// If `format` has not three bytes (`txt`, `mkd`).
pub fn verbatim(out: &mut Vec<u8>, format: &str, text: &[u8], resp3: bool) {
    assert_eq!(format.len(), 3, "RESP3 gives the format of a verbatim string three bytes");
    if !resp3 {
        return bulk(out, text);
    }
    head(out, b'=', text.len() + 4);
    out.extend_from_slice(format.as_bytes());
    out.push(b':');
    out.extend_from_slice(text);
    out.extend_from_slice(CRLF);
}

#[inline]
fn line(out: &mut Vec<u8>, sigil: u8, text: &[u8]) {
    out.reserve(text.len() + 3);
    out.push(sigil);
    out.extend_from_slice(text);
    out.extend_from_slice(CRLF);
}

/// A sigil and a length. Most lengths are short: one or two digits are written as one piece.
#[inline]
fn head(out: &mut Vec<u8>, sigil: u8, len: usize) {
    match len {
        0..=9 => out.extend_from_slice(&[sigil, b'0' + len as u8, b'\r', b'\n']),
        10..=99 => {
            out.extend_from_slice(&[sigil, b'0' + (len / 10) as u8, b'0' + (len % 10) as u8, b'\r', b'\n']);
        }
        _ => line(out, sigil, itoa::Buffer::new().format(len).as_bytes()),
    }
}
