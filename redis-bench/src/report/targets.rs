//! What the figures must show, and whether they do.
//!
//! A target is judged on the median of the ratios within each repetition; one whose systems were not measured is
//! not listed. Refuses to round in its own favour.

use super::cells::{Cell, Cells};
use crate::measure::Measurement;
use crate::sweep::journal::FioResult;

/// The system that is ours.
const OURS: &str = "remora ahead";
/// Our other body, and what it is held against: guests of the same emulated machine.
const UNIKERNEL: &str = "unikernel ahead";
const GUEST: &str = "linux redis";
/// The local share at which targets are set.
const EIGHTH: f64 = 0.125;

/// One target.
#[derive(Clone, Debug, PartialEq)]
pub struct Target {
    /// What must hold.
    pub says: String,
    /// At least this, or at most.
    pub bound: f64,
    /// True if the bound is a lower one.
    pub at_least: bool,
    /// What was measured.
    pub got: f64,
}

impl Target {
    /// True if it is met.
    pub fn met(&self) -> bool {
        if self.at_least { self.got >= self.bound } else { self.got <= self.bound }
    }
}

/// Every target that the cells, and the disk by itself, can be held against.
pub fn all(cells: &Cells, fio: Option<&FioResult>) -> Vec<Target> {
    let mut targets = Vec::new();
    let mut add = |says: String, at_least: bool, bound: f64, got: Option<f64>| {
        targets.extend(got.map(|got| Target { says, bound, at_least, got }));
    };
    let rate = |m: &Measurement| Some(m.requests_per_s);
    for (workload, bound) in [
        ("get_4k", 0.95),
        ("get_64k", 0.95),
        ("get_mixed", 0.95),
        ("lrange_100", 0.95),
        ("lrange_mid", 0.95),
        ("get_4k -P 16", 0.85),
        ("lrange_100 -P 16", 0.85),
        ("zipf_small", 0.85),
    ] {
        let eighth = cells.get(workload, OURS, EIGHTH);
        add(
            format!("{workload}: {OURS} at 12.5 % keeps of its all-local rate"),
            true,
            bound,
            ratio(eighth, cells.get(workload, OURS, 1.0), rate),
        );
        if workload != "zipf_small" {
            add(
                format!("{workload}: {OURS} at 12.5 % against Redis all local"),
                true,
                1.0,
                ratio(eighth, cells.get(workload, "redis", 1.0), rate),
            );
        }
    }
    for (workload, bound) in [("get_mixed", 8.0), ("lrange_100", 5.0)] {
        let swapping = cells.get(workload, "redis-swap", EIGHTH);
        let got = ratio(cells.get(workload, OURS, EIGHTH), swapping, rate);
        add(format!("{workload}: {OURS} against redis-swap, both at 12.5 %"), true, bound, got);
    }
    for workload in ["get_mixed", "lrange_100"] {
        let against = |fraction| {
            ratio(cells.get(workload, UNIKERNEL, fraction), cells.get(workload, GUEST, fraction), rate)
        };
        add(
            format!("{workload}: {UNIKERNEL} against {GUEST} that swaps, both at 12.5 %"),
            true,
            2.9,
            against(EIGHTH),
        );
        add(format!("{workload}: {UNIKERNEL} against {GUEST}, both all local"), true, 1.2, against(1.0));
    }
    let file = |fraction| Some(cells.get("get_4k", "remora file", fraction)?.rate().median);
    let disk_bar = fio.and_then(|fio| Some((0.7 * fio.reads_per_s).min(file(1.0)?)));
    add(
        "get_4k: remora file at 12.5 % against 0.7 of fio's reads, or its all-local rate if lower".into(),
        true,
        1.0,
        file(EIGHTH).and_then(|got| Some(got / disk_bar?)),
    );
    for workload in cells.workloads() {
        let loaded = |fraction: f64| {
            cells.open().find(|c| {
                c.workload == workload && c.system == OURS && c.fraction == fraction && c.load == Some(0.7)
            })
        };
        add(
            format!("{workload}: P99 of {OURS} at 70 % load, 12.5 % local against all local"),
            false,
            2.0,
            ratio(loaded(EIGHTH), loaded(1.0), |m| Some(m.latency.p99_us)),
        );
    }
    // The same store, which leaves the objects of sparse pages where they are.
    for fraction in cells.fractions("sg").into_iter().filter(|&fraction| fraction < 1.0) {
        let (gathered, scattered) =
            (cells.get("sg", OURS, fraction), cells.get("sg", "remora scattered", fraction));
        add(
            format!(
                "sg: bytes moved a useful byte at {} % local, {OURS} against remora scattered",
                100.0 * fraction
            ),
            false,
            0.71,
            ratio(gathered, scattered, Measurement::moved_per_useful_byte),
        );
    }
    for (workload, bound) in [
        ("get:64 -P 16", 0.8),
        ("set:64 -P 16", 0.8),
        ("get:64 -P 64", 0.6),
        ("set:64 -P 64", 0.6),
        ("get:1kb -P 16", 0.7),
        ("get_64k", 0.9),
        ("lrange_100", 0.6),
    ] {
        let (ours, theirs) = (cells.get(workload, OURS, 1.0), cells.get(workload, "redis", 1.0));
        add(
            format!("{workload}: CPU a request all local, {OURS} against Redis"),
            false,
            bound,
            ratio(ours, theirs, Measurement::server_cpu_us_per_request),
        );
    }
    targets
}

/// The median of a figure of `of` by that of `by`; None if either was not measured.
fn ratio(of: Option<&Cell>, by: Option<&Cell>, figure: impl Fn(&Measurement) -> Option<f64>) -> Option<f64> {
    Some(of?.against(by?, figure)?.median)
}
