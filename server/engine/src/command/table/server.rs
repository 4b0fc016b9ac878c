//! The command table, group "server": the server and its keyspaces.
//!
//! Source: COMMAND INFO and COMMAND DOCS of Redis 7.0.15, whose texts these are.

use super::super::spec::Flag::{Admin, AllowBusy, Fast, Loading, NoMulti, Noscript, Readonly, Stale, Write};
use super::super::spec::{Arg, ArgType, Category, CommandId, CommandSpec, Group, KeyFlag, KeySpec};

pub(super) const COMMANDS: &[CommandSpec] = &[
    CommandSpec::new("command", CommandId::Command, -1, Group::Server, "2.8.13")
        .summary("Get array of Redis command details")
        .complexity("O(N) where N is the total number of Redis commands")
        .flags(&[Loading, Stale])
        .categories(&[Category::Connection])
        .tips(&["nondeterministic_output_order"])
        .subcommands(&[
            CommandSpec::new("command|count", CommandId::CommandCount, 2, Group::Server, "2.8.13")
                .summary("Get total number of Redis commands")
                .complexity("O(1)")
                .flags(&[Loading, Stale])
                .categories(&[Category::Connection]),
            CommandSpec::new("command|docs", CommandId::CommandDocs, -2, Group::Server, "7.0.0")
                .summary("Get array of specific Redis command documentation")
                .complexity("O(N) where N is the number of commands to look up")
                .flags(&[Loading, Stale])
                .categories(&[Category::Connection])
                .tips(&["nondeterministic_output_order"])
                .arguments(&[Arg::new("command-name", ArgType::String).optional().multiple()]),
            CommandSpec::new("command|getkeys", CommandId::CommandGetkeys, -4, Group::Server, "2.8.13")
                .summary("Extract keys given a full Redis command")
                .complexity("O(N) where N is the number of arguments to the command")
                .flags(&[Loading, Stale])
                .categories(&[Category::Connection]),
            CommandSpec::new(
                "command|getkeysandflags",
                CommandId::CommandGetkeysandflags,
                -4,
                Group::Server,
                "7.0.0",
            )
            .summary("Extract keys and access flags given a full Redis command")
            .complexity("O(N) where N is the number of arguments to the command")
            .flags(&[Loading, Stale])
            .categories(&[Category::Connection]),
            CommandSpec::new("command|help", CommandId::CommandHelp, 2, Group::Server, "5.0.0")
                .summary("Show helpful text about the different subcommands")
                .complexity("O(1)")
                .flags(&[Loading, Stale])
                .categories(&[Category::Connection]),
            CommandSpec::new("command|info", CommandId::CommandInfo, -2, Group::Server, "2.8.13")
                .summary(
                    "Get array of specific Redis command details, or all when no argument is \
given.",
                )
                .complexity("O(N) where N is the number of commands to look up")
                .flags(&[Loading, Stale])
                .categories(&[Category::Connection])
                .tips(&["nondeterministic_output_order"])
                .history(&[("7.0.0", "Allowed to be called with no argument to get info on all commands.")])
                .arguments(&[Arg::new("command-name", ArgType::String).optional().multiple()]),
            CommandSpec::new("command|list", CommandId::CommandList, -2, Group::Server, "7.0.0")
                .summary("Get an array of Redis command names")
                .complexity("O(N) where N is the total number of Redis commands")
                .flags(&[Loading, Stale])
                .categories(&[Category::Connection])
                .tips(&["nondeterministic_output_order"])
                .arguments(&[Arg::new("filterby", ArgType::Oneof).token("FILTERBY").optional().of(&[
                    Arg::new("module-name", ArgType::String).token("MODULE"),
                    Arg::new("category", ArgType::String).token("ACLCAT"),
                    Arg::new("pattern", ArgType::Pattern).token("PATTERN"),
                ])]),
        ]),
    CommandSpec::new("config", CommandId::Config, -2, Group::Server, "2.0.0")
        .summary("A container for server configuration commands")
        .complexity("Depends on subcommand.")
        .subcommands(&[
            CommandSpec::new("config|get", CommandId::ConfigGet, -3, Group::Server, "2.0.0")
                .summary("Get the values of configuration parameters")
                .complexity("O(N) when N is the number of configuration parameters provided")
                .flags(&[Admin, Noscript, Loading, Stale])
                .history(&[("7.0.0", "Added the ability to pass multiple pattern parameters in one call")])
                .arguments(&[Arg::new("parameter", ArgType::Block)
                    .multiple()
                    .of(&[Arg::new("parameter", ArgType::String)])]),
            CommandSpec::new("config|set", CommandId::ConfigSet, -4, Group::Server, "2.0.0")
                .summary("Set configuration parameters to the given values")
                .complexity("O(N) when N is the number of configuration parameters provided")
                .flags(&[Admin, Noscript, Loading, Stale])
                .tips(&["request_policy:all_nodes", "response_policy:all_succeeded"])
                .history(&[("7.0.0", "Added the ability to set multiple parameters in one call.")])
                .arguments(&[Arg::new("parameter_value", ArgType::Block)
                    .multiple()
                    .of(&[Arg::new("parameter", ArgType::String), Arg::new("value", ArgType::String)])]),
            CommandSpec::new("config|resetstat", CommandId::ConfigResetstat, 2, Group::Server, "2.0.0")
                .summary("Reset the stats returned by INFO")
                .complexity("O(1)")
                .flags(&[Admin, Noscript, Loading, Stale]),
            CommandSpec::new("config|rewrite", CommandId::ConfigRewrite, 2, Group::Server, "2.8.0")
                .summary("Rewrite the configuration file with the in memory configuration")
                .complexity("O(1)")
                .flags(&[Admin, Noscript, Loading, Stale]),
            CommandSpec::new("config|help", CommandId::ConfigHelp, 2, Group::Server, "5.0.0")
                .summary("Show helpful text about the different subcommands")
                .complexity("O(1)")
                .flags(&[Loading, Stale]),
        ]),
    CommandSpec::new("dbsize", CommandId::Dbsize, 1, Group::Server, "1.0.0")
        .summary("Return the number of keys in the selected database")
        .complexity("O(1)")
        .flags(&[Readonly, Fast])
        .categories(&[Category::Keyspace])
        .tips(&["request_policy:all_shards", "response_policy:agg_sum"]),
    CommandSpec::new("debug", CommandId::Debug, -2, Group::Server, "1.0.0")
        .summary("A container for debugging commands")
        .complexity("Depends on subcommand.")
        .flags(&[Admin, Noscript, Loading, Stale])
        .syscmd(),
    CommandSpec::new("farmem", CommandId::Farmem, -2, Group::Server, "0.1.0")
        .summary("A container for far memory commands")
        .complexity("Depends on subcommand.")
        .subcommands(&[
            CommandSpec::new("farmem|add", CommandId::FarmemAdd, 3, Group::Server, "0.1.0")
                .summary("Use one more far memory, for copies of what others hold")
                .complexity("O(1)")
                .flags(&[Admin, Noscript])
                .arguments(&[Arg::new("uri", ArgType::String)]),
            CommandSpec::new("farmem|evict", CommandId::FarmemEvict, 3, Group::Server, "0.1.0")
                .summary("Move the pages of a value, or of all, out of local memory")
                .complexity("O(N) where N is the number of pages to evict")
                .flags(&[Admin, Noscript])
                .categories(&[Category::Keyspace])
                .arguments(&[Arg::new("target", ArgType::Oneof).of(&[
                    Arg::new("key", ArgType::String),
                    Arg::new("all", ArgType::PureToken).token("ALL"),
                ])]),
            CommandSpec::new("farmem|help", CommandId::FarmemHelp, 2, Group::Server, "0.1.0")
                .summary("Show helpful text about the different subcommands")
                .complexity("O(1)")
                .flags(&[Loading, Stale]),
            CommandSpec::new("farmem|lost", CommandId::FarmemLost, 2, Group::Server, "0.1.0")
                .summary("How many pages and keys are gone, and the names of some")
                .complexity("O(N) where N is the number of keys")
                .flags(&[Admin, Noscript]),
            CommandSpec::new("farmem|remove", CommandId::FarmemRemove, 3, Group::Server, "0.1.0")
                .summary("Copy what a far memory holds to the others, then let go of it")
                .complexity("O(1)")
                .flags(&[Admin, Noscript])
                .arguments(&[Arg::new("uri", ArgType::String)]),
            CommandSpec::new("farmem|residency", CommandId::FarmemResidency, 3, Group::Server, "0.1.0")
                .summary("How many pages of a value are in local memory")
                .complexity("O(N) where N is the number of pages of the value")
                .flags(&[Readonly])
                .categories(&[Category::Keyspace])
                .keys(&[KeySpec::at(2, &[KeyFlag::Ro])])
                .arguments(&[Arg::new("key", ArgType::Key).key_spec(0)]),
            CommandSpec::new("farmem|stats", CommandId::FarmemStats, 2, Group::Server, "0.1.0")
                .summary("The counters of far memory, as in INFO farmem")
                .complexity("O(1)")
                .flags(&[Loading, Stale]),
        ]),
    CommandSpec::new("flushall", CommandId::Flushall, -1, Group::Server, "1.0.0")
        .summary("Remove all keys from all databases")
        .complexity("O(N) where N is the total number of keys in all databases")
        .flags(&[Write])
        .categories(&[Category::Keyspace, Category::Dangerous])
        .tips(&["request_policy:all_shards", "response_policy:all_succeeded"])
        .history(&[
            ("4.0.0", "Added the `ASYNC` flushing mode modifier."),
            ("6.2.0", "Added the `SYNC` flushing mode modifier."),
        ])
        .arguments(&[Arg::new("async", ArgType::Oneof).optional().of(&[
            Arg::new("async", ArgType::PureToken).token("ASYNC").since("4.0.0"),
            Arg::new("sync", ArgType::PureToken).token("SYNC").since("6.2.0"),
        ])]),
    CommandSpec::new("flushdb", CommandId::Flushdb, -1, Group::Server, "1.0.0")
        .summary("Remove all keys from the current database")
        .complexity("O(N) where N is the number of keys in the selected database")
        .flags(&[Write])
        .categories(&[Category::Keyspace, Category::Dangerous])
        .tips(&["request_policy:all_shards", "response_policy:all_succeeded"])
        .history(&[
            ("4.0.0", "Added the `ASYNC` flushing mode modifier."),
            ("6.2.0", "Added the `SYNC` flushing mode modifier."),
        ])
        .arguments(&[Arg::new("async", ArgType::Oneof).optional().of(&[
            Arg::new("async", ArgType::PureToken).token("ASYNC").since("4.0.0"),
            Arg::new("sync", ArgType::PureToken).token("SYNC").since("6.2.0"),
        ])]),
    CommandSpec::new("info", CommandId::Info, -1, Group::Server, "1.0.0")
        .summary("Get information and statistics about the server")
        .complexity("O(1)")
        .flags(&[Loading, Stale])
        .categories(&[Category::Dangerous])
        .tips(&["nondeterministic_output", "request_policy:all_shards", "response_policy:special"])
        .history(&[("7.0.0", "Added support for taking multiple section arguments.")])
        .arguments(&[Arg::new("section", ArgType::String).optional().multiple()]),
    CommandSpec::new("memory", CommandId::Memory, -2, Group::Server, "4.0.0")
        .summary("A container for memory diagnostics commands")
        .complexity("Depends on subcommand.")
        .subcommands(&[
            CommandSpec::new("memory|usage", CommandId::MemoryUsage, -3, Group::Server, "4.0.0")
                .summary("Estimate the memory usage of a key")
                .complexity("O(N) where N is the number of samples.")
                .flags(&[Readonly])
                .keys(&[KeySpec::at(2, &[KeyFlag::Ro])])
                .arguments(&[
                    Arg::new("key", ArgType::Key).key_spec(0),
                    Arg::new("count", ArgType::Integer).token("SAMPLES").optional(),
                ]),
            CommandSpec::new("memory|help", CommandId::MemoryHelp, 2, Group::Server, "4.0.0")
                .summary("Show helpful text about the different subcommands")
                .complexity("O(1)")
                .flags(&[Loading, Stale]),
        ]),
    CommandSpec::new("shutdown", CommandId::Shutdown, -1, Group::Server, "1.0.0")
        .summary("Synchronously save the dataset to disk and then shut down the server")
        .complexity(
            "O(N) when saving, where N is the total number of keys in all databases \
when saving data, otherwise O(1)",
        )
        .flags(&[Admin, Noscript, Loading, Stale, NoMulti, AllowBusy])
        .history(&[("7.0.0", "Added the `NOW`, `FORCE` and `ABORT` modifiers.")])
        .arguments(&[
            Arg::new("nosave_save", ArgType::Oneof).optional().of(&[
                Arg::new("nosave", ArgType::PureToken).token("NOSAVE"),
                Arg::new("save", ArgType::PureToken).token("SAVE"),
            ]),
            Arg::new("now", ArgType::PureToken).token("NOW").since("7.0.0").optional(),
            Arg::new("force", ArgType::PureToken).token("FORCE").since("7.0.0").optional(),
            Arg::new("abort", ArgType::PureToken).token("ABORT").since("7.0.0").optional(),
        ]),
    CommandSpec::new("swapdb", CommandId::Swapdb, 3, Group::Server, "4.0.0")
        .summary("Swaps two Redis databases")
        .complexity(
            "O(N) where N is the count of clients watching or blocking on keys from \
both databases.",
        )
        .flags(&[Write, Fast])
        .categories(&[Category::Keyspace, Category::Dangerous])
        .arguments(&[Arg::new("index1", ArgType::Integer), Arg::new("index2", ArgType::Integer)]),
    CommandSpec::new("time", CommandId::Time, 1, Group::Server, "2.6.0")
        .summary("Return the current server time")
        .complexity("O(1)")
        .flags(&[Loading, Stale, Fast])
        .tips(&["nondeterministic_output"]),
];
