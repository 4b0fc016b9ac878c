//! The 80-bit `long double` that INCRBYFLOAT computes with where Redis is at home, in integers.
//!
//! ```text
//! value = mantissa * 2^exponent      mantissa: 64 bits, the highest set (normal numbers)
//!                                    exponent: -16445 (the least subnormal bit) to 16320
//! ```
//!
//! Every operation is exact and then rounded once, to the nearest even, as the x87 does; so the digits that
//! a client sees are those of Redis. Refuses to be a general number type: it parses, adds and prints.
//!
//! Source: `string2ld` and `ld2string(LD_STR_HUMAN)` of Redis 7.0, glibc's `strtold` and `%.17Lf`.

use alloc::vec::Vec;
use num_bigint::BigUint;

/// The exponent of the least bit of a subnormal number.
const EXPONENT_MIN: i32 = -16445;
/// The exponent of the greatest numbers: 16383 - 63.
const EXPONENT_MAX: i32 = 16320;
/// Redis copies the text into a buffer of 5 KiB. Units: bytes.
const TEXT_LEN_MAX: usize = 5 * 1024 - 1;
/// Decimal exponents beyond this are infinite or zero whatever the digits: 10^4933 > the greatest number,
/// and 5120 digits move the point no further than that.
const DECIMAL_EXPONENT_MAX: i64 = 5 * 1024 + 5000;
/// Digits behind the point that are printed.
const FRACTION_DIGITS: u32 = 17;

/// A finite or infinite 80-bit number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LongDouble {
    negative: bool,
    magnitude: Magnitude,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Magnitude {
    /// `mantissa * 2^exponent`; zero has mantissa 0.
    Finite {
        mantissa: u64,
        exponent: i32,
    },
    Infinite,
}

impl Magnitude {
    const ZERO: Self = Self::Finite { mantissa: 0, exponent: EXPONENT_MIN };
}

impl LongDouble {
    /// Zero, which a missing key counts as.
    pub const ZERO: Self = Self { negative: false, magnitude: Magnitude::ZERO };

    /// The number that `text` is; `None` if `strtold` would not take all of it, or it is out of range or
    /// not a number.
    #[must_use]
    pub fn parse(text: &[u8]) -> Option<Self> {
        if text.len() > TEXT_LEN_MAX {
            return None;
        }
        let (negative, digits) = match text {
            [b'-', digits @ ..] => (true, digits),
            [b'+', digits @ ..] => (false, digits),
            digits => (false, digits),
        };
        let magnitude = if digits.eq_ignore_ascii_case(b"inf") || digits.eq_ignore_ascii_case(b"infinity") {
            Magnitude::Infinite
        } else {
            match digits {
                [b'0', b'x' | b'X', hex @ ..] => parse_hexadecimal(hex)?,
                _ => parse_decimal(digits)?,
            }
        };
        Some(Self { negative, magnitude })
    }

    /// The sum; `None` if it is infinite or not a number.
    #[must_use]
    pub fn checked_add(self, other: Self) -> Option<Self> {
        let (
            Magnitude::Finite { mantissa: a, exponent: ea },
            Magnitude::Finite { mantissa: b, exponent: eb },
        ) = (self.magnitude, other.magnitude)
        else {
            return None;
        };
        if a == 0 || b == 0 {
            // Of two zeros the sum is negative only if both are; a zero changes no other number.
            let zero = Self { negative: self.negative && other.negative, ..Self::ZERO };
            return Some(if a != 0 {
                self
            } else if b != 0 {
                other
            } else {
                zero
            });
        }
        let (big, small) = if (ea, a) >= (eb, b) { (self, other) } else { (other, self) };
        let ((ea, a), (eb, b)) = if (ea, a) >= (eb, b) { ((ea, a), (eb, b)) } else { ((eb, b), (ea, a)) };
        // 62 bits of room below `a` (and one above for the carry); what is shifted out of `b` is sticky.
        let distance = (ea - eb) as u32;
        let (a, b, base) = (u128::from(a) << 62, u128::from(b) << 62, ea - 62);
        let (b, lost) =
            if distance < 128 { (b >> distance, b & ((1 << distance) - 1) != 0) } else { (0, true) };
        let sum = match (big.negative == small.negative, lost) {
            (true, _) => a + b,
            (false, false) => a - b,
            // The true difference lies strictly between this and this + 1.
            (false, true) => a - b - 1,
        };
        if sum == 0 {
            return Some(Self::ZERO);
        }
        let magnitude = round(sum, base, lost)?;
        Some(Self { negative: big.negative, magnitude })
    }

    /// Appends the number with at most 17 digits behind the point and no zeros at the end.
    pub fn write_human(self, out: &mut Vec<u8>) {
        let start = out.len();
        if self.negative {
            out.push(b'-');
        }
        let Magnitude::Finite { mantissa, exponent } = self.magnitude else {
            return out.extend_from_slice(b"inf");
        };
        if exponent >= 0 {
            let whole = BigUint::from(mantissa) << exponent as u32;
            out.extend_from_slice(whole.to_str_radix(10).as_bytes());
        } else {
            write_fraction(out, mantissa, exponent.unsigned_abs());
        }
        if &out[start..] == b"-0" {
            out.remove(start);
        }
    }
}

/// `mantissa / 2^shift`, rounded to 17 decimals: below 2^121 as an integer of 10^-17, so 128 bits do.
fn write_fraction(out: &mut Vec<u8>, mantissa: u64, shift: u32) {
    const SCALE: u128 = 10u128.pow(FRACTION_DIGITS);
    let scaled = u128::from(mantissa) * SCALE;
    let rounded = if shift < 128 { shift_to_even(scaled, shift, false) } else { 0 };
    let (whole, mut fraction) = (rounded / SCALE, rounded % SCALE);
    out.extend_from_slice(itoa::Buffer::new().format(whole).as_bytes());
    if fraction == 0 {
        return;
    }
    let mut width = FRACTION_DIGITS as usize;
    while fraction.is_multiple_of(10) {
        fraction /= 10;
        width -= 1;
    }
    let mut digits = itoa::Buffer::new();
    let digits = digits.format(fraction).as_bytes();
    out.push(b'.');
    out.resize(out.len() + width - digits.len(), b'0');
    out.extend_from_slice(digits);
}

/// `value >> shift`, to the nearest, ties to even; `sticky` says that the value is a little larger.
fn shift_to_even(value: u128, shift: u32, sticky: bool) -> u128 {
    if shift == 0 {
        return value;
    }
    let (kept, rest) = (value >> shift, value & ((1 << shift) - 1));
    let half = 1u128 << (shift - 1);
    let up = rest > half || rest == half && (sticky || kept & 1 == 1);
    kept + u128::from(up)
}

/// `value * 2^exponent` as an 80-bit number; `sticky` says that the value is a little larger.
///
/// `None` if it overflows. Underflow gives zero.
fn round(value: u128, exponent: i32, sticky: bool) -> Option<Magnitude> {
    if value == 0 {
        return Some(Magnitude::ZERO);
    }
    let bits = 128 - value.leading_zeros() as i32;
    // Down to 64 bits, or to the least bit that a subnormal number has.
    let shift = (bits - 64).max(EXPONENT_MIN - exponent);
    let (mantissa, exponent) = match shift {
        128.. => return Some(Magnitude::ZERO),
        ..0 => {
            let up = shift.unsigned_abs();
            (value << up, exponent - up as i32)
        }
        _ => (shift_to_even(value, shift as u32, sticky), exponent + shift),
    };
    let (mantissa, exponent) =
        if mantissa >> 64 == 0 { (mantissa, exponent) } else { (mantissa >> 1, exponent + 1) };
    (exponent <= EXPONENT_MAX).then_some(Magnitude::Finite { mantissa: mantissa as u64, exponent })
}

/// A magnitude of `strtold`: `None` where Redis sees ERANGE.
fn in_range(magnitude: Option<Magnitude>) -> Option<Magnitude> {
    magnitude.filter(|magnitude| !matches!(magnitude, Magnitude::Finite { mantissa: 0, .. }))
}

/// `digits [. digits] [e [sign] digits]`
fn parse_decimal(text: &[u8]) -> Option<Magnitude> {
    let (digits, point, exponent) = split_number(text, u8::is_ascii_digit, b'e')?;
    let first = digits.iter().position(|&digit| digit != b'0');
    let Some(first) = first else {
        return Some(Magnitude::ZERO);
    };
    let exponent = exponent - point;
    let digits = &digits[first..];
    if digits.len() <= 19 && (-18..=0).contains(&exponent) {
        // Nearly every number that is added to: digits / 10^n, where 10^n < 2^60 leaves 68 bits or more.
        let value = digits.iter().fold(0u64, |value, digit| value * 10 + u64::from(digit - b'0'));
        let shift = value.leading_zeros() + 64;
        let (value, divisor) = (u128::from(value) << shift, 10u128.pow(exponent.unsigned_abs() as u32));
        return round(value / divisor, -(shift as i32), value % divisor != 0);
    }
    let magnitude = exponent.saturating_add(digits.len() as i64);
    if magnitude.abs() > DECIMAL_EXPONENT_MAX {
        return None;
    }
    let value = BigUint::parse_bytes(digits, 10).expect("split_number gives decimal digits only");
    let power = BigUint::from(10u32).pow(exponent.unsigned_abs() as u32);
    in_range(if exponent >= 0 {
        round_big(&(value * power), 0, false)
    } else {
        // Enough bits that the quotient has 66 or more.
        let shift = (power.bits() + 66).saturating_sub(value.bits());
        let value = value << shift;
        let quotient = &value / &power;
        let sticky = &quotient * &power != value;
        round_big(&quotient, -(shift as i64), sticky)
    })
}

/// `0x` was read: `digits [. digits] [p [sign] digits]`
fn parse_hexadecimal(text: &[u8]) -> Option<Magnitude> {
    let (digits, point, exponent) = split_number(text, u8::is_ascii_hexdigit, b'p')?;
    let value = BigUint::parse_bytes(&digits, 16).expect("split_number gives hexadecimal digits only");
    if value == BigUint::ZERO {
        return Some(Magnitude::ZERO);
    }
    in_range(round_big(&value, exponent.saturating_sub(4 * point), false))
}

/// The digits without their point, how many stood behind it, and the exponent.
fn split_number(text: &[u8], is_digit: fn(&u8) -> bool, marker: u8) -> Option<(Vec<u8>, i64, i64)> {
    let end = text.iter().position(|byte| !is_digit(byte) && *byte != b'.').unwrap_or(text.len());
    let (number, rest) = text.split_at(end);
    let mut parts = number.splitn(2, |&byte| byte == b'.');
    let whole = parts.next().expect("splitting gives at least one part");
    let fraction = parts.next().unwrap_or_default();
    if whole.len() + fraction.len() == 0 || fraction.contains(&b'.') {
        return None;
    }
    let exponent = match rest {
        [] => 0,
        [letter, exponent @ ..] if letter.eq_ignore_ascii_case(&marker) => parse_exponent(exponent)?,
        _ => return None,
    };
    Some(([whole, fraction].concat(), fraction.len() as i64, exponent))
}

fn parse_exponent(text: &[u8]) -> Option<i64> {
    let (negative, digits) = match text {
        [b'-', digits @ ..] => (true, digits),
        [b'+', digits @ ..] => (false, digits),
        digits => (false, digits),
    };
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let value = digits.iter().fold(0i64, |value, digit| {
        value.saturating_mul(10).saturating_add(i64::from(digit - b'0')).min(i64::MAX / 4)
    });
    Some(if negative { -value } else { value })
}

/// [`round`] of a number of any length.
fn round_big(value: &BigUint, exponent: i64, sticky: bool) -> Option<Magnitude> {
    let excess = value.bits().saturating_sub(127);
    let top = value >> excess;
    let sticky = sticky || &(&top << excess) != value;
    let top = u128::try_from(&top).expect("127 bits were kept");
    let exponent = exponent.saturating_add(excess as i64);
    // Far beyond both ends the answer does not depend on how far.
    round(top, exponent.clamp(-100_000, 100_000) as i32, sticky)
}
