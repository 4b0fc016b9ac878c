//! The command table, group "connection": connections.
//!
//! Source: COMMAND INFO and COMMAND DOCS of Redis 7.0.15, whose texts these are.

use super::super::spec::Flag::{Admin, AllowBusy, Fast, Loading, NoAuth, Noscript, Stale};
use super::super::spec::{Arg, ArgType, Category, CommandId, CommandSpec, Group};

pub(super) const COMMANDS: &[CommandSpec] = &[
    CommandSpec::new("auth", CommandId::Auth, -2, Group::Connection, "1.0.0")
        .summary("Authenticate to the server")
        .complexity("O(N) where N is the number of passwords defined for the user")
        .flags(&[Noscript, Loading, Stale, Fast, NoAuth, AllowBusy])
        .categories(&[Category::Connection])
        .history(&[("6.0.0", "Added ACL style (username and password).")])
        .arguments(&[
            Arg::new("username", ArgType::String).since("6.0.0").optional(),
            Arg::new("password", ArgType::String),
        ]),
    CommandSpec::new("client", CommandId::Client, -2, Group::Connection, "2.4.0")
        .summary("A container for client connection commands")
        .complexity("Depends on subcommand.")
        .subcommands(&[
            CommandSpec::new("client|id", CommandId::ClientId, 2, Group::Connection, "5.0.0")
                .summary("Returns the client ID for the current connection")
                .complexity("O(1)")
                .flags(&[Noscript, Loading, Stale])
                .categories(&[Category::Connection]),
            CommandSpec::new("client|list", CommandId::ClientList, -2, Group::Connection, "2.4.0")
                .summary("Get the list of client connections")
                .complexity("O(N) where N is the number of client connections")
                .flags(&[Admin, Noscript, Loading, Stale])
                .categories(&[Category::Connection])
                .tips(&["nondeterministic_output"])
                .history(&[
                    ("2.8.12", "Added unique client `id` field."),
                    ("5.0.0", "Added optional `TYPE` filter."),
                    ("6.0.0", "Added `user` field."),
                    (
                        "6.2.0",
                        "Added `argv-mem`, `tot-mem`, `laddr` and `redir` fields and the optional \
`ID` filter.",
                    ),
                    ("7.0.0", "Added `resp`, `multi-mem`, `rbs` and `rbp` fields."),
                    ("7.0.3", "Added `ssub` field."),
                ])
                .arguments(&[
                    Arg::new("normal_master_replica_pubsub", ArgType::Oneof)
                        .token("TYPE")
                        .since("5.0.0")
                        .optional()
                        .of(&[
                            Arg::new("normal", ArgType::PureToken).token("NORMAL"),
                            Arg::new("master", ArgType::PureToken).token("MASTER"),
                            Arg::new("replica", ArgType::PureToken).token("REPLICA"),
                            Arg::new("pubsub", ArgType::PureToken).token("PUBSUB"),
                        ]),
                    Arg::new("id", ArgType::Block).token("ID").since("6.2.0").optional().of(&[Arg::new(
                        "client-id",
                        ArgType::Integer,
                    )
                    .multiple()]),
                ]),
            CommandSpec::new("client|setname", CommandId::ClientSetname, 3, Group::Connection, "2.6.9")
                .summary("Set the current connection name")
                .complexity("O(1)")
                .flags(&[Noscript, Loading, Stale])
                .categories(&[Category::Connection])
                .arguments(&[Arg::new("connection-name", ArgType::String)]),
            CommandSpec::new("client|getname", CommandId::ClientGetname, 2, Group::Connection, "2.6.9")
                .summary("Get the current connection name")
                .complexity("O(1)")
                .flags(&[Noscript, Loading, Stale])
                .categories(&[Category::Connection]),
            CommandSpec::new("client|info", CommandId::ClientInfo, 2, Group::Connection, "6.2.0")
                .summary("Returns information about the current client connection.")
                .complexity("O(1)")
                .flags(&[Noscript, Loading, Stale])
                .categories(&[Category::Connection])
                .tips(&["nondeterministic_output"]),
            CommandSpec::new("client|kill", CommandId::ClientKill, -3, Group::Connection, "2.4.0")
                .summary("Kill the connection of a client")
                .complexity("O(N) where N is the number of client connections")
                .flags(&[Admin, Noscript, Loading, Stale])
                .categories(&[Category::Connection])
                .history(&[
                    ("2.8.12", "Added new filter format."),
                    ("2.8.12", "`ID` option."),
                    ("3.2.0", "Added `master` type in for `TYPE` option."),
                    (
                        "5.0.0",
                        "Replaced `slave` `TYPE` with `replica`. `slave` still supported for \
backward compatibility.",
                    ),
                    ("6.2.0", "`LADDR` option."),
                ])
                .arguments(&[Arg::new("filter", ArgType::Oneof).of(&[
                    Arg::new("ip:port", ArgType::String).deprecated_since("2.8.12"),
                    Arg::new("new-format", ArgType::Oneof).multiple().of(&[
                        Arg::new("client-id", ArgType::Integer).token("ID").since("2.8.12").optional(),
                        Arg::new("normal_master_slave_pubsub", ArgType::Oneof)
                            .token("TYPE")
                            .since("2.8.12")
                            .optional()
                            .of(&[
                                Arg::new("normal", ArgType::PureToken).token("NORMAL"),
                                Arg::new("master", ArgType::PureToken).token("MASTER").since("3.2.0"),
                                Arg::new("slave", ArgType::PureToken).token("SLAVE"),
                                Arg::new("replica", ArgType::PureToken).token("REPLICA").since("5.0.0"),
                                Arg::new("pubsub", ArgType::PureToken).token("PUBSUB"),
                            ]),
                        Arg::new("username", ArgType::String).token("USER").optional(),
                        Arg::new("ip:port", ArgType::String).token("ADDR").optional(),
                        Arg::new("ip:port", ArgType::String).token("LADDR").since("6.2.0").optional(),
                        Arg::new("yes/no", ArgType::String).token("SKIPME").optional(),
                    ]),
                ])]),
            CommandSpec::new("client|reply", CommandId::ClientReply, 3, Group::Connection, "3.2.0")
                .summary("Instruct the server whether to reply to commands")
                .complexity("O(1)")
                .flags(&[Noscript, Loading, Stale])
                .categories(&[Category::Connection])
                .arguments(&[Arg::new("on_off_skip", ArgType::Oneof).of(&[
                    Arg::new("on", ArgType::PureToken).token("ON"),
                    Arg::new("off", ArgType::PureToken).token("OFF"),
                    Arg::new("skip", ArgType::PureToken).token("SKIP"),
                ])]),
            CommandSpec::new("client|no-evict", CommandId::ClientNoEvict, 3, Group::Connection, "7.0.0")
                .summary("Set client eviction mode for the current connection")
                .complexity("O(1)")
                .flags(&[Admin, Noscript, Loading, Stale])
                .categories(&[Category::Connection])
                .arguments(&[Arg::new("enabled", ArgType::Oneof).of(&[
                    Arg::new("on", ArgType::PureToken).token("ON"),
                    Arg::new("off", ArgType::PureToken).token("OFF"),
                ])]),
            CommandSpec::new("client|help", CommandId::ClientHelp, 2, Group::Connection, "5.0.0")
                .summary("Show helpful text about the different subcommands")
                .complexity("O(1)")
                .flags(&[Loading, Stale])
                .categories(&[Category::Connection]),
        ]),
    CommandSpec::new("echo", CommandId::Echo, 2, Group::Connection, "1.0.0")
        .summary("Echo the given string")
        .complexity("O(1)")
        .flags(&[Loading, Stale, Fast])
        .categories(&[Category::Connection])
        .arguments(&[Arg::new("message", ArgType::String)]),
    CommandSpec::new("hello", CommandId::Hello, -1, Group::Connection, "6.0.0")
        .summary("Handshake with Redis")
        .complexity("O(1)")
        .flags(&[Noscript, Loading, Stale, Fast, NoAuth, AllowBusy])
        .categories(&[Category::Connection])
        .history(&[(
            "6.2.0",
            "`protover` made optional; when called without arguments the command \
reports the current connection's context.",
        )])
        .arguments(&[Arg::new("arguments", ArgType::Block).optional().of(&[
            Arg::new("protover", ArgType::Integer),
            Arg::new("username_password", ArgType::Block)
                .token("AUTH")
                .optional()
                .of(&[Arg::new("username", ArgType::String), Arg::new("password", ArgType::String)]),
            Arg::new("clientname", ArgType::String).token("SETNAME").optional(),
        ])]),
    CommandSpec::new("ping", CommandId::Ping, -1, Group::Connection, "1.0.0")
        .summary("Ping the server")
        .complexity("O(1)")
        .flags(&[Fast])
        .categories(&[Category::Connection])
        .tips(&["request_policy:all_shards", "response_policy:all_succeeded"])
        .arguments(&[Arg::new("message", ArgType::String).optional()]),
    CommandSpec::new("quit", CommandId::Quit, -1, Group::Connection, "1.0.0")
        .summary("Close the connection")
        .complexity("O(1)")
        .flags(&[Noscript, Loading, Stale, Fast, NoAuth, AllowBusy])
        .categories(&[Category::Connection]),
    CommandSpec::new("reset", CommandId::Reset, 1, Group::Connection, "6.2.0")
        .summary("Reset the connection")
        .complexity("O(1)")
        .flags(&[Noscript, Loading, Stale, Fast, NoAuth, AllowBusy])
        .categories(&[Category::Connection]),
    CommandSpec::new("select", CommandId::Select, 2, Group::Connection, "1.0.0")
        .summary("Change the selected database for the current connection")
        .complexity("O(1)")
        .flags(&[Loading, Stale, Fast])
        .categories(&[Category::Connection])
        .arguments(&[Arg::new("index", ArgType::Integer)]),
];
