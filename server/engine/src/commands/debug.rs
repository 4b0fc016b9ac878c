//! DEBUG, as far as it means something here: for tests.

use super::Context;
use crate::args::Args;
use crate::error::{CommandError, Outcome};

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

/// Source: `rejectCommand` of Redis 7.0 for a command that `enable-debug-command` forbids.
const NOT_ALLOWED: CommandError = CommandError::Text(
    "ERR DEBUG command not allowed. If the enable-debug-command option is set to \"local\", you can run it from a \
     local connection, otherwise you need to set this option in the configuration file, and then restart the server.",
);

/// Whether `enable-debug-command` lets this client go on.
fn is_allowed(context: &Context) -> bool {
    let directive = context.server.config.inert.iter().find(|(name, _)| *name == "enable-debug-command");
    directive.is_some_and(|(_, value)| match value.as_str() {
        "yes" => true,
        "local" => context.client.peer.loopback,
        _ => false,
    })
}

/// `DEBUG SLEEP seconds | SET-ACTIVE-EXPIRE 0|1 | HELP`: if `enable-debug-command` allows it.
pub fn debug(context: &mut Context, args: &Args) -> Outcome {
    if !is_allowed(context) {
        return Err(NOT_ALLOWED.into());
    }
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
            let before = b"ERR unknown subcommand or wrong number of arguments for '";
            let text = [before, args.get(1), b"'. Try DEBUG HELP."].concat();
            return Err(CommandError::Quoting(text).into());
        }
    }
    context.reply.ok();
    Ok(())
}
