//! CLIENT: connections seen from a connection.
//!
//! There are no replicas, no subscribers and no transactions, so every client is a `normal` one, of the
//! user `default`. Refuses to end a connection itself: it is marked, and the body closes it.

use super::Context;
use crate::args::Args;
use crate::client::{Client, ReplyMode};
use crate::command::help;
use crate::error::{CommandError, Outcome};
use crate::number;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt::Write;

const BAD_NAME: CommandError =
    CommandError::Text("ERR Client names cannot contain spaces, newlines or special characters.");
const NO_SUCH_CLIENT: CommandError = CommandError::Text("ERR No such client");
const BAD_ID: CommandError = CommandError::Text("ERR Invalid client ID");
const ID_NOT_POSITIVE: CommandError = CommandError::Text("ERR client-id should be greater than 0");

/// `CLIENT ID`: a number that no other connection has had.
pub fn id(context: &mut Context, _: &Args) -> Outcome {
    context.reply.integer(context.client.number as i64);
    Ok(())
}

/// `CLIENT GETNAME`: null if there is none.
pub fn getname(context: &mut Context, _: &Args) -> Outcome {
    if context.client.name.is_empty() {
        context.reply.null();
    } else {
        context.reply.bulk(&context.client.name);
    }
    Ok(())
}

/// Names the client; an empty name takes the name away. Source: `clientSetName`.
/// # Errors
/// The name would break the lines of `CLIENT LIST`.
pub fn set_name(context: &mut Context, name: &[u8]) -> Result<(), CommandError> {
    if !name.iter().all(u8::is_ascii_graphic) {
        return Err(BAD_NAME);
    }
    context.client.name = name.to_vec();
    Ok(())
}

/// `CLIENT SETNAME connection-name`
pub fn setname(context: &mut Context, args: &Args) -> Outcome {
    set_name(context, args.get(2))?;
    context.reply.ok();
    Ok(())
}

/// `CLIENT INFO`: this connection's line of `CLIENT LIST`.
pub fn info(context: &mut Context, _: &Args) -> Outcome {
    let mut text = String::new();
    describe(&mut text, context.client, context.now.unix_ms);
    context.reply.verbatim(&text);
    Ok(())
}

/// `CLIENT LIST [TYPE NORMAL | MASTER | REPLICA | PUBSUB] [ID client-id [client-id ...]]`: a line a
/// connection, the oldest first.
pub fn list(context: &mut Context, args: &Args) -> Outcome {
    let mut listed: Vec<&Client> = context.clients.iter().chain([&*context.client]).collect();
    listed.sort_unstable_by_key(|client| client.number);
    if args.len() == 4 && args.is(2, "TYPE") {
        if !is_normal(args.get(3))? {
            listed.clear();
        }
    } else if args.len() > 3 && args.is(2, "ID") {
        let mut asked = Vec::new();
        for word in args.iter_from(3) {
            let number = number::parse_i64(word).ok_or(BAD_ID)?;
            let found = listed.binary_search_by(|client| (client.number as i64).cmp(&number));
            asked.extend(found.ok().map(|at| listed[at]));
        }
        listed = asked;
    } else if args.len() != 2 {
        return Err(CommandError::SYNTAX.into());
    }
    let mut text = String::new();
    for client in listed {
        describe(&mut text, client, context.now.unix_ms);
    }
    context.reply.verbatim(&text);
    Ok(())
}

/// Whether a type of clients is the only one that there is. Source: `getClientTypeByName`.
fn is_normal(name: &[u8]) -> Result<bool, CommandError> {
    let known = ["normal", "slave", "replica", "pubsub", "master"];
    match known.iter().find(|known| known.as_bytes().eq_ignore_ascii_case(name)) {
        Some(known) => Ok(*known == "normal"),
        None => Err(CommandError::quoting(&[b"ERR Unknown client type '", name, b"'"])),
    }
}

/// Appends a client's line. Source: `catClientInfoString`.
fn describe(text: &mut String, client: &Client, now_ms: u64) {
    let output = client.output.as_ref();
    let output_bytes = output.map_or(0, |output| output.near_bytes());
    let seconds_since = |ms: u64| now_ms.saturating_sub(ms) / 1000;
    writeln!(
        text,
        "id={} addr={} laddr={} fd={} name={} age={} idle={} flags={} db={} sub=0 psub=0 ssub=0 multi=-1 qbuf={} \
         qbuf-free={} argv-mem=0 multi-mem=0 rbs={} rbp={} obl={} oll={} omem={} tot-mem={} events={} cmd={} \
         user=default redir=-1 resp={}",
        client.number,
        client.peer.address,
        client.peer.local_address,
        client.peer.descriptor,
        String::from_utf8_lossy(&client.name),
        seconds_since(client.created_ms),
        seconds_since(client.last_used_ms),
        flags(client),
        client.db,
        client.input.len(),
        client.input.capacity() - client.input.len(),
        output_bytes,
        output_bytes,
        output.map_or(0, |output| output.ready_bytes()),
        output.map_or(0, |output| output.frames_held()),
        output_bytes,
        client.near_bytes(),
        if output.is_some() { "rw" } else { "r" },
        client.last_command,
        if client.resp3 { 3 } else { 2 },
    )
    .expect("a String takes what is written");
}

fn flags(client: &Client) -> String {
    let local_address = &client.peer.local_address;
    let known = [
        (client.closing, 'c'),
        (client.killed, 'A'),
        (
            client.peer.loopback
                && client.peer.address.ends_with(":0")
                && client.peer.address == *local_address,
            'U',
        ),
        (client.no_evict, 'e'),
    ];
    let flags: String = known.iter().filter(|(set, _)| *set).map(|(_, letter)| letter).collect();
    if flags.is_empty() { String::from("N") } else { flags }
}

/// Which clients `CLIENT KILL` ends.
#[derive(Default)]
struct Victims<'a> {
    address: Option<&'a [u8]>,
    local_address: Option<&'a [u8]>,
    number: Option<u64>,
    /// A type, or a user, that no client is of.
    nobody: bool,
    spare_this: bool,
}

impl<'a> Victims<'a> {
    /// Parses `CLIENT KILL addr:port` and the form with options.
    fn parse(args: &Args<'a>) -> Result<Victims<'a>, CommandError> {
        if args.len() == 3 {
            return Ok(Victims { address: Some(args.get(2)), ..Victims::default() });
        }
        let mut victims = Victims { spare_this: true, ..Victims::default() };
        for index in (2..args.len()).step_by(2) {
            if index + 1 == args.len() {
                return Err(CommandError::SYNTAX);
            }
            let value = args.get(index + 1);
            if args.is(index, "ID") {
                let number = number::parse_i64(value).filter(|&number| number > 0);
                victims.number = Some(number.ok_or(ID_NOT_POSITIVE)?.cast_unsigned());
            } else if args.is(index, "TYPE") {
                victims.nobody |= !is_normal(value)?;
            } else if args.is(index, "ADDR") {
                victims.address = Some(value);
            } else if args.is(index, "LADDR") {
                victims.local_address = Some(value);
            } else if args.is(index, "USER") {
                if value != b"default" {
                    return Err(CommandError::quoting(&[b"ERR No such user '", value, b"'"]));
                }
            } else if args.is(index, "SKIPME")
                && (value.eq_ignore_ascii_case(b"yes") || value.eq_ignore_ascii_case(b"no"))
            {
                victims.spare_this = value.eq_ignore_ascii_case(b"yes");
            } else {
                return Err(CommandError::SYNTAX);
            }
        }
        Ok(victims)
    }

    fn has(&self, client: &Client) -> bool {
        !self.nobody
            && self.address.is_none_or(|address| address == client.peer.address.as_bytes())
            && self.local_address.is_none_or(|address| address == client.peer.local_address.as_bytes())
            && self.number.is_none_or(|number| number == client.number)
    }
}

/// `CLIENT KILL ip:port | [ID client-id] [TYPE type] [USER username] [ADDR ip:port] [LADDR ip:port]
/// [SKIPME yes/no]`: this connection, if it is among them, gets its answer first.
pub fn kill(context: &mut Context, args: &Args) -> Outcome {
    let victims = Victims::parse(args)?;
    let mut killed = 0;
    for client in context.clients.iter_mut().filter(|client| !client.killed && victims.has(client)) {
        client.killed = true;
        context.server.killed.push(client.id);
        killed += 1;
    }
    if !victims.spare_this && victims.has(context.client) {
        context.client.closing = true;
        killed += 1;
    }
    match args.len() {
        3 if killed == 0 => return Err(NO_SUCH_CLIENT.into()),
        3 => context.reply.ok(),
        _ => context.reply.integer(killed),
    }
    Ok(())
}

/// `CLIENT REPLY ON | OFF | SKIP`: only ON is answered.
pub fn reply(context: &mut Context, args: &Args) -> Outcome {
    let mode = &mut context.client.reply_mode;
    if args.is(2, "ON") {
        *mode = ReplyMode::On;
        context.reply.ok();
    } else if args.is(2, "OFF") {
        *mode = ReplyMode::Off;
    } else if args.is(2, "SKIP") {
        if *mode != ReplyMode::Off {
            *mode = ReplyMode::SkipNext;
        }
    } else {
        return Err(CommandError::SYNTAX.into());
    }
    Ok(())
}

/// `CLIENT NO-EVICT ON | OFF`: remembered and shown; no client is dropped for its buffers here.
pub fn no_evict(context: &mut Context, args: &Args) -> Outcome {
    context.client.no_evict = match (args.is(2, "ON"), args.is(2, "OFF")) {
        (true, _) => true,
        (_, true) => false,
        _ => return Err(CommandError::SYNTAX.into()),
    };
    context.reply.ok();
    Ok(())
}

/// `CLIENT HELP`
pub fn client_help(context: &mut Context, args: &Args) -> Outcome {
    help::write(context.reply.output.near(), args.get(0), help::CLIENT);
    Ok(())
}
