//! The command line and configuration files of `remora-server`, parsed as redis-server parses its own.
//!
//! ```text
//!   remora-server [FILE.conf] [--directive value ...]... [-]
//!        file lines, then the command line's directives, then standard input's lines ──► Config::set
//! ```
//!
//! Refuses to know a directive: the engine's `Config` does. The first thing wrong is one line and the end.

use engine::Config;
use engine::directive::{self, DirectiveError};
use std::io::Read;
use std::{fmt, io};

/// What the command line asks for.
#[derive(Debug)]
pub enum Wanted {
    /// A server with this configuration.
    Server(Box<Config>),
    /// Only this text.
    Text(&'static str),
}

/// The user is wrong: one line that says where and why.
#[derive(PartialEq, Eq, Debug)]
pub struct OptionsError(String);

impl From<DirectiveError> for OptionsError {
    fn from(error: DirectiveError) -> OptionsError {
        OptionsError(error.to_string())
    }
}

impl fmt::Display for OptionsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What `--help` prints: at most 24 lines of 80 columns.
pub const HELP: &str = "\
Usage: remora-server [FILE.conf] [--DIRECTIVE VALUE]... [-]
A Redis-compatible store with a small local memory and a heap in far memory.

  --port 6379               TCP port; 0 is none; --unixsocket PATH is another
  --bind 127.0.0.1 -::1     addresses to listen on; '*' is all
  --local-memory 256mb      cap of everything that is kept local
  --far-memory URI          where the heap lives; several are striped:
      mem:8gb                 memory of this process, the default, 4x the local
      mem:8gb?latency=2.6us&bandwidth=100gbit   the same behind a modelled wire
      dax:/path?size=8gb      a byte-addressable device or file
      file:/path?size=8gb     a file or block device, by io_uring
      nbd://host:10809/       a memory node; nbds://, nbd+unix:///?socket=PATH
  --far-copies 1            2: each page on two far memories
  --prefetch ahead          ahead, guided, sequential or none
  --pager soft              uffd: pages that fault, by userfaultfd, to compare
  --maxmemory BYTES         cap of the data, near and far; --maxmemory-policy
  --requirepass PASSWORD    and --maxclients, --loglevel ... as in redis.conf

A directive in FILE.conf is the same without '--'; '-' reads more from stdin.
  remora-server --port 7000 --local-memory 64mb --far-memory mem:4gb
  remora-server --help | --version
";

/// What `--version` prints.
pub const VERSION: &str =
    concat!("Remora server v=", env!("CARGO_PKG_VERSION"), " (speaks as Redis 7.0.15)\n");

/// Files may include files; more levels than this is a circle.
const INCLUDE_DEPTH_MAX: usize = 16;

/// Parses the words after the program's name.
///
/// # Errors
/// The first directive, file or value that cannot be taken.
pub fn parse(words: &[String], stdin: &mut dyn Read) -> Result<Wanted, OptionsError> {
    match words {
        [only] if matches!(only.as_str(), "--help" | "-h") => return Ok(Wanted::Text(HELP)),
        [only] if matches!(only.as_str(), "--version" | "-v") => return Ok(Wanted::Text(VERSION)),
        _ => {}
    }
    let mut config = Config::default();
    let (file, words) = match words.split_first() {
        Some((first, rest)) if !first.starts_with('-') => (Some(first), rest),
        _ => (None, words),
    };
    if let Some(path) = file {
        take_file(&mut config, path, 0)?;
    }
    let (words, from_stdin) = without_dash(words);
    for directive in &directive::group(words)? {
        take(&mut config, directive, None, 0)?;
    }
    if from_stdin {
        let mut text = String::new();
        stdin.read_to_string(&mut text).map_err(|error| unreadable("stdin", &error))?;
        take_lines(&mut config, &text, "stdin", 0)?;
    }
    Ok(Wanted::Server(Box::new(config)))
}

/// The words without a `-` at either end, and whether there was one. Source: Redis' `main`.
fn without_dash(words: &[String]) -> (&[String], bool) {
    match words {
        [first, rest @ ..] if first == "-" => (rest, true),
        [rest @ .., last] if last == "-" => (rest, true),
        _ => (words, false),
    }
}

fn take_file(config: &mut Config, path: &str, depth: usize) -> Result<(), OptionsError> {
    let text = std::fs::read_to_string(path).map_err(|error| unreadable(path, &error))?;
    take_lines(config, &text, path, depth)
}

fn take_lines(config: &mut Config, text: &str, origin: &str, depth: usize) -> Result<(), OptionsError> {
    for (index, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let place = (origin, index + 1);
        let directive = directive::split(line).map_err(|error| at(Some(place), error.into()))?;
        take(config, &directive, Some(place), depth)?;
    }
    Ok(())
}

/// Takes one directive, which stands at `place` if it comes from a file.
fn take(
    config: &mut Config,
    directive: &[String],
    place: Option<(&str, usize)>,
    depth: usize,
) -> Result<(), OptionsError> {
    if let [name, values @ ..] = directive
        && name.eq_ignore_ascii_case("include")
    {
        let bad = |why| Err(at(place, DirectiveError::bad(directive, why).into()));
        return match values {
            [pattern] if depth < INCLUDE_DEPTH_MAX => {
                include(config, pattern, depth + 1).map_err(|why| at(place, why))
            }
            [_] => bad("files include each other"),
            _ => bad("wrong number of arguments"),
        };
    }
    config.take(directive).map_err(|error| at(place, error.into()))
}

/// Takes every file that a pattern names; one without wildcards must be there.
fn include(config: &mut Config, pattern: &str, depth: usize) -> Result<(), OptionsError> {
    if !pattern.contains(['*', '?', '[']) {
        return take_file(config, pattern, depth);
    }
    let paths =
        glob::glob(pattern).map_err(|error| OptionsError(format!("bad pattern '{pattern}': {error}")))?;
    for path in paths {
        let path = path.map_err(|error| OptionsError(error.to_string()))?;
        take_file(config, &path.to_string_lossy(), depth)?;
    }
    Ok(())
}

fn at(place: Option<(&str, usize)>, error: OptionsError) -> OptionsError {
    match place {
        Some((origin, line)) => OptionsError(format!("{origin}:{line}: {error}")),
        None => error,
    }
}

fn unreadable(path: &str, error: &io::Error) -> OptionsError {
    OptionsError(format!("cannot read '{path}': {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn parse_line(line: &str, stdin: &str) -> Result<Config, String> {
        let words = directive::split(line).expect("the test's own quotes are closed");
        match parse(&words, &mut stdin.as_bytes()) {
            Ok(Wanted::Server(config)) => Ok(*config),
            Ok(Wanted::Text(_)) => panic!("a server is wanted"),
            Err(error) => Err(error.to_string()),
        }
    }

    fn config(line: &str) -> Config {
        parse_line(line, "").expect("the line is right")
    }

    fn error(line: &str) -> String {
        let error = parse_line(line, "").expect_err("the line is wrong");
        assert!(!error.contains('\n'), "one line: {error}");
        error
    }

    #[test]
    fn directives_come_as_redis_server_takes_them() {
        let config = config("--port 7000 '--local-memory 64mb' --bind 127.0.0.1 ::1 --PREFETCH guided");
        assert_eq!((config.port, config.local_memory), (7000, 64 << 20));
        assert_eq!(config.bind, ["127.0.0.1", "::1"]);
        assert_eq!(config.prefetch, farmem::Prefetch::Guided);
    }

    #[test]
    fn far_memory_may_be_given_several_times() {
        let config = config("--far-memory mem:4gb --far-memory mem:1gb?latency=2.6us");
        assert_eq!(config.far_memory, ["mem:4gb", "mem:1gb?latency=2.6us"]);
    }

    #[test]
    fn the_word_after_a_name_is_a_value_even_if_it_has_dashes() {
        assert_eq!(config("--requirepass --port").requirepass, "--port");
        assert_eq!(config("--save --port 7001").port, 7001);
        assert_eq!(config("--port 7001 --save").port, 7001);
        assert_eq!(config("--save '' --port 7001").port, 7001);
    }

    #[test]
    fn what_cannot_be_taken_is_one_line() {
        assert_eq!(error("--foo 1"), "bad directive 'foo 1': unknown directive");
        assert_eq!(error("--foo"), "bad directive 'foo': unknown directive");
        assert_eq!(error("--port"), "bad directive 'port': wrong number of arguments");
        assert!(error("--port x").starts_with("bad directive 'port x': argument"));
        assert!(error("--local-memory 12q").starts_with("bad directive 'local-memory 12q': "));
        assert!(error("-p 7000").starts_with("unexpected '-p'"));
        assert!(error("/nowhere/at/all.conf").starts_with("cannot read '/nowhere/at/all.conf': "));
    }

    #[test]
    fn files_have_comments_quotes_and_includes_and_the_command_line_wins() {
        let dir = tempfile::tempdir().expect("a directory can be made");
        let write = |name: &str, text: &str| {
            let path = dir.path().join(name);
            std::fs::File::create(&path)
                .and_then(|mut file| file.write_all(text.as_bytes()))
                .expect("it can be written");
            path.to_string_lossy().into_owned()
        };
        let second = write("second.conf", "maxclients 77\n");
        let first = write(
            "first.conf",
            &format!("# a comment\n\n  port 7002\r\nrequirepass \"a b\"\ninclude {second}\n"),
        );
        let config = config(&format!("{first} --port 7003"));
        assert_eq!((config.port, config.maxclients, config.requirepass.as_str()), (7003, 77, "a b"));

        let bad = write("bad.conf", "port 1\nfoo 1\n");
        assert_eq!(error(&bad), format!("{bad}:2: bad directive 'foo 1': unknown directive"));
        let open = write("open.conf", "requirepass \"a\n");
        assert!(error(&open).ends_with(":1: bad directive 'requirepass \"a': unbalanced quotes"));
        let circle = dir.path().join("circle.conf").to_string_lossy().into_owned();
        write("circle.conf", &format!("include {circle}\n"));
        assert!(error(&circle).ends_with("files include each other"));
        write("part-1.conf", "hz 20\n");
        assert_eq!(super::tests::config(&format!("--include {}/part-*.conf", dir.path().display())).hz, 20);
    }

    #[test]
    fn a_dash_reads_more_from_standard_input() {
        let config = parse_line("--port 7004 -", "maxclients 5\n").expect("both are right");
        assert_eq!((config.port, config.maxclients), (7004, 5));
    }

    #[test]
    fn help_fits_a_screen() {
        assert!(HELP.lines().count() <= 24);
        assert!(HELP.lines().all(|line| line.chars().count() <= 80));
    }
}
