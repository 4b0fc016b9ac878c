//! `remora-bench`: load generator and figure maker for stores whose memory is partly far.
//!
//! ```text
//!   load ─► server ◄─ run ─► one Measurement
//!              ▲
//!   sweep ─────┘ starts, fills, measures, stops; systems x workloads x fractions ─► points.jsonl
//!   report ◄── points.jsonl ─► index.html, plots, tables
//! ```
//!
//! Shares no code with any server it measures. Refuses to call a run good in which a reply was wrong.
#![forbid(unsafe_code)]

use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use clap::Parser;

mod arrivals;
mod ceiling;
mod cli;
mod commands;
mod drive;
mod keys;
mod latency;
mod measure;
mod observe;
mod report;
mod resp;
mod sweep;
mod target;
mod units;
mod values;
mod workload;

fn main() -> ExitCode {
    let cli = cli::Cli::parse();
    let watch = Arc::new(drive::Watch::default());
    let interrupted = Arc::clone(&watch);
    // One handler for SIGINT, SIGTERM and SIGHUP: the drive ends, and each owner cleans up on its way out.
    if let Err(error) = ctrlc::set_handler(move || interrupted.stop.store(true, Ordering::Relaxed)) {
        eprintln!("remora-bench: cannot catch Ctrl-C: {error}");
        return ExitCode::FAILURE;
    }
    let done = match &cli.action {
        cli::Action::Load(args) => commands::load(args, &watch),
        cli::Action::Run(args) => commands::run(args, &watch),
        cli::Action::Sweep(args) => sweep::sweep(args, &watch),
        cli::Action::Report(args) => report::report(&args.dirs),
        cli::Action::Ceiling(args) => commands::ceiling(args, &watch),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("remora-bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}
