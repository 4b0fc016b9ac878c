//! The server itself: CONFIG, COMMAND, TIME, SHUTDOWN.
//!
//! Refuses to write files: CONFIG REWRITE fails, and so does a SHUTDOWN that must save.

use super::Context;
use crate::args::Args;
use crate::command::{self, help, introspect};
use crate::config::ConfigError;
use crate::error::{CommandError, Outcome};
use alloc::borrow::ToOwned;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

const NO_SHUTDOWN: CommandError = CommandError::Text("ERR No shutdown in progress.");
const NO_CONFIG_FILE: CommandError = CommandError::Text("ERR The server is running without a config file");
const CANNOT_REWRITE: CommandError = CommandError::Text("ERR Rewriting config file: Operation not supported");
const CANNOT_SAVE: CommandError = CommandError::Text("ERR Errors trying to SHUTDOWN. Check logs.");

/// `CONFIG GET parameter [parameter ...]`: names and values; each parameter is a name or a glob pattern.
pub fn config_get(context: &mut Context, args: &Args) -> Outcome {
    let mut found: Vec<(String, String)> = Vec::new();
    for pattern in args.iter_from(2) {
        for (name, value) in context.server.config.matching(&String::from_utf8_lossy(pattern)) {
            if !found.iter().any(|(known, _)| known.eq_ignore_ascii_case(&name)) {
                found.push((name, value));
            }
        }
    }
    context.reply.map(found.len());
    for (name, value) in found {
        context.reply.bulk(name.as_bytes());
        context.reply.bulk(value.as_bytes());
    }
    Ok(())
}

/// `CONFIG SET parameter value [parameter value ...]`: all of them, or none. Less local memory is
/// less at once; keys that must go for `maxmemory` go with the next write. Source: `configSetCommand`.
pub fn config_set(context: &mut Context, args: &Args) -> Outcome {
    if !args.len().is_multiple_of(2) {
        return Err(CommandError::SYNTAX.into());
    }
    let mut config = context.server.config.clone();
    let mut names: Vec<String> = Vec::with_capacity(args.len() / 2 - 1);
    for index in (2..args.len()).step_by(2) {
        let typed = String::from_utf8_lossy(args.get(index));
        let name = config.changeable(&typed).map_err(|error| refused(&typed, error))?;
        if names.contains(&name) {
            return Err(refused(&typed, ConfigError::Bad("duplicate parameter".to_owned())).into());
        }
        names.push(name);
    }
    for (name, index) in names.iter().zip((3..args.len()).step_by(2)) {
        let value = core::str::from_utf8(args.get(index));
        let value =
            value.map_err(|_| refused(name, ConfigError::Bad("argument must be UTF-8".to_owned())))?;
        config.set(name, &[value]).map_err(|error| refused(name, error))?;
    }
    context.server.config = config;
    context.server.share_out(&mut context.keys.far);
    context.reply.ok();
    Ok(())
}

/// Redis' words for a directive that cannot be set.
fn refused(name: &str, error: ConfigError) -> CommandError {
    let why = match error {
        ConfigError::Unknown => {
            let text = format!("ERR Unknown option or number of arguments for CONFIG SET - '{name}'");
            return CommandError::Owned(text);
        }
        ConfigError::StartOnly => "can't set immutable config",
        ConfigError::Bad(ref why) => why,
    };
    CommandError::Owned(format!("ERR CONFIG SET failed (possibly related to argument '{name}') - {why}"))
}

/// `CONFIG RESETSTAT`: the counters of INFO start anew.
pub fn config_resetstat(context: &mut Context, _: &Args) -> Outcome {
    context.server.reset_stats(context.keys);
    context.reply.ok();
    Ok(())
}

/// `CONFIG REWRITE`: always an error, because nothing here writes files.
pub fn config_rewrite(context: &mut Context, _: &Args) -> Outcome {
    let has_file = !context.server.facts.config_file.is_empty();
    Err(if has_file { CANNOT_REWRITE } else { NO_CONFIG_FILE }.into())
}

/// `CONFIG HELP`
pub fn config_help(context: &mut Context, args: &Args) -> Outcome {
    help::write(context.reply.output.near(), args.get(0), help::CONFIG);
    Ok(())
}

/// `COMMAND` and its subcommands: what the command table says.
pub fn command(context: &mut Context, args: &Args) -> Outcome {
    let spec = command::lookup(args.get(0)).expect("it was looked up to get here").resolve(args)?;
    introspect::reply(spec.id, context.reply.output.near(), args, context.reply.resp3)?;
    Ok(())
}

/// `TIME`: seconds since 1970, and microseconds.
pub fn time(context: &mut Context, _: &Args) -> Outcome {
    let now = context.now;
    let us = now.unix_ms % 1000 * 1000 + u64::from(now.unix_us_rest);
    context.reply.array(2);
    for number in [now.unix_ms / 1000, us] {
        context.reply.bulk(itoa::Buffer::new().format(number).as_bytes());
    }
    Ok(())
}

/// `SHUTDOWN [NOSAVE | SAVE] [NOW] [FORCE] [ABORT]`: ends the server, unanswered. There is nothing that
/// saves, so SAVE fails as in a Redis that cannot write; FORCE goes on nevertheless.
pub fn shutdown(context: &mut Context, args: &Args) -> Outcome {
    let given = |word: &str| (1..args.len()).any(|index| args.is(index, word));
    let known = |index| ["NOSAVE", "SAVE", "NOW", "FORCE", "ABORT"].iter().any(|word| args.is(index, word));
    let (save, nosave, abort) = (given("SAVE"), given("NOSAVE"), given("ABORT"));
    let others = nosave || save || given("NOW") || given("FORCE");
    if !(1..args.len()).all(known) || (abort && others) || (save && nosave) {
        return Err(CommandError::SYNTAX.into());
    }
    if abort {
        return Err(NO_SHUTDOWN.into());
    }
    if save && !given("FORCE") {
        return Err(CANNOT_SAVE.into());
    }
    context.server.shutdown = true;
    context.client.closing = true;
    Ok(())
}
