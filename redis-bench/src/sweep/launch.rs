//! Starts a server for one point and stops it, by its own pid, whatever happens in between.
//!
//! Refuses to go on with a server that does not answer; what it printed is then part of the error.

use std::fs::{self, File};
use std::io;
use std::net::TcpListener;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};

use super::cgroup::{Cgroup, Hierarchy};
use super::config::{Cap, System};
use super::swap::{Swap, SwapKind};
use crate::drive::{DriveError, Watch};
use crate::target::{Target, ask};

/// How long a server may take until it answers.
const START_MAX: Duration = Duration::from_secs(30);
/// How long it may take to go after SIGTERM; a swapped one has pages to give back.
const STOP_MAX: Duration = Duration::from_secs(20);
/// How long after a lost connection the end of its process may show.
const END_SEEN_WITHIN: Duration = Duration::from_millis(500);
/// How often it is looked at meanwhile.
const LOOK_PAUSE: Duration = Duration::from_millis(20);
/// How much of what it printed goes into an error.
const PRINTED_BYTES_MAX: usize = 600;

/// What is put into a command's braces.
#[derive(Clone, Debug)]
pub struct Room {
    /// Local memory.
    pub local_bytes: u64,
    /// Far memory, or swap.
    pub far_bytes: u64,
    /// A directory for this server alone, empty.
    pub dir: PathBuf,
    /// The workload's name.
    pub workload: String,
    /// False where the server may have what it wants, although its kind of system is capped.
    pub capped: bool,
}

/// A server that runs.
///
/// Dropped in the order of its fields: the process first, then what it ran in.
#[derive(Debug)]
pub struct Server {
    process: Process,
    _nodes: Vec<Process>,
    _disks: Vec<Disk>,
    cgroup: Option<Cgroup>,
    _swap: Option<Swap>,
    _dir: Scratch,
    /// Where it listens.
    pub target: Target,
}

/// A child that does not outlive this.
#[derive(Debug)]
struct Process {
    child: Child,
}

/// A file that does not outlive this.
#[derive(Debug)]
struct Disk(PathBuf);

impl Disk {
    /// Makes an empty one, in the place of what an earlier sweep may have left there.
    fn make(path: PathBuf, bytes: u64) -> Result<Disk> {
        let file = File::create(&path).with_context(|| format!("cannot make {}", path.display()))?;
        let disk = Disk(path);
        file.set_len(bytes).with_context(|| format!("cannot give {} its size", disk.0.display()))?;
        Ok(disk)
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_file(&self.0) {
            eprintln!("remora-bench: cannot remove {}: {error}", self.0.display());
        }
    }
}

/// A directory that does not outlive this.
#[derive(Debug)]
struct Scratch(PathBuf);

impl Drop for Scratch {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.0) {
            eprintln!("remora-bench: cannot remove {}: {error}", self.0.display());
        }
    }
}

impl Process {
    fn stop(&mut self) -> io::Result<ExitStatus> {
        if let Some(status) = self.child.try_wait()? {
            return Ok(status);
        }
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw).expect("a child has a pid");
        kill_process(pid, Signal::TERM)?;
        let until = Instant::now() + STOP_MAX;
        while Instant::now() < until {
            if let Some(status) = self.child.try_wait()? {
                return Ok(status);
            }
            sleep(LOOK_PAUSE);
        }
        self.child.kill()?;
        self.child.wait()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if let Err(error) = self.stop() {
            eprintln!("remora-bench: cannot stop process {}: {error}", self.child.id());
        }
    }
}

/// The words of a command, everything put in.
fn arguments(words: &[String], port: u16, room: &Room) -> Result<Vec<String>> {
    let bench = std::env::current_exe().context("this program has no path")?;
    let put_in = |argument: &String| {
        argument
            .replace("{port}", &port.to_string())
            .replace("{local}", &room.local_bytes.to_string())
            .replace("{far}", &room.far_bytes.to_string())
            .replace("{workload}", &room.workload)
            .replace("{dir}", &room.dir.to_string_lossy())
            .replace("{bench}", &bench.to_string_lossy())
    };
    Ok(words.iter().map(put_in).collect())
}

fn free_port() -> Result<u16> {
    let listener = TcpListener::bind("127.0.0.1:0").context("no free port")?;
    Ok(listener.local_addr()?.port())
}

impl Server {
    /// Starts `system` in `room` and waits until it answers.
    ///
    /// # Errors
    /// If it cannot be started, does not answer, or the user wants to stop.
    pub fn start(system: &System, room: &Room, watch: &Watch) -> Result<Self> {
        fs::create_dir_all(&room.dir).with_context(|| format!("cannot make {}", room.dir.display()))?;
        let scratch = Scratch(room.dir.clone());
        let capped = system.cap == Cap::Cgroup && room.capped;
        let swap = match &system.swap {
            Some(kind) if capped => Some(Swap::on(&SwapKind::parse(kind)?, room.far_bytes)?),
            _ => None,
        };
        let cgroup = if capped {
            static CGROUPS: AtomicU32 = AtomicU32::new(0);
            let number = CGROUPS.fetch_add(1, Ordering::Relaxed);
            let name = format!("remora-bench-{}-{number}", std::process::id());
            Some(Hierarchy::find()?.create(&name, room.local_bytes)?)
        } else {
            None
        };
        let disks = arguments(&system.disks, 0, room)?;
        let disks = disks.into_iter().map(|path| Disk::make(path.into(), room.far_bytes));
        let disks = disks.collect::<Result<Vec<_>>>()?;
        let nodes = start_nodes(system, room)?;
        let port = free_port()?;
        let target = match &system.url {
            Some(url) => url
                .parse::<Target>()
                .map_err(|error| anyhow::anyhow!(error))?
                .with_vmstat(system.vmstat.clone()),
            None => Target::local(port),
        };
        let arguments = arguments(&system.command, port, room)?;
        let printed = room.dir.join("printed");
        let child = spawn(&arguments, cgroup.as_ref(), &printed).with_context(|| {
            format!("cannot start {}", system.command.first().map_or("nothing", String::as_str))
        })?;
        let mut server = Server {
            process: Process { child },
            _nodes: nodes,
            _disks: disks,
            cgroup,
            _swap: swap,
            _dir: scratch,
            target,
        };
        let start_max = system.start_seconds.map_or(START_MAX, Duration::from_secs);
        server.wait_until_it_answers(start_max, &printed, watch)?;
        Ok(server)
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.process.child.id()
    }

    /// What its cgroup holds in memory, if it has one.
    pub fn cgroup_bytes(&self) -> Option<u64> {
        self.cgroup.as_ref()?.used_bytes()
    }

    /// How it ended, if it has.
    fn ended(&mut self) -> Option<ExitStatus> {
        self.process.child.try_wait().ok().flatten()
    }

    /// How it ended, if it did with the connection that was just lost: the kernel tells a little later.
    pub fn ended_soon(&mut self) -> Option<String> {
        let until = Instant::now() + END_SEEN_WITHIN;
        while self.ended().is_none() && Instant::now() < until {
            sleep(LOOK_PAUSE);
        }
        let status = self.ended()?;
        let starved = self.cgroup.as_ref().is_some_and(Cgroup::starved);
        Some(format!(
            "the server ended ({status}{})",
            if starved { "; its share of memory is too small for it" } else { "" }
        ))
    }

    fn wait_until_it_answers(&mut self, start_max: Duration, printed: &Path, watch: &Watch) -> Result<()> {
        let until = Instant::now() + start_max;
        while Instant::now() < until {
            if watch.stop.load(Ordering::Relaxed) {
                return Err(DriveError::Interrupted.into());
            }
            if let Some(status) = self.ended() {
                bail!("it ended at once ({status}): {}", tail(printed));
            }
            if self.target.connect().is_ok_and(|mut stream| ask(&mut stream, &["PING"]).is_ok()) {
                return Ok(());
            }
            sleep(LOOK_PAUSE);
        }
        bail!("it did not answer within {} s: {}", start_max.as_secs(), tail(printed))
    }
}

/// Starts the memory nodes of a system, outside its cgroup, and waits until each listens.
fn start_nodes(system: &System, room: &Room) -> Result<Vec<Process>> {
    let mut nodes = Vec::new();
    for (number, words) in system.nodes.iter().enumerate() {
        let (socket, printed) =
            (room.dir.join(format!("node{number}")), room.dir.join(format!("log{number}")));
        let words: Vec<String> = arguments(words, 0, room)?
            .iter()
            .map(|word| word.replace("{socket}", &socket.to_string_lossy()))
            .collect();
        let child = spawn(&words, None, &printed).with_context(|| format!("cannot start {}", words[0]))?;
        let mut node = Process { child };
        let until = Instant::now() + START_MAX;
        while UnixStream::connect(&socket).is_err() {
            let ended = node.child.try_wait().ok().flatten();
            if ended.is_some() || Instant::now() > until {
                bail!("{} does not listen at {}: {}", words[0], socket.display(), tail(&printed));
            }
            sleep(LOOK_PAUSE);
        }
        nodes.push(node);
    }
    Ok(nodes)
}

/// The last of what a server printed, on one line.
fn tail(printed: &Path) -> String {
    let text = fs::read(printed).unwrap_or_default();
    let from = text.len().saturating_sub(PRINTED_BYTES_MAX);
    let text = String::from_utf8_lossy(&text[from..]).trim().replace('\n', " | ");
    if text.is_empty() { "it printed nothing".to_owned() } else { text }
}

fn spawn(arguments: &[String], cgroup: Option<&Cgroup>, printed: &Path) -> io::Result<Child> {
    let (program, rest) = arguments.split_first().ok_or(io::ErrorKind::InvalidInput)?;
    let mut command = match cgroup {
        // The shell joins the cgroup and becomes the server, so that not one of its pages is outside.
        Some(cgroup) => {
            let mut shell = Command::new("/bin/sh");
            shell.args(["-c", "echo $$ > \"$0\" && exec \"$@\""]).arg(cgroup.members()).arg(program);
            shell
        }
        None => Command::new(program),
    };
    let out = File::create(printed)?;
    // A group of its own: a Ctrl-C at the terminal reaches the sweep, which then stops the server.
    command.args(rest).process_group(0).stdin(Stdio::null()).stderr(out.try_clone()?).stdout(out).spawn()
}
