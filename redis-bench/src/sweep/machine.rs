//! What a figure was made on: processor, memory, kernel and its swap settings, versions, commit.
//!
//! Refuses to tell whose machine it is: no host name, no user, no path.

use std::fs;
use std::process::Command;

use serde::{Deserialize, Serialize};

use super::config::Config;

/// A machine and what is installed on it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the names say it")]
pub struct Machine {
    pub processor: String,
    pub cores: usize,
    pub memory_bytes: u64,
    pub kernel: String,
    /// `name = value` of what decides how swap behaves.
    pub settings: Vec<String>,
    /// `system: first line of --version`
    pub versions: Vec<String>,
    /// Of the repository, `-dirty` if there were changes.
    pub commit: Option<String>,
}

const SETTINGS: [(&str, &str); 4] = [
    ("vm.swappiness", "/proc/sys/vm/swappiness"),
    ("vm.page-cluster", "/proc/sys/vm/page-cluster"),
    ("transparent_hugepage", "/sys/kernel/mm/transparent_hugepage/enabled"),
    ("clocksource", "/sys/devices/system/clocksource/clocksource0/current_clocksource"),
];

fn file(path: &str) -> Option<String> {
    fs::read_to_string(path).ok().map(|text| text.trim().to_owned())
}

/// The first line that a program prints; its error stream counts too.
fn first_line(program: &str, arguments: &[&str]) -> Option<String> {
    let output = Command::new(program).args(arguments).output().ok()?;
    let text = [output.stdout, output.stderr].concat();
    String::from_utf8_lossy(&text).lines().next().map(|line| line.trim().to_owned())
}

fn field(text: &str, name: &str) -> Option<String> {
    text.lines()
        .find_map(|line| Some(line.strip_prefix(name)?.trim_start().strip_prefix(':')?.trim().to_owned()))
}

fn commit() -> Option<String> {
    let output =
        Command::new("git").args(["describe", "--always", "--dirty", "--exclude=*"]).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

impl Machine {
    /// This one, and the versions of the programs that `config` starts.
    pub fn here(config: &Config) -> Self {
        let memory = file("/proc/meminfo").and_then(|text| field(&text, "MemTotal"));
        let kilobytes = memory.and_then(|text| text.split_whitespace().next()?.parse::<u64>().ok());
        let mut versions = Vec::new();
        for system in &config.systems {
            let Some(program) = system.command.first().filter(|program| *program != "{bench}") else {
                continue;
            };
            versions
                .extend(first_line(program, &["--version"]).map(|line| format!("{}: {line}", system.name)));
        }
        Machine {
            processor: file("/proc/cpuinfo").and_then(|text| field(&text, "model name")).unwrap_or_default(),
            cores: std::thread::available_parallelism().map_or(0, usize::from),
            memory_bytes: kilobytes.unwrap_or_default() << 10,
            kernel: file("/proc/sys/kernel/osrelease").unwrap_or_default(),
            settings: SETTINGS
                .iter()
                .filter_map(|(name, path)| Some(format!("{name} = {}", file(path)?)))
                .collect(),
            versions,
            commit: commit(),
        }
    }
}
