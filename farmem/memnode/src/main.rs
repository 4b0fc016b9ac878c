//! `remora-memnode`: lends this machine's memory over the NBD protocol, and over RDMA.
//!
//! Refuses to start with anything it cannot do: one line on standard error, and exit code 1 (2 for a wrong option).
#![forbid(unsafe_code)]

use clap::Parser;
use farmem_link::rdma::check::check;
use farmem_link::rdma::port::{GidChoice, PortChoice};
use farmem_link::rdma::proto::Secret;
use memnode::{Endpoint, Export, Exports, KeptFile, Memory, Metrics, Node, RdmaDoor, TlsFiles};
use memnode::{draw_generation, serve_metrics, statistics};
use signal_hook::consts::{SIGINT, SIGTERM, SIGUSR1};
use signal_hook::iterator::Signals;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, ToSocketAddrs};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

/// The unit that exports are cut in. Units: bytes.
const PAGE_BYTES: u64 = 4096;

/// Lends this machine's memory over the NBD protocol, and over RDMA.
///
/// Sizes are powers of 1024: 8gb is 8 GiB. Without --nbd and --nbd-unix it listens on 127.0.0.1:10809. Plain nbd://
/// trusts its network; with --tls-ca only clients with a certificate get in. SIGUSR1 writes statistics to the log.
#[derive(Parser, Debug)]
#[command(name = "remora-memnode", version)]
struct Args {
    /// Lends this much under the empty name, which clients take by default
    #[arg(long, value_name = "SIZE", value_parser = parse_size, required_unless_present_any = ["export", "rdma_check"])]
    size: Option<u64>,
    /// Lends this much under a name of its own; may be given several times
    #[arg(long, value_name = "NAME=SIZE", value_parser = parse_export)]
    export: Vec<(String, u64)>,
    /// Listens on this TCP port
    #[arg(long, value_name = "ADDR:PORT", value_parser = parse_address)]
    nbd: Option<SocketAddr>,
    /// Listens on this Unix socket
    #[arg(long, value_name = "PATH")]
    nbd_unix: Option<PathBuf>,
    /// Keeps the memory of --size in a file or device, which outlives the node
    #[arg(long, value_name = "PATH", requires = "size", conflicts_with = "hugepages")]
    file: Option<PathBuf>,
    /// Takes all memory at once, from the pool of 2 MiB pages (vm.nr_hugepages)
    #[arg(long)]
    hugepages: bool,
    /// Speaks TLS: the node's certificate, in PEM
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    tls_cert: Option<PathBuf>,
    /// The key of the node's certificate, in PEM
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    tls_key: Option<PathBuf>,
    /// Demands client certificates that are signed by this authority, in PEM
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    tls_ca: Option<PathBuf>,
    /// Serves metrics for Prometheus at http://ADDR:PORT/metrics
    #[arg(long, value_name = "ADDR:PORT", value_parser = parse_address)]
    metrics: Option<SocketAddr>,
    /// Lends the same memory over RDMA too: listens for handshakes on this TCP port
    #[arg(long, value_name = "ADDR:PORT", value_parser = parse_address, requires = "secret_file", conflicts_with = "file")]
    rdma: Option<SocketAddr>,
    /// What clients over RDMA must know: a file with 16 bytes or more
    #[arg(long, value_name = "FILE", requires = "rdma")]
    secret_file: Option<PathBuf>,
    /// Tries RDMA on this machine, says in plain words what is missing, and exits
    #[arg(long)]
    rdma_check: bool,
    /// The device to use or try, as `rdma link` names it
    #[arg(long, value_name = "NAME")]
    rdma_device: Option<String>,
    /// The GID to use or try: its index, or the IP address that it is made of
    #[arg(long, value_name = "GID")]
    rdma_gid: Option<GidChoice>,
}

fn main() -> ExitCode {
    let args = Args::parse();
    env_logger::Builder::from_env(env_logger::Env::default().default_filter_or("info")).init();
    match run(args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("remora-memnode: {why}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: Args) -> Result<(), String> {
    if args.rdma_check {
        let choice = PortChoice { device: args.rdma_device, gid: args.rdma_gid };
        return check(&choice, |line| println!("{line}")).map_err(|error| error.to_string());
    }
    let mut signals =
        Signals::new([SIGTERM, SIGINT, SIGUSR1]).map_err(|error| format!("signals: {error}"))?;
    let tls = match (&args.tls_cert, &args.tls_key) {
        (Some(cert), Some(key)) => {
            let files = TlsFiles { cert: cert.clone(), key: key.clone(), ca: args.tls_ca.clone() };
            Some(files.load().map_err(|error| format!("TLS: {error}"))?)
        }
        _ => None,
    };
    let has_tls = tls.is_some();
    let (exports, kept) = lend(&args)?;
    let node = Node::new(exports, tls);
    open_rdma(&args, &node)?;
    open_doors(&args, &node, has_tls)?;
    for signal in signals.forever() {
        if signal != SIGUSR1 {
            break;
        }
        statistics(&node).iter().for_each(|line| log::info!("{line}"));
    }
    node.stop();
    if let Some(path) = &args.nbd_unix {
        // It is as well if somebody has removed it already.
        let _ = std::fs::remove_file(path);
    }
    match (kept, node.exports().get("")) {
        (Some(kept), Some(export)) => kept.close(&export.memory).map_err(|error| format!("--file: {error}")),
        _ => Ok(()),
    }
}

/// Takes all the memory, before anybody can ask for it.
fn lend(args: &Args) -> Result<(Exports, Option<KeptFile>), String> {
    let mut exports = Vec::new();
    let mut kept = None;
    let unnamed = args.size.iter().map(|&size| ("", size));
    let named = args.export.iter().map(|(name, size)| (name.as_str(), *size));
    for (name, size) in unnamed.chain(named) {
        if exports.iter().any(|export: &Export| export.name == name) {
            return Err(format!("--export: '{name}' is there twice"));
        }
        let lent = match &args.file {
            Some(path) if name.is_empty() => KeptFile::open(path, size)
                .map_err(|error| format!("--file {}: {error}", path.display()))
                .map(|(file, memory)| {
                    let generation = file.generation();
                    kept = Some(file);
                    (memory, generation)
                }),
            _ => take_memory(size, args.hugepages)
                .map_err(|error| format!("cannot take {size} bytes: {error}")),
        };
        let (memory, generation) = lent?;
        exports.push(Export::new(name, memory, generation));
    }
    Ok((Exports::new(exports), kept))
}

fn take_memory(size: u64, huge: bool) -> io::Result<(Memory, memnode::Generation)> {
    let memory = if huge { Memory::huge_pages(size) } else { Memory::ram(size) };
    Ok((memory?, draw_generation()?))
}

fn open_doors(args: &Args, node: &Arc<Node>, has_tls: bool) -> Result<(), String> {
    let default = SocketAddr::from((Ipv4Addr::LOCALHOST, memnode::DEFAULT_PORT));
    let tcp = args.nbd.or(args.nbd_unix.is_none().then_some(default)).map(Endpoint::Tcp);
    for door in tcp.into_iter().chain(args.nbd_unix.clone().map(Endpoint::Unix)) {
        let at = node.listen(&door).map_err(|error| format!("cannot listen at {door}: {error}"))?;
        match &at {
            Endpoint::Tcp(address) if !has_tls && !address.ip().is_loopback() => {
                log::warn!("{at} trusts its network: whoever reaches it reads and writes everything");
            }
            _ => {}
        }
        log::info!("serves {at}{}", if has_tls { " with TLS" } else { "" });
    }
    if let Some(address) = args.metrics {
        let at = serve_metrics(Metrics::new(Arc::clone(node)), address);
        log::info!(
            "metrics at http://{}/metrics",
            at.map_err(|error| format!("--metrics {address}: {error}"))?
        );
    }
    for export in node.exports().iter() {
        let (name, size) = (&export.name, export.memory.len());
        log::info!("export '{name}': {size} bytes, generation {}", export.generation);
    }
    Ok(())
}

/// Registers everything and lets links in that know the secret.
fn open_rdma(args: &Args, node: &Arc<Node>) -> Result<(), String> {
    let (Some(address), Some(file)) = (args.rdma, &args.secret_file) else { return Ok(()) };
    let secret = Secret::load(file).map_err(|error| error.to_string())?;
    let choice = PortChoice { device: args.rdma_device.clone(), gid: args.rdma_gid };
    let near = Some(address.ip()).filter(|ip| !ip.is_unspecified());
    let door = RdmaDoor::open(node.exports(), secret, &choice, near).map_err(|error| error.to_string())?;
    let words = door.describe();
    let at = node
        .listen_rdma(address, door)
        .map_err(|error| format!("cannot listen at rdma://{address}: {error}"))?;
    log::info!(
        "serves rdma://{at} on {words}; all memory is resident from now on, and no TRIM gives any back"
    );
    Ok(())
}

/// A size of at least one page, cut to whole pages.
fn parse_size(text: &str) -> Result<u64, String> {
    let bytes =
        parse_size::Config::new().with_binary().parse_size(text).map_err(|error| error.to_string())?;
    match bytes / PAGE_BYTES * PAGE_BYTES {
        0 => Err("smaller than a page of 4096 bytes".to_owned()),
        size if size > i64::MAX as u64 => Err("larger than any memory".to_owned()),
        size => Ok(size),
    }
}

fn parse_export(text: &str) -> Result<(String, u64), String> {
    let (name, size) = text.split_once('=').ok_or("it is NAME=SIZE")?;
    if name.is_empty() || name.len() > memnode::NAME_BYTES_MAX {
        return Err(format!("a name has 1 to {} bytes", memnode::NAME_BYTES_MAX));
    }
    Ok((name.to_owned(), parse_size(size)?))
}

fn parse_address(text: &str) -> Result<SocketAddr, String> {
    let mut addresses = text.to_socket_addrs().map_err(|error| error.to_string())?;
    addresses.next().ok_or_else(|| "no such address".to_owned())
}
