//! Latencies as an HdrHistogram: three significant digits from 1 us to 100 s, mergeable, kept whole.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hdrhistogram::Histogram;
use hdrhistogram::serialization::{Serializer, V2DeflateSerializer};
use serde::{Deserialize, Serialize};

/// A reply that took longer counts as this: no plot shows more.
const LATENCY_MAX_NS: u64 = 100_000_000_000;

/// Latencies of many requests.
#[derive(Clone, Debug)]
pub struct Latencies(Histogram<u64>);

/// The points of a distribution that tables show.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "each field is the quantile it is named after")]
pub struct Quantiles {
    pub mean_us: f64,
    pub p50_us: f64,
    pub p90_us: f64,
    pub p99_us: f64,
    pub p999_us: f64,
    pub max_us: f64,
}

impl Default for Latencies {
    fn default() -> Self {
        Latencies(Histogram::new_with_bounds(1_000, LATENCY_MAX_NS, 3).expect("the bounds are in order"))
    }
}

impl Latencies {
    /// Counts one request.
    #[inline]
    pub fn record(&mut self, latency_ns: u64) {
        self.0.saturating_record(latency_ns);
    }

    /// Adds the requests of another.
    pub fn merge(&mut self, other: &Latencies) {
        self.0.add(&other.0).expect("all have the same bounds");
    }

    /// The usual quantiles.
    pub fn quantiles(&self) -> Quantiles {
        let at = |quantile: f64| self.0.value_at_quantile(quantile) as f64 / 1e3;
        Quantiles {
            mean_us: self.0.mean() / 1e3,
            p50_us: at(0.5),
            p90_us: at(0.9),
            p99_us: at(0.99),
            p999_us: at(0.999),
            max_us: self.0.max() as f64 / 1e3,
        }
    }

    /// The whole histogram as text. Source: HdrHistogram's V2 deflate format in base64, unit 1 ns.
    pub fn encode(&self) -> String {
        let mut bytes = Vec::new();
        V2DeflateSerializer::new().serialize(&self.0, &mut bytes).expect("a Vec takes every write");
        STANDARD.encode(bytes)
    }

    /// The reverse of [`Latencies::encode`]; None for other text.
    #[cfg(test)]
    pub fn decode(text: &str) -> Option<Self> {
        let bytes = STANDARD.decode(text).ok()?;
        hdrhistogram::serialization::Deserializer::new().deserialize(&mut &bytes[..]).ok().map(Latencies)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_within_a_thousandth() {
        let mut latencies = Latencies::default();
        (1..=100_000u64).for_each(|us| latencies.record(us * 1_000));
        let got = latencies.quantiles();
        for (got, expected) in [
            (got.p50_us, 50_000.0),
            (got.p90_us, 90_000.0),
            (got.p99_us, 99_000.0),
            (got.p999_us, 99_900.0),
            (got.max_us, 100_000.0),
        ] {
            assert!((got / expected - 1.0).abs() < 0.001, "{got} for {expected}");
        }
    }

    #[test]
    fn merged_histograms_count_as_one() {
        let (mut all, mut even, mut odd) = (Latencies::default(), Latencies::default(), Latencies::default());
        for us in 1..5_000u64 {
            all.record(us * 1_000);
            if us % 2 == 0 { &mut even } else { &mut odd }.record(us * 1_000);
        }
        even.merge(&odd);
        assert_eq!(even.quantiles(), all.quantiles());
        assert_eq!(even.0.len(), 4_999);
    }

    #[test]
    fn a_histogram_survives_as_text() {
        let mut latencies = Latencies::default();
        [1_500, 80_000, 3_000_000, u64::MAX].iter().for_each(|&ns| latencies.record(ns));
        let back = Latencies::decode(&latencies.encode()).expect("its own text");
        assert_eq!(back.quantiles(), latencies.quantiles());
        assert!(Latencies::decode("nonsense").is_none());
    }
}
