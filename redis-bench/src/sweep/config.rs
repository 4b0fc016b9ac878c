//! The TOML of a sweep: what is measured on what.
//!
//! ```toml
//! data = "1gb"                       # and clients, duration, warmup, repetitions, fractions, seed, verify
//!
//! [[workload]]
//! name = "get_mixed"
//!
//! [[system]]
//! name = "remora ahead"
//! command = ["remora-server", "--port", "{port}", "--local-memory", "{local}"]
//! cap = "argument"
//! ```
//!
//! A new server, body or link needs a `[[system]]` here and nothing in the code. Refuses unknown fields:
//! a misspelt one would otherwise be a figure of something else.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde::Deserialize;

use crate::keys::KeyChoice;
use crate::target::Target;
use crate::units::ByteSize;
use crate::workload::{Dataset, Workload};

/// Repetitions a point, at most.
const REPETITIONS_MAX: u32 = 100;

/// A whole sweep.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Heads the report.
    pub title: String,
    /// Bytes of values in every workload that says nothing else.
    pub data: ByteSize,
    /// Connections.
    #[serde(default = "usual::clients")]
    pub clients: usize,
    /// Measured time of a point.
    #[serde(deserialize_with = "span")]
    pub duration: Duration,
    /// Time before it.
    #[serde(default = "usual::warmup", deserialize_with = "span")]
    pub warmup: Duration,
    /// How often each point is measured.
    pub repetitions: u32,
    /// Local shares of the working set; 1.0 is everything, with room to spare.
    #[serde(default = "usual::fractions")]
    pub fractions: Vec<f64>,
    /// True to start and fill all servers of a workload first, and to measure them in turn while all are up, so that
    /// those of one repetition are seconds apart and each keeps its memory. They must fit in the machine together.
    #[serde(default)]
    pub side_by_side: bool,
    /// Of data and draws.
    #[serde(default = "usual::seed")]
    pub seed: u64,
    /// Share of replies that are checked to the byte.
    #[serde(default = "usual::verify")]
    pub verify: f64,
    /// Workloads, in order.
    #[serde(rename = "workload")]
    pub workloads: Vec<Traffic>,
    /// Systems, in the order in which they take turns.
    #[serde(rename = "system")]
    pub systems: Vec<System>,
    /// What the local disk reaches by itself, measured with fio before anything else.
    pub fio: Option<Fio>,
}

/// A workload in a sweep.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Traffic {
    /// As on the command line.
    pub name: String,
    /// Requests in flight on each connection.
    #[serde(default = "usual::pipeline")]
    pub pipeline: usize,
    /// Instead of the sweep's.
    pub data: Option<ByteSize>,
    /// Instead of the sweep's.
    pub fractions: Option<Vec<f64>>,
    /// Instead of the workload's own key distribution.
    pub keys: Option<String>,
    /// Open loop besides the closed one.
    pub load: Option<Load>,
    /// Only these systems.
    pub systems: Option<Vec<String>>,
}

/// Latency under load: an open loop.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Load {
    /// Of the same system's all-local closed-loop rate, each a point of its own.
    pub shares: Vec<f64>,
    /// Local shares of the working set.
    pub fractions: Vec<f64>,
    /// Only these systems.
    pub systems: Vec<String>,
}

/// How a system's memory is held to its share.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Cap {
    /// Not at all: it has what it wants.
    None,
    /// It caps itself: `{local}` in its command.
    Argument,
    /// By a memory cgroup, with `swap` behind it.
    Cgroup,
}

/// A system in a sweep.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct System {
    /// Its name in tables and plots.
    pub name: String,
    /// Program and arguments; `{port}`, `{local}` (bytes), `{far}` (bytes), `{workload}`, `{dir}` (a
    /// scratch directory) and `{bench}` (this program) are put in.
    pub command: Vec<String>,
    /// Memory nodes that are started before it, each by program and arguments; `{socket}` is the Unix socket where
    /// one must listen, which is `{dir}/node0` for the first, `{dir}/node1` for the second.
    #[serde(default)]
    pub nodes: Vec<Vec<String>>,
    /// Paths of empty files of `{far}` bytes that are there before its nodes are started, and gone with it. In
    /// `/dev/shm` they are memory.
    #[serde(default)]
    pub disks: Vec<String>,
    /// How its memory is held to its share.
    pub cap: Cap,
    /// Swap behind a cgroup: `zram`, `zram:ALGORITHM`, `file:PATH` or `device:PATH`.
    pub swap: Option<String>,
    /// Systems of one family need the same memory for the same data; it is measured once, on the first
    /// of them. Their own name if absent.
    pub family: Option<String>,
    /// What the working set is: `rss`, or fields of INFO to be added up.
    #[serde(default = "usual::working_set")]
    pub working_set: Vec<String>,
    /// Instead of the sweep's.
    pub fractions: Option<Vec<f64>>,
    /// Only in these workloads, by their names.
    pub workloads: Option<Vec<String>>,
    /// True for a fixed-reply server: it holds no data, and its replies are not judged.
    #[serde(default)]
    pub fixed_reply: bool,
    /// True if it is left out, and said so, where its program is not installed.
    #[serde(default)]
    pub optional: bool,
    /// Where it listens, if not on `{port}` of this machine: `redis://HOST:PORT`.
    pub url: Option<String>,
    /// `HOST:PORT` that sends the /proc/vmstat of the machine behind `url` to whoever connects: its swap is
    /// reported then. Lines `memory_current` and `memory_swap_current` tell what the server holds.
    pub vmstat: Option<String>,
    /// Instead of 30 s until it answers.
    pub start_seconds: Option<u64>,
}

/// How fio looks at the local disk: random reads of 4 KiB, O_DIRECT, io_uring, depth 64.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fio {
    /// A file it may write.
    pub path: String,
    /// Its size.
    pub size: ByteSize,
    /// How long it reads.
    #[serde(deserialize_with = "span")]
    pub duration: Duration,
}

/// What is meant where nothing is said.
mod usual {
    use std::time::Duration;

    pub(super) fn clients() -> usize {
        50
    }
    pub(super) fn warmup() -> Duration {
        Duration::from_secs(2)
    }
    pub(super) fn fractions() -> Vec<f64> {
        vec![1.0, 0.5, 0.25, 0.125]
    }
    pub(super) fn seed() -> u64 {
        1
    }
    pub(super) fn verify() -> f64 {
        0.01
    }
    pub(super) fn pipeline() -> usize {
        1
    }
    pub(super) fn working_set() -> Vec<String> {
        vec!["rss".to_owned()]
    }
}

fn span<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Duration, D::Error> {
    humantime::parse_duration(&String::deserialize(from)?).map_err(serde::de::Error::custom)
}

impl System {
    /// Whose working set it shares.
    pub fn family(&self) -> &str {
        self.family.as_deref().unwrap_or(&self.name)
    }

    /// The first of its programs, and of its nodes', that cannot be found.
    pub fn missing(&self) -> Option<&str> {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let is_installed = |program: &str| {
            program == "{bench}"
                || Path::new(program).components().count() > 1 && Path::new(program).exists()
                || std::env::split_paths(&path).any(|dir| dir.join(program).is_file())
        };
        let programs = std::iter::once(&self.command).chain(&self.nodes);
        programs.map(|words| words.first().map_or("", String::as_str)).find(|program| !is_installed(program))
    }
}

impl Traffic {
    /// The workload it names, and its key distribution if it is not the workload's own.
    ///
    /// # Errors
    /// A sentence, if it names none.
    pub fn workload(&self) -> Result<(Workload, Option<KeyChoice>)> {
        let workload = self.name.parse().map_err(|error: String| anyhow::anyhow!(error))?;
        let keys = self
            .keys
            .as_deref()
            .map(str::parse)
            .transpose()
            .map_err(|error: String| anyhow::anyhow!(error))?;
        Ok((workload, keys))
    }

    /// Its name in tables: the workload, and what differs from the usual.
    pub fn label(&self) -> String {
        let keys = self.keys.as_deref().map(|keys| format!(" {keys}")).unwrap_or_default();
        if self.pipeline == 1 {
            format!("{}{keys}", self.name)
        } else {
            format!("{} -P {}{keys}", self.name, self.pipeline)
        }
    }
}

/// Reads a sweep.
///
/// # Errors
/// One sentence that says where and what: from the TOML parser, or about what it cannot see.
pub fn parse(text: &str) -> Result<Config> {
    let config: Config = toml::from_str(text).map_err(|error| {
        let line = error.span().map_or(1, |span| text[..span.start].matches('\n').count() + 1);
        anyhow::anyhow!("line {line}: {}", error.message().replace('\n', " "))
    })?;
    let Config { repetitions, clients, .. } = config;
    if repetitions == 0 || repetitions > REPETITIONS_MAX {
        bail!("repetitions = {repetitions}: give between 1 and {REPETITIONS_MAX}");
    }
    if clients == 0 || config.duration.is_zero() || !(0.0..=1.0).contains(&config.verify) {
        bail!("clients and duration must be above zero, verify between 0 and 1");
    }
    check_fractions(&config.fractions)?;
    for traffic in &config.workloads {
        check_traffic(&config, traffic).with_context(|| format!("workload `{}`", traffic.name))?;
    }
    for (at, system) in config.systems.iter().enumerate() {
        check_system(&config, system).with_context(|| format!("system `{}`", system.name))?;
        if config.systems[..at].iter().any(|other| other.name == system.name) {
            bail!("two systems are called `{}`", system.name);
        }
    }
    Ok(config)
}

fn check_fractions(fractions: &[f64]) -> Result<()> {
    match fractions.iter().find(|fraction| !(**fraction > 0.0 && **fraction <= 1.0)) {
        Some(wrong) => bail!("a fraction of {wrong}: give above 0 and up to 1.0"),
        None => Ok(()),
    }
}

fn check_traffic(config: &Config, traffic: &Traffic) -> Result<()> {
    let (workload, _) = traffic.workload()?;
    Dataset::new(&workload, traffic.data.unwrap_or(config.data), config.seed)
        .map_err(|error| anyhow::anyhow!(error))?;
    check_fractions(traffic.fractions.as_deref().unwrap_or_default())?;
    let load = traffic.load.as_ref();
    let shares = load.map_or(&[][..], |load| &load.shares[..]);
    if traffic.pipeline == 0 || shares.iter().any(|share| !(share.is_finite() && *share > 0.0)) {
        bail!("pipeline and every share of load must be above zero");
    }
    check_fractions(load.map_or(&[], |load| &load.fractions))?;
    let mut named = traffic.systems.iter().flatten().chain(load.iter().flat_map(|load| &load.systems));
    match named.find(|name| config.systems.iter().all(|system| system.name != **name)) {
        Some(unknown) => bail!("there is no system `{unknown}`"),
        None => Ok(()),
    }
}

fn check_system(config: &Config, system: &System) -> Result<()> {
    check_fractions(system.fractions.as_deref().unwrap_or_default())?;
    let is_measured = |name: &&String| config.workloads.iter().any(|traffic| traffic.name == **name);
    if let Some(unknown) = system.workloads.iter().flatten().find(|name| !is_measured(name)) {
        bail!("there is no workload `{unknown}`");
    }
    let says = |part: &str| system.command.iter().any(|argument| argument.contains(part));
    match &system.url {
        Some(url) => drop(url.parse::<Target>().map_err(|error| anyhow::anyhow!(error))?),
        None if !says("{port}") => bail!("its command has no {{port}}"),
        None => {}
    }
    if system.nodes.iter().any(|words| !words.iter().any(|argument| argument.contains("{socket}"))) {
        bail!("one of its nodes has no {{socket}}");
    }
    match system.cap {
        Cap::Argument if !says("{local}") => bail!("cap = \"argument\", but its command has no {{local}}"),
        Cap::Cgroup if system.swap.is_none() => {
            bail!("cap = \"cgroup\" needs swap = \"zram\", \"file:PATH\" or \"device:PATH\"")
        }
        Cap::None if system.fractions.as_ref().is_none_or(|f| f != &[1.0]) => {
            bail!("cap = \"none\" has everything local: say fractions = [1.0]")
        }
        _ => {}
    }
    if let Some(swap) = &system.swap {
        super::swap::SwapKind::parse(swap)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = r#"
title = "t"
data = "8mb"
duration = "1s"
repetitions = 2
[[workload]]
name = "get_4k"
[[system]]
name = "redis"
command = ["redis-server", "--port", "{port}"]
cap = "none"
fractions = [1.0]
"#;

    #[test]
    fn a_sweep_needs_little() {
        let config = parse(GOOD).expect("good");
        assert_eq!((config.clients, config.fractions.len(), config.systems[0].family()), (50, 4, "redis"));
    }

    #[test]
    fn what_is_wrong_is_said_in_one_line() {
        for (good, bad, says) in [
            ("data = \"8mb\"", "data = \"8 parsecs\"", "line 3: `8 parsecs` is not a size"),
            ("repetitions = 2", "repetitions = 0", "between 1 and 100"),
            ("repetitions = 2", "repetition = 2", "line 5: unknown field `repetition`"),
            ("duration = \"1s\"", "duration = \"soon\"", "line 4: "),
            ("\"get_4k\"", "\"get_5k\"", "no workload `get_5k`"),
            ("\"{port}\"", "\"6379\"", "no {port}"),
            ("cap = \"none\"", "nodes = [[\"nbdkit\"]]\ncap = \"none\"", "no {socket}"),
            ("cap = \"none\"", "cap = \"argument\"", "no {local}"),
            ("cap = \"none\"", "cap = \"cgroup\"", "needs swap"),
            ("fractions = [1.0]", "fractions = [0.5]", "everything local"),
            ("fractions = [1.0]", "fractions = [2.0]", "a fraction of 2"),
            ("title = \"t\"", "", "missing field `title`"),
            ("cap = \"none\"", "url = \"http://there\"\ncap = \"none\"", "`http://there` is no address"),
            ("[[system]]", "[[system", "line 8"),
            ("cap = \"none\"", "workloads = [\"get_64k\"]\ncap = \"none\"", "is no workload `get_64k`"),
        ] {
            let error = format!("{:#}", parse(&GOOD.replace(good, bad)).expect_err(bad));
            assert!(error.contains(says), "{bad}: {error}");
            assert!(!error.contains('\n'), "{error}");
        }
    }

    #[test]
    fn the_sweeps_that_are_shipped_are_good() {
        for text in [
            include_str!("../../sweeps/demo.toml"),
            include_str!("../../sweeps/guests.toml"),
            include_str!("../../sweeps/figure2.toml"),
            include_str!("../../sweeps/targets.toml"),
            include_str!("../../sweeps/all.toml"),
            include_str!("../../sweeps/nodes.toml"),
            include_str!("../../sweeps/kept.toml"),
        ] {
            parse(text).expect("shipped");
        }
    }
}
