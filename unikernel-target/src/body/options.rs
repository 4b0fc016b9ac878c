//! The kernel command line: the server's directives, and the machine's own.
//!
//! ```text
//!   --local-memory 64mb --far-memory mem:512mb --ip 10.0.2.15/24 virtio_mmio.device=...
//!        engine's Config                        the network's      QEMU's: not ours
//! ```
//!
//! Refuses what it does not understand: one line, and the machine ends.

use crate::net::Address;
use crate::virtio::is_machine_word;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use engine::Config;
use engine::directive::{self, DirectiveError};

/// What the command line asks for.
pub struct Options {
    /// The store's.
    pub config: Config,
    /// The network's.
    pub address: Address,
    /// What the machine is for.
    pub purpose: Purpose,
}

/// What the machine does once it is up.
pub enum Purpose {
    /// It serves the network until SHUTDOWN.
    Serve,
    /// `--bench WORKLOAD`: it compares the prefetch policies, prints a table and powers off.
    Bench(Bench),
    /// `--measure-faults yes`: it prints what page faults cost and powers off.
    MeasureFaults,
}

/// `--bench WORKLOAD` and its sizes.
#[derive(Default)]
pub struct Bench {
    /// The workload's name.
    pub workload: String,
    /// `--bench-data 32mb`. Units: bytes.
    pub data_bytes: u64,
    /// `--bench-local 12.5`: percent of the data's pages.
    pub local_percent: f64,
    /// `--bench-requests 4000`, after half as many to warm up.
    pub requests: u64,
    /// `--bench-clients 16`, each with one request at a time.
    pub clients: usize,
    /// `--bench-request-ns 2000`: the work of a request; without it, its instructions.
    pub request_ns: Option<u64>,
    /// `--bench-network 9000`: instructions that a network would add to each request's own.
    pub network: u64,
    /// `--bench-policy ahead`: this policy alone, beside everything local. Empty: all of them.
    pub policy: String,
}

/// Clients that `--bench` may have.
const BENCH_CLIENTS_MAX: usize = 1000;

impl Bench {
    /// Takes a directive of its own; `None` if it is none.
    fn take(&mut self, name: &str, value: &str) -> Option<Result<(), &'static str>> {
        fn put<T>(place: &mut T, value: Option<T>) -> Result<(), &'static str> {
            *place = value.ok_or("argument couldn't be parsed")?;
            Ok(())
        }
        let number = value.parse::<u64>().ok().filter(|number| *number > 0);
        Some(match name {
            "bench" => put(&mut self.workload, Some(value.to_string())),
            "bench-policy" => put(&mut self.policy, Some(value.to_string())),
            "bench-data" => put(&mut self.data_bytes, crate::far::bytes(value)),
            "bench-local" => put(
                &mut self.local_percent,
                value.parse().ok().filter(|percent| (0.1..=100.0).contains(percent)),
            ),
            "bench-requests" => put(&mut self.requests, number),
            "bench-clients" => put(
                &mut self.clients,
                number.map(|number| number as usize).filter(|clients| *clients <= BENCH_CLIENTS_MAX),
            ),
            "bench-network" => put(&mut self.network, number),
            "bench-request-ns" => put(&mut self.request_ns, number.map(Some)),
            _ => return None,
        })
    }
}

/// Reads the command line.
///
/// # Errors
/// The first directive that cannot be taken, in one line.
pub fn parse(line: &str) -> Result<Options, String> {
    let line: Vec<&str> = line.split(' ').filter(|word| !is_machine_word(word)).collect();
    let words = directive::split(&line.join(" ")).map_err(|error| error.to_string())?;
    let mut config = Config::default();
    let (mut ip, mut gateway, mut faults) = (None, None, None);
    let mut bench =
        Bench { data_bytes: 32 << 20, local_percent: 12.5, requests: 4000, clients: 16, ..Bench::default() };
    for directive in directive::group(&words).map_err(|error| error.to_string())? {
        let own = match directive[0].as_str() {
            "ip" => &mut ip,
            "gateway" => &mut gateway,
            "measure-faults" => &mut faults,
            _ => {
                if let [name, value] = directive.as_slice()
                    && let Some(taken) = bench.take(name, value)
                {
                    taken.map_err(|why| DirectiveError::bad(&directive, why).to_string())?;
                    continue;
                }
                config.take(&directive).map_err(|error| error.to_string())?;
                continue;
            }
        };
        let [_, value] = directive.as_slice() else {
            return Err(DirectiveError::bad(&directive, "wrong number of arguments").to_string());
        };
        *own = Some(value.clone());
    }
    let address = Address::parse(ip.as_deref(), gateway.as_deref()).map_err(|error| error.to_string())?;
    let purpose = match faults.as_deref() {
        Some("yes") => Purpose::MeasureFaults,
        None | Some("no") if bench.workload.is_empty() => Purpose::Serve,
        None | Some("no") => Purpose::Bench(bench),
        Some(_) => return Err("bad directive 'measure-faults': argument must be 'yes' or 'no'".to_string()),
    };
    Ok(Options { config, address, purpose })
}
