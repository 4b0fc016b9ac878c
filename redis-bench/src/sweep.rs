//! `remora-bench sweep`: each point a fresh server that is started, filled, measured and stopped.
//!
//! ```text
//!   config ─► points ─► already in the journal? ─► skip
//!                └────► working set known? no ─► start, fill, ask how much it uses ─► journal
//!                └────► start ─► fill ─► measure ─► stop ─► journal ─► next
//! ```
//!
//! With `side_by_side` the servers of a workload are started and filled together, and stop when it is done.
//!
//! Refuses to lose: a point that fails is journalled with its reason and the sweep goes on; only the user
//! and a full disk end it early, and what was measured until then stays.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, Result, anyhow, bail};

use crate::cli::SweepArgs;
use crate::drive::Watch;
use crate::measure::{Extent, Loaded, Measurement, RunPlan, load, run};
use crate::observe::observe;
use crate::units::{ByteSize, grouped, latency};
use crate::workload::Dataset;

pub mod cgroup;
pub mod config;
pub mod fio;
pub mod journal;
pub mod launch;
pub mod machine;
pub mod plan;
pub mod swap;

use config::{Cap, Config, System, Traffic};
use journal::{Begin, Journal, PointResult, Record, WorkingSet};
use launch::{Room, Server};
use plan::Point;

/// "All local" is the working set and this much more, so that nothing has to move.
const ALL_LOCAL_SHARE: f64 = 1.25;
const ALL_LOCAL_BYTES: u64 = 64 << 20;
/// A point that was never measured is guessed to take this besides its warm-up and measured time.
const FILL_GUESS: Duration = Duration::from_secs(6);
/// Local memory is given in whole pages.
const PAGE_BYTES: u64 = 4096;

/// `remora-bench sweep`
///
/// # Errors
/// If the configuration is wrong, the journal cannot be written, or the user stops it.
pub fn sweep(args: &SweepArgs, watch: &Watch) -> Result<()> {
    let text =
        fs::read_to_string(&args.file).with_context(|| format!("cannot read {}", args.file.display()))?;
    let mut config = config::parse(&text).with_context(|| args.file.display().to_string())?;
    config.systems.retain(|system| {
        let Some(missing) = system.missing().filter(|_| system.optional) else { return true };
        println!("SKIPPED: {}: {missing} is not installed", system.name);
        false
    });
    let points = plan::points(&config);
    if args.dry_run {
        points.iter().for_each(|point| println!("{}", point.id()));
        let seconds = guess(&config).as_secs() * points.len() as u64;
        println!("{} points, about {} minutes", points.len(), seconds.div_ceil(60));
        return Ok(());
    }
    let machine = machine::Machine::here(&config);
    let dir = args.dir.clone().unwrap_or_else(|| journal::usual_dir(&machine, &args.file));
    let begin =
        Begin { started: now(), command_line: std::env::args().skip(1).collect(), config: text, machine };
    let journal = Journal::open(&dir, begin)?;
    let dir = dir.canonicalize().context("the directory of results is gone")?;
    let mut sweep = Sweep { config: &config, journal, dir, watch, ready: Vec::new(), started: 0 };
    sweep.fio()?;
    let failed = sweep.measure(&points)?;
    println!(
        "{} points in {}; `remora-bench report` makes the page",
        points.len() - failed,
        sweep.dir.display()
    );
    if failed > 0 {
        bail!("{failed} of {} points failed; start the sweep again to try them again", points.len());
    }
    Ok(())
}

fn now() -> String {
    humantime::format_rfc3339_seconds(SystemTime::now()).to_string()
}

fn guess(config: &Config) -> Duration {
    let fills = if config.side_by_side { FILL_GUESS / config.repetitions } else { FILL_GUESS };
    config.duration + config.warmup + fills
}

struct Sweep<'a> {
    config: &'a Config,
    journal: Journal,
    dir: PathBuf,
    watch: &'a Watch,
    /// Servers that are up and filled for points to come.
    ready: Vec<Ready>,
    /// Servers started so far, each in a directory of its own.
    started: u32,
}

/// A server that is filled.
struct Ready {
    /// Workload, system and local share.
    of: (String, String, f64),
    server: Server,
    data: Dataset,
    working_set_bytes: Option<u64>,
    local_bytes: Option<u64>,
    loaded: Option<Loaded>,
}

fn servers_of(point: &Point<'_>) -> (String, String, f64) {
    (point.traffic.label(), point.system.name.clone(), point.fraction)
}

impl Sweep<'_> {
    /// Measures the disk, once.
    fn fio(&mut self) -> Result<()> {
        let Some(fio) = &self.config.fio else { return Ok(()) };
        if self.journal.records.iter().any(|record| matches!(record, Record::Fio(_))) {
            return Ok(());
        }
        match fio::measure(fio) {
            Ok(result) => {
                println!("fio: {} reads of 4 KiB a second", grouped(result.reads_per_s));
                self.journal.append(Record::Fio(result))
            }
            Err(error) => {
                println!("fio: FAILED: {error:#}");
                Ok(())
            }
        }
    }

    /// Measures what is not in the journal; returns how many points failed.
    fn measure(&mut self, points: &[Point<'_>]) -> Result<usize> {
        let mut failed = 0;
        for (at, point) in points.iter().enumerate() {
            if self.journal.has(&point.id()) {
                continue;
            }
            let left = points[at..].iter().filter(|point| !self.journal.has(&point.id()));
            let left_s: f64 = left.map(|point| self.seconds_of(point)).sum();
            print!("[{}/{}, {:.0} min left] {}: ", at + 1, points.len(), (left_s / 60.0).ceil(), point.id());
            let _ = std::io::Write::flush(&mut std::io::stdout());
            if self.config.side_by_side {
                self.start_all(points, point)?;
            }
            let result = self.point(point)?;
            match (&result.failed, &result.measured) {
                (Some(reason), _) => println!("FAILED: {reason}"),
                (None, Some(m)) => println!("{}", line(m)),
                (None, None) => println!("nothing measured"),
            }
            failed += usize::from(result.failed.is_some());
            self.journal.append(Record::Point(Box::new(result)))?;
            self.stop_if_asked()?;
        }
        Ok(failed)
    }

    fn stop_if_asked(&self) -> Result<()> {
        if self.watch.stop.load(Ordering::Relaxed) {
            bail!("interrupted; the same command goes on from here");
        }
        Ok(())
    }

    /// How long a point will take: as long as its like took.
    fn seconds_of(&self, point: &Point<'_>) -> f64 {
        let label = point.traffic.label();
        let alike = |p: &&PointResult| p.workload == label && p.system == point.system.name;
        let took: Vec<f64> = self.journal.points().filter(alike).map(|p| p.seconds).collect();
        if took.is_empty() {
            guess(self.config).as_secs_f64()
        } else {
            took.iter().sum::<f64>() / took.len() as f64
        }
    }

    /// One point, whatever comes of it.
    ///
    /// # Errors
    /// Only if the user stops it, or the journal cannot be written.
    fn point(&mut self, point: &Point<'_>) -> Result<PointResult> {
        let start = Instant::now();
        let mut result = PointResult {
            id: point.id(),
            workload: point.traffic.label(),
            system: point.system.name.clone(),
            fraction: point.fraction,
            load: point.load,
            repetition: point.repetition,
            started: now(),
            seconds: 0.0,
            working_set_bytes: None,
            local_bytes: None,
            cgroup_bytes: None,
            loaded: None,
            measured: None,
            failed: None,
        };
        if let Err(error) = self.try_point(point, &mut result) {
            // Whatever fails now, a system call that the signal met for one, is not the point's failure.
            self.stop_if_asked()?;
            result.failed = Some(format!("{error:#}").replace('\n', " | "));
        }
        result.seconds = start.elapsed().as_secs_f64();
        Ok(result)
    }

    /// Starts all servers of the point's workload, if that is not the one whose servers are up. A server that does not
    /// come up is tried again, and its reason told, when its own point is measured.
    ///
    /// # Errors
    /// Only if the user stops it.
    fn start_all(&mut self, points: &[Point<'_>], point: &Point<'_>) -> Result<()> {
        let label = point.traffic.label();
        if self.ready.iter().any(|ready| ready.of.0 == label) {
            return Ok(());
        }
        self.ready.clear();
        for point in points.iter().filter(|point| point.traffic.label() == label) {
            let is_over = self.journal.has(&point.id());
            if !is_over && !self.ready.iter().any(|ready| ready.of == servers_of(point)) {
                match self.start(point) {
                    Ok(ready) => self.ready.push(ready),
                    Err(_) => self.stop_if_asked()?,
                }
            }
        }
        Ok(())
    }

    /// Starts and fills the server of a point.
    fn start(&mut self, point: &Point<'_>) -> Result<Ready> {
        let Point { traffic, system, fraction, .. } = *point;
        let data_bytes = traffic.data.unwrap_or(self.config.data);
        let (workload, _) = traffic.workload()?;
        let data = Dataset::new(&workload, data_bytes, self.config.seed).map_err(|error| anyhow!(error))?;
        let mut room = self.room(traffic, data_bytes);
        let mut working_set_bytes = None;
        if system.cap != Cap::None {
            let bytes = self.working_set(traffic, system, &data, data_bytes)?;
            let local = if fraction < 1.0 {
                bytes as f64 * fraction
            } else {
                bytes as f64 * ALL_LOCAL_SHARE + ALL_LOCAL_BYTES as f64
            };
            room.local_bytes = (local as u64).next_multiple_of(PAGE_BYTES);
            room.capped = true;
            working_set_bytes = Some(bytes);
        }
        let mut ready = Ready {
            of: servers_of(point),
            server: Server::start(system, &room, self.watch)?,
            working_set_bytes,
            local_bytes: room.capped.then_some(room.local_bytes),
            loaded: None,
            data,
        };
        if !system.fixed_reply {
            let (target, pid) = (&ready.server.target, Some(ready.server.pid()));
            match load(target, &ready.data, Extent::Whole, pid, self.watch) {
                Ok(loaded) => ready.loaded = Some(loaded),
                Err(error) => return Err(told(error, &mut ready.server)),
            }
        }
        Ok(ready)
    }

    fn try_point(&mut self, point: &Point<'_>, result: &mut PointResult) -> Result<()> {
        let Point { traffic, system, .. } = *point;
        let (workload, keys) = traffic.workload()?;
        let rate_per_s =
            point.load.map(|load| Ok::<_, anyhow::Error>(load * self.peak_per_s(point)?)).transpose()?;
        let up = self.ready.iter().position(|ready| ready.of == servers_of(point));
        let mut ready = match up {
            Some(at) => self.ready.swap_remove(at),
            None => self.start(point)?,
        };
        (result.working_set_bytes, result.local_bytes) = (ready.working_set_bytes, ready.local_bytes);
        result.loaded.clone_from(&ready.loaded);
        let pid = Some(ready.server.pid());
        let plan = RunPlan {
            workload,
            data: traffic.data.unwrap_or(self.config.data),
            seed: self.config.seed,
            keys,
            clients: self.config.clients,
            threads: 1,
            pipeline: traffic.pipeline,
            rate_per_s,
            duration: self.config.duration,
            warmup: self.config.warmup,
            verify: self.config.verify,
            pid,
            judge: !system.fixed_reply,
        };
        let done = run(&ready.server.target, &plan, &ready.data, self.watch);
        result.cgroup_bytes = ready.server.cgroup_bytes();
        let measured = done.map_err(|error| told(error, &mut ready.server))?;
        if measured.wrong > 0 {
            result.failed = Some(format!(
                "{} WRONG replies: {}",
                measured.wrong,
                measured.first_wrong.as_deref().unwrap_or_default()
            ));
        } else if measured.errors > 0 {
            result.failed = Some(format!(
                "{} error replies: {}",
                measured.errors,
                measured.first_error.as_deref().unwrap_or_default()
            ));
        }
        result.measured = Some(measured);
        if self.config.side_by_side {
            self.ready.push(ready);
        }
        Ok(())
    }

    /// Room for everything.
    fn room(&mut self, traffic: &Traffic, data: ByteSize) -> Room {
        let ample = data.0 * 2 + (256 << 20);
        self.started += 1;
        Room {
            local_bytes: ample,
            far_bytes: ample,
            workload: traffic.name.clone(),
            dir: self.dir.join(format!("scratch-{}", self.started)),
            capped: false,
        }
    }

    /// What the family of `system` uses for the data: asked of a server that has room for everything.
    fn working_set(
        &mut self,
        traffic: &Traffic,
        system: &System,
        data: &Dataset,
        data_bytes: ByteSize,
    ) -> Result<u64> {
        let (workload, family) = (format!("{} of {}", data_bytes, traffic.name), system.family().to_owned());
        if let Some(bytes) = self.journal.working_set(&workload, &family) {
            return Ok(bytes);
        }
        let room = self.room(traffic, data_bytes);
        let server = Server::start(system, &room, self.watch).context("measuring the working set")?;
        let pid = Some(server.pid());
        let loaded = load(&server.target, data, Extent::DataOnly, pid, self.watch)
            .context("measuring the working set")?;
        let seen = observe(&server.target, pid)?;
        let mut bytes = 0;
        for name in &system.working_set {
            let part = match name.as_str() {
                "rss" => seen.resident_bytes,
                field => seen.info.get(field).and_then(|text| text.parse().ok()),
            };
            bytes +=
                part.with_context(|| format!("the server does not tell its working set: no `{name}`"))?;
        }
        drop(server);
        self.journal.append(Record::WorkingSet(Box::new(WorkingSet {
            workload,
            family,
            system: system.name.clone(),
            bytes,
            loaded,
        })))?;
        Ok(bytes)
    }

    /// The all-local closed-loop rate of the system; of its family, if it was never all local itself.
    fn peak_per_s(&self, point: &Point<'_>) -> Result<f64> {
        let label = point.traffic.label();
        let family: Vec<&str> = self
            .config
            .systems
            .iter()
            .filter(|s| s.family() == point.system.family())
            .map(|s| s.name.as_str())
            .collect();
        let rates = |own: bool| {
            let alike = self.journal.points().filter(|p| {
                p.workload == label && p.fraction == 1.0 && p.load.is_none() && p.failed.is_none()
            });
            let of = alike.filter(|p| {
                if own { p.system == point.system.name } else { family.contains(&p.system.as_str()) }
            });
            let mut rates: Vec<f64> = of.filter_map(|p| Some(p.measured.as_ref()?.requests_per_s)).collect();
            rates.sort_unstable_by(f64::total_cmp);
            rates.get(rates.len() / 2).copied()
        };
        rates(true).or_else(|| rates(false)).context("its all-local closed-loop rate was not measured")
    }
}

/// What went wrong, and how the server ended if it did.
fn told(error: anyhow::Error, server: &mut Server) -> anyhow::Error {
    match server.ended_soon() {
        Some(ended) => error.context(ended),
        None => error,
    }
}

fn line(m: &Measurement) -> String {
    let cpu =
        m.server_cpu_us_per_request().map(|us| format!(", {us:.1} us CPU a request")).unwrap_or_default();
    format!("{} req/s, P99 {}{cpu}", grouped(m.requests_per_s), latency(m.latency.p99_us))
}

/// The TOML of the sweep in `dir`, parsed again.
///
/// # Errors
/// If the journal does not begin with one.
pub fn config_of(records: &[Record], dir: &Path) -> Result<(Config, Begin)> {
    match records.first() {
        Some(Record::Sweep(begin)) => Ok((config::parse(&begin.config)?, (**begin).clone())),
        _ => bail!("{} does not begin with a sweep", dir.join(journal::JOURNAL).display()),
    }
}
