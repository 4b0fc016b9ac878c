//! What a page's bytes come to, by the processor's AES unit if it has one.
//!
//! ```text
//!   page ─► 16 lanes of 16 bytes, one AES round each a block: lane = round(lane) xor block
//!        ─► lanes folded into one by the same round ─► three rounds more ─► 30 bits
//! ```
//!
//! A round is a bijection of its lane, so a wrong block changes its lane, always, and with it the 128 bits that are left:
//! only the last step, to 30 bits, can miss (one in 2^30). Two loads and two rounds a cycle on any processor of
//! the last ten years, against six instructions for 16 bytes of XXH3 without AVX, which is not enabled here.
//! The bits live in near memory only, so the choice is this machine's own. Refuses to be a cipher.

use core::arch::x86_64::{
    __cpuid, __m128i, _mm_aesenc_si128, _mm_cvtsi128_si64, _mm_load_si128, _mm_set_epi64x,
};
use farmem::{Checksum, Frame, PAGE_SIZE};

/// Blocks that are worked on at a time: a round takes four cycles, and two begin in each.
const LANES: usize = 16;
const BLOCKS: usize = PAGE_SIZE / size_of::<__m128i>();
/// Differ, so that lanes cannot be exchanged. Any odd number does; this is 2^64 over the golden ratio.
const SEED: i64 = 0x9e37_79b9_7f4a_7c15_u64 as i64;

/// How this machine makes checksums.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Way {
    /// By AES rounds.
    Aes,
    /// By XXH3.
    Plain,
}

impl Way {
    /// The best that the processor has.
    pub fn of_this_processor() -> Way {
        const AES: u32 = 1 << 25;
        if __cpuid(1).ecx & AES != 0 { Way::Aes } else { Way::Plain }
    }

    /// The checksum of a page.
    #[inline]
    pub fn of(self, frame: &Frame) -> Checksum {
        match self {
            // SAFETY: `of_this_processor` has found the instructions; nobody else makes this value.
            Way::Aes => Checksum::from_bits(unsafe { aes(frame) }),
            Way::Plain => Checksum::of(&frame.0),
        }
    }
}

#[target_feature(enable = "aes")]
fn aes(frame: &Frame) -> u32 {
    let blocks = (&raw const frame.0).cast::<__m128i>();
    // SAFETY: a frame is aligned to its size, and `at` is below `BLOCKS`.
    let block = |at: usize| unsafe { _mm_load_si128(blocks.add(at)) };
    let mut lanes = [_mm_set_epi64x(0, 0); LANES];
    for (lane, at) in lanes.iter_mut().zip(1..) {
        *lane = _mm_set_epi64x(SEED.wrapping_mul(at), at);
    }
    for first in (0..BLOCKS).step_by(LANES) {
        for (at, lane) in lanes.iter_mut().enumerate() {
            *lane = _mm_aesenc_si128(*lane, block(first + at));
        }
    }
    let mut all = lanes[0];
    for &lane in &lanes[1..] {
        all = _mm_aesenc_si128(all, lane);
    }
    for _ in 0..3 {
        all = _mm_aesenc_si128(all, _mm_set_epi64x(SEED, !SEED));
    }
    _mm_cvtsi128_si64(all) as u32
}
