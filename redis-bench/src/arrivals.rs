//! When the next request is due in an open loop: a Poisson process.
//!
//! Due times come from the process alone, never from what the server did, so a server that stalls is
//! charged for every request that was due meanwhile (no coordinated omission).

use rand::SeedableRng;
use rand::rngs::SmallRng;
use rand_distr::{Distribution, Exp};

/// An endless sequence of due times.
#[derive(Clone, Debug)]
pub struct Arrivals {
    gap_ns: Exp<f64>,
    due_ns: f64,
    rng: SmallRng,
}

impl Arrivals {
    /// Arrivals at `rate_per_s` on average, from time zero on.
    ///
    /// # Panics
    /// If `rate_per_s` is not a positive number.
    pub fn new(rate_per_s: f64, seed: u64) -> Self {
        assert!(rate_per_s.is_finite() && rate_per_s > 0.0, "a rate of {rate_per_s} a second");
        let gap_ns = Exp::new(rate_per_s / 1e9).expect("the rate is positive");
        let mut arrivals = Arrivals { gap_ns, due_ns: 0.0, rng: SmallRng::seed_from_u64(seed) };
        arrivals.advance();
        arrivals
    }

    /// When the next request is due.
    #[inline]
    pub fn due_ns(&self) -> u64 {
        self.due_ns as u64
    }

    /// Moves on to the request after it.
    #[inline]
    pub fn advance(&mut self) {
        self.due_ns += self.gap_ns.sample(&mut self.rng);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gaps(rate: f64, count: usize) -> Vec<f64> {
        let mut arrivals = Arrivals::new(rate, 3);
        let mut last = 0.0;
        (0..count)
            .map(|_| {
                let gap = arrivals.due_ns - last;
                last = arrivals.due_ns;
                arrivals.advance();
                gap
            })
            .collect()
    }

    #[test]
    fn gaps_have_the_mean_and_the_spread_of_an_exponential() {
        let gaps = gaps(100_000.0, 200_000);
        let mean = gaps.iter().sum::<f64>() / gaps.len() as f64;
        let variance = gaps.iter().map(|g| (g - mean).powi(2)).sum::<f64>() / gaps.len() as f64;
        assert!((mean / 10_000.0 - 1.0).abs() < 0.01, "{mean}");
        assert!((variance.sqrt() / mean - 1.0).abs() < 0.02, "{variance}");
    }

    #[test]
    fn gaps_pass_a_kolmogorov_smirnov_test() {
        let mut gaps = gaps(1_000.0, 10_000);
        gaps.sort_unstable_by(f64::total_cmp);
        let worst = gaps
            .iter()
            .enumerate()
            .map(|(at, gap)| ((at as f64 + 0.5) / 10_000.0 - (1.0 - (-gap / 1e6).exp())).abs())
            .fold(0.0, f64::max);
        // 1.63 / sqrt(n) is the bound at 1 %.
        assert!(worst < 0.0163, "{worst}");
    }

    #[test]
    fn counts_in_a_window_vary_as_poisson_counts_do() {
        let mut arrivals = Arrivals::new(10_000.0, 9);
        let mut counts = vec![0f64; 2_000];
        loop {
            let window = (arrivals.due_ns() / 10_000_000) as usize;
            let Some(count) = counts.get_mut(window) else { break };
            *count += 1.0;
            arrivals.advance();
        }
        let mean = counts.iter().sum::<f64>() / counts.len() as f64;
        let variance = counts.iter().map(|c| (c - mean).powi(2)).sum::<f64>() / counts.len() as f64;
        assert!((variance / mean - 1.0).abs() < 0.15, "mean {mean}, variance {variance}");
    }
}
