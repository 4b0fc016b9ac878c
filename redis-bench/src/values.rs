//! Value bytes: random to a compressor, derivable by the verifier.
//!
//! ```text
//! 0       8        16                          len
//! ├ ident ┼ serial ┼ stream(seed, ident, serial) ┤      ident and serial are masked by the seed
//! ```
//!
//! `ident` is the key's number; `serial` tells elements of a list, and overwrites of a key, apart. A
//! body that was cut, shifted, mixed with another or belongs to another key does not check.
//! Refuses values shorter than [`VALUE_BYTES_MIN`], which could not name their key.

/// Bytes of the two masked words at the front of each value.
pub const VALUE_BYTES_MIN: usize = 16;

const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;
const IDENT_MASK: u64 = 0x5851_f42d_4c95_7f2d;
const SERIAL_MASK: u64 = 0x1405_7b7e_f767_814f;

/// One step of SplitMix64's output function: a bijection that leaves no visible pattern.
///
/// Source: Steele, Lea, Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014.
#[inline]
pub fn mix(word: u64) -> u64 {
    let word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    word ^ (word >> 31)
}

/// Where the stream of one value starts.
#[inline]
fn stream_start(seed: u64, ident: u64, serial: u64) -> u64 {
    mix(seed ^ mix(ident.wrapping_mul(GOLDEN) ^ mix(serial.wrapping_add(GOLDEN))))
}

/// Appends the `len` bytes of value `ident`, `serial`.
///
/// # Panics
/// If `len` is below [`VALUE_BYTES_MIN`].
pub fn append(seed: u64, ident: u64, serial: u64, len: usize, out: &mut Vec<u8>) {
    assert!(len >= VALUE_BYTES_MIN, "a value of {len} bytes cannot name its key");
    out.reserve(len + 8);
    let end = out.len() + len;
    out.extend_from_slice(&(ident ^ mix(seed ^ IDENT_MASK)).to_le_bytes());
    out.extend_from_slice(&(serial ^ mix(seed ^ SERIAL_MASK)).to_le_bytes());
    let mut state = stream_start(seed, ident, serial);
    while out.len() < end {
        state = state.wrapping_add(GOLDEN);
        out.extend_from_slice(&mix(state).to_le_bytes());
    }
    out.truncate(end);
}

/// The serial of `body` if it is, byte for byte, a value of `ident`.
pub fn check(seed: u64, ident: u64, body: &[u8]) -> Option<u64> {
    let (words, rest) = body.split_at_checked(VALUE_BYTES_MIN)?;
    let word = |at: usize| u64::from_le_bytes(words[at..at + 8].try_into().expect("eight bytes of sixteen"));
    if word(0) ^ mix(seed ^ IDENT_MASK) != ident {
        return None;
    }
    let serial = word(8) ^ mix(seed ^ SERIAL_MASK);
    let mut state = stream_start(seed, ident, serial);
    let mut chunks = rest.chunks_exact(8);
    let mut wrong = 0;
    for chunk in &mut chunks {
        state = state.wrapping_add(GOLDEN);
        wrong |= mix(state) ^ u64::from_le_bytes(chunk.try_into().expect("chunks of eight"));
    }
    let tail = chunks.remainder();
    let last = mix(state.wrapping_add(GOLDEN)).to_le_bytes();
    (wrong == 0 && tail == &last[..tail.len()]).then_some(serial)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn value(seed: u64, ident: u64, serial: u64, len: usize) -> Vec<u8> {
        let mut out = b"before".to_vec();
        append(seed, ident, serial, len, &mut out);
        out.split_off(6)
    }

    proptest! {
        #[test]
        fn a_value_checks_and_no_neighbour_does(seed: u64, ident: u64, serial: u64, len in 16usize..300, at: prop::sample::Index) {
            let mut body = value(seed, ident, serial, len);
            prop_assert_eq!(body.len(), len);
            prop_assert_eq!(check(seed, ident, &body), Some(serial));
            prop_assert_eq!(check(seed, ident.wrapping_add(1), &body), None);
            if len > 16 {
                let at = 16 + at.index(len - 16);
                body[at] ^= 1;
                prop_assert_eq!(check(seed, ident, &body), None);
            }
        }
    }

    #[test]
    fn a_value_looks_random() {
        let body = value(1, 0, 0, 1 << 20);
        let mut counts = [0u32; 256];
        body.iter().for_each(|&byte| counts[usize::from(byte)] += 1);
        // 4096 expected of each; a binomial's 6 sigma is 384.
        assert!(counts.iter().all(|&n| n.abs_diff(4096) < 384), "{counts:?}");
    }

    #[test]
    fn a_cut_value_does_not_check() {
        assert_eq!(check(1, 2, &value(1, 2, 3, 100)[..8]), None);
    }
}
