//! What the command table answers about itself: COMMAND and its subcommands.
//!
//! Refuses to know anything that is not in the table. The order of the rows is the table's, where Redis
//! gives that of its hash table; everything else is as in Redis.
//!
//! Source: `addReplyCommandInfo`, `addReplyCommandDocs`, `commandListCommand` of Redis 7.0.

use super::spec::{Arg, ArgFlag, Category, CommandSpec, Docs, FindKeys, KeySpec, Set, Word};
use super::table::COMMANDS;
use super::{CommandId, help, keys, lookup};
use crate::args::Args;
use crate::error::CommandError;
use crate::glob::{self, Case};
use crate::resp::encode;
use alloc::format;
use alloc::vec::Vec;

/// Appends the reply of COMMAND or of the subcommand of it that `id` is.
///
/// # Errors
/// Redis' text for what is wrong with the arguments.
/// # Panics
/// If `id` is another command.
pub fn reply(id: CommandId, out: &mut Vec<u8>, args: &Args, resp3: bool) -> Result<(), CommandError> {
    let reply = &mut Writer { out, resp3 };
    match id {
        CommandId::Command => infos(reply, None),
        CommandId::CommandInfo => infos(reply, (args.len() > 2).then_some(args)),
        CommandId::CommandCount => encode::integer(reply.out, COMMANDS.len() as i64),
        CommandId::CommandDocs => docs_of(reply, args),
        CommandId::CommandList => return list(reply, args),
        CommandId::CommandGetkeys => return get_keys(reply, args, false),
        CommandId::CommandGetkeysandflags => return get_keys(reply, args, true),
        CommandId::CommandHelp => help::write(reply.out, args.get(0), help::COMMAND),
        other => panic!("{other:?} is no subcommand of COMMAND"),
    }
    Ok(())
}

/// Where the reply goes and how it is written.
struct Writer<'a> {
    out: &'a mut Vec<u8>,
    resp3: bool,
}

impl Writer<'_> {
    fn array(&mut self, len: usize) {
        encode::array_len(self.out, len);
    }

    fn map(&mut self, pairs: usize) {
        encode::map_len(self.out, pairs, self.resp3);
    }

    fn set(&mut self, len: usize) {
        encode::set_len(self.out, len, self.resp3);
    }

    fn text(&mut self, text: &str) {
        encode::bulk(self.out, text.as_bytes());
    }

    fn integer(&mut self, value: impl Into<i64>) {
        encode::integer(self.out, value.into());
    }

    fn field(&mut self, name: &str, value: &str) {
        self.text(name);
        self.text(value);
    }

    /// A field that is there only if it has a value.
    fn field_if(&mut self, name: &str, value: Option<&str>) {
        if let Some(value) = value {
            self.field(name, value);
        }
    }

    fn number(&mut self, name: &str, value: i8) {
        self.text(name);
        self.integer(value);
    }

    fn words<T: Word>(&mut self, words: Set<T>) {
        self.set(words.len());
        words.iter().for_each(|word| encode::simple(self.out, word.word().as_bytes()));
    }
}

/// The row of `name` or `container|name`.
fn find(name: &[u8]) -> Option<&'static CommandSpec> {
    match name.iter().position(|&byte| byte == b'|') {
        None => lookup(name),
        Some(bar) => lookup(&name[..bar])?.subcommand(&name[bar + 1..]),
    }
}

/// The rows that are asked for by name, or all.
fn infos(reply: &mut Writer, names: Option<&Args>) {
    match names {
        None => {
            reply.array(COMMANDS.len());
            COMMANDS.iter().for_each(|spec| info(reply, spec));
        }
        Some(args) => {
            reply.array(args.len() - 2);
            for name in args.iter_from(2) {
                match find(name) {
                    Some(spec) => info(reply, spec),
                    None => encode::null(reply.out, reply.resp3),
                }
            }
        }
    }
}

fn info(reply: &mut Writer, spec: &CommandSpec) {
    reply.array(10);
    reply.text(spec.full_name);
    reply.integer(spec.arity);
    reply.words(spec.flags);
    let (first, last, step) = spec.key_range;
    [first, last, step].into_iter().for_each(|number| reply.integer(number));
    reply.set(spec.categories.len());
    for category in spec.categories.iter() {
        encode::simple(reply.out, format!("@{}", category.word()).as_bytes());
    }
    reply.set(spec.tips.len());
    spec.tips.iter().for_each(|tip| reply.text(tip));
    reply.set(spec.keys.len());
    spec.keys.iter().for_each(|keys| key_spec(reply, keys));
    if spec.subcommands.is_empty() {
        reply.set(0)
    } else {
        reply.array(spec.subcommands.len())
    }
    spec.subcommands.iter().for_each(|sub| info(reply, sub));
}

fn key_spec(reply: &mut Writer, keys: &KeySpec) {
    reply.map(3 + usize::from(keys.notes.is_some()));
    reply.field_if("notes", keys.notes);
    reply.text("flags");
    reply.words(keys.flags);
    reply.text("begin_search");
    reply.map(2);
    reply.field("type", "index");
    reply.text("spec");
    reply.map(1);
    reply.number("index", keys.begin);
    reply.text("find_keys");
    reply.map(2);
    let (kind, numbers) = match keys.find {
        FindKeys::Range { last, step, limit } => {
            ("range", [("lastkey", last), ("keystep", step), ("limit", limit)])
        }
        FindKeys::Keynum { count_at, first, step } => {
            ("keynum", [("keynumidx", count_at), ("firstkey", first), ("keystep", step)])
        }
    };
    reply.field("type", kind);
    reply.text("spec");
    reply.map(3);
    numbers.into_iter().for_each(|(name, value)| reply.number(name, value));
}

/// The documentation of the rows that are asked for by name and exist, or of all.
fn docs_of(reply: &mut Writer, args: &Args) {
    let named = |spec: &CommandSpec, reply: &mut Writer| {
        reply.text(spec.full_name);
        docs(reply, spec);
    };
    if args.len() == 2 {
        reply.map(COMMANDS.len());
        COMMANDS.iter().for_each(|spec| named(spec, reply));
    } else {
        reply.map(args.iter_from(2).filter_map(find).count());
        args.iter_from(2).filter_map(find).for_each(|spec| named(spec, reply));
    }
}

fn docs(reply: &mut Writer, spec: &CommandSpec) {
    let Docs { summary, since, group, complexity, deprecated, syscmd, history, arguments } = spec.docs;
    let optional = [
        complexity.is_some(),
        deprecated.is_some() || syscmd,
        deprecated.is_some(),
        deprecated.is_some(),
        !history.is_empty(),
        !arguments.is_empty(),
        !spec.subcommands.is_empty(),
    ];
    reply.map(3 + optional.iter().filter(|&&there| there).count());
    reply.field("summary", summary);
    reply.field("since", since);
    reply.field("group", group.word());
    reply.field_if("complexity", complexity);
    if deprecated.is_some() || syscmd {
        reply.text("doc_flags");
        reply.set(usize::from(deprecated.is_some()) + usize::from(syscmd));
        if deprecated.is_some() {
            encode::simple(reply.out, b"deprecated");
        }
        if syscmd {
            encode::simple(reply.out, b"syscmd");
        }
    }
    if let Some((since, replaced_by)) = deprecated {
        reply.field("deprecated_since", since);
        reply.field("replaced_by", replaced_by);
    }
    if !history.is_empty() {
        reply.text("history");
        reply.set(history.len());
        for (since, change) in history {
            reply.array(2);
            reply.field(since, change);
        }
    }
    if !arguments.is_empty() {
        reply.text("arguments");
        argument_list(reply, arguments);
    }
    if !spec.subcommands.is_empty() {
        reply.text("subcommands");
        reply.map(spec.subcommands.len());
        for sub in spec.subcommands {
            reply.text(sub.full_name);
            docs(reply, sub);
        }
    }
}

fn argument_list(reply: &mut Writer, arguments: &[Arg]) {
    reply.array(arguments.len());
    for Arg { name, kind, key_spec, token, since, deprecated_since, flags, arguments } in arguments {
        let optional = [
            key_spec.is_some(),
            token.is_some(),
            since.is_some(),
            deprecated_since.is_some(),
            !flags.is_empty(),
            !arguments.is_empty(),
        ];
        reply.map(2 + optional.iter().filter(|&&there| there).count());
        reply.field("name", name);
        reply.field("type", kind.word());
        if let Some(index) = key_spec {
            reply.text("key_spec_index");
            reply.integer(*index);
        }
        reply.field_if("token", *token);
        reply.field_if("since", *since);
        reply.field_if("deprecated_since", *deprecated_since);
        if !flags.is_empty() {
            reply.text("flags");
            reply.words::<ArgFlag>(*flags);
        }
        if !arguments.is_empty() {
            reply.text("arguments");
            argument_list(reply, arguments);
        }
    }
}

/// `COMMAND LIST [FILTERBY MODULE name | ACLCAT category | PATTERN pattern]`: the last filter counts.
fn list(reply: &mut Writer, args: &Args) -> Result<(), CommandError> {
    enum Filter<'a> {
        None,
        Nothing,
        Category(Category),
        Pattern(&'a [u8]),
    }
    let mut filter = Filter::None;
    let mut at = 2;
    while at < args.len() {
        // Redis wants a FILTERBY to be followed by exactly two words.
        if !args.is(at, "filterby") || args.len() - at != 3 {
            return Err(CommandError::SYNTAX);
        }
        let value = args.get(at + 2);
        filter = if args.is(at + 1, "module") {
            Filter::Nothing // there are no modules
        } else if args.is(at + 1, "aclcat") {
            let named = |category: &&Category| category.word().as_bytes().eq_ignore_ascii_case(value);
            Category::ALL.iter().find(named).map_or(Filter::Nothing, |&category| Filter::Category(category))
        } else if args.is(at + 1, "pattern") {
            Filter::Pattern(value)
        } else {
            return Err(CommandError::SYNTAX);
        };
        at += 3;
    }
    let wanted = |spec: &&CommandSpec| match filter {
        Filter::None => true,
        Filter::Nothing => false,
        Filter::Category(category) => spec.categories.has(category),
        Filter::Pattern(pattern) => glob::matches(pattern, spec.full_name.as_bytes(), Case::Ignored),
    };
    let all = || COMMANDS.iter().flat_map(|&spec| core::iter::once(spec).chain(spec.subcommands));
    reply.array(all().filter(wanted).count());
    all().filter(wanted).for_each(|spec| reply.text(spec.full_name));
    Ok(())
}

/// `COMMAND GETKEYS | GETKEYSANDFLAGS command [arg ...]`
fn get_keys(reply: &mut Writer, args: &Args, with_flags: bool) -> Result<(), CommandError> {
    let words: Vec<&[u8]> = args.iter_from(2).collect();
    let spec = lookup(words[0]).and_then(|spec| match words.get(1) {
        Some(sub) if !spec.subcommands.is_empty() => spec.subcommand(sub),
        _ => Some(spec),
    });
    let spec = spec.ok_or(CommandError::Text("ERR Invalid command specified"))?;
    if spec.keys.is_empty() {
        return Err(CommandError::Text("ERR The command has no key arguments"));
    }
    if !spec.fits_arity(words.len()) {
        return Err(CommandError::Text("ERR Invalid number of arguments specified for command"));
    }
    let mut found = Vec::new();
    keys::find(spec, &words, |at, flags| found.push((at, flags)))
        .ok_or(CommandError::Text("ERR Invalid arguments specified for command"))?;
    reply.array(found.len());
    for (at, flags) in found {
        if with_flags {
            reply.array(2);
        }
        encode::bulk(reply.out, words[at]);
        if with_flags {
            reply.words(flags);
        }
    }
    Ok(())
}
