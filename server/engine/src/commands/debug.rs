//! DEBUG, as far as it means something here: for tests.

use super::Context;
use crate::args::Args;
use crate::error::{CommandError, Outcome};
use alloc::format;
use alloc::string::String;

/// Longest sleep: a day. Units: seconds.
const SLEEP_MAX: f64 = 86_400.0;

const HELP: &[&str] = &[
    "SET-ACTIVE-EXPIRE <0|1>",
    "    Setting it to 0 disables expiring keys in background when they are not",
    "    accessed (otherwise the Redis behavior). Setting it to 1 reenables back the",
    "    default.",
    "SLEEP <seconds>",
    "    Stop the server for <seconds>. Decimals allowed.",
];

/// `DEBUG SLEEP seconds | SET-ACTIVE-EXPIRE 0|1 | HELP`.
pub fn debug(context: &mut Context, args: &Args) -> Outcome {
    match args.len() {
        2 if args.is(1, "HELP") => {
            crate::command::help::write(context.reply.output.near(), b"DEBUG", HELP);
            return Ok(());
        }
        3 if args.is(1, "SLEEP") => {
            // As C's strtod: what is no number is zero.
            let seconds: f64 =
                core::str::from_utf8(args.get(2)).ok().and_then(|text| text.parse().ok()).unwrap_or(0.0);
            let seconds = if seconds > 0.0 { seconds.min(SLEEP_MAX) } else { 0.0 };
            context.server.sleep_ns = Some((seconds * 1e9) as u64);
        }
        3 if args.is(1, "SET-ACTIVE-EXPIRE") => context.keys.active_expire = args.get(2) != b"0",
        _ => {
            let word = String::from_utf8_lossy(args.get(1)).into_owned();
            let text =
                format!("ERR unknown subcommand or wrong number of arguments for '{word}'. Try DEBUG HELP.");
            return Err(CommandError::Owned(text).into());
        }
    }
    context.reply.ok();
    Ok(())
}
