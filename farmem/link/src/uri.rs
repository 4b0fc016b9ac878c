//! Far-memory URIs as a user types them.
//!
//! ```text
//!   mem:8gb[?latency=2.6us&bandwidth=100gbit]    dax:/path[?size=8gb]    file:/path[?size=8gb]
//!   nbd://host[:port]/[export], nbds://, nbd+unix:///[export]?socket=PATH    (see nbd/uri.rs)
//!   rdma://host[:port]/[export]?secret-file=PATH                              (see rdma/uri.rs)
//! ```
//!
//! Refuses to guess: an unknown scheme, parameter or unit is one clear line. The paths of
//! dax: and file: are taken literally up to the last `?`, without percent-decoding.

use crate::nbd::NbdUri;
use crate::rdma::RdmaUri;
use farmem::{PAGE_SIZE, Wire};
use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

/// Far memory can have as many pages as a `PageNo` can name: 2^32 - 1, 16 TiB less one page.
const PAGES_MAX: u64 = u32::MAX as u64;

/// The parsed name of a far memory. `Display` gives its canonical form.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum FarUri {
    /// Memory of this process.
    Mem {
        /// Size. Units: bytes.
        size_bytes: u64,
        /// The wire that it pretends to be behind.
        wire: Wire,
    },
    /// A byte-addressable file or device.
    Dax {
        /// Where it is.
        path: PathBuf,
        /// Size if given. Units: bytes.
        size_bytes: Option<u64>,
    },
    /// A file or block device.
    File {
        /// Where it is.
        path: PathBuf,
        /// Size if given. Units: bytes.
        size_bytes: Option<u64>,
    },
    /// A memory node.
    Nbd(NbdUri),
    /// A memory node over RDMA.
    Rdma(RdmaUri),
}

/// The client is wrong: this is not a far-memory URI. One line, naming the URI.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct UriError(String);

impl fmt::Display for UriError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for UriError {}

impl FromStr for FarUri {
    type Err = UriError;

    fn from_str(text: &str) -> Result<FarUri, UriError> {
        parse(text).map_err(|why| UriError(format!("far memory '{}': {why}", text.escape_debug())))
    }
}

fn parse(text: &str) -> Result<FarUri, String> {
    let (scheme, rest) = text.split_once(':').ok_or("a URI such as mem:8gb is wanted")?;
    let (body, query) = match rest.rsplit_once('?') {
        Some((body, query)) => (body, query),
        None => (rest, ""),
    };
    match scheme {
        "mem" => {
            let size_bytes = parse_size(body)?;
            let mut wire = Wire::default();
            for_each_parameter(query, |name, value| match name {
                "latency" => parse_duration(value, "latency such as 2.6us").map(|ns| wire.latency_ns = ns),
                "bandwidth" => parse_bandwidth(value).map(|bits| wire.bandwidth_bits = bits),
                _ => Err(format!("mem: has no parameter '{name}', only latency and bandwidth")),
            })?;
            Ok(FarUri::Mem { size_bytes, wire })
        }
        "dax" => parse_path(scheme, body, query).map(|(path, size_bytes)| FarUri::Dax { path, size_bytes }),
        "file" => parse_path(scheme, body, query).map(|(path, size_bytes)| FarUri::File { path, size_bytes }),
        "" => Err("a URI such as mem:8gb is wanted".into()),
        _ if NbdUri::is_scheme(scheme) => NbdUri::parse(scheme, body, query).map(FarUri::Nbd),
        "rdma" => RdmaUri::parse(body, query).map(FarUri::Rdma),
        _ => Err(format!("this build has no '{scheme}:', only mem:, dax:, file:, nbd: and rdma:")),
    }
}

fn parse_path(scheme: &str, path: &str, query: &str) -> Result<(PathBuf, Option<u64>), String> {
    if !path.starts_with('/') {
        return Err(format!("an absolute path is wanted, as in {scheme}:/path?size=8gb"));
    }
    let mut size_bytes = None;
    for_each_parameter(query, |name, value| match name {
        "size" => parse_size(value).map(|bytes| size_bytes = Some(bytes)),
        _ => Err(format!("{scheme}: has no parameter '{name}', only size")),
    })?;
    Ok((PathBuf::from(path), size_bytes))
}

pub(crate) fn for_each_parameter(
    query: &str,
    mut each: impl FnMut(&str, &str) -> Result<(), String>,
) -> Result<(), String> {
    query.split('&').filter(|part| !part.is_empty()).try_for_each(|part| {
        let (name, value) = part.split_once('=').ok_or_else(|| format!("parameter '{part}' has no value"))?;
        each(name, value)
    })
}

/// Splits `2.6us` into 2.6 and `us`.
fn parse_number<'t>(text: &'t str, what: &str) -> Result<(f64, String), String> {
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (digits, unit): (&'t str, &'t str) = text.split_at(end);
    let number = digits.parse::<f64>().map_err(|_| format!("'{text}' is no {what}"))?;
    Ok((number, unit.to_ascii_lowercase()))
}

/// A size as in redis.conf: `1k` is 1000 bytes, `1kb` is 1024.
pub(crate) fn parse_size(text: &str) -> Result<u64, String> {
    let bad = || format!("'{text}' is no size such as 8gb");
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (digits, unit) = text.split_at(end);
    let unit_bytes: u64 = match unit.to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "k" => 1000,
        "kb" => 1 << 10,
        "m" => 1_000_000,
        "mb" => 1 << 20,
        "g" => 1_000_000_000,
        "gb" => 1 << 30,
        "t" => 1_000_000_000_000,
        "tb" => 1 << 40,
        _ => return Err(bad()),
    };
    let bytes = digits.parse::<u64>().ok().and_then(|n| n.checked_mul(unit_bytes)).ok_or_else(bad)?;
    match bytes / PAGE_SIZE as u64 {
        0 => Err(format!("'{text}' is smaller than a page of {PAGE_SIZE} bytes")),
        pages if pages > PAGES_MAX => {
            Err(format!("'{text}' is more than can be addressed (just under 16tb)"))
        }
        _ => Ok(bytes),
    }
}

/// Longest time that makes sense: an hour.
const DURATION_NS_MAX: f64 = 3.6e12;

/// A time such as `what` says. Units: nanoseconds.
pub(crate) fn parse_duration(text: &str, what: &str) -> Result<u64, String> {
    let (number, unit) = parse_number(text, what)?;
    let unit_ns = match unit.as_str() {
        "ns" => 1.0,
        "us" => 1e3,
        "ms" => 1e6,
        "s" => 1e9,
        _ => return Err(format!("'{text}' is no {what} (ns, us, ms or s)")),
    };
    let ns = (number * unit_ns).round();
    if ns > DURATION_NS_MAX {
        return Err(format!("'{text}' is more than an hour"));
    }
    Ok(ns as u64)
}

fn parse_bandwidth(text: &str) -> Result<u64, String> {
    let (number, unit) = parse_number(text, "bandwidth such as 100gbit")?;
    let unit_bits = match unit.as_str() {
        "kbit" => 1e3,
        "mbit" => 1e6,
        "gbit" => 1e9,
        "tbit" => 1e12,
        _ => return Err(format!("'{text}' is no bandwidth such as 100gbit (kbit, mbit, gbit or tbit)")),
    };
    let bits = (number * unit_bits).round();
    // From a kilobit a second (a page in half a minute) to a petabit.
    if !(1e3..=1e15).contains(&bits) {
        return Err(format!("bandwidth '{text}' is out of range (1kbit to 1000tbit)"));
    }
    Ok(bits as u64)
}

impl fmt::Display for FarUri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            FarUri::Mem { size_bytes, wire } => {
                write!(f, "mem:{}", Size(*size_bytes))?;
                let mut separator = '?';
                if wire.latency_ns > 0 {
                    write!(f, "{separator}latency={}", Scaled(wire.latency_ns, &["ns", "us", "ms", "s"]))?;
                    separator = '&';
                }
                if wire.bandwidth_bits > 0 {
                    let mbit = Scaled(wire.bandwidth_bits, &["bit", "kbit", "mbit", "gbit", "tbit"]);
                    write!(f, "{separator}bandwidth={mbit}")?;
                }
                Ok(())
            }
            FarUri::Dax { path, size_bytes } => write_path(f, "dax", path, *size_bytes),
            FarUri::File { path, size_bytes } => write_path(f, "file", path, *size_bytes),
            FarUri::Nbd(uri) => uri.fmt(f),
            FarUri::Rdma(uri) => uri.fmt(f),
        }
    }
}

fn write_path(
    f: &mut fmt::Formatter<'_>,
    scheme: &str,
    path: &std::path::Path,
    size: Option<u64>,
) -> fmt::Result {
    write!(f, "{scheme}:{}", path.display())?;
    size.map_or(Ok(()), |bytes| write!(f, "?size={}", Size(bytes)))
}

/// A size in the largest unit that divides it.
pub(crate) struct Size(pub u64);

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let units = ["", "kb", "mb", "gb", "tb"];
        let power = (self.0.trailing_zeros() as usize / 10).min(units.len() - 1);
        write!(f, "{}{}", self.0 >> (10 * power), units[power])
    }
}

/// A quantity in the largest unit, each 1000 times the one before, of which there is at least one.
pub(crate) struct Scaled(pub u64, pub &'static [&'static str]);

impl fmt::Display for Scaled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let power = (self.0.max(1).ilog10() as usize / 3).min(self.1.len() - 1);
        let unit = 1000_u64.pow(power as u32);
        write!(f, "{}", self.0 / unit)?;
        if !self.0.is_multiple_of(unit) {
            let decimals = format!("{:0width$}", self.0 % unit, width = 3 * power);
            write!(f, ".{}", decimals.trim_end_matches('0'))?;
        }
        f.write_str(self.1[power])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn canonical(text: &str) -> String {
        text.parse::<FarUri>().expect("it is a URI").to_string()
    }

    fn error(text: &str) -> String {
        text.parse::<FarUri>().expect_err("it is no URI").to_string()
    }

    #[test]
    fn a_uri_comes_out_in_its_canonical_form_and_that_parses_to_the_same() {
        for (typed, wanted) in [
            ("mem:8gb", "mem:8gb"),
            ("mem:8GB?", "mem:8gb"),
            ("mem:1k000", ""),
            ("mem:4096", "mem:4kb"),
            ("mem:5000", "mem:5000"),
            ("mem:8g", "mem:7812500kb"),
            ("mem:2048gb", "mem:2tb"),
            ("mem:8gb?latency=2.6us&bandwidth=100gbit", "mem:8gb?latency=2.6us&bandwidth=100gbit"),
            ("mem:8gb?bandwidth=2500mbit", "mem:8gb?bandwidth=2.5gbit"),
            ("mem:8gb?latency=5ms", "mem:8gb?latency=5ms"),
            ("mem:8gb?latency=0.5ns", "mem:8gb?latency=1ns"),
            ("mem:8gb?latency=1.005s", "mem:8gb?latency=1.005s"),
            ("dax:/dev/dax0.0", "dax:/dev/dax0.0"),
            ("file:/a b?c?size=1mb", "file:/a b?c?size=1mb"),
        ] {
            if wanted.is_empty() {
                assert!(error(typed).contains("is no size"));
                continue;
            }
            assert_eq!(canonical(typed), wanted, "{typed}");
            assert_eq!(wanted.parse::<FarUri>(), typed.parse::<FarUri>());
        }
    }

    #[test]
    fn what_is_no_uri_gets_one_line_that_names_it() {
        for (typed, part) in [
            ("8gb", "a URI such as mem:8gb is wanted"),
            (":8gb", "a URI such as mem:8gb is wanted"),
            ("rdma://host", "a secret is wanted"),
            ("lz4:2gb", "this build has no 'lz4:', only mem:, dax:, file:, nbd: and rdma:"),
            ("mem:", "is no size"),
            ("mem:8xb", "is no size"),
            ("mem:99999999999999999999gb", "is no size"),
            ("mem:100", "smaller than a page"),
            ("mem:16tb", "more than can be addressed"),
            ("mem:8gb?size=1gb", "mem: has no parameter 'size'"),
            ("mem:8gb?latency", "has no value"),
            ("mem:8gb?latency=2", "is no latency"),
            ("mem:8gb?latency=.us", "is no latency"),
            ("mem:8gb?latency=2h", "is no latency"),
            ("mem:8gb?latency=2e9s", "is no latency"),
            ("mem:8gb?latency=99999s", "more than an hour"),
            ("mem:8gb?bandwidth=0gbit", "out of range"),
            ("mem:8gb?bandwidth=1mb", "is no bandwidth"),
            ("dax:path", "an absolute path is wanted, as in dax:/path?size=8gb"),
            ("file:/path?latency=1us", "file: has no parameter 'latency'"),
        ] {
            let line = error(typed);
            assert!(line.contains(part) && line.contains(typed), "{line}");
            assert!(!line.contains('\n'));
        }
    }

    #[test]
    fn a_page_takes_a_third_of_a_microsecond_at_100_gigabit() {
        assert_eq!(Wire { latency_ns: 0, bandwidth_bits: 100_000_000_000 }.page_ns(), 328);
        assert_eq!(Wire::default().page_ns(), 0);
    }
}
