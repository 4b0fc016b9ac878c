//! Connections: who is there, in which protocol, and until when. PING, ECHO, AUTH, HELLO, QUIT, RESET.
//!
//! There is one user, `default`, whose password is the directive `requirepass`. Refuses to know more of
//! ACLs than that.

use super::Context;
use super::client::set_name;
use super::info::REDIS_VERSION;
use crate::args::Args;
use crate::client::ReplyMode;
use crate::error::{CommandError, Outcome};
use crate::number;

const WRONG_PASS: CommandError =
    CommandError::Text("WRONGPASS invalid username-password pair or user is disabled.");
const NO_PASSWORD: CommandError = CommandError::Text(
    "ERR AUTH <password> called without any password configured for the default user. \
Are you sure your configuration is correct?",
);
const HELLO_NOAUTH: CommandError = CommandError::Text(
    "NOAUTH HELLO must be called with the client already authenticated, otherwise the HELLO AUTH <user> <pass> \
option can be used to authenticate the client and select the RESP protocol version at the same time",
);
const BAD_PROTOCOL: CommandError =
    CommandError::Text("ERR Protocol version is not an integer or out of range");
const NO_PROTOCOL: CommandError = CommandError::Text("NOPROTO unsupported protocol version");

/// `PING [message]`: PONG, or the message.
pub fn ping(context: &mut Context, args: &Args) -> Outcome {
    match args.len() {
        1 => context.reply.simple("PONG"),
        2 => context.reply.bulk(args.get(1)),
        _ => return Err(CommandError::Text("ERR wrong number of arguments for 'ping' command").into()),
    }
    Ok(())
}

/// `ECHO message`: the message.
pub fn echo(context: &mut Context, args: &Args) -> Outcome {
    context.reply.bulk(args.get(1));
    Ok(())
}

/// Whether two byte strings are the same, in a time that does not tell where they differ.
fn same(one: &[u8], other: &[u8]) -> bool {
    one.len() == other.len() && one.iter().zip(other).fold(0, |differ, (a, b)| differ | (a ^ b)) == 0
}

/// Lets the client in, if user and password are right. Source: `ACLAuthenticateUser`.
fn authenticate(context: &mut Context, user: &[u8], password: &[u8]) -> Result<(), CommandError> {
    let open = context.server.is_open();
    if user != b"default" || !(open || same(password, context.server.config.requirepass.as_bytes())) {
        return Err(WRONG_PASS);
    }
    context.client.authenticated = true;
    Ok(())
}

/// `AUTH [username] password`: a wrong password leaves an authenticated client as it is.
pub fn auth(context: &mut Context, args: &Args) -> Outcome {
    match args.len() {
        2 if context.server.is_open() => return Err(NO_PASSWORD.into()),
        2 => authenticate(context, b"default", args.get(1))?,
        3 => authenticate(context, args.get(1), args.get(2))?,
        _ => return Err(CommandError::SYNTAX.into()),
    }
    context.reply.ok();
    Ok(())
}

/// `HELLO [protover [AUTH username password] [SETNAME clientname]]`: the reply already speaks the new
/// protocol; what the options before a wrong one did stays done.
pub fn hello(context: &mut Context, args: &Args) -> Outcome {
    let mut version = None;
    if args.len() > 1 {
        version = Some(number::parse_i64(args.get(1)).ok_or(BAD_PROTOCOL)?);
        if !matches!(version, Some(2 | 3)) {
            return Err(NO_PROTOCOL.into());
        }
    }
    let mut index = 2;
    while index < args.len() {
        let more = args.len() - 1 - index;
        if args.is(index, "AUTH") && more >= 2 {
            authenticate(context, args.get(index + 1), args.get(index + 2))?;
            index += 3;
        } else if args.is(index, "SETNAME") && more >= 1 {
            set_name(context, args.get(index + 1))?;
            index += 2;
        } else {
            let option = args.get(index);
            return Err(CommandError::quoting(&[b"ERR Syntax error in HELLO option '", option, b"'"]).into());
        }
    }
    if !context.client.authenticated {
        return Err(HELLO_NOAUTH.into());
    }
    if let Some(version) = version {
        context.client.resp3 = version == 3;
        context.reply.resp3 = version == 3;
    }
    greet(context);
    Ok(())
}

fn greet(context: &mut Context) {
    let number = context.client.number;
    let reply = &mut context.reply;
    reply.map(7);
    for (name, value) in [("server", "redis"), ("version", REDIS_VERSION)] {
        reply.bulk(name.as_bytes());
        reply.bulk(value.as_bytes());
    }
    reply.bulk(b"proto");
    reply.integer(if reply.resp3 { 3 } else { 2 });
    reply.bulk(b"id");
    reply.integer(number as i64);
    for (name, value) in [("mode", "standalone"), ("role", "master")] {
        reply.bulk(name.as_bytes());
        reply.bulk(value.as_bytes());
    }
    reply.bulk(b"modules");
    reply.array(0);
}

/// `QUIT`: the connection ends once everything that it is owed has left.
pub fn quit(context: &mut Context, _: &Args) -> Outcome {
    context.reply.ok();
    context.client.closing = true;
    Ok(())
}

/// `RESET`: the connection is as if it were new. Source: `clearClientConnectionState`.
pub fn reset(context: &mut Context, _: &Args) -> Outcome {
    let client = &mut *context.client;
    client.db = 0;
    client.resp3 = false;
    client.authenticated = context.server.is_open();
    client.name.clear();
    client.reply_mode = ReplyMode::On;
    context.reply.resp3 = false;
    context.reply.simple("RESET");
    Ok(())
}
