//! The tables, in Markdown.

use std::fmt::Write as _;

use super::Results;
use super::cells::{Cells, Spread};
use super::{printed, targets};
use crate::measure::Measurement;
use crate::sweep::journal::{FioResult, Record, points};
use crate::units::{ByteSize, grouped, latency};

/// One table: its heading, its head and its rows.
#[derive(Clone, Debug, PartialEq)]
pub struct Table {
    /// Above it.
    pub title: String,
    /// Of its columns.
    pub head: Vec<String>,
    /// A cell a column each.
    pub rows: Vec<Vec<String>>,
}

impl Table {
    fn new(title: impl Into<String>, head: &[&str]) -> Self {
        Table { title: title.into(), head: head.iter().map(|&name| name.into()).collect(), rows: Vec::new() }
    }
}

fn percent(fraction: f64) -> String {
    format!("{} %", fraction * 100.0)
}

fn number(value: Option<Spread>, digits: usize) -> String {
    value.map_or("-".to_owned(), |spread| format!("{:.digits$}", spread.median))
}

/// `median (lowest-highest)`
fn rates(spread: Spread) -> String {
    format!("{} ({}-{})", grouped(spread.median), grouped(spread.low), grouped(spread.high))
}

/// Every table of a report.
pub fn all(results: &Results) -> Vec<Table> {
    let cells = &results.cells;
    let mut tables = vec![target_table(results)];
    for workload in cells.workloads() {
        tables.push(closed_table(results, workload));
        tables.extend(printed_table(workload));
    }
    tables.extend([
        cpu_table(cells),
        open_table(cells),
        twin_table(cells),
        working_set_table(results),
        failures(results),
    ]);
    tables.extend(fio_table(results));
    tables.retain(|table| !table.rows.is_empty());
    tables
}

fn target_table(results: &Results) -> Table {
    let mut table = Table::new("Targets", &["target", "bound", "measured", "met"]);
    for target in targets::all(&results.cells, fio_of(results)) {
        let bound = format!("{} {}", if target.at_least { "at least" } else { "at most" }, target.bound);
        let met = if target.met() { "yes" } else { "NO" };
        table.rows.push(vec![target.says.clone(), bound, format!("{:.3}", target.got), met.into()]);
    }
    table
}

fn closed_table(results: &Results, workload: &str) -> Table {
    let cells = &results.cells;
    let head = [
        "system",
        "local",
        "req/s (lowest-highest)",
        "kept",
        "P50",
        "P99",
        "P99.9",
        "server CPU us/req",
        "client CPU us/req",
        "pages in/req",
        "pages out/req",
        "bytes fetched/useful byte",
        "n",
    ];
    let mut table = Table::new(format!("{workload}, closed loop"), &head);
    for fraction in cells.fractions(workload) {
        for cell in cells.systems().iter().filter_map(|system| cells.get(workload, system, fraction)) {
            let kept =
                cells.kept(cell).map_or("-".to_owned(), |kept| format!("{:.0} %", kept.median * 100.0));
            let us = |quantile: fn(&crate::latency::Quantiles) -> f64| {
                cell.spread(|m| Some(quantile(&m.latency)))
                    .map_or("-".to_owned(), |spread| latency(spread.median))
            };
            let pages = |pages: fn(&crate::observe::Change) -> Option<u64>| {
                number(cell.spread(|m| Some(pages(&m.server)? as f64 / m.answered().max(1) as f64)), 2)
            };
            table.rows.push(vec![
                cell.system.clone(),
                percent(fraction),
                rates(cell.rate()),
                kept,
                us(|q| q.p50_us),
                us(|q| q.p99_us),
                us(|q| q.p999_us),
                number(cell.spread(|m| m.server_cpu_us_per_request()), 2),
                number(cell.spread(|m| m.client_cpu_us_per_request()), 2),
                pages(|change| change.pages_in()),
                pages(|change| change.pages_out()),
                number(cell.spread(|m| m.fetched_per_useful_byte()), 2),
                cell.measured.len().to_string(),
            ]);
        }
    }
    table
}

fn printed_table(workload: &str) -> Option<Table> {
    let bars = printed::of(workload);
    let mut table = Table::new(
        format!("{workload}, printed elsewhere, on other hardware (SIGCOMM'20 poster, DiLOS)"),
        &["system", "100 %", "50 %", "25 %", "12.5 %", "kept at 12.5 %"],
    );
    for bar in bars {
        let mut row = vec![bar.system.to_owned()];
        row.extend(bar.rates.iter().map(|rate| grouped(*rate)));
        row.push(format!("{:.0} %", 100.0 * bar.rates[3] / bar.rates[0]));
        table.rows.push(row);
    }
    (!bars.is_empty()).then_some(table)
}

fn cpu_table(cells: &Cells) -> Table {
    let mut table = Table::new(
        "All local: CPU of the server a request",
        &["workload", "system", "us/req", "against Redis", "req/s", "req/s against Redis"],
    );
    for workload in cells.workloads() {
        let redis = cells.get(workload, "redis", 1.0);
        for cell in cells.systems().iter().filter_map(|system| cells.get(workload, system, 1.0)) {
            let cpu = Measurement::server_cpu_us_per_request;
            let rate = |m: &Measurement| Some(m.requests_per_s);
            table.rows.push(vec![
                workload.to_owned(),
                cell.system.clone(),
                number(cell.spread(cpu), 2),
                number(redis.and_then(|redis| cell.against(redis, cpu)), 2),
                grouped(cell.rate().median),
                number(redis.and_then(|redis| cell.against(redis, rate)), 2),
            ]);
        }
    }
    table
}

fn open_table(cells: &Cells) -> Table {
    let mut table = Table::new(
        "Open loop: latency from the intended arrival",
        &["workload", "system", "local", "load", "offered/s", "answered/s", "P50", "P99", "P99.9"],
    );
    for cell in cells.open() {
        let us = |quantile: fn(&crate::latency::Quantiles) -> f64| {
            cell.spread(|m| Some(quantile(&m.latency)))
                .map_or("-".to_owned(), |spread| latency(spread.median))
        };
        table.rows.push(vec![
            cell.workload.clone(),
            cell.system.clone(),
            percent(cell.fraction),
            percent((cell.load.unwrap_or_default() * 1000.0).round() / 1000.0),
            cell.spread(|m| m.offered_per_s).map_or("-".to_owned(), |spread| grouped(spread.median)),
            grouped(cell.rate().median),
            us(|q| q.p50_us),
            us(|q| q.p99_us),
            us(|q| q.p999_us),
        ]);
    }
    table
}

fn twin_table(cells: &Cells) -> Table {
    let mut table = Table::new(
        "Noise: the same Redis measured twice, interleaved",
        &["workload", "req/s, twin against Redis", "CPU, twin against Redis"],
    );
    for workload in cells.workloads() {
        let (Some(redis), Some(twin)) =
            (cells.get(workload, "redis", 1.0), cells.get(workload, "redis twin", 1.0))
        else {
            continue;
        };
        table.rows.push(vec![
            workload.to_owned(),
            number(twin.against(redis, |m| Some(m.requests_per_s)), 3),
            number(twin.against(redis, Measurement::server_cpu_us_per_request), 3),
        ]);
    }
    table
}

fn working_set_table(results: &Results) -> Table {
    let mut table =
        Table::new("Working sets, as measured", &["data", "measured on", "working set", "12.5 % of it"]);
    for record in &results.records {
        let Record::WorkingSet(set) = record else { continue };
        let mb = |bytes: u64| format!("{:.0} MB", bytes as f64 / 1e6);
        table.rows.push(vec![set.workload.clone(), set.system.clone(), mb(set.bytes), mb(set.bytes / 8)]);
    }
    table
}

/// What the disk reached by itself, if it was asked.
fn fio_of(results: &Results) -> Option<&FioResult> {
    results.records.iter().find_map(|record| match record {
        Record::Fio(fio) => Some(fio),
        _ => None,
    })
}

fn fio_table(results: &Results) -> Option<Table> {
    let fio = fio_of(results)?;
    let mut table = Table::new(
        "The local disk by itself: fio, randread 4 KiB, O_DIRECT, io_uring, depth 64",
        &["", "reads/s", "P50", "P99"],
    );
    table.rows.push(vec!["fio".into(), grouped(fio.reads_per_s), latency(fio.p50_us), latency(fio.p99_us)]);
    let file = results.cells.get("get_4k", "remora file", 0.125);
    if let Some(cell) = file {
        let reads = cell.spread(|m| Some(m.server.pages_in()? as f64 / m.seconds));
        table.rows.push(vec![
            "remora file, get_4k at 12.5 %".into(),
            reads.map_or("-".into(), |r| grouped(r.median)),
            "-".into(),
            "-".into(),
        ]);
    }
    Some(table)
}

/// Points that failed and were not measured later.
fn failures(results: &Results) -> Table {
    let mut table = Table::new("Points that failed", &["point", "why"]);
    for point in points(&results.records) {
        let Some(reason) = &point.failed else { continue };
        let mended = points(&results.records).any(|p| p.id == point.id && p.failed.is_none());
        if !mended && table.rows.iter().all(|row| row[0] != point.id) {
            table.rows.push(vec![point.id.clone(), reason.clone()]);
        }
    }
    table
}

/// The tables as Markdown, under the title and the machine.
pub fn markdown(results: &Results) -> String {
    let mut out = format!("# {}\n", results.title);
    for fact in facts(results) {
        let _ = write!(out, "\n- {fact}");
    }
    out.push('\n');
    for table in all(results) {
        let escape = |cells: &[String]| {
            cells.iter().map(|cell| cell.replace('|', "\\|")).collect::<Vec<_>>().join(" | ")
        };
        let _ = writeln!(out, "\n## {}\n\n| {} |", table.title, escape(&table.head));
        let _ = writeln!(out, "|{}", "---|".repeat(table.head.len()));
        for row in &table.rows {
            let _ = writeln!(out, "| {} |", escape(row));
        }
    }
    out
}

/// Where, when and with what it was measured, a sentence each.
pub fn facts(results: &Results) -> Vec<String> {
    let mut facts = Vec::new();
    for begin in &results.begins {
        let machine = &begin.machine;
        let memory = ByteSize(machine.memory_bytes >> 30 << 30);
        facts.push(format!("Begun {} with `remora-bench {}`", begin.started, begin.command_line.join(" ")));
        facts.push(format!(
            "{}, {} cores, {memory} of memory, Linux {}, commit {}",
            machine.processor,
            machine.cores,
            machine.kernel,
            machine.commit.as_deref().unwrap_or("unknown"),
        ));
        facts.push(machine.settings.join(", "));
        facts.extend(machine.versions.iter().cloned());
    }
    facts
}

/// The few lines that a terminal shows: rate and share kept, a line a workload and system.
pub fn summary(results: &Results) -> String {
    let cells = &results.cells;
    let mut out = String::new();
    for workload in cells.workloads() {
        let fractions = cells.fractions(workload);
        let _ = write!(out, "\n{workload:<24}");
        fractions.iter().for_each(|&fraction| {
            let _ = write!(out, "{:>22}", format!("{} local", percent(fraction)));
        });
        for system in cells.systems() {
            let cells_of: Vec<_> =
                fractions.iter().map(|&fraction| cells.get(workload, system, fraction)).collect();
            if cells_of.iter().all(Option::is_none) {
                continue;
            }
            let _ = write!(out, "\n  {system:<22}");
            for cell in cells_of {
                let text = cell.map_or(String::new(), |cell| {
                    let kept = cells
                        .kept(cell)
                        .filter(|_| cell.fraction < 1.0)
                        .map_or(String::new(), |kept| format!(" ({:.0} %)", kept.median * 100.0));
                    format!("{} req/s{kept}", grouped(cell.rate().median))
                });
                let _ = write!(out, "{text:>22}");
            }
        }
        out.push('\n');
    }
    out
}
