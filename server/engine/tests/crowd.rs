//! Many clients that have sent a part of a command: what they hold near together is bounded.

mod support;

use engine::ClientId;
use farmem::Prefetch;
use support::{Store, request};

const MB: usize = 1 << 20;
const LOCAL: u64 = 64 << 20;

/// A part of what the socket brings, as a body reads it: not while the engine does not want it.
fn send(store: &mut Store, client: ClientId, bytes: &[u8]) {
    for read in bytes.chunks(64 << 10) {
        while !store.engine.wants_input(client) {
            assert!(store.turn(), "nothing moves and nobody is read from");
        }
        store.engine.handle_input(client, read, store.now);
    }
}

fn client_buffer_bytes(store: &mut Store, client: ClientId) -> usize {
    store.advance_ms(100);
    store.farmem(client, "client_buffer_bytes") as usize
}

#[test]
fn half_sent_values_of_many_clients_wait_in_far_memory() {
    let mut store = Store::new(LOCAL, Prefetch::Ahead);
    let other = store.connect();
    let value = vec![b'v'; 200 << 10];
    let clients: Vec<ClientId> = (0..600).map(|_| store.connect()).collect();
    let commands: Vec<Vec<u8>> =
        (0..clients.len()).map(|index| request(&[b"SET", format!("k{index}").as_bytes(), &value])).collect();
    for (client, command) in clients.iter().zip(&commands) {
        send(&mut store, *client, &command[..100 << 10]);
        assert_eq!(store.ask(other, "PING"), "+PONG\r\n");
    }
    let held = client_buffer_bytes(&mut store, other);
    assert!(held < 12 * MB, "{held} bytes of the 60 MB that were sent are near");
    for (client, command) in clients.iter().zip(&commands) {
        send(&mut store, *client, &command[100 << 10..]);
    }
    while store.turn() {}
    for (index, client) in clients.iter().enumerate() {
        assert_eq!(store.drain(*client), b"+OK\r\n");
        assert_eq!(store.ask(other, &format!("STRLEN k{index}")), format!(":{}\r\n", value.len()));
    }
    assert_eq!(store.farmem(other, "unplanned_faults"), 0);
    assert!(client_buffer_bytes(&mut store, other) < 6 * MB);
}

#[test]
fn of_many_clients_with_endless_small_arguments_the_largest_are_closed() {
    let mut store = Store::new(LOCAL, Prefetch::Ahead);
    let other = store.connect();
    let mut words = b"*200001\r\n$4\r\nMSET\r\n".to_vec();
    words.extend(b"$4\r\nword\r\n".repeat(90_000));
    let clients: Vec<ClientId> = (0..100).map(|_| store.connect()).collect();
    for client in &clients {
        send_until_closed(&mut store, *client, &words);
    }
    let closed = clients.iter().filter(|client| store.engine.should_close(**client)).count();
    assert!(closed > 50, "{closed} of 100 clients with 900 KB each are closed");
    assert!(client_buffer_bytes(&mut store, other) < 40 * MB);
    assert!(store.ask(other, "INFO stats").contains(&format!("evicted_clients:{closed}\r\n")));
    assert_eq!(store.ask(other, "PING"), "+PONG\r\n");
}

fn send_until_closed(store: &mut Store, client: ClientId, bytes: &[u8]) {
    for read in bytes.chunks(64 << 10) {
        if !store.engine.should_close(client) {
            store.engine.handle_input(client, read, store.now);
        }
    }
}
