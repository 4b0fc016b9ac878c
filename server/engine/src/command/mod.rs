//! Placeholder by the lead until the CODEC helper's table lands: overwrite this file.
#![allow(missing_docs)]
use crate::args::Args;
use crate::error::CommandError;
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CommandId { Get, Set, Ping }
pub struct CommandSpec { pub id: CommandId, pub full_name: &'static str }
static GET: CommandSpec = CommandSpec { id: CommandId::Get, full_name: "get" };
static SET: CommandSpec = CommandSpec { id: CommandId::Set, full_name: "set" };
static PING: CommandSpec = CommandSpec { id: CommandId::Ping, full_name: "ping" };
pub fn lookup(name: &[u8]) -> Option<&'static CommandSpec> {
    if name.eq_ignore_ascii_case(b"get") { Some(&GET) } else if name.eq_ignore_ascii_case(b"set") { Some(&SET) } else if name.eq_ignore_ascii_case(b"ping") { Some(&PING) } else { None }
}
pub fn unknown_command(_: &Args) -> CommandError { CommandError::SYNTAX }
impl CommandSpec {
    pub fn resolve(&'static self, _: &Args) -> Result<&'static CommandSpec, CommandError> { Ok(self) }
    pub fn check_arity(&self, _: usize) -> Result<(), CommandError> { Ok(()) }
    pub fn allowed_unauthenticated(&self) -> bool { false }
    pub fn denied_when_full(&self) -> bool { false }
}
