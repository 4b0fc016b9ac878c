//! The journal of a sweep: JSON lines, appended and flushed one by one, never rewritten.
//!
//! ```text
//!   {"record":"sweep", ...}          once: configuration, machine, versions
//!   {"record":"fio", ...}            once, if asked for
//!   {"record":"working_set", ...}    once a workload and family
//!   {"record":"point", ...}          once a point; again if it had failed and the sweep is started again
//! ```
//!
//! Refuses to mix: a journal is continued only by the configuration that began it.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};

use super::machine::Machine;
use crate::measure::{Loaded, Measurement};

/// Its name in the directory of results.
pub const JOURNAL: &str = "points.jsonl";

/// One line.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "record", rename_all = "snake_case")]
pub enum Record {
    /// How it began.
    Sweep(Box<Begin>),
    /// What the disk reaches by itself.
    Fio(FioResult),
    /// What a family needs for a workload's data.
    WorkingSet(Box<WorkingSet>),
    /// A point, measured or failed.
    Point(Box<PointResult>),
}

/// How a sweep began.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Begin {
    /// When. RFC 3339.
    pub started: String,
    /// The words on the command line.
    pub command_line: Vec<String>,
    /// The TOML, as it stood.
    pub config: String,
    /// Where.
    pub machine: Machine,
}

/// fio's result: random reads of 4 KiB, O_DIRECT, io_uring, depth 64.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the names say it")]
pub struct FioResult {
    pub reads_per_s: f64,
    pub p50_us: f64,
    pub p99_us: f64,
}

/// A measured working set.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the names say it")]
pub struct WorkingSet {
    pub workload: String,
    pub family: String,
    /// The system it was measured on.
    pub system: String,
    pub bytes: u64,
    pub loaded: Loaded,
}

/// A point that was tried.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the names say it")]
pub struct PointResult {
    pub id: String,
    pub workload: String,
    pub system: String,
    pub fraction: f64,
    pub load: Option<f64>,
    pub repetition: u32,
    pub started: String,
    /// Start to stop of its server.
    pub seconds: f64,
    pub working_set_bytes: Option<u64>,
    pub local_bytes: Option<u64>,
    pub cgroup_bytes: Option<u64>,
    pub loaded: Option<Loaded>,
    pub measured: Option<Measurement>,
    /// Why the point is not to be used.
    pub failed: Option<String>,
}

/// An open journal.
#[derive(Debug)]
pub struct Journal {
    file: File,
    /// Everything in it.
    pub records: Vec<Record>,
}

/// Reads a journal; a last line that was cut short is not part of it.
///
/// # Errors
/// If there is none, or a line is not a record.
pub fn read(dir: &Path) -> Result<Vec<Record>> {
    Ok(parse(&dir.join(JOURNAL))?.0)
}

/// The records, and the bytes that they take.
fn parse(path: &Path) -> Result<(Vec<Record>, usize)> {
    let text = fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    let whole = text.rfind('\n').map_or(0, |end| end + 1);
    let records = text[..whole]
        .lines()
        .enumerate()
        .map(|(at, line)| {
            serde_json::from_str(line).with_context(|| format!("{}, line {}", path.display(), at + 1))
        })
        .collect::<Result<_>>()?;
    Ok((records, whole))
}

impl Journal {
    /// Opens the journal in `dir`, or begins one.
    ///
    /// # Errors
    /// If it was begun by another configuration.
    pub fn open(dir: &Path, begin: Begin) -> Result<Self> {
        fs::create_dir_all(dir).with_context(|| format!("cannot make {}", dir.display()))?;
        let path = dir.join(JOURNAL);
        let (records, whole) = if path.exists() { parse(&path)? } else { (Vec::new(), 0) };
        if let Some(Record::Sweep(first)) = records.first()
            && first.config != begin.config
        {
            bail!("{} holds the results of another configuration: give another --dir", dir.display());
        }
        let file = OpenOptions::new()
            .create(true)
            .append(true)
            .open(&path)
            .with_context(|| format!("cannot write {}", path.display()))?;
        file.set_len(whole as u64)?;
        let empty = records.is_empty();
        let mut journal = Journal { file, records };
        if empty {
            journal.append(Record::Sweep(Box::new(begin)))?;
        }
        Ok(journal)
    }

    /// Writes one record through to the file.
    ///
    /// # Errors
    /// If the disk is full or gone.
    pub fn append(&mut self, record: Record) -> Result<()> {
        let line = serde_json::to_string(&record)? + "\n";
        self.file.write_all(line.as_bytes()).context("cannot write the journal")?;
        self.records.push(record);
        Ok(())
    }

    /// The points in it.
    pub fn points(&self) -> impl Iterator<Item = &PointResult> {
        points(&self.records)
    }

    /// True if the point was measured; a failed one is tried again.
    pub fn has(&self, id: &str) -> bool {
        self.points().any(|point| point.id == id && point.failed.is_none())
    }

    /// The measured working set.
    pub fn working_set(&self, workload: &str, family: &str) -> Option<u64> {
        self.records.iter().find_map(|record| match record {
            Record::WorkingSet(set) if set.workload == workload && set.family == family => Some(set.bytes),
            _ => None,
        })
    }
}

/// The points among records.
pub fn points(records: &[Record]) -> impl Iterator<Item = &PointResult> {
    records.iter().filter_map(|record| match record {
        Record::Point(point) => Some(&**point),
        _ => None,
    })
}

/// The directory of a sweep's results unless the user names one: the day, the commit and the TOML's name.
pub fn usual_dir(machine: &Machine, config: &Path) -> PathBuf {
    let day = humantime::format_rfc3339_seconds(std::time::SystemTime::now()).to_string();
    let commit = machine.commit.as_deref().unwrap_or("no-commit");
    PathBuf::from("redis-bench/results")
        .join(format!("{}-{commit}", &day[..10]))
        .join(config.file_stem().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn begin(config: &str) -> Begin {
        Begin {
            started: String::new(),
            command_line: Vec::new(),
            config: config.to_owned(),
            machine: Machine::default(),
        }
    }

    fn point(id: &str, failed: Option<&str>) -> Record {
        Record::Point(Box::new(PointResult {
            id: id.to_owned(),
            workload: "w".into(),
            system: "s".into(),
            fraction: 1.0,
            load: None,
            repetition: 1,
            started: String::new(),
            seconds: 1.0,
            working_set_bytes: None,
            local_bytes: None,
            cgroup_bytes: None,
            loaded: None,
            measured: None,
            failed: failed.map(Into::into),
        }))
    }

    #[test]
    fn a_journal_goes_on_where_it_was_cut_and_forgets_nothing() {
        let dir = tempfile::tempdir().expect("a directory");
        let mut journal = Journal::open(dir.path(), begin("a")).expect("new");
        journal.append(point("one", None)).expect("written");
        journal.append(point("two", Some("died"))).expect("written");
        drop(journal);
        let path = dir.path().join(JOURNAL);
        let mut text = fs::read_to_string(&path).expect("there");
        text.push_str("{\"record\":\"point\",\"id\":\"thr");
        fs::write(&path, text).expect("written");
        let mut journal = Journal::open(dir.path(), begin("a")).expect("old");
        assert!(journal.has("one") && !journal.has("two"), "the failed one is tried again");
        journal.append(point("three", None)).expect("written");
        assert_eq!(read(dir.path()).expect("whole lines").len(), 4);
    }

    #[test]
    fn another_configuration_is_refused() {
        let dir = tempfile::tempdir().expect("a directory");
        Journal::open(dir.path(), begin("a")).expect("new");
        assert!(Journal::open(dir.path(), begin("b")).is_err());
    }
}
