//! Bars that others have printed, on other hardware: beside ours, never among them.
//!
//! Source: "Accelerating Disaggregated Data Centers Using Unikernel", SIGCOMM'20 posters and demos, Fig. 2;
//! "DiLOS", EuroSys'23, Fig. 10. Bar heights read from the papers' vector graphics.

/// A system's bars in a paper.
#[derive(Clone, Copy, Debug)]
pub struct Printed {
    /// As the paper calls it, and the paper.
    pub system: &'static str,
    /// Requests a second at 100, 50, 25 and 12.5 % local.
    pub rates: [f64; 4],
}

/// The local shares of [`Printed::rates`].
pub const FRACTIONS: [f64; 4] = [1.0, 0.5, 0.25, 0.125];

const fn bar(system: &'static str, rates: [f64; 4]) -> Printed {
    Printed { system, rates }
}

const GET_MIXED: [Printed; 6] = [
    bar("Infiniswap (poster)", [23_875.0, 7_348.0, 5_517.0, 4_066.0]),
    bar("OSv, no prefetcher (poster)", [26_123.0, 11_287.0, 9_495.0, 8_724.0]),
    bar("OSv, sequential (poster)", [25_984.0, 14_368.0, 12_260.0, 11_250.0]),
    bar("OSv, app-driven (poster)", [25_908.0, 15_164.0, 13_434.0, 12_563.0]),
    bar("Fastswap (DiLOS)", [27_699.0, 12_807.0, 11_325.0, 10_883.0]),
    bar("DiLOS, app-aware guide", [31_307.0, 26_195.0, 25_870.0, 24_247.0]),
];

const LRANGE_100: [Printed; 7] = [
    bar("Infiniswap (poster)", [7_326.0, 4_262.0, 2_116.0, 1_731.0]),
    bar("OSv, no prefetcher (poster)", [9_077.0, 4_930.0, 3_708.0, 3_257.0]),
    bar("OSv, sequential (poster)", [9_065.0, 4_668.0, 3_392.0, 2_986.0]),
    bar("OSv, app-driven (poster)", [9_019.0, 6_534.0, 5_414.0, 5_098.0]),
    bar("Fastswap (DiLOS)", [4_096.0, 2_153.0, 1_940.0, 1_863.0]),
    bar("DiLOS, no prefetch", [5_658.0, 3_086.0, 2_686.0, 2_564.0]),
    bar("DiLOS, app-aware guide", [5_093.0, 4_439.0, 4_340.0, 4_128.0]),
];

const GET_4K: [Printed; 2] = [
    bar("Fastswap (DiLOS)", [82_874.0, 51_848.0, 45_634.0, 42_691.0]),
    bar("DiLOS, best policy", [95_240.0, 77_440.0, 70_770.0, 67_597.0]),
];

const GET_64K: [Printed; 2] = [
    bar("Fastswap (DiLOS)", [20_062.0, 9_298.0, 7_996.0, 7_609.0]),
    bar("DiLOS, app-aware guide", [22_927.0, 20_727.0, 19_733.0, 19_112.0]),
];

/// The bars printed for a workload; none if nobody printed any.
pub fn of(workload: &str) -> &'static [Printed] {
    match workload {
        "get_mixed" => &GET_MIXED,
        "lrange_100" => &LRANGE_100,
        "get_4k" => &GET_4K,
        "get_64k" => &GET_64K,
        _ => &[],
    }
}
