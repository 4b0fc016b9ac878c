//! Fuzz target: the memory node's half of the NBD protocol, over a socket.
//!
//! The first byte says whether the negotiation is done properly first, so that the rest are requests. Whatever comes, the
//! connection ends, its thread with it, and the next client is served as the first one was. Refuses to judge answers:
//! the node's own tests do.

use super::Target;
use farmem_link::nbd::proto::{ExportRequest, Generation, Opt, OptionHeader, OptionReply};
use memnode::{Endpoint, Export, Exports, Memory, Node};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tempfile::TempDir;
use zerocopy::{FromBytes, IntoBytes};

/// Small, so that an input full of READs is answered with some 20 MB at most.
const MEMORY_BYTES: u64 = 64 << 10;
/// Client flags: fixed newstyle, no zeroes.
const FLAGS: [u8; 4] = [0, 0, 0, 3];
/// How long the thread of a client that is gone may live.
const LEAVE_MAX: Duration = Duration::from_secs(5);

/// A node in this process.
pub struct NbdServer {
    node: Arc<Node>,
    socket: PathBuf,
    _dir: TempDir,
}

impl NbdServer {
    /// A node that nobody knows.
    ///
    /// # Panics
    /// If the system has no memory or no socket for it.
    #[expect(clippy::new_without_default, reason = "it starts threads")]
    pub fn new() -> NbdServer {
        let dir = tempfile::tempdir().expect("a directory can be made");
        let socket = dir.path().join("nbd");
        let memory = Memory::ram(MEMORY_BYTES).expect("64 KiB are there");
        let node = Node::new(Exports::new(vec![Export::new("", memory, Generation(1))]), None);
        node.listen(&Endpoint::Unix(socket.clone())).expect("a socket can be made");
        NbdServer { node, socket, _dir: dir }
    }

    /// What the node says to all this, until it or we hang up.
    fn answer(&self, words: &[u8]) -> Vec<u8> {
        let mut stream = UnixStream::connect(&self.socket).expect("the node listens");
        // An input fits into the socket. The node may have hung up before it has heard all.
        let _ = stream.write_all(words).and_then(|()| stream.shutdown(Shutdown::Write));
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        answer
    }

    fn assert_all_have_left(&self) {
        let since = Instant::now();
        while self.node.connections() > 0 {
            assert!(
                since.elapsed() < LEAVE_MAX,
                "the thread of a client that is gone has panicked, or waits"
            );
            std::thread::yield_now();
        }
    }
}

/// Client flags, and GO.
fn beginning() -> Vec<u8> {
    let mut data = Vec::new();
    ExportRequest { name: "", wanted: &[] }.encode(&mut data);
    [&FLAGS, OptionHeader::new(Opt::GO, data.len() as u32).as_bytes(), &data].concat()
}

impl Target for NbdServer {
    fn run(&mut self, input: &[u8]) -> u64 {
        let Some((&how, rest)) = input.split_first() else { return 0 };
        let begin = if how & 1 == 1 { beginning() } else { FLAGS.to_vec() };
        let answer = self.answer(&[&begin, rest].concat());
        self.assert_all_have_left();
        let good = self.answer(&beginning());
        let is_served = |answer: &[u8]| answer.starts_with(b"NBDMAGICIHAVEOPT") && answer.len() > 64;
        assert!(is_served(&good), "the next client is not served: {good:?}");
        self.assert_all_have_left();
        signature(how, &answer)
    }

    fn inputs_max(&self) -> usize {
        1000
    }
}

/// Which options were answered how, and what became of the first requests.
fn signature(how: u8, answer: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    (how & 1, answer.len().checked_ilog2()).hash(&mut hasher);
    let mut rest = answer.get(18..).unwrap_or(&[]);
    for _ in 0..6 {
        let Ok((reply, behind)) = OptionReply::read_from_prefix(rest) else { break };
        let len = reply.len.get() as usize;
        (reply.option, reply.reply, len.min(64)).hash(&mut hasher);
        rest = behind.get(len..).unwrap_or(&[]);
    }
    hasher.finish()
}
