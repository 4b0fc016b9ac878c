//! More is asked for at once than fits: fifty clients, each in need of seventeen pages, over frames for a third of them.
//!
//! Once every page that landed was the only frame to be had for the next page that was needed, so clients
//! lost their pages to each other before they had them all, and fetched half as many again, over and over. So
//! a wait's pages are asked for only when its whole set fits beside the sets that are under way, and what has
//! landed for one is not taken for another. Under a virtual clock, with landings in any order.

use engine::ClientId;
use farmem::Prefetch;
use tests::simulation::rng::Rng;
use tests::simulation::scenario::Scenario;
use tests::simulation::world::World;

const CLIENTS: usize = 50;
const KEYS: usize = 128;
const VALUE_BYTES: usize = 64 << 10;
/// Of a value, and the key's own.
const PAGES_A_GET: u64 = 17;
const GETS: u64 = 600;
/// A bit more than three hundred frames, after what is near. Units: bytes.
const LOCAL_MEMORY: u64 = 3 << 19;
/// Turns of 10 us each. The wire brings everything within 20 us, and a dozen clients have their pages on it at a time.
const TURNS_MAX: u64 = 2_000;

struct Crowd {
    world: World,
    /// Who asks, and how many bytes it is still owed.
    clients: Vec<(ClientId, usize)>,
}

fn value(key: usize) -> Vec<u8> {
    Rng::new(key as u64).bytes(VALUE_BYTES)
}

fn words(words: &[&[u8]]) -> Vec<Vec<u8>> {
    words.iter().map(|word| word.to_vec()).collect()
}

impl Crowd {
    /// A store whose values are all in far memory.
    fn new(local_memory: u64) -> Crowd {
        let calm = Scenario::new(1).calm();
        let mut world =
            World::new(&Scenario { policy: Prefetch::Ahead, latency_ns_max: 20_000, local_memory, ..calm });
        for key in 0..KEYS {
            let reply = world.ask(&words(&[b"SET", format!("key:{key}").as_bytes(), &value(key)]));
            assert_eq!(reply, b"+OK\r\n");
        }
        world.engine.handle_tick(world.now);
        world.chill();
        let clients = (0..CLIENTS).map(|_| (world.connect(), 0)).collect();
        Crowd { world, clients }
    }

    /// Reads what is there for a client; whether its reply is whole.
    fn read(&mut self, index: usize) -> bool {
        let (id, owed) = &mut self.clients[index];
        let engine = &mut self.world.engine;
        loop {
            engine.handle_writable(*id, self.world.now);
            let mut slices: [&[u8]; 64] = [&[]; 64];
            let count = engine.output(*id, &mut slices);
            let bytes: usize = slices[..count].iter().map(|slice| slice.len()).sum();
            if bytes == 0 {
                return *owed == 0;
            }
            *owed = owed.checked_sub(bytes).expect("no more than the value");
            engine.handle_written(*id, bytes, self.world.now);
        }
    }

    /// Everybody asks for one value after the other.
    fn get(&mut self, count: u64) {
        let mut rng = Rng::new(7);
        let (mut asked, mut answered, mut turns) = (0, 0, 0);
        let mut is_busy = [false; CLIENTS];
        while answered < count {
            for (index, is_busy) in is_busy.iter_mut().enumerate() {
                if *is_busy && self.read(index) {
                    *is_busy = false;
                    answered += 1;
                }
                if !*is_busy && asked < count {
                    let key = format!("key:{}", rng.below(KEYS));
                    let request = format!("*2\r\n$3\r\nGET\r\n${}\r\n{key}\r\n", key.len());
                    self.clients[index].1 = format!("${VALUE_BYTES}\r\n").len() + VALUE_BYTES + 2;
                    let id = self.clients[index].0;
                    self.world.engine.handle_input(id, request.as_bytes(), self.world.now);
                    (*is_busy, asked) = (true, asked + 1);
                }
            }
            self.world.turn();
            self.world.now.monotonic.0 += 10_000;
            turns += 1;
            assert!(turns < TURNS_MAX, "{answered} of {count} GETs answered after {turns} turns");
        }
    }
}

#[test]
fn who_needs_more_together_than_fits_is_served_one_after_the_other() {
    let mut crowd = Crowd::new(LOCAL_MEMORY);
    let before = crowd.world.stats();
    let rounds_before = crowd.world.info()["fetch_rounds"];
    // Fewer, and a reply would be streamed; more, and everybody would fit.
    let frames = before["frames_total"];
    assert!((256..CLIENTS as u64 * PAGES_A_GET / 2).contains(&frames), "{frames} frames");
    crowd.get(GETS);
    let after = crowd.world.stats();
    let grown = |name: &str| after[name] - before[name];
    // Each page of a value is fetched at most once for each who asks for it: nobody lost what it waited for.
    assert!(grown("pages_fetched") <= GETS * PAGES_A_GET, "{} pages fetched", grown("pages_fetched"));
    assert_eq!(grown("unplanned_faults"), 0);
    let rounds = crowd.world.info()["fetch_rounds"] - rounds_before;
    assert!(rounds <= GETS + GETS / 20, "{rounds} waits for {GETS} GETs");
    for key in [0, 77, KEYS - 1] {
        let reply = crowd.world.ask(&words(&[b"GET", format!("key:{key}").as_bytes()]));
        assert!(reply[8..].starts_with(&value(key)), "key {key}");
    }
}

#[test]
fn a_client_that_goes_while_it_waits_for_room_takes_its_place_along() {
    let mut crowd = Crowd::new(LOCAL_MEMORY);
    let now = crowd.world.now;
    for (index, (id, _)) in crowd.clients.iter().enumerate() {
        let request = format!("GET key:{index}\r\n");
        crowd.world.engine.handle_input(*id, request.as_bytes(), now);
    }
    crowd.world.turn();
    // The first have pages on their way, the others none yet.
    for (id, _) in crowd.clients.drain(..CLIENTS - 1) {
        crowd.world.engine.handle_disconnected(id);
    }
    crowd.clients[0].1 = 8 + VALUE_BYTES + 2;
    for _ in 0..TURNS_MAX {
        crowd.world.turn();
        crowd.world.now.monotonic.0 += 10_000;
        if crowd.read(0) {
            return;
        }
    }
    panic!("the one that stayed was never served");
}
