//! Loading a server, and one measurement of it: drive, observe before and after, one record.
//!
//! Refuses to measure an empty server: a reply that is missing is wrong, and wrong replies are kept.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};

use crate::drive::{Pace, Plan, Tally, Watch, drive};
use crate::keys::KeyChoice;
use crate::latency::Quantiles;
use crate::observe::{Change, PAGE_BYTES, change, observe, own_cpu};
use crate::target::Target;
use crate::units::ByteSize;
use crate::workload::source::{Fill, Source, Traffic, Trim};
use crate::workload::{Dataset, Workload};

/// Bytes of requests on their way while loading: enough to keep a server busy, little enough to hold.
const LOAD_WINDOW_BYTES: u64 = 1 << 20;
/// Requests on their way while loading, at most.
const LOAD_PIPELINE_MAX: u64 = 256;
/// Threads of a client. Each has a part of the connections; more than the machine's cores help nobody.
pub const THREADS_MAX: usize = 256;

/// What to measure.
#[derive(Clone, Debug)]
pub struct RunPlan {
    /// What is asked.
    pub workload: Workload,
    /// How much the server was loaded with.
    pub data: ByteSize,
    /// Of data and draws.
    pub seed: u64,
    /// None: as the workload has it.
    pub keys: Option<KeyChoice>,
    /// Connections.
    pub clients: usize,
    /// Threads over which they are spread.
    pub threads: usize,
    /// Requests in flight on each connection.
    pub pipeline: usize,
    /// Requests a second of an open loop; None: closed loop.
    pub rate_per_s: Option<f64>,
    /// Time that is measured.
    pub duration: Duration,
    /// Time before it that is not.
    pub warmup: Duration,
    /// Share of the replies whose bytes are checked.
    pub verify: f64,
    /// The server's process, if known.
    pub pid: Option<u32>,
    /// False for a fixed-reply server.
    pub judge: bool,
}

/// One measurement: everything a report needs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the names, and the fields of RunPlan and Tally that they repeat, say it")]
pub struct Measurement {
    pub workload: String,
    pub data: ByteSize,
    pub seed: u64,
    pub keys: String,
    pub clients: usize,
    pub threads: usize,
    pub pipeline: usize,
    pub offered_per_s: Option<f64>,
    pub seconds: f64,
    pub requests: u64,
    pub late: u64,
    pub unanswered: u64,
    pub requests_per_s: f64,
    pub payload_bytes: u64,
    pub errors: u64,
    pub first_error: Option<String>,
    pub wrong: u64,
    pub first_wrong: Option<String>,
    pub verified: u64,
    pub latency: Quantiles,
    /// HdrHistogram V2 deflate, base64, nanoseconds.
    pub histogram: String,
    pub per_second: Vec<u64>,
    pub server: Change,
    /// User and system time of this client.
    pub client_cpu_s: Option<f64>,
}

impl Measurement {
    /// All replies, also those after the end: what the server's counters saw.
    pub fn answered(&self) -> u64 {
        self.requests + self.late
    }

    /// Server CPU, user and system.
    pub fn server_cpu_us_per_request(&self) -> Option<f64> {
        Some(self.server.cpu?.total_s() * 1e6 / self.answered().max(1) as f64)
    }

    /// Client CPU, user and system.
    pub fn client_cpu_us_per_request(&self) -> Option<f64> {
        Some(self.client_cpu_s? * 1e6 / self.answered().max(1) as f64)
    }

    /// Bytes fetched from far memory or swap a byte of value delivered.
    pub fn fetched_per_useful_byte(&self) -> Option<f64> {
        Some((self.server.pages_in()? * PAGE_BYTES) as f64 / self.payload_bytes.max(1) as f64)
    }

    /// Bytes moved in both directions a byte of value delivered.
    pub fn moved_per_useful_byte(&self) -> Option<f64> {
        let pages = self.server.pages_in()? + self.server.pages_out().unwrap_or(0);
        Some((pages * PAGE_BYTES) as f64 / self.payload_bytes.max(1) as f64)
    }
}

/// What loading came to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Loaded {
    /// Requests that were answered.
    pub requests: u64,
    /// How long it took.
    pub seconds: f64,
    /// What the server did meanwhile.
    pub server: Change,
    /// What it did in the deletion that follows, if one does.
    pub trim: Option<Change>,
}

/// How much of a load to do.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Extent {
    /// The data, and then what the workload deletes.
    Whole,
    /// The data alone: what a working set is measured by.
    DataOnly,
}

/// Fills `target` with `data`.
///
/// # Errors
/// If the server is lost, or answers any request with anything but success.
pub fn load(
    target: &Target,
    data: &Dataset,
    extent: Extent,
    pid: Option<u32>,
    watch: &Watch,
) -> Result<Loaded> {
    let value_bytes = match &data.holds {
        crate::workload::Holds::Strings(sizes) => sizes.mean(),
        crate::workload::Holds::Culled { .. } => 128,
        crate::workload::Holds::Lists { element_bytes, .. } => *element_bytes as u64,
    };
    let plan = Plan {
        clients: 1,
        pipeline: (LOAD_WINDOW_BYTES / value_bytes).clamp(4, LOAD_PIPELINE_MAX) as usize,
        pace: Pace::Window,
        duration: None,
        verify: 0.0,
        judge: true,
        seed: data.seed,
    };
    let before = observe(target, pid)?;
    let filled = drive_right(target, &plan, data, Fill::new(data), watch).context("loading")?;
    let after = observe(target, pid)?;
    let mut loaded = Loaded {
        requests: filled.requests,
        seconds: filled.elapsed.as_secs_f64(),
        server: change(&before, &after),
        trim: None,
    };
    if extent == Extent::Whole && data.load_requests().1 > 0 {
        let trimmed = drive_right(target, &plan, data, Trim::new(data), watch).context("deleting")?;
        loaded.requests += trimmed.requests;
        loaded.seconds += trimmed.elapsed.as_secs_f64();
        loaded.trim = Some(change(&after, &observe(target, pid)?));
    }
    Ok(loaded)
}

/// Drives, and takes anything but success as an error.
fn drive_right(
    target: &Target,
    plan: &Plan,
    data: &Dataset,
    source: impl Source,
    watch: &Watch,
) -> Result<Tally> {
    let tally = drive(target, plan, data, source, watch)?;
    if let Some(error) = &tally.first_error {
        bail!("{} of {} requests were refused: {error}", tally.errors, tally.requests);
    }
    if let Some(wrong) = &tally.first_wrong {
        bail!(
            "{} of {} replies were wrong: {wrong} (is the server empty before it is loaded?)",
            tally.wrong,
            tally.requests
        );
    }
    Ok(tally)
}

/// Measures `target` as `plan` says.
///
/// # Errors
/// If the server is lost. Error replies and wrong replies are in the measurement, not errors.
pub fn run(target: &Target, plan: &RunPlan, data: &Dataset, watch: &Watch) -> Result<Measurement> {
    if !plan.warmup.is_zero() {
        drive_all(target, plan, data, plan.warmup, 1, watch).context("warming up")?;
    }
    let before = observe(target, plan.pid)?;
    let own_before = own_cpu();
    let tally = drive_all(target, plan, data, plan.duration, 2, watch)?;
    let own_after = own_cpu();
    let after = observe(target, plan.pid)?;
    let seconds = tally.elapsed.as_secs_f64();
    Ok(Measurement {
        workload: plan.workload.name.clone(),
        data: plan.data,
        seed: plan.seed,
        keys: plan.keys.unwrap_or(plan.workload.usual_keys()).to_string(),
        clients: plan.clients,
        threads: plan.threads,
        pipeline: plan.pipeline,
        offered_per_s: plan.rate_per_s,
        seconds,
        requests: tally.requests,
        late: tally.late,
        unanswered: tally.unanswered,
        requests_per_s: tally.requests as f64 / seconds.max(1e-9),
        payload_bytes: tally.payload_bytes,
        errors: tally.errors,
        first_error: tally.first_error,
        wrong: tally.wrong,
        first_wrong: tally.first_wrong,
        verified: tally.verified,
        latency: tally.latencies.quantiles(),
        histogram: tally.latencies.encode(),
        per_second: tally.per_second,
        server: change(&before, &after),
        client_cpu_s: own_before.zip(own_after).map(|(before, after)| after.total_s() - before.total_s()),
    })
}

/// Drives with all threads for `duration`; `phase` keeps the draws of warm-up and measurement apart.
fn drive_all(
    target: &Target,
    plan: &RunPlan,
    data: &Dataset,
    duration: Duration,
    phase: u64,
    watch: &Watch,
) -> Result<Tally> {
    let threads = plan.threads.clamp(1, plan.clients.min(THREADS_MAX));
    let choice = plan.keys.unwrap_or(plan.workload.usual_keys());
    let one = |thread: usize| {
        let salt = phase << 16 | thread as u64;
        let part = Plan {
            clients: (plan.clients + threads - 1 - thread) / threads,
            pipeline: plan.pipeline,
            pace: plan.rate_per_s.map_or(Pace::Closed, |rate| Pace::Open(rate / threads as f64)),
            duration: Some(duration),
            verify: plan.verify,
            judge: plan.judge,
            seed: plan.seed ^ salt,
        };
        drive(target, &part, data, Traffic::new(&plan.workload, data, choice, salt), watch)
    };
    let mut total = if threads == 1 {
        one(0)?
    } else {
        std::thread::scope(|scope| {
            let handles: Vec<_> = (0..threads).map(|thread| scope.spawn(move || one(thread))).collect();
            let mut total = Tally::default();
            for handle in handles {
                total.merge(handle.join().expect("a client thread does not panic")?);
            }
            anyhow::Ok(total)
        })?
    };
    // The second that the end cut short is not a rate.
    total.per_second.truncate(duration.as_secs().max(1) as usize);
    Ok(total)
}
