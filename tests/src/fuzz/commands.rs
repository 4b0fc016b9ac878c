//! Fuzz target: commands of several clients over a small, slow, disorderly far memory, against a model.
//!
//! ```text
//! input: policy, seed of the link, then one command after the other: client, command, keys, numbers, sizes
//! ```
//!
//! Each client has keys of its own and a model of its own, so the order of clients does not matter and the
//! order within one must not change. Refuses failing links: errors have their own tests.

use super::{Dice, Target, model::Model};
use crate::scripted_link::ScriptedLink;
use engine::{ClientId, Config, Engine, Now, Peer};
use farmem::{Frame, Instant, Landed, Link, PAGE_SIZE, Prefetch, SoftPager, Transfer};
use std::collections::VecDeque;
use std::hash::{DefaultHasher, Hash, Hasher};

/// Local memory: 96 frames are 384 KiB, so that a few large values do not fit together.
const FRAMES: u32 = 96;
/// Far memory: 64 MiB.
const FAR_PAGES: u32 = 16 * 1024;
const CLIENTS: usize = 3;
const KEYS: usize = 4;
/// Commands of one input; longer inputs are cut.
const COMMANDS_MAX: usize = 300;
/// Turns of the loop that any command must have its reply within.
const TURNS_MAX: usize = 20_000;
/// Slices of output taken at a time.
const SLICES: usize = 8;

const POLICIES: [Prefetch; 4] = [Prefetch::Ahead, Prefetch::Guided, Prefetch::Sequential, Prefetch::None];
const SIZES: &[usize] =
    &[0, 1, 3, 20, 44, 63, 200, 255, 256, 1000, 1024, 4000, 4080, 4095, 4096, 5000, 9000, 20_000];
const INDEXES: &[i64] = &[0, 1, 2, 5, 17, 60, -1, -2, -7, -50, 1000, -1000];
const OFFSETS: &[i64] = &[0, 1, 7, 100, 4095, 4096, 6000];

/// An engine a policy, kept from input to input; every input begins with nothing in it.
#[derive(Default)]
pub struct Commands {
    bodies: [Option<Body>; 4],
}

impl Commands {
    /// Engines are made when they are first needed.
    pub fn new() -> Commands {
        Commands::default()
    }
}

impl Target for Commands {
    fn run(&mut self, input: &[u8]) -> u64 {
        let mut dice = Dice::new(input);
        let policy = dice.below(POLICIES.len());
        let body = self.bodies[policy].get_or_insert_with(|| Body::new(POLICIES[policy]));
        body.link.script().seed = u64::from(dice.byte());
        let mut hasher = DefaultHasher::new();
        policy.hash(&mut hasher);
        let kinds = body.session(&mut dice);
        kinds.hash(&mut hasher);
        hasher.finish()
    }

    /// The frames of an engine are never freed: 384 KiB an engine, so a few thousand inputs each.
    fn inputs_max(&self) -> usize {
        2000
    }
}

/// A body in miniature: an engine, a link, a clock that only moves when nothing else does.
struct Body {
    engine: Engine,
    link: ScriptedLink,
    now: Now,
    batch: Vec<Transfer>,
    landed: Vec<Landed>,
}

/// One connected client: what it is owed, and what has come.
struct Client {
    id: ClientId,
    model: Model,
    expected: VecDeque<(String, Vec<u8>)>,
    heard: Vec<u8>,
}

impl Body {
    fn new(policy: Prefetch) -> Body {
        let frames: Vec<Frame> = (0..FRAMES).map(|_| Frame([0; PAGE_SIZE])).collect();
        let link = ScriptedLink::default();
        let pager = SoftPager::new(frames.leak(), FRAMES, FAR_PAGES, policy, Some(Box::new(link.clone())));
        let config = Config {
            local_memory: u64::from(FRAMES) * PAGE_SIZE as u64,
            prefetch: policy,
            ..Config::default()
        };
        let now = Now { monotonic: Instant(1), unix_ms: 1_700_000_000_000, unix_us_rest: 0 };
        let engine = Engine::new(config, Box::new(pager), FAR_PAGES, 7, now);
        Body { engine, link, now, batch: Vec::new(), landed: Vec::new() }
    }

    fn connect(&mut self) -> Client {
        let peer = Peer { loopback: true, ..Peer::default() };
        let id = self.engine.handle_connected(peer, self.now).expect("a loopback client is let in");
        Client { id, model: Model::default(), expected: VecDeque::new(), heard: Vec::new() }
    }

    /// Sends what `dice` says, and compares every reply. Answers which kinds of replies there were.
    fn session(&mut self, dice: &mut Dice<'_>) -> u64 {
        let mut clients: Vec<Client> = (0..CLIENTS).map(|_| self.connect()).collect();
        let mut kinds = 0;
        for _ in 0..COMMANDS_MAX {
            if dice.is_empty() {
                break;
            }
            let choice = dice.byte();
            let client = usize::from(choice) % CLIENTS;
            let words = command(dice, client);
            kinds |= self.send(&mut clients[client], &words);
            // Every other command waits for nobody: the next one overtakes it if it can.
            if choice & 0x80 == 0 {
                self.settle(&mut clients);
            }
        }
        self.settle(&mut clients);
        self.send(&mut clients[0], &[b"FLUSHALL".to_vec()]);
        self.settle(&mut clients);
        for client in clients {
            self.engine.handle_disconnected(client.id);
        }
        self.link.script().log.clear();
        kinds
    }

    /// Gives one command to the engine and to the client's model. Answers the kind of reply as one bit.
    fn send(&mut self, client: &mut Client, words: &[Vec<u8>]) -> u64 {
        let slices: Vec<&[u8]> = words.iter().map(Vec::as_slice).collect();
        let (reply, index) = match slices[0] {
            b"FLUSHALL" => {
                client.model = Model::default();
                (b"+OK\r\n".to_vec(), 0)
            }
            name => (
                client.model.run(&slices),
                name.iter().fold(0usize, |sum, byte| sum * 31 + usize::from(*byte)),
            ),
        };
        let shape = usize::from(reply[0]) + reply.len().min(40);
        client.expected.push_back((shown(words), reply));
        let mut request = format!("*{}\r\n", words.len()).into_bytes();
        for word in words {
            request.extend(format!("${}\r\n", word.len()).into_bytes());
            request.extend(word);
            request.extend(b"\r\n");
        }
        self.engine.handle_input(client.id, &request, self.now);
        1 << ((index * 7 + shape) % 64)
    }

    /// Turns the loop until nobody is owed anything.
    fn settle(&mut self, clients: &mut [Client]) {
        for _ in 0..TURNS_MAX {
            for client in clients.iter_mut() {
                self.hear(client);
            }
            if clients.iter().all(|client| client.expected.is_empty()) {
                return;
            }
            self.turn();
        }
        let owed: Vec<&str> =
            clients.iter().filter_map(|client| Some(client.expected.front()?.0.as_str())).collect();
        panic!("no reply after {TURNS_MAX} turns to: {owed:?}");
    }

    fn turn(&mut self) {
        self.now.monotonic.0 += 1_000_000;
        self.now.unix_ms += 1;
        while let Some(transfer) = self.engine.poll_transfer(self.now) {
            self.batch.push(transfer);
        }
        self.link.submit(&self.batch, self.engine.frames(), self.now.monotonic);
        self.batch.clear();
        self.link.poll_landed(self.engine.frames(), self.now.monotonic, &mut self.landed);
        for landed in self.landed.drain(..) {
            self.engine.handle_landed(landed, self.now);
        }
        while self.engine.poll_ready(self.now).is_some() {}
        self.engine.balance(self.now);
    }

    /// Takes the output that is there and holds it against what the client is owed.
    fn hear(&mut self, client: &mut Client) {
        loop {
            self.engine.handle_writable(client.id, self.now);
            let mut slices: [&[u8]; SLICES] = [&[]; SLICES];
            let count = self.engine.output(client.id, &mut slices);
            let before = client.heard.len();
            slices[..count].iter().for_each(|slice| client.heard.extend_from_slice(slice));
            let bytes = client.heard.len() - before;
            if bytes == 0 {
                break;
            }
            self.engine.handle_written(client.id, bytes, self.now);
        }
        assert!(!self.engine.should_close(client.id), "closed on {:?}", client.expected.front());
        while let Some((words, reply)) = client.expected.front() {
            let got = &client.heard[..client.heard.len().min(reply.len())];
            let differs = got.iter().zip(reply).position(|(got, due)| got != due);
            assert_eq!(differs, None, "{words}\n  due: {}\n  got: {}", brief(reply), brief(&client.heard));
            if got.len() < reply.len() {
                return;
            }
            client.heard.drain(..reply.len());
            client.expected.pop_front();
        }
        assert!(client.heard.is_empty(), "a reply that nobody asked for: {}", brief(&client.heard));
    }
}

/// One command on keys of this client.
fn command(dice: &mut Dice<'_>, client: usize) -> Vec<Vec<u8>> {
    let number = |dice: &mut Dice<'_>, of: &[i64]| dice.one_of(of).to_string().into_bytes();
    let name = NAMES[dice.below(NAMES.len())];
    let mut words = vec![name.as_bytes().to_vec(), key(dice, client)];
    match name {
        "SET" | "APPEND" => words.push(value(dice)),
        "SETRANGE" => words.extend([number(dice, OFFSETS), value(dice)]),
        "GETRANGE" | "LRANGE" | "LTRIM" => words.extend([number(dice, INDEXES), number(dice, INDEXES)]),
        "MGET" | "DEL" | "RENAME" => words.push(key(dice, client)),
        "COPY" => words.extend([key(dice, client), b"REPLACE".to_vec()]),
        "LPUSH" | "RPUSH" => (0..=dice.below(12)).for_each(|_| words.push(value(dice))),
        "LPOP" | "RPOP" if dice.byte() & 1 == 1 => words.push(dice.below(20).to_string().into_bytes()),
        "LINDEX" => words.push(number(dice, INDEXES)),
        "LSET" | "LREM" => words.extend([number(dice, INDEXES), value(dice)]),
        "LINSERT" => {
            words.extend([dice.one_of(&[&b"BEFORE"[..], b"AFTER"]).to_vec(), value(dice), value(dice)])
        }
        "LMOVE" => {
            let ends: [&[u8]; 2] = [b"LEFT", b"RIGHT"];
            words.extend([key(dice, client), dice.one_of(&ends).to_vec(), dice.one_of(&ends).to_vec()]);
        }
        _ => {}
    }
    words
}

/// Commands, the frequent ones several times.
const NAMES: &[&str] = &[
    "GET", "GET", "SET", "SET", "APPEND", "STRLEN", "SETRANGE", "GETRANGE", "INCR", "MGET", "GETDEL", "DEL",
    "EXISTS", "TYPE", "RENAME", "COPY", "LPUSH", "RPUSH", "LPUSH", "RPUSH", "LPOP", "RPOP", "LLEN", "LRANGE",
    "LRANGE", "LINDEX", "LSET", "LINSERT", "LREM", "LTRIM", "LMOVE",
];

fn key(dice: &mut Dice<'_>, client: usize) -> Vec<u8> {
    let which = dice.byte();
    let mut key = format!("{client}:{}", usize::from(which) % KEYS).into_bytes();
    if which & 0xF0 == 0xF0 {
        key.resize(5000, b'k');
    }
    key
}

fn value(dice: &mut Dice<'_>) -> Vec<u8> {
    let how = dice.byte();
    if how < 60 {
        return (i64::from(how) - 30).to_string().into_bytes();
    }
    vec![b'a' + how % 3; SIZES[usize::from(how) % SIZES.len()]]
}

fn shown(words: &[Vec<u8>]) -> String {
    words.iter().map(|word| brief(word)).collect::<Vec<_>>().join(" ")
}

fn brief(bytes: &[u8]) -> String {
    let start = bytes[..bytes.len().min(24)].escape_ascii();
    if bytes.len() > 24 { format!("{start}...({} bytes)", bytes.len()) } else { start.to_string() }
}
