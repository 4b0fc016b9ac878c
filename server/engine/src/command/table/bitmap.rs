//! The command table, group "bitmap": bits of strings.
//!
//! Source: COMMAND INFO and COMMAND DOCS of Redis 7.0.15, whose texts these are.

use super::super::spec::Flag::{Denyoom, Fast, Readonly, Write};
use super::super::spec::{Arg, ArgType, Category, CommandId, CommandSpec, Group, KeyFlag, KeySpec};

pub(super) const COMMANDS: &[CommandSpec] = &[
    CommandSpec::new("getbit", CommandId::Getbit, 3, Group::Bitmap, "2.2.0")
        .summary("Returns the bit value at offset in the string value stored at key")
        .complexity("O(1)")
        .flags(&[Readonly, Fast])
        .categories(&[Category::Bitmap])
        .keys(&[KeySpec::at(1, &[KeyFlag::Ro, KeyFlag::Access])])
        .arguments(&[Arg::new("key", ArgType::Key).key_spec(0), Arg::new("offset", ArgType::Integer)]),
    CommandSpec::new("setbit", CommandId::Setbit, 4, Group::Bitmap, "2.2.0")
        .summary("Sets or clears the bit at offset in the string value stored at key")
        .complexity("O(1)")
        .flags(&[Write, Denyoom])
        .categories(&[Category::Bitmap])
        .keys(&[KeySpec::at(1, &[KeyFlag::Rw, KeyFlag::Access, KeyFlag::Update])])
        .arguments(&[
            Arg::new("key", ArgType::Key).key_spec(0),
            Arg::new("offset", ArgType::Integer),
            Arg::new("value", ArgType::Integer),
        ]),
];
