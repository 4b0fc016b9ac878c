//! Keys whose time is over: by the clock and on demand, and what that costs.

mod support;

use engine::{ClientId, Config, Peer};
use farmem::Prefetch;
use support::Store;

fn store(local_memory: u64) -> (Store, ClientId) {
    let mut store = Store::new(local_memory, Prefetch::Ahead);
    let client = store.connect();
    (store, client)
}

fn dbsize(store: &mut Store, client: ClientId) -> usize {
    let reply = store.ask(client, "DBSIZE");
    reply.trim().trim_start_matches(':').parse().expect("an integer")
}

#[test]
fn ten_thousand_keys_vanish_in_a_few_ticks_and_nothing_is_fetched() {
    let (mut store, client) = store(4 << 20);
    for number in 0..10_000 {
        store.ask(client, &format!("SET key:{number} {} PX 500", "v".repeat(100)));
        store.ask(client, &format!("SET stays:{number} 1 EX 1000"));
    }
    store.evict_all(client);
    let before = store.ask(client, "FARMEM STATS");
    store.now.unix_ms += 500;
    let mut ticks = 0;
    while dbsize(&mut store, client) > 10_000 {
        store.advance_ms(100);
        ticks += 1;
        assert!(ticks <= 400, "{} are left", dbsize(&mut store, client));
        if ticks == 10 {
            assert!(dbsize(&mut store, client) < 12_000, "most are gone at once");
        }
    }
    let pages_fetched =
        |stats: &str| stats.lines().skip_while(|line| *line != "pages_fetched").nth(1).map(str::to_owned);
    assert_eq!(pages_fetched(&store.ask(client, "FARMEM STATS")), pages_fetched(&before));
}

#[test]
fn one_tick_deletes_a_bounded_number() {
    let (mut store, client) = store(8 << 20);
    for number in 0..20_000 {
        store.ask(client, &format!("SET key:{number} v PX 10"));
    }
    store.advance_ms(100);
    let left = dbsize(&mut store, client);
    assert!((11_000..12_000).contains(&left), "{left} are left after one tick");
    for _ in 0..3 {
        store.advance_ms(100);
    }
    assert_eq!(dbsize(&mut store, client), 0);
}

#[test]
fn the_active_cycle_can_be_turned_off_and_keys_still_expire_when_they_are_asked_for() {
    let (mut store, client) = store(2 << 20);
    assert_eq!(store.ask(client, "DEBUG SET-ACTIVE-EXPIRE 0"), "+OK\r\n");
    store.ask(client, "SET k v PX 10");
    store.advance_ms(1000);
    assert_eq!(dbsize(&mut store, client), 1);
    assert_eq!(store.ask(client, "KEYS *"), "*0\r\n");
    assert_eq!(store.ask(client, "SCAN 0"), "*2\r\n$1\r\n0\r\n*0\r\n");
    assert_eq!(store.ask(client, "EXISTS k"), ":0\r\n");
    assert_eq!(dbsize(&mut store, client), 0);
    store.ask(client, "SET k v PX 10");
    assert_eq!(store.ask(client, "DEBUG SET-ACTIVE-EXPIRE 1"), "+OK\r\n");
    store.advance_ms(1000);
    assert_eq!(dbsize(&mut store, client), 0);
}

#[test]
fn the_expire_family_answers_as_redis_does() {
    let (mut store, client) = store(2 << 20);
    store.ask(client, "SET k v");
    for (line, reply) in [
        ("EXPIRE missing 10", ":0\r\n"),
        ("EXPIRE k 10 XX", ":0\r\n"),
        ("EXPIRE k 10 GT", ":0\r\n"),
        ("EXPIRE k 100 LT", ":1\r\n"),
        ("EXPIRE k 10 NX", ":0\r\n"),
        ("EXPIRE k 100 GT", ":0\r\n"),
        ("EXPIRE k 200 GT", ":1\r\n"),
        ("EXPIRE k 200 LT", ":0\r\n"),
        ("EXPIRE k 50 LT", ":1\r\n"),
        ("EXPIRE k 60 XX GT", ":1\r\n"),
        ("TTL k", ":60\r\n"),
        ("PTTL k", ":60000\r\n"),
        ("PEXPIRE k 1499", ":1\r\n"),
        ("TTL k", ":1\r\n"),
        ("PEXPIREAT k 1700000002500", ":1\r\n"),
        ("EXPIRETIME k", ":1700000003\r\n"),
        ("PEXPIRETIME k", ":1700000002500\r\n"),
        ("PERSIST k", ":1\r\n"),
        ("PERSIST k", ":0\r\n"),
        ("TTL k", ":-1\r\n"),
        ("TTL missing", ":-2\r\n"),
        ("EXPIRE k 10 NX GT", "-ERR NX and XX, GT or LT options at the same time are not compatible\r\n"),
        ("EXPIRE k 10 LT GT", "-ERR GT and LT options at the same time are not compatible\r\n"),
        ("EXPIRE k 10 foo", "-ERR Unsupported option foo\r\n"),
        ("EXPIRE k x", "-ERR value is not an integer or out of range\r\n"),
        ("EXPIRE k 9223372036854775807", "-ERR invalid expire time in 'expire' command\r\n"),
        ("PEXPIRE k 9223372036854775807", "-ERR invalid expire time in 'pexpire' command\r\n"),
        ("EXPIREAT k -1", ":1\r\n"),
        ("EXISTS k", ":0\r\n"),
    ] {
        assert_eq!(store.ask(client, line), reply, "{line}");
    }
}

#[test]
fn debug_is_for_whom_the_configuration_allows() {
    let refused = "-ERR DEBUG command not allowed.";
    for (setting, loopback, allowed) in
        [("yes", false, true), ("local", true, true), ("local", false, false), ("no", true, false)]
    {
        let mut config = Config { protected_mode: false, ..Config::default() };
        config.set("enable-debug-command", &[setting]).expect("one of its values");
        let mut store = Store::with(2 << 20, 1 << 12, Prefetch::Ahead, config);
        let peer = Peer { loopback, ..Peer::default() };
        let client = store.engine.handle_connected(peer, store.now).expect("anybody may connect");
        let reply = store.ask(client, "DEBUG SET-ACTIVE-EXPIRE 1");
        assert_eq!(reply == "+OK\r\n", allowed, "{setting}: {reply}");
        assert_eq!(reply.starts_with(refused), !allowed);
        assert_eq!(store.ask(client, "PING"), "+PONG\r\n");
    }
}
