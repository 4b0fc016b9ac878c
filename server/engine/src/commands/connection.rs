//! Connections: PING and its kin.

use super::Context;
use crate::args::Args;
use crate::error::Outcome;

/// `PING [message]`: PONG, or the message.
pub fn ping(context: &mut Context, args: &Args) -> Outcome {
    match args.len() {
        1 => context.reply.simple("PONG"),
        _ => context.reply.bulk(args.get(1)),
    }
    Ok(())
}
