//! Where a server is: `redis://[user:password@]host:port`, and connections to it that are ready to use.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::str::FromStr;
use std::time::Duration;

use crate::resp::{self, push_command};

/// A server that does not accept within this time is not there.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// A server that does not answer a question of ours within this time is stuck; swapping ones take seconds.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(60);
/// Bytes of the longest answer to a question of ours: INFO is some KB.
const ANSWER_BYTES_MAX: usize = 1 << 20;

/// A server and how to log in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// `host:port`
    pub address: String,
    user: Option<String>,
    password: Option<String>,
    /// `host:port` that sends the /proc/vmstat of the server's machine to whoever connects, if that machine is another.
    vmstat: Option<String>,
}

impl FromStr for Target {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong =
            || format!("`{text}` is no address: write redis://HOST:PORT or redis://USER:PASSWORD@HOST:PORT");
        let rest = text.strip_prefix("redis://").ok_or_else(wrong)?.trim_end_matches('/');
        let (login, address) =
            rest.rsplit_once('@').map_or((None, rest), |(login, address)| (Some(login), address));
        let (user, password) = match login.map(|login| login.split_once(':').unwrap_or(("", login))) {
            Some((user, password)) => (Some(user).filter(|u| !u.is_empty()), Some(password)),
            None => (None, None),
        };
        let has_port = address
            .rsplit_once(':')
            .is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok());
        let address = if has_port { address.to_owned() } else { format!("{address}:6379") };
        if address.starts_with(':') || address.contains('/') {
            return Err(wrong());
        }
        Ok(Target { address, user: user.map(Into::into), password: password.map(Into::into), vmstat: None })
    }
}

impl Target {
    /// A server of ours on this machine.
    pub fn local(port: u16) -> Self {
        Target { address: format!("127.0.0.1:{port}"), user: None, password: None, vmstat: None }
    }

    /// The same server, on a machine whose /proc/vmstat is told at `vmstat`.
    #[must_use]
    pub fn with_vmstat(self, vmstat: Option<String>) -> Self {
        Target { vmstat, ..self }
    }

    /// What its machine tells of its memory; `None` if nobody is there to tell.
    ///
    /// # Errors
    /// If who should tell does not.
    pub fn vmstat(&self) -> io::Result<Option<String>> {
        let Some(address) = &self.vmstat else { return Ok(None) };
        let address = address.to_socket_addrs()?.next().ok_or(io::ErrorKind::AddrNotAvailable)?;
        let stream = TcpStream::connect_timeout(&address, CONNECT_TIMEOUT)?;
        stream.set_read_timeout(Some(ANSWER_TIMEOUT))?;
        let mut text = String::new();
        stream.take(ANSWER_BYTES_MAX as u64).read_to_string(&mut text)?;
        Ok(Some(text))
    }

    /// The socket address.
    ///
    /// # Errors
    /// If the name does not resolve.
    pub fn socket_address(&self) -> io::Result<SocketAddr> {
        self.address.to_socket_addrs()?.next().ok_or_else(|| io::Error::other("the name has no address"))
    }

    /// A blocking connection, logged in.
    ///
    /// # Errors
    /// If the server is not there or refuses the password.
    pub fn connect(&self) -> io::Result<TcpStream> {
        let mut stream = TcpStream::connect_timeout(&self.socket_address()?, CONNECT_TIMEOUT)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(ANSWER_TIMEOUT))?;
        if let Some(password) = &self.password {
            let mut arguments = vec!["AUTH"];
            arguments.extend(self.user.as_deref());
            arguments.push(password);
            ask(&mut stream, &arguments)?;
        }
        Ok(stream)
    }
}

/// Asks one thing and returns the whole reply as it came.
///
/// # Errors
/// An error reply is an error; so is a connection that ends.
pub fn ask(stream: &mut TcpStream, arguments: &[&str]) -> io::Result<Vec<u8>> {
    let mut request = Vec::new();
    push_command(&mut request, arguments);
    stream.write_all(&request)?;
    let mut scanner = resp::Scanner::default();
    let mut raw = Vec::new();
    let mut buffer = [0; 16 << 10];
    loop {
        let read = stream.read(&mut buffer)?;
        if read == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        raw.extend_from_slice(&buffer[..read]);
        let (_, reply) =
            scanner.advance(&buffer[..read]).map_err(|_| io::Error::other("the reply is not RESP2"))?;
        match reply {
            Some(reply) if reply.kind == resp::Kind::Error => {
                return Err(io::Error::other(scanner.error_text()));
            }
            Some(_) => return Ok(raw),
            None if raw.len() > ANSWER_BYTES_MAX => return Err(io::Error::other("the reply does not end")),
            None => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_tells_its_vmstat_or_that_is_an_error() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("it is bound").to_string();
        let telling = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().expect("somebody asks");
            stream.write_all(b"pswpin 7\npswpout 9\n").expect("it is read");
        });
        let target = Target::local(1).with_vmstat(Some(address));
        assert_eq!(target.vmstat().expect("told").as_deref(), Some("pswpin 7\npswpout 9\n"));
        telling.join().expect("it told");
        assert!(target.vmstat().is_err());
        assert_eq!(Target::local(1).vmstat().expect("nobody is asked"), None);
    }

    #[test]
    fn addresses_are_read_as_redis_cli_reads_them() {
        let target: Target = "redis://:s3cret@10.0.0.1:7000/".parse().expect("an address");
        assert_eq!(
            (target.address.as_str(), target.user, target.password.as_deref()),
            ("10.0.0.1:7000", None, Some("s3cret"))
        );
        let target: Target = "redis://localhost".parse().expect("an address");
        assert_eq!((target.address.as_str(), target.password), ("localhost:6379", None));
        for text in ["localhost:6379", "http://x", "redis://:6379", "redis://a/b"] {
            assert!(text.parse::<Target>().is_err(), "{text}");
        }
    }
}
