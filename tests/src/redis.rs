//! A Redis client of a few lines, and a server to talk to: for tests of the whole.
//!
//! Refuses RESP3.

use crate::nodes::program;
use std::collections::HashMap;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// No reply takes longer, however slow the machine is.
const REPLY_MAX: Duration = Duration::from_secs(30);
/// Requests that a pipeline has under way.
const PIPELINE: usize = 16;

/// What a server answers.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Reply {
    /// `+OK`.
    Simple(String),
    /// `-ERR ...`, without the dash.
    Error(String),
    /// `:1`.
    Integer(i64),
    /// A bulk string, or null.
    Bulk(Option<Vec<u8>>),
    /// An array; a null one is empty.
    Array(Vec<Reply>),
}

/// One connection.
pub struct Redis {
    stream: BufReader<TcpStream>,
}

impl Redis {
    /// Connects to a server of this machine.
    ///
    /// # Errors
    /// What the system answers.
    pub fn connect(port: u16) -> io::Result<Redis> {
        let stream = TcpStream::connect(("127.0.0.1", port))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(REPLY_MAX))?;
        Ok(Redis { stream: BufReader::new(stream) })
    }

    /// Connects, and waits for a PONG no longer than `patience`: QEMU accepts before its guest can answer.
    ///
    /// # Errors
    /// What the system answers, or the server instead of PONG.
    pub fn connect_within(port: u16, patience: Duration) -> io::Result<Redis> {
        let mut redis = Redis::connect(port)?;
        redis.stream().set_read_timeout(Some(patience))?;
        redis.stream.get_mut().write_all(b"*1\r\n$4\r\nPING\r\n")?;
        match redis.reply()? {
            Reply::Simple(_) => redis.stream().set_read_timeout(Some(REPLY_MAX))?,
            other => return Err(io::Error::other(format!("{other:?}"))),
        }
        Ok(redis)
    }

    /// Its connection, for whoever treats it badly.
    pub fn stream(&self) -> &TcpStream {
        self.stream.get_ref()
    }

    /// Runs a command.
    ///
    /// # Panics
    /// If the server hangs up or is silent for half a minute.
    pub fn ask(&mut self, words: &[&[u8]]) -> Reply {
        self.send(words);
        self.reply().expect("the server answers")
    }

    /// Asks, and waits for no reply.
    ///
    /// # Panics
    /// If the server hangs up.
    pub fn send(&mut self, words: &[&[u8]]) {
        let mut request = format!("*{}\r\n", words.len()).into_bytes();
        for word in words {
            request.extend(format!("${}\r\n", word.len()).into_bytes());
            request.extend_from_slice(word);
            request.extend_from_slice(b"\r\n");
        }
        self.stream.get_mut().write_all(&request).expect("the server takes a request");
    }

    /// Asks for many things, `PIPELINE` at once, and hands each reply on with its number.
    ///
    /// # Panics
    /// As [`Redis::ask`].
    pub fn pipeline(&mut self, commands: &[Vec<Vec<u8>>], mut check: impl FnMut(usize, Reply)) {
        for (batch, commands) in commands.chunks(PIPELINE).enumerate() {
            for command in commands {
                self.send(&command.iter().map(Vec::as_slice).collect::<Vec<_>>());
            }
            for index in 0..commands.len() {
                check(batch * PIPELINE + index, self.reply().expect("the server answers"));
            }
        }
    }

    /// Runs a command whose words are text.
    ///
    /// # Panics
    /// As [`Redis::ask`].
    pub fn say(&mut self, line: &str) -> Reply {
        let words: Vec<&[u8]> = line.split(' ').map(str::as_bytes).collect();
        self.ask(&words)
    }

    /// A section of INFO, by field.
    ///
    /// # Panics
    /// If there is none.
    pub fn info(&mut self, section: &str) -> HashMap<String, String> {
        let Reply::Bulk(Some(text)) = self.say(&format!("INFO {section}")) else {
            panic!("no INFO {section}")
        };
        let text = String::from_utf8_lossy(&text).into_owned();
        text.lines().filter_map(|line| line.split_once(':')).map(|(k, v)| (k.into(), v.into())).collect()
    }

    /// The next reply.
    ///
    /// # Errors
    /// If the server hangs up or is silent for half a minute.
    pub fn reply(&mut self) -> io::Result<Reply> {
        let mut line = String::new();
        if self.stream.read_line(&mut line)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let (kind, rest) = line.trim_end().split_at(1);
        let number = || rest.parse::<i64>().map_err(io::Error::other);
        Ok(match kind {
            "+" => Reply::Simple(rest.into()),
            "-" => Reply::Error(rest.into()),
            ":" => Reply::Integer(number()?),
            "$" if number()? < 0 => Reply::Bulk(None),
            "$" => {
                let mut bytes = vec![0; number()? as usize + 2];
                self.stream.read_exact(&mut bytes)?;
                bytes.truncate(bytes.len() - 2);
                Reply::Bulk(Some(bytes))
            }
            _ => Reply::Array((0..number()?.max(0)).map(|_| self.reply()).collect::<io::Result<_>>()?),
        })
    }
}

/// A running `remora-server`, which ends with its value.
pub struct Server {
    child: Child,
    /// Where it listens, on the loopback.
    pub port: u16,
}

impl Server {
    /// Starts one with these directives; it logs to `log`.
    ///
    /// # Panics
    /// If it does not start.
    pub fn start(directives: &[&str], log: &Path) -> Server {
        let port = free_port();
        let child = Command::new(program("server", "remora-server"))
            .args(["--port", &port.to_string(), "--save", "", "--logfile", &log.to_string_lossy()])
            .args(directives)
            .stdin(Stdio::null())
            .spawn()
            .expect("the server is built");
        let mut server = Server { child, port };
        let since = Instant::now();
        while Redis::connect(port).is_err() {
            let ended = server.child.try_wait().expect("it is our child");
            assert!(
                ended.is_none() && since.elapsed().as_secs() < 20,
                "the server does not start: {ended:?}"
            );
            std::thread::sleep(Duration::from_millis(5));
        }
        server
    }

    /// Runs one that cannot start: what it says, and its exit code.
    ///
    /// # Panics
    /// If it cannot be run.
    pub fn fail(directives: &[&str]) -> (String, Option<i32>) {
        let output = Command::new(program("server", "remora-server"))
            .args(["--port", &free_port().to_string(), "--save", ""])
            .args(directives)
            .stdin(Stdio::null())
            .output()
            .expect("the server is built");
        (String::from_utf8_lossy(&output.stderr).into_owned(), output.status.code())
    }
}

/// A port that was free a moment ago.
fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("the loopback has a free port");
    listener.local_addr().expect("it is bound").port()
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may be gone already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
