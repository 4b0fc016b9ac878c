//! The command table, group "list": lists.
//!
//! Source: COMMAND INFO and COMMAND DOCS of Redis 7.0.15, whose texts these are.

use super::super::spec::Flag::{Denyoom, Fast, Movablekeys, Readonly, Write};
use super::super::spec::{Arg, ArgType, Category, CommandId, CommandSpec, Group, KeyFlag, KeySpec};

pub(super) const COMMANDS: &[CommandSpec] = &[
    CommandSpec::new("lindex", CommandId::Lindex, 3, Group::List, "1.0.0")
        .summary("Get an element from a list by its index")
        .complexity(
            "O(N) where N is the number of elements to traverse to get to the element \
at index. This makes asking for the first or the last element of the \
list O(1).",
        )
        .flags(&[Readonly])
        .categories(&[Category::List])
        .keys(&[KeySpec::at(1, &[KeyFlag::Ro, KeyFlag::Access])])
        .arguments(&[Arg::new("key", ArgType::Key).key_spec(0), Arg::new("index", ArgType::Integer)]),
    CommandSpec::new("linsert", CommandId::Linsert, 5, Group::List, "2.2.0")
        .summary("Insert an element before or after another element in a list")
        .complexity(
            "O(N) where N is the number of elements to traverse before seeing the \
value pivot. This means that inserting somewhere on the left end on the \
list (head) can be considered O(1) and inserting somewhere on the right \
end (tail) is O(N).",
        )
        .flags(&[Write, Denyoom])
        .categories(&[Category::List])
        .keys(&[KeySpec::at(1, &[KeyFlag::Rw, KeyFlag::Insert])])
        .arguments(&[
            Arg::new("key", ArgType::Key).key_spec(0),
            Arg::new("where", ArgType::Oneof).of(&[
                Arg::new("before", ArgType::PureToken).token("BEFORE"),
                Arg::new("after", ArgType::PureToken).token("AFTER"),
            ]),
            Arg::new("pivot", ArgType::String),
            Arg::new("element", ArgType::String),
        ]),
    CommandSpec::new("llen", CommandId::Llen, 2, Group::List, "1.0.0")
        .summary("Get the length of a list")
        .complexity("O(1)")
        .flags(&[Readonly, Fast])
        .categories(&[Category::List])
        .keys(&[KeySpec::at(1, &[KeyFlag::Ro])])
        .arguments(&[Arg::new("key", ArgType::Key).key_spec(0)]),
    CommandSpec::new("lmove", CommandId::Lmove, 5, Group::List, "6.2.0")
        .summary("Pop an element from a list, push it to another list and return it")
        .complexity("O(1)")
        .flags(&[Write, Denyoom])
        .categories(&[Category::List])
        .keys(&[
            KeySpec::at(1, &[KeyFlag::Rw, KeyFlag::Access, KeyFlag::Delete]),
            KeySpec::at(2, &[KeyFlag::Rw, KeyFlag::Insert]),
        ])
        .range(1, 2, 1)
        .arguments(&[
            Arg::new("source", ArgType::Key).key_spec(0),
            Arg::new("destination", ArgType::Key).key_spec(1),
            Arg::new("wherefrom", ArgType::Oneof).of(&[
                Arg::new("left", ArgType::PureToken).token("LEFT"),
                Arg::new("right", ArgType::PureToken).token("RIGHT"),
            ]),
            Arg::new("whereto", ArgType::Oneof).of(&[
                Arg::new("left", ArgType::PureToken).token("LEFT"),
                Arg::new("right", ArgType::PureToken).token("RIGHT"),
            ]),
        ]),
    CommandSpec::new("lmpop", CommandId::Lmpop, -4, Group::List, "7.0.0")
        .summary("Pop elements from a list")
        .complexity(
            "O(N+M) where N is the number of provided keys and M is the number of \
elements returned.",
        )
        .flags(&[Write, Movablekeys])
        .categories(&[Category::List])
        .keys(&[KeySpec::at(1, &[KeyFlag::Rw, KeyFlag::Access, KeyFlag::Delete]).keynum(0, 1, 1)])
        .arguments(&[
            Arg::new("numkeys", ArgType::Integer),
            Arg::new("key", ArgType::Key).key_spec(0).multiple(),
            Arg::new("where", ArgType::Oneof).of(&[
                Arg::new("left", ArgType::PureToken).token("LEFT"),
                Arg::new("right", ArgType::PureToken).token("RIGHT"),
            ]),
            Arg::new("count", ArgType::Integer).token("COUNT").optional(),
        ]),
    CommandSpec::new("lpop", CommandId::Lpop, -2, Group::List, "1.0.0")
        .summary("Remove and get the first elements in a list")
        .complexity("O(N) where N is the number of elements returned")
        .flags(&[Write, Fast])
        .categories(&[Category::List])
        .keys(&[KeySpec::at(1, &[KeyFlag::Rw, KeyFlag::Access, KeyFlag::Delete])])
        .history(&[("6.2.0", "Added the `count` argument.")])
        .arguments(&[
            Arg::new("key", ArgType::Key).key_spec(0),
            Arg::new("count", ArgType::Integer).since("6.2.0").optional(),
        ]),
    CommandSpec::new("lpos", CommandId::Lpos, -3, Group::List, "6.0.6")
        .summary("Return the index of matching elements on a list")
        .complexity(
            "O(N) where N is the number of elements in the list, for the average \
case. When searching for elements near the head or the tail of the list, \
or when the MAXLEN option is provided, the command may run in constant \
time.",
        )
        .flags(&[Readonly])
        .categories(&[Category::List])
        .keys(&[KeySpec::at(1, &[KeyFlag::Ro, KeyFlag::Access])])
        .arguments(&[
            Arg::new("key", ArgType::Key).key_spec(0),
            Arg::new("element", ArgType::String),
            Arg::new("rank", ArgType::Integer).token("RANK").optional(),
            Arg::new("num-matches", ArgType::Integer).token("COUNT").optional(),
            Arg::new("len", ArgType::Integer).token("MAXLEN").optional(),
        ]),
    CommandSpec::new("lpush", CommandId::Lpush, -3, Group::List, "1.0.0")
        .summary("Prepend one or multiple elements to a list")
        .complexity(
            "O(1) for each element added, so O(N) to add N elements when the command \
is called with multiple arguments.",
        )
        .flags(&[Write, Denyoom, Fast])
        .categories(&[Category::List])
        .keys(&[KeySpec::at(1, &[KeyFlag::Rw, KeyFlag::Insert])])
        .history(&[("2.4.0", "Accepts multiple `element` arguments.")])
        .arguments(&[
            Arg::new("key", ArgType::Key).key_spec(0),
            Arg::new("element", ArgType::String).multiple(),
        ]),
    CommandSpec::new("lpushx", CommandId::Lpushx, -3, Group::List, "2.2.0")
        .summary("Prepend an element to a list, only if the list exists")
        .complexity(
            "O(1) for each element added, so O(N) to add N elements when the command \
is called with multiple arguments.",
        )
        .flags(&[Write, Denyoom, Fast])
        .categories(&[Category::List])
        .keys(&[KeySpec::at(1, &[KeyFlag::Rw, KeyFlag::Insert])])
        .history(&[("4.0.0", "Accepts multiple `element` arguments.")])
        .arguments(&[
            Arg::new("key", ArgType::Key).key_spec(0),
            Arg::new("element", ArgType::String).multiple(),
        ]),
    CommandSpec::new("lrange", CommandId::Lrange, 4, Group::List, "1.0.0")
        .summary("Get a range of elements from a list")
        .complexity(
            "O(S+N) where S is the distance of start offset from HEAD for small \
lists, from nearest end (HEAD or TAIL) for large lists; and N is the \
number of elements in the specified range.",
        )
        .flags(&[Readonly])
        .categories(&[Category::List])
        .keys(&[KeySpec::at(1, &[KeyFlag::Ro, KeyFlag::Access])])
        .arguments(&[
            Arg::new("key", ArgType::Key).key_spec(0),
            Arg::new("start", ArgType::Integer),
            Arg::new("stop", ArgType::Integer),
        ]),
    CommandSpec::new("lrem", CommandId::Lrem, 4, Group::List, "1.0.0")
        .summary("Remove elements from a list")
        .complexity(
            "O(N+M) where N is the length of the list and M is the number of elements \
removed.",
        )
        .flags(&[Write])
        .categories(&[Category::List])
        .keys(&[KeySpec::at(1, &[KeyFlag::Rw, KeyFlag::Delete])])
        .arguments(&[
            Arg::new("key", ArgType::Key).key_spec(0),
            Arg::new("count", ArgType::Integer),
            Arg::new("element", ArgType::String),
        ]),
    CommandSpec::new("lset", CommandId::Lset, 4, Group::List, "1.0.0")
        .summary("Set the value of an element in a list by its index")
        .complexity(
            "O(N) where N is the length of the list. Setting either the first or the \
last element of the list is O(1).",
        )
        .flags(&[Write, Denyoom])
        .categories(&[Category::List])
        .keys(&[KeySpec::at(1, &[KeyFlag::Rw, KeyFlag::Update])])
        .arguments(&[
            Arg::new("key", ArgType::Key).key_spec(0),
            Arg::new("index", ArgType::Integer),
            Arg::new("element", ArgType::String),
        ]),
    CommandSpec::new("ltrim", CommandId::Ltrim, 4, Group::List, "1.0.0")
        .summary("Trim a list to the specified range")
        .complexity("O(N) where N is the number of elements to be removed by the operation.")
        .flags(&[Write])
        .categories(&[Category::List])
        .keys(&[KeySpec::at(1, &[KeyFlag::Rw, KeyFlag::Delete])])
        .arguments(&[
            Arg::new("key", ArgType::Key).key_spec(0),
            Arg::new("start", ArgType::Integer),
            Arg::new("stop", ArgType::Integer),
        ]),
    CommandSpec::new("rpop", CommandId::Rpop, -2, Group::List, "1.0.0")
        .summary("Remove and get the last elements in a list")
        .complexity("O(N) where N is the number of elements returned")
        .flags(&[Write, Fast])
        .categories(&[Category::List])
        .keys(&[KeySpec::at(1, &[KeyFlag::Rw, KeyFlag::Access, KeyFlag::Delete])])
        .history(&[("6.2.0", "Added the `count` argument.")])
        .arguments(&[
            Arg::new("key", ArgType::Key).key_spec(0),
            Arg::new("count", ArgType::Integer).since("6.2.0").optional(),
        ]),
    CommandSpec::new("rpoplpush", CommandId::Rpoplpush, 3, Group::List, "1.2.0")
        .summary(
            "Remove the last element in a list, prepend it to another list and return \
it",
        )
        .complexity("O(1)")
        .flags(&[Write, Denyoom])
        .categories(&[Category::List])
        .keys(&[
            KeySpec::at(1, &[KeyFlag::Rw, KeyFlag::Access, KeyFlag::Delete]),
            KeySpec::at(2, &[KeyFlag::Rw, KeyFlag::Insert]),
        ])
        .range(1, 2, 1)
        .deprecated("6.2.0", "`LMOVE` with the `RIGHT` and `LEFT` arguments")
        .arguments(&[
            Arg::new("source", ArgType::Key).key_spec(0),
            Arg::new("destination", ArgType::Key).key_spec(1),
        ]),
    CommandSpec::new("rpush", CommandId::Rpush, -3, Group::List, "1.0.0")
        .summary("Append one or multiple elements to a list")
        .complexity(
            "O(1) for each element added, so O(N) to add N elements when the command \
is called with multiple arguments.",
        )
        .flags(&[Write, Denyoom, Fast])
        .categories(&[Category::List])
        .keys(&[KeySpec::at(1, &[KeyFlag::Rw, KeyFlag::Insert])])
        .history(&[("2.4.0", "Accepts multiple `element` arguments.")])
        .arguments(&[
            Arg::new("key", ArgType::Key).key_spec(0),
            Arg::new("element", ArgType::String).multiple(),
        ]),
    CommandSpec::new("rpushx", CommandId::Rpushx, -3, Group::List, "2.2.0")
        .summary("Append an element to a list, only if the list exists")
        .complexity(
            "O(1) for each element added, so O(N) to add N elements when the command \
is called with multiple arguments.",
        )
        .flags(&[Write, Denyoom, Fast])
        .categories(&[Category::List])
        .keys(&[KeySpec::at(1, &[KeyFlag::Rw, KeyFlag::Insert])])
        .history(&[("4.0.0", "Accepts multiple `element` arguments.")])
        .arguments(&[
            Arg::new("key", ArgType::Key).key_spec(0),
            Arg::new("element", ArgType::String).multiple(),
        ]),
];
