//! Which figures there are, and what is in them.
//!
//! `figure2-W`: req/s, share kept, and what others printed. `cost-W`: bytes moved and CPU. `latency-W`: tails
//! under load.

use super::cells::{Cell, Cells, Spread};
use super::chart::{Axis, Figure, Line, Panel, round_up};
use super::printed;

/// Systems that every sweep has look the same in every figure.
const STYLES: [(&str, usize); 9] = [
    ("remora ahead", 0),
    ("remora guided", 1),
    ("remora sequential", 2),
    ("remora none", 3),
    ("redis", 4),
    ("redis twin", 5),
    ("redis-swap", 6),
    ("fixed reply", 7),
    ("remora file", 7),
];
/// Bars of others have styles of their own.
const PRINTED_STYLE: usize = 8;
const LOCAL: &str = "local share of the working set";
/// The y axis of a latency holds what lies below this share of the peak; beyond it, queues grow.
const SATURATED_LOAD: f64 = 0.8;

fn style(cells: &Cells, system: &str) -> usize {
    let known = STYLES.iter().find(|(name, _)| *name == system).map(|(_, style)| *style);
    known.unwrap_or_else(|| cells.systems().iter().position(|name| *name == system).unwrap_or(0))
}

/// Every figure that the cells suffice for.
pub fn all(cells: &Cells) -> Vec<Figure> {
    let workloads = cells.workloads();
    let mut figures: Vec<Figure> = workloads.iter().filter_map(|workload| figure2(cells, workload)).collect();
    figures.extend(workloads.iter().filter_map(|workload| cost(cells, workload)));
    figures.extend(workloads.iter().filter_map(|workload| tails(cells, workload)));
    figures
}

fn file_name(kind: &str, workload: &str) -> String {
    let plain: String =
        workload.chars().map(|c| if c.is_ascii_alphanumeric() || c == '_' { c } else { '-' }).collect();
    format!("{kind}-{plain}")
}

fn halvings(fraction: f64) -> f64 {
    -fraction.log2()
}

/// A line a system; one that was measured all local alone goes on, dashed, as the level to compare with.
fn lines(cells: &Cells, workload: &str, figure: impl Fn(&Cell) -> Option<Spread>, levels: bool) -> Vec<Line> {
    let smallest = cells.fractions(workload).last().copied().unwrap_or(1.0);
    let line = |system: &&str| {
        let points = cells.fractions(workload).into_iter().filter_map(|fraction| {
            Some((halvings(fraction), figure(cells.get(workload, system, fraction)?)?))
        });
        let mut points: Vec<_> = points.collect();
        let dashed = points.len() == 1 && points[0].0 == 0.0 && smallest < 1.0;
        if dashed && levels {
            let level = points[0].1.median;
            points.push((halvings(smallest), Spread { median: level, low: level, high: level }));
        }
        let label = if dashed { format!("{system} (all local)") } else { (*system).to_owned() };
        let keep = !points.is_empty() && (levels || !dashed);
        keep.then(|| Line { label, style: style(cells, system), dashed, points })
    };
    cells.systems().iter().filter_map(line).collect()
}

fn figure2(cells: &Cells, workload: &str) -> Option<Figure> {
    if cells.fractions(workload).len() < 2 {
        return None;
    }
    let mut panels = vec![
        Panel {
            title: "Requests a second".into(),
            x_label: LOCAL,
            x_axis: Axis::Halvings,
            y_label: "requests a second",
            y_max: None,
            lines: lines(cells, workload, |cell| Some(cell.rate()), true),
        },
        Panel {
            title: "Kept of its own all-local rate".into(),
            x_label: LOCAL,
            x_axis: Axis::Halvings,
            y_label: "kept, %",
            y_max: Some(120.0),
            lines: lines(cells, workload, |cell| cells.kept(cell).map(in_percent), false),
        },
    ];
    let others = printed::of(workload);
    if !others.is_empty() {
        let line = |(at, bar): (usize, &printed::Printed)| {
            let kept = bar.rates.map(|rate| 100.0 * rate / bar.rates[0]);
            let point =
                |(fraction, kept)| (halvings(fraction), Spread { median: kept, low: kept, high: kept });
            Line {
                label: bar.system.into(),
                style: PRINTED_STYLE + at,
                dashed: true,
                points: printed::FRACTIONS.into_iter().zip(kept).map(point).collect(),
            }
        };
        panels.push(Panel {
            title: "Printed elsewhere, on other hardware: kept".into(),
            x_label: LOCAL,
            x_axis: Axis::Halvings,
            y_label: "kept, %",
            y_max: Some(120.0),
            lines: others.iter().enumerate().map(line).collect(),
        });
    }
    Some(Figure {
        name: file_name("figure2", workload),
        title: format!("{workload}: speed by local memory (median; bars: lowest and highest)"),
        panels,
    })
}

fn in_percent(spread: Spread) -> Spread {
    Spread { median: spread.median * 100.0, low: spread.low * 100.0, high: spread.high * 100.0 }
}

fn cost(cells: &Cells, workload: &str) -> Option<Figure> {
    if cells.fractions(workload).len() < 2 {
        return None;
    }
    let panel = |title: &str, y_label, lines| Panel {
        title: title.into(),
        x_label: LOCAL,
        x_axis: Axis::Halvings,
        y_label,
        y_max: None,
        lines,
    };
    let moved = lines(cells, workload, |cell| cell.spread(|m| m.moved_per_useful_byte()), false);
    let cpu = lines(cells, workload, |cell| cell.spread(|m| m.server_cpu_us_per_request()), true);
    let panels = vec![
        panel("Bytes moved, in and out, a useful byte", "bytes a byte", moved),
        panel("CPU of the server a request", "CPU a request, us", cpu),
    ];
    Some(Figure {
        name: file_name("cost", workload),
        title: format!("{workload}: what a request costs"),
        panels,
    })
}

fn tails(cells: &Cells, workload: &str) -> Option<Figure> {
    let open: Vec<&Cell> = cells.open().filter(|cell| cell.workload == workload).collect();
    // One load is a row of the table, not a line.
    open.iter().find(|cell| cell.load != open[0].load)?;
    let panel = |title: &str, quantile: fn(&crate::latency::Quantiles) -> f64| {
        let ms = |cell: &Cell| cell.spread(|m| Some(quantile(&m.latency) / 1e3));
        let mut lines: Vec<Line> = Vec::new();
        for cell in &open {
            let local = if cell.fraction == 1.0 {
                "all local".to_owned()
            } else {
                format!("{}% local", cell.fraction * 100.0)
            };
            let label = format!("{}, {local}", cell.system);
            let offered = cell.spread(|m| m.offered_per_s).map_or(0.0, |spread| spread.median);
            let Some(point) = ms(cell).map(|spread| (offered, spread)) else { continue };
            match lines.iter_mut().find(|line| line.label == label) {
                Some(line) => line.points.push(point),
                None => lines.push(Line {
                    label,
                    style: style(cells, &cell.system),
                    dashed: cell.fraction < 1.0,
                    points: vec![point],
                }),
            }
        }
        lines.iter_mut().for_each(|line| line.points.sort_by(|a, b| a.0.total_cmp(&b.0)));
        let below = open.iter().filter(|cell| cell.load.is_some_and(|load| load <= SATURATED_LOAD));
        let calm = below
            .filter(|cell| cell.system != "redis-swap")
            .filter_map(|cell| ms(cell))
            .map(|spread| spread.median);
        let y_max = calm.fold(0.0, f64::max) * 1.25;
        Panel {
            title: title.into(),
            x_label: "offered, requests a second",
            x_axis: Axis::Numbers,
            y_label: "latency, ms",
            y_max: (y_max > 0.0).then(|| round_up(y_max)),
            lines,
        }
    };
    let panels = vec![panel("P50", |q| q.p50_us), panel("P99", |q| q.p99_us), panel("P99.9", |q| q.p999_us)];
    let title = format!(
        "{workload}: latency under load, from the intended arrival (lines that leave the top are saturated)"
    );
    Some(Figure { name: file_name("latency", workload), title, panels })
}
