//! The commands that ask about the server and its connections: INFO, CONFIG, CLIENT, AUTH, HELLO and kin.

mod support;

use engine::{ClientId, Config, Peer, ProcessFacts};
use farmem::Prefetch;
use std::collections::BTreeMap;
use support::{Store, request};

fn store() -> Store {
    Store::new(8 << 20, Prefetch::Ahead)
}

fn store_with(change: impl FnOnce(&mut Config)) -> Store {
    let mut config = Config::default();
    change(&mut config);
    Store::with(8 << 20, 1 << 18, Prefetch::Ahead, config)
}

/// The fields of an INFO reply by their names, after checking that every line is a section or a field.
fn fields(store: &mut Store, client: ClientId, line: &str) -> BTreeMap<String, String> {
    let reply = store.ask(client, line);
    let (head, text) = reply.split_once("\r\n").expect("a bulk string has a head");
    let len: usize = head.strip_prefix('$').and_then(|len| len.parse().ok()).expect("a bulk string");
    let text = &text[..len];
    let mut fields = BTreeMap::new();
    for line in text.lines().filter(|line| !line.is_empty() && !line.starts_with("# ")) {
        let (name, value) =
            line.split_once(':').unwrap_or_else(|| panic!("neither section nor field: {line}"));
        assert!(fields.insert(name.to_owned(), value.to_owned()).is_none(), "{name} twice");
    }
    fields
}

/// What a client was told in bulk strings of an array or map of them.
fn strings(reply: &str) -> Vec<String> {
    let lines: Vec<&str> = reply.split("\r\n").collect();
    let told = lines.windows(2).filter(|pair| pair[0].starts_with('$') && pair[0].len() > 1);
    told.map(|pair| pair[1].to_owned()).collect()
}

#[test]
fn info_farmem_has_every_field_and_no_other() {
    let mut store = store();
    let client = store.connect();
    store.engine.set_link_reports(vec![engine::LinkReport {
        uri: "mem:1gb".into(),
        state: "up".into(),
        in_flight: 3,
        lost_pages: 2,
        ..engine::LinkReport::default()
    }]);
    let known = "pager prefetch local_budget_bytes local_used_bytes index_bytes client_buffer_bytes frames_total \
                 frames_free frames_dirty frames_pinned far_capacity_bytes far_used_bytes far_fragmentation_ratio \
                 pages_fetched pages_written_back pages_evicted pages_dropped bytes_wanted command_hits \
                 command_misses unplanned_faults parked_clients parks_total fetch_rounds fetch_latency_us_p50 \
                 fetch_latency_us_p99 fetch_latency_us_p999 checksum_failures pages_repaired link0";
    let mut known: Vec<&str> = known.split_whitespace().collect();
    known.sort_unstable();
    let fields = fields(&mut store, client, "INFO farmem");
    assert_eq!(fields.keys().collect::<Vec<_>>(), known);
    assert_eq!(fields["link0"], "uri=mem:1gb,state=up,in_flight=3,errors=0,stale_pages=0,lost_pages=2");
    assert_eq!((fields["pager"].as_str(), fields["prefetch"].as_str()), ("soft", "ahead"));
    assert_eq!(fields["local_budget_bytes"], (8 << 20).to_string());
    assert_eq!(fields["far_capacity_bytes"], (1u64 << 30).to_string());
}

#[test]
fn info_farmem_follows_what_happens() {
    let mut store = store();
    let client = store.connect();
    let value = vec![b'x'; 20_000];
    store.command(client, &[b"SET", b"k", &value]);
    assert!(store.farmem(client, "far_used_bytes") >= 20_000);
    assert!(store.farmem(client, "frames_dirty") >= 5);
    assert!(store.farmem(client, "index_bytes") > 0);
    store.evict_all(client);
    let (fetched, misses) = (store.farmem(client, "pages_fetched"), store.farmem(client, "command_misses"));
    let wanted = store.farmem(client, "bytes_wanted");
    store.command(client, &[b"GET", b"k"]);
    assert!(store.farmem(client, "pages_fetched") - fetched >= 5);
    assert_eq!(store.farmem(client, "command_misses") - misses, 1);
    assert_eq!(store.farmem(client, "bytes_wanted") - wanted, 20_000);
    assert_eq!(store.farmem(client, "unplanned_faults"), 0);
    let budget = store.farmem(client, "local_budget_bytes");
    assert!(store.farmem(client, "local_used_bytes") <= budget);
}

#[test]
fn info_has_the_sections_that_are_asked_for() {
    let mut store = store();
    let client = store.connect();
    let mut sections = |line: &str| -> Vec<String> {
        let reply = store.ask(client, line);
        reply.lines().filter_map(|line| line.strip_prefix("# ")).map(str::to_owned).collect()
    };
    let default =
        "Server Clients Memory Farmem Persistence Stats Replication CPU Modules Errorstats Cluster Keyspace";
    let default: Vec<&str> = default.split(' ').collect();
    assert_eq!(sections("INFO"), default);
    assert_eq!(sections("INFO default"), default);
    assert_eq!(sections("INFO all").len(), default.len() + 2);
    assert_eq!(sections("INFO everything").len(), default.len() + 2);
    assert_eq!(sections("INFO keyspace SERVER cpu"), ["Server", "CPU", "Keyspace"]);
    assert_eq!(sections("INFO default commandstats").len(), default.len() + 1);
    assert_eq!(sections("INFO bogus").len(), 0);
}

#[test]
fn info_says_what_tools_read() {
    let mut store = store();
    let client = store.connect();
    store.engine.set_process_facts(ProcessFacts {
        process_id: 77,
        os: "Linux".into(),
        ..ProcessFacts::default()
    });
    store.engine.set_process_usage(5 << 20, 1_500_000, 2_000_001);
    store.advance_ms(90_000);
    store.ask(client, "SET a 1");
    store.ask(client, "SET b 1 EX 100");
    store.ask(client, "GET a");
    store.ask(client, "GET none");
    store.ask(client, "BOGUS");
    store.ask(client, "LPUSH a x");
    let info = fields(&mut store, client, "INFO all");
    for (name, value) in [
        ("redis_version", "7.0.15"),
        ("remora_version", env!("CARGO_PKG_VERSION")),
        ("redis_mode", "standalone"),
        ("process_id", "77"),
        ("tcp_port", "6379"),
        ("uptime_in_seconds", "90"),
        ("connected_clients", "1"),
        ("maxclients", "10000"),
        ("used_memory_rss", "5242880"),
        ("used_memory_rss_human", "5.00M"),
        ("maxmemory_human", "0B"),
        ("maxmemory_policy", "noeviction"),
        ("loading", "0"),
        ("rdb_last_bgsave_status", "ok"),
        ("rdb_changes_since_last_save", "2"),
        ("keyspace_hits", "1"),
        ("keyspace_misses", "1"),
        ("role", "master"),
        ("used_cpu_sys", "1.500000"),
        ("used_cpu_user", "2.000001"),
        ("cluster_enabled", "0"),
        ("total_error_replies", "2"),
        ("errorstat_ERR", "count=1"),
        ("errorstat_WRONGTYPE", "count=1"),
        ("cmdstat_set", "calls=2,rejected_calls=0,failed_calls=0"),
        ("cmdstat_lpush", "calls=1,rejected_calls=0,failed_calls=1"),
        ("db0", "keys=2,expires=1,avg_ttl=100000"),
    ] {
        assert_eq!(info.get(name).map(String::as_str), Some(value), "{name}");
    }
    assert_eq!(info["run_id"].len(), 40);
    let number = |name: &str| info[name].parse::<u64>().unwrap_or_else(|_| panic!("{name} is a number"));
    assert!(number("used_memory_peak") >= number("used_memory"));
    assert!(number("used_memory") >= number("used_memory_dataset"));
}

#[test]
fn resetstat_forgets_counters_and_keeps_what_is_no_counter() {
    let mut store = store();
    let client = store.connect();
    store.ask(client, "SET a 1");
    store.ask(client, "GET a");
    store.ask(client, "BOGUS");
    assert_eq!(store.ask(client, "CONFIG RESETSTAT"), "+OK\r\n");
    let info = fields(&mut store, client, "INFO everything");
    for name in ["keyspace_hits", "total_error_replies", "total_connections_received", "pages_fetched"] {
        assert_eq!(info[name], "0", "{name}");
    }
    assert!(!info.contains_key("errorstat_ERR") && !info.contains_key("cmdstat_set"));
    assert_eq!(info["rdb_changes_since_last_save"], "1");
    assert_eq!(info["db0"], "keys=1,expires=0,avg_ttl=0");
}

#[test]
fn every_directive_comes_back_as_it_was_set() {
    let mut store = store();
    let client = store.connect();
    let all = strings(&store.ask(client, "CONFIG GET *"));
    assert!(all.len() >= 2 * 80, "{}", all.len());
    let (mut set, mut kept) = (0, 0);
    for pair in all.chunks(2) {
        let (name, value) = (pair[0].as_bytes(), pair[1].as_bytes());
        let reply = store.command(client, &[b"CONFIG", b"SET", name, value]);
        let reply = String::from_utf8_lossy(&reply);
        if reply.ends_with("can't set immutable config\r\n")
            || reply.ends_with("can't set protected config\r\n")
        {
            kept += 1;
        } else {
            assert_eq!(reply, "+OK\r\n", "{pair:?}");
            set += 1;
        }
        assert_eq!(strings(&store.ask(client, &format!("CONFIG GET {}", pair[0]))), pair);
    }
    assert!(set > 60 && kept > 10, "{set} set, {kept} kept");
    assert_eq!(strings(&store.ask(client, "CONFIG GET *")), all);
}

#[test]
fn config_get_takes_names_and_patterns_and_gives_each_once() {
    let mut store = store();
    let client = store.connect();
    assert_eq!(store.ask(client, "CONFIG GET MAXmemory"), "*2\r\n$9\r\nMAXmemory\r\n$1\r\n0\r\n");
    assert_eq!(store.ask(client, "CONFIG GET bogus"), "*0\r\n");
    assert_eq!(strings(&store.ask(client, "CONFIG GET maxmemory maxmemory m?xmemory")).len(), 2);
    let found = strings(&store.ask(client, "CONFIG GET list-max-*"));
    assert_eq!(found, ["list-max-listpack-size", "-2", "list-max-ziplist-size", "-2"]);
    assert_eq!(store.ask(client, "CONFIG SET list-max-ziplist-size 5"), "+OK\r\n");
    assert_eq!(strings(&store.ask(client, "CONFIG GET list-max-listpack-size"))[1], "5");
}

#[test]
fn config_set_sets_all_or_nothing_and_says_why_in_redis_words() {
    let mut store = store();
    let client = store.connect();
    let failed = |name: &str, why: &str| {
        format!("-ERR CONFIG SET failed (possibly related to argument '{name}') - {why}\r\n")
    };
    for (line, reply) in [
        (
            "maxmemory 1gb bogus 1",
            "-ERR Unknown option or number of arguments for CONFIG SET - 'bogus'\r\n".into(),
        ),
        ("maxmemory 1gb timeout x", failed("timeout", "argument couldn't be parsed into an integer")),
        (
            "maxmemory 1gb TIMEOUT -1",
            failed("timeout", "argument must be between 0 and 2147483647 inclusive"),
        ),
        ("maxmemory 1gb maxmemory 2gb", failed("maxmemory", "duplicate parameter")),
        ("maxmemory 1gb databases 4", failed("databases", "can't set immutable config")),
        ("maxmemory 1gb dir /tmp", failed("dir", "can't set protected config")),
        ("maxmemory 1gb appendonly yes", failed("appendonly", "only 'no' is supported here")),
        ("maxmemory 1x", failed("maxmemory", "argument must be a memory value")),
        ("protected-mode maybe", failed("protected-mode", "argument must be 'yes' or 'no'")),
        ("local-memory 1k", failed("local-memory", "must be at least 1mb")),
        ("maxmemory 10 x", "-ERR syntax error\r\n".into()),
    ] {
        assert_eq!(store.ask(client, &format!("CONFIG SET {line}")), reply, "{line}");
    }
    assert_eq!(strings(&store.ask(client, "CONFIG GET maxmemory"))[1], "0");
    assert_eq!(store.ask(client, "CONFIG SET maxmemory 1gb timeout 7 hz 1000"), "+OK\r\n");
    assert_eq!(strings(&store.ask(client, "CONFIG GET maxmemory"))[1], (1u64 << 30).to_string());
    assert_eq!(strings(&store.ask(client, "CONFIG GET hz"))[1], "500");
}

#[test]
fn local_memory_shrinks_and_grows_while_the_server_runs() {
    let mut store = store();
    let client = store.connect();
    for index in 0..200 {
        store.command(client, &[b"SET", format!("k{index}").as_bytes(), &[b'x'; 20_000]]);
    }
    let before = store.farmem(client, "frames_total");
    assert_eq!(store.ask(client, "CONFIG SET local-memory 2mb"), "+OK\r\n");
    for _ in 0..20 {
        store.advance_ms(100);
    }
    assert!(store.farmem(client, "frames_total") < before / 2);
    assert!(store.farmem(client, "local_used_bytes") <= 2 << 20);
    assert_eq!(store.ask(client, "STRLEN k7"), ":20000\r\n");
    assert_eq!(store.ask(client, "CONFIG SET local-memory 8mb"), "+OK\r\n");
    store.advance_ms(100);
    let after = store.farmem(client, "frames_total");
    assert!(after > before * 9 / 10, "near memory aside, as many as before: {before}, {after}");
}

#[test]
fn idle_clients_are_closed_after_the_timeout_that_is_set() {
    let mut store = store();
    let (idle, busy) = (store.connect(), store.connect());
    assert_eq!(store.ask(busy, "CONFIG SET timeout 2"), "+OK\r\n");
    for _ in 0..30 {
        store.advance_ms(100);
        store.ask(busy, "PING");
    }
    assert!(store.engine.should_close(idle));
    assert!(!store.engine.should_close(busy));
}

#[test]
fn without_its_password_a_client_may_only_say_who_it_is() {
    let mut store = store_with(|config| config.requirepass = "secret".into());
    let client = store.connect();
    let refused = "-NOAUTH Authentication required.\r\n";
    let wrong = "-WRONGPASS invalid username-password pair or user is disabled.\r\n";
    for line in ["PING", "GET a", "INFO", "CLIENT ID"] {
        assert_eq!(store.ask(client, line), refused, "{line}");
    }
    assert_eq!(store.ask(client, "AUTH wrong"), wrong);
    assert_eq!(store.ask(client, "AUTH secretly"), wrong);
    assert_eq!(store.ask(client, "AUTH nobody secret"), wrong);
    assert_eq!(store.ask(client, "AUTH a b c"), "-ERR syntax error\r\n");
    assert!(store.ask(client, "HELLO 3").starts_with("-NOAUTH HELLO must be called with"));
    assert_eq!(store.ask(client, "PING"), refused);
    assert_eq!(store.ask(client, "AUTH secret"), "+OK\r\n");
    assert_eq!(store.ask(client, "AUTH wrong"), wrong);
    assert_eq!(store.ask(client, "PING"), "+PONG\r\n");
    assert_eq!(store.ask(client, "RESET"), "+RESET\r\n");
    assert_eq!(store.ask(client, "PING"), refused);
    assert!(store.ask(client, "HELLO 3 AUTH default secret").starts_with("%7\r\n"));
    assert_eq!(store.ask(client, "QUIT"), "+OK\r\n");
    assert!(store.engine.should_close(client));
}

#[test]
fn a_password_can_come_and_go_while_the_server_runs() {
    let mut store = store();
    let early = store.connect();
    assert!(store.ask(early, "AUTH x").starts_with("-ERR AUTH <password> called without any password"));
    assert_eq!(store.ask(early, "AUTH default x"), "+OK\r\n");
    assert_eq!(store.ask(early, "CONFIG SET requirepass secret"), "+OK\r\n");
    assert_eq!(store.ask(early, "PING"), "+PONG\r\n", "who is in stays in");
    let late = store.connect();
    assert!(store.ask(late, "PING").starts_with("-NOAUTH"));
    assert_eq!(store.command(early, &[b"CONFIG", b"SET", b"requirepass", b""]), b"+OK\r\n");
    assert_eq!(store.ask(late, "PING"), "+PONG\r\n");
}

#[test]
fn protected_mode_refuses_strangers_only_while_there_is_no_password() {
    let mut store = store_with(|config| config.maxclients = 2);
    let stranger = || Peer { address: "10.1.2.3:4".into(), ..Peer::default() };
    let refused = store.engine.handle_connected(stranger(), store.now);
    assert!(refused.expect_err("there is no password").starts_with("-DENIED "));
    let client = store.connect();
    assert_eq!(store.ask(client, "CONFIG SET requirepass secret"), "+OK\r\n");
    let known =
        store.engine.handle_connected(stranger(), store.now).expect("it will be asked for a password");
    assert!(store.ask(known, "PING").starts_with("-NOAUTH"));
    let third = store.engine.handle_connected(stranger(), store.now);
    assert_eq!(third.expect_err("two are the most"), "-ERR max number of clients reached\r\n");
    assert_eq!(fields(&mut store, client, "INFO stats")["rejected_connections"], "2");
}

#[test]
fn hello_says_who_serves_and_switches_the_protocol() {
    let mut store = store();
    let client = store.connect();
    let third = "%7\r\n$6\r\nserver\r\n$5\r\nredis\r\n$7\r\nversion\r\n$6\r\n7.0.15\r\n$5\r\nproto\r\n:3\r\n\
                 $2\r\nid\r\n:1\r\n$4\r\nmode\r\n$10\r\nstandalone\r\n$4\r\nrole\r\n$6\r\nmaster\r\n\
                 $7\r\nmodules\r\n*0\r\n";
    assert_eq!(store.ask(client, "HELLO 3 SETNAME me"), third);
    assert_eq!(store.ask(client, "GET none"), "_\r\n");
    assert_eq!(store.ask(client, "CLIENT GETNAME"), "$2\r\nme\r\n");
    assert_eq!(store.ask(client, "HELLO"), third);
    assert_eq!(store.ask(client, "HELLO 2"), third.replace("%7", "*14").replace(":3", ":2"));
    assert_eq!(store.ask(client, "GET none"), "$-1\r\n");
    assert_eq!(store.ask(client, "HELLO 4"), "-NOPROTO unsupported protocol version\r\n");
    let not_a_number = "-ERR Protocol version is not an integer or out of range\r\n";
    assert_eq!(store.ask(client, "HELLO x"), not_a_number);
    assert_eq!(store.ask(client, "HELLO 3 AUTH default"), "-ERR Syntax error in HELLO option 'AUTH'\r\n");
    assert!(store.ask(client, "HELLO 3 AUTH nobody x").starts_with("-WRONGPASS "));
    assert_eq!(store.ask(client, "GET none"), "$-1\r\n", "a HELLO that failed switches nothing");
}

#[test]
fn client_list_has_a_line_a_connection_with_the_oldest_first() {
    let mut store = store();
    let (one, two, three) = (store.connect(), store.connect(), store.connect());
    store.ask(two, "CLIENT SETNAME second");
    store.ask(two, "SELECT 5");
    let list = store.ask(three, "CLIENT LIST");
    let lines: Vec<&str> = list.lines().filter(|line| line.starts_with("id=")).collect();
    assert_eq!(lines.len(), 3);
    assert!(lines[0].starts_with("id=1 addr=127.0.0.1:1 ") && lines[0].contains(" cmd=NULL "), "{list}");
    assert!(lines[1].contains(" name=second ") && lines[1].contains(" db=5 "), "{list}");
    assert!(lines[2].contains(" cmd=client|list ") && lines[2].ends_with(" resp=2"), "{list}");
    let some = store.ask(one, "CLIENT LIST ID 3 1 99");
    let some: Vec<&str> = some.lines().filter(|line| line.starts_with("id=")).collect();
    assert!(some.len() == 2 && some[0].starts_with("id=3 ") && some[1].starts_with("id=1 "));
    assert_eq!(store.ask(one, "CLIENT LIST TYPE pubsub"), "$0\r\n\r\n");
    assert_eq!(store.ask(one, "CLIENT LIST TYPE x"), "-ERR Unknown client type 'x'\r\n");
    assert_eq!(store.ask(one, "CLIENT LIST ID x"), "-ERR Invalid client ID\r\n");
    assert!(store.ask(two, "CLIENT INFO").contains("id=2 "));
    assert_eq!(
        store.ask(two, "CLIENT SETNAME a\u{e4}"),
        "-ERR Client names cannot contain spaces, newlines or special characters.\r\n"
    );
}

#[test]
fn client_kill_ends_others_at_once_and_itself_after_its_answer() {
    let mut store = store();
    let (killer, victim, other) = (store.connect(), store.connect(), store.connect());
    assert_eq!(store.ask(killer, "CLIENT KILL 1.2.3.4:5"), "-ERR No such client\r\n");
    assert_eq!(store.ask(killer, "CLIENT KILL ID 2"), ":1\r\n");
    assert!(store.engine.should_close(victim));
    assert_eq!(store.ask(victim, "PING"), "", "nothing is run for who is killed");
    store.engine.handle_disconnected(victim);
    assert_eq!(store.ask(killer, "CLIENT KILL ID 2"), ":0\r\n");
    assert_eq!(store.ask(killer, "CLIENT KILL ID 0"), "-ERR client-id should be greater than 0\r\n");
    assert_eq!(store.ask(killer, "CLIENT KILL TYPE pubsub"), ":0\r\n");
    assert_eq!(store.ask(killer, "CLIENT KILL USER nobody"), "-ERR No such user 'nobody'\r\n");
    assert_eq!(store.ask(killer, "CLIENT KILL SKIPME maybe"), "-ERR syntax error\r\n");
    assert_eq!(store.ask(killer, "CLIENT KILL USER default SKIPME no"), ":2\r\n");
    assert!(store.engine.should_close(killer) && store.engine.should_close(other));
}

#[test]
fn a_client_that_is_killed_while_it_waits_leaves_nothing_behind() {
    let mut store = store();
    let (waiter, killer) = (store.connect(), store.connect());
    store.command(waiter, &[b"SET", b"k", &[b'x'; 50_000]]);
    store.evict_all(killer);
    store.engine.handle_input(waiter, &request(&[b"GET", b"k"]), store.now);
    assert_eq!(store.farmem(killer, "parked_clients"), 1);
    store.engine.handle_input(killer, &request(&[b"CLIENT", b"KILL", b"ID", b"1"]), store.now);
    assert!(store.engine.should_close(waiter));
    store.engine.handle_disconnected(waiter);
    while store.turn() {}
    assert_eq!(store.farmem(killer, "frames_pinned"), 0);
}

#[test]
fn client_reply_silences_what_it_says() {
    let mut store = store();
    let client = store.connect();
    for (line, reply) in [
        ("CLIENT REPLY SKIP", ""),
        ("SET k v", ""),
        ("GET k", "$1\r\nv\r\n"),
        ("CLIENT REPLY SKIP", ""),
        ("BOGUS", ""),
        ("GET k", "$1\r\nv\r\n"),
        ("CLIENT REPLY OFF", ""),
        ("GET k", ""),
        ("BOGUS", ""),
        ("CLIENT REPLY SKIP", ""),
        ("GET k", ""),
        ("CLIENT REPLY ON", "+OK\r\n"),
        ("CLIENT REPLY OFF", ""),
        ("RESET", "+RESET\r\n"),
        ("CLIENT REPLY x", "-ERR syntax error\r\n"),
    ] {
        assert_eq!(store.ask(client, line), reply, "{line}");
    }
}

#[test]
fn reset_makes_a_connection_new() {
    let mut store = store();
    let client = store.connect();
    for line in ["SELECT 3", "CLIENT SETNAME me", "HELLO 3"] {
        store.ask(client, line);
    }
    assert_eq!(store.ask(client, "RESET"), "+RESET\r\n");
    assert_eq!(store.ask(client, "CLIENT GETNAME"), "$-1\r\n");
    assert!(store.ask(client, "CLIENT INFO").contains(" db=0 "));
}

#[test]
fn time_is_the_body_s() {
    let mut store = store();
    let client = store.connect();
    store.now.unix_ms = 1_700_000_000_123;
    store.now.unix_us_rest = 456;
    assert_eq!(store.ask(client, "TIME"), "*2\r\n$10\r\n1700000000\r\n$6\r\n123456\r\n");
}

#[test]
fn shutdown_is_asked_for_once_and_only_in_words_that_make_sense() {
    let mut store = store();
    let client = store.connect();
    for (line, reply) in [
        ("SHUTDOWN BOGUS", "-ERR syntax error\r\n"),
        ("SHUTDOWN SAVE NOSAVE", "-ERR syntax error\r\n"),
        ("SHUTDOWN ABORT NOW", "-ERR syntax error\r\n"),
        ("SHUTDOWN ABORT", "-ERR No shutdown in progress.\r\n"),
        ("SHUTDOWN SAVE", "-ERR Errors trying to SHUTDOWN. Check logs.\r\n"),
    ] {
        assert_eq!(store.ask(client, line), reply, "{line}");
        assert!(!store.engine.poll_shutdown());
    }
    assert_eq!(store.ask(client, "SHUTDOWN NOSAVE NOW"), "");
    assert!(store.engine.poll_shutdown() && !store.engine.poll_shutdown());
}

#[test]
fn command_answers_from_the_table() {
    let mut store = store();
    let client = store.connect();
    let count = store.ask(client, "COMMAND COUNT");
    assert!(count[1..].trim().parse::<u32>().is_ok_and(|count| count > 80), "{count}");
    assert!(store.ask(client, "COMMAND INFO get").starts_with("*1\r\n*10\r\n$3\r\nget\r\n:2\r\n"));
    assert_eq!(store.ask(client, "COMMAND GETKEYS MSET a 1 b 2"), "*2\r\n$1\r\na\r\n$1\r\nb\r\n");
    assert!(store.ask(client, "COMMAND DOCS get").starts_with("*2\r\n$3\r\nget\r\n"));
    assert!(store.ask(client, "PING a b").starts_with("-ERR wrong number of arguments for 'ping'"));
    assert_eq!(store.ask(client, "ECHO hello"), "$5\r\nhello\r\n");
}
