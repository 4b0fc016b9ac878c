//! The table and what it answers, against texts of redis-server 7.0.15.

use super::introspect::reply;
use super::table::COMMANDS;
use super::*;
use crate::resp::decode::Span;
use alloc::string::String;
use alloc::vec::Vec;
use proptest::prelude::*;

/// Hands the words of `line` to `run` as arguments.
fn with_args<T>(line: &str, run: impl FnOnce(&Args) -> T) -> T {
    let mut at = 0;
    let mut spans = Vec::new();
    for word in line.split(' ') {
        spans.push(Span { start: at, len: word.len() as u32 });
        at += word.len() as u32 + 1;
    }
    run(&Args::new(line.as_bytes(), &spans, &[]))
}

/// What Redis would answer to `line`, were it a COMMAND.
fn answer(line: &str, resp3: bool) -> String {
    with_args(line, |args| {
        let mut out = Vec::new();
        let spec = lookup(args.get(0)).ok_or_else(|| unknown_command(args));
        let result = spec.and_then(|spec| spec.resolve(args)).and_then(|spec| {
            spec.check_arity(args.len())?;
            reply(spec.id, &mut out, args, resp3)
        });
        match result {
            Ok(()) => String::from_utf8(out).unwrap(),
            Err(error) => String::from_utf8_lossy(error.text()).into_owned(),
        }
    })
}

#[test]
fn every_command_is_found_by_its_name_in_any_case() {
    for &spec in &COMMANDS {
        assert!(core::ptr::eq(lookup(spec.name.as_bytes()).unwrap(), spec));
        assert!(core::ptr::eq(lookup(spec.name.to_ascii_uppercase().as_bytes()).unwrap(), spec));
        assert!(spec.name.bytes().all(|byte| byte.is_ascii_lowercase()), "folding tells letters only apart");
        for sub in spec.subcommands {
            assert_eq!(sub.full_name, format!("{}|{}", spec.name, sub.name));
            assert_eq!(spec.subcommand(sub.name.to_ascii_uppercase().as_bytes()).unwrap().id, sub.id);
        }
    }
}

#[test]
fn every_id_stands_in_the_table_once() {
    let rows = COMMANDS.iter().flat_map(|&spec| core::iter::once(spec).chain(spec.subcommands));
    let mut ids: Vec<u8> = rows.map(|spec| spec.id as u8).collect();
    ids.sort_unstable();
    assert_eq!(ids, (0..ids.len() as u8).collect::<Vec<_>>());
    assert_eq!(ids.last(), Some(&(CommandId::FarmemStats as u8)), "the last id of the enum");
}

#[test]
fn what_is_no_name_finds_nothing() {
    for name in [
        "",
        "ge",
        "gett",
        "g\x05t",
        "incrbyfloaT ",
        "incrbyfloas",
        "randomkex",
        "config|get",
        "\0",
        "getrangegetrange",
    ] {
        assert!(lookup(name.as_bytes()).is_none(), "{name:?}");
    }
}

#[test]
fn a_wrong_command_gets_the_words_of_redis() {
    for (line, text) in [
        ("foo a b", "ERR unknown command 'foo', with args beginning with: 'a' 'b' "),
        ("foo", "ERR unknown command 'foo', with args beginning with: "),
        ("COMMAND foo", "ERR unknown subcommand 'foo'. Try COMMAND HELP."),
        ("config", "ERR wrong number of arguments for 'config' command"),
        ("GET", "ERR wrong number of arguments for 'get' command"),
        ("COMMAND COUNT 1", "ERR wrong number of arguments for 'command|count' command"),
        ("COMMAND GETKEYS", "ERR wrong number of arguments for 'command|getkeys' command"),
        ("COMMAND GETKEYS get a b", "ERR Invalid number of arguments specified for command"),
        ("COMMAND GETKEYS nope b", "ERR Invalid command specified"),
        ("COMMAND GETKEYS ping b", "ERR The command has no key arguments"),
        ("COMMAND GETKEYS lmpop 0 a left", "ERR Invalid arguments specified for command"),
        ("COMMAND GETKEYS lmpop 5 a left", "ERR Invalid arguments specified for command"),
        ("COMMAND GETKEYS lmpop 9223372036854775807 a left", "ERR Invalid arguments specified for command"),
        ("COMMAND LIST FILTERBY", "ERR syntax error"),
        ("COMMAND LIST FILTERBY foo bar", "ERR syntax error"),
    ] {
        assert_eq!(answer(line, false), text, "{line}");
    }
}

#[test]
fn an_unknown_command_is_repeated_up_to_128_bytes() {
    let long = "x".repeat(200);
    let text = with_args(&format!("{long} {long} y"), |args| {
        String::from_utf8_lossy(unknown_command(args).text()).into_owned()
    });
    let x = "x".repeat(128);
    assert_eq!(text, format!("ERR unknown command '{x}', with args beginning with: '{x}' "));
}

#[test]
fn keys_are_where_the_specs_say() {
    for (line, expected) in [
        ("COMMAND GETKEYS get a", "*1\r\n$1\r\na\r\n"),
        ("COMMAND GETKEYS mset a b c", "*2\r\n$1\r\na\r\n$1\r\nc\r\n"),
        ("COMMAND GETKEYS lcs a b", "*2\r\n$1\r\na\r\n$1\r\nb\r\n"),
        ("COMMAND GETKEYS del a b c", "*3\r\n$1\r\na\r\n$1\r\nb\r\n$1\r\nc\r\n"),
        ("COMMAND GETKEYS lmpop 2 a b left", "*2\r\n$1\r\na\r\n$1\r\nb\r\n"),
        ("COMMAND GETKEYS rename a b", "*2\r\n$1\r\na\r\n$1\r\nb\r\n"),
        ("COMMAND GETKEYS object encoding x", "*1\r\n$1\r\nx\r\n"),
        ("COMMAND GETKEYSANDFLAGS set a b get", "*1\r\n*2\r\n$1\r\na\r\n*3\r\n+RW\r\n+access\r\n+update\r\n"),
        ("COMMAND GETKEYSANDFLAGS set a b", "*1\r\n*2\r\n$1\r\na\r\n*2\r\n+OW\r\n+update\r\n"),
    ] {
        assert_eq!(answer(line, false), expected, "{line}");
    }
}

#[test]
fn lists_are_filtered() {
    assert_eq!(answer("COMMAND LIST FILTERBY PATTERN DEB*", false), "*1\r\n$5\r\ndebug\r\n");
    assert_eq!(answer("COMMAND LIST FILTERBY PATTERN config|g*", false), "*1\r\n$10\r\nconfig|get\r\n");
    assert_eq!(
        answer("COMMAND LIST FILTERBY ACLCAT bitmap", false),
        "*2\r\n$6\r\ngetbit\r\n$6\r\nsetbit\r\n"
    );
    assert_eq!(answer("COMMAND LIST FILTERBY ACLCAT nope", false), "*0\r\n");
    assert_eq!(answer("COMMAND LIST FILTERBY MODULE nope", false), "*0\r\n");
}

#[test]
fn a_row_reads_as_in_redis() {
    let get = "*10\r\n$3\r\nget\r\n:2\r\n~2\r\n+readonly\r\n+fast\r\n:1\r\n:1\r\n:1\r\n~3\r\n+@read\r\n+@string\r\n+@fast\r\n~0\r\n\
        ~1\r\n%3\r\n$5\r\nflags\r\n~2\r\n+RO\r\n+access\r\n$12\r\nbegin_search\r\n%2\r\n$4\r\ntype\r\n$5\r\nindex\r\n$4\r\nspec\r\n%1\r\n$5\r\nindex\r\n:1\r\n\
        $9\r\nfind_keys\r\n%2\r\n$4\r\ntype\r\n$5\r\nrange\r\n$4\r\nspec\r\n%3\r\n$7\r\nlastkey\r\n:0\r\n$7\r\nkeystep\r\n:1\r\n$5\r\nlimit\r\n:0\r\n~0\r\n";
    assert_eq!(answer("COMMAND INFO get", true), format!("*1\r\n{get}"));
    assert_eq!(answer("COMMAND INFO nope config|nope", true), "*2\r\n_\r\n_\r\n");
    assert_eq!(answer("COMMAND INFO nope", false), "*1\r\n$-1\r\n");
    let docs = "%1\r\n$6\r\nappend\r\n";
    assert!(answer("COMMAND DOCS nope append", true).starts_with(docs), "unknown names are left out");
}

proptest! {
    #[test]
    fn lookup_agrees_with_a_plain_search(name in "[a-zA-Z]{1,12}") {
        let plain = COMMANDS.iter().find(|spec| spec.name.eq_ignore_ascii_case(&name));
        prop_assert_eq!(lookup(name.as_bytes()).map(|spec| spec.id), plain.map(|spec| spec.id));
    }

    #[test]
    fn getkeys_of_anything_never_panics(
        command in 0..COMMANDS.len(),
        words in prop::collection::vec("[-0-9a-z]{0,3}", 0..6),
    ) {
        answer(&format!("COMMAND GETKEYSANDFLAGS {} {}", COMMANDS[command].name, words.join(" ")), true);
    }
}
