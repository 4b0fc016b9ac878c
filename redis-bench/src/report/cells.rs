//! Points by what was measured: the repetitions of one workload, system, local share and load.

use std::collections::BTreeMap;

use crate::measure::Measurement;
use crate::sweep::journal::{PointResult, Record, points};

/// The repetitions of one point.
#[derive(Clone, Debug)]
pub struct Cell {
    /// As in tables.
    pub workload: String,
    /// As in tables.
    pub system: String,
    /// Local share of the working set.
    pub fraction: f64,
    /// Open loop: share of the all-local rate.
    pub load: Option<f64>,
    /// What was measured, a repetition each.
    pub measured: Vec<Measurement>,
    /// The numbers of those repetitions.
    repetitions: Vec<u32>,
}

/// A median and how far the repetitions lie apart.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Spread {
    /// The middle one; of an even number, the mean of the two in the middle.
    pub median: f64,
    /// The lowest.
    pub low: f64,
    /// The highest.
    pub high: f64,
}

impl Spread {
    /// Of any numbers; None of none.
    pub fn of(numbers: impl IntoIterator<Item = f64>) -> Option<Self> {
        let mut sorted: Vec<f64> = numbers.into_iter().collect();
        sorted.sort_unstable_by(f64::total_cmp);
        let (low, high) = (*sorted.first()?, *sorted.last()?);
        let (left, right) = (sorted[(sorted.len() - 1) / 2], sorted[sorted.len() / 2]);
        Some(Spread { median: left.midpoint(right), low, high })
    }
}

impl Cell {
    /// The spread of any figure over the repetitions that have it.
    pub fn spread(&self, figure: impl Fn(&Measurement) -> Option<f64>) -> Option<Spread> {
        Spread::of(self.measured.iter().filter_map(figure))
    }

    /// Requests a second.
    pub fn rate(&self) -> Spread {
        self.spread(|m| Some(m.requests_per_s)).expect("a cell has a repetition")
    }

    /// A figure by that of `other` in the same repetition: those two were measured close to each other, where the machine
    /// may have changed between repetitions.
    pub fn against(&self, other: &Cell, figure: impl Fn(&Measurement) -> Option<f64>) -> Option<Spread> {
        let of = |cell: &Cell| -> BTreeMap<u32, f64> {
            let figures = cell.repetitions.iter().copied().zip(cell.measured.iter().map(&figure));
            figures.filter_map(|(repetition, figure)| Some((repetition, figure?))).collect()
        };
        let others = of(other);
        Spread::of(of(self).iter().filter_map(|(repetition, own)| Some(own / others.get(repetition)?)))
    }
}

/// All cells, in the order in which they were first measured.
#[derive(Clone, Debug, Default)]
pub struct Cells(Vec<Cell>);

impl Cells {
    /// Gathers the points that did not fail.
    pub fn new(records: &[Record]) -> Self {
        // A point that failed and was measured later counts once; the last one measured stands.
        let mut last: BTreeMap<&str, &PointResult> = BTreeMap::new();
        for point in points(records).filter(|p| p.failed.is_none()) {
            last.insert(&point.id, point);
        }
        let mut cells: Vec<Cell> = Vec::new();
        for point in points(records).filter(|p| last.get(p.id.as_str()).is_some_and(|l| std::ptr::eq(*l, *p)))
        {
            let Some(measured) = point.measured.clone() else { continue };
            let same = |c: &&mut Cell| {
                c.workload == point.workload
                    && c.system == point.system
                    && c.fraction == point.fraction
                    && c.load == point.load
            };
            match cells.iter_mut().find(same) {
                Some(cell) => {
                    cell.measured.push(measured);
                    cell.repetitions.push(point.repetition);
                }
                None => cells.push(Cell {
                    workload: point.workload.clone(),
                    system: point.system.clone(),
                    fraction: point.fraction,
                    load: point.load,
                    measured: vec![measured],
                    repetitions: vec![point.repetition],
                }),
            }
        }
        Cells(cells)
    }

    /// True if nothing was measured.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Closed-loop cells.
    pub fn closed(&self) -> impl Iterator<Item = &Cell> {
        self.0.iter().filter(|cell| cell.load.is_none())
    }

    /// Open-loop cells.
    pub fn open(&self) -> impl Iterator<Item = &Cell> {
        self.0.iter().filter(|cell| cell.load.is_some())
    }

    /// One closed-loop cell.
    pub fn get(&self, workload: &str, system: &str, fraction: f64) -> Option<&Cell> {
        self.closed().find(|c| c.workload == workload && c.system == system && c.fraction == fraction)
    }

    /// Workloads, in order.
    pub fn workloads(&self) -> Vec<&str> {
        in_order(self.0.iter().map(|cell| cell.workload.as_str()))
    }

    /// Systems, in order.
    pub fn systems(&self) -> Vec<&str> {
        in_order(self.0.iter().map(|cell| cell.system.as_str()))
    }

    /// Local shares of a workload's closed loop, the largest first.
    pub fn fractions(&self, workload: &str) -> Vec<f64> {
        let mut fractions: Vec<f64> =
            self.closed().filter(|c| c.workload == workload).map(|c| c.fraction).collect();
        fractions.sort_unstable_by(|a, b| b.total_cmp(a));
        fractions.dedup();
        fractions
    }

    /// The rate as a share of the same system's all-local rate.
    pub fn kept(&self, cell: &Cell) -> Option<Spread> {
        cell.against(self.get(&cell.workload, &cell.system, 1.0)?, |m| Some(m.requests_per_s))
    }
}

fn in_order<'a>(names: impl Iterator<Item = &'a str>) -> Vec<&'a str> {
    let mut seen = Vec::new();
    for name in names {
        if !seen.contains(&name) {
            seen.push(name);
        }
    }
    seen
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spread_is_the_median_and_the_ends() {
        assert_eq!(Spread::of([3.0, 1.0, 2.0]), Some(Spread { median: 2.0, low: 1.0, high: 3.0 }));
        assert_eq!(Spread::of([4.0, 1.0]), Some(Spread { median: 2.5, low: 1.0, high: 4.0 }));
        assert_eq!(Spread::of([]), None);
    }
}
