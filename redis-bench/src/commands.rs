//! `load`, `run` and `ceiling` as a user sees them: progress, a table of figures, exit codes.

use std::fmt::Write as _;
use std::fs;
use std::net::TcpListener;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use indicatif::{ProgressBar, ProgressStyle};

use crate::ceiling::{fixed_reply, serve};
use crate::cli::{CeilingArgs, LoadArgs, RunArgs};
use crate::drive::Watch;
use crate::measure::{Extent, Measurement, RunPlan, load as fill, run as measure};
use crate::units::{grouped, latency};
use crate::workload::{Dataset, Workload};

/// How often a bar is drawn anew.
const BAR_TICK: Duration = Duration::from_millis(200);
/// The workloads that `redis_default` stands for.
const REDIS_DEFAULT: [(&str, usize); 4] = [
    ("redis_default_get", 1),
    ("redis_default_set", 1),
    ("redis_default_get", 16),
    ("redis_default_set", 16),
];

/// Runs `work` while a bar of `length` follows the count of answered requests.
pub fn with_bar<T>(length: u64, what: &str, watch: &Watch, work: impl FnOnce() -> T) -> T {
    let style = ProgressStyle::with_template("{prefix} {bar:30} {pos}/{len} {per_sec} {eta}")
        .expect("a fixed template");
    let bar = ProgressBar::new(length).with_style(style).with_prefix(what.to_owned());
    let done = AtomicBool::new(false);
    watch.answered.store(0, Ordering::Relaxed);
    let result = std::thread::scope(|scope| {
        let follower = scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                bar.set_position(watch.answered.load(Ordering::Relaxed));
                std::thread::park_timeout(BAR_TICK);
            }
        });
        let result = work();
        done.store(true, Ordering::Relaxed);
        follower.thread().unpark();
        result
    });
    bar.finish_and_clear();
    result
}

/// The workload and pipeline pairs that the user's word stands for.
fn expand(name: &str, pipeline: usize) -> Result<Vec<(Workload, usize)>> {
    let parse = |name: &str| name.parse::<Workload>().map_err(|error| anyhow!(error));
    if name == "redis_default" {
        return REDIS_DEFAULT.iter().map(|&(name, pipeline)| Ok((parse(name)?, pipeline))).collect();
    }
    Ok(vec![(parse(name)?, pipeline)])
}

/// `remora-bench load`
///
/// # Errors
/// If the server is not there, or refuses anything.
pub fn load(args: &LoadArgs, watch: &Watch) -> Result<()> {
    let (workload, _) = expand(&args.data.workload, 1)?.swap_remove(0);
    let data = Dataset::new(&workload, args.data.data, args.data.seed).map_err(|error| anyhow!(error))?;
    let (fills, trims) = data.load_requests();
    let target = &args.data.url;
    let loaded = with_bar(fills + trims, "load", watch, || fill(target, &data, Extent::Whole, None, watch))
        .with_context(|| format!("server {}", target.address))?;
    println!(
        "loaded {} of {workload}: {} keys, {} requests in {:.1} s ({} a second)",
        args.data.data,
        grouped(data.keys as f64),
        grouped(loaded.requests as f64),
        loaded.seconds,
        grouped(loaded.requests as f64 / loaded.seconds.max(1e-9)),
    );
    Ok(())
}

/// `remora-bench run`
///
/// # Errors
/// If the server is lost, or a reply is wrong.
pub fn run(args: &RunArgs, watch: &Watch) -> Result<()> {
    if args.rate.is_some_and(|rate| !(rate.is_finite() && rate > 0.0)) {
        bail!("--rate is a positive number of requests a second");
    }
    if !(0.0..=1.0).contains(&args.verify) {
        bail!("--verify is a share: between 0 and 1");
    }
    let mut measurements = Vec::new();
    for (workload, pipeline) in expand(&args.data.workload, args.pipeline as usize)? {
        let data = Dataset::new(&workload, args.data.data, args.data.seed).map_err(|error| anyhow!(error))?;
        let plan = RunPlan {
            workload,
            data: args.data.data,
            seed: args.data.seed,
            keys: args.keys,
            clients: args.clients as usize,
            threads: args.threads as usize,
            pipeline,
            rate_per_s: args.rate,
            duration: args.duration,
            warmup: args.warmup,
            verify: args.verify,
            pid: args.pid,
            judge: !args.trust,
        };
        let measurement = measure(&args.data.url, &plan, &data, watch)
            .with_context(|| format!("server {}", args.data.url.address))?;
        print!("{}", describe(&measurement));
        measurements.push(measurement);
    }
    if let Some(path) = &args.json {
        let json = match &measurements[..] {
            [one] => serde_json::to_string_pretty(one),
            many => serde_json::to_string_pretty(many),
        };
        fs::write(path, json? + "\n").with_context(|| format!("cannot write {}", path.display()))?;
    }
    if let Some(wrong) = measurements.iter().find(|m| m.wrong > 0) {
        bail!(
            "{} WRONG replies; the first: {}",
            wrong.wrong,
            wrong.first_wrong.as_deref().unwrap_or_default()
        );
    }
    Ok(())
}

/// `remora-bench ceiling`
///
/// # Errors
/// If the port is taken.
pub fn ceiling(args: &CeilingArgs, watch: &Watch) -> Result<()> {
    let listener =
        TcpListener::bind(("127.0.0.1", args.port)).with_context(|| format!("port {}", args.port))?;
    let reply = fixed_reply(args.workload.reply_shape());
    Ok(serve(&listener, &reply, &watch.stop)?)
}

/// A measurement in a few lines for the terminal.
fn describe(m: &Measurement) -> String {
    let mut out = String::new();
    let mut line =
        |name: &str, text: String| writeln!(out, "  {name:<12}{text}").expect("a String takes every write");
    let q = &m.latency;
    line(
        "requests",
        format!(
            "{} in {:.1} s, {} a second",
            grouped(m.requests as f64),
            m.seconds,
            grouped(m.requests_per_s)
        ),
    );
    line(
        "latency",
        format!(
            "P50 {}  P90 {}  P99 {}  P99.9 {}  max {}",
            latency(q.p50_us),
            latency(q.p90_us),
            latency(q.p99_us),
            latency(q.p999_us),
            latency(q.max_us)
        ),
    );
    if let Some(rate) = m.offered_per_s {
        line(
            "offered",
            format!("{} a second; {} unanswered at the end", grouped(rate), grouped(m.unanswered as f64)),
        );
    }
    if let (Some(server), Some(client)) = (m.server_cpu_us_per_request(), m.client_cpu_us_per_request()) {
        line("CPU", format!("server {server:.2} us a request, client {client:.2} us"));
    }
    let n = m.answered().max(1) as f64;
    if let Some(pages) = m.server.pages_in().filter(|&pages| pages > 0) {
        let out = m.server.pages_out().unwrap_or(0) as f64 / n;
        let bytes = m.fetched_per_useful_byte().unwrap_or_default();
        line(
            "far memory",
            format!(
                "{:.2} pages in, {out:.2} out a request; {bytes:.2} bytes fetched a useful byte",
                pages as f64 / n
            ),
        );
    }
    line(
        "replies",
        format!(
            "{} wrong, {} errors, {} verified to the byte",
            m.wrong,
            m.errors,
            grouped(m.verified as f64)
        ),
    );
    if let Some(error) = &m.first_error {
        line("first error", error.clone());
    }
    let seconds: Vec<String> = m.per_second.iter().map(|&n| grouped(n as f64)).collect();
    line("each second", seconds.join(" "));
    format!("{} {} -c {} -P {}, keys {}\n{out}", m.workload, m.data, m.clients, m.pipeline, m.keys)
}
