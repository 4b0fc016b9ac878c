//! The NBD URI: which export of which node, and how to talk to it.
//!
//! ```text
//!   nbd://host[:port]/[export]            nbds: the same over TLS
//!   nbd+unix:///[export]?socket=PATH      nbds+unix: the same over TLS
//!   ?tls-certificates=DIR  &tls-hostname=NAME  &connections=N  &timeout=1s  &size=8gb
//! ```
//!
//! Refuses what it does not know: a misspelled parameter is an error. Source: the NBD project's uri.md; of the parameters
//! `socket` and `tls-certificates` are from there, `tls-hostname` is libnbd's, the others are ours.

use super::proto::DEFAULT_PORT;
use crate::uri::{Scaled, Size, for_each_parameter, parse_duration, parse_size};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use std::fmt;
use std::path::PathBuf;

/// Connections to one node. One is for needed pages, one for the rest; more only help where one core of the
/// node is not enough for a connection.
const CONNECTIONS_MAX: u8 = 16;
/// What a page that is needed and the rest have each.
const CONNECTIONS: u8 = 2;
/// Deadline of a request. Units: nanoseconds.
pub(crate) const TIMEOUT_NS: u64 = 1_000_000_000;
/// Bounds of the deadline: what the server notices between two ticks, and what a client may be made to wait.
pub(crate) const TIMEOUT_NS_MIN: u64 = 10_000_000;

/// What stays as it is in a path: the characters that mean nothing in a URI.
const PATH: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~').remove(b'/');

/// Where a node listens.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Place {
    /// A host and port.
    Tcp {
        /// Name or address; an IPv6 address without brackets.
        host: String,
        /// The port.
        port: u16,
    },
    /// A Unix socket.
    Unix(PathBuf),
}

/// An export of a node.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NbdUri {
    /// Where the node is.
    pub place: Place,
    /// The export's name; empty means the default one.
    pub export: String,
    /// Whether to speak TLS.
    pub tls: bool,
    /// Folder with `ca-cert.pem`, and `client-cert.pem` and `client-key.pem` if the node demands them.
    pub tls_certificates: Option<PathBuf>,
    /// Whom the node's certificate must name, if not the host.
    pub tls_hostname: Option<String>,
    /// Connections, if the node allows several.
    pub connections: u8,
    /// How long a request may take. Units: nanoseconds.
    pub timeout_ns: u64,
    /// How much of the export to use; all of it unless given. Units: bytes.
    pub size_bytes: Option<u64>,
}

impl NbdUri {
    /// The plain URI of a Unix socket, for tests and examples.
    pub fn unix(socket: impl Into<PathBuf>, export: &str) -> NbdUri {
        NbdUri {
            place: Place::Unix(socket.into()),
            export: export.into(),
            tls: false,
            tls_certificates: None,
            tls_hostname: None,
            connections: CONNECTIONS,
            timeout_ns: TIMEOUT_NS,
            size_bytes: None,
        }
    }

    /// Whether a scheme is one of NBD's.
    pub(crate) fn is_scheme(scheme: &str) -> bool {
        matches!(scheme, "nbd" | "nbds" | "nbd+unix" | "nbds+unix")
    }

    /// Parses what follows the scheme.
    ///
    /// # Errors
    /// Why it is no such URI.
    pub(crate) fn parse(scheme: &str, body: &str, query: &str) -> Result<NbdUri, String> {
        let is_unix = scheme.ends_with("+unix");
        let rest = body.strip_prefix("//").ok_or_else(|| format!("'{scheme}://' is wanted"))?;
        let (authority, export) = rest.split_once('/').unwrap_or((rest, ""));
        let mut uri = NbdUri { tls: scheme.starts_with("nbds"), ..NbdUri::unix("", &decode(export)?) };
        for_each_parameter(query, |name, value| {
            match name {
                "socket" if is_unix => uri.place = Place::Unix(decode(value)?.into()),
                "tls-certificates" if uri.tls => uri.tls_certificates = Some(decode(value)?.into()),
                "tls-hostname" if uri.tls => uri.tls_hostname = Some(decode(value)?),
                "connections" => {
                    let count = value.parse().ok().filter(|count| (1..=CONNECTIONS_MAX).contains(count));
                    uri.connections = count.ok_or(format!("'{value}' is not 1 to {CONNECTIONS_MAX}"))?;
                }
                "timeout" => match parse_duration(value, "timeout such as 1s")? {
                    timeout_ns if timeout_ns < TIMEOUT_NS_MIN => return Err("timeout is below 10ms".into()),
                    timeout_ns => uri.timeout_ns = timeout_ns,
                },
                "size" => uri.size_bytes = Some(parse_size(value)?),
                _ => return Err(format!("{scheme}: has no parameter '{name}'")),
            }
            Ok(())
        })?;
        match (&uri.place, is_unix) {
            (Place::Unix(path), true) if path.as_os_str().is_empty() => {
                Err(format!("a socket is wanted, as in {scheme}:///?socket=PATH"))
            }
            (_, true) if !authority.is_empty() => Err(format!("a Unix socket has no host '{authority}'")),
            (_, true) => Ok(uri),
            _ => {
                let (host, port) = parse_place(authority, DEFAULT_PORT)?;
                Ok(NbdUri { place: Place::Tcp { host, port }, ..uri })
            }
        }
    }

    /// The host, as a certificate names it.
    pub(crate) fn hostname(&self) -> &str {
        match (&self.tls_hostname, &self.place) {
            (Some(name), _) => name,
            (None, Place::Tcp { host, .. }) => host,
            (None, Place::Unix(_)) => "localhost",
        }
    }
}

/// `host`, `host:port`, `[::1]` or `[::1]:port`.
pub(crate) fn parse_place(authority: &str, default_port: u16) -> Result<(String, u16), String> {
    let bad = || format!("'{authority}' is no host:port");
    let (host, port) = match authority.strip_prefix('[') {
        Some(rest) => rest.split_once(']').ok_or_else(bad)?,
        None => authority.split_at(authority.find(':').unwrap_or(authority.len())),
    };
    let port = match port {
        "" => default_port,
        _ => port.strip_prefix(':').and_then(|digits| digits.parse().ok()).ok_or_else(bad)?,
    };
    let is_host = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_' | ':' | '%');
    if host.is_empty() || !host.chars().all(is_host) {
        return Err(bad());
    }
    Ok((host.into(), port))
}

pub(crate) fn decode(text: &str) -> Result<String, String> {
    let decoded = percent_decode_str(text).decode_utf8().map_err(|_| format!("'{text}' is not UTF-8"))?;
    Ok(decoded.into_owned())
}

pub(crate) fn encode(text: &str) -> impl fmt::Display + '_ {
    utf8_percent_encode(text, PATH)
}

impl fmt::Display for NbdUri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut parameters: Vec<String> = Vec::new();
        f.write_str(if self.tls { "nbds" } else { "nbd" })?;
        match &self.place {
            Place::Tcp { host, port } if host.contains(':') => write!(f, "://[{host}]:{port}")?,
            Place::Tcp { host, port } => write!(f, "://{host}:{port}")?,
            Place::Unix(path) => {
                f.write_str("+unix://")?;
                parameters.push(format!("socket={}", encode(&path.to_string_lossy())));
            }
        }
        write!(f, "/{}", encode(&self.export))?;
        if let Some(dir) = &self.tls_certificates {
            parameters.push(format!("tls-certificates={}", encode(&dir.to_string_lossy())));
        }
        if let Some(name) = &self.tls_hostname {
            parameters.push(format!("tls-hostname={}", encode(name)));
        }
        if self.connections != CONNECTIONS {
            parameters.push(format!("connections={}", self.connections));
        }
        if self.timeout_ns != TIMEOUT_NS {
            parameters.push(format!("timeout={}", Scaled(self.timeout_ns, &["ns", "us", "ms", "s"])));
        }
        if let Some(bytes) = self.size_bytes {
            parameters.push(format!("size={}", Size(bytes)));
        }
        if parameters.is_empty() { Ok(()) } else { write!(f, "?{}", parameters.join("&")) }
    }
}

#[cfg(test)]
mod tests {
    use crate::FarUri;

    #[test]
    fn an_nbd_uri_comes_out_in_its_canonical_form() {
        for (typed, wanted) in [
            ("nbd://node", "nbd://node:10809/"),
            ("nbd://node:1/far", "nbd://node:1/far"),
            ("nbd://[::1]/a%20b/c", "nbd://[::1]:10809/a%20b/c"),
            ("nbds://node/?tls-certificates=/etc/pki", "nbds://node:10809/?tls-certificates=/etc/pki"),
            ("nbd+unix:///far?socket=/run/x%3F", "nbd+unix:///far?socket=/run/x%3F"),
            ("nbds+unix:///?socket=/x&tls-hostname=n", "nbds+unix:///?socket=/x&tls-hostname=n"),
            ("nbd://n/?connections=2&timeout=1s", "nbd://n:10809/"),
            (
                "nbd://n/?timeout=300ms&connections=4&size=1gb",
                "nbd://n:10809/?connections=4&timeout=300ms&size=1gb",
            ),
        ] {
            let parsed: FarUri = typed.parse().expect("it is a URI");
            assert_eq!(parsed.to_string(), wanted);
            assert_eq!(wanted.parse::<FarUri>(), Ok(parsed));
        }
    }

    #[test]
    fn what_is_no_nbd_uri_gets_one_line() {
        for (typed, part) in [
            ("nbd:node", "'nbd://' is wanted"),
            ("nbd://", "is no host:port"),
            ("nbd://node:x/", "is no host:port"),
            ("nbd://[::1/", "is no host:port"),
            ("nbd+unix:///far", "a socket is wanted"),
            ("nbd+unix://host/?socket=/x", "has no host 'host'"),
            ("nbd://node/?socket=/x", "has no parameter 'socket'"),
            ("nbd://node/?tls-certificates=/x", "has no parameter 'tls-certificates'"),
            ("nbd://node/?connections=0", "is not 1 to 16"),
            ("nbd://node/?timeout=1ms", "below 10ms"),
            ("nbd://node/%ff", "is not UTF-8"),
        ] {
            let line = typed.parse::<FarUri>().expect_err("it is no URI").to_string();
            assert!(line.contains(part) && line.contains(typed), "{line}");
        }
    }
}
