//! Fuzz target: the link's half of the NBD protocol, against a node that says whatever the input says.
//!
//! The input is all that the node ever sends. The link comes to an error, or to a link on which everything that is
//! submitted lands, once. Refuses to judge what was read: a node that lies about pages is the checksum's business.

use super::Target;
use farmem::{Frame, FrameNo, Link, PAGE_SIZE, PageNo, Transfer, TransferKind};
use farmem_link::Door;
use farmem_link::nbd::{NbdLink, NbdUri};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixListener;
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// Pages that are asked for.
const PAGES: u32 = 4;
/// Deadline of a request. Units: nanoseconds.
const TIMEOUT_NS: u64 = 50_000_000;
/// Many times the deadline.
const LAND_MAX: Duration = Duration::from_secs(5);

/// A folder for the node's socket, and the frames of the link.
pub struct NbdClient {
    dir: TempDir,
    frames: Vec<Frame>,
}

impl NbdClient {
    /// Nobody is connected.
    ///
    /// # Panics
    /// If no directory can be made.
    #[expect(clippy::new_without_default, reason = "it makes a directory")]
    pub fn new() -> NbdClient {
        let frames = (0..2 * PAGES).map(|_| Frame([0; PAGE_SIZE])).collect();
        NbdClient { dir: tempfile::tempdir().expect("a directory can be made"), frames }
    }
}

impl Target for NbdClient {
    fn run(&mut self, input: &[u8]) -> u64 {
        let socket = self.dir.path().join("nbd");
        // There is none before the first input.
        let _ = std::fs::remove_file(&socket);
        let listener = UnixListener::bind(&socket).expect("a socket can be made");
        let uri = NbdUri { connections: 1, timeout_ns: TIMEOUT_NS, ..NbdUri::unix(socket, "") };
        std::thread::scope(|scope| {
            scope.spawn(move || {
                let (mut stream, _) = listener.accept().expect("the link connects");
                drop(listener);
                // The link may have hung up before it has heard all; it is heard to its end.
                let _ = stream.write_all(input).and_then(|()| stream.shutdown(Shutdown::Write));
                let _ = stream.read_to_end(&mut Vec::new());
            });
            match NbdLink::open(&uri) {
                Err(error) => hash(&(error.kind(), error.to_string().len())),
                Ok(link) => use_link(link, &mut self.frames),
            }
        })
    }

    fn inputs_max(&self) -> usize {
        usize::MAX
    }
}

/// Fetches and writes a few pages.
fn use_link(mut link: NbdLink, frames: &mut [Frame]) -> u64 {
    link.set_patient(false);
    let of = |kind, number| Transfer { kind, page: PageNo(number), count: 1, frame: FrameNo(number) };
    let fetches = (0..PAGES).map(|number| of(TransferKind::FetchNeeded, number));
    let writes = (PAGES..2 * PAGES).map(|number| of(TransferKind::WriteBack, number));
    let trim = Transfer { count: PAGES, ..of(TransferKind::Trim, 2 * PAGES) };
    let batch: Vec<Transfer> = fetches.chain(writes).chain([trim]).collect();
    let (mut landed, since) = (Vec::new(), Instant::now());
    link.submit(&batch, frames, farmem_link::monotonic_now());
    while link.in_flight() > 0 {
        assert!(since.elapsed() < LAND_MAX, "something never lands");
        link.wait_landed(frames, &mut landed);
    }
    landed.sort_by_key(|end| end.transfer.frame.0);
    let numbers = landed.iter().map(|end| end.transfer.frame.0);
    assert!(numbers.eq(0..2 * PAGES), "each lands once: {landed:?}");
    hash(&landed.iter().map(|end| end.result).collect::<Vec<_>>())
}

fn hash(what: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    what.hash(&mut hasher);
    hasher.finish()
}
