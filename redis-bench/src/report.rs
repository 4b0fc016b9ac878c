//! `remora-bench report`: journals in, one page, plots and tables out.
//!
//! ```text
//!   points.jsonl ─► Cells ─┬─► plots ─► figure2-*.svg .png, cost-*, latency-*
//!                          ├─► tables ─► tables.md
//!                          └─► page ─► index.html (everything in it, no network)
//! ```
//!
//! Refuses to smooth: a cell is the median of its repetitions with the lowest and the highest beside it,
//! and a point that failed is listed, not left out.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result, bail};

use crate::sweep::journal::{self, Begin, Record};

mod cells;
mod chart;
mod figures;
mod page;
mod printed;
mod tables;
mod targets;

use cells::Cells;

/// Everything a report is made from.
#[derive(Debug)]
pub struct Results {
    /// How each sweep began.
    pub begins: Vec<Begin>,
    /// The title of the first.
    pub title: String,
    /// All records.
    pub records: Vec<Record>,
    /// The points, by what was measured.
    pub cells: Cells,
}

impl Results {
    /// Takes records apart.
    fn new(records: Vec<Record>, title: String) -> Self {
        let begins = records.iter().filter_map(|record| match record {
            Record::Sweep(begin) => Some((**begin).clone()),
            _ => None,
        });
        Results { begins: begins.collect(), title, cells: Cells::new(&records), records }
    }
}

/// `remora-bench report`
///
/// # Errors
/// If a directory has no journal, nothing was measured, or the page cannot be written.
pub fn report(dirs: &[PathBuf]) -> Result<()> {
    let mut records = Vec::new();
    let mut title = None;
    for dir in dirs {
        let more = journal::read(dir)?;
        let (config, _) = crate::sweep::config_of(&more, dir)?;
        title.get_or_insert(config.title);
        records.extend(more);
    }
    let results = Results::new(records, title.unwrap_or_default());
    if results.cells.is_empty() {
        bail!("no point was measured yet");
    }
    let dir = &dirs[0];
    let write = |name: &str, text: &str| {
        fs::write(dir.join(name), text).with_context(|| format!("cannot write {name} in {}", dir.display()))
    };
    let mut drawn = Vec::new();
    for figure in figures::all(&results.cells) {
        let svg = chart::svg(&figure)?;
        write(&format!("{}.svg", figure.name), &svg)?;
        chart::png(&figure, &dir.join(format!("{}.png", figure.name)))?;
        drawn.push((figure, svg));
    }
    let tables = tables::markdown(&results);
    write("tables.md", &tables)?;
    write("index.html", &page::html(&results, &drawn))?;
    println!("{}", tables::summary(&results));
    println!("The page is {}", dir.join("index.html").display());
    Ok(())
}

#[cfg(test)]
mod tests;
