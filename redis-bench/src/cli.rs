//! The command line.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};

use crate::keys::KeyChoice;
use crate::target::Target;
use crate::units::ByteSize;
use crate::workload::Workload;

/// How much of its speed a store keeps when only a part of its data is local.
///
/// Works with any server that speaks RESP: Remora, Redis, Valkey, Dragonfly ...
#[derive(Debug, Parser)]
#[command(name = "remora-bench", version, after_help = EXAMPLES)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub action: Action,
}

const EXAMPLES: &str = "\
Examples:
  remora-bench load --url redis://127.0.0.1:6379 --workload get_mixed --data 1gb
  remora-bench run  --url redis://127.0.0.1:6379 --workload get_mixed --data 1gb --duration 20s --verify 0.01
  remora-bench run  --url redis://127.0.0.1:6379 --workload zipf_small --data 1gb --rate 40000
  remora-bench sweep redis-bench/sweeps/figure2.toml --dir target/figure2
  remora-bench report target/figure2

`load` and `run` must name the same workload, --data and --seed: the replies are checked against them.
Exit code 1: a reply was wrong, or something did not work.";

/// The subcommands.
#[derive(Debug, Subcommand)]
pub enum Action {
    /// Fill an empty server with a workload's data.
    Load(LoadArgs),
    /// Measure a server that was filled by `load`.
    Run(RunArgs),
    /// Measure many systems at many local fractions, each point on a fresh server; goes on where it stopped.
    Sweep(SweepArgs),
    /// Make the page, the plots and the tables of a sweep.
    Report(ReportArgs),
    /// Serve a fixed reply: the ceiling of client and loopback.
    #[command(hide = true)]
    Ceiling(CeilingArgs),
}

/// What `load` and `run` share.
#[derive(Clone, Debug, Args)]
pub struct DataArgs {
    /// The server
    #[arg(long, default_value = "redis://127.0.0.1:6379")]
    pub url: Target,
    /// get_4k, get_64k, get_mixed, lrange_100, lrange_all, lrange_mid, sg, zipf_small, push_pop,
    /// redis_default (64-byte GET and SET at -P 1 and -P 16), or get:SIZE, set:SIZE, lrange_100:SIZE
    #[arg(long)]
    pub workload: String,
    /// Bytes of values
    #[arg(long, default_value = "1gb")]
    pub data: ByteSize,
    /// Of keys, values and draws
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
}

/// `load`
#[derive(Debug, Args)]
pub struct LoadArgs {
    /// What to load.
    #[command(flatten)]
    pub data: DataArgs,
}

/// `run`
#[derive(Debug, Args)]
pub struct RunArgs {
    /// What was loaded.
    #[command(flatten)]
    pub data: DataArgs,
    /// Connections
    #[arg(long, short = 'c', default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=60_000))]
    pub clients: u32,
    /// Client threads
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=256))]
    pub threads: u32,
    /// Requests in flight on each connection
    #[arg(long, short = 'P', default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=65_536))]
    pub pipeline: u32,
    /// How long to measure
    #[arg(long, default_value = "20s", value_parser = humantime::parse_duration)]
    pub duration: Duration,
    /// How long to run before measuring
    #[arg(long, default_value = "1s", value_parser = humantime::parse_duration)]
    pub warmup: Duration,
    /// Open loop: Poisson arrivals at N requests a second; latency counts from the intended arrival
    #[arg(long, value_name = "N")]
    pub rate: Option<f64>,
    /// uniform, zipf:EXPONENT or hotspot:SHARE_OF_KEYS,SHARE_OF_REQUESTS [default: the workload's]
    #[arg(long)]
    pub keys: Option<KeyChoice>,
    /// Share of the replies whose every byte is checked (kind and length of all are)
    #[arg(long, default_value_t = 0.01)]
    pub verify: f64,
    /// Write the measurement there
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// The server's process, if INFO does not tell
    #[arg(long, hide = true)]
    pub pid: Option<u32>,
    /// Take every reply as right: for a fixed-reply server
    #[arg(long, hide = true)]
    pub trust: bool,
}

/// `sweep`
#[derive(Debug, Args)]
pub struct SweepArgs {
    /// Systems, workloads, fractions, repetitions
    pub file: PathBuf,
    /// Where the results go, and are continued [default: redis-bench/results/DATE-COMMIT/FILE]
    #[arg(long)]
    pub dir: Option<PathBuf>,
    /// Say what would be measured, and stop
    #[arg(long)]
    pub dry_run: bool,
}

/// `report`
#[derive(Debug, Args)]
pub struct ReportArgs {
    /// Results of one or more sweeps, the first of which gets the page
    #[arg(required = true)]
    pub dirs: Vec<PathBuf>,
}

/// `ceiling`
#[derive(Debug, Args)]
pub struct CeilingArgs {
    /// Listens on 127.0.0.1
    #[arg(long)]
    pub port: u16,
    /// The workload whose replies it imitates
    #[arg(long)]
    pub workload: Workload,
}
