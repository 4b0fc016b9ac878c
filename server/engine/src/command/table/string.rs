//! The command table, group "string": strings.
//!
//! Source: COMMAND INFO and COMMAND DOCS of Redis 7.0.15, whose texts these are.

use super::super::spec::Flag::{Denyoom, Fast, Readonly, Write};
use super::super::spec::{Arg, ArgType, Category, CommandId, CommandSpec, Group, KeyFlag, KeySpec};

pub(super) const COMMANDS: &[CommandSpec] = &[
    CommandSpec::new("append", CommandId::Append, 3, Group::String, "2.0.0")
        .summary("Append a value to a key")
        .complexity(
            "O(1). The amortized time complexity is O(1) assuming the appended value \
is small and the already present value is of any size, since the dynamic \
string library used by Redis will double the free space available on \
every reallocation.",
        )
        .flags(&[Write, Denyoom, Fast])
        .categories(&[Category::String])
        .keys(&[KeySpec::at(1, &[KeyFlag::Rw, KeyFlag::Insert])])
        .arguments(&[Arg::new("key", ArgType::Key).key_spec(0), Arg::new("value", ArgType::String)]),
    CommandSpec::new("decr", CommandId::Decr, 2, Group::String, "1.0.0")
        .summary("Decrement the integer value of a key by one")
        .complexity("O(1)")
        .flags(&[Write, Denyoom, Fast])
        .categories(&[Category::String])
        .keys(&[KeySpec::at(1, &[KeyFlag::Rw, KeyFlag::Access, KeyFlag::Update])])
        .arguments(&[Arg::new("key", ArgType::Key).key_spec(0)]),
    CommandSpec::new("decrby", CommandId::Decrby, 3, Group::String, "1.0.0")
        .summary("Decrement the integer value of a key by the given number")
        .complexity("O(1)")
        .flags(&[Write, Denyoom, Fast])
        .categories(&[Category::String])
        .keys(&[KeySpec::at(1, &[KeyFlag::Rw, KeyFlag::Access, KeyFlag::Update])])
        .arguments(&[Arg::new("key", ArgType::Key).key_spec(0), Arg::new("decrement", ArgType::Integer)]),
    CommandSpec::new("get", CommandId::Get, 2, Group::String, "1.0.0")
        .summary("Get the value of a key")
        .complexity("O(1)")
        .flags(&[Readonly, Fast])
        .categories(&[Category::String])
        .keys(&[KeySpec::at(1, &[KeyFlag::Ro, KeyFlag::Access])])
        .arguments(&[Arg::new("key", ArgType::Key).key_spec(0)]),
    CommandSpec::new("getdel", CommandId::Getdel, 2, Group::String, "6.2.0")
        .summary("Get the value of a key and delete the key")
        .complexity("O(1)")
        .flags(&[Write, Fast])
        .categories(&[Category::String])
        .keys(&[KeySpec::at(1, &[KeyFlag::Rw, KeyFlag::Access, KeyFlag::Delete])])
        .arguments(&[Arg::new("key", ArgType::Key).key_spec(0)]),
    CommandSpec::new("getex", CommandId::Getex, -2, Group::String, "6.2.0")
        .summary("Get the value of a key and optionally set its expiration")
        .complexity("O(1)")
        .flags(&[Write, Fast])
        .categories(&[Category::String])
        .keys(&[KeySpec::at(1, &[KeyFlag::Rw, KeyFlag::Access, KeyFlag::Update])
            .notes("RW and UPDATE because it changes the TTL")])
        .arguments(&[
            Arg::new("key", ArgType::Key).key_spec(0),
            Arg::new("expiration", ArgType::Oneof).optional().of(&[
                Arg::new("seconds", ArgType::Integer).token("EX"),
                Arg::new("milliseconds", ArgType::Integer).token("PX"),
                Arg::new("unix-time-seconds", ArgType::UnixTime).token("EXAT"),
                Arg::new("unix-time-milliseconds", ArgType::UnixTime).token("PXAT"),
                Arg::new("persist", ArgType::PureToken).token("PERSIST"),
            ]),
        ]),
    CommandSpec::new("getrange", CommandId::Getrange, 4, Group::String, "2.4.0")
        .summary("Get a substring of the string stored at a key")
        .complexity(
            "O(N) where N is the length of the returned string. The complexity is \
ultimately determined by the returned length, but because creating a \
substring from an existing string is very cheap, it can be considered \
O(1) for small strings.",
        )
        .flags(&[Readonly])
        .categories(&[Category::String])
        .keys(&[KeySpec::at(1, &[KeyFlag::Ro, KeyFlag::Access])])
        .arguments(&[
            Arg::new("key", ArgType::Key).key_spec(0),
            Arg::new("start", ArgType::Integer),
            Arg::new("end", ArgType::Integer),
        ]),
    CommandSpec::new("getset", CommandId::Getset, 3, Group::String, "1.0.0")
        .summary("Set the string value of a key and return its old value")
        .complexity("O(1)")
        .flags(&[Write, Denyoom, Fast])
        .categories(&[Category::String])
        .keys(&[KeySpec::at(1, &[KeyFlag::Rw, KeyFlag::Access, KeyFlag::Update])])
        .deprecated("6.2.0", "`SET` with the `!GET` argument")
        .arguments(&[Arg::new("key", ArgType::Key).key_spec(0), Arg::new("value", ArgType::String)]),
    CommandSpec::new("incr", CommandId::Incr, 2, Group::String, "1.0.0")
        .summary("Increment the integer value of a key by one")
        .complexity("O(1)")
        .flags(&[Write, Denyoom, Fast])
        .categories(&[Category::String])
        .keys(&[KeySpec::at(1, &[KeyFlag::Rw, KeyFlag::Access, KeyFlag::Update])])
        .arguments(&[Arg::new("key", ArgType::Key).key_spec(0)]),
    CommandSpec::new("incrby", CommandId::Incrby, 3, Group::String, "1.0.0")
        .summary("Increment the integer value of a key by the given amount")
        .complexity("O(1)")
        .flags(&[Write, Denyoom, Fast])
        .categories(&[Category::String])
        .keys(&[KeySpec::at(1, &[KeyFlag::Rw, KeyFlag::Access, KeyFlag::Update])])
        .arguments(&[Arg::new("key", ArgType::Key).key_spec(0), Arg::new("increment", ArgType::Integer)]),
    CommandSpec::new("incrbyfloat", CommandId::Incrbyfloat, 3, Group::String, "2.6.0")
        .summary("Increment the float value of a key by the given amount")
        .complexity("O(1)")
        .flags(&[Write, Denyoom, Fast])
        .categories(&[Category::String])
        .keys(&[KeySpec::at(1, &[KeyFlag::Rw, KeyFlag::Access, KeyFlag::Update])])
        .arguments(&[Arg::new("key", ArgType::Key).key_spec(0), Arg::new("increment", ArgType::Double)]),
    CommandSpec::new("lcs", CommandId::Lcs, -3, Group::String, "7.0.0")
        .summary("Find longest common substring")
        .complexity("O(N*M) where N and M are the lengths of s1 and s2, respectively")
        .flags(&[Readonly])
        .categories(&[Category::String])
        .keys(&[KeySpec::at(1, &[KeyFlag::Ro, KeyFlag::Access]).range(1, 1, 0)])
        .arguments(&[
            Arg::new("key1", ArgType::Key).key_spec(0),
            Arg::new("key2", ArgType::Key).key_spec(0),
            Arg::new("len", ArgType::PureToken).token("LEN").optional(),
            Arg::new("idx", ArgType::PureToken).token("IDX").optional(),
            Arg::new("len", ArgType::Integer).token("MINMATCHLEN").optional(),
            Arg::new("withmatchlen", ArgType::PureToken).token("WITHMATCHLEN").optional(),
        ]),
    CommandSpec::new("mget", CommandId::Mget, -2, Group::String, "1.0.0")
        .summary("Get the values of all the given keys")
        .complexity("O(N) where N is the number of keys to retrieve.")
        .flags(&[Readonly, Fast])
        .categories(&[Category::String])
        .tips(&["request_policy:multi_shard"])
        .keys(&[KeySpec::at(1, &[KeyFlag::Ro, KeyFlag::Access]).range(-1, 1, 0)])
        .arguments(&[Arg::new("key", ArgType::Key).key_spec(0).multiple()]),
    CommandSpec::new("mset", CommandId::Mset, -3, Group::String, "1.0.1")
        .summary("Set multiple keys to multiple values")
        .complexity("O(N) where N is the number of keys to set.")
        .flags(&[Write, Denyoom])
        .categories(&[Category::String])
        .tips(&["request_policy:multi_shard", "response_policy:all_succeeded"])
        .keys(&[KeySpec::at(1, &[KeyFlag::Ow, KeyFlag::Update]).range(-1, 2, 0)])
        .arguments(&[Arg::new("key_value", ArgType::Block)
            .multiple()
            .of(&[Arg::new("key", ArgType::Key).key_spec(0), Arg::new("value", ArgType::String)])]),
    CommandSpec::new("msetnx", CommandId::Msetnx, -3, Group::String, "1.0.1")
        .summary("Set multiple keys to multiple values, only if none of the keys exist")
        .complexity("O(N) where N is the number of keys to set.")
        .flags(&[Write, Denyoom])
        .categories(&[Category::String])
        .tips(&["request_policy:multi_shard", "response_policy:agg_min"])
        .keys(&[KeySpec::at(1, &[KeyFlag::Ow, KeyFlag::Insert]).range(-1, 2, 0)])
        .arguments(&[Arg::new("key_value", ArgType::Block)
            .multiple()
            .of(&[Arg::new("key", ArgType::Key).key_spec(0), Arg::new("value", ArgType::String)])]),
    CommandSpec::new("psetex", CommandId::Psetex, 4, Group::String, "2.6.0")
        .summary("Set the value and expiration in milliseconds of a key")
        .complexity("O(1)")
        .flags(&[Write, Denyoom])
        .categories(&[Category::String])
        .keys(&[KeySpec::at(1, &[KeyFlag::Ow, KeyFlag::Update])])
        .arguments(&[
            Arg::new("key", ArgType::Key).key_spec(0),
            Arg::new("milliseconds", ArgType::Integer),
            Arg::new("value", ArgType::String),
        ]),
    CommandSpec::new("set", CommandId::Set, -3, Group::String, "1.0.0")
        .summary("Set the string value of a key")
        .complexity("O(1)")
        .flags(&[Write, Denyoom])
        .categories(&[Category::String])
        .keys(&[KeySpec::at(1, &[KeyFlag::Rw, KeyFlag::Access, KeyFlag::Update, KeyFlag::VariableFlags])
            .notes("RW and ACCESS due to the optional `GET` argument")])
        .history(&[
            ("2.6.12", "Added the `EX`, `PX`, `NX` and `XX` options."),
            ("6.0.0", "Added the `KEEPTTL` option."),
            ("6.2.0", "Added the `GET`, `EXAT` and `PXAT` option."),
            ("7.0.0", "Allowed the `NX` and `GET` options to be used together."),
        ])
        .arguments(&[
            Arg::new("key", ArgType::Key).key_spec(0),
            Arg::new("value", ArgType::String),
            Arg::new("condition", ArgType::Oneof).since("2.6.12").optional().of(&[
                Arg::new("nx", ArgType::PureToken).token("NX"),
                Arg::new("xx", ArgType::PureToken).token("XX"),
            ]),
            Arg::new("get", ArgType::PureToken).token("GET").since("6.2.0").optional(),
            Arg::new("expiration", ArgType::Oneof).optional().of(&[
                Arg::new("seconds", ArgType::Integer).token("EX").since("2.6.12"),
                Arg::new("milliseconds", ArgType::Integer).token("PX").since("2.6.12"),
                Arg::new("unix-time-seconds", ArgType::UnixTime).token("EXAT").since("6.2.0"),
                Arg::new("unix-time-milliseconds", ArgType::UnixTime).token("PXAT").since("6.2.0"),
                Arg::new("keepttl", ArgType::PureToken).token("KEEPTTL").since("6.0.0"),
            ]),
        ]),
    CommandSpec::new("setex", CommandId::Setex, 4, Group::String, "2.0.0")
        .summary("Set the value and expiration of a key")
        .complexity("O(1)")
        .flags(&[Write, Denyoom])
        .categories(&[Category::String])
        .keys(&[KeySpec::at(1, &[KeyFlag::Ow, KeyFlag::Update])])
        .arguments(&[
            Arg::new("key", ArgType::Key).key_spec(0),
            Arg::new("seconds", ArgType::Integer),
            Arg::new("value", ArgType::String),
        ]),
    CommandSpec::new("setnx", CommandId::Setnx, 3, Group::String, "1.0.0")
        .summary("Set the value of a key, only if the key does not exist")
        .complexity("O(1)")
        .flags(&[Write, Denyoom, Fast])
        .categories(&[Category::String])
        .keys(&[KeySpec::at(1, &[KeyFlag::Ow, KeyFlag::Insert])])
        .arguments(&[Arg::new("key", ArgType::Key).key_spec(0), Arg::new("value", ArgType::String)]),
    CommandSpec::new("setrange", CommandId::Setrange, 4, Group::String, "2.2.0")
        .summary("Overwrite part of a string at key starting at the specified offset")
        .complexity(
            "O(1), not counting the time taken to copy the new string in place. \
Usually, this string is very small so the amortized complexity is O(1). \
Otherwise, complexity is O(M) with M being the length of the value \
argument.",
        )
        .flags(&[Write, Denyoom])
        .categories(&[Category::String])
        .keys(&[KeySpec::at(1, &[KeyFlag::Rw, KeyFlag::Update])])
        .arguments(&[
            Arg::new("key", ArgType::Key).key_spec(0),
            Arg::new("offset", ArgType::Integer),
            Arg::new("value", ArgType::String),
        ]),
    CommandSpec::new("strlen", CommandId::Strlen, 2, Group::String, "2.2.0")
        .summary("Get the length of the value stored in a key")
        .complexity("O(1)")
        .flags(&[Readonly, Fast])
        .categories(&[Category::String])
        .keys(&[KeySpec::at(1, &[KeyFlag::Ro])])
        .arguments(&[Arg::new("key", ArgType::Key).key_spec(0)]),
    CommandSpec::new("substr", CommandId::Substr, 4, Group::String, "1.0.0")
        .summary("Get a substring of the string stored at a key")
        .complexity(
            "O(N) where N is the length of the returned string. The complexity is \
ultimately determined by the returned length, but because creating a \
substring from an existing string is very cheap, it can be considered \
O(1) for small strings.",
        )
        .flags(&[Readonly])
        .categories(&[Category::String])
        .keys(&[KeySpec::at(1, &[KeyFlag::Ro, KeyFlag::Access])])
        .deprecated("2.0.0", "`GETRANGE`")
        .arguments(&[
            Arg::new("key", ArgType::Key).key_spec(0),
            Arg::new("start", ArgType::Integer),
            Arg::new("end", ArgType::Integer),
        ]),
];
