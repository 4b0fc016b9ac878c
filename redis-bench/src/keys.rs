//! Which key is asked for next: uniform, Zipf or hotspot over `0..n`.
//!
//! Popular keys are scattered over the key space by a bijection, so that popularity says nothing about
//! where (in which page) a key was placed by a server that was filled in order.

use std::fmt;
use std::str::FromStr;

use rand::rngs::SmallRng;
use rand::{Rng, RngExt};
use rand_distr::{Distribution, Zipf};

/// A distribution as the user names it: `uniform`, `zipf:0.99`, `hotspot:0.1,0.9`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum KeyChoice {
    /// Every key alike.
    Uniform,
    /// Zipf with this exponent.
    Zipf(f64),
    /// This share of the keys gets that share of the requests.
    Hotspot(f64, f64),
}

impl FromStr for KeyChoice {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong =
            || format!("`{text}` is no key distribution: write uniform, zipf:0.99 or hotspot:0.1,0.9");
        let (name, rest) = text.split_once(':').unwrap_or((text, ""));
        let share = |text: &str| text.parse().ok().filter(|s: &f64| *s > 0.0 && *s < 1.0).ok_or_else(wrong);
        match name {
            "uniform" if rest.is_empty() => Ok(KeyChoice::Uniform),
            "zipf" => rest
                .parse()
                .ok()
                .filter(|s: &f64| *s > 0.0 && *s < 10.0)
                .map(KeyChoice::Zipf)
                .ok_or_else(wrong),
            "hotspot" => {
                let (keys, requests) = rest.split_once(',').ok_or_else(wrong)?;
                Ok(KeyChoice::Hotspot(share(keys)?, share(requests)?))
            }
            _ => Err(wrong()),
        }
    }
}

impl fmt::Display for KeyChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            KeyChoice::Uniform => write!(f, "uniform"),
            KeyChoice::Zipf(exponent) => write!(f, "zipf:{exponent}"),
            KeyChoice::Hotspot(keys, requests) => write!(f, "hotspot:{keys},{requests}"),
        }
    }
}

/// A distribution bound to a number of keys.
#[derive(Clone, Debug)]
pub struct Keys {
    count: u64,
    /// Coprime to `count`, so that multiplying by it permutes `0..count`.
    step: u64,
    draw: Draw,
}

#[derive(Clone, Debug)]
enum Draw {
    Uniform,
    Zipf(Zipf<f64>),
    Hotspot { hot: u64, requests: f64 },
}

/// Multiples of the golden ratio spread the first few of any number of ranks evenly over the key space.
const SPREAD: f64 = 0.618_033_988_749_894_9;

impl Keys {
    /// # Panics
    /// If `count` is zero.
    pub fn new(choice: KeyChoice, count: u64) -> Self {
        assert!(count > 0, "no keys to choose from");
        let draw = match choice {
            KeyChoice::Uniform => Draw::Uniform,
            KeyChoice::Zipf(exponent) => {
                Draw::Zipf(Zipf::new(count as f64, exponent).expect("count and exponent are positive"))
            }
            KeyChoice::Hotspot(keys, requests) => {
                let hot = ((count as f64 * keys) as u64).clamp(1, count.saturating_sub(1).max(1));
                Draw::Hotspot { hot, requests }
            }
        };
        let step = ((count as f64 * SPREAD) as u64..).find(|&step| gcd(step, count) == 1);
        Keys { count, step: step.expect("some number is coprime to the count"), draw }
    }

    /// The next key's number.
    #[inline]
    pub fn next(&self, rng: &mut SmallRng) -> u64 {
        match &self.draw {
            Draw::Uniform => below(rng, self.count),
            Draw::Zipf(zipf) => self.scatter((zipf.sample(rng) as u64).clamp(1, self.count) - 1),
            Draw::Hotspot { hot, requests } => {
                let rank = if *hot == self.count || rng.random::<f64>() < *requests {
                    below(rng, *hot)
                } else {
                    hot + below(rng, self.count - hot)
                };
                self.scatter(rank)
            }
        }
    }

    /// The key whose popularity has this rank: a permutation of `0..count`.
    #[inline]
    fn scatter(&self, rank: u64) -> u64 {
        ((u128::from(rank) * u128::from(self.step) + u128::from(self.count / 2)) % u128::from(self.count))
            as u64
    }
}

fn gcd(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { gcd(b, a % b) }
}

/// A uniform number below `bound`. Source: Lemire's multiply and shift; its bias is below 2^-32 here.
#[inline]
pub fn below(rng: &mut SmallRng, bound: u64) -> u64 {
    ((u128::from(rng.next_u64()) * u128::from(bound)) >> 64) as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng;

    const DRAWS: u64 = 400_000;

    fn counts(choice: KeyChoice, count: u64) -> Vec<u64> {
        let keys = Keys::new(choice, count);
        let mut rng = SmallRng::seed_from_u64(7);
        let mut counts = vec![0; count as usize];
        for _ in 0..DRAWS {
            counts[keys.next(&mut rng) as usize] += 1;
        }
        counts
    }

    #[test]
    fn uniform_keys_pass_a_chi_squared_test() {
        let counts = counts(KeyChoice::Uniform, 100);
        let expected = DRAWS as f64 / 100.0;
        let chi: f64 = counts.iter().map(|&n| (n as f64 - expected).powi(2) / expected).sum();
        // 99 degrees of freedom: mean 99, sigma 14; within 4 sigma on either side.
        assert!((43.0..155.0).contains(&chi), "{chi}");
    }

    #[test]
    fn zipf_keys_fall_off_as_the_law_says() {
        let mut counts = counts(KeyChoice::Zipf(0.99), 1000);
        counts.sort_unstable_by(|a, b| b.cmp(a));
        let total: f64 = (1..=1000).map(|rank| f64::from(rank).powf(-0.99)).sum();
        for rank in [1usize, 2, 4, 8, 16] {
            let expected = DRAWS as f64 * (rank as f64).powf(-0.99) / total;
            let got = counts[rank - 1] as f64;
            assert!((got / expected - 1.0).abs() < 0.05, "rank {rank}: {got} of {expected}");
        }
    }

    #[test]
    fn a_hotspot_gets_its_share_of_the_requests() {
        let mut counts = counts(KeyChoice::Hotspot(0.1, 0.9), 1000);
        counts.sort_unstable_by(|a, b| b.cmp(a));
        let hot: u64 = counts[..100].iter().sum();
        assert!((hot as f64 / DRAWS as f64 - 0.9).abs() < 0.01, "{hot}");
    }

    #[test]
    fn popularity_is_scattered_without_losing_a_key() {
        for count in [1u64, 2, 7, 1000, 4096] {
            let keys = Keys::new(KeyChoice::Zipf(0.99), count);
            let mut seen = vec![false; count as usize];
            (0..count).for_each(|rank| seen[keys.scatter(rank) as usize] = true);
            assert!(seen.iter().all(|&s| s), "{count}");
        }
    }

    #[test]
    fn a_distribution_prints_as_it_is_written() {
        for text in ["uniform", "zipf:0.99", "hotspot:0.1,0.9"] {
            assert_eq!(text.parse::<KeyChoice>().map(|c| c.to_string()), Ok(text.to_owned()));
        }
        for text in ["", "zipf", "zipf:x", "hotspot:0.1", "hotspot:0,2", "normal"] {
            assert!(text.parse::<KeyChoice>().is_err(), "{text}");
        }
    }
}
