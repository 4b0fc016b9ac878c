//! The command table, group "generic": keys of any type.
//!
//! Source: COMMAND INFO and COMMAND DOCS of Redis 7.0.15, whose texts these are.

use super::super::spec::Flag::{Denyoom, Fast, Loading, Readonly, Stale, Write};
use super::super::spec::{Arg, ArgType, Category, CommandId, CommandSpec, Group, KeyFlag, KeySpec};

pub(super) const COMMANDS: &[CommandSpec] = &[
    CommandSpec::new("copy", CommandId::Copy, -3, Group::Generic, "6.2.0")
        .summary("Copy a key")
        .complexity(
            "O(N) worst case for collections, where N is the number of nested items. \
O(1) for string values.",
        )
        .flags(&[Write, Denyoom])
        .categories(&[Category::Keyspace])
        .keys(&[
            KeySpec::at(1, &[KeyFlag::Ro, KeyFlag::Access]),
            KeySpec::at(2, &[KeyFlag::Ow, KeyFlag::Update]),
        ])
        .range(1, 2, 1)
        .arguments(&[
            Arg::new("source", ArgType::Key).key_spec(0),
            Arg::new("destination", ArgType::Key).key_spec(1),
            Arg::new("destination-db", ArgType::Integer).token("DB").optional(),
            Arg::new("replace", ArgType::PureToken).token("REPLACE").optional(),
        ]),
    CommandSpec::new("del", CommandId::Del, -2, Group::Generic, "1.0.0")
        .summary("Delete a key")
        .complexity(
            "O(N) where N is the number of keys that will be removed. When a key to \
remove holds a value other than a string, the individual complexity for \
this key is O(M) where M is the number of elements in the list, set, \
sorted set or hash. Removing a single key that holds a string value is \
O(1).",
        )
        .flags(&[Write])
        .categories(&[Category::Keyspace])
        .tips(&["request_policy:multi_shard", "response_policy:agg_sum"])
        .keys(&[KeySpec::at(1, &[KeyFlag::Rm, KeyFlag::Delete]).range(-1, 1, 0)])
        .arguments(&[Arg::new("key", ArgType::Key).key_spec(0).multiple()]),
    CommandSpec::new("exists", CommandId::Exists, -2, Group::Generic, "1.0.0")
        .summary("Determine if a key exists")
        .complexity("O(N) where N is the number of keys to check.")
        .flags(&[Readonly, Fast])
        .categories(&[Category::Keyspace])
        .tips(&["request_policy:multi_shard", "response_policy:agg_sum"])
        .keys(&[KeySpec::at(1, &[KeyFlag::Ro]).range(-1, 1, 0)])
        .history(&[("3.0.3", "Accepts multiple `key` arguments.")])
        .arguments(&[Arg::new("key", ArgType::Key).key_spec(0).multiple()]),
    CommandSpec::new("expire", CommandId::Expire, -3, Group::Generic, "1.0.0")
        .summary("Set a key's time to live in seconds")
        .complexity("O(1)")
        .flags(&[Write, Fast])
        .categories(&[Category::Keyspace])
        .keys(&[KeySpec::at(1, &[KeyFlag::Rw, KeyFlag::Update])])
        .history(&[("7.0.0", "Added options: `NX`, `XX`, `GT` and `LT`.")])
        .arguments(&[
            Arg::new("key", ArgType::Key).key_spec(0),
            Arg::new("seconds", ArgType::Integer),
            Arg::new("condition", ArgType::Oneof).since("7.0.0").optional().of(&[
                Arg::new("nx", ArgType::PureToken).token("NX"),
                Arg::new("xx", ArgType::PureToken).token("XX"),
                Arg::new("gt", ArgType::PureToken).token("GT"),
                Arg::new("lt", ArgType::PureToken).token("LT"),
            ]),
        ]),
    CommandSpec::new("expireat", CommandId::Expireat, -3, Group::Generic, "1.2.0")
        .summary("Set the expiration for a key as a UNIX timestamp")
        .complexity("O(1)")
        .flags(&[Write, Fast])
        .categories(&[Category::Keyspace])
        .keys(&[KeySpec::at(1, &[KeyFlag::Rw, KeyFlag::Update])])
        .history(&[("7.0.0", "Added options: `NX`, `XX`, `GT` and `LT`.")])
        .arguments(&[
            Arg::new("key", ArgType::Key).key_spec(0),
            Arg::new("unix-time-seconds", ArgType::UnixTime),
            Arg::new("condition", ArgType::Oneof).since("7.0.0").optional().of(&[
                Arg::new("nx", ArgType::PureToken).token("NX"),
                Arg::new("xx", ArgType::PureToken).token("XX"),
                Arg::new("gt", ArgType::PureToken).token("GT"),
                Arg::new("lt", ArgType::PureToken).token("LT"),
            ]),
        ]),
    CommandSpec::new("expiretime", CommandId::Expiretime, 2, Group::Generic, "7.0.0")
        .summary("Get the expiration Unix timestamp for a key")
        .complexity("O(1)")
        .flags(&[Readonly, Fast])
        .categories(&[Category::Keyspace])
        .keys(&[KeySpec::at(1, &[KeyFlag::Ro, KeyFlag::Access])])
        .arguments(&[Arg::new("key", ArgType::Key).key_spec(0)]),
    CommandSpec::new("keys", CommandId::Keys, 2, Group::Generic, "1.0.0")
        .summary("Find all keys matching the given pattern")
        .complexity(
            "O(N) with N being the number of keys in the database, under the \
assumption that the key names in the database and the given pattern have \
limited length.",
        )
        .flags(&[Readonly])
        .categories(&[Category::Keyspace, Category::Dangerous])
        .tips(&["request_policy:all_shards", "nondeterministic_output_order"])
        .arguments(&[Arg::new("pattern", ArgType::Pattern)]),
    CommandSpec::new("move", CommandId::Move, 3, Group::Generic, "1.0.0")
        .summary("Move a key to another database")
        .complexity("O(1)")
        .flags(&[Write, Fast])
        .categories(&[Category::Keyspace])
        .keys(&[KeySpec::at(1, &[KeyFlag::Rw, KeyFlag::Access, KeyFlag::Update])])
        .arguments(&[Arg::new("key", ArgType::Key).key_spec(0), Arg::new("db", ArgType::Integer)]),
    CommandSpec::new("object", CommandId::Object, -2, Group::Generic, "2.2.3")
        .summary("A container for object introspection commands")
        .complexity("Depends on subcommand.")
        .subcommands(&[
            CommandSpec::new("object|encoding", CommandId::ObjectEncoding, 3, Group::Generic, "2.2.3")
                .summary("Inspect the internal encoding of a Redis object")
                .complexity("O(1)")
                .flags(&[Readonly])
                .categories(&[Category::Keyspace])
                .tips(&["nondeterministic_output"])
                .keys(&[KeySpec::at(2, &[KeyFlag::Ro])])
                .arguments(&[Arg::new("key", ArgType::Key).key_spec(0)]),
            CommandSpec::new("object|freq", CommandId::ObjectFreq, 3, Group::Generic, "4.0.0")
                .summary("Get the logarithmic access frequency counter of a Redis object")
                .complexity("O(1)")
                .flags(&[Readonly])
                .categories(&[Category::Keyspace])
                .tips(&["nondeterministic_output"])
                .keys(&[KeySpec::at(2, &[KeyFlag::Ro])])
                .arguments(&[Arg::new("key", ArgType::Key).key_spec(0)]),
            CommandSpec::new("object|help", CommandId::ObjectHelp, 2, Group::Generic, "6.2.0")
                .summary("Show helpful text about the different subcommands")
                .complexity("O(1)")
                .flags(&[Loading, Stale])
                .categories(&[Category::Keyspace]),
            CommandSpec::new("object|idletime", CommandId::ObjectIdletime, 3, Group::Generic, "2.2.3")
                .summary("Get the time since a Redis object was last accessed")
                .complexity("O(1)")
                .flags(&[Readonly])
                .categories(&[Category::Keyspace])
                .tips(&["nondeterministic_output"])
                .keys(&[KeySpec::at(2, &[KeyFlag::Ro])])
                .arguments(&[Arg::new("key", ArgType::Key).key_spec(0)]),
            CommandSpec::new("object|refcount", CommandId::ObjectRefcount, 3, Group::Generic, "2.2.3")
                .summary("Get the number of references to the value of the key")
                .complexity("O(1)")
                .flags(&[Readonly])
                .categories(&[Category::Keyspace])
                .tips(&["nondeterministic_output"])
                .keys(&[KeySpec::at(2, &[KeyFlag::Ro])])
                .arguments(&[Arg::new("key", ArgType::Key).key_spec(0)]),
        ]),
    CommandSpec::new("persist", CommandId::Persist, 2, Group::Generic, "2.2.0")
        .summary("Remove the expiration from a key")
        .complexity("O(1)")
        .flags(&[Write, Fast])
        .categories(&[Category::Keyspace])
        .keys(&[KeySpec::at(1, &[KeyFlag::Rw, KeyFlag::Update])])
        .arguments(&[Arg::new("key", ArgType::Key).key_spec(0)]),
    CommandSpec::new("pexpire", CommandId::Pexpire, -3, Group::Generic, "2.6.0")
        .summary("Set a key's time to live in milliseconds")
        .complexity("O(1)")
        .flags(&[Write, Fast])
        .categories(&[Category::Keyspace])
        .keys(&[KeySpec::at(1, &[KeyFlag::Rw, KeyFlag::Update])])
        .history(&[("7.0.0", "Added options: `NX`, `XX`, `GT` and `LT`.")])
        .arguments(&[
            Arg::new("key", ArgType::Key).key_spec(0),
            Arg::new("milliseconds", ArgType::Integer),
            Arg::new("condition", ArgType::Oneof).since("7.0.0").optional().of(&[
                Arg::new("nx", ArgType::PureToken).token("NX"),
                Arg::new("xx", ArgType::PureToken).token("XX"),
                Arg::new("gt", ArgType::PureToken).token("GT"),
                Arg::new("lt", ArgType::PureToken).token("LT"),
            ]),
        ]),
    CommandSpec::new("pexpireat", CommandId::Pexpireat, -3, Group::Generic, "2.6.0")
        .summary(
            "Set the expiration for a key as a UNIX timestamp specified in \
milliseconds",
        )
        .complexity("O(1)")
        .flags(&[Write, Fast])
        .categories(&[Category::Keyspace])
        .keys(&[KeySpec::at(1, &[KeyFlag::Rw, KeyFlag::Update])])
        .history(&[("7.0.0", "Added options: `NX`, `XX`, `GT` and `LT`.")])
        .arguments(&[
            Arg::new("key", ArgType::Key).key_spec(0),
            Arg::new("unix-time-milliseconds", ArgType::UnixTime),
            Arg::new("condition", ArgType::Oneof).since("7.0.0").optional().of(&[
                Arg::new("nx", ArgType::PureToken).token("NX"),
                Arg::new("xx", ArgType::PureToken).token("XX"),
                Arg::new("gt", ArgType::PureToken).token("GT"),
                Arg::new("lt", ArgType::PureToken).token("LT"),
            ]),
        ]),
    CommandSpec::new("pexpiretime", CommandId::Pexpiretime, 2, Group::Generic, "7.0.0")
        .summary("Get the expiration Unix timestamp for a key in milliseconds")
        .complexity("O(1)")
        .flags(&[Readonly, Fast])
        .categories(&[Category::Keyspace])
        .keys(&[KeySpec::at(1, &[KeyFlag::Ro, KeyFlag::Access])])
        .arguments(&[Arg::new("key", ArgType::Key).key_spec(0)]),
    CommandSpec::new("pttl", CommandId::Pttl, 2, Group::Generic, "2.6.0")
        .summary("Get the time to live for a key in milliseconds")
        .complexity("O(1)")
        .flags(&[Readonly, Fast])
        .categories(&[Category::Keyspace])
        .tips(&["nondeterministic_output"])
        .keys(&[KeySpec::at(1, &[KeyFlag::Ro, KeyFlag::Access])])
        .history(&[("2.8.0", "Added the -2 reply.")])
        .arguments(&[Arg::new("key", ArgType::Key).key_spec(0)]),
    CommandSpec::new("randomkey", CommandId::Randomkey, 1, Group::Generic, "1.0.0")
        .summary("Return a random key from the keyspace")
        .complexity("O(1)")
        .flags(&[Readonly])
        .categories(&[Category::Keyspace])
        .tips(&["request_policy:all_shards", "nondeterministic_output"]),
    CommandSpec::new("rename", CommandId::Rename, 3, Group::Generic, "1.0.0")
        .summary("Rename a key")
        .complexity("O(1)")
        .flags(&[Write])
        .categories(&[Category::Keyspace])
        .keys(&[
            KeySpec::at(1, &[KeyFlag::Rw, KeyFlag::Access, KeyFlag::Delete]),
            KeySpec::at(2, &[KeyFlag::Ow, KeyFlag::Update]),
        ])
        .range(1, 2, 1)
        .arguments(&[
            Arg::new("key", ArgType::Key).key_spec(0),
            Arg::new("newkey", ArgType::Key).key_spec(1),
        ]),
    CommandSpec::new("renamenx", CommandId::Renamenx, 3, Group::Generic, "1.0.0")
        .summary("Rename a key, only if the new key does not exist")
        .complexity("O(1)")
        .flags(&[Write, Fast])
        .categories(&[Category::Keyspace])
        .keys(&[
            KeySpec::at(1, &[KeyFlag::Rw, KeyFlag::Access, KeyFlag::Delete]),
            KeySpec::at(2, &[KeyFlag::Ow, KeyFlag::Insert]),
        ])
        .range(1, 2, 1)
        .history(&[(
            "3.2.0",
            "The command no longer returns an error when source and destination names \
are the same.",
        )])
        .arguments(&[
            Arg::new("key", ArgType::Key).key_spec(0),
            Arg::new("newkey", ArgType::Key).key_spec(1),
        ]),
    CommandSpec::new("scan", CommandId::Scan, -2, Group::Generic, "2.8.0")
        .summary("Incrementally iterate the keys space")
        .complexity(
            "O(1) for every call. O(N) for a complete iteration, including enough \
command calls for the cursor to return back to 0. N is the number of \
elements inside the collection.",
        )
        .flags(&[Readonly])
        .categories(&[Category::Keyspace])
        .tips(&["nondeterministic_output", "request_policy:special"])
        .history(&[("6.0.0", "Added the `TYPE` subcommand.")])
        .arguments(&[
            Arg::new("cursor", ArgType::Integer),
            Arg::new("pattern", ArgType::Pattern).token("MATCH").optional(),
            Arg::new("count", ArgType::Integer).token("COUNT").optional(),
            Arg::new("type", ArgType::String).token("TYPE").since("6.0.0").optional(),
        ]),
    CommandSpec::new("touch", CommandId::Touch, -2, Group::Generic, "3.2.1")
        .summary(
            "Alters the last access time of a key(s). Returns the number of existing \
keys specified.",
        )
        .complexity("O(N) where N is the number of keys that will be touched.")
        .flags(&[Readonly, Fast])
        .categories(&[Category::Keyspace])
        .tips(&["request_policy:multi_shard", "response_policy:agg_sum"])
        .keys(&[KeySpec::at(1, &[KeyFlag::Ro]).range(-1, 1, 0)])
        .arguments(&[Arg::new("key", ArgType::Key).key_spec(0).multiple()]),
    CommandSpec::new("ttl", CommandId::Ttl, 2, Group::Generic, "1.0.0")
        .summary("Get the time to live for a key in seconds")
        .complexity("O(1)")
        .flags(&[Readonly, Fast])
        .categories(&[Category::Keyspace])
        .tips(&["nondeterministic_output"])
        .keys(&[KeySpec::at(1, &[KeyFlag::Ro, KeyFlag::Access])])
        .history(&[("2.8.0", "Added the -2 reply.")])
        .arguments(&[Arg::new("key", ArgType::Key).key_spec(0)]),
    CommandSpec::new("type", CommandId::Type, 2, Group::Generic, "1.0.0")
        .summary("Determine the type stored at key")
        .complexity("O(1)")
        .flags(&[Readonly, Fast])
        .categories(&[Category::Keyspace])
        .keys(&[KeySpec::at(1, &[KeyFlag::Ro])])
        .arguments(&[Arg::new("key", ArgType::Key).key_spec(0)]),
    CommandSpec::new("unlink", CommandId::Unlink, -2, Group::Generic, "4.0.0")
        .summary(
            "Delete a key asynchronously in another thread. Otherwise it is just as \
DEL, but non blocking.",
        )
        .complexity(
            "O(1) for each key removed regardless of its size. Then the command does \
O(N) work in a different thread in order to reclaim memory, where N is \
the number of allocations the deleted objects where composed of.",
        )
        .flags(&[Write, Fast])
        .categories(&[Category::Keyspace])
        .tips(&["request_policy:multi_shard", "response_policy:agg_sum"])
        .keys(&[KeySpec::at(1, &[KeyFlag::Rm, KeyFlag::Delete]).range(-1, 1, 0)])
        .arguments(&[Arg::new("key", ArgType::Key).key_spec(0).multiple()]),
];
