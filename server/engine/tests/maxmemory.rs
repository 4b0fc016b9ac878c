//! The cap of the data set: which keys go, and who is refused when none may.

mod support;

use engine::{ClientId, Config};
use farmem::Prefetch;
use support::Store;

const OOM: &str = "-OOM command not allowed when used memory > 'maxmemory'.\r\n";

/// A store whose data set may have `bytes`, under a policy.
fn store(policy: &str, bytes: &str) -> (Store, ClientId) {
    let mut config = Config::default();
    config.set("maxmemory", &[bytes]).expect("a memory value");
    config.set("maxmemory-policy", &[policy]).expect("a policy");
    config.set("maxmemory-samples", &["10"]).expect("a number");
    let mut store = Store::with(8 << 20, 1 << 18, Prefetch::Ahead, config);
    let client = store.connect();
    (store, client)
}

/// Sets keys of 1 KiB, `first..last`, with `options` behind.
fn fill(store: &mut Store, client: ClientId, prefix: &str, count: usize, options: &str) -> usize {
    let value = "v".repeat(1000);
    (0..count)
        .filter(|number| store.ask(client, &format!("SET {prefix}:{number} {value} {options}")) == "+OK\r\n")
        .count()
}

fn alive(store: &mut Store, client: ClientId, prefix: &str, count: usize) -> usize {
    (0..count).filter(|number| store.ask(client, &format!("EXISTS {prefix}:{number}")) == ":1\r\n").count()
}

#[test]
fn without_eviction_writes_are_refused_and_reads_and_deletes_go_on() {
    let (mut store, client) = store("noeviction", "2mb");
    let taken = fill(&mut store, client, "k", 3000, "");
    assert!((1000..2000).contains(&taken), "{taken} of 3000 fit");
    assert_eq!(store.ask(client, "SET other v"), OOM);
    assert_eq!(store.ask(client, "APPEND k:0 v"), OOM);
    assert_eq!(store.ask(client, "STRLEN k:0"), ":1000\r\n", "a refused write changes nothing");
    assert_eq!(store.ask(client, "DEL k:0 k:1 k:2 k:3"), ":4\r\n");
    assert_eq!(store.ask(client, "SET other v"), "+OK\r\n");
}

#[test]
fn any_key_goes_under_the_allkeys_policies() {
    for policy in ["allkeys-lru", "allkeys-lfu", "allkeys-random"] {
        let (mut store, client) = store(policy, "2mb");
        assert_eq!(fill(&mut store, client, "k", 5000, ""), 5000, "{policy} refuses nothing");
        let left = alive(&mut store, client, "k", 5000);
        assert!((1000..2000).contains(&left), "{policy}: {left} are left");
    }
}

#[test]
fn only_keys_with_a_time_go_under_the_volatile_policies() {
    for policy in ["volatile-lru", "volatile-lfu", "volatile-random", "volatile-ttl"] {
        let (mut store, client) = store(policy, "2mb");
        assert_eq!(fill(&mut store, client, "timed", 600, "EX 1000"), 600);
        let kept = fill(&mut store, client, "kept", 3000, "");
        assert!((1000..2000).contains(&kept), "{policy}: {kept} fit");
        assert_eq!(alive(&mut store, client, "kept", kept), kept, "{policy}");
        assert_eq!(alive(&mut store, client, "timed", 600), 0, "{policy}");
        assert_eq!(store.ask(client, "SET other v"), OOM, "{policy} has nothing left to evict");
    }
}

#[test]
fn the_longest_unused_go_first() {
    let (mut store, client) = store("allkeys-lru", "2mb");
    fill(&mut store, client, "old", 500, "");
    fill(&mut store, client, "hot", 500, "");
    store.advance_ms(60_000);
    for number in 0..500 {
        store.ask(client, &format!("GET hot:{number}"));
    }
    store.advance_ms(60_000);
    fill(&mut store, client, "new", 1250, "");
    let (old, hot) = (alive(&mut store, client, "old", 500), alive(&mut store, client, "hot", 500));
    assert!(old < 300 && (500 - old) > 10 * (500 - hot), "{old} unused and {hot} used are left");
}

#[test]
fn the_least_often_used_go_first() {
    let (mut store, client) = store("allkeys-lfu", "2mb");
    store.advance_ms(100);
    fill(&mut store, client, "rare", 500, "");
    fill(&mut store, client, "often", 500, "");
    for _ in 0..20 {
        for number in 0..500 {
            store.ask(client, &format!("GET often:{number}"));
        }
    }
    fill(&mut store, client, "new", 3000, "");
    let (rare, often) = (alive(&mut store, client, "rare", 500), alive(&mut store, client, "often", 500));
    assert!(often > rare * 3 && often > 450, "{rare} rarely used and {often} often used are left");
}

#[test]
fn the_soonest_to_expire_go_first() {
    let (mut store, client) = store("volatile-ttl", "2mb");
    fill(&mut store, client, "late", 500, "EX 100000");
    fill(&mut store, client, "soon", 500, "EX 1000");
    fill(&mut store, client, "kept", 1300, "");
    let (late, soon) = (alive(&mut store, client, "late", 500), alive(&mut store, client, "soon", 500));
    assert!(soon < 300 && (500 - soon) > 10 * (500 - late), "{late} late and {soon} soon are left");
}

#[test]
fn eviction_fetches_nothing() {
    let (mut store, client) = store("allkeys-lru", "4mb");
    fill(&mut store, client, "k", 3000, "");
    store.evict_all(client);
    let fetched = |store: &mut Store| {
        let stats = store.ask(client, "FARMEM STATS");
        stats.lines().skip_while(|line| *line != "pages_fetched").nth(1).map(str::to_owned)
    };
    let before = fetched(&mut store);
    fill(&mut store, client, "more", 2000, "");
    assert_eq!(fetched(&mut store), before);
}

#[test]
fn so_many_keys_that_frames_run_short_are_refused_and_the_others_live() {
    let mut store = Store::with(1 << 20, 1 << 18, Prefetch::Ahead, Config::default());
    let client = store.connect();
    let mut taken = 0;
    for number in 0..100_000 {
        if number % 500 == 0 {
            store.advance_ms(100);
        }
        match store.ask(client, &format!("SET key:{number} {number}")).as_str() {
            "+OK\r\n" => taken += 1,
            OOM => break,
            other => panic!("{other}"),
        }
    }
    assert!((5000..60_000).contains(&taken), "{taken} keys fit in 1 MiB");
    assert_eq!(store.ask(client, "GET key:77"), "$2\r\n77\r\n");
    assert_eq!(store.ask(client, "SET another v"), OOM);
    for number in 0..taken / 2 {
        assert_eq!(store.ask(client, &format!("DEL key:{number}")), ":1\r\n");
    }
    store.advance_ms(100);
    assert_eq!(store.ask(client, "SET another v"), "+OK\r\n");
}
