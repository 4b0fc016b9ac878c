//! Directives as a user types them: the words of a line, the groups of a command line, one at a time.
//!
//! ```text
//!   --port 7000 --save '' --far-memory mem:1gb  ──group──►  [port 7000] [save ''] [far-memory mem:1gb] ──take──► Config
//! ```
//!
//! Every body feeds its configuration through here, so that all understand the same. Refuses files: they
//! are a body's.

use super::{Config, ConfigError, words};
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

/// The user is wrong: one line that says why.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DirectiveError(String);

impl fmt::Display for DirectiveError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The words of a line, quoted as Redis quotes them.
///
/// # Errors
/// If a quote is not closed, or does not end its word.
pub fn split(line: &str) -> Result<Vec<String>, DirectiveError> {
    words::split(line).ok_or_else(|| DirectiveError(format!("bad directive '{line}': unbalanced quotes")))
}

/// Groups the words of a command line into directives, each with its name first.
///
/// The word after a directive's name is a value whatever it looks like. Source: Redis' `main`.
///
/// # Errors
/// If a word stands where a directive should begin.
pub fn group(words: &[String]) -> Result<Vec<Vec<String>>, DirectiveError> {
    let mut grouped: Vec<Vec<String>> = Vec::new();
    let mut name_may_come = true;
    for (index, word) in words.iter().enumerate() {
        if name_may_come && let Some(directive) = word.strip_prefix("--") {
            // `--save` alone, or before another directive, means an empty value.
            let is_bare_save = directive.eq_ignore_ascii_case("save")
                && words.get(index + 1).is_none_or(|next| next.starts_with("--"));
            let mut parts = split(directive)?;
            if is_bare_save {
                parts.push(String::new());
            }
            name_may_come = parts.len() > 1;
            grouped.push(parts);
        } else if let Some(directive) = grouped.last_mut() {
            directive.push(word.clone());
            name_may_come = true;
        } else {
            return Err(DirectiveError(format!(
                "unexpected '{word}': a directive begins with '--'; see --help"
            )));
        }
    }
    Ok(grouped)
}

impl DirectiveError {
    /// A directive that cannot be taken, and why.
    pub fn bad(directive: &[String], why: &str) -> DirectiveError {
        DirectiveError(format!("bad directive '{}': {why}", directive.join(" ")))
    }
}

impl Config {
    /// Takes one directive, its name first.
    ///
    /// # Errors
    /// If there is none of this name, or its values will not do.
    pub fn take(&mut self, directive: &[String]) -> Result<(), DirectiveError> {
        let Some((name, values)) = directive.split_first() else { return Ok(()) };
        let bad = |why: &str| Err(DirectiveError::bad(directive, why));
        if values.is_empty() {
            // An unknown name is the better explanation of the two.
            return match Config::default().set(name, &["0"]) {
                Err(ConfigError::Unknown) => bad("unknown directive"),
                _ => bad("wrong number of arguments"),
            };
        }
        let values: Vec<&str> = values.iter().map(String::as_str).collect();
        match self.set(name, &values) {
            Ok(()) => Ok(()),
            Err(ConfigError::Unknown) => bad("unknown directive"),
            Err(ConfigError::Bad(why)) => bad(&why),
            Err(ConfigError::StartOnly) => bad("it cannot be changed any more"),
        }
    }
}
