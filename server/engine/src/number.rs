//! Numbers as Redis reads and writes them in strings.
//!
//! Refuses what Redis refuses: a plus sign, blanks, leading zeros, `-0`. A string is an integer here only
//! if printing the integer gives the very same string, so a value may be kept either way.

mod long_double;

pub use long_double::LongDouble;

use alloc::format;
use alloc::vec::Vec;

/// The longest integer: `-9223372036854775808`. Units: bytes.
pub const I64_LEN_MAX: usize = 20;

/// The integer that `text` is.
///
/// Source: `string2ll` of Redis 7.0.
#[inline]
#[must_use]
pub fn parse_i64(text: &[u8]) -> Option<i64> {
    let (negative, digits) = match text {
        [b'0'] => return Some(0),
        [b'-', digits @ ..] => (true, digits),
        digits => (false, digits),
    };
    // 19 digits cannot overflow u64 (10^19 - 1 < 2^64), and no i64 has more.
    if digits.len() >= I64_LEN_MAX || !matches!(digits.first()?, b'1'..=b'9') {
        return None;
    }
    let mut magnitude = 0u64;
    for &byte in digits {
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 {
            return None;
        }
        magnitude = magnitude * 10 + u64::from(digit);
    }
    if negative { 0i64.checked_sub_unsigned(magnitude) } else { i64::try_from(magnitude).ok() }
}

/// Appends `value` with 17 significant digits, as C's `%.17g` does.
pub fn write_f64(out: &mut Vec<u8>, value: f64) {
    if value.is_nan() {
        return out.extend_from_slice(b"nan");
    }
    if value.is_infinite() {
        return out.extend_from_slice(if value > 0.0 { b"inf" } else { b"-inf" });
    }
    let scientific = format!("{value:.16e}");
    let (mantissa, exponent) = scientific.split_once('e').expect("LowerExp always writes an exponent");
    let exponent: i32 = exponent.parse().expect("LowerExp writes a decimal exponent");
    let (sign, mantissa) = mantissa.strip_prefix('-').map_or(("", mantissa), |mantissa| ("-", mantissa));
    let digits: Vec<u8> = mantissa.bytes().filter(|&byte| byte != b'.').collect();
    let significant = digits.iter().rposition(|&byte| byte != b'0').map_or(1, |last| last + 1);
    let digits = &digits[..significant];
    out.extend_from_slice(sign.as_bytes());
    match exponent {
        // %g: an exponent only below 10^-4 and from 10^17 on.
        ..-4 | 17.. => {
            push_point(out, digits, 1);
            out.extend_from_slice(if exponent < 0 { b"e-" } else { b"e+" });
            out.extend_from_slice(format!("{:02}", exponent.unsigned_abs()).as_bytes());
        }
        ..0 => {
            out.extend_from_slice(b"0.");
            out.resize(out.len() + exponent.unsigned_abs() as usize - 1, b'0');
            out.extend_from_slice(digits);
        }
        _ => push_point(out, digits, exponent as usize + 1),
    }
}

/// Digits with `whole` of them in front of the point; no point if nothing is behind it.
fn push_point(out: &mut Vec<u8>, digits: &[u8], whole: usize) {
    match digits.split_at_checked(whole) {
        Some((integer, [])) => out.extend_from_slice(integer),
        Some((integer, fraction)) => {
            out.extend_from_slice(integer);
            out.push(b'.');
            out.extend_from_slice(fraction);
        }
        None => {
            out.extend_from_slice(digits);
            out.resize(out.len() + whole - digits.len(), b'0');
        }
    }
}

#[cfg(test)]
mod tests;
