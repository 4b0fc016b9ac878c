//! Listening sockets, and accepting from them.
//!
//! Refuses to spin: when the process has no descriptor left, a listener rests until the next tick.

use crate::body::{Body, StartError};
use crate::watch::{Watched, watch};
use engine::{Config, Peer};
use log::warn;
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, SocketAddrAny, SocketAddrUnix, SocketFlags, SocketType, acceptfrom_with, bind,
    getsockname, listen, socket_with, sockopt,
};
use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::os::fd::{AsRawFd, OwnedFd};
use std::rc::Rc;
use std::time::Duration;
use tokio::io::Interest;

/// Connections accepted before others get their turn. Source: Redis' `MAX_ACCEPTS_PER_CALL`.
const ACCEPTS_MAX: usize = 1000;
/// Probes without an answer after which a silent connection is given up. Source: Redis' `anetKeepAlive`.
const KEEPALIVE_PROBES: u32 = 3;

/// A socket that others connect to.
pub struct Listener {
    socket: Watched,
    /// Of a Unix socket.
    path: Option<String>,
}

impl Listener {
    /// Where it lies in the file system, if it does.
    pub fn path(&self) -> Option<String> {
        self.path.clone()
    }
}

/// Opens every socket that the configuration asks for.
///
/// # Errors
/// The first that cannot be opened, and that was not marked with `-` as one that may be missing.
pub fn open_all(config: &Config) -> Result<Vec<Listener>, StartError> {
    let mut listeners = Vec::new();
    let addresses = if config.port == 0 { &[] } else { config.bind.as_slice() };
    for typed in addresses.iter().filter(|typed| !typed.is_empty()) {
        let (may_be_missing, host) = match typed.strip_prefix('-') {
            Some(host) => (true, host),
            None => (false, typed.as_str()),
        };
        match open_host(host, config) {
            Ok(opened) => listeners.extend(opened),
            Err(error) if may_be_missing && is_missing(&error) => {}
            Err(error) => {
                return Err(StartError(format!("cannot listen on {host}:{}: {error}", config.port)));
            }
        }
    }
    if !config.unixsocket.is_empty() {
        let path = &config.unixsocket;
        let listener = open_unix(path, config)
            .map_err(|error| StartError(format!("cannot listen on {path}: {error}")))?;
        listeners.push(listener);
    }
    if listeners.is_empty() {
        return Err(StartError("configured to listen nowhere: give a port or a unixsocket".to_owned()));
    }
    Ok(listeners)
}

/// Whether an address is not there, as opposed to taken. Source: Redis' `createSocketAcceptHandler`.
fn is_missing(error: &io::Error) -> bool {
    let missing = [
        Errno::ADDRNOTAVAIL,
        Errno::AFNOSUPPORT,
        Errno::PROTONOSUPPORT,
        Errno::OPNOTSUPP,
        Errno::PFNOSUPPORT,
    ];
    Errno::from_io_error(error).is_some_and(|errno| missing.contains(&errno))
}

fn open_host(host: &str, config: &Config) -> io::Result<Vec<Listener>> {
    let host = match host {
        "*" => "0.0.0.0",
        "::*" => "::",
        other => other,
    };
    (host, config.port).to_socket_addrs()?.map(|address| open_tcp(address, config)).collect()
}

fn open_tcp(address: SocketAddr, config: &Config) -> io::Result<Listener> {
    let family = if address.is_ipv6() { AddressFamily::INET6 } else { AddressFamily::INET };
    let socket = socket_with(family, SocketType::STREAM, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK, None)?;
    sockopt::set_socket_reuseaddr(&socket, true)?;
    if address.is_ipv6() {
        sockopt::set_ipv6_v6only(&socket, true)?;
    }
    bind(&socket, &address)?;
    listen(&socket, config.tcp_backlog as i32)?;
    Ok(Listener { socket: watch(socket, Interest::READABLE)?, path: None })
}

fn open_unix(path: &str, config: &Config) -> io::Result<Listener> {
    // What a former server left behind. Source: Redis' `initServer`.
    let _ = std::fs::remove_file(path);
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    bind(&socket, &SocketAddrUnix::new(path)?)?;
    listen(&socket, config.tcp_backlog as i32)?;
    Ok(Listener { socket: watch(socket, Interest::READABLE)?, path: Some(path.to_owned()) })
}

/// Accepts for ever.
pub async fn accept_all(listener: Listener, body: Rc<Body>) {
    let mut complained = false;
    while let Ok(mut ready) = listener.socket.readable().await {
        for _ in 0..ACCEPTS_MAX {
            match acceptfrom_with(&listener.socket, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK) {
                Ok((socket, address)) => {
                    complained = false;
                    let keepalive = body.engine.borrow().config().tcp_keepalive;
                    let peer = introduce(&socket, address, listener.path.as_deref(), keepalive);
                    body.welcome(socket, peer);
                }
                Err(Errno::AGAIN) => {
                    ready.clear_ready();
                    break;
                }
                Err(error @ (Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM)) => {
                    if !std::mem::replace(&mut complained, true) {
                        warn!("cannot accept connections for now: {error}");
                    }
                    body.ticked.notified().await;
                    break;
                }
                // One that was given up before it was accepted.
                Err(_) => {}
            }
        }
        body.wake_driver();
        tokio::task::yield_now().await;
    }
}

/// Sets a fresh connection up and says who it is.
fn introduce(socket: &OwnedFd, address: Option<SocketAddrAny>, path: Option<&str>, keepalive: u64) -> Peer {
    let descriptor = socket.as_raw_fd();
    let remote = address.and_then(|address| SocketAddr::try_from(address).ok());
    let (Some(remote), None) = (remote, path) else {
        let address = format!("{}:0", path.unwrap_or_default());
        return Peer { local_address: address.clone(), address, descriptor, loopback: true };
    };
    // A connection that is gone again cannot be set up; reading from it will tell.
    let _ = sockopt::set_tcp_nodelay(socket, true);
    if keepalive > 0 {
        let _ = keep_alive(socket, keepalive);
    }
    let local = getsockname(socket).ok().and_then(|address| SocketAddr::try_from(address).ok());
    Peer {
        address: remote.to_string(),
        local_address: local.map_or_else(String::new, |local| local.to_string()),
        descriptor,
        loopback: is_loopback(remote.ip()),
    }
}

fn is_loopback(ip: IpAddr) -> bool {
    ip.to_canonical().is_loopback()
}

/// Source: Redis' `anetKeepAlive`.
fn keep_alive(socket: &OwnedFd, interval_s: u64) -> rustix::io::Result<()> {
    sockopt::set_socket_keepalive(socket, true)?;
    sockopt::set_tcp_keepidle(socket, Duration::from_secs(interval_s))?;
    sockopt::set_tcp_keepintvl(socket, Duration::from_secs((interval_s / 3).max(1)))?;
    sockopt::set_tcp_keepcnt(socket, KEEPALIVE_PROBES)
}
