//! The URI of a memory node over RDMA: which export of which node, and how to reach it.
//!
//! ```text
//!   rdma://host[:port]/[export]?secret-file=PATH  &device=NAME  &gid=INDEX|ADDRESS  &timeout=1s  &size=8gb
//! ```
//!
//! Refuses to do without a secret: a node lends its memory to nobody who knows none.

use super::port::PortChoice;
use super::proto::{DEFAULT_PORT, NAME_BYTES_MAX};
use crate::nbd::uri::{TIMEOUT_NS, TIMEOUT_NS_MIN, decode, encode, parse_place};
use crate::uri::{Scaled, Size, for_each_parameter, parse_duration, parse_size};
use std::fmt;
use std::path::PathBuf;

/// An export of a node, over RDMA.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RdmaUri {
    /// Name or address; an IPv6 address without brackets.
    pub host: String,
    /// The TCP port of the handshake.
    pub port: u16,
    /// The export's name; empty means the default one.
    pub export: String,
    /// The file with what both sides know.
    pub secret_file: PathBuf,
    /// Which device and GID of this machine to use.
    pub choice: PortChoice,
    /// How long a page may take. Units: nanoseconds.
    pub timeout_ns: u64,
    /// How much of the export to use; all of it unless given. Units: bytes.
    pub size_bytes: Option<u64>,
}

impl RdmaUri {
    /// Parses what follows the scheme.
    ///
    /// # Errors
    /// Why it is no such URI.
    pub(crate) fn parse(body: &str, query: &str) -> Result<RdmaUri, String> {
        let rest = body.strip_prefix("//").ok_or("'rdma://' is wanted")?;
        let (authority, export) = rest.split_once('/').unwrap_or((rest, ""));
        let (host, port) = parse_place(authority, DEFAULT_PORT)?;
        let mut uri = RdmaUri {
            host,
            port,
            export: decode(export)?,
            secret_file: PathBuf::new(),
            choice: PortChoice::default(),
            timeout_ns: TIMEOUT_NS,
            size_bytes: None,
        };
        for_each_parameter(query, |name, value| {
            match name {
                "secret-file" => uri.secret_file = decode(value)?.into(),
                "device" => uri.choice.device = Some(decode(value)?),
                "gid" => uri.choice.gid = Some(value.parse()?),
                "timeout" => match parse_duration(value, "timeout such as 1s")? {
                    timeout_ns if timeout_ns < TIMEOUT_NS_MIN => return Err("timeout is below 10ms".into()),
                    timeout_ns => uri.timeout_ns = timeout_ns,
                },
                "size" => uri.size_bytes = Some(parse_size(value)?),
                _ => return Err(format!("rdma: has no parameter '{name}'")),
            }
            Ok(())
        })?;
        if uri.export.len() > NAME_BYTES_MAX {
            return Err(format!("an export's name has at most {NAME_BYTES_MAX} bytes"));
        }
        if uri.secret_file.as_os_str().is_empty() {
            return Err("a secret is wanted, as in rdma://host/?secret-file=/etc/remora/secret".into());
        }
        Ok(uri)
    }
}

impl fmt::Display for RdmaUri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.host.contains(':') {
            true => write!(f, "rdma://[{}]:{}", self.host, self.port)?,
            false => write!(f, "rdma://{}:{}", self.host, self.port)?,
        }
        let secret = self.secret_file.to_string_lossy();
        write!(f, "/{}?secret-file={}", encode(&self.export), encode(&secret))?;
        if let Some(device) = &self.choice.device {
            write!(f, "&device={}", encode(device))?;
        }
        if let Some(gid) = &self.choice.gid {
            write!(f, "&gid={gid}")?;
        }
        if self.timeout_ns != TIMEOUT_NS {
            write!(f, "&timeout={}", Scaled(self.timeout_ns, &["ns", "us", "ms", "s"]))?;
        }
        self.size_bytes.map_or(Ok(()), |bytes| write!(f, "&size={}", Size(bytes)))
    }
}

#[cfg(test)]
mod tests {
    use crate::FarUri;

    #[test]
    fn an_rdma_uri_comes_out_in_its_canonical_form() {
        for (typed, wanted) in [
            ("rdma://node?secret-file=/s", "rdma://node:10810/?secret-file=/s"),
            ("rdma://[::1]:7/a%20b?secret-file=/s&timeout=1s", "rdma://[::1]:7/a%20b?secret-file=/s"),
            (
                "rdma://n/?size=1gb&timeout=2s&gid=10.0.0.1&device=mlx5_0&secret-file=/s",
                "rdma://n:10810/?secret-file=/s&device=mlx5_0&gid=10.0.0.1&timeout=2s&size=1gb",
            ),
        ] {
            let parsed: FarUri = typed.parse().expect("it is a URI");
            assert_eq!(parsed.to_string(), wanted);
            assert_eq!(wanted.parse::<FarUri>(), Ok(parsed));
        }
    }

    #[test]
    fn what_is_no_rdma_uri_gets_one_line() {
        for (typed, part) in [
            ("rdma:node", "'rdma://' is wanted"),
            ("rdma://node/", "a secret is wanted"),
            ("rdma://:1/?secret-file=/s", "is no host:port"),
            ("rdma://node/?secret-file=/s&gid=x", "neither a GID's index nor an IP address"),
            ("rdma://node/?secret-file=/s&timeout=1ms", "below 10ms"),
            ("rdma://node/?secret-file=/s&connections=2", "rdma: has no parameter 'connections'"),
        ] {
            let line = typed.parse::<FarUri>().expect_err("it is no URI").to_string();
            assert!(line.contains(part) && line.contains(typed), "{line}");
        }
    }
}
